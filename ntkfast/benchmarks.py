"""The figures of the README, measured: every one is a ratio of two things timed in turn, in one run."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ntkfast.engine.problem import Problem
from ntkfast.finite import passes
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.training import Descent
from ntkfast.infinite.kernels import kernels, ntk
from ntkfast.infinite.operator import KernelOperator
from ntkfast.networks import MLP

RELU, DEEP = MLP(depth=4, bias_std=0.1), MLP(depth=20, bias_std=0.1)
ERF = MLP(depth=4, activation="erf", bias_std=0.1)


@dataclass(frozen=True)
class Case:
    """`name`: seconds of `ours` over seconds of `reference`, and the bound that the project sets itself."""

    name: str
    ours: Callable
    reference: Callable
    bound: float
    at_least: bool = False
    size: int | None = None  # the n for which the bound is meant; None: any


def points(n, d, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d), dtype=dtype)


def cases(n):
    """All cases at n points; created one after the other, since each holds large arrays.

    Below n = 8000 the finite networks are narrower than those for which their bounds are meant.
    """
    yield from (replace(case, size=8000) for case in limit_cases(n))
    yield from small_cases()
    yield from (replace(case, size=50000) for case in operator_cases(n))
    share = min(1.0, n / 8000)
    finite = finite_cases(width=max(1, round(1024 * share)), wide=max(1, round(10000 * share)))
    yield from finite if share == 1 else (replace(case, size=8000) for case in finite)


def limit_cases(n):
    for d, double, single_bound in ((784, 1.08, 0.98), (20, 0.74, 0.63)):
        X, K = points(n, d, "f8"), np.zeros((n, n))
        x, k = points(n, d, "f4"), np.zeros((n, n), "f4")

        def full(net=RELU, X=X, K=K, **options):
            return ntk(net, X, out=K, progress=False, **options)

        def single(x=x, k=k):
            return ntk(RELU, x, out=k, progress=False)

        name = f"ntk / numpy X @ X.T, d={d}"
        yield Case(f"{name}, float64", full, lambda X=X, K=K: np.matmul(X, X.T, out=K), double)
        yield Case(f"{name}, float32", single, lambda x=x, k=k: np.matmul(x, x.T, out=k), single_bound)
        yield Case(f"float64 / float32, d={d}", full, single, 1.6, at_least=True)
        if d == 784:
            yield Case(
                "one thread / two threads, d=784",
                lambda f=full: f(n_threads=1),
                lambda f=full: f(n_threads=2),
                1.8,
                True,
            )
            Y = points(n, d, "f8", seed=1)
            yield Case(
                "ntk(X, Y) / numpy X @ Y.T, float64, d=784",
                lambda X=X, Y=Y, K=K: ntk(RELU, X, Y, out=K, progress=False),
                lambda X=X, Y=Y, K=K: np.matmul(X, Y.T, out=K),
                1.2,
            )
        else:
            L = np.zeros((n, n))
            yield Case(
                "nngp and ntk / ntk, d=20",
                lambda X=X, K=K, L=L: kernels(RELU, X, out=(K, L), progress=False),
                full,
                1.6,
            )
            yield Case("depth 20 / depth 4, d=20", lambda f=full: f(DEEP), full, 6.0)
            yield Case("erf / relu, d=20", lambda f=full: f(ERF), full, 1.5)
            sphere = X * (np.sqrt(d) / np.linalg.norm(X, axis=1, keepdims=True))
            for name, bound in (
                ("gelu", 2.0),
                ("sin", 2.0),
                ("tanh", 2.5),
                ("softplus", 2.5),
                ("silu", 2.5),
                ("hardtanh", 10.0),
            ):
                net = MLP(depth=4, activation=name, bias_std=0.1)
                yield Case(f"{name} / relu, d=20", lambda f=full, net=net: f(net), full, bound)
                if bound == 2.5:
                    yield Case(
                        f"{name} / relu, d=20, constant norm",
                        lambda f=full, net=net, X=sphere: f(net, X),
                        lambda f=full, X=sphere: f(X=X),
                        1.5,
                    )
            try:
                from sklearn.metrics.pairwise import rbf_kernel
            except ImportError:
                continue
            yield Case("ntk / sklearn rbf_kernel, float64, d=20", full, lambda X=X: rbf_kernel(X), 1.0)


def small_cases():
    """The cost of a call with few pairs: preparing points and the data of Hermite series."""
    X = points(100, 20, "f8")
    for name in ("tanh", "silu", "softplus", "elu"):
        net = MLP(depth=4, activation=name, bias_std=0.1)

        def several(net=net):
            for _ in range(20):
                ntk(net, X, progress=False)

        yield Case(f"{name} / relu, d=20, n=100, 20 calls", several, lambda f=several: f(RELU), 5.0)


def operator_cases(n):
    """Products without the matrix: compared with the same pairs without writing, and many vectors with one."""
    X = points(n, 100, "f4")
    K, problem = KernelOperator(RELU, X, progress=False), Problem(RELU, X)
    v, V = points(n, 1, "f4"), points(n, 16, "f4")
    name = "kernel operator, float32, d=100"
    yield Case(f"{name}: one vector / pairs alone", lambda: K @ v, lambda: problem.run(None, "ntk", show=False), 1.3)
    yield Case(f"{name}: 16 vectors / one", lambda: K @ V, lambda: K @ v, 1.25)


def finite_cases(width=1024, wide=10000):
    """Networks of finite width against NumPy's time for the same matrix products alone."""
    n, d = 1000, 784
    X = points(n, d, "f4")
    for k in (1, 10):
        f = FiniteNetwork.init(RELU, d, width, k, rng=0, dtype=np.float32)
        inputs = [X, *(points(n, width, "f4", seed) for seed in range(3))]
        sensitivities = [points(n, k * width, "f4", seed) for seed in range(3)]

        def products(f=f, inputs=inputs, sensitivities=sensitivities, width=width):
            for x, weight in zip(inputs, f.weights, strict=True):
                x @ weight.T
            for b, weight in zip(sensitivities[1:], f.weights[1:3], strict=True):
                b.reshape(-1, width) @ weight
            for factor in inputs + sensitivities:
                factor @ factor.T  # NumPy computes half of it

        name = f"empirical_ntk / its products in NumPy, float32, 3 x {width}, {k} output{'s' * (k > 1)}"
        yield Case(name, lambda f=f: empirical_ntk(f, X, progress=False), products, 1.15)
    f = FiniteNetwork.init(RELU, d, wide, rng=0, dtype=np.float32)
    x, y = points(64, d, "f4"), points(64, 1, "f4")
    descent = Descent(f, 1e-3 / 64, 0.0)

    def step():
        tape = []
        descent.step(tape, passes.forward(f, x, tape) - y)

    a, gradient = points(64, wide, "f4"), np.empty((wide, wide), "f4")

    def six_products():
        for weight in f.weights[1:3]:
            a @ weight.T
            a @ weight
            np.matmul(a.T, a, out=gradient)

    yield Case(f"training step / its six products, float32, width {wide}, N=64", step, six_products, 1.5)


def measure(case, repeats=5):
    """Median seconds of both sides, timed in turn after a warm-up, and the median of the ratios."""
    ours, reference = [], []
    for k in range(repeats + 1):
        for function, times in ((case.ours, ours), (case.reference, reference)):
            start = time.perf_counter()
            function()
            if k:
                times.append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(ours, reference, strict=True)]
    return statistics.median(ours), statistics.median(reference), statistics.median(ratios)


def peak_memory(n=8000, d=784):
    """MiB that one call takes above its input and output, measured in a process of its own."""
    # -P: a checkout in the working directory is not the installed package
    code = f"from ntkfast import benchmarks; print(benchmarks._growth({n}, {d}))"
    return float(subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True).stdout)


def _growth(n, d):
    ntk(RELU, points(10, d, "f8"))  # threads, BLAS and caches of the interpreter
    X, K = points(n, d, "f8"), np.ones((n, n))
    before = _peak()
    ntk(RELU, X, out=K, progress=False)
    return (_peak() - before) / 2**20


def _peak():
    """Bytes. VmHWM where there is one: ru_maxrss starts from the parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
