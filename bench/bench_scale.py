"""python bench/bench_scale.py [CASE ...] [--points N] [--data DIR]: many points, beside a limit or a rival.

    nystrom    one pass with 5000 centres against its SYRK alone; FALKON against the direct solution
    falkon     20 iterations with 20000 centres
    cg         20000 digits of MNIST: iterations, and predictions against those of a Cholesky factor
    store      a matrix on disk against the same in memory and the disk alone
    dask       one worker against two, d = 200: time, and the scheduler's share of the CPU time
    peers      falkon and GPyTorch with an RBF kernel, where they are installed, on the problem of `nystrom`

The default is 10000 points, a hundredth of the full size. Run one case at a time on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import blas

import ntkfast as nf

NET = nf.MLP(4, "relu", 2**0.5, 0.1)
D, ALPHA = 20, 1.0


def data(n: int, d: int = D) -> tuple[Any, ...]:
    """Points, targets, and a tenth as many of both for testing, at most 100000."""
    rng, test = np.random.default_rng(0), min(n // 10, 100_000)
    X = rng.standard_normal((n + test, d), np.float32)
    y = np.sin(X[:, 0]) * X[:, 1] + 0.1 * rng.standard_normal(n + test)
    return X[:n], y[:n], X[n:], y[n:]


def timed(what: str, function: Callable[[], Any], flop: float = 0.0) -> Any:
    start = time.perf_counter()
    found = function()
    seconds = time.perf_counter() - start
    rate = f"  {flop / seconds / 1e9:7.1f} Gflop/s" if flop else ""
    print(f"{what:<58} {seconds:9.2f} s{rate}", flush=True)
    return found


def rmse(f: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((f - y) ** 2)))


def nystrom(n: int, folder: Path | None) -> None:
    X, y, T, t = data(n)
    m = min(5000, n // 20)

    def syrk() -> None:
        panel, G = np.ones((1024, m)), np.zeros((m, m), order="F")
        for _ in range(0, n, len(panel)):
            blas.dsyrk(1.0, panel.T, beta=1.0, c=G, lower=1, overwrite_c=1)

    print(f"{n} points, d = {D}, {m} centres, float32")
    timed("the SYRK of a pass alone, float64", syrk, float(n) * m**2)
    model = nf.NystromRegression(NET, m, ALPHA, method="direct", rng=0)
    timed("one pass: every ridge, variances, evidence", lambda: model.fit(X, y), float(n) * m**2)
    exact = timed(f"predictions at {len(T)} points", lambda: model.predict(T))
    other = nf.NystromRegression(NET, m, ALPHA, method="falkon", tol=1e-6, rng=0)
    timed("FALKON to 1e-6", lambda: other.fit(X, y))
    print(f"  {other.solution.iterations} iterations; RMSE direct {rmse(exact, t):.5f}, ", end="")
    difference = rmse(other.predict(T), exact) / rmse(exact, np.zeros_like(exact))
    print(f"FALKON {rmse(other.predict(T), t):.5f}; difference of predictions {difference:.1e} of their size")
    print(f"  memory beside the points, estimated: {model.solution.memory / 2**30:.2f} GiB")


def falkon(n: int, folder: Path | None) -> None:
    X, y, T, t = data(n)
    m = min(20000, n // 20)
    print(f"{n} points, d = {D}, {m} centres, float32")
    model = nf.NystromRegression(NET, m, ALPHA, method="falkon", tol=1e-300, max_iterations=20, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 20 iterations do not reach 1e-300
        timed("20 iterations of FALKON", lambda: model.fit(X, y))
    print(f"  residual {model.solution.residual:.1e}, RMSE {rmse(model.predict(T), t):.5f}")
    print(f"  memory beside the points, estimated: {model.solution.memory / 2**30:.2f} GiB")


def cg(n: int, folder: Path | None) -> None:
    from ntkfast.datasets import mnist
    from ntkfast.learning.classes import targets

    n = min(n, 20000)
    train, test = mnist("train", folder), mnist("test", folder)
    X, T = train.images[:n] / 256, test.images[:2000] / 256
    Y, net = targets(train.labels[:n], 10), nf.MLP(4, "relu", 1.0, 0.1)
    K = nf.KernelOperator(net, X)
    alpha = 0.01
    print(f"MNIST, {n} images, float64, alpha = {alpha}")
    found = timed("conjugate gradients to 1e-8", lambda: nf.solve(K, Y, alpha, method="cg", rng=0))
    exact = timed("Cholesky factor of the matrix", lambda: nf.solve(nf.ntk(net, X), Y, alpha, method="cholesky"))
    K_tx = nf.ntk(net, T, X)
    difference = np.abs(K_tx @ (found.dual_coefficients - exact.dual_coefficients)).max()
    print(f"  {found.iterations} iterations, rank {found.rank}; predictions differ by {difference:.1e} at most")


def store(n: int, folder: Path | None) -> None:
    n = min(n, 60000)
    X = data(n)[0]
    with tempfile.TemporaryDirectory(dir=os.environ.get("NTKFAST_SCRATCH")) as scratch:
        free = shutil.disk_usage(scratch).free
        if 3 * n * n > free:
            n = int((free / 3) ** 0.5)
            X = X[:n]
        print(f"{n} points, d = {D}, float32")
        if 4 * n * n < 8 * 2**30:
            timed("in memory", lambda: nf.ntk(NET, X))
        timed("on disk", lambda: nf.store.compute(NET, X, Path(scratch) / "K.zarr"))

        def write() -> None:
            block = np.ones(2**22, np.float32)
            with open(Path(scratch) / "raw", "wb") as file:
                for _ in range(max(1, 2 * n * n // block.nbytes)):
                    file.write(block)
                os.fsync(file.fileno())

        timed("the disk alone, as many bytes (one triangle)", write)


def dask(n: int, folder: Path | None) -> None:
    import distributed

    n = min(n, 20000)
    X = data(n, 200)[0]
    print(f"{n} points, d = 200, float32")
    seconds: dict[tuple[str, int], float] = {}
    for workers in (1, 2):
        with distributed.Client(n_workers=workers, threads_per_worker=1, dashboard_address=None) as client:

            def cpu(client: Any = client) -> tuple[float, float]:
                """Seconds of all workers, and of the thread in which scheduler and client run."""
                return sum(client.run(time.process_time).values()), client.run_on_scheduler(time.thread_time)

            K = nf.distributed.KernelOperator(NET, X)
            model = nf.distributed.NystromRegression(NET, min(1000, n // 20), ALPHA, method="direct", rng=0)
            falkon = nf.distributed.NystromRegression(NET, min(1000, n // 20), ALPHA, method="falkon", tol=1e-3, rng=0)
            passes: dict[str, Callable[[], Any]] = {
                "product": lambda K=K: K @ np.ones(n),
                "one pass": lambda model=model: model.fit(X, X[:, 0]),
                "FALKON": lambda falkon=falkon: falkon.fit(X, X[:, 0]),
            }
            K @ np.ones(n)  # workers import the engine, and make their tables
            idle = cpu()[1]
            time.sleep(2)
            print(f"{workers} worker(s); scheduler and client without work: {(cpu()[1] - idle) / 2:.3f} s each second")
            for name, run in passes.items():
                before, start = cpu(), time.perf_counter()
                timed(f"{name}, {workers} worker(s)", run)
                seconds[name, workers] = time.perf_counter() - start
                work, loop = (b - a for a, b in zip(before, cpu(), strict=True))
                print(f"  CPU: workers {work:.2f} s, scheduler and client {loop:.2f} s, {loop / (work + loop):.1%}")
    for name in ("product", "one pass", "FALKON"):
        print(f"{name}: two workers are {seconds[name, 1] / seconds[name, 2]:.2f} times as fast as one")


def peers(n: int, folder: Path | None) -> None:
    X, y, T, t = data(n)
    m = min(5000, n // 20)
    print(f"{n} points, d = {D}, {m} centres, float32")
    ours = nf.NystromRegression(NET, m, ALPHA, rng=0)
    timed("ntkfast, NTK", lambda: ours.fit(X, y))
    print(f"  RMSE {rmse(ours.predict(T), t):.5f}")
    try:
        import torch
        from falkon import Falkon, FalkonOptions, kernels

        peer = Falkon(kernels.GaussianKernel(5.0), penalty=1e-6, M=m, options=FalkonOptions(use_cpu=True))
        tensors = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))[:, None]
        timed("falkon, RBF, 20 iterations", lambda: peer.fit(*tensors))
        print(f"  RMSE {rmse(peer.predict(torch.from_numpy(T)).numpy()[:, 0], t):.5f}")
    except ImportError as error:
        print(f"falkon: {error}")
    try:
        import gpytorch
        import torch
    except ImportError as error:
        print(f"GPyTorch: {error}")
        return
    k = min(n, 4000)  # its conjugate gradients keep the matrix

    def fit() -> Any:
        class Exact(gpytorch.models.ExactGP):  # type: ignore[misc]
            def __init__(self, x: Any, y: Any, likelihood: Any) -> None:
                super().__init__(x, y, likelihood)
                self.mean_module = gpytorch.means.ZeroMean()
                self.covar_module = gpytorch.kernels.RBFKernel()
                self.covar_module.lengthscale = 5.0

            def forward(self, x: Any) -> Any:
                return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        model = Exact(torch.from_numpy(X[:k]), torch.from_numpy(y[:k].astype(np.float32)), likelihood).eval()
        with torch.no_grad():
            return model(torch.from_numpy(T)).mean.numpy()

    print(f"  RMSE {rmse(timed(f'GPyTorch, RBF, exact, {k} points', fit), t):.5f}")
    K = nf.KernelOperator(NET, X[:k])
    a = timed(f"ntkfast, NTK, exact, {k} points", lambda: nf.solve(K, y[:k], ALPHA)).dual_coefficients
    print(f"  RMSE {rmse(nf.KernelOperator(NET, T, X[:k]) @ a, t):.5f}")


CASES = {case.__name__: case for case in (nystrom, falkon, cg, store, dask, peers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: nystrom")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="folder of MNIST; default: $NTKFAST_DATA")
    given = parser.parse_args()
    for name in given.cases or ["nystrom"]:
        if name not in CASES:
            parser.error(f"CASE: expected one of {', '.join(CASES)}, got {name!r}")
        CASES[name](given.points, given.data)


if __name__ == "__main__":
    main()
