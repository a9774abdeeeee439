"""The data of instructions that sum a Hermite series: coefficients as functions of the variance, and how many terms are
enough.

A coefficient a_k(q) is a smooth function of log q. It is computed at the Chebyshev points of a panel that is just long
enough for the variances of a layer, and interpolated in C for every point, so that the number of quadratures does not
depend on the number of points. The panels of the last 64 activations are kept: the positions and lengths that a panel
can have are few, so that layers of a deep network, and other data, share them.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from ntkfast.engine import _core, near
from ntkfast.engine.lower import Code
from ntkfast.engine.remainder import Remainder
from ntkfast.networks import pieces, quadrature
from ntkfast.networks.activation import Activation
from ntkfast.support import forks, progress
from ntkfast.support.errors import PrecisionError

FINEST, COARSEST = 32, 0.5  # panels per factor of 4: one panel as short as the variances allow, else several
N_TERMS = 256  # at most so many coefficients
WORTH = 64  # terms: a longer sum costs more than a table
TAIL = {  # of the series, relative to the diagonal: dtype, whether it falls slowly, as with kinks
    (np.dtype(np.float64), False): 2e-11,
    (np.dtype(np.float64), True): 2e-12,
    (np.dtype(np.float32), False): 3e-8,
    (np.dtype(np.float32), True): 3e-8,
}
GRADIENT_TAIL = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-6}  # of the slope's derivatives
PROMISED = 1e-10  # of a dual, relative to the diagonal
MOST_POINTS, MORE_POINTS = 28, 6  # Chebyshev points of a panel, and how many are added
MAX_TOGETHER = 8  # panels of a span whose tables are computed at once
MOST_FAMILIES, MOST_BYTES = 64, 2**30  # that are kept; those of ordinary variances take 1e7 bytes, of extreme ones 1e9
MOST_OF_LAST = 4  # times as many bytes may the tables of the activation in use take
UNLIKELY = 9.0  # standard deviations: what φ does beyond is less than rounding
AROUND = 1.042  # factor by which pair.c (`radial`) goes beyond the variances of a pair
LOWEST = {False: -26, True: -40}  # log4 of the variance below which φ is affine to rounding; whether it has kinks


def jumps(activation: Activation) -> bool:
    """Whether φ itself jumps at a kink."""
    t = np.array(activation.kinks)
    step = 1e-9 * np.maximum(1, np.abs(t))
    left, right = activation(t - step), activation(t + step)
    return bool(np.any(np.abs(right - left) > 1e-5 * np.maximum(1, np.abs(left) + np.abs(right))))


@dataclass
class _Panel:
    coefficients: np.ndarray  # (points, terms) values at the Chebyshev points
    moments: np.ndarray  # (2, points): E φ², E φ'²
    weight: np.ndarray  # (2, N_TERMS): largest a_k²/E φ², k a_k²/(q E φ'²) on the panel
    rest: np.ndarray  # (2,): 1 minus their sums
    error: float  # of the interpolation in log q, relative to the diagonal


def data(activation: Activation, low: float, high: float, dtype: DTypeLike, gradient: bool) -> _core.Series:
    """The data for variances in [low, high], with all tables near |ρ| = 1 that have been computed so far.

    gradient: as many terms as the derivatives with respect to ρ and q need.
    """
    return _families.of(activation).data(low, high, np.dtype(dtype), gradient)


def jumping(activation: Activation) -> bool:
    """Whether the coefficients of φ' are kept separately from those of φ, which jumps."""
    return activation.instruction.is_series and _families.of(activation).slopes


def make_tables(
    activation: Activation,
    low: float,
    high: float,
    dtype: DTypeLike,
    gradient: bool,
    pairs: Iterable[tuple[int, int]],
    n_threads: int,
) -> None:
    """Compute the tables near |ρ| = 1 for pairs of panels, as `Program.missing` names them for the result of `data`."""
    _families.of(activation).make_tables(low, high, np.dtype(dtype), gradient, pairs, n_threads)


