"""Matrix products in place, all with SciPy's BLAS: NumPy's has its own threads, and two pools wait for each other."""

import numpy as np
import scipy

_LETTER = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}

LONGEST = 2**30  # the longest vectors that BLAS takes: it counts in 32 bits


def product(a, b, alpha=1.0, beta=0.0, out=None):
    """out ← alpha a b + beta out, without copies; a new array if out is None.

    a (m, k) and b (k, n) are C-contiguous or transposes of such arrays, out (m, n) is C-contiguous; all of one dtype.
    """
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    # BLAS is column-major: outᵀ ← alpha bᵀ aᵀ + beta outᵀ
    (left, trans_left), (right, trans_right) = _as_columns(b), _as_columns(a)
    _routine("gemm", out.dtype)(alpha, left, right, beta, out.T, trans_left, trans_right, overwrite_c=1)
    return out


def _routine(name, dtype):
    return getattr(scipy.linalg.blas, _LETTER[dtype] + name)


def _as_columns(matrix):
    """The transpose of matrix as a column-major array and whether BLAS has to transpose it."""
    return (matrix.T, 0) if matrix.flags.c_contiguous else (matrix, 1)


def add(x, out, alpha):
    """out ← out + alpha x for C-contiguous arrays of one shape and dtype, without a temporary."""
    axpy = _routine("axpy", out.dtype)
    rows = max(1, LONGEST // out[0].size)
    for first in range(0, len(out), rows):
        axpy(x[first : first + rows].reshape(-1), out[first : first + rows].reshape(-1), a=alpha)
