"""Classes as targets of least squares, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.support.typing import Array


def targets(codes: NDArray[np.integer[Any]], k: int) -> Array:
    """Classes 0 … k-1, (n,), as columns: one-hot minus 1/k, (n, k); two classes as ±1 in one column, (n, 1)."""
    return 2.0 * codes[:, None] - 1 if k == 2 else np.eye(k)[codes] - 1 / k


def scores(columns: Array) -> Array:
    """Learned `targets` as one column for each class, of which the largest is the class."""
    return np.concatenate([-columns / 2, columns / 2], axis=1) if columns.shape[1] == 1 else columns
