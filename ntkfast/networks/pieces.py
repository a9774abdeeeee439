"""What jumps at the kinks of φ, as truncated powers (x - t)₊^r: the part of φ whose dual has a closed form.

If φ is a polynomial between its kinks, it is a polynomial and such powers. If not, powers times a Gaussian window, with
the jumps of φ and of its derivatives up to order 6, leave a remainder so smooth that tables near |ρ| = 1 serve.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.typing import ArrayLike

from ntkfast.networks.activation import Activation
from ntkfast.networks.quadrature import DEGREE, RESOLVED, Array, Function, Probe, chebyshev_matrix, chebyshev_points
from ntkfast.support.errors import ActivationError

ORDER = 6  # derivatives of φ up to this one are matched
LARGEST_DEGREE = 4  # of a polynomial between kinks
FAR = 1000.0  # a polynomial is one to this distance from the outermost kinks


@dataclass(frozen=True)
class Powers:
    """p(x) = Σ_m Σ_r value[m, r] (x - at[m])₊^r exp(-(x - at[m])²/(2 width²)).

    Attributes
    ----------
    at : ndarray, shape (n,)
        Increasing, but for a first -inf in its place: a polynomial in x on the whole line.
    value, slope : ndarray, shape (n, order + 1)
        Coefficients of p, and of p' without the deltas at jumps.
    width : float
        inf: no window.
    exact : bool
        Whether p is φ itself.
    """

    at: Array
    value: Array
    slope: Array
    width: float
    exact: bool

    def function(self, x: ArrayLike) -> Array:
        return self._sum(self.value, np.asarray(x, dtype=float))

    def derivative(self, x: ArrayLike) -> Array:
        return self._sum(self.slope, np.asarray(x, dtype=float))

    def _sum(self, coefficients, x):
        total = np.zeros_like(x)
        for t, row in zip(self.at, coefficients, strict=True):
            y = x if np.isneginf(t) else x - t
            term = np.polynomial.polynomial.polyval(y, row) * np.exp(-0.5 * (y / self.width) ** 2)
            total += term if np.isneginf(t) else np.where(y > 0, term, np.where(y < 0, 0.0, term / 2))
        return total


def polynomial_pieces(evaluate: Function, kinks: Sequence[float]) -> Powers | None:
    """φ as polynomial and truncated powers; None if it is not a polynomial of low degree between its kinks."""
    try:
        pieces = list(_fitted(evaluate, kinks))
    except ActivationError:  # φ leaves float64 far from its kinks
        return None
    if any(piece is None for piece in pieces):
        return None
    at, rows = [-math.inf], [_rounded(_taylor(pieces[0][0], 0.0), pieces[0][1])]
    for t, ((left, before), (right, after)) in zip(kinks, itertools.pairwise(pieces), strict=True):
        jump = _rounded(_taylor(right, t) - _taylor(left, t), np.maximum(before, after))
        if jump[1] and abs(jump[0]) < 1e-7 * (1 + abs(t)) * abs(jump[1]):  # they meet a rounding away
            jump, t = np.append(0.0, jump[1:]), t - jump[0] / jump[1]
        at.append(t)
        rows.append(jump)
    value = np.array(rows)
    slope = np.hstack([value[:, 1:] * np.arange(1, LARGEST_DEGREE + 1), np.zeros((len(at), 1))])
    used = max(1, 1 + int(np.flatnonzero(value.any(axis=0)).max(initial=0)))
    return Powers(np.array(at), value[:, :used].copy(), slope[:, :used].copy(), math.inf, True)


def _fitted(evaluate: Function, kinks: Sequence[float]) -> Iterator[tuple[Polynomial, Array] | None]:
    """On each piece the polynomial, and what its Taylor coefficients may be off by; None where there is none."""
    ends = [kinks[0] - 4.0, *kinks, kinks[-1] + 4.0]
    for number, (low, high) in enumerate(itertools.pairwise(ends)):
        x = (low + high) / 2 + (high - low) / 2 * chebyshev_points(DEGREE + 1)
        values = evaluate(x)
        size = max(float(np.abs(values).max()), 1e-300)
        coefficients = chebyshev_matrix(DEGREE + 1) @ values
        rounding = 1e-15 * (size + np.ptp(values) * max(abs(low), abs(high)) / (high - low))
        degree = int(np.flatnonzero(np.abs(coefficients) > 8 * rounding).max(initial=0))
        if degree > LARGEST_DEGREE:
            yield None
            return
        piece = chebyshev.Chebyshev(coefficients[: degree + 1], domain=(low, high)).convert(kind=Polynomial)
        side = {0: -1, len(kinks): 1}.get(number)
        if side:
            far = (low if side < 0 else high) + side * FAR * np.array([0.01, 0.1, 1.0])
            if (np.abs(piece(far) - evaluate(far)) > 1e-11 * (size + np.abs(far) ** degree * size)).any():
                yield None
                return
        powers = np.arange(LARGEST_DEGREE + 1)
        yield piece, rounding * (2 * max(degree, 1) ** 2 / (high - low)) ** powers


def _taylor(piece: Polynomial, t: float) -> Array:
    """The coefficients of its powers of x - t."""
    rows = [piece.deriv(r)(t) / math.factorial(r) if r else piece(t) for r in range(LARGEST_DEGREE + 1)]
    return np.array(rows, dtype=float)


def _rounded(values: Array, rounding: Array) -> Array:
    """The numbers with the fewest decimals that are as good."""
    return np.array([simplest(v - r, v + r) for v, r in zip(values, 4 * rounding, strict=True)])


def simplest(low: float, high: float) -> float:
    """The number with the fewest decimals in [low, high]: most kinks and slopes are such numbers."""
    for digits in range(16):
        value = round((low + high) / 2, digits)
        if low <= value <= high:
            return value + 0.0
    return (low + high) / 2


def windowed(evaluate: Function, kinks: Sequence[float]) -> Powers:
    """Truncated powers under a window, with the jumps of φ and its derivatives."""
    probe = Probe(evaluate)
    jumps = np.array([_derivatives(probe, kinks, t, 1) - _derivatives(probe, kinks, t, -1) for t in kinks])
    sizes = np.array([np.abs(evaluate(t + np.linspace(-0.5, 0.5, 16))).max() for t in kinks])
    jumps[np.abs(jumps[:, 0]) < 1e-9 * (sizes + np.abs(jumps[:, 1])), 0] = 0
    jumps /= [math.factorial(r) for r in range(ORDER + 1)]
    width = _width(jumps)
    grown = np.zeros(ORDER + 1)  # exp(y²/2 width²)
    grown[::2] = [1 / ((2 * width * width) ** m * math.factorial(m)) for m in range(ORDER // 2 + 1)]
    value = np.zeros((len(kinks), ORDER + 2))
    for row, jump in zip(value, jumps, strict=True):
        row[: ORDER + 1] = np.convolve(jump, grown)[: ORDER + 1]
    powers = np.arange(ORDER + 2)
    slope = np.hstack([(value * powers)[:, 1:], np.zeros((len(kinks), 1))])
    slope[:, 1:] -= value[:, :-1] / width**2
    return Powers(np.array(kinks, dtype=float), value, slope, width, False)


def _width(jumps: Array) -> float:
    """Of the window: at most 1, and where the last powers do not yet exceed the first ones."""
    sizes = np.abs(jumps).max(axis=0)
    first = sizes[:3].max()
    bounds = [(first / sizes[r]) ** (1 / (r - 2)) for r in range(3, ORDER + 1) if sizes[r] > 0 and first > 0]
    return min([1.0, *bounds])


def _derivatives(probe: Probe, kinks: Sequence[float], t: float, side: int) -> Array:
    """φ and its derivatives at t from one side, up to ORDER, from the longest interval on which a polynomial fits."""
    gap = min((side * (other - t) for other in kinks if side * (other - t) > 0), default=4.0)
    width = min(gap, 4.0)
    while True:
        low, high = sorted((t, t + side * width))
        if probe.unresolved(low, high) <= RESOLVED or width < 1e-6 * gap:
            break
        width /= 2
    values = probe.evaluate((low + high) / 2 + width / 2 * chebyshev_points(DEGREE + 1))
    coefficients = chebyshev_matrix(DEGREE + 1) @ values
    kept = np.flatnonzero(np.abs(coefficients) > 1e-15 * np.abs(values).max())
    fit = chebyshev.Chebyshev(coefficients[: kept.max(initial=0) + 1], domain=(low, high))
    return np.array([fit.deriv(r)(t) if r else fit(t) for r in range(ORDER + 1)])


def of(activation: Activation) -> Powers | None:
    """Of an activation without a closed form: None if it has no kinks, or one at 0 that polynomials do not surround,
    for which there are tables.
    """
    if not activation.kinks:
        return None
    exact = polynomial_pieces(activation.function, activation.kinks)
    if exact is None and any(activation.kinks):
        return windowed(activation.function, activation.kinks)
    return exact
