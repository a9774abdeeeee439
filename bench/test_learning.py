"""pytest bench: the least-squares flow against SciPy computing the same numbers (pytest-benchmark).

Groups compare within one run; no test depends on timing. The project promises: all times for at most 1.3 times the cost
of an eigendecomposition and two matrix products, t = inf for at most 1.15 times the cost of a Cholesky solution.
"""

import numpy as np
import pytest
from scipy import linalg

import ntkfast as nf
from ntkfast.benchmarks import RELU, points
from ntkfast.learning.flow import LeastSquaresFlow

N, NEW, OUTPUTS = 4000, 1000, 10
TIMES = np.geomspace(0.1, 1e6, 100)


@pytest.fixture(scope="module")
def problem():
    X = points(N + NEW, 20, "f8")
    K = nf.ntk(RELU, X)
    return K[:N, :N].copy(), K[N:, :N].copy(), np.random.default_rng(0).normal(size=(N, OUTPUTS))


def by_eigh(K, K_tx, y):
    """The eigendecomposition and the two products alone."""
    values, vectors = linalg.eigh(K)
    weights = -np.expm1(-np.outer(values, TIMES) / N) / values[:, None]
    block = (vectors.T @ y)[:, None, :] * weights[:, :, None]
    return (K_tx @ vectors) @ block.reshape(N, -1)


@pytest.mark.parametrize("what", ["scipy", "flow"])
def test_100_times(benchmark, what, problem):
    benchmark.group = f"N={N}, {len(TIMES)} times, {NEW} new points, {OUTPUTS} outputs"
    K, K_tx, y = problem
    run = (lambda: by_eigh(K, K_tx, y)) if what == "scipy" else (lambda: LeastSquaresFlow(K, y).mean(TIMES, K_tx))
    benchmark.pedantic(run, rounds=3)


@pytest.mark.parametrize("what", ["scipy", "flow"])
def test_forever(benchmark, what, problem):
    benchmark.group = f"N={N}, t=inf, {NEW} new points, {OUTPUTS} outputs"
    K, K_tx, y = problem
    if what == "scipy":
        benchmark(lambda: K_tx @ linalg.cho_solve(linalg.cho_factor(K), y))
    else:
        benchmark(lambda: LeastSquaresFlow(K, y).mean(np.inf, K_tx))
