"""Tables of a dual near |ρ| = 1, where its Hermite series needs too many terms.

A table holds Chebyshev coefficients in log q1, y and log q2 for a pair of panels, where y = 1-|ρ|, or √(2 (1-|ρ|)) if φ
has kinks: in these variables the dual is smooth. They are computed when a pair of points first needs them, and check
themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ntkfast.engine.remainder import Remainder
from ntkfast.networks import graded, quadrature, smoothing
from ntkfast.networks.quadrature import Array, Gaussian

NEAR_RHO = 0.625  # the tables begin here or later; every series converges up to it
ANGLE_POINTS = 14  # Chebyshev points in y on each of its panels
MOST_POINTS = 16  # and in each log q: NF_MAX_NEAR
MOST_ANGLE_PANELS = 40
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


def _relative(sizes: Array) -> Array:
    """Of coefficients (q1, function, y, q2): the larger one of both functions, each relative to its largest."""
    largest = sizes.max(axis=(0, 2, 3), keepdims=True)
    return (sizes / np.where(largest > 0, largest, 1)).max(axis=1)


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
        bend = 1 / (2 * span.highest(span.n - 1))  # like √(1 + 2q(1-ρ)), the dual bends at 1-ρ of 1/2q
        last = 1 - NEAR_RHO
        edges = last * 4.0 ** -np.arange(max(0, math.ceil(math.log(last / bend, 4))), -1.0, -1)
        self.edges = np.concatenate([[0], edges if is_smooth else np.sqrt(2 * edges)])
        self._blocks: dict[tuple[int, int, int], Array] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def blocks(self) -> list[Array | None]:
        """As nf_panels holds them: for the sign of ρ, panel of q1 and panel of q2."""
        numbers = range(self.span.n)
        found = [self._blocks.get((sign, u, v)) for sign in (0, 1) for u in numbers for v in numbers]
        made = [block for block in found if block is not None]
        # trailing coefficients that no block needs are left out
        sizes = np.max([_relative(np.abs(block).max(axis=0)) for block in made], axis=0)  # q1, y, q2
        sizes = sizes > NEGLIGIBLE
        r = 1 + max(np.flatnonzero(sizes.any(axis=axes))[-1] for axes in ((1, 2), (0, 1)))
        m = 1 + np.flatnonzero(sizes.any(axis=(0, 2)))[-1]
        return [None if block is None else np.ascontiguousarray(block[:, :r, :, :m, :r]) for block in found]

    def make(self, pairs: Iterable[tuple[int, int]], moments: Array, series: Array, n_threads: int) -> None:
        """Add the tables of these pairs of panels.

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
            self.edges, self._blocks = edges, {}
        table = np.array([made[panel] for panel in panels])  # p s u v a f m b
        for sign, (k, u), (j, v) in itertools.product((0, 1), enumerate(numbers), enumerate(numbers)):
            self._blocks[sign, u, v] = np.ascontiguousarray(table[:, sign, k, j])

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
                    float((at_pairs / np.sqrt(moment[:, :, None] * moment[:, None, :])).max()),
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