@dataclass(frozen=True)
class Prepared:
    """A program, and the arguments of `data` with which each of its series is bound: instruction -> arguments."""

    program: _core.Program
    bound: dict[int, tuple]


def bind(code: Code, norms: list[np.ndarray], arithmetic: np.dtype, derivatives: bool, n_threads: int) -> Prepared:
    """The program of a code, its series bound to data for the variances that points of these squared norms have on
    reaching them.
    """
    program, bound, done = code.program(), {}, 0
    states = [_core.start(program, each) for each in norms] if code.series else []
    for k, activation in code.series:
        for state in states:
            _core.points(program, state, done, k, arithmetic, n_threads, False, None)
        done = k
        with np.errstate(over="ignore"):
            q = np.concatenate([state[0] for state in states]).astype(float)
        q = q[(q > 0) & np.isfinite(q)]
        bound[k] = activation, *((q.min(), q.max()) if len(q) else (1.0, 1.0)), arithmetic, derivatives
        program.bind(k, data(*bound[k]))
    return Prepared(program, bound)


def until_complete(prepare: Callable, run: Callable, n_threads: int, report=None):
    """prepared = prepare() and run(prepared), repeated until no pair lacks a table near |ρ| = 1: tables are computed
    when a pair needs them. prepared is a `Prepared`. report: a progress bar, which then says so. Returns the last two.
    """
    _families.trim()
    while True:
        prepared = prepare()
        result = run(prepared)
        missing = prepared.program.missing()
        if not missing:
            return prepared, result
        for k, pairs in missing.items():
            with progress.doing(report, f"tables of {prepared.bound[k][0].name}"):
                make_tables(*prepared.bound[k], pairs, n_threads)


