"""How the tangent kernel changes in training, to order 1/n (docs/beyond.md)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ntkfast.engine.problem import Problem
from ntkfast.infinite.corrections import hidden_widths
from ntkfast.infinite.tensors import Tensors, layers, tensors
from ntkfast.networks import Activation, Network
from ntkfast.networks.network import check_network
from ntkfast.support import losses
from ntkfast.support.errors import ActivationError
from ntkfast.support.progress import reporter
from ntkfast.support.reprs import short
from ntkfast.support.scalars import generator, non_negative_integer, positive_number
from ntkfast.support.typing import Array, Progress, Seed

__all__ = ["KernelChange", "kernel_change"]

MOST_POINTS = 30
SCRAMBLINGS = 8  # from whose scatter the error follows
SAMPLES = 2**12  # Sobol points of each
SINGULAR = 1e-10  # smallest eigenvalue of Θ relative to the largest


@dataclass(frozen=True)
class KernelChange:
    """What `kernel_change` returns.

    Attributes
    ----------
    mean : ndarray, shape (N, N)
        E[Θ̂_T - Θ̂_0], where T is the end of training.
    error : ndarray, shape (N, N)
        Standard error of the numerical integration.
    ntk : ndarray, shape (N, N)
        The limit kernel Θ.
    inflation : float
        tr E[Θ̂_T - Θ̂_0] / tr Θ.
    inflation_error : float
        Its standard error.

    See Also
    --------
    kernel_change : Makes it.

    Examples
    --------
    >>> import dataclasses
    >>> import ntkfast as nf
    >>> [field.name for field in dataclasses.fields(nf.KernelChange)][:3]
    ['mean', 'error', 'ntk']
    """

    mean: Array
    error: Array
    ntk: Array
    inflation: float
    inflation_error: float

    __repr__ = short


def kernel_change(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    steps: float = 1000,
    learning_rate: float = 1.0,
    rng: Seed = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> KernelChange:
    """How training on least squares changes the tangent kernel of random networks, in the mean and to order 1/n.

    The networks are those of `FiniteNetwork.init(net, n_inputs, widths)`, trained as by `train(f, X, y, steps=steps,
    learning_rate=learning_rate)`. With residuals ε = f - y, which to leading order decay by 1 - ηΘ/N in a step,

        E[Θ̂_T - Θ̂_0]_ij = - E[∇Θ̂_ij·∇f_k a_k] + ½ E[∇²Θ̂_ij(∇f_k, ∇f_l)] E[a_k a_l]
                           + E[∇Θ̂_ij·∇²f_k·∇f_l] E[Σ_s (η/N) ε_k(s) a_l(s)],    a(s) = (η/N) Σ_{s' < s} ε(s'),

    whose expectations over the initialisation are of order 1/n and follow from recursions over the layers (Roberts,
    Yaida and Hanin 2022, chapter 11; docs/beyond.md).

    Parameters
    ----------
    net : Network
        A chain of `Dense`, smooth activations (erf, gelu, tanh, softplus, …) and `Scale`.
    X : array_like, shape (N, d)
        At most 30 points, as the recursions have N⁴ entries.
    y : array_like, shape (N,) or (N, 1)
        Targets of the only output.
    width, widths
        As in `finite_width`.
    steps : int or inf
        Of gradient descent; inf: until the residuals vanish.
    learning_rate : float
        η; a small one gives gradient flow up to the time steps × learning_rate.
    rng : None, int or numpy.random.Generator
        Scrambles the Sobol points of moments of four Gaussians.
    n_threads, progress
        As in `ntk`.

    Returns
    -------
    KernelChange
        The mean change, its numerical error, and what it is relative to the limit.

    Raises
    ------
    ActivationError
        An activation has a kink. Where φ' jumps, E[φ''(u)²] diverges, and Θ̂ changes by more than order 1/n (for ReLU,
        1/√n).
    ValueError
        There are more than 30 points, the network is not such a chain, a width is less than 2, the limit kernel is
        singular on X, or the learning rate is too large for it.
    PrecisionError
        As in `finite_width`.
    TypeError
        An argument is not as described.

    Warns
    -----
    RuntimeWarning
        The trace changes by more than itself: at this width the first order in 1/n says nothing.

    See Also
    --------
    finite_width : Mean and scatter at initialisation.
    train : One network, whose kernel a `Record` follows.
    ntkfast.experiments : Figure 1 of the paper, where the kernel inflates.

    Notes
    -----
    Takes a second for 5 points and some minutes for 30, with three hidden layers. Where Θ has small eigenvalues,
    fitting y takes large changes of the parameters, and n times the inflation can be far larger than 1.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=3, activation="erf", bias_std=0.1)
    >>> X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), [1.0, -1.0]
    >>> change = nf.kernel_change(net, X, y, width=200, steps=40, rng=0)
    >>> networks = [nf.FiniteNetwork.init(net, 2, 200, rng=seed) for seed in range(30)]
    >>> trained = [nf.train(f, X, y, steps=40).network for f in networks]
    >>> measured = [
    ...     np.trace(nf.empirical_ntk(after, X) - nf.empirical_ntk(before, X)) / np.trace(change.ntk)
    ...     for before, after in zip(networks, trained)
    ... ]
    >>> bool(abs(np.mean(measured) - change.inflation) < 4 * np.std(measured) / 30**0.5)
    True
    """
    _check(check_network(net))
    inverse = [1 / n for n in hidden_widths(net, width, widths)]
    steps = steps if steps == math.inf else non_negative_integer(steps, "steps")
    rate, rng = positive_number(learning_rate, "learning_rate"), generator(rng)
    problem = Problem(net, X, dtype=np.float64, n_threads=n_threads)
    count = problem.shape[0]
    if count > MOST_POINTS:
        raise ValueError(
            f"X: expected at most {MOST_POINTS} points, as the recursions have N⁴ entries for N points, got {count}"
        )
    nngp, ntk = problem.matrices(("nngp", "ntk"), show=False)
    with np.errstate(over="ignore", invalid="ignore"):
        y = _targets(y, count)
        flow = _Descent(ntk, nngp, y, rate, steps)
    if not np.isfinite(flow.square).all():
        raise ValueError(f"y: expected targets whose squares fit into float64, got a largest of {abs(y).max():.3g}")
    chain, found = layers(problem), []
    with reporter(progress, "kernel change") as report:
        for k in range(SCRAMBLINGS if chain else 0):
            found.append(flow.change(tensors(chain, inverse, SAMPLES, rng)))
            if report is not None:
                report(k + 1, SCRAMBLINGS)
    samples = np.array(found) if found else np.zeros((2, count, count))
    mean, error = samples.mean(axis=0), samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    inflations = np.trace(samples, axis1=1, axis2=2) / np.trace(ntk)
    inflation, spread = float(inflations.mean()), float(inflations.std(ddof=1) / math.sqrt(len(samples)))
    if abs(inflation) > 1:
        warnings.warn(
            f"the trace of the tangent kernel changes by {inflation:.2g} times itself: at this width the first order "
            "in 1/n says nothing",
            RuntimeWarning,
            stacklevel=2,
        )
    return KernelChange(mean, error, ntk, inflation, spread)


def _check(net: Network) -> None:
    for layer in net.layers:
        if isinstance(layer, Activation) and layer.kinks:
            raise ActivationError(
                f"net: expected smooth activations, got {layer!r}, which has a kink: where φ' jumps, E[φ''(u)²] "
                "diverges, and training changes the kernel by more than order 1/n"
            )


def _targets(y: ArrayLike, count: int) -> Array:
    """Targets of the only output, (N,)."""
    _, d = losses.get("mse", y, (count, 1), np.dtype(np.float64))(np.zeros((count, 1)))
    return -d[:, 0]


class _Descent:
    """Gradient descent of the limit kernel on least squares: the moments of residuals that the change needs."""

    def __init__(self, ntk: Array, nngp: Array, y: Array, learning_rate: float, steps: float) -> None:
        values, vectors = scipy.linalg.eigh(ntk)
        if values[0] <= SINGULAR * values[-1]:
            raise ValueError(
                f"X: expected points whose limit kernel is positive definite, got a smallest eigenvalue of "
                f"{values[0]:.2g} and a largest of {values[-1]:.2g}; are points repeated?"
            )
        decay = 1 - learning_rate * values / len(y)  # of a component in a step
        if decay[-1] <= -1:
            raise ValueError(
                f"learning_rate: expected less than 2N/λ_max of the limit kernel, {2 * len(y) / values[-1]:.3g}, got "
                f"{learning_rate:g}"
            )
        start = vectors.T @ (nngp + np.outer(y, y)) @ vectors  # E[ε ε] at the beginning
        once = (1 - _power(decay, steps)) / values
        both = values[:, None] + values - learning_rate / len(y) * np.outer(values, values)
        crossed = (once[:, None] - (1 - _power(np.outer(decay, decay), steps)) / both) / values
        self.linear = (vectors * once) @ vectors.T  # a = linear ε
        self.square = vectors @ (start * np.outer(once, once)) @ vectors.T  # E[a_k a_l]
        self.crossed = vectors @ (start * crossed) @ vectors.T  # E[Σ_s (η/N) ε_k(s) a_l(s)]

    def change(self, t: Tensors) -> Array:
        """E[Θ̂_T - Θ̂_0], (N, N)."""
        third = t.P + t.Q + t.Q.transpose(0, 2, 1, 3)  # of ∂²f_0 ∂f_1 ∂f_2 with f_3
        fourth = t.R + t.R.transpose(0, 3, 1, 2) + t.R.transpose(0, 2, 3, 1)
        twice = t.S + t.T + t.U
        result = -np.einsum("ijkl,kl->ij", third, self.linear)
        result += np.einsum("ijkl,kl->ij", 0.5 * fourth + 0.5 * twice, self.square)
        result += np.einsum("ikjl,kl->ij", twice, self.crossed)
        return np.asarray(result + result.T)


def _power(base: Array, steps: float) -> Array:
    return np.zeros_like(base) if steps == math.inf else base ** float(min(steps, 2**1000))  # a float holds that
