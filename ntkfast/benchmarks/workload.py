"""What is timed: a name, and the call that is prepared for a size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkfast.benchmarks.limits import Work
from ntkfast.networks import MLP

Call = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """`make(n)` prepares the data and returns the call. `work(n)`: what it takes at least; None: no count is known."""

    name: str
    group: str
    make: Callable[[int], Call]
    work: Callable[[int], tuple[Work, ...]] | None = None
    n_threads: int | None = None  # None: all


def points(n: int, d: int, dtype: str, seed: int = 0) -> NDArray[np.floating]:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.dtype(dtype).type)


DTYPES = {"f8": "float64", "f4": "float32"}
RELU = MLP(depth=4, bias_std=0.1)
