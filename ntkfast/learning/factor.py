"""Factors of a positive semi-definite matrix K: Cholesky's, in place on request, or the eigendecomposition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy

from ntkfast.learning import definiteness, pieces
from ntkfast.support import arrays, memory
from ntkfast.support.forks import cached_property
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.typing import Array, Progress

MOST_DIVIDED = 32766  # the largest matrix for LAPACK's syevd


class Factor(Protocol):
    """The interface of both kinds of factor."""

    @property
    def half(self) -> Array:
        """F with F Fᵀ = K, (n, rank)."""

    def solve(self, B: Array) -> Array:
        """K⁻¹ B."""

    def half_solve(self, B: Array) -> Array:
        """F⁻¹ B."""


def fortran(K: Array, overwrite: bool, what: str) -> Array:
    """The symmetric K in Fortran order: the same memory if it is to be overwritten, else a copy."""
    array = K.T if K.flags.c_contiguous else K
    if overwrite:
        return array
    memory.require(K.nbytes, what)
    return pieces.copy(array, array.dtype)


class Cholesky(Saved):
    """K = L Lᵀ. Above its diagonal `half` holds K's other triangle, or L's zeros if `factor` or a file made it."""

    def __init__(self, half: Array, diagonal: Array) -> None:
        self.half = half  # (n, n), Fortran order
        self.matrix_diagonal = diagonal  # of K
        self.lowest = 0.0  # 1/‖K⁻¹‖₁, estimated: at most the smallest eigenvalue, at least 1/√n of it

    def described(self) -> dict[str, Any]:
        n = len(self.half)
        memory.require(self.half.nbytes // 2, "the file's half of a Cholesky factor")
        lower, start = np.empty(n * (n + 1) // 2, self.half.dtype), 0
        for k in range(n):
            lower[start : start + n - k] = self.half[k:, k]
            start += n - k
        return {"lower": lower, "lowest": self.lowest}

    @classmethod
    def rebuilt(cls, lower: Any, lowest: Any) -> Cholesky:
        lower = checked_array(lower, (None,), "lower")
        n, start = (math.isqrt(8 * len(lower) + 1) - 1) // 2, 0
        checked_array(lower, (n * (n + 1) // 2,), "lower")
        memory.require(n * n * lower.itemsize, "a Cholesky factor")
        half = np.zeros((n, n), lower.dtype, order="F")
        for k in range(n):
            half[k:, k] = lower[start : start + n - k]
            start += n - k
        factor = cls(half, np.empty(0, lower.dtype))
        factor.lowest = checked(lowest, float, "lowest")
        return factor

    def solve(self, B: Array) -> Array:
        return pieces.solve(self.half, B)

    def half_solve(self, B: Array) -> Array:
        return pieces.solve_triangular(self.half, B)

    def log_determinant(self) -> float:
        return float(2 * np.log(self.half.diagonal().astype(np.float64)).sum())

    def inverse_norm(self) -> float:
        """‖K⁻¹‖₁, estimated: usually at least 1/√n of it, at most all."""
        n, dtype = len(self.half), self.half.dtype
        if n <= pieces.AT_ONCE:
            pocon = scipy.linalg.get_lapack_funcs("pocon", (self.half,))
            found = float(pocon(self.half, 1.0, uplo="L")[0])
            return 1 / found if found else np.inf

        def solved(B: Array) -> Array:
            return self.solve(B.astype(dtype))

        operator = scipy.sparse.linalg.LinearOperator((n, n), solved, solved, solved, dtype, solved)
        alternating = (-1.0) ** np.arange(n) * np.linspace(1, 2, n)  # where cancellation misleads the others (Higham)
        with np.errstate(over="ignore", invalid="ignore"):
            found = scipy.sparse.linalg.onenormest(operator, t=1)
            return float(max(found, 2 * np.abs(solved(alternating)).sum() / (3 * n)))

    def inverse(self) -> Array:
        """K⁻¹, symmetric, (n, n)."""
        memory.require(self.half.nbytes, "the inverse of the kernel")
        inverse = pieces.inverse_of_factor(self.half)
        pieces.square_in_place(inverse)
        arrays.mirror(inverse)
        return inverse

    def inverse_blocks(self, size: int) -> Array:
        """The blocks on the diagonal of K⁻¹ = L⁻ᵀ L⁻¹, (n/size, size, size), in half the time that all of it takes."""
        memory.require(self.half.nbytes, "the inverse of a Cholesky factor")
        n = len(self.half)
        columns = pieces.inverse_of_factor(self.half).T
        found = np.empty((n // size, size, size), columns.dtype)
        for some in arrays.blocks(n // size, max(1, 256 // size)):
            rows = slice(some.start * size, some.stop * size)
            part = columns[rows, rows.start :]  # before these entries L⁻¹ is 0
            part = part.reshape(-1, size, part.shape[1])
            found[some] = part @ part.transpose(0, 2, 1)
        return found

    def matrix(self) -> Array:
        """K, restored from the triangle that was not written to; the factor is lost."""
        K = self.half
        arrays.mirror(K.T)
        np.fill_diagonal(K, self.matrix_diagonal)
        return K


def cholesky(
    K: Array, *, overwrite: bool = False, rcond: float | None = None, progress: Progress = None
) -> Cholesky | None:
    """The Cholesky factor, or None (and K unchanged) if K is not positive definite beyond rounding.

    Beyond rounding means that its reciprocal condition number (estimated, 1-norm) is above rcond, by default
    N eps. That is safe: the condition number in the 1-norm is at least the ratio of the eigenvalues. After an interrupt
    K is unchanged, too.
    """
    return attempt(K, overwrite=overwrite, rcond=rcond, progress=progress)[0]


def attempt(
    K: Array, *, overwrite: bool = False, rcond: float | None = None, progress: Progress = None
) -> tuple[Cholesky | None, Array]:
    """As `cholesky`; with None, also a vector v (n,) of small or negative vᵀKv, to say by how much K fails."""
    A = fortran(K, overwrite, "a Cholesky factor")
    norm = _norm(A)
    factor = Cholesky(A, A.diagonal().copy())
    rcond = len(A) * float(np.finfo(A.dtype).eps) if rcond is None else rcond
    try:
        pivot = pieces.factor_in_place(A, progress)
        if pivot:
            direction = _downwards(A, pivot)
        else:
            factor.lowest = 1 / factor.inverse_norm()
            if factor.lowest > rcond * norm:
                return factor, np.empty(0, A.dtype)
            direction = factor.solve(np.random.default_rng(0).standard_normal(len(A)).astype(A.dtype))
        if overwrite:
            factor.matrix()
    except BaseException:  # also where restoring it was interrupted
        if overwrite:
            factor.matrix()
        raise
    return None, direction


def _norm(A: Array) -> float:
    """‖A‖₁."""
    lange = scipy.linalg.get_lapack_funcs("lange", (A,))
    return max(float(lange("1", A[:, some])) for some in arrays.blocks(len(A), max(1, pieces.ENTRIES // len(A))))


def _downwards(A: Array, pivot: int) -> Array:
    """v = (-A₁₁⁻¹ a, 1, 0), (n,), where factoring stopped at A₁₁'s next column a: vᵀAv is that pivot, not above 0."""
    before, v = pivot - 1, np.zeros(len(A), A.dtype)
    v[before] = 1
    if before:
        v[:before] = -pieces.solve_triangular(A[:before, :before], A[before, :before], trans=True)
    return v


