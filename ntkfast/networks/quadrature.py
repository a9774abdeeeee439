"""One-dimensional Gaussian integrals of any φ: E[φ(√q z) h_k(z)] and E[φ(√q z)²].

Composite Gauss-Legendre rules on panels that resolve φ (a mesh in x, refined until Chebyshev interpolation converges,
with kinks as panel ends) and the Hermite polynomials (a uniform mesh in z). numba compiles the Hermite recurrence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.networks.activation import Activation
from ntkfast.support import forks
from ntkfast.support.errors import ActivationError

Array: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[Any], Any]  # elementwise on arrays

DEGREE = 20  # of the Gauss-Legendre rule on a panel, and of the interpolation that tests whether φ is resolved there
RESOLVED = 1e-13  # of the largest value on a panel
MAX_PANELS = 4000
FINEST = 2.0**-40  # relative width of a panel that is not halved again
LIMITS = (14.0, 20.0, 28.0, 38.0)  # of the integrals over z: the first at which φ² times the density is negligible
NOISE = 1e-6  # relative; anything larger counts as structure


def chebyshev_points(n: int) -> Array:
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


@lru_cache
def chebyshev_matrix(n: int) -> Array:
    """From values at the Chebyshev points to Chebyshev coefficients."""
    matrix = 2 / n * np.cos(np.outer(np.arange(n), np.pi * (np.arange(n) + 0.5) / n))
    matrix[0] /= 2
    return matrix


def chebyshev_values(n: int, x: Array) -> Array:
    """From values at n Chebyshev points to values at x."""
    return np.cos(np.outer(np.arccos(x), np.arange(n))) @ chebyshev_matrix(n)


@lru_cache
def _legendre(n: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(n)


def rule(breaks: ArrayLike, n: int = DEGREE) -> tuple[Array, Array]:
    """Nodes and weights of the composite Gauss-Legendre rule between the sorted breaks."""
    x, w = _legendre(n)
    half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


class Probe:
    """Judges where a function is a polynomial of degree 20, to the accuracy that its Gaussian integrals need.

    An error of φ at x matters relative to the size of φ on (-|x|/2, |x|/2) too: every Gaussian that reaches x has its
    mass there. So what is left of a formula such as 0.5 x (1 + tanh(…)) in the tail where it should vanish is not
    structure, nor is what the rounding of φ explains.
    """

    def __init__(self, evaluate: Function) -> None:
        self.evaluate = evaluate
        self._sizes = {}  # exponent of a distance from 0 -> mean of |φ| up to half of it

    def unresolved(self, low: float, high: float, *, local: bool = False) -> float:
        """The last Chebyshev coefficients of the function on [low, high] beyond its rounding and that of x, relative to
        its size; local: to its size on this interval alone.
        """
        x = chebyshev_points(DEGREE + 1)
        values = self.evaluate((low + high) / 2 + (high - low) / 2 * x)
        tail = np.abs(chebyshev_matrix(DEGREE + 1)[-3:] @ values).max()
        size = max(float(np.abs(values).max()), 1e-300)
        if not local:
            size = max(size, self._size(max(abs(low), abs(high))))
        tail -= 4 * np.finfo(float).eps * max(abs(low), abs(high)) * np.ptp(values) / (high - low)
        if RESOLVED * size < tail < NOISE * size:
            tail -= 4 * self._rounding(low, high)
        return max(0.0, float(tail)) / size

    def _size(self, distance):
        exponent = math.frexp(distance)[1]
        if exponent not in self._sizes:
            values = self.evaluate(2.0 ** (exponent - 2) * np.linspace(-1, 1, 65))
            self._sizes[exponent] = float(np.abs(values).mean())
        return self._sizes[exponent]

    def _rounding(self, low, high):
        """The standard deviation of the rounding of φ, from fourth differences over so short a distance that nothing
        else is left (Moré and Wild, 2011). Of five places the worst one may be at a kink.
        """
        unit = 2.0 ** (math.frexp(max(abs(low), abs(high)))[1] - 52)  # an odd multiple, or x would hide the rounding
        step = (2 * round((high - low) * 2.0**-25 / unit) + 9) * unit
        starts = np.round((low + (high - low) * np.array([0.13, 0.31, 0.52, 0.71, 0.89])) / unit) * unit
        values = self.evaluate(starts[:, None] + step * np.arange(7))
        return float(np.sort(np.abs(np.diff(values, 4, axis=1)).max(axis=1))[-2]) / math.sqrt(70)


class Mesh(forks.Guarded):
    """Panels in x on each of which φ is a polynomial of degree 20 to rounding; grown outwards as needed.

    Attributes
    ----------
    breaks : ndarray
        Sorted ends of the panels on [-reach, reach], 0 and the kinks among them.
    found : list of (low, high)
        Tiny intervals, none at a kink, that no polynomial fits.
    given_up : list of (distance from 0, relative error)
        Panels where φ is noise, or where there were too many.
    """

    def __init__(self, evaluate: Function, kinks: Iterable[float] = ()) -> None:
        self.evaluate, self.kinks = evaluate, tuple(kinks)
        self.reach, self.breaks = 0.0, np.array([0.0])
        self.found, self.given_up = [], []
        self._probe = Probe(evaluate)
        self.guard()  # tables are filled by several threads

    def abandoned(self) -> None:
        self.guard()  # panels that are refined a second time are the same

    def upto(self, reach: float) -> Array:
        """The breaks that resolve φ on [-reach, reach] at least."""
        with self._lock:
            self._grow(reach)
            return self.breaks

    def error(self, std: float) -> float:
        """Relative error of the worst panel, times the density of a Gaussian of this standard deviation there."""
        with np.errstate(under="ignore"):
            return max((tail * math.exp(-0.5 * (distance / std) ** 2) for distance, tail in self.given_up), default=0.0)

    def _grow(self, reach: float) -> None:
        while self.reach < reach:
            start, stop = self.reach, max(2 * self.reach, 1.0)
            inner = [start, *([0.25, 0.5, 0.75] if start == 0 else []), stop]  # finer where most functions bend
            for side in (inner, [-x for x in inner[::-1]]):
                edges = sorted({*side, *(t for t in self.kinks if side[0] < t < side[-1])})
                for low, high in itertools.pairwise(edges):
                    self._refine(low, high)
            self.reach = stop

    def _refine(self, low: float, high: float) -> None:
        """Halve [low, high] until every part is resolved."""
        todo, ends = [(low, high, (math.inf,) * 4)], [low, high]
        while todo:
            a, b, before = todo.pop()
            tail = self._probe.unresolved(a, b)
            # Halving a panel halves the error at a kink, and reduces it far more elsewhere; what remains is noise.
            noise = tail < NOISE and tail > before[0] / 4
            if tail <= RESOLVED:
                continue
            if noise or len(ends) + len(self.breaks) > MAX_PANELS:
                self.given_up.append((min(abs(a), abs(b)), tail))
            elif b - a > FINEST * max(1.0, abs(a), abs(b)):
                middle = (a + b) / 2
                ends.append(middle)
                todo += [(a, middle, (*before[1:], tail)), (middle, b, (*before[1:], tail))]
            elif not self._is_at_kink(a, b):
                self.found.append((a, b))
        self.breaks = np.union1d(self.breaks, ends)

    def _is_at_kink(self, low: float, high: float) -> bool:
        """Whether a known kink, which may be off by rounding, explains why this tiny interval is not resolved: φ jumps
        or is Lipschitz there."""
        kink = next((t for t in self.kinks if abs(t - low) < 1e-9 * max(1.0, abs(low))), None)
        if kink is None:
            return False
        wide = (low, low + 16 * (high - low)) if kink <= low else (high - 16 * (high - low), high)
        change = [np.ptp(self.evaluate(np.linspace(*ends, 5))) for ends in ((low, high), wide)]
        return not 0.075 < change[0] / max(change[1], 1e-300) < 0.75  # 1/16 where it is Lipschitz


def find_kinks(evaluate: Function, low: float, high: float) -> list[tuple[float, float]]:
    """Small intervals in each of which the function or one of its first derivatives jumps.

    Where a function is analytic, halving an interval divides the error of its interpolant by 2^20; at a jump of the
    m-th derivative only by 2^m. A kink so near to the end of an interval that no point of its interpolant is beyond it
    is found by a last look at the intervals around these ends.
    """
    probe = Probe(evaluate)
    spots, resolved, todo = [], [], [(low, high, math.inf, 0)]
    while todo:
        a, b, before, slow = todo.pop()
        tail = probe.unresolved(a, b)
        slow = slow + 1 if tail > before / 100 else 0
        cut = a + 0.4637 * (b - a)
        if slow >= 4 and b - a < 0.03 * max(1.0, abs(a) / 8):
            spots.append(_corner(probe, a, b))
        elif tail > RESOLVED and len(todo) < MAX_PANELS:
            todo += [(a, cut, tail, slow), (cut, b, tail, slow)]
        else:
            resolved.append((a, b))
    for (a, end), (start, b) in itertools.pairwise(sorted(resolved)):
        h = min(end - a, b - start) / 2
        wide, narrow = ((end - size, end + size) for size in (h, h / 16))
        if end == start and probe.unresolved(*wide) > 100 * RESOLVED and probe.unresolved(*narrow) > RESOLVED:
            spots.append(_corner(probe, *wide))
    return spots


def _corner(probe: Probe, low: float, high: float) -> tuple[float, float]:
    """The smallest part of [low, high] that still shows where the function is not smooth."""
    while high - low > FINEST * max(1.0, abs(low), abs(high)):
        cuts = [low + share * (high - low) for share in (0, 0.3119, 0.6437, 1)]
        parts = list(itertools.pairwise(cuts))
        errors = [probe.unresolved(*part, local=True) for part in parts]
        if max(errors) < 10 * RESOLVED:
            break
        low, high = parts[int(np.argmax(errors))]
    return low, high


class InterpolatedDerivative:
    """φ', or a higher derivative, from the polynomials that interpolate φ on the panels of a mesh; at a kink, the mean
    of both sides.
    """

    def __init__(self, mesh: Mesh, order: int = 1) -> None:
        self.mesh, self.order, self.panels = mesh, order, None

    def __call__(self, x: ArrayLike) -> Array:
        from ntkfast.networks import recurrence

        x = np.asarray(x, dtype=float)
        breaks = self.mesh.upto(float(np.abs(x).max(initial=0)))
        panels = self.panels  # this thread's own reference: another may set it meanwhile
        if panels is None or panels[0] is not breaks:
            half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
            values = self.mesh.evaluate(middle[:, None] + half[:, None] * chebyshev_points(DEGREE + 1))
            # unlike a product of matrices, the same bits however many panels there are
            coefficients = np.einsum("pi,ki->pk", values, chebyshev_matrix(DEGREE + 1))
            rates = np.polynomial.chebyshev.chebder(coefficients, self.order, axis=1)
            panels = breaks, rates / half[:, None] ** self.order
            self.panels = panels
        slope = recurrence.piecewise_chebyshev(x.ravel(), *panels).reshape(x.shape)
        for t in self.mesh.kinks:
            at_kink = x == t
            if at_kink.any():
                k = int(np.searchsorted(breaks, t))  # panel k is to its right
                slope[at_kink] = (panels[1][k - 1].sum() + panels[1][k] @ (-1.0) ** np.arange(panels[1].shape[1])) / 2
        return slope


class Gaussian:
    """Expectations over z ~ N(0, 1) of functions of √q z, for one φ."""

    def __init__(self, name: str, function: Function, derivative: Function, mesh: Mesh) -> None:
        self.name, self.function, self.derivative, self.mesh = name, function, derivative, mesh

    def nodes(self, q: float, longest: float = 0.5, other: Mesh | None = None) -> tuple[Array, Array]:
        """z and weights (density included) for the variance q; they resolve φ(√q z), the function of another mesh, and
        h_k for k to 64/longest²; longest: of the panels in z.
        """
        s = math.sqrt(q)
        for limit in LIMITS:
            ends = self.function(s * np.array([-limit, limit, 0.97 * limit, -0.97 * limit]))
            small = np.abs(ends) * math.exp(-limit * limit / 4)
            if np.all(small < 1e-16 * (1 + abs(float(self.function(np.array([s]))[0])))):
                break
        else:
            raise ActivationError(
                f"activation {self.name!r}: φ grows so fast that E[φ(√q z)²] diverges or leaves float64 at q={q:.6g}: "
                f"φ({limit * s:.6g}) = {ends[1]:.6g}"
            )
        mesh = self.mesh.upto(limit * s) / s
        if other is not None:
            mesh = np.union1d(mesh, other.upto(limit * s) / s)
        steps = np.linspace(-limit, limit, math.ceil(2 * limit / min(longest, 0.5)) + 1)
        breaks = np.union1d(steps, mesh[np.abs(mesh) < limit])
        breaks = breaks[np.append(True, np.diff(breaks) > 1e-14 * np.abs(breaks[1:]))]
        z, w = rule(breaks)
        return z, w * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    def coefficients(self, q: float, n: int, with_slopes: bool = False) -> tuple[Array, float, float, Array | None]:
        """a_k(q) for k < n, E[φ²], E[φ'²], and b_k(q) of φ' (None unless with_slopes)."""
        from ntkfast.networks.recurrence import hermite_sums as sums  # numba, which closed forms do without

        z, w = self.nodes(q)
        x = math.sqrt(q) * z
        f, g = self.function(x), self.derivative(x)
        a = sums(z, w * f, n)
        if q < 1e-4 and not with_slopes:  # by parts: φ(x) - φ(0) is lost in the rounding of φ
            a[1:] = np.sqrt(q / np.arange(1, n)) * sums(z, w * g, n - 1)
        with np.errstate(over="ignore"):
            squares = float(np.sum(w * f * f)), float(np.sum(w * g * g))
        if not np.isfinite(squares).all():
            raise ActivationError(f"activation {self.name!r}: E[φ(√q z)²] or that of φ' leaves float64 at q={q:.6g}")
        return a, *squares, sums(z, w * g, n) if with_slopes else None


@lru_cache(maxsize=64)
def gaussian(activation: Activation) -> Gaussian:
    """Expectations of this activation."""
    mesh = Mesh(activation.function, activation.kinks)
    return Gaussian(activation.name, activation.function, activation.derivative, mesh)
