"""What the project promises itself: ratios of two workloads, timed in turn, so that other work affects both."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ntkfast.benchmarks.workload import Call
from ntkfast.benchmarks.workloads import BY_NAME


@dataclass(frozen=True)
class Goal:
    """Seconds of one workload over those of the other are at most (or at least) this bound, where n is `size`."""

    over: str
    under: str
    bound: float
    at_least: bool = False
    size: int | None = 8000  # None: any

    @property
    def name(self) -> str:
        return f"{self.over} / {self.under}"

    @property
    def n_threads(self) -> int:
        """How many threads it takes."""
        return max(BY_NAME[name].n_threads or 1 for name in (self.over, self.under))

    def met(self, ratio: float, n: int) -> bool | None:
        """None: n is not the size for which the bound is meant."""
        if self.size not in (None, n):
            return None
        return ratio >= self.bound if self.at_least else ratio <= self.bound


def _outputs(k):
    return f"3 x 1024, float32, {k} output{'s' * (k > 1)}"


GOALS = (
    Goal("relu, d=784, float64", "numpy X @ X.T, d=784, float64", 1.08),
    Goal("relu, d=784, float32", "numpy X @ X.T, d=784, float32", 0.98),
    Goal("relu, d=20, float64", "numpy X @ X.T, d=20, float64", 0.74),
    Goal("relu, d=20, float32", "numpy X @ X.T, d=20, float32", 0.63),
    Goal("relu, d=784, float64", "relu, d=784, float32", 1.6, at_least=True),
    Goal("relu, d=20, float64", "relu, d=20, float32", 1.6, at_least=True),
    Goal("relu, d=784, 1 thread", "relu, d=784, 2 threads", 1.8, at_least=True),
    Goal("relu of X and Y, d=784", "numpy X @ Y.T, d=784", 1.2),
    Goal("nngp and ntk, d=20", "relu, d=20, float64", 1.6),
    Goal("relu, depth 20, d=20", "relu, d=20, float64", 6.0),
    Goal("erf, d=20", "relu, d=20, float64", 1.5),
    Goal("gelu, d=20", "relu, d=20, float64", 2.0),
    Goal("sin, d=20", "relu, d=20, float64", 2.0),
    *(Goal(f"{name}, d=20", "relu, d=20, float64", 2.5) for name in ("tanh", "softplus", "silu")),
    Goal("hardtanh, d=20", "relu, d=20, float64", 10.0),
    *(Goal(f"{name}, d=20, constant norm", "relu, d=20, constant norm", 1.5) for name in ("tanh", "softplus", "silu")),
    Goal("relu, d=20, float64", "sklearn rbf_kernel, d=20", 1.0),
    *(
        Goal(f"{name}, d=20, n=100, 20 calls", "relu, d=20, n=100, 20 calls", 5.0, size=None)
        for name in ("tanh", "silu", "softplus", "elu")
    ),
    Goal("operator, d=100, float32: one vector", "operator, d=100, float32: pairs alone", 1.3, size=50000),
    Goal("operator, d=100, float32: 16 vectors", "operator, d=100, float32: one vector", 1.25, size=50000),
    *(
        Goal(f"empirical_ntk, {_outputs(k)}", f"numpy: the products of empirical_ntk, {_outputs(k)}", 1.15)
        for k in (1, 10)
    ),
    Goal("training step, width 10000, N=64, float32", "numpy: six products of a training step, float32", 1.5),
    Goal("LeastSquaresFlow, n/4 points, 100 times", "scipy eigh and two products", 1.3),
    Goal("LeastSquaresFlow, n/4 points, t=inf", "scipy cho_solve", 1.15),
)


def in_turn(calls: list[Call], repeats: int) -> Iterator[list[float]]:
    """Seconds of each call, timed one after the other, `repeats` times after a warm-up."""
    for k in range(repeats + 1):
        seconds = []
        for call in calls:
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        if k:
            yield seconds


def compare(calls: list[Call], repeats: int) -> tuple[list[float], float]:
    """The median seconds of two calls, and the median of the ratios of the first to the second."""
    seconds = list(in_turn(calls, repeats))
    return [statistics.median(column) for column in zip(*seconds, strict=True)], statistics.median(
        a / b for a, b in seconds
    )


def measure(goal: Goal, n: int, repeats: int) -> tuple[list[float], float]:
    """As `compare`, of the two workloads."""
    return compare([BY_NAME[name].make(n) for name in (goal.over, goal.under)], repeats)