class Family(forks.Guarded):
    """Everything about one activation that does not depend on the points."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.kinked = bool(activation.kinks)
        self.gaussian = quadrature.gaussian(activation)
        self.mesh = self.gaussian.mesh
        self.coarsest = 8.0 if any(activation.kinks) else COARSEST
        self.slopes = activation.instruction.is_series and jumps(activation)
        self.powers = pieces.of(activation)
        self.remainder = Remainder(self.gaussian, self.powers) if self.powers and not self.powers.exact else None
        self._panels, self._tables = {}, {}
        # per_unit -> of a panel, where φ oscillates or, with q, a kink comes within reach
        self._more_points = defaultdict(lambda: MORE_POINTS if any(activation.kinks) else 0)
        # |ρ| from which on tables are better than long series; truncated powers are not
        self._tables_from = near.NEAR_RHO if activation.instruction.is_series and not self.powers else 1.0
        self._data = {}  # results of `data`, valid until the tables change
        self.n_bytes = 0  # of tables
        self.guard()

    def abandoned(self) -> None:
        self.guard()
        _families.abandoned()

    def data(self, low, high, dtype, gradient):
        instruction = self.activation.instruction
        if instruction.is_polynomial:
            return _polynomial(instruction.parameters)
        with self._lock:
            span = self._span(low, high)
            key = span, dtype, gradient
            if key not in self._data:
                span, panels = self._resolved(low, high)
                self._data[span, dtype, gradient] = self._bound(span, panels, dtype, gradient)
            return self._data[span, dtype, gradient]

    def _bound(self, span, panels, dtype, gradient):
        instruction = self.activation.instruction
        reach, terms = self._reach_and_terms(panels, dtype, gradient)
        even, odd = terms[-1]
        if instruction.is_piecewise_linear:
            return self._with_powers(_kinks(instruction.parameters, (even, odd), reach, terms), span, panels)
        chosen = [2 * k for k in range(even)] + [2 * k + 1 for k in range(odd)]
        chosen += [N_TERMS + k for k in chosen] if self.slopes else []
        to_chebyshev = quadrature.chebyshev_matrix(self._points(span))
        coef = np.array([to_chebyshev @ panel.coefficients[:, chosen] for panel in panels])
        moment = np.array([panel.moments @ to_chebyshev.T for panel in panels])
        sides = np.array([-1e-12, 1e-12])  # where φ or φ' jumps at 0 the mean of both sides counts
        values = self.gaussian.function(sides)
        value = values.mean() if self.slopes else self.gaussian.function(np.zeros(1))[0]
        jumps_at_zero = abs(values[1] - values[0]) > 1e-9 * max(1.0, np.abs(values).max())
        slope = self.gaussian.derivative(sides).mean()
        result = _core.Series("series", (even, odd), reach, terms, self.slopes)
        result.panels(span.first, span.per_unit, coef, moment, float(value), float(slope), bool(jumps_at_zero))
        if self.powers:
            self._with_powers(result, span, panels)
        tables = self._tables.get(span)
        if tables:
            result.near(*tables.cells(), tables.edges, not tables.is_smooth)
            self.n_bytes = sum(each.n_bytes() for each in self._tables.values())
        return result

    def make_tables(self, low, high, dtype, gradient, pairs, n_threads):
        with self._lock:
            span, panels = self._resolved(low, high)
            tables = self._tables.get(span)
            if tables is None:
                more = self._more_points[span.per_unit]
                required = self._required(span.highest(span.n - 1))
                tables = near.Tables(self.gaussian, span, more, not self.kinked, required, self.remainder)
            r = tables.n_points
            to_near = quadrature.chebyshev_values(self._points(span), quadrature.chebyshev_points(r))
            moments = np.array([panel.moments @ to_near.T for panel in panels])
            at_edge = np.array([self._at_edge(span, k, panel, to_near) for k, panel in enumerate(panels)])
            try:
                for group in _groups(span.n, pairs):
                    tables.make(group, moments, at_edge, n_threads)
            except near.Unresolved as error:
                self._refine(span, error.args[0], tables.n_points < near.MOST_POINTS)
                return  # the next pass finds out which tables are needed now
            except near.Inaccurate as error:
                if self._tables_from == 1:
                    self._give_up(span, error.args[0])
                self._tables_from, self._data = 1.0, {}  # the series first, as far as it converges
                return
            self._tables[span] = tables
            self._data = {key: value for key, value in self._data.items() if key[0] != span}

    def _reach_and_terms(self, panels, dtype, gradient):
        weight = np.max([panel.weight for panel in panels], axis=0)
        rest = np.max([panel.rest for panel in panels], axis=0)
        tolerance = TAIL[dtype, self.kinked and not self.powers]
        if gradient:  # E φ'' φ'' and the like, as large as q E φ'²
            weight = np.vstack([weight, np.arange(N_TERMS) * weight[1]])
            rest, tolerance = np.append(rest, N_TERMS * rest[1]), [tolerance, tolerance, GRADIENT_TAIL[dtype]]
        return _terms(weight, rest, tolerance, self._tables_from)

    def _with_powers(self, result, span, panels):
        powers, limits = self.powers, self._limits_of_double(span, panels)
        return result.powers(powers.at, powers.side, powers.coefficients(), powers.width**-2, powers.exact, *limits)

    def _limits_of_double(self, span, panels):
        """The variances between which the sums of truncated powers, which cancel for large ones and far out in the
        tails for small ones, leave double enough digits; raise if large ones leave long double too few.
        """
        if not self.powers.exact:
            return 0.0, math.inf
        enough = []
        for k, panel in enumerate(panels):
            high = span.highest(k)
            lost = [
                self._cancellation(high, *row)
                for row in zip((self.powers.value, self.powers.slope), panel.moments[:, 0], strict=True)
            ]
            enough.append(max(lost) < 1e-13 / np.finfo(float).eps)
            error, required = max(lost) * np.finfo(np.longdouble).eps, self._required(high)
            if error > required and high > 1:
                raise PrecisionError(
                    f"activation {self.activation.name!r}: for variances up to {high:.3g} its dual near |ρ| = 1 is "
                    f"accurate only to {error:.1e} relative to the diagonal, {required:.0e} is required; scale the "
                    "data"
                )
        edges = 4.0 ** ((span.first + np.arange(span.n + 1)) / span.per_unit)
        good = np.flatnonzero(enough)
        if len(good) == 0:
            return math.inf, 0.0
        low, high = good[0], good[-1] + 1
        return edges[low] if low else 0.0, edges[high] if high < span.n else math.inf

    def _cancellation(self, q, rows, moment):
        """The sum of the parts of E[pp], and of what their recursions cancel, relative to E[pp]."""
        if not moment > 0:
            return 0.0
        z, w = self.gaussian.nodes(q)
        total = 0.0
        for t, row, part in zip(self.powers.at, rows, self.powers.terms(np.abs(rows), math.sqrt(q) * z), strict=True):
            degree = np.flatnonzero(row).max(initial=0)
            total += math.sqrt(np.sum(w * part**2)) * max(1.0, t * t / q) ** degree
        return total**2 / moment

    def _resolved(self, low, high):
        """The span of these variances, fine enough for the coefficients, and its panels."""
        while True:
            span = self._span(low, high)
            numbers = range(span.n - 1, -1, -1)  # the hardest one first
            if all(self._is_resolved(span, number) for number in numbers):
                return span, [self._panel(span, number) for number in range(span.n)]
            self._refine(span, self._panel(span, span.n - 1).error, self._points(span) < MOST_POINTS)

    def _is_resolved(self, span, number):
        """Whether interpolation on this panel is accurate enough; raise if it would not be on any smaller one."""
        panel, high = self._panel(span, number), span.highest(number)
        mass = UNLIKELY * math.sqrt(high)
        for place, _ in self.mesh.found:
            if abs(place) < mass:
                raise PrecisionError(
                    f"activation {self.activation.name!r}: φ is not smooth near x={place:.9g}, which variances up to "
                    f"{high:.3g} reach; give that kink as kinks="
                )
        required = PROMISED / 10
        rounding = self.mesh.error(math.sqrt(high))
        if rounding > required or (
            panel.error > required and span.per_unit >= FINEST and self._points(span) >= MOST_POINTS
        ):
            raise PrecisionError(
                f"activation {self.activation.name!r}: for variances about {high:.3g} its dual is accurate only to "
                f"{max(rounding, panel.error):.1e} relative to the diagonal, {required:.0e} is required; φ oscillates "
                "too fast, is too narrow or too coarsely rounded"
            )
        return panel.error <= required

    def _refine(self, span, reached, by_points):
        """From now on panels as long as this span's have more points, or there are only shorter ones."""
        if by_points:
            self._more_points[span.per_unit] += MORE_POINTS
        elif span.per_unit >= FINEST:
            self._give_up(span, reached)
        else:
            self.coarsest = 2 * span.per_unit
        self._panels, self._tables, self._data, self.n_bytes = {}, {}, {}, 0

    def _give_up(self, span, reached):
        raise PrecisionError(
            f"activation {self.activation.name!r}: its dual near |ρ| = 1 for variances about "
            f"{span.highest(span.n - 1):.3g} is accurate only to {reached:.1e} relative to the diagonal, "
            f"{self._required(span.highest(span.n - 1)):.0e} is required"
        )

    def _points(self, span):
        """Chebyshev points of a panel for the coefficients."""
        return min(MOST_POINTS, near.points_needed(span.per_unit, 15) + self._more_points[span.per_unit])

    def _span(self, low, high):
        """The shortest panel that covers these variances and AROUND them, or several; on a fixed grid, which other data
        find again.
        """
        low, high = low / AROUND, high * AROUND
        low, high = (max(math.log2(q) / 2, LOWEST[self.kinked]) for q in (low, high))
        per_unit = FINEST
        while per_unit >= self.coarsest:
            first = math.floor(4 * per_unit * low) / 4
            if per_unit * high <= first + 1:
                return near.Span(per_unit, first, 1)
            per_unit /= 2
        first = math.floor(self.coarsest * low)
        return near.Span(self.coarsest, first, max(1, math.ceil(self.coarsest * high) - first))

    def _panel(self, span, number):
        key = span.per_unit, span.first + number
        if key not in self._panels:
            q = span.variances(number, self._points(span))
            results = [self.gaussian.coefficients(value, N_TERMS, self.slopes) for value in q]
            a, value, slope = (np.array([result[k] for result in results]) for k in range(3))
            b = np.array([result[3] for result in results]) if self.slopes else None
            constant = slope * q < 1e-20 * value  # rounding errors only
            slope[constant] = 0
            if b is not None:
                b[constant] = 0
            slope_terms = np.arange(N_TERMS) * a**2 / q[:, None] if b is None else b**2
            parts = [_shares(a**2, value), _shares(slope_terms, slope)]
            self._panels[key] = _Panel(
                a if b is None else np.hstack([a, b]),
                np.array([value, slope]),
                np.array([part.max(axis=0) for part in parts]),
                np.array([max(0.0, (1 - part.sum(axis=1)).max()) if part.any() else 0.0 for part in parts]),
                self._interpolation_error(a, value, slope, *([] if b is None else [b])),
            )
        return self._panels[key]

    def _interpolation_error(self, *values):
        """Of values (points, n) at the Chebyshev points of a panel, relative to the largest."""
        if self.activation.instruction.is_piecewise_linear:  # its numbers have a closed form
            return 0.0
        to_chebyshev = quadrature.chebyshev_matrix(len(values[0]))
        errors = [np.abs(to_chebyshev[-2:] @ value).max() / max(np.abs(value).max(), 1e-300) for value in values]
        return float(max(errors))

    def _required(self, q):
        """Accuracy near |ρ| = 1. Beyond variances of 100 there is no promise, where powers cancel; beyond 1e8 others
        change, like that of a step, over so little of ρ that its rounding ε costs ε √q.
        """
        if self.powers is None:
            return PROMISED * max(1.0, math.sqrt(q / 1e8))
        return PROMISED * (1 if q <= 101 else 1e4)

    def _at_edge(self, span, number, panel, to_near):
        """The duals (2, n, n) of the variances of one panel at NEAR_RHO, from the series."""
        q, k = span.variances(number, len(to_near)), np.arange(N_TERMS)
        coefficients = to_near @ panel.coefficients
        a, b = coefficients[:, :N_TERMS], coefficients[:, N_TERMS:]
        value = (a * near.NEAR_RHO**k) @ a.T
        if self.slopes:
            slope = (b * near.NEAR_RHO**k) @ b.T
        else:
            slope = (a * k * near.NEAR_RHO ** np.maximum(k - 1, 0)) @ a.T / np.outer(np.sqrt(q), np.sqrt(q))
        return np.array([value, slope])


