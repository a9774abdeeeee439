"""The data of instructions that sum a Hermite series: coefficients as functions of the variance, and how many terms are
enough.

A coefficient a_k(q) is a smooth function of log q. It is computed at the Chebyshev points of panels (a factor of 4 in
q, or less if that does not resolve it) and interpolated in C for every point, so that the number of quadratures does
not depend on the number of points. The panels of the last 64 activations are kept: layers of a deep network share them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from ntkfast.engine import _core
from ntkfast.engine.remainder import Remainder
from ntkfast.networks import pieces, quadrature
from ntkfast.networks.activation import Activation
from ntkfast.support.errors import PrecisionError

POINTS = 18  # Chebyshev points of a panel
MOST_PER_UNIT = 16  # panels per factor of 4, if they must be so small
N_TERMS = 256  # at most so many coefficients
TAIL = {  # of the series, relative to the diagonal: dtype, whether φ has kinks
    (np.dtype(np.float64), False): 2e-11,
    (np.dtype(np.float64), True): 1e-10,
    (np.dtype(np.float32), False): 3e-8,
    (np.dtype(np.float32), True): 3e-8,
}
GRADIENT_TAIL = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-6}  # of the slope's derivatives
PROMISED = {False: 1e-10, True: 1e-8}  # of a dual, relative to the diagonal: whether φ has kinks
NEAR_RHO = 0.9  # the tables near |ρ| = 1 begin here; every series converges beyond it
NEAR_POINTS = 13  # Chebyshev points in θ = arccos |ρ| on each of these panels, and in each log q
NEAR_EDGES = math.acos(NEAR_RHO) * np.array([0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
MOST_NEAR_PANELS = 40  # of θ, where φ is steep
MAX_TOGETHER = 8  # panels whose tables are computed at once
UNLIKELY = 9.0  # standard deviations: what φ does beyond is less than rounding
LOWEST = {False: -26, True: -40}  # log4 of the variance below which φ is affine to rounding; whether it has kinks


def jumps(activation: Activation) -> bool:
    """Whether φ itself jumps at a kink."""
    t = np.array(activation.kinks)
    step = 1e-9 * np.maximum(1, np.abs(t))
    left, right = activation(t - step), activation(t + step)
    return bool(np.any(np.abs(right - left) > 1e-5 * np.maximum(1, np.abs(left) + np.abs(right))))


@dataclass
class _Panel:
    coefficients: np.ndarray  # (POINTS, terms) values at the Chebyshev points
    moments: np.ndarray  # (2, POINTS): E φ², E φ'²
    weight: np.ndarray  # (2, N_TERMS): largest a_k²/E φ², k a_k²/(q E φ'²) on the panel
    rest: np.ndarray  # (2,): 1 minus their sums
    error: float  # of the interpolation in log q, relative to the diagonal


def data(activation: Activation, low: float, high: float, dtype: DTypeLike, gradient: bool) -> _core.Series:
    """The data for variances in [low, high], with all tables near |ρ| = 1 that have been computed so far.

    gradient: as many terms as the derivatives with respect to ρ and q need.
    """
    return _family(activation).data(low, high, np.dtype(dtype), gradient)


def jumping(activation: Activation) -> bool:
    """Whether the coefficients of φ' are kept separately from those of φ, which jumps."""
    return activation.instruction.is_series and _family(activation).slopes


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
    _family(activation).make_tables(low, high, np.dtype(dtype), gradient, pairs, n_threads)


@dataclass(frozen=True)
class Prepared:
    """A program, and the arguments of `data` with which each of its series is bound: instruction -> arguments."""

    program: _core.Program
    bound: dict[int, tuple]


def until_complete(prepare: Callable, run: Callable, n_threads: int):
    """prepared = prepare() and run(prepared), repeated until no pair lacks a table near |ρ| = 1: tables are computed
    when a pair needs them. prepared is a `Prepared`. Returns the last two.
    """
    while True:
        prepared = prepare()
        result = run(prepared)
        missing = prepared.program.missing()
        if not missing:
            return prepared, result
        for k, pairs in missing.items():
            make_tables(*prepared.bound[k], pairs, n_threads)


_families, _families_lock = lru_cache(maxsize=64)(lambda activation: Family(activation)), threading.Lock()


def _family(activation: Activation) -> Family:
    with _families_lock:  # two threads must not compute the same tables twice
        return _families(activation)