@dataclass(frozen=True)
class Eigen(Saved):
    """K = V diag(μ) Vᵀ, μ ascending and exactly 0 in the null space. Solving leaves the null space out.

    The largest entry of every eigenvector in absolute value (the first of them) is positive.
    """

    values: Array  # (n,)
    vectors: Array  # (n, n)
    floor: float  # eigenvalues up to here count as 0
    error: float  # estimated 2-norm of the error of K; 0 if no eigenvalue is negative

    @classmethod
    def rebuilt(cls, values: Any, vectors: Any, floor: Any, error: Any) -> Eigen:
        values = checked_array(values, (None,), "values")
        vectors = checked_array(vectors, (len(values), len(values)), "vectors", values.dtype)
        return cls(values, vectors, checked(floor, float, "floor"), checked(error, float, "error"))

    def solve(self, B: Array) -> Array:
        inverse = np.divide(1, self.values, out=np.zeros_like(self.values), where=self.values > 0)
        return pieces.product(self.vectors, (inverse * pieces.product(self.vectors.T, B).T).T)

    @cached_property
    def half(self) -> Array:
        rank = np.count_nonzero(self.values)
        return self.vectors[:, len(self.values) - rank :] * np.sqrt(self.values[len(self.values) - rank :])

    def half_solve(self, B: Array) -> Array:
        rank = self.half.shape[1]
        return (pieces.product(self.half.T, B).T / self.values[len(self.values) - rank :]).T


