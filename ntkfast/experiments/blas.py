"""How many BLAS threads the experiments use."""

from __future__ import annotations

import contextlib

from ntkfast.engine import threads

__all__ = ["blas_threads"]


def blas_threads(width: int, n: int) -> contextlib.AbstractContextManager[object]:
    """One thread where products of networks of this width at n points are too small for more."""
    return threads.blas(None, 2 * width**2 * n)
