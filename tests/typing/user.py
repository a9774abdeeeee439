"""What a user writes, as a type checker sees it: `mypy --strict` passes. Every public name of ntkfast is here.

Networks, kernels without data and networks of finite width; learning.py has the rest.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import ntkfast as nf

Array = NDArray[np.floating[Any]]
X: NDArray[np.float64] = np.ones((4, 3))
rows = [[1.0, 0.0], [0.0, 1.0]]


def values_of_networks() -> None:
    relu = assert_type(nf.activations.relu(), nf.Activation)
    assert_type(nf.activations.get("relu"), nf.Activation)
    assert_type(nf.activations.leaky_relu(alpha=0.1), nf.Activation)
    assert_type(nf.activations.abrelu(-0.5, 1.5), nf.Activation)
    assert_type(nf.activations.exp_normalized(gamma=0.5).is_elementwise, bool)
    assert_type(nf.activations.polynomial([0, 1.5, 2]), nf.Activation)
    assert_type(nf.activations.names(), tuple[str, ...])
    snake = assert_type(nf.Activation.from_function(lambda x: x + np.sin(x) ** 2, name="snake"), nf.Activation)
    relu(X)
    relu.hermite_coefficients(1.0, 3)
    block = nf.Residual(nf.Dense(bias_std=0.1), "tanh", nf.Dense(), scale=0.5)
    net = nf.Network(
        [nf.Dense(weight_std=1.4, weight_lr=0.5), nf.LayerNorm(), snake, block, nf.Dropout(0.1), relu, nf.Dense()]
    )
    assert_type(net, nf.Network)
    sums = nf.Parallel([nf.Dense(), "relu", nf.Dense()], [nf.Dense(), nf.Scale(0.5)])
    assert_type(nf.Network([nf.Dense(), nf.LayerNorm(scale=2.0), sums, "erf", nf.Dense()]), nf.Network)
    assert_type(nf.MLP(depth=3, activation=relu, weight_std=2**0.5, bias_std=0.1), nf.Network)
    assert_type(nf.MLP(3, parametrization="standard", widths=[64, 32]), nf.Network)
    assert_type(nf.Network(["tanh"], parametrization="standard", widths=64), nf.Network)
    assert_type(nf.Dense(fan_in=64).learning_rates(3), tuple[float, float])
    values = assert_type(nf.hyperparameters(net), dict[tuple[int, str], float])
    assert_type(nf.hyperparameters(net, activations=True), dict[tuple[int, str], float])
    assert_type(nf.with_hyperparameters(net, values.values()), nf.Network)


def limit_kernels(net: nf.Network) -> None:
    nf.ntk(net, X).sum()
    nf.ntk(net, rows, X, out=np.empty((2, 4)), dtype=np.float32, n_threads=1, progress=False).mean(axis=0)
    assert_type(nf.ntk(net, X, per_layer=True), Array)
    nf.nngp(net, X, progress=lambda done, total: print(done, total))
    both = assert_type(nf.kernels(net, X), nf.Kernels)
    assert_type(both.ntk, Array)
    nf.kernels(net, X, get=("nngp", "ntk", "nngp_dot"), out=(None, None, np.empty((4, 4)))).nngp_dot.sum()
    assert_type(nf.kernels(net, X, get="ntk"), Array)
    one = assert_type(nf.kernels(net, X, get="ntk", gradient=True), nf.KernelsAndGradients[Array])
    assert_type(one.gradients, Array)
    several = assert_type(nf.kernels(net, X, gradient=True), nf.KernelsAndGradients[nf.Kernels])
    assert_type(several.gradients.nngp, Array)
    assert_type(nf.diagonal(net, X, get="nngp"), Array)
    assert_type(nf.diagonal(net, X, get=("nngp", "ntk")), nf.Kernels)
    assert_type(nf.kernel_vjp(net, X, weights=np.ones((4, 4)), kernel="nngp"), Array)
    assert_type(nf.kernel_vjp(net, X, weights=np.ones((4, 4)), inputs=True), nf.KernelVJP)
    operator = nf.KernelOperator(net, X, kernel="nngp", n_threads=1)
    assert_type(operator.diagonal(), Array)
    assert_type(operator[1:3], Array)
    assert_type(nf.dual("relu", 1.0, 2.0, 0.5), NDArray[np.float64] | float)
    nf.dual_derivative(nf.activations.gelu(), [1.0], [2.0], [0.5])


def depth(net: nf.Network) -> None:
    found = assert_type(nf.phase(net), nf.Phase)
    assert_type(found.phase, str)
    assert_type(found.q_star + found.c_star + found.chi_1 + found.correlation_depth, float)
    found.variance_map([0.5, 1.0])
    assert_type(found.depth_to_width(tolerance=0.2), float)
    found.fluctuations([2, 4]).max()
    diagram = assert_type(nf.phase_diagram("erf", [1.0, 2.0], np.linspace(0, 1, 3)), nf.PhaseDiagram)
    diagram.c_star.max()


def finite_width(net: nf.Network) -> None:
    f = nf.FiniteNetwork.init(net, n_inputs=3, widths=16, n_outputs=2, rng=0, dtype=np.float64)
    assert_type(f, nf.FiniteNetwork)
    assert_type(f.n_parameters, int)
    f(X).sum()
    f.jacobian(X).sum()
    nf.empirical_ntk(f, X, outputs="full").sum()
    nf.empirical_ntk(f, X, per_layer=True).sum(axis=0)
    nf.empirical_nngp(f, X, rows).sum()
    nf.gram_from_jacobian([(f.jacobian(X), f.jacobian(rows))]).sum()
    nf.gram_from_jacobian(block for block in [f.jacobian(X)]).sum()
    nf.jvp(f, X, np.ones(f.n_parameters)).sum()
    nf.vjp(f, X, f(X)).sum()
    nf.ntk_vector_product(f, X, f(X)).sum()


def beyond_the_limit(net: nf.Network) -> None:
    theory = assert_type(nf.finite_width(net, X, width=64), nf.FiniteWidth)
    assert_type(theory.ntk_mean, Array)
    assert_type(theory.nngp_std, Array)
    assert_type(nf.finite_width(net, X, widths=[32, 64], n_outputs=3, get="ntk_cross_std"), Array)
    assert_type(nf.finite_width(net, X, width=64, get=("ntk_mean",), out=[X]), nf.FiniteWidth)
    assert_type(nf.width_for(net, X, 0.1, kernel="nngp"), int)
    change = assert_type(nf.kernel_change(net, X, np.ones(4), width=64, steps=np.inf), nf.KernelChange)
    assert_type(change.mean, Array)
    print(change.error + change.ntk)
    assert_type(change.inflation + change.inflation_error, float)


def files(net: nf.Network, own: nf.Activation) -> None:
    nf.save(net, "net.ntk")
    nf.load("net.ntk", activations={"mine": own})


def failures(net: nf.Network) -> str:
    try:
        nf.ntk(net, X)
    except (nf.ActivationError, nf.PrecisionError, nf.DivergenceError) as error:
        assert_type(error.args, tuple[Any, ...])
        return str(error)
    except nf.Error as error:
        return str(error)
    return nf.__version__


def modules() -> None:
    nf.show_config()
    print(nf.datasets, nf.experiments, nf.gpytorch, nf.plotting, nf.sklearn, nf.torch)