class _Families(forks.Guarded):
    """Those of the last activations. Two threads must not compute the same tables twice."""

    def __init__(self) -> None:
        self._kept: dict[Activation, Family] = {}  # the latest in use last
        self.guard()

    def of(self, activation: Activation) -> Family:
        with self._lock:
            family = self._kept.pop(activation, None)
            self._kept[activation] = Family(activation) if family is None else family
            while len(self._kept) > MOST_FAMILIES:
                del self._kept[next(iter(self._kept))]
            return self._kept[activation]

    def trim(self) -> None:
        """Forget those that were not used for longest if their tables take too much memory; the last one, which the
        next call may need as it is, only where it takes several times as much. Not amid a call, which may need several.
        """
        with self._lock:
            total = sum(family.n_bytes for family in self._kept.values())
            for activation in list(self._kept):
                if total <= MOST_BYTES * (MOST_OF_LAST if len(self._kept) == 1 else 1):
                    break
                total -= self._kept.pop(activation).n_bytes

    def abandoned(self) -> None:
        self._kept.clear()
        self.guard()


_families = _Families()


def _groups(n, pairs):
    """Which pairs of n panels are computed together, if these are needed.

    The last digits of a table depend on the others of its group and on the panels of y. A matrix and its blocks, which
    need other pairs first, shall have the same bits: all panels are one group or, if they are too many, each pair is
    one; the pair of the largest variances, which needs most panels of y, comes first.
    """
    if n <= MAX_TOGETHER:
        return [list(itertools.product(range(n), repeat=2))]
    return [[pair] for pair in sorted({(n - 1, n - 1), *((max(pair), min(pair)) for pair in pairs)}, reverse=True)]


