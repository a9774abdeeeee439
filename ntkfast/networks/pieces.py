"""What jumps at the kinks of φ, as truncated powers (x - t)₊^r: the part of φ whose dual has a closed form.

If φ is a polynomial between its kinks, it is a polynomial and such powers. If not, powers times a Gaussian window, with
the jumps of φ and of its derivatives up to order 8, leave a remainder so smooth that tables near |ρ| = 1 serve.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.typing import ArrayLike

from ntkfast.networks.activation import Activation
from ntkfast.networks.quadrature import DEGREE, RESOLVED, Array, Function, Probe, chebyshev_matrix, chebyshev_points
from ntkfast.support.errors import ActivationError

ORDER = 8  # derivatives of φ up to this one are matched
LARGEST_DEGREE = 4  # of a polynomial between kinks
FAR = 1000.0  # a polynomial is one to this distance from the outermost kinks


@dataclass(frozen=True)
class Powers:
    """p(x) = Σ_m Σ_r value[m, r] y_m^r exp(-y_m²/(2 width²)), y_m = max(side[m] (x - at[m]), 0); y_m = x if side is 0.

    Attributes
    ----------
    at, side : ndarray, shape (n,)
    value, slope : ndarray, shape (n, order + 1)
        Coefficients of p, and of p' without the deltas at jumps.
    width : float
        inf: no window. A side of 0 has none.
    exact : bool
        Whether p is φ itself.
    """

    at: Array
    side: Array
    value: Array
    slope: Array
    width: float
    exact: bool

    def function(self, x: ArrayLike) -> Array:
        return sum(self.terms(self.value, np.asarray(x, dtype=float)))

    def derivative(self, x: ArrayLike) -> Array:
        return sum(self.terms(self.slope, np.asarray(x, dtype=float)))

    def coefficients(self) -> Array:
        """Of p, p' and x p'(x), each up to order + 1: (n, 3, order + 2)."""
        x_slope = np.pad(self.slope * self.at[:, None], ((0, 0), (0, 1)))  # x = at + side y
        x_slope[:, 1:] += self.slope * np.where(self.side < 0, -1, 1)[:, None]
        return np.stack([*(np.pad(rows, ((0, 0), (0, 1))) for rows in (self.value, self.slope)), x_slope], axis=1)

    def terms(self, coefficients: Array, x: Array) -> Iterator[Array]:
        """The sum over r for each m, with these coefficients."""
        for t, side, row in zip(self.at, self.side, coefficients, strict=True):
            y = side * (x - t) if side else x
            term = np.polynomial.polynomial.polyval(y, row) * np.exp(-0.5 * (y / self.width) ** 2)
            yield np.where(y > 0, term, np.where(y < 0, 0.0, term / 2)) if side else term


def polynomial_pieces(evaluate: Function, kinks: Sequence[float]) -> Powers | None:
    """φ as a polynomial, that around 0, and truncated powers to both sides of it, so that small variances meet none of
    them; None if it is not a polynomial of low degree between its kinks.
    """
    found = _polynomials(evaluate, kinks)
    if found is None:
        return None
    places, jumps, pieces = found
    return _powers(places, jumps, pieces[np.count_nonzero(places < 0)])


def _powers(places: Array, jumps: Array, middle: Array) -> Powers:
    """Of the polynomial around 0 and the jumps, coefficients of (x - t)^r."""
    side, powers = np.where(places < 0, -1.0, 1.0), np.arange(len(middle))
    value = np.vstack([middle, side[:, None] ** (powers + 1) * jumps])
    side = np.append(0.0, side)
    slope = np.hstack([(value * powers)[:, 1:] * np.where(side < 0, -1, 1)[:, None], np.zeros((len(side), 1))])
    used = 1 + int(np.flatnonzero(value.any(axis=0)).max(initial=0))
    return Powers(np.append(0.0, places), side, value[:, :used].copy(), slope[:, :used].copy(), math.inf, exact=True)


def piecewise_linear(evaluate: Function, kinks: Sequence[float]) -> tuple[float, float, tuple] | None:
    """offset, slope and (kink, jump of slope) pairs of a piecewise linear φ without jumps; None if it is not one."""
    found = _polynomials(evaluate, kinks)
    if found is None:
        return None
    places, jumps, pieces = found
    if jumps[:, 0].any() or jumps[:, 2:].any() or pieces[:, 2:].any():
        return None
    return (*pieces[0, :2].tolist(), tuple(zip(places.tolist(), jumps[:, 1].tolist(), strict=True)))


def _polynomials(evaluate: Function, kinks: Sequence[float]) -> tuple[Array, Array, Array] | None:
    """Kinks t, the jumps there as coefficients of (x - t)^r, and all pieces as coefficients of x^r."""
    try:
        found = list(_fitted(evaluate, kinks))
    except ActivationError:  # φ leaves float64 far from its kinks
        return None
    if any(piece is None for piece in found):
        return None
    places, jumps = [], []
    for t, ((left, before), (right, after)) in zip(kinks, itertools.pairwise(found), strict=True):
        jump = _rounded(_taylor(right, t) - _taylor(left, t), np.maximum(before, after))
        away = jump[0] / jump[1] if jump[1] else math.inf  # where they meet
        if abs(away) < 1e-7 * (1 + abs(t)):
            jump[0] = 0.0
            t -= away if abs(away) > 1e-14 * (1 + abs(t)) else 0.0
        places.append(t)
        jumps.append(jump)
    pieces = [_rounded(_taylor(piece, 0.0), rounding) for piece, rounding in found]
    return np.array(places), np.array(jumps), np.array(pieces)


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
        inside = np.array([1e-3, 1e-5, 1e-7]) * (high - low)  # a layer at an end that all of the points missed
        inside = np.concatenate([low + inside, high - inside])
        if (np.abs(piece(inside) - evaluate(inside)) > 1e-11 * size).any():
            yield None
            return
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
    """The simplest numbers that are as good."""
    return np.array([simplest(v - r, v + r) for v, r in zip(values, 4 * rounding, strict=True)])


def simplest(low: float, high: float) -> float:
    """The simplest fraction or, above denominators of 100, decimal in [low, high]: most kinks and slopes are such."""
    middle = (low + high) / 2
    fractions = (float(Fraction(middle).limit_denominator(n)) for n in (1, 2, 6, 10, 30, 100))
    decimals = (round(middle, digits) for digits in range(3, 16))
    return next((value + 0.0 for value in itertools.chain(fractions, decimals) if low <= value <= high), middle)


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
    return Powers(np.array(kinks, dtype=float), np.ones(len(kinks)), value, slope, width, exact=False)


def polished(evaluate: Function, kinks: Sequence[float]) -> tuple[float, ...]:
    """The kinks, each moved to where φ jumps, or where the polynomials on both sides meet if they differ in slope."""
    probe, places = Probe(evaluate), []
    for t in kinks:
        jump = _derivatives(probe, kinks, t, 1) - _derivatives(probe, kinks, t, -1)
        step = jump[0] / jump[1] if abs(jump[1]) > 1e-6 else 0.0
        size = np.abs(evaluate(t + np.linspace(-1, 1, 16))).max()
        if abs(jump[0]) > 1e-6 * (size + abs(jump[1])):
            places.append(_place_of_jump(evaluate, t))
            continue
        rounding = 3e-14 * (abs(t) + size / max(abs(jump[1]), 1e-6))
        places.append(float(t - step) if rounding < abs(step) < 1e-7 else t)
    return tuple(places)


def _place_of_jump(evaluate: Function, t: float) -> float:
    """By bisection, t itself if it is as good."""
    low, high = t - 1e-9 * max(1.0, abs(t)), t + 1e-9 * max(1.0, abs(t))
    ends = evaluate(np.array([low, high]))
    while low < (middle := (low + high) / 2) < high:
        value = evaluate(np.array([middle]))[0]
        low, high = (middle, high) if abs(value - ends[0]) < abs(value - ends[1]) else (low, middle)
    return t if low <= t <= high else high


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
    """None if φ has no kinks, or one at 0 that polynomials do not surround: there are tables for these."""
    instruction, kinks = activation.instruction, activation.kinks
    if instruction.is_piecewise_linear:
        offset, slope, jumps = instruction.parameters
        places, sizes = np.array(jumps, dtype=float).T
        left = places < 0
        middle = np.array([offset - sizes[left] @ places[left], slope + sizes[left].sum()])
        return _powers(places, np.outer(sizes, [0.0, 1.0]), middle)
    if not instruction.is_series or not kinks:
        return None
    exact = polynomial_pieces(activation.function, kinks)
    return windowed(activation.function, kinks) if exact is None and any(kinks) else exact