def eigenpairs(A: Array, n_largest: int | None = None) -> tuple[Array, Array]:
    """Eigenvalues (ascending) and orthonormal eigenvectors of the symmetric A (Fortran order), which is overwritten.

    n_largest: only those of the largest eigenvalues.

    Uses LAPACK's syevd (divide and conquer), the fastest for all of them, whose eigenvectors are orthonormal to
    rounding. It needs 2 N² more numbers, a count that overflows LAPACK's integers from N = 32767. For larger matrices,
    without that memory, and for some eigenvectors only, syevr, whose VᵀV in float32 is off by up to 1e-2.
    """
    n = len(A)
    if n_largest in (None, n) and n <= MOST_DIVIDED and memory.fits(2 * A.nbytes):
        values, vectors = scipy.linalg.eigh(A, driver="evd", overwrite_a=True, check_finite=False)
        return values, vectors
    memory.require(n * (n_largest or n) * A.dtype.itemsize, "the eigenvectors")
    subset = None if n_largest is None else [n - n_largest, n - 1]
    values, vectors = scipy.linalg.eigh(A, driver="evr", subset_by_index=subset, overwrite_a=True, check_finite=False)
    if vectors.shape[1] < (n_largest or n):  # of many equal eigenvalues, in float32
        raise np.linalg.LinAlgError(
            f"LAPACK found {vectors.shape[1]} of {n_largest or n} eigenvectors in {A.dtype}; use float64 or fewer"
        )
    _orthonormalise(vectors, A)
    return values, vectors


def _orthonormalise(V: Array, scratch: Array) -> None:
    """Newton's iteration V ← V - V (VᵀV - I)/2, in place, for columns that are nearly orthonormal.

    Eigenvectors remain as good as they were: with residuals R = K V - V Λ, (λ_i - λ_j)(VᵀV)_ij is of the size of R, so
    that only vectors of almost equal eigenvalues are mixed.
    """
    k = V.shape[1]
    for _ in range(5):  # quadratic convergence
        E = np.matmul(V.T, V, out=scratch[:k, :k])
        E[np.diag_indices(k)] -= 1
        if max(E.max(), -E.min()) <= 64 * np.finfo(V.dtype).eps:
            break
        E *= 0.5
        for rows in arrays.blocks(len(V), pieces.TILE):
            V[rows] -= V[rows] @ E


def eigen(K: Array, name: str, *, overwrite: bool = False) -> Eigen:
    """The eigendecomposition of K."""
    values, vectors = eigenpairs(fortran(K, overwrite, "an eigendecomposition"))
    arrays.fix_signs(vectors)
    values, floor, error = definiteness.semi_definite(values, name)
    return Eigen(values, vectors, floor, error)


def factor(K: Array, name: str) -> Factor:
    """Cholesky's factor if K is positive definite beyond rounding, else the eigendecomposition."""
    found = cholesky(K)
    if found is None:
        return eigen(K, name)
    for rows in arrays.blocks(len(K)):
        found.half[rows, rows.stop :] = 0
        found.half[rows, rows] = np.tril(found.half[rows, rows])
    return found


def smallest_eigenvalue(K: Array) -> float:
    """λ_min of the symmetric K, by LAPACK's syevr for one eigenvalue."""
    A = fortran(K, False, "an eigenvalue")
    return float(
        scipy.linalg.eigh(A, eigvals_only=True, subset_by_index=[0, 0], overwrite_a=True, check_finite=False)[0]
    )
