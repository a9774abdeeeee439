"""Other libraries: the same job by one of them and here, in one process and in turn, if it is installed.

JAX's compilation is not counted. On a machine that others use, the ratio of CPU times tells more than that by the
clock; OMP_WAIT_POLICY=passive keeps waiting threads out of it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.benchmarks.workload import points
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP

Size = Callable[[int], int]  # the number of points of a job, scaled


@dataclass(frozen=True)
class Job:
    """theirs and ours return arrays that agree to `tolerance` of the largest entry; None: other numbers."""

    name: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    tolerance: float | None = 1e-6


@dataclass(frozen=True)
class Peer:
    """A library: the distribution, the module that must be there, and its jobs."""

    distribution: str
    module: str
    jobs: Callable[[Size], Iterator[Job]]

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def scaled(self, scale: float) -> Iterator[Job]:
        """Its jobs, with this share of their points, but at least 20."""
        return self.jobs(lambda n: max(20, round(n * scale)))


@dataclass(frozen=True)
class Beside:
    """Median seconds, by the clock and of the CPU, and the largest difference relative to the largest entry."""

    library: str
    job: str
    theirs: float
    ours: float
    theirs_cpu: float
    ours_cpu: float
    difference: float | None
    same: bool | None  # None: the numbers are others


def measure(peer: Peer, scale: float, repeats: int) -> Iterator[Beside]:
    """Every job of a peer, each side in turn."""
    library, jobs = f"{peer.distribution} {importlib.metadata.version(peer.distribution)}", peer.scaled(scale)
    while True:
        with warnings.catch_warnings():  # of making a job, too; not while the caller has its turn
            warnings.simplefilter("ignore")
            job = next(jobs, None)
            if job is None:
                return
            found = compare(library, job, repeats)
        yield found


def compare(library: str, job: Job, repeats: int) -> Beside:
    results = [np.asarray(call(), float) for call in (job.theirs, job.ours)]  # a warm-up, and JAX's compilation
    times: list[list[float]] = [[], [], [], []]  # theirs and ours by the clock, theirs and ours of the CPU
    for _ in range(repeats):
        for side, call in enumerate((job.theirs, job.ours)):
            clock, cpu = time.perf_counter(), time.process_time()
            call()
            times[side].append(time.perf_counter() - clock)
            times[side + 2].append(time.process_time() - cpu)
    difference = None
    if job.tolerance is not None:
        difference = float(np.abs(results[0] - results[1]).max() / np.abs(results[0]).max())
    same = None if difference is None or job.tolerance is None else difference <= job.tolerance
    return Beside(library, job.name, *map(statistics.median, times), difference, same)


def neural_tangents(size: Size) -> Iterator[Job]:
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
    x = points(size(1000), 20, "f8")

    def tanh(stax: Any) -> Any:
        return stax.ElementwiseNumerical(jax.numpy.tanh, deg=25)

    name = f"ElementwiseNumerical(tanh, deg=25), one layer, N={len(x)}, d=20"
    yield both(name, lambda nt: of_points(nt, x, tanh, 2), 0.1)  # the quadrature there is rough on the diagonal

    x, test = points(size(2000), 20, "f8"), points(size(500), 20, "f8") + 1
    y, times = points(len(x), 10, "f8"), np.geomspace(1, 1e5, 20)
    kernel_fn = kernel(here, lambda stax: stax.Erf())[2]
    k_dd, k_td = kernel_fn(x, None, "ntk"), kernel_fn(test, x, "ntk")

    def descent(nt: Any) -> Callable[[], Any]:
        return lambda: nt.predict.gradient_descent_mse(k_dd, y, diag_reg=1e-4)(times, 0.0, 0.0, k_td)[1]

    name = f"gradient_descent_mse, 20 times, N={len(x)}, {len(test)} test points, 10 outputs"
    yield both(name, descent, 1e-6)

    x = points(size(200), 100, "f8")
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


def scikit_ntk(size: Size) -> Iterator[Job]:
    from skntk import NeuralTangentKernel

    from ntkfast.sklearn import scikit_ntk as here

    X = points(size(1000), 20, "f8")
    theirs, ours = NeuralTangentKernel(depth=3, bias=0.1), here.NeuralTangentKernel(depth=3, bias=0.1)
    yield Job(f"kernel(X), depth 3, N={len(X)}, d=20", lambda: theirs(X), lambda: ours(X))
    yield Job(
        f"kernel(X, eval_gradient=True), depth 3, N={len(X)}, d=20",
        lambda: theirs(X, eval_gradient=True)[0],
        lambda: ours(X, eval_gradient=True)[0],
    )


def torch_func(size: Size) -> Iterator[Job]:
    import torch
    from torch.func import functional_call, jacrev, vmap

    from ntkfast.torch import empirical_ntk

    n, width = size(200), 512
    X = torch.from_numpy(points(n, 100, "f8"))
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
        lambda: empirical_ntk(module, X),
    )


def scikit_learn(size: Size) -> Iterator[Job]:
    from sklearn.gaussian_process.kernels import RBF
    from sklearn.metrics.pairwise import rbf_kernel

    from ntkfast.sklearn import NTKKernel

    net = MLP(depth=3, bias_std=0.1)
    X = points(size(4000), 20, "f8")
    yield Job(
        f"rbf_kernel(X) beside nf.ntk, N={len(X)}, d=20",
        lambda: rbf_kernel(X),
        lambda: ntk(net, X, progress=False),
        None,
    )
    X = points(size(1000), 20, "f8")
    theirs, ours = RBF(), NTKKernel(depth=3)
    yield Job(
        f"RBF beside NTKKernel(X, eval_gradient=True), N={len(X)}, d=20",
        lambda: theirs(X, eval_gradient=True)[0],
        lambda: ours(X, eval_gradient=True)[0],
        None,
    )


def gpytorch(size: Size) -> Iterator[Job]:
    import torch
    from gpytorch import distributions, kernels, likelihoods, means, mlls, models

    from ntkfast.gpytorch import NTKKernel

    X = torch.from_numpy(points(size(2000), 20, "f8"))
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
        ours = step(NTKKernel(MLP(depth=3, activation=activation, bias_std=0.1)))
        yield Job(f"ExactGP step: RBF beside NTKKernel ({activation}), N={len(X)}, d=20", rbf, ours, None)


PEERS = (
    Peer("neural-tangents", "neural_tangents", neural_tangents),
    Peer("scikit-ntk", "skntk", scikit_ntk),
    Peer("torch", "torch", torch_func),
    Peer("scikit-learn", "sklearn", scikit_learn),
    Peer("gpytorch", "gpytorch", gpytorch),
)
