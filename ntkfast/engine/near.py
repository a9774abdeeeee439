"""Tables of a dual near |ρ| = 1, where its Hermite series needs too many terms.

A table holds Chebyshev coefficients in log q1, y and log q2 for a pair of panels, where y = 1-|ρ|, or √(2 (1-|ρ|)) if φ
has kinks: in these variables the dual is smooth. They are computed when a pair of points first needs them, and check
themselves.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ntkfast.engine import _core
from ntkfast.engine.remainder import Remainder
from ntkfast.networks import graded, quadrature, smoothing
from ntkfast.networks.quadrature import Array, Gaussian

NEAR_RHO = 0.625  # the tables begin here or later; every series converges up to it
SHORT = 2.0  # parts of panels that pairs look up, per factor of 4
ANGLE_POINTS = 14  # Chebyshev points in y on each of its panels
MOST_POINTS = _core.NEAR_DEGREES  # and in each log q
MOST_ANGLE_PANELS = 40
FLAT = 1e-26  # 1-|ρ| up to which any dual is constant to 1e-13: that of a step changes like √(2(1-|ρ|))/π
GOAL = 1e-12  # what more panels of y are made for, relative to the diagonal
NEGLIGIBLE = 5e-14  # Chebyshev coefficients, relative to the largest
MARGIN = 1e-2  # share of the required accuracy with which a rule is good enough to look for no better one
LARGE = 64.0  # variance from which on φ is nearly its asymptote
LINES_TO = 3e-12  # at large variances the moments themselves are no more accurate
SMOOTH_TO = 1e-13  # relative error of the moments that the FFT must reproduce


class Unresolved(Exception):
    """The panels in log q are too long; they are to be halved."""


class Inaccurate(Exception):
    """The error relative to the diagonal that was reached, and the one that is required."""


def points_needed(per_unit: float, digits: int) -> int:
    """Chebyshev points in log q for so many digits of a function with singularities where q is negative."""
    ratio = math.pi / (math.log(4) / per_unit / 2)
    return math.ceil(digits * math.log(10) / math.asinh(ratio)) + 2


@dataclass(frozen=True)
class Span:
    """Equal panels in log q: panel k < n is where per_unit * log4(q) is in [first + k, first + k + 1]."""

    per_unit: float
    first: float
    n: int

    def highest(self, k: int) -> float:
        return 4.0 ** ((self.first + k + 1) / self.per_unit)

    def variances(self, k: int, n_points: int) -> Array:
        """The Chebyshev points of panel k."""
        return 4.0 ** ((self.first + k + (quadrature.chebyshev_points(n_points) + 1) / 2) / self.per_unit)


class Tables:
    """The tables of one activation for one span.

    more: Chebyshev points in each log q than most functions need.  remainder: what is tabulated is the dual without its
    truncated powers; None: there are none.

    Attributes
    ----------
    edges : ndarray
        Ends of the panels of y.
    """

    def __init__(
        self,
        gaussian: Gaussian,
        span: Span,
        more: int,
        is_smooth: bool,
        required: float,
        remainder: Remainder | None = None,
    ) -> None:
        self.gaussian, self.span, self.is_smooth, self.required = gaussian, span, is_smooth, required
        self.remainder = remainder
        self.functions = gaussian.function, gaussian.derivative
        self.n_points = min(MOST_POINTS, points_needed(span.per_unit, 11) + more)
        bend = max(1 / (2 * span.highest(span.n - 1)), FLAT)  # like √(1 + 2q(1-ρ)), the dual bends at 1-ρ of 1/2q
        last = 1 - NEAR_RHO
        edges = last * 4.0 ** -np.arange(max(0, math.ceil(math.log(last / bend, 4))), -1.0, -1)
        self.edges = np.concatenate([[0], edges if is_smooth else np.sqrt(2 * edges)])
        self._blocks: dict[tuple[int, int, int], Array] = {}
        self._cells: dict[tuple[int, int, int], list] = {}  # of a block -> packed
        self._parts = self._least_parts = 2 ** max(0, math.ceil(math.log2(SHORT / span.per_unit)))

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def n_bytes(self) -> int:
        cells = itertools.chain.from_iterable(self._cells.values())
        return sum(block.nbytes for block in self._blocks.values()) + sum(numbers.nbytes for _, numbers in cells)

    def cells(self) -> tuple[list, int]:
        """As nf_panels holds them: for the sign of ρ, panel of q1, panel of q2 and panel of y; and into how many parts
        the panels of q are divided.

        A pair of points that is alone in its cell costs as much as there are coefficients: few in short panels, and
        few after those of a high degree in all variables together, which no block needs, are left out.
        """
        while not self._pack():
            self._cells, self._parts = {}, 2 * self._parts
        none = [None] * (len(self.edges) - 1)
        numbers = range(self.span.n)
        found = [self._cells.get((sign, u, v), none) for sign in (0, 1) for u in numbers for v in numbers]
        return list(itertools.chain.from_iterable(found)), self._parts

    def _pack(self) -> bool:
        """Pack the blocks that have no cells yet. False: one does not fit into cells of so few parts."""
        for key, block in self._blocks.items():
            if key not in self._cells:
                cells = _packed(block, self._parts, min(self.required / 1e2, NEGLIGIBLE))
                if cells is None:
                    return False
                self._cells[key] = cells
        return True

    def make(self, pairs: Iterable[tuple[int, int]], moments: Array, series: Array, n_threads: int) -> None:
        """Add the tables of these pairs of panels, and of their reverses.

        moments (n, 2, n_points): E φ² and E φ'² at the variances of each panel.  series (n, 2, n_points, n_points): the
        duals of pairs of one panel at NEAR_RHO, with which the tables must agree.
        """
        pairs = [pair for pair in pairs if (0, *pair) not in self._blocks]
        numbers = sorted({number for pair in pairs for number in pair})
        if not numbers:
            return
        r = self.n_points
        q = np.concatenate([self.span.variances(number, r) for number in numbers])
        if self.remainder:
            matrices = self.remainder.rule(q, self.required, n_threads)
        else:
            matrices = self._rule(q, numbers, moments, series)
        scale = np.sqrt(moments[numbers].max(axis=2))  # panel, function
        scale = scale[:, None] * scale[None]
        scale[scale == 0] = np.inf
        made, edges = {}, self.edges  # (low, high) in y -> tables
        with ThreadPoolExecutor(n_threads) as pool:  # NumPy's loops release the GIL
            while True:
                panels = list(itertools.pairwise(edges))
                todo = [panel for panel in panels if panel not in made]
                if not todo:
                    break
                y = [low + (quadrature.chebyshev_points(ANGLE_POINTS) + 1) / 2 * (high - low) for low, high in todo]
                delta = np.concatenate(y) if self.is_smooth else np.concatenate(y) ** 2 / 2
                values = np.array(list(pool.map(matrices, delta)))
                for panel, table in zip(todo, self._coefficients(values, len(todo), len(numbers)), strict=True):
                    made[panel] = table
                    sizes = np.abs(table).max(axis=0) / scale[:, :, None, :, None, None]  # u v a f m b
                    in_q = max(sizes[:, :, -2:].max(), sizes[..., -2:].max()) if r > 2 else 0.0
                    if in_q > self.required:
                        raise Unresolved(in_q)
                    in_angle = sizes[..., -2:, :].max()
                    if in_angle > GOAL and len(edges) <= MOST_ANGLE_PANELS:
                        edges = np.union1d(edges, sum(panel) / 2)
                    elif in_angle > self.required:
                        raise Inaccurate(in_angle)
        if len(edges) > len(self.edges):  # what was made before has other panels
            self.edges, self._blocks, self._cells, self._parts = edges, {}, {}, self._least_parts
        table = np.array([made[panel] for panel in panels])  # p s u v a f m b
        place = {number: k for k, number in enumerate(numbers)}
        for sign, pair in itertools.product((0, 1), pairs):
            for u, v in (pair, pair[::-1]):
                self._blocks[sign, u, v] = np.ascontiguousarray(table[:, sign, place[u], place[v]])

    def _coefficients(self, values: Array, n_panels: int, n: int) -> Array:
        """Axes panel of y, sign, panel of q1, panel of q2, then Chebyshev coefficients in q1, function, y, q2."""
        r, m = self.n_points, ANGLE_POINTS
        values = values.reshape(n_panels, m, 2, 2, n, r, n, r)  # y, sign, function, q1, q2
        in_q, in_angle = quadrature.chebyshev_matrix(r), quadrature.chebyshev_matrix(m)
        return np.einsum("mx,ai,bj,pxsfuivj->psuvafmb", in_angle, in_q, in_q, values, optimize=True)

    def _rule(self, q, numbers, moments, series):
        """A function of δ: the duals (2, 2, len(q), len(q)) at correlations 1-δ and δ-1; it agrees with the series."""
        r = self.n_points

        def error(matrices):
            """Of the rule, against the series at NEAR_RHO and the moments at 1."""
            at_edge, at_one = matrices(1 - NEAR_RHO)[0], np.einsum("fii->fi", matrices(0.0)[0])
            worst = 0.0
            for k, number in enumerate(numbers):
                here, moment = slice(k * r, (k + 1) * r), np.where(moments[number] > 0, moments[number], np.inf)
                at_pairs = np.abs(at_edge[:, here, here] - series[number])
                worst = max(
                    worst,
                    float((at_pairs / (np.sqrt(moment)[:, :, None] * np.sqrt(moment)[:, None, :])).max()),
                    float((np.abs(at_one[:, here] - np.where(np.isfinite(moment), moment, 0)) / moment).max()),
                )
            return worst

        of_points = np.hstack(moments[numbers])
        is_local = self.is_smooth and q.max() > LARGE and q.max() < LARGE * q.min()
        lines = smoothing.lines_of(*self.functions) if is_local else None
        if lines:
            allowed = LINES_TO * max(1.0, math.sqrt(q.max() / 1e8))
            localised = smoothing.Localised(self.functions, lines, q, of_points, allowed)
            if localised.error <= allowed and error(localised.matrices) <= self.required:
                return localised.matrices
        if self.is_smooth:
            smoothed = smoothing.Smoothed(self.functions, q, of_points, SMOOTH_TO)
            if smoothed.error <= SMOOTH_TO and error(smoothed.matrices) <= self.required:
                return smoothed.matrices

        worst, best = math.inf, None
        for fineness in graded.FINENESS:
            matrices = graded.Graded(graded.flow(self.gaussian, fineness), q).matrices
            reached = error(matrices)
            if reached < worst:
                worst, best = reached, matrices
            if worst <= self.required * MARGIN:
                break
        if worst > self.required:
            raise Inaccurate(worst)
        return best


@functools.cache
def _restriction(n_points: int, parts: int) -> Array:
    """Chebyshev coefficients on a panel -> those on each of its equal parts, (parts, NEAR_DEGREES, n_points)."""
    x = (quadrature.chebyshev_points(n_points) + 1 + 2 * np.arange(parts)[:, None]) / parts - 1
    matrix = quadrature.chebyshev_matrix(n_points) @ np.polynomial.chebyshev.chebvander(x, n_points - 1)
    return np.pad(matrix, ((0, 0), (0, _core.NEAR_DEGREES - n_points), (0, 0)))


# The degrees in q1 and q2, in the order of nf_cell
DEGREES = np.array([(i, total - i) for total in range(_core.NEAR_DEGREES) for i in range(total + 1)]).T


def _packed(block: Array, parts: int, tolerance: float) -> list[tuple[list[int], Array]] | None:
    """A block (panels of y, q1, function, y, q2) of Chebyshev coefficients as cells, one for each panel of y, without
    coefficients below the tolerance relative to the largest.  None: others are of higher degrees than cells hold.
    """
    restriction = _restriction(block.shape[1], parts)
    block = np.pad(block, [(0, 0)] * 3 + [(0, -block.shape[3] % 4), (0, 0)])

    def panels():  # one after another: together they take some hundred times the memory of the block
        for panel in block:
            yield np.einsum("uai,ifmj,vbj->uvfmab", restriction, panel, restriction, optimize=True)

    size = functools.reduce(np.maximum, (np.abs(c).max(axis=(3, 4, 5), keepdims=True) for c in panels()))
    i, j = DEGREES
    beyond = sum(np.indices([_core.NEAR_DEGREES] * 2)) >= _core.NEAR_DEGREES
    numbers = np.arange(1, len(i) + 1)
    cells = []
    for c in panels():
        needed = (np.abs(c) > tolerance * size).any(axis=(0, 1, 2))  # m a b
        if needed[:, beyond].any():
            return None
        # up to the last one that is needed, with those of higher degrees in y no more than with lower ones
        last = (needed[:, i, j] * numbers).max(axis=1).reshape(-1, 4).max(axis=1)
        terms = np.maximum.accumulate(last[::-1])[::-1]
        terms = -(-np.maximum(terms, [1] + [0] * (len(terms) - 1)) // _core.NEAR_STEP) * _core.NEAR_STEP
        terms = terms[terms > 0].tolist()
        fours = (c[..., 4 * k : 4 * k + 4, i[:n], j[:n]] for k, n in enumerate(terms))  # u v f 4 degrees
        kept = [np.moveaxis(four, 4, 2).reshape(parts, parts, -1) for four in fours]
        cells.append((terms, np.ascontiguousarray(np.concatenate(kept, axis=2))))
    return cells
