"""Other libraries on the same work, in the same run: those that are installed.

`same`: the numbers are ours too, and are compared. Otherwise the peer computes another kernel of as many points, which
takes less arithmetic than ours.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.benchmarks import goals
from ntkfast.benchmarks.workload import RELU, points
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP

Calls = tuple[Callable[[], Any], Callable[[], Any]]  # ours, theirs


@dataclass(frozen=True)
class Peer:
    """`make(n)` prepares the calls of ours and theirs, n = 8000 unless one is given; `module` must be installed."""

    distribution: str
    module: str
    what: str
    same: bool
    make: Callable[[int], Calls]

    @property
    def name(self) -> str:
        return f"{self.distribution}: {self.what}"

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


@dataclass(frozen=True)
class Beside:
    """Median seconds, the median of the ratios, and the largest difference relative to the largest entry."""

    name: str
    version: str
    ours: float
    theirs: float
    ratio: float
    difference: float | None


def measure(n: int, repeats: int) -> Iterator[Beside]:
    """Every peer that is installed, one after the other."""
    for peer in PEERS:
        if not peer.installed:
            continue
        calls = peer.make(n)
        (ours, theirs), ratio = goals.compare(list(calls), repeats)
        difference = None
        if peer.same:
            mine, other = (np.asarray(call(), float) for call in calls)
            difference = float(np.abs(mine - other).max() / np.abs(mine).max())
        yield Beside(peer.name, importlib.metadata.version(peer.distribution), ours, theirs, ratio, difference)


def sklearn_rbf(n: int) -> Calls:
    from sklearn.metrics.pairwise import rbf_kernel

    X = points(n, 20, "f8")
    return lambda: ntk(RELU, X, progress=False), lambda: rbf_kernel(X)


def gpytorch_rbf(n: int) -> Calls:
    import gpytorch
    import torch

    X = points(n, 20, "f8")
    tensor, kernel = torch.from_numpy(X), gpytorch.kernels.RBFKernel().double()

    def theirs() -> Any:
        with torch.no_grad():
            return kernel(tensor).to_dense()

    return lambda: ntk(RELU, X, progress=False), theirs


def scikit_ntk(n: int) -> Calls:
    from skntk import NeuralTangentKernel as Theirs

    from ntkfast.sklearn.scikit_ntk import NeuralTangentKernel as Ours

    X = points(n // 4, 20, "f8")
    ours, theirs = Ours(3, 0.1), Theirs(3, 0.1)
    return lambda: ours(X), lambda: theirs(X)


def neural_tangents(n: int) -> Calls:
    import jax
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", True)
    X, layers = points(n // 4, 20, "f8"), []
    for _ in range(3):
        layers += [stax.Dense(1, W_std=1.0, b_std=0.1), stax.Relu()]
    kernel = jax.jit(stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=0.1))[2], static_argnames="get")
    return lambda: ntk(RELU, X, progress=False), lambda: np.asarray(kernel(X, None, get="ntk"))


def torch_func(n: int) -> Calls:
    """J Jᵀ as in the tutorial of torch.func, for a perceptron of 3 hidden layers with one output."""
    import torch

    width, d = max(1, round(512 * min(1, n / 8000))), 784
    net = MLP(depth=4, bias_std=0.1)
    f = FiniteNetwork.init(net, d, width, rng=0, dtype="float32", parametrization="standard")
    layers: list[Any] = []
    for weight, bias in zip(f.weights, f.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape[::-1])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1])
    X = points(200, d, "f4")

    def output(parameters: Any, x: Any) -> Any:
        return torch.func.functional_call(module, parameters, (x[None],)).squeeze(0)

    def theirs() -> Any:
        parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
        jacobian = torch.func.vmap(torch.func.jacrev(output), (None, 0))(parameters, torch.from_numpy(X))
        return sum(torch.einsum("nap,map->nm", block.flatten(2), block.flatten(2)) for block in jacobian.values())

    return lambda: empirical_ntk(f, X, progress=False), theirs


PEERS = (
    Peer("scikit-learn", "sklearn", "rbf_kernel, n points, d=20, float64", False, sklearn_rbf),
    Peer("gpytorch", "gpytorch", "RBFKernel, n points, d=20, float64", False, gpytorch_rbf),
    Peer("scikit-ntk", "skntk", "NTK of depth 3, n/4 points, d=20, float64", True, scikit_ntk),
    Peer("neural-tangents", "neural_tangents", "NTK of depth 4, n/4 points, d=20, float64", True, neural_tangents),
    Peer("torch", "torch", "empirical NTK, N=200, d=784, 3 x 512, float32, by torch.func", True, torch_func),
)
