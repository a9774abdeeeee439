"""(K + αI)⁻¹ by conjugate gradients with a Nyström preconditioner, which is made once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.learning import checks, pieces
from ntkfast.learning.solvers.conjugate import Iterations, Keep, State, conjugate_gradients
from ntkfast.learning.solvers.pivoted import LowRankPreconditioner, low_rank
from ntkfast.learning.solvers.solution import not_reached
from ntkfast.support import arrays, memory
from ntkfast.support.progress import reporter
from ntkfast.support.typing import Array, Progress

RANK = 2000  # of the preconditioner, unless rank= says otherwise
PER_POINT = 800  # rank²/n for an operator: 2 n rank² operations then take as long as some five of its products
ITERATIONS = 1000
COLUMNS = 256  # right-hand sides at once, where they are many
VECTORS = 6  # (n, q) that an iteration holds


def times(K: Any, V: Array) -> Array:
    """K V in float64."""
    if not isinstance(K, np.ndarray):
        return np.asarray(K.matmat(V), np.float64)
    if K.dtype == V.dtype:
        return pieces.product(K, V)
    return np.concatenate([K[rows].astype(V.dtype) @ V for rows in arrays.blocks(len(K))])


def default_rank(K: Any, rank: int | None, free: float) -> int:
    """Of a preconditioner that fits; 0 for an operator without columns."""
    if not (isinstance(K, np.ndarray) or hasattr(K, "columns")):
        return 0
    n = K.shape[0]
    most = RANK if isinstance(K, np.ndarray) else max(RANK, int(np.sqrt(PER_POINT * n)))
    return int(min(n // 2, most, free / 2 / (8 * n))) if rank is None else min(rank, n)


class Iterative:
    """Solutions of (K + αI) X = B for one K, which is an array or an operator.

    The preconditioner of this rank has random columns of K, which the seed chooses.
    """

    def __init__(
        self, K: Any, alpha: float, rank: int, n_columns: int, seed: int, free: float, progress: Progress
    ) -> None:
        self._K, self._alpha, self._progress = K, alpha, progress
        n = K.shape[0]
        self.n_bytes = 8 * n * (rank + VECTORS * n_columns)
        what = f"rank: conjugate gradients with a preconditioner of rank {rank}"
        memory.require(self.n_bytes, what, "; a smaller rank needs less" if rank else "", free)
        F, rest = np.empty((n, 0)), np.zeros(n)
        if rank:
            columns = (lambda indices: K[:, indices]) if isinstance(K, np.ndarray) else K.columns
            with reporter(progress, "preconditioner") as report:
                F, rest = low_rank(columns, K.diagonal(), rank, checks.eps(K), np.random.default_rng(seed), report)
        self.rank: int = F.shape[1]
        self._precondition = LowRankPreconditioner(F, alpha + float(rest.mean()) or 1.0)

    def product(self, V: Array) -> Array:
        """(K + αI) V."""
        return times(self._K, V) + self._alpha * V

    def solve(
        self, B: Array, tol: float, max_iterations: int, state: State | None = None, keep: Keep | None = None
    ) -> Iterations:
        """(n, q); state and keep as in `conjugate_gradients`."""
        with reporter(self._progress, "conjugate gradients") as report:
            return conjugate_gradients(
                self.product,
                B,
                self._precondition,
                tol=tol,
                max_iterations=max_iterations,
                state=state,
                keep=keep,
                report=report,
            )


class IteratedFactor:
    """What a Gaussian process takes from a factor of K + αI, for an operator that is too large to be factored."""

    def __init__(
        self, K: Any, alpha: float, tol: float, rng: np.random.Generator, free: float, progress: Progress
    ) -> None:
        n = K.shape[0]
        rank = default_rank(K, None, free)
        self._most = int(np.clip((free - 8 * n * rank) / (8 * n * VECTORS), 1, COLUMNS))
        self._solver = Iterative(K, alpha, rank, self._most, int(rng.integers(2**63)), free, progress)
        self._tol = tol

    def solve(self, B: Array) -> Array:
        """(K + αI)⁻¹ B, some columns at a time."""
        result, worst, reason = np.empty_like(B), 0.0, ""
        for some in arrays.blocks(B.shape[1], self._most):
            found = self._solver.solve(np.ascontiguousarray(B[:, some]), self._tol, ITERATIONS)
            result[:, some], worst, reason = found.solution, max(worst, found.residual), reason or found.reason
        if reason:
            not_reached("GaussianProcess", worst, self._tol, reason, "raise noise or tol")
        return result
