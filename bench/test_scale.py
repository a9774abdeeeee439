"""pytest bench: many points. Nyström regression in one pass, FALKON, preconditioned iterations.

Small by default; NTKFAST_SCALE=50 multiplies the number of points. Groups compare within one run; no test depends on
timing.
"""

import os

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.benchmarks.workload import RELU, points

N, CENTERS, D = 2000 * int(os.environ.get("NTKFAST_SCALE", "1")), 500, 20
ALPHA = 1.0


@pytest.fixture(scope="module")
def data():
    X = points(N, D, "f4")
    return X, np.sin(X[:, 0]) * X[:, 1] + 0.1 * np.random.default_rng(1).standard_normal(N)


@pytest.mark.parametrize("what", ["direct", "loo", "falkon"])
def test_nystrom(benchmark, what, data):
    benchmark.group = f"N={N}, {CENTERS} centres, d={D}, float32"
    method, alpha = ("falkon", ALPHA) if what == "falkon" else ("direct", "loo" if what == "loo" else ALPHA)
    model = nf.NystromRegression(RELU, CENTERS, alpha, method=method, rng=0)
    benchmark.pedantic(lambda: model.fit(*data), rounds=3)
    benchmark.extra_info.update(iterations=model.solution.iterations, residual=model.solution.residual)


@pytest.mark.parametrize("rank", [0, 100, 400])
def test_iterations(benchmark, rank, data):
    X, y = data
    benchmark.group = f"N={min(N, 20000)}, conjugate gradients, d={D}, float32"
    K = nf.KernelOperator(RELU, X[:20000])
    found = benchmark.pedantic(lambda: nf.solve(K, y[:20000], ALPHA, method="cg", rank=rank, rng=0), rounds=1)
    benchmark.extra_info.update(iterations=found.iterations, residual=found.residual)
    assert found.converged
