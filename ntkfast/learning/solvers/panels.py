"""K(X, C) for many points X and some centres C, a panel of rows at a time; never the whole matrix.

Products with vectors need no panels: the engine makes some rows and multiplies them while they are in a cache. Panels
are for all else, and for kernels of one's own.

A pass goes over parts of the rows, which are summed on their own, and a part panel by panel. Both depend only on the
sizes and are added up in one order, so that sums have the same bits for any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import threads
from ntkfast.engine.problem import Problem
from ntkfast.learning import pieces
from ntkfast.learning.solvers.checkpoint import identity_of_centers
from ntkfast.learning.solvers.source import Function, OwnProblem, problem_of
from ntkfast.networks import Network
from ntkfast.support import sums
from ntkfast.support.progress import reporter
from ntkfast.support.sums import Arrays
from ntkfast.support.typing import Array, KernelName, Progress

BYTES = 2**26  # of a panel in float64
LEAST, MOST = 256, 4096  # rows of a panel
LEAST_OF_PART = 2048  # rows: adding up the m x m sums of parts takes a fiftieth of the time


@dataclass(frozen=True)
class Part:
    """Some rows of K(X, C). Iterating gives panels: their rows, and these in float64, which the next one overwrites."""

    problem: Problem | OwnProblem
    kernel: KernelName
    rows: slice
    n_threads: int | None
    report: Callable[[int, int], object] | None = None

    @property
    def height(self) -> int:
        """Rows of a panel."""
        n, m = self.rows.stop - self.rows.start, self.problem.shape[1]
        return min(n, max(LEAST, min(MOST, BYTES // (8 * m))))

    def of_rows(self, problem: Problem) -> Problem:
        """The problem of its rows."""
        return problem.rows(np.arange(self.rows.start, self.rows.stop))

    @property
    def progress(self) -> Progress:
        """Reports which share of its rows is done."""
        report, rows, n = self.report, self.rows, self.problem.shape[0]
        if report is None:
            return False
        return lambda done, total: report(rows.start + (rows.stop - rows.start) * done // total, n)

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        height, (n, m), dtype = self.height, self.problem.shape, self.problem.dtype
        panel = np.empty((height, m))
        computed = panel if dtype == panel.dtype else np.empty((height, m), dtype)
        for start in range(self.rows.start, self.rows.stop, height):
            rows = slice(start, min(start + height, self.rows.stop))
            part = computed[: rows.stop - start]
            self.problem.rows(np.arange(start, rows.stop)).matrices((self.kernel,), (part,), show=False)
            if computed is not panel:
                panel[: len(part)] = part
            yield rows, panel[: len(part)]
            if self.report is not None and rows.stop < self.rows.stop:
                self.report(rows.stop, n)


class Panels:
    """The rows of K(X, C)."""

    def __init__(
        self,
        net: Network | Function,
        X: ArrayLike,
        C: Array,
        kernel: KernelName,
        dtype: DTypeLike | None,
        n_threads: int | None,
        progress: Progress,
    ) -> None:
        self._problem, self._kernel = problem_of(net, X, C, dtype=dtype, n_threads=n_threads), kernel
        self._problem.load()
        self._n_threads, self._progress = n_threads, progress
        self.shape: tuple[int, int] = self._problem.shape
        self._parts = sums.parts(self.shape[0], LEAST_OF_PART)

    def identity(self, alpha: float, y: Array) -> dict[str, Any]:
        """What tells the problem with these targets from others."""
        return identity_of_centers(self._problem, self._kernel, alpha, y)

    @property
    def eps(self) -> float:
        """Relative errors of entries."""
        return float(np.finfo(self._problem.dtype).eps)

    @property
    def n_bytes(self) -> int:
        """Of what an iteration holds."""
        height = Part(self._problem, self._kernel, self._parts[-1], self._n_threads).height
        return height * self.shape[1] * (8 + self._problem.dtype.itemsize)

    def each(self, what: str, function: Callable[..., Any], *given: Any) -> Iterator[Any]:
        """function(part, *given) for every part of the rows, in their order."""
        with reporter(self._progress, what) as report:
            for rows in self._parts:
                yield function(Part(self._problem, self._kernel, rows, self._n_threads, report), *given)
                if report is not None:
                    report(rows.stop, self.shape[0])

    def total(self, what: str, function: Callable[..., Arrays], *given: Any) -> Arrays:
        """The sum over parts of function(part, *given)."""
        return sums.in_groups(self.each(what, function, *given))

    def gram(self, y: Array) -> tuple[Array, Array]:
        """KᵀK (lower triangle, Fortran order) and Kᵀy in one pass: n m² operations, in float64."""
        G, b = self._gram("Gram matrix of the centres", gram, y)
        return G, b

    _gram = total

    def transposed_times(self, y: Array) -> Array:
        """Kᵀ y, (m, q)."""
        return self.total("centres times targets", transposed_times, y)[0]

    def normal_product(self, V: Array) -> Array:
        """Kᵀ (K V), (m, q), in one pass."""
        return self.total("product with the centres", normal_product, V)[0]


def gram(part: Part, y: Array) -> Arrays:
    m = part.problem.shape[1]
    G, b = np.zeros((m, m), order="F"), np.zeros((m, y.shape[1]))
    for rows, panel in part:
        with threads.blas(part.n_threads, panel.size * m):
            pieces.add_square(G, panel.T)
        with threads.single_threaded_blas():
            b += panel.T @ y[rows]
    return G, b


def transposed_times(part: Part, y: Array) -> Arrays:
    if isinstance(part.problem, Problem):
        return (part.of_rows(part.problem).transposed().product(part.kernel, y[part.rows], part.progress),)
    b = np.zeros((part.problem.shape[1], y.shape[1]))
    for rows, panel in part:
        with threads.single_threaded_blas():
            b += panel.T @ y[rows]
    return (b,)


def normal_product(part: Part, V: Array) -> Arrays:
    if isinstance(part.problem, Problem):
        return (part.of_rows(part.problem).normal_product(part.kernel, V, part.progress),)
    total = np.zeros_like(V)
    for _, panel in part:
        with threads.single_threaded_blas():
            total += panel.T @ (panel @ V)
    return (total,)
