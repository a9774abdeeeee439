"""pytest bench: the empirical tangent kernel against the contraction of torch.func's Jacobian (pytest-benchmark).

Groups compare within one run; no test depends on timing. `pytest bench -s` prints the ratios of the medians.
"""

import statistics
import time

import numpy as np
import pytest

import ntkfast as nf

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ntkfast[torch]'")

D, WIDTH = 784, 512


def module_and_network():
    """A perceptron with 3 hidden layers and one output, float32, in torch and in ntkfast, with the same parameters."""
    net = nf.MLP(depth=4, activation="relu", bias_std=0.1)
    f = nf.FiniteNetwork.init(net, D, WIDTH, rng=0, dtype="float32", parametrization="standard")
    layers = []
    for weight, bias in zip(f.weights, f.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape[::-1])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]), f


def contraction(module, X):
    """J Jᵀ as in the torch.func tutorial, one output."""
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def output(parameters, x):
        return torch.func.functional_call(module, parameters, (x[None],)).squeeze(0)

    jacobian = torch.func.vmap(torch.func.jacrev(output), (None, 0))(parameters, X)
    return sum(torch.einsum("nap,map->nm", block.flatten(2), block.flatten(2)) for block in jacobian.values())


@pytest.mark.parametrize("what", ["torch.func", "nf.torch", "ntkfast"])
@pytest.mark.parametrize("n", [100, 200])
def test_torch(benchmark, what, n):
    benchmark.group = f"empirical NTK, {n} points, 3 hidden layers of {WIDTH}, float32"
    module, f = module_and_network()
    X = np.random.default_rng(0).standard_normal((n, D), dtype=np.float32)
    calls = {
        "torch.func": lambda: contraction(module, torch.from_numpy(X)).numpy(),
        "nf.torch": lambda: nf.torch.empirical_ntk(module, X),
        "ntkfast": lambda: nf.empirical_ntk(f, X),
    }
    expected = calls["ntkfast"]()
    result = benchmark(calls[what])
    np.testing.assert_allclose(result, expected, rtol=1e-3)
    if what == "torch.func":
        return
    times = {name: [] for name in ("torch.func", what)}
    for _ in range(5):  # in turn, so that other work on the machine affects both
        for name, seconds in times.items():
            start = time.perf_counter()
            calls[name]()
            seconds.append(time.perf_counter() - start)
    ratio = statistics.median(times["torch.func"]) / statistics.median(times[what])
    print(f"\n{what}, {n} points: {ratio:.1f} times as fast as torch.func")
