"""python bench/bench_peers.py [PEER ...] [--job TEXT] [--scale S] [--repeats R]: the same job elsewhere and here.

    neural-tangents   kernels of points, predictions, empirical kernels: one code, two imports
    scikit-ntk        the kernel of a Gaussian process
    torch.func        the empirical kernel of a module, by Jacobians
    scikit-learn      its RBF kernel, with and without derivatives, beside an NTK: not the same kernel
    gpytorch          a training step of an exact Gaussian process, RBF and NTK

Both sides run in one process, in turn; what is printed are the shortest of R runs and (the least CPU time), as a table
in Markdown, and the largest difference of the results where both compute the same numbers. JAX's compilation is not
counted. On a machine that others use, the ratio of CPU times tells more; OMP_WAIT_POLICY=passive keeps waiting threads
out of it. Peers that are not installed are named and left out. `--scale 0.1`: a tenth of the points; `--job TEXT`: only
jobs whose names contain it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import ntkfast as nf


@dataclass(frozen=True)
class Job:
    """theirs and ours return arrays that agree to `tolerance` of the largest entry, None: other numbers."""

    name: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    tolerance: float | None = 1e-6


def points(n: int, d: int, dtype: str = "f8") -> Any:
    return np.random.default_rng(0).standard_normal((n, d)).astype(dtype)


def neural_tangents(size: Callable[[int], int]) -> Iterator[Job]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import neural_tangents

    from ntkfast import neural_tangents as here

    def kernel(nt: Any, layer: Callable[[Any], Any], depth: int = 3) -> Any:
        hidden = [part for _ in range(depth - 1) for part in (nt.stax.Dense(512, 1.5, 0.1), layer(nt.stax))]
        return nt.stax.serial(*hidden, nt.stax.Dense(1, 1.5, 0.1))

    def both(name: str, make: Callable[[Any], Callable[[], Any]], tolerance: float = 1e-6) -> Job:
        theirs = make(neural_tangents)
        return Job(name, lambda: jax.block_until_ready(theirs()), make(here), tolerance)

    def of_points(nt: Any, x: Any, layer: Any, depth: int = 3) -> Callable[[], Any]:
        kernel_fn = kernel(nt, layer, depth)[2]
        if nt is here:
            return lambda: kernel_fn(x, None, "ntk")
        compiled, on_device = jax.jit(kernel_fn, static_argnums=2), jax.numpy.asarray(x)
        return lambda: compiled(on_device, None, "ntk")

    for n, d, dtype, tolerance in ((4000, 20, "f8", 1e-6), (4000, 20, "f4", 1e-3), (8000, 784, "f4", 1e-3)):
        x = points(size(n), d, dtype)
        name = f"ReLU, depth 3, N={len(x)}, d={d}, {x.dtype}"
        yield both(name, lambda nt, x=x: of_points(nt, x, lambda stax: stax.Relu()), tolerance)
    x = points(size(1000), 20)

    def tanh(stax: Any) -> Any:
        return stax.ElementwiseNumerical(jax.numpy.tanh, deg=25)

    name = f"ElementwiseNumerical(tanh, deg=25), one layer, N={len(x)}, d=20"
    yield both(name, lambda nt: of_points(nt, x, tanh, 2), 0.1)  # the quadrature there is rough on the diagonal

    x, test = points(size(2000), 20), points(size(500), 20) + 1
    y, times = points(len(x), 10), np.geomspace(1, 1e5, 20)
    kernel_fn = kernel(here, lambda stax: stax.Erf())[2]
    k_dd, k_td = kernel_fn(x, None, "ntk"), kernel_fn(test, x, "ntk")

    def descent(nt: Any) -> Callable[[], Any]:
        return lambda: nt.predict.gradient_descent_mse(k_dd, y, diag_reg=1e-4)(times, 0.0, 0.0, k_td)[1]

    name = f"gradient_descent_mse, 20 times, N={len(x)}, {len(test)} test points, 10 outputs"
    yield both(name, descent, 1e-6)

    x = points(size(200), 100)
    init_fn, apply_fn, _ = kernel(neural_tangents, lambda stax: stax.Relu())
    params = init_fn(jax.random.PRNGKey(0), x.shape)[1]
    ours_fn = kernel(here, lambda stax: stax.Relu())[1]
    best = neural_tangents.NtkImplementation.STRUCTURED_DERIVATIVES
    theirs = jax.jit(lambda p: neural_tangents.empirical_ntk_fn(apply_fn, implementation=best)(x, None, p))
    yield Job(
        f"empirical_ntk_fn (there: STRUCTURED_DERIVATIVES, compiled), width 512, depth 3, N={len(x)}, d=100",
        lambda: jax.block_until_ready(theirs(params)),
        lambda: here.empirical_ntk_fn(ours_fn)(x, None, params),
    )


def scikit_ntk(size: Callable[[int], int]) -> Iterator[Job]:
    from skntk import NeuralTangentKernel

    from ntkfast.sklearn import scikit_ntk as here

    X = points(size(1000), 20)
    theirs, ours = NeuralTangentKernel(depth=3, bias=0.1), here.NeuralTangentKernel(depth=3, bias=0.1)
    yield Job(f"kernel(X), depth 3, N={len(X)}, d=20", lambda: theirs(X), lambda: ours(X))
    yield Job(
        f"kernel(X, eval_gradient=True), depth 3, N={len(X)}, d=20",
        lambda: theirs(X, eval_gradient=True)[0],
        lambda: ours(X, eval_gradient=True)[0],
    )


def torch_func(size: Callable[[int], int]) -> Iterator[Job]:
    import torch
    from torch.func import functional_call, jacrev, vmap

    n, width = size(200), 512
    X = torch.from_numpy(points(n, 100))
    layers = [torch.nn.Linear(100, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(width, 1)).double()
    params = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def single(p: Any, x: Any) -> Any:
        return functional_call(module, p, (x[None],))[0]

    def by_jacobians() -> Any:
        jacobian = vmap(jacrev(single), (None, 0))(params, X)
        return sum(j.flatten(1) @ j.flatten(1).T for j in jacobian.values())

    yield Job(
        f"empirical kernel of Linear-ReLU x 3, width {width}, N={n}, d=100",
        by_jacobians,
        lambda: nf.torch.empirical_ntk(module, X),
    )


def scikit_learn(size: Callable[[int], int]) -> Iterator[Job]:
    from sklearn.gaussian_process.kernels import RBF
    from sklearn.metrics.pairwise import rbf_kernel

    net = nf.MLP(depth=3, bias_std=0.1)
    X = points(size(4000), 20)
    yield Job(f"rbf_kernel(X) beside nf.ntk, N={len(X)}, d=20", lambda: rbf_kernel(X), lambda: nf.ntk(net, X), None)
    X = points(size(1000), 20)
    theirs, ours = RBF(), nf.sklearn.NTKKernel(depth=3)
    yield Job(
        f"RBF beside NTKKernel(X, eval_gradient=True), N={len(X)}, d=20",
        lambda: theirs(X, eval_gradient=True)[0],
        lambda: ours(X, eval_gradient=True)[0],
        None,
    )


def gpytorch(size: Callable[[int], int]) -> Iterator[Job]:
    import torch
    from gpytorch import distributions, kernels, likelihoods, means, mlls, models

    X = torch.from_numpy(points(size(2000), 20))
    y = torch.sin(X[:, 0])

    class Model(models.ExactGP):  # type: ignore[misc]
        def __init__(self, kernel: Any, likelihood: Any) -> None:
            super().__init__(X, y, likelihood)
            self.mean, self.kernel = means.ZeroMean(), kernel

        def forward(self, x: Any) -> Any:
            return distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    def step(kernel: Any) -> Callable[[], Any]:
        likelihood = likelihoods.GaussianLikelihood().double()
        model = Model(kernel, likelihood).double()
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        evidence = mlls.ExactMarginalLogLikelihood(likelihood, model)

        def one() -> Any:
            optimizer.zero_grad()
            loss = -evidence(model(X), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return one

    rbf = step(kernels.ScaleKernel(kernels.RBFKernel()))
    for activation in ("relu", "erf"):
        ours = step(nf.gpytorch.NTKKernel(nf.MLP(depth=3, activation=activation, bias_std=0.1)))
        yield Job(f"ExactGP step: RBF beside NTKKernel ({activation}), N={len(X)}, d=20", rbf, ours, None)


PEERS = {  # name: (module that it needs, distribution, jobs)
    "neural-tangents": ("neural_tangents", "neural-tangents", neural_tangents),
    "scikit-ntk": ("skntk", "scikit-ntk", scikit_ntk),
    "torch.func": ("torch", "torch", torch_func),
    "scikit-learn": ("sklearn", "scikit-learn", scikit_learn),
    "gpytorch": ("gpytorch", "gpytorch", gpytorch),
}


def compare(job: Job, repeats: int) -> str:
    """A row of the table."""
    wall: list[list[float]] = [[], []]
    cpu: list[list[float]] = [[], []]
    results = [job.theirs(), job.ours()]  # a warm-up, and JAX's compilation
    for _ in range(repeats):
        for side, function in enumerate((job.theirs, job.ours)):
            start, start_cpu = time.perf_counter(), time.process_time()
            function()
            wall[side].append(time.perf_counter() - start)
            cpu[side].append(time.process_time() - start_cpu)
    difference = ""
    if job.tolerance is not None:
        a, b = (np.asarray(result, float) for result in results)
        error = np.abs(a - b).max() / np.abs(a).max()
        difference = f"{error:.0e}" + ("" if error <= job.tolerance else ": NOT THE SAME")
    (theirs, ours), (theirs_cpu, ours_cpu) = map(min, wall), map(min, cpu)
    speed = f"{theirs / ours:.2g} | {theirs_cpu / ours_cpu:.2g}"
    times = f"{theirs:.2g} s ({theirs_cpu:.2g}) | {ours:.2g} s ({ours_cpu:.2g})"
    return f"| {job.name} | {times} | {speed} | {difference} |"


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{datetime.date.today()}, {model}, {os.cpu_count()} cores{load}, NumPy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"default: {' '.join(PEERS)}")
    parser.add_argument("--job", default="", metavar="TEXT", help="only jobs whose names contain it")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of points")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    unknown = set(given.peers) - set(PEERS)
    if unknown:
        parser.error(f"PEER: expected names out of {', '.join(PEERS)}, got {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")
    print(machine())
    for name in given.peers or PEERS:
        module, distribution, jobs = PEERS[name]
        if importlib.util.find_spec(module) is None:
            print(f"\n{name}: left out, {distribution} is not installed", flush=True)
            continue
        print(
            f"\n| job | {name} {version(distribution)} | ntkfast | times as fast | by CPU time | largest difference |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        for job in jobs(lambda n: max(20, round(n * given.scale))):
            if given.job in job.name:
                print(compare(job, given.repeats), flush=True)


if __name__ == "__main__":
    main()
