"""Products, triangular systems and Cholesky's factor in pieces of a twentieth of a second on one core, between which
Ctrl-C is heard: BLAS and LAPACK hear nothing before a call ends. What one piece holds is left to them at once.
"""

from __future__ import annotations

import numpy as np

from ntkfast.learning import blas
from ntkfast.support import arrays
from ntkfast.support.progress import reporter
from ntkfast.support.typing import Array, DType, Progress

TILE = 768
OPERATIONS = TILE**3  # multiplications of a piece, or up to four times as many
ENTRIES = 2**22  # read or copied by a piece
ROWS, COLUMNS = 128, 512
AT_ONCE = 1536  # a matrix up to this size is factored by one call


def product(A: Array, B: Array) -> Array:
    """A B for A (m, k) and B (k, q) or (k,)."""
    m, k = A.shape
    q, shape = B.size // max(k, 1), (m, *B.shape[1:])
    if m * k * q <= 2 * OPERATIONS and A.size <= 2 * ENTRIES:
        return np.asarray(A @ B)
    B = B.reshape(k, q)
    result = np.empty((m, q), np.result_type(A, B))
    for columns in _even(q, min(COLUMNS, max(32, OPERATIONS // (ROWS * k)))):
        right = B[:, columns]
        for rows in arrays.blocks(m, max(ROWS, min(OPERATIONS // right.size, ENTRIES // k))):
            np.matmul(A[rows], right, out=result[rows, columns])
    return result.reshape(shape)


def square(A: Array) -> Array:
    """A Aᵀ, symmetric."""
    m, k = A.shape
    if m * m * k <= 4 * OPERATIONS:
        return np.asarray(A @ A.T)
    result = np.empty((m, m), A.dtype)
    parts = arrays.blocks(m, COLUMNS)
    for j, rows in enumerate(parts):
        for columns in parts[: j + 1]:
            result[rows, columns] = product(A[rows], A[columns].T)
    arrays.mirror(result)
    return result


def add_square(C: Array, A: Array) -> None:
    """C ← C + A Aᵀ, on and below the diagonal, in place, both in Fortran order."""
    m, k = A.shape
    tiles = _even(m, m if m * m * k <= 8 * OPERATIONS else TILE)
    for number, columns in enumerate(tiles):
        blas.add_square(C[columns, columns], 1.0, A[columns])
        for rows in tiles[number + 1 :]:
            blas.add_product(C[rows, columns], 1.0, A[rows], A[columns], trans_b=True)


def subtract_product(C: Array, A: Array, B: Array, trans_a: bool = False) -> None:
    """C ← C - A B, in place, for blocks of matrices in Fortran order."""
    for columns in arrays.blocks(C.shape[1], COLUMNS):
        for rows in arrays.blocks(len(C), TILE):
            for inner in arrays.blocks(len(B), TILE):
                left = A[inner, rows] if trans_a else A[rows, inner]
                blas.add_product(C[rows, columns], -1.0, left, B[inner, columns], trans_a)


def _even(n: int, most: int) -> list[slice]:
    """Blocks of nearly one size: products with a single column of several are slow."""
    return arrays.blocks(n, max(1, -(-n // max(1, -(-n // most)))))


def copy(A: Array, dtype: DType) -> Array:
    """A copy in Fortran order."""
    result = np.empty(A.shape, dtype, order="F")
    for columns in arrays.blocks(A.shape[1], max(1, ENTRIES // max(1, len(A)))):
        result[:, columns] = A[:, columns]
    return result


def factor_in_place(A: Array, progress: Progress) -> int:
    """Write the Cholesky factor over A's lower triangle (Fortran order); return the pivot (from 1) that failed, or 0.

    A large A is factored tile by tile, each from those to its left.
    """
    n = len(A)
    if n <= AT_ONCE:
        return blas.factor(A)
    tiles = arrays.blocks(n, TILE)
    m, done = len(tiles), 0
    with reporter(progress, "Cholesky factor") as report:
        for k, columns in enumerate(tiles):
            for rows in tiles[k:]:
                tile = A[rows, columns]
                for before in tiles[:k]:
                    if rows == columns:
                        blas.add_square(tile, -1.0, A[rows, before])
                    else:
                        blas.add_product(tile, -1.0, A[rows, before], A[columns, before], trans_b=True)
                if rows != columns:
                    blas.solve_triangular(A[columns, columns], tile, trans=True, from_right=True)
                elif failed := blas.factor(tile):
                    return int(columns.start + failed)
                done += k + 1
                if report is not None:
                    report(done, m * (m + 1) * (m + 2) // 6)
    return 0


def solve_triangular(L: Array, B: Array, trans: bool = False) -> Array:
    """L⁻¹ B or L⁻ᵀ B in Fortran order, B (n, q) or (n,). What is above L's diagonal is not read."""
    return _solved(L, B, (trans,))


def solve(L: Array, B: Array) -> Array:
    """(L Lᵀ)⁻¹ B."""
    return _solved(L, B, (False, True))


def _solved(L: Array, B: Array, steps: tuple[bool, ...]) -> Array:
    """B after a multiplication by L⁻¹ (False) or L⁻ᵀ (True) for each step."""
    X = copy(B if B.ndim == 2 else B[:, None], L.dtype)
    for trans in steps:
        solve_triangular_in_place(L, X, trans)
    return X.reshape(B.shape, order="F")


def solve_triangular_in_place(L: Array, X: Array, trans: bool = False) -> None:
    """X ← L⁻¹ X or L⁻ᵀ X, both in Fortran order."""
    n, q = X.shape
    if n * n * q <= 4 * OPERATIONS and n * n <= 4 * ENTRIES:
        blas.solve_triangular(L, X, trans)
        return
    tiles = arrays.blocks(n, TILE)
    for rows in reversed(tiles) if trans else tiles:
        known = slice(rows.stop, n) if trans else slice(0, rows.start)
        for columns in arrays.blocks(q, COLUMNS):
            part = X[rows, columns]
            subtract_product(part, L[known, rows] if trans else L[rows, known], X[known, columns], trans)
            blas.solve_triangular(L[rows, rows], part, trans)


def inverse_of_factor(L: Array) -> Array:
    """L⁻¹, lower, in Fortran order, with zeros above the diagonal."""
    n = len(L)
    X = np.zeros((n, n), L.dtype, order="F")
    for columns in arrays.blocks(n, COLUMNS // 2):
        part = X[columns.start :, columns]
        np.fill_diagonal(part, 1)
        solve_triangular_in_place(L[columns.start :, columns.start :], part)
    return X


def square_in_place(X: Array) -> None:
    """Write XᵀX over the lower X (Fortran order)."""
    tiles = arrays.blocks(len(X), COLUMNS)
    for k, rows in enumerate(tiles):  # those below need nothing of what these overwrite
        left = X[rows.start :, rows].T
        for columns in tiles[: k + 1]:
            X[rows, columns] = product(left, X[rows.start :, columns])
