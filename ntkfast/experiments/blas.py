"""How many BLAS threads the experiments use."""

from __future__ import annotations

import contextlib

import scipy.linalg  # noqa: F401 - threadpool_limits only finds libraries that are loaded
from threadpoolctl import threadpool_limits

__all__ = ["blas_threads", "threadpool_limits"]

BIG = 3e8  # multiplications in a product above which several threads pay off, even on a busy machine


def blas_threads(width: int, n: int) -> contextlib.AbstractContextManager[object]:
    """One thread where products of networks of this width at n points are too small for more."""
    return threadpool_limits(1, "blas") if width**2 * n < BIG else contextlib.nullcontext()
