"""Matrix products in place. All of SciPy's BLAS: NumPy's has threads of its own, and two pools wait for each other."""

import numpy as np
from scipy.linalg import blas

_GEMM = {np.dtype(np.float32): blas.sgemm, np.dtype(np.float64): blas.dgemm}
_AXPY = {np.dtype(np.float32): blas.saxpy, np.dtype(np.float64): blas.daxpy}

LONGEST = 2**30  # vectors that BLAS takes: it counts in 32 bits


def product(a, b, alpha=1.0, beta=0.0, out=None):
    """out ← alpha a b + beta out, nothing copied; a new array if out is None.

    a (m, k) and b (k, n) are C-contiguous or transposes of such, out (m, n) is C-contiguous; one dtype.
    """
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    # BLAS counts columns first: outᵀ ← alpha bᵀ aᵀ + beta outᵀ
    (left, trans_left), (right, trans_right) = _as_columns(b), _as_columns(a)
    _GEMM[out.dtype](alpha, left, right, beta, out.T, trans_left, trans_right, overwrite_c=1)
    return out


def _as_columns(matrix):
    """The transpose of matrix as a column-major array and whether BLAS has to transpose it."""
    return (matrix.T, 0) if matrix.flags.c_contiguous else (matrix, 1)


def add(x, out, alpha):
    """out ← out + alpha x for C-contiguous arrays of one shape and dtype, without a temporary."""
    rows = max(1, LONGEST // out[0].size)
    for first in range(0, len(out), rows):
        _AXPY[out.dtype](x[first : first + rows].reshape(-1), out[first : first + rows].reshape(-1), a=alpha)
