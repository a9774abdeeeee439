"""Extreme eigenvalues of symmetric matrices and operators, by LAPACK or by Lanczos's method."""

import numpy as np
import scipy

DENSE = 500  # up to this size LAPACK is as fast as Lanczos, and always converges


def largest_eigenvalue(matrix) -> float:
    """The largest eigenvalue of a symmetric matrix, or of a LinearOperator."""
    n = matrix.shape[0]
    if isinstance(matrix, scipy.sparse.linalg.LinearOperator) and n <= 10:  # too small for Lanczos
        matrix = matrix @ np.eye(n, dtype=matrix.dtype)
    if isinstance(matrix, np.ndarray) and n <= DENSE:
        return float(scipy.linalg.eigvalsh(matrix, subset_by_index=(n - 1, n - 1))[0])
    return float(_lanczos(matrix, "LA"))


def operator_norm(matrix: np.ndarray) -> float:
    """The largest absolute eigenvalue of a symmetric matrix."""
    if len(matrix) <= DENSE:
        return float(np.abs(scipy.linalg.eigvalsh(matrix)).max())
    return float(abs(_lanczos(matrix, "LM")))


def _lanczos(matrix, which):
    start = np.random.default_rng(0).standard_normal(matrix.shape[0]).astype(matrix.dtype)
    if not (matrix @ start).any():  # the matrix is 0, where ARPACK stops with an error
        return 0.0
    return scipy.sparse.linalg.eigsh(matrix, k=1, which=which, v0=start, return_eigenvectors=False)[0]
