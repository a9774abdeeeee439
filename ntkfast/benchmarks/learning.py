"""Workloads of learning with kernels, with SciPy's for the same numbers."""

import numpy as np
import scipy.linalg

from ntkfast.benchmarks.limit import kernel_work
from ntkfast.benchmarks.limits import Work
from ntkfast.benchmarks.workload import RELU, Workload, points
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.learning.solvers.nystrom import NystromRegression
from ntkfast.learning.solvers.solve import solve

TIMES, OUTPUTS = np.geomspace(0.1, 1e6, 100), 10


def regression(n):
    """A kernel of n/4 points, n/16 new ones, targets."""
    known = max(2, n // 4)
    X = points(known + max(1, n // 16), 20, "f8")
    K = ntk(RELU, X, progress=False)
    return K[:known, :known].copy(), K[known:, :known].copy(), points(known, OUTPUTS, "f8", seed=1)


def by_eigh(K, K_tx, y):
    """What `LeastSquaresFlow` computes, by the eigendecomposition and two products alone."""
    values, vectors = scipy.linalg.eigh(K)
    weights = -np.expm1(-np.outer(values, TIMES) / len(K)) / values[:, None]
    block = (vectors.T @ y)[:, None, :] * weights[:, :, None]
    return (K_tx @ vectors) @ block.reshape(len(K), -1)


def learning(name, group, call, work=None):
    def make(n):
        data = regression(n)
        return lambda: call(*data)

    return Workload(name, group, make, work)


def cholesky_work(n):
    """A factor, and predictions."""
    known, new = max(2, n // 4), max(1, n // 16)
    return (Work(gemm=known**3 / 3 + 2.0 * OUTPUTS * known * (known + new)),)


def nystrom_sizes(n):
    return 2 * n, max(2, n // 16)


def nystrom():
    def make(n):
        many, centres = nystrom_sizes(n)
        X = points(many, 20, "f4")
        y = np.sin(X[:, 0]) * X[:, 1]

        def fit():
            NystromRegression(RELU, centres, 1.0, method="direct", rng=0, progress=False).fit(X, y)

        return fit

    def work(n):
        many, centres = nystrom_sizes(n)
        kernel = kernel_work(many, centres, d=20, dtype="f4", written=False)
        return (kernel, Work(syrk=float(many) * centres**2, gemm=9.0 * centres**3))

    return Workload("NystromRegression, direct, 2 n points, n/16 centres, float32", "Nyström", make, work)


def nystrom_syrk():
    """The products of one pass, on panels in memory."""

    def make(n):
        many, centres = nystrom_sizes(n)
        panel, G = np.ones((1024, centres)), np.zeros((centres, centres), order="F")

        def syrk():
            for _ in range(0, many, len(panel)):
                scipy.linalg.blas.dsyrk(1.0, panel.T, beta=1.0, c=G, lower=1, overwrite_c=1)

        return syrk

    def work(n):
        many, centres = nystrom_sizes(n)
        return (Work(syrk=float(many) * centres**2),)

    return Workload("scipy: the SYRK of that pass", "Nyström", make, work)


WORKLOADS = (
    learning("LeastSquaresFlow, n/4 points, 100 times", "flow", lambda K, k, y: LeastSquaresFlow(K, y).mean(TIMES, k)),
    learning("scipy eigh and two products", "flow", by_eigh),
    learning(
        "LeastSquaresFlow, n/4 points, t=inf",
        "flow, t=inf",
        lambda K, k, y: LeastSquaresFlow(K, y).mean(np.inf, k),
        cholesky_work,
    ),
    learning(
        "solve by Cholesky, n/4 points",
        "flow, t=inf",
        lambda K, k, y: k @ solve(K, y, 1e-6, method="cholesky", progress=False).dual_coefficients,
        cholesky_work,
    ),
    learning(
        "scipy cho_solve",
        "flow, t=inf",
        lambda K, k, y: k @ scipy.linalg.cho_solve(scipy.linalg.cho_factor(K), y),
        cholesky_work,
    ),
    nystrom(),
    nystrom_syrk(),
)
