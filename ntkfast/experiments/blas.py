"""How many BLAS threads the experiments use."""

from __future__ import annotations

import contextlib

from ntkfast.engine.threads import limited_blas

__all__ = ["blas_threads"]

BIG = 3e8  # multiplications in a product above which several threads pay off, even on a busy machine


def blas_threads(width: int, n: int) -> contextlib.AbstractContextManager[object]:
    """One thread where products of networks of this width at n points are too small for more."""
    return limited_blas(1 if width**2 * n < BIG else None)
