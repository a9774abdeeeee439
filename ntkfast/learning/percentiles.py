"""Percentiles of Gaussian variables: the mean plus quantiles of N(0, 1) times the standard deviation."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ntkfast.support import arrays
from ntkfast.support.typing import Array


def quantiles(levels: ArrayLike) -> Array:
    """Φ⁻¹(p/100) for each p of levels, in their order."""
    p = arrays.real(levels, "levels").astype(np.float64)
    good = (p > 0) & (p < 100)
    if p.ndim != 1 or not p.size or not good.all():
        got = f"{p[~good][0]:g}" if p.ndim == 1 and p.size else f"shape {p.shape}"
        raise ValueError(f"levels: expected a list of numbers in (0, 100), got {got}")
    q: Array = scipy.special.ndtri(p / 100)
    return q


def bands(mean: Array, variance: Array, quantiles: Array) -> Array:
    """For a mean (..., m) or (..., m, outputs) and variances (..., m): one band for each quantile, (levels, ...)."""
    spread = np.sqrt(variance)
    spread = spread if spread.ndim == mean.ndim else spread[..., None]
    return np.stack([mean + q * spread for q in quantiles]).astype(mean.dtype)
