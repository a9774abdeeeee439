"""K(X, C) for many points X and some centres C, a panel of rows at a time; never the whole matrix.

Panels depend only on the sizes and are taken in their order, so that sums have the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import threads
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.support.progress import reporter
from ntkfast.support.typing import Array, KernelName, Progress

BYTES = 2**26  # of a panel in float64
LEAST, MOST = 256, 4096  # rows


class Panels:
    """The rows of K(X, C)."""

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        C: Array,
        kernel: KernelName,
        dtype: DTypeLike | None,
        n_threads: int | None,
        progress: Progress,
    ) -> None:
        self._problem, self._kernel = Problem(net, X, C, dtype=dtype, n_threads=n_threads), kernel
        self._problem.load()
        self._n_threads, self._progress = n_threads, progress
        self.shape: tuple[int, int] = self._problem.shape
        self._rows = min(self.shape[0], max(LEAST, min(MOST, BYTES // (8 * self.shape[1]))))

    @property
    def n_bytes(self) -> int:
        """Of what an iteration holds."""
        return self._rows * self.shape[1] * (8 + self._problem.dtype.itemsize)

    def panels(self, what: str) -> Iterator[tuple[slice, Array]]:
        """Rows and their part of the matrix in float64, which the next one overwrites."""
        n, m = self.shape
        panel = np.empty((self._rows, m))
        computed = panel if self._problem.dtype == panel.dtype else np.empty((self._rows, m), self._problem.dtype)
        with reporter(self._progress, what) as report:
            for start in range(0, n, self._rows):
                rows = slice(start, min(start + self._rows, n))
                part = computed[: rows.stop - start]
                self._problem.rows(np.arange(start, rows.stop)).matrices((self._kernel,), (part,), show=False)
                if computed is not panel:
                    panel[: len(part)] = part
                yield rows, panel[: len(part)]
                if report is not None:
                    report(rows.stop, n)

    def gram(self, y: Array) -> tuple[Array, Array]:
        """KᵀK (lower triangle, Fortran order) and Kᵀy in one pass: n m² operations, in float64."""
        m = self.shape[1]
        G, b = np.zeros((m, m), order="F"), np.zeros((m, y.shape[1]))
        for rows, panel in self.panels("Gram matrix of the centres"):
            with threads.blas(self._n_threads, panel.size * m):
                G = scipy.linalg.blas.dsyrk(1.0, panel.T, beta=1.0, c=G, lower=1, overwrite_c=1)
            with threads.single_threaded_blas():
                b += panel.T @ y[rows]
        return G, b

    def transposed_times(self, y: Array) -> Array:
        """Kᵀ y, (m, q)."""
        b = np.zeros((self.shape[1], y.shape[1]))
        for rows, panel in self.panels("centres times targets"):
            with threads.single_threaded_blas():
                b += panel.T @ y[rows]
        return b

    def normal_product(self, V: Array) -> Array:
        """Kᵀ (K V), (m, q), in one pass."""
        total = np.zeros_like(V)
        for _, panel in self.panels("product with the centres"):
            with threads.single_threaded_blas():
                total += panel.T @ (panel @ V)
        return total