class Family:
    """Everything about one activation that does not depend on the points."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.kinked = bool(activation.kinks)
        self.gaussian = quadrature.gaussian(activation)
        self.mesh = self.gaussian.mesh
        self.per_unit = 8 if any(activation.kinks) else 1  # panels per factor of 4
        self.slopes = activation.instruction.is_series and jumps(activation)
        self.powers = pieces.of(activation)
        self.remainder = Remainder(self.gaussian, self.powers) if self.powers and not self.powers.exact else None
        self.promised = PROMISED[self.kinked and self.powers is None]
        self.edges = NEAR_EDGES
        self._panels, self._near, self._lock = {}, {}, threading.RLock()
        self._data = {}  # results of `data`, valid until the tables change

    def data(self, low, high, dtype, gradient):
        instruction = self.activation.instruction
        if instruction.is_polynomial:
            return _polynomial(instruction.parameters)
        with self._lock:
            key = self._panel_number(low), self._panel_number(high), dtype, gradient
            if key in self._data:  # of a Hermite series; the others are made again
                return self._data[key]
            first, last, panels = self._resolved(low, high)
            reach, terms = self._reach_and_terms(panels, dtype, gradient)
            even, odd = terms[-1]
            if instruction.is_piecewise_linear:
                result = _kinks(instruction.parameters, (even, odd), reach, terms)
                return self._with_powers(result, first, panels)
            chosen = [2 * k for k in range(even)] + [2 * k + 1 for k in range(odd)]
            chosen += [N_TERMS + k for k in chosen] if self.slopes else []
            to_chebyshev = quadrature.chebyshev_matrix(POINTS)
            coef = np.array([to_chebyshev @ panel.coefficients[:, chosen] for panel in panels])
            moment = np.array([panel.moments @ to_chebyshev.T for panel in panels])
            sides = np.array([-1e-12, 1e-12])  # where φ or φ' jumps at 0 the mean of both sides counts
            values = self.gaussian.function(sides)
            value = values.mean() if self.slopes else self.gaussian.function(np.zeros(1))[0]
            jumps_at_zero = abs(values[1] - values[0]) > 1e-9 * max(1.0, np.abs(values).max())
            slope = self.gaussian.derivative(sides).mean()
            result = _core.Series("series", (even, odd), reach, terms, self.slopes)
            result.panels(first, self.per_unit, coef, moment, float(value), float(slope), bool(jumps_at_zero))
            if self.powers:
                self._with_powers(result, first, panels)
            numbers = range(first, last + 1)
            blocks = [self._near.get((sign, p, q)) for sign in (0, 1) for p in numbers for q in numbers]
            if any(block is not None for block in blocks):
                result.near(blocks, self.edges)
            self._data[self._panel_number(low), self._panel_number(high), dtype, gradient] = result
            return result

    def make_tables(self, low, high, dtype, gradient, pairs, n_threads):
        with self._lock:
            pairs = [pair for pair in pairs if (0, *pair) not in self._near]
            numbers = sorted({number for pair in pairs for number in pair})
            if pairs:
                self._cut_theta(max(numbers))
            groups = [numbers] if len(numbers) <= MAX_TOGETHER else {tuple(sorted({*pair})) for pair in pairs}
            for group in groups:
                if group and not self._tabulate(group, n_threads):
                    return  # the next pass finds out which tables are needed now

    def _cut_theta(self, highest):
        """Panels of θ for variances up to this panel: like √(1 + q θ²), the dual bends at θ of 1/√q."""
        bend = 2.0 ** -((highest + 1) / self.per_unit)
        while self.edges[1] > max(bend, 1e-8):
            self.edges = np.concatenate([[0], self.edges[1:2] / 2, self.edges[1:]])
            self._near, self._data = {}, {}

    def _reach_and_terms(self, panels, dtype, gradient):
        weight = np.max([panel.weight for panel in panels], axis=0)
        rest = np.max([panel.rest for panel in panels], axis=0)
        tolerance = TAIL[dtype, self.kinked]
        if gradient:  # E φ'' φ'' and the like, as large as q E φ'²
            weight = np.vstack([weight, np.arange(N_TERMS) * weight[1]])
            rest, tolerance = np.append(rest, N_TERMS * rest[1]), [tolerance, tolerance, GRADIENT_TAIL[dtype]]
        return _terms(weight, rest, tolerance)

    def _with_powers(self, result, first, panels):
        powers, limits = self.powers, self._limits_of_double(first, panels)
        return result.powers(powers.at, powers.side, powers.coefficients(), powers.width**-2, powers.exact, *limits)

    def _limits_of_double(self, first, panels):
        """The variances between which the sums of truncated powers, which cancel for large ones and far out in the
        tails for small ones, leave double enough digits; raise if large ones leave long double too few.
        """
        if not self.powers.exact:
            return 0.0, math.inf
        enough = []
        for k, panel in enumerate(panels):
            high = 4.0 ** ((first + k + 1) / self.per_unit)
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
        edges = 4.0 ** (np.arange(first, first + len(panels) + 1) / self.per_unit)
        good = np.flatnonzero(enough)
        if len(good) == 0:
            return math.inf, 0.0
        low, high = good[0], good[-1] + 1
        return edges[low] if low else 0.0, edges[high] if high < len(panels) else math.inf

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
        """Numbers of the first and last panel and of all between them, fine enough for the coefficients."""
        while True:
            first, last = (self._panel_number(q) for q in (low, high))
            numbers = range(last, first - 1, -1)  # the hardest one first
            if all(self._is_resolved(number) for number in numbers):
                return first, last, [self._panels[number] for number in reversed(numbers)]
            self._refine()

    def _is_resolved(self, number):
        """Whether interpolation on this panel is accurate enough; raise if it would not be on any smaller one."""
        panel, high = self._panel(number), 4.0 ** ((number + 1) / self.per_unit)
        mass = UNLIKELY * math.sqrt(high)
        for place, _ in self.mesh.found:
            if abs(place) < mass:
                raise PrecisionError(
                    f"activation {self.activation.name!r}: φ is not smooth near x={place:.9g}, which variances up to "
                    f"{high:.3g} reach; give that kink as kinks="
                )
        required = self.promised / 10
        rounding = self.mesh.error(math.sqrt(high))
        if rounding > required or (panel.error > required and self.per_unit == MOST_PER_UNIT):
            raise PrecisionError(
                f"activation {self.activation.name!r}: for variances about {high:.3g} its dual is accurate only to "
                f"{max(rounding, panel.error):.1e} relative to the diagonal, {required:.0e} is required; φ oscillates "
                "too fast, is too narrow or too coarsely rounded"
            )
        return panel.error <= required

    def _refine(self):
        """Halve the panels and discard what was computed on them."""
        self.per_unit *= 2
        self._panels, self._near, self._data = {}, {}, {}

    def _panel_number(self, q):
        return max(math.floor(self.per_unit * math.log2(q) / 2), self.per_unit * LOWEST[self.kinked])

    def _variances(self, panel, degree):
        xi = quadrature.chebyshev_points(degree)
        return 4.0 ** ((panel + (xi + 1) / 2) / self.per_unit)

    def _panel(self, number):
        if number not in self._panels:
            q = self._variances(number, POINTS)
            results = [self.gaussian.coefficients(value, N_TERMS, self.slopes) for value in q]
            a, value, slope = (np.array([result[k] for result in results]) for k in range(3))
            b = np.array([result[3] for result in results]) if self.slopes else None
            slope[slope * q < 1e-20 * value] = 0  # a constant φ: rounding errors only
            slope_terms = np.arange(N_TERMS) * a**2 / q[:, None] if b is None else b**2
            parts = [_shares(a**2, value), _shares(slope_terms, slope)]
            self._panels[number] = _Panel(
                a if b is None else np.hstack([a, b]),
                np.array([value, slope]),
                np.array([part.max(axis=0) for part in parts]),
                np.array([max(0.0, (1 - part.sum(axis=1)).max()) if part.any() else 0.0 for part in parts]),
                self._interpolation_error(a, value, slope, *([] if b is None else [b])),
            )
        return self._panels[number]

    def _interpolation_error(self, *values):
        """Of values (POINTS, n) at the Chebyshev points of a panel, relative to the largest."""
        if self.activation.instruction.is_piecewise_linear:  # its numbers have a closed form
            return 0.0
        errors = [
            np.abs(quadrature.chebyshev_matrix(POINTS)[-2:] @ value).max() / max(np.abs(value).max(), 1e-300)
            for value in values
        ]
        return float(max(errors))

    def _tabulate(self, numbers, n_threads):
        """Tables, as in nf_panels, for all pairs of these panels: Chebyshev coefficients in ξ1, θ, ξ2. False:
        the panels were too large, and are smaller now.
        """
        n, r, n_theta = len(numbers), NEAR_POINTS, len(self.edges) - 1
        q = np.concatenate([self._variances(number, r) for number in numbers])
        low, high = self.edges[:-1, None], self.edges[1:, None]
        angles = low + (quadrature.chebyshev_points(r) + 1) / 2 * (high - low)
        values = self._near_values(numbers, q, angles.ravel(), n_threads)
        values = values.reshape(n_theta, r, 2, 2, n, r, n, r)  # θ, sign, function, q1, q2
        matrix = quadrature.chebyshev_matrix(r)
        tables = np.einsum("mx,ai,bj,pxsfuivj->suvpafmb", matrix, matrix, matrix, values, optimize=True)
        scale = np.sqrt([self._panel(number).moments.max(axis=1) for number in numbers])  # panel, function
        scale = scale[:, None] * scale[None]
        scale[scale == 0] = np.inf
        sizes = np.abs(tables).max(axis=0) / scale[:, :, None, None, :, None, None]  # axes u v p a f m b
        required = self._required(q.max())
        in_q = max(sizes[:, :, :, -2:].max(), sizes[..., -2:].max())
        in_theta = sizes[..., -2:, :].max(axis=(0, 1, 3, 4, 5, 6))  # of each panel
        if in_q > required and self.per_unit < MOST_PER_UNIT:
            self._refine()
            return False
        if in_theta.max() > required and n_theta < MOST_NEAR_PANELS:
            self.edges = np.union1d(self.edges, (self.edges[1:] + self.edges[:-1])[in_theta > required] / 2)
            self._near, self._data = {}, {}
            return False
        if max(in_q, in_theta.max()) > required:
            self._give_up(q, max(in_q, in_theta.max()), required)
        self._data = {}
        for sign in (0, 1):
            for u, first in enumerate(numbers):
                for v, second in enumerate(numbers):
                    self._near[sign, first, second] = np.ascontiguousarray(tables[sign, u, v])
        return True

    def _near_values(self, numbers, q, angles, n_threads):
        """What is tabulated, for all pairs of the variances q on these panels: see `quadrature.pair_matrices`."""
        if self.remainder:
            return self.remainder.values(q, angles, self._required, n_threads)
        functions = self.gaussian.function, self.gaussian.derivative
        rule = self._rule(numbers, functions)
        with ThreadPoolExecutor(n_threads) as pool:  # NumPy's loops release the GIL
            values = list(pool.map(lambda theta: quadrature.pair_matrices(functions, q, theta, *rule), angles))
        return np.array(values)

    def _required(self, q):
        """Accuracy of tables; beyond variances of 100 there is no promise."""
        return self.promised * (1 if q <= 101 else 1e4)

    def _give_up(self, q, reached, required):
        raise PrecisionError(
            f"activation {self.activation.name!r}: its dual near |ρ| = 1 for variances about {q.mean():.3g} is "
            f"accurate only to {reached:.1e} relative to the diagonal, {required:.0e} is required"
        )

    def _rule(self, numbers, functions):
        """A rule that fills the tables of these panels and agrees with the series where they meet, or an error."""
        rules = iter(quadrature.RULES)
        rule = next(rules)
        for number in numbers:
            q = self._variances(number, POINTS)
            while (error := self._disagreement(number, functions, rule)) > self._required(q.min()):
                rule = next(rules, None)
                if rule is None:
                    self._give_up(q, error, self._required(q.min()))
        return rule

    def _disagreement(self, number, functions, rule):
        """Of the polar rule and the series on a panel, relative to the diagonal."""
        q, panel, k = self._variances(number, POINTS), self._panel(number), np.arange(N_TERMS)
        a, b = panel.coefficients[:, :N_TERMS], panel.coefficients[:, N_TERMS:]
        value = (a * NEAR_RHO**k) @ a.T
        if self.slopes:
            slope = (b * NEAR_RHO**k) @ b.T
        else:
            slope = (a * k * NEAR_RHO ** np.maximum(k - 1, 0)) @ a.T / np.sqrt(np.outer(q, q))
        by_rule = quadrature.pair_matrices(functions, q, math.acos(NEAR_RHO), *rule)[0]
        scale = np.sqrt(panel.moments[:, :, None] * panel.moments[:, None, :])
        return float((np.abs(by_rule - [value, slope]) / np.where(scale > 0, scale, 1)).max())


def _shares(parts, whole):
    return np.divide(parts, whole[:, None], out=np.zeros_like(parts), where=whole[:, None] > 0)


def _terms(weight, rest, tolerance):
    """Up to which |ρ| the series converges, and for each bin of |ρ| how many even and odd terms of each series (value,
    slope, and its derivative) leave a remainder below the tolerance up to the end of the bin. weight, rest: see _Panel.
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
