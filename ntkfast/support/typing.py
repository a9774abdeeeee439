"""Types that many signatures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "DType", "KernelName", "Memory", "Progress", "Seed"]

Array: TypeAlias = NDArray[np.floating[Any]]
DType: TypeAlias = np.dtype[np.floating[Any]]
KernelName: TypeAlias = Literal["ntk", "nngp"]
Memory: TypeAlias = int | str | None  # see support.memory.amount
Progress: TypeAlias = bool | Callable[[int, int], object] | None  # see support.progress.reporter
Seed: TypeAlias = int | np.random.Generator | None  # see support.scalars.generator
