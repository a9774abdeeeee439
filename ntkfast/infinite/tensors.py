"""What moves the tangent kernel in training: tensors of four indices over the data, to order 1/n (docs/beyond.md).

    E[∂_pq z_i(0) ∂_p z_j(1) ∂_q z_k(2) z_m(3)]       = δ_im δ_jk P + δ_ij δ_km Q + δ_ik δ_jm Q with 1 and 2 exchanged
    E[∂_pqr z_i(0) ∂_p z_j(1) ∂_q z_k(2) ∂_r z_m(3)]   = δ_ij δ_km R_0123 + δ_ik δ_jm R_0231 + δ_im δ_jk R_0312
    E[∂_pq z_i(0) ∂_pr z_j(1) ∂_q z_k(2) ∂_r z_m(3)]   = δ_ij δ_km S + δ_ik δ_jm T + δ_im δ_jk U

with sums over the parameters p, q, r. They are linear in moments of four Gaussians, which scrambled Sobol points
integrate; everything else comes from Hermite series.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from ntkfast.engine.problem import Problem
from ntkfast.engine.series_statistics import PointSeries, check_terms
from ntkfast.networks import Activation, activations, quadrature
from ntkfast.support import arrays
from ntkfast.support.typing import Array

__all__ = ["Layer", "Tensors", "layers", "tensors"]

BLOCK = 2**10  # Sobol points at a time
NEGLIGIBLE = 1e-14  # eigenvalues of K relative to the largest

PAIRS = [(0, 0), (1, 1), (0, 2), (2, 0), (3, 1), (2, 2)]  # orders of derivatives in moments of two Gaussians
SOURCES = ("0101", "1111", "2110", "3111", "2211")  # and of four


@dataclass(frozen=True)
class Layer:
    """An activation and the affine layer after it, in the limit.

    Attributes
    ----------
    numbers : tuple
        a, b, c and d of docs/beyond.md.
    K, H : ndarray, shape (N, N)
        The two kernels of the preactivations.
    pairs : dict
        E[φ^(r)(u) φ^(s)(v)] by (r, s), shape (N, N).
    derivatives : list of callable
        φ, φ', φ'' and φ'''.
    """

    numbers: tuple[float, float, float, float]
    K: Array
    H: Array
    pairs: dict[tuple[int, int], Array]
    derivatives: list[Callable[[Array], Array]]


@dataclass(frozen=True)
class Tensors:
    """The tensors of the preactivations of a layer, each (N, N, N, N); F and B as for `finite_width`."""

    F: Array
    B: Array
    P: Array
    Q: Array
    R: Array
    S: Array
    T: Array
    U: Array


def layers(problem: Problem) -> list[Layer]:
    """Every hidden layer of a problem whose activations are smooth."""
    from ntkfast.networks.pair_series import pair_series  # numba

    points, (first, *rest) = problem.points[0], problem.code.lines
    a, b, c, d = map(float, first.numbers)
    products = points.x @ points.x.T
    K, H = a * products + b, c * products + d
    found = []
    for line in rest:
        activation = line.activation or activations.identity()
        at = PointSeries(activation, K.diagonal().copy(), points.name)
        check_terms(activation, at, 1.0)
        rho = np.clip(K / np.sqrt(np.outer(at.q, at.q)), -1, 1)
        np.fill_diagonal(rho, 1.0)
        pairs = dict(zip(PAIRS, pair_series(at.coef, at.coef, np.array(PAIRS), rho), strict=True))
        a, b, c, d = map(float, line.numbers)
        found.append(Layer((a, b, c, d), K, H, pairs, _derivatives(activation)))
        K, H = a * pairs[0, 0] + b, a * pairs[1, 1] * H + c * pairs[0, 0] + d
    return found


def _derivatives(activation: Activation) -> list[Callable[[Array], Array]]:
    mesh = quadrature.Mesh(activation.derivative)
    higher = [quadrature.InterpolatedDerivative(mesh, order) for order in (1, 2)]
    return [activation.function, activation.derivative, *higher]


def tensors(
    layers: Sequence[Layer], inverse_widths: Sequence[float], n_samples: int, rng: np.random.Generator
) -> Tensors:
    """The tensors of the outputs of networks with these 1/n_l.

    Parameters
    ----------
    layers : sequence of Layer
    inverse_widths : sequence of float
    n_samples : int
        Sobol points of each layer, a power of 2.
    rng : numpy.random.Generator
        Scrambles them; the result is a random variable whose mean is exact.

    Returns
    -------
    Tensors
    """
    zero = np.zeros(4 * [len(layers[0].K)])
    found = Tensors(*(8 * [zero]))
    for layer, inverse_width in zip(layers, inverse_widths, strict=True):
        found = _next(layer, _sources(layer, inverse_width, n_samples, rng), found)
    return found


def _sources(layer: Layer, inverse_width: float, n: int, rng: np.random.Generator) -> dict[str, Array]:
    """E[φ^(r)(u_0) φ^(s)(u_1) φ^(t)(u_2) φ^(v)(u_3)]/n_l by the orders r, s, t, v, from n scrambled Sobol points."""
    values, vectors = scipy.linalg.eigh(layer.K)
    arrays.fix_signs(vectors)  # or the points would be those of a machine
    kept = values > NEGLIGIBLE * values[-1]
    root = (vectors[:, kept] * np.sqrt(values[kept]))[:, ::-1]  # the first dimensions are integrated best
    sobol = scipy.stats.qmc.Sobol(root.shape[1], rng=rng)
    sums: dict[str, Array] = dict.fromkeys(SOURCES, np.zeros(2 * [len(root) ** 2]))
    for part in arrays.blocks(n, BLOCK):
        uniform = np.clip(sobol.random(part.stop - part.start), 2.0**-54, 1 - 2.0**-53)
        f = [derivative(scipy.special.ndtri(uniform) @ root.T) for derivative in layer.derivatives]
        products = {
            orders: (f[int(orders[0])][:, :, None] * f[int(orders[1])][:, None, :]).reshape(len(uniform), -1)
            for orders in ("01", "10", "11", "21", "22", "31")
        }
        for orders in SOURCES:
            sums[orders] = sums[orders] + products[orders[:2]].T @ products[orders[2:]]
    return {orders: total.reshape(4 * [len(root)]) * (inverse_width / n) for orders, total in sums.items()}


def _next(layer: Layer, source: dict[str, Array], old: Tensors) -> Tensors:
    """The tensors of the next layer: the recursions of docs/beyond.md."""
    (a, _, c, _), pairs = layer.numbers, layer.pairs
    rate = c / a
    index = np.ogrid[tuple(4 * [slice(len(layer.K))])]

    def at(array: Array, order: str) -> Array:
        """The array whose entry 0123 is the given one's entry of that order, which may repeat indices."""
        return np.asarray(array[tuple(index[int(k)] for k in order)])

    def pi(order: str) -> Array:
        return at(pairs[1, 1], order)

    def H(order: str) -> Array:
        return at(layer.H, order)

    def rates(r: int, s: int, pair: str) -> list[tuple[Array, str]]:
        """E[∂_g(φ^(r)(u) φ^(s)(v))] for g the first and the second of the pair, with g."""
        return [(at(pairs[r + 1, s], pair), pair[0]), (at(pairs[r, s + 1], pair), pair[1])]

    def through_F(left: list[tuple[Array, str]], b: str, right: list[tuple[Array, str]], d: str) -> Array:
        terms = [x * y * at(old.F, g + b + h + d) for x, g in left for y, h in right]
        return np.sum(terms, axis=0)

    def through(tensor: Array, first: str, right: list[tuple[Array, str]]) -> Array:
        return np.sum([y * at(tensor, first + g) for y, g in right], axis=0)

    F = source["0101"] * H("13") + through_F(rates(0, 1, "01"), "1", rates(0, 1, "23"), "3")
    B = source["1111"] * H("02") * H("13") + pi("01") * pi("23") * old.B
    corner = source["2110"] * H("01") * H("02")
    P = corner + pi("12") * (at(pairs[2, 0], "03") * at(old.B, "0012") + through(old.P, "012", rates(1, 0, "03")))
    inner = corner + H("01") * through_F(rates(2, 1, "01"), "0", rates(1, 0, "23"), "2")
    inner = inner + pi("01") * through(old.Q, "012", rates(1, 0, "23"))
    R = source["3111"] * H("01") * H("02") * H("03") + pi("01") * pi("23") * old.R
    R = R + H("01") * pi("23") * (at(pairs[3, 1], "01") * at(old.B, "0023") + through(old.P, "023", rates(2, 1, "01")))
    chain = source["2211"] * H("01") * H("02") * H("13")
    S = chain + pi("23") * (H("01") * at(pairs[2, 2], "01") * old.B + pi("01") * old.S)
    T = chain + H("02") * H("13") * through_F(rates(2, 1, "02"), "0", rates(2, 1, "13"), "1")
    T = T + H("02") * pi("13") * through(old.Q, "130", rates(2, 1, "02"))
    T = T + H("13") * pi("02") * through(old.Q, "021", rates(2, 1, "13")) + pi("02") * pi("13") * old.T
    U = chain + pi("03") * pi("12") * old.U
    # what the layer's own weights contribute
    R = R + rate * at(P, "0231")
    S = S + rate * B
    T = T + rate * (at(inner, "1302") + at(inner, "0213")) + rate**2 * at(F, "2031")
    Q = inner + rate * at(F, "1032")
    return Tensors(*(a * a * tensor for tensor in (F, B, P, Q, R, S, T, U)))
