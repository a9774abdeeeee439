"""How the time of a ReLU kernel grows: exponents of N, d, depth and threads, fitted in logarithms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntkfast.benchmarks.limit import growing
from ntkfast.benchmarks.limits import best, thread_counts


@dataclass(frozen=True)
class Growth:
    """seconds ~ size ** exponent."""

    of: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    expected: float

    @property
    def exponent(self) -> float:
        """The slope of the least-squares line through the logarithms; NaN for a single size."""
        if len(self.sizes) < 2:
            return math.nan
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])


def axes(n: int) -> tuple[tuple[str, Sequence[int], float, dict[str, int]], ...]:
    """What grows, through which sizes, with which exponent, and what stays, so that it takes most of the time."""
    return (
        ("N", (n // 4, n // 2, n), 2.0, {}),
        ("d", (n // 4, n // 2, n), 1.0, {"n": n // 4}),
        ("depth", (4, 8, 16), 1.0, {"n": n // 2}),  # deeper ones bring all points close together
        ("threads", thread_counts(), -1.0, {"n": n}),
    )


ARGUMENT = {"N": "n", "d": "d", "depth": "depth", "threads": "n_threads"}


def measure(n: int, tries: int) -> list[Growth]:
    """All of them; each time is the best of some tries."""
    found = []
    for of, sizes, expected, fixed in axes(n):
        seconds = tuple(best(growing(**fixed, **{ARGUMENT[of]: size}), tries) for size in sizes)
        found.append(Growth(of, tuple(sizes), seconds, expected))
    return found