def _shares(parts, whole):
    return np.divide(parts, whole[:, None], out=np.zeros_like(parts), where=whole[:, None] > 0)


def _terms(weight, rest, tolerance, near_rho):
    """Up to which |ρ| the series is used, and for each bin of |ρ| how many even and odd terms of each series (value,
    slope, and its derivative) leave a remainder below the tolerance up to the end of the bin. weight, rest: see _Panel.

    near_rho: from where on tables may serve instead; they do where the series does not converge or is longer than they
    are.
    """
    tolerance = np.broadcast_to(tolerance, len(weight))
    powers = np.maximum(np.arange(N_TERMS) - np.arange(len(weight))[:, None], 0)
    reach = min(1.0, np.min((tolerance / 4 / np.maximum(rest, 1e-300)) ** (1 / (N_TERMS - 1))))
    terms = np.zeros((_core.BINS, 2), dtype=np.intc)
    for row in range(_core.BINS):
        shares = weight * min((row + 1) / _core.BINS, reach) ** powers
        for parity in (0, 1):
            tails = np.cumsum(shares[:, parity::2][:, ::-1], axis=1)[:, ::-1]
            terms[row, parity] = _rounded(np.count_nonzero((tails > tolerance[:, None] / 4).any(axis=0)))
    bins = max(np.count_nonzero(terms.sum(axis=1) <= WORTH), math.ceil(near_rho * _core.BINS))
    if bins / _core.BINS < reach:
        reach, terms[bins:] = bins / _core.BINS, terms[bins - 1]
    if not terms.any():  # as φ oscillates fast; the engine reads the first coefficients for the diagonal
        terms[-1, 0] = _core.STEP
    return reach, terms


