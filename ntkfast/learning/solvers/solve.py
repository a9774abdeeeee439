"""(K + αI) a = y for a matrix in memory or an operator: the method is chosen by cost and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.learning import checks
from ntkfast.learning.definiteness import singular
from ntkfast.learning.factor import attempt, eigen, fortran
from ntkfast.learning.solvers.blocked import BlockedCholesky, is_on_disk, scratch
from ntkfast.learning.solvers.checkpoint import Checkpoints
from ntkfast.learning.solvers.conjugate import units
from ntkfast.learning.solvers.iterative import RANK, Iterative, default_rank, times
from ntkfast.learning.solvers.solution import Solution, not_reached
from ntkfast.support import arrays
from ntkfast.support import memory as bytes_of
from ntkfast.support.progress import check
from ntkfast.support.scalars import (
    generator,
    non_negative_integer,
    non_negative_number,
    positive_number,
)
from ntkfast.support.typing import Array, Memory, Progress, Seed

__all__ = ["solve"]

SMALL = 4096  # points for which an operator's matrix is made and factored, in seconds
LARGE = 40000  # points of a matrix in memory from which on iterating is cheaper: n³/3 against 60 times n² from memory


def solve(
    K_xx: Any,
    y: ArrayLike,
    alpha: float,
    *,
    method: Literal["auto", "cholesky", "eigh", "cg"] = "auto",
    tol: float = 1e-8,
    max_iterations: int = 1000,
    rank: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    rng: Seed = None,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
) -> Solution:
    """Kernel ridge regression: the dual coefficients a = (K + αI)⁻¹ y, by the method that suits K.

    Iterations are conjugate gradients with the preconditioner (F Fᵀ + μI)⁻¹, where F Fᵀ is Nyström's approximation of K
    from `rank` random columns (by randomly pivoted Cholesky; Díaz, Epperly, Frangella, Tropp and Webber 2023), and
    μ - α the mean of what it leaves of the diagonal. Every iteration is one product with K for all right-hand sides
    together, so that an operator's matrix is never kept; the preconditioner takes `rank` columns of K, some 2 n rank²
    operations and 8 n rank bytes.

    Parameters
    ----------
    K_xx : array_like, shape (n, n), KernelOperator or scipy.sparse.linalg.LinearOperator
        Without `columns` and `diagonal`, which a `KernelOperator` has, iterations have no preconditioner.
    y : array_like, shape (n,) or (n, outputs)
        Targets; all columns are solved for together.
    alpha : float
        The ridge α >= 0.
    method : {"auto", "cholesky", "eigh", "cg"}
        "eigh" gives the solution of least norm where K + αI is singular to rounding; "cg" iterates. "auto" takes
        "cholesky" for a matrix of up to 40000 points and an operator of up to 4096, if that fits into `memory`; else
        "cg". "cholesky" of an `ntkfast.store.GramStore` that does not fit computes the factor on disk, in a folder
        beside the store that is removed at the end, some n²/2 numbers.
    tol : float
        "cg": ‖y - (K + αI) a‖/‖y‖ at which iterations stop, of every column.
    max_iterations : int
        "cg": after which it stops, with a warning.
    rank : int, optional
        Of the preconditioner. Default: up to 2000, for an operator √(800 n) if that is more; n/2; and what half of
        `memory` allows. 0: none.
    checkpoint : str or path-like, optional
        "cg": a file for the state of the iterations, written at the start, every 30 seconds or after each iteration if
        that takes longer, on Ctrl-C and at the end. A call for the same problem goes on from there, whatever ended the
        one before, and comes to the same bits; tol and max_iterations may be others, and with another rank only the
        solution so far is taken over. The preconditioner is made anew, which takes less than a few iterations. Methods
        that work in memory take no notice of it. "cholesky" on disk: a folder, in which the factor stays, so that a
        call that was stopped goes on from the last block column, and other targets need no factorisation.
    rng : None, int or numpy.random.Generator
        For the columns of the preconditioner.
    n_threads : int, optional
        Of BLAS; an operator has threads of its own. Default: one for small work, else BLAS's own number.
    progress : bool or callable, optional
        Of the iterations, whose number is estimated from the residuals so far.
    memory : int or str, optional
        Bytes that may be used beside K; default: what is available.

    Returns
    -------
    Solution
        a, and what it took.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    ValueError, OSError
        The checkpoint is of another problem (the message says what differs), is damaged, or cannot be written. What is
        there stays as it is.
    numpy.linalg.LinAlgError
        "cholesky": K + αI is not positive definite beyond rounding; the message says which ridge makes it so.
    MemoryError
        What the method keeps does not fit into `memory`.

    Warns
    -----
    UserWarning
        Iterations ended before tol was reached: because of max_iterations, because the residual has not fallen for
        long or grows, or because K + αI is not positive definite. The message reports the residual; `converged` of the
        result is False.

    See Also
    --------
    GaussianProcess : Predictions with their uncertainty.
    NystromRegression : When n is beyond a few hundred thousand.
    KernelOperator : An operator without a matrix.
    ntkfast.store.compute : A matrix on disk.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.random.default_rng(0).standard_normal((400, 5))
    >>> K = nf.KernelOperator(nf.MLP(depth=3, bias_std=0.1), X)
    >>> found = nf.solve(K, X[:, 0], 0.01, method="cg", rng=0)
    >>> found.converged, found.iterations < 40
    (True, True)
    >>> exact = nf.solve(K[:], X[:, 0], 0.01)
    >>> exact.method, bool(np.allclose(exact.dual_coefficients, found.dual_coefficients, atol=1e-6))
    ('cholesky', True)
    """
    start = time.perf_counter()
    is_operator = isinstance(K_xx, scipy.sparse.linalg.LinearOperator)
    K: Any = checks.operator(K_xx) if is_operator else checks.square(K_xx, "K_xx")
    n, number = K.shape[0], (np.dtype(K.dtype) if is_operator else arrays.working_dtype(None, K)).itemsize
    Y, flat = checks.columns(y, n, "y", np.float64)
    alpha = non_negative_number(alpha, "alpha")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    tol, max_iterations = positive_number(tol, "tol"), checks.count(max_iterations, "max_iterations")
    rank = None if rank is None else non_negative_integer(rank, "rank")
    rng = generator(rng)
    check(progress)
    free = bytes_of.allowed(memory)
    chosen = _chosen(K, is_operator, n, free) if method == "auto" else method
    on_disk = chosen == "cholesky" and is_on_disk(K) and 2 * number * n * n > free
    if chosen != "cg" and not on_disk:
        if is_operator and not hasattr(K, "columns"):
            raise TypeError(f"method: expected 'cg' for an operator without columns, got {method!r}")
        what = f"K_xx: {chosen!r} of {n} points"
        matrices = is_operator + DIRECT[chosen].matrices
        bytes_of.require(number * n * n * matrices, what, DIRECT[chosen].instead, free)
    if not is_operator:
        K = checks.symmetric(K, "K_xx")
    if chosen == "cg":
        with threads.blas(n_threads, 2.0 * n * (RANK if is_operator else n)):
            kept = None if checkpoint is None else Checkpoints(checkpoint, K, alpha, Y)
            found = _iterate(K, Y, alpha, tol, max_iterations, rank, kept, rng, free, progress)
    elif on_disk:
        with threads.blas(n_threads, float(n) ** 3 / 3):
            found = _factor_on_disk(K, Y, alpha, checkpoint, free, progress)
    else:
        matrix = checks.symmetric(K.columns(np.arange(n)), "K_xx") if is_operator else K
        with threads.blas(n_threads, float(n) ** 3 / 3):
            found = _factor(matrix, Y, alpha, chosen, matrices, progress)
    a = found.dual_coefficients
    return replace(found, dual_coefficients=a[:, 0] if flat else a, seconds=time.perf_counter() - start)


def _chosen(K: Any, is_operator: bool, n: int, free: float) -> str:
    most = SMALL if is_operator and hasattr(K, "columns") else 0 if is_operator else LARGE
    return "cholesky" if n <= most and 8 * n * n * (1 + is_operator) <= free else "cg"


def _residuals(K: Any, a: Array, Y: Array, alpha: float) -> float:
    """The largest ‖y - (K + αI) a‖/‖y‖ of all columns."""
    unit = units(Y)
    Y, a = Y / unit, a.astype(np.float64) / unit
    size = np.linalg.norm(Y, axis=0)
    left = np.linalg.norm(Y - times(K, a) - alpha * a, axis=0)
    return float((left / np.where(size > 0, size, 1)).max())


def _by_cholesky(A: Array, Y: Array, alpha: float, progress: Progress) -> tuple[Array, float]:
    found, direction = attempt(
        A, overwrite=True, rcond=float(np.finfo(A.dtype).eps) if alpha else None, progress=progress
    )
    if found is None:
        raise np.linalg.LinAlgError(singular("K_xx + alpha I" if alpha else "K_xx", A, direction))
    return found.solve(Y), found.log_determinant()


def _by_eigh(A: Array, Y: Array, alpha: float, progress: Progress) -> tuple[Array, float]:
    spectrum = eigen(A, "K_xx", overwrite=True)
    a = spectrum.solve(Y)
    with np.errstate(divide="ignore"):
        return a, float(np.log(spectrum.values.astype(np.float64)).sum())


class Direct(NamedTuple):
    """A method that takes A = K + αI apart: run(A, Y, alpha, progress) -> A⁻¹ Y, log det A; it may overwrite A.

    matrices: of the size of K, that it takes at most.  instead: ends the error where they do not fit.
    """

    run: Callable[[Array, Array, float, Progress], tuple[Array, float]]
    matrices: int
    instead: str


DIRECT = {
    "cholesky": Direct(_by_cholesky, 1, "; method='cg' needs none, and that of a store is computed on disk"),
    "eigh": Direct(_by_eigh, 4, "; method='cholesky' needs a quarter, method='cg' no factor"),
}
METHODS = ("auto", *DIRECT, "cg")


def _factor(K: Array, Y: Array, alpha: float, method: str, matrices: int, progress: Progress) -> Solution:
    A = fortran(K, False, "a factor of the kernel")
    A[np.diag_indices(len(K))] += K.dtype.type(alpha)
    with checks.overflow("solve") as fits:
        a, log_determinant = DIRECT[method].run(A, Y.astype(K.dtype), alpha, progress)
        fits(a)
    residual = _residuals(K, a, Y, alpha)
    n_bytes = matrices * K.nbytes
    return Solution(a, method, 0, residual, np.array([residual]), True, 0, log_determinant, 0.0, n_bytes)


def _factor_on_disk(
    K: Any, Y: Array, alpha: float, checkpoint: str | os.PathLike[str] | None, free: float, progress: Progress
) -> Solution:
    with checks.overflow("solve") as fits, scratch(K, checkpoint) as folder:
        factor = BlockedCholesky(K, alpha, folder, Y.shape[1], free)
        a, log_determinant = factor.solve(Y, progress)
        fits(a)
    residual = _residuals(K, a, Y, alpha)
    return Solution(a, "cholesky", 0, residual, np.array([residual]), True, 0, log_determinant, 0.0, factor.n_bytes)


def _iterate(
    K: Any,
    Y: Array,
    alpha: float,
    tol: float,
    max_iterations: int,
    rank: int | None,
    kept: Checkpoints | None,
    rng: np.random.Generator,
    free: float,
    progress: Progress,
) -> Solution:
    there = None if kept is None else kept.read()
    seed, most = int(rng.integers(2**63)), default_rank(K, rank, free)
    state = None if there is None else there.state
    if there is not None and state is not None:
        if rank is None or most == there.rank:
            seed, most = there.seed, there.rank
        else:
            state = state.restarted()
    keep = None if kept is None else kept.of(seed, most).keep
    solver = Iterative(K, alpha, most, Y.shape[1], seed, free, progress)
    found = solver.solve(Y, tol, max_iterations, state, keep)
    if found.reason:
        hint = "raise alpha, rank, tol or max_iterations" if most else "raise alpha, tol or max_iterations"
        not_reached("solve", found.residual, tol, found.reason, hint)
    converged = not found.reason
    return Solution(
        found.solution,
        "cg",
        found.n_iterations,
        found.residual,
        found.residuals,
        converged,
        solver.rank,
        np.nan,
        0.0,
        solver.n_bytes,
    )