def _rounded(n_terms):
    return -(-n_terms // _core.STEP) * _core.STEP


def _polynomial(coefficients):
    """x^j = Σ_k basis[k, j] h_k(x/√q) √q^j with basis[k, j] = j!/(((j-k)/2)! 2^((j-k)/2) √k!), j-k even."""
    degree = len(coefficients) - 1
    basis = np.zeros((degree + 1, degree + 1), dtype=np.longdouble)
    for j, c in enumerate(coefficients):
        for k in range(j % 2, j + 1, 2):
            m = (j - k) // 2
            number = math.factorial(j) // (math.factorial(m) * 2**m)
            basis[k, j] = np.longdouble(c) * np.longdouble(str(number)) / np.sqrt(np.longdouble(str(math.factorial(k))))
    even = _rounded(degree // 2 + 1) if any(coefficients[0::2]) else 0
    odd = _rounded((degree + 1) // 2) if any(coefficients[1::2]) else 0
    terms = np.full((_core.BINS, 2), (even, odd), dtype=np.intc)
    return _core.Series("polynomial", (even, odd), 1.0, terms).polynomial(basis)


def _kinks(parameters, counts, reach, terms):
    offset, slope, kinks = parameters
    at, jump = np.array(kinks, dtype=np.longdouble).T.copy()
    root = np.sqrt(np.arange(2 * max(counts) + 2, dtype=float))
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    return _core.Series("kinks", counts, reach, terms).kinks(at, jump, offset, slope, root, inverse)
