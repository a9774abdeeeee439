"""Networks of finite width: outputs, Jacobians and products against the twin's plain forward pass; bad input."""

import math
import pickle
import re

import catalogue
import numpy as np
import pytest
import reference_finite
from finite_networks import NETWORKS, finite
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast import DivergenceError
from ntkfast.finite import factors, passes, steps
from ntkfast.finite.linearized import linearize
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import jvp, ntk_vector_product, vjp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3))


def check_against_twin(f, points):
    outputs = reference_finite.outputs(f.net, reference_finite.parameters(f), points, f.parametrization)
    jacobian = reference_finite.jacobian(f, points)
    assert_allclose(f(points), outputs, rtol=1e-11, atol=1e-12)
    assert_allclose(f.jacobian(points), jacobian, rtol=1e-10, atol=1e-11 * np.abs(jacobian).max())


# --- outputs and derivatives


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_jacobian_are_those_of_the_twin(name, parametrization):
    check_against_twin(finite(NETWORKS[name], 2, parametrization), X)


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
def test_every_activation_against_the_twin(activation):
    net = nf.Network(
        [
            nf.Dense(weight_std=0.8, bias_std=0.1),
            activation,
            nf.Dense(),
            nf.Residual(activation, nf.Dense(weight_std=0.5, bias_std=0.2)),
        ]
    )
    check_against_twin(finite(net, 1), X)


def test_activation_from_a_function_against_differences():
    act = nf.Activation.from_function(
        lambda x: x + np.sin(x) ** 2, name="snake", derivative=lambda x: 1 + np.sin(2 * x)
    )
    f = finite(nf.Network([nf.Dense(), act, nf.Dense(bias_std=0.1), act, nf.Dense()]))
    jacobian, h = f.jacobian(X), 1e-3
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    column = 0
    for array in (array for pair in zip(f.weights, f.biases, strict=True) for array in pair if array is not None):
        for place in np.ndindex(array.shape):
            value, difference = array[place], 0
            for k, w in weights.items():
                for sign in (1, -1):
                    array[place] = value + sign * k * h
                    difference = difference + sign * w * f(X) / h
            array[place] = value
            assert_allclose(jacobian[..., column], difference, atol=1e-11)
            column += 1
    assert column == f.n_parameters


def test_kink_takes_the_mean_of_both_slopes():
    """At a point 0 without bias every pre-activation is 0; the limit kernels have the same convention."""
    net = nf.Network([nf.Dense(), "relu", nf.Dense(), nf.activations.leaky_relu(0.2), nf.Dense()])
    f = finite(net, 1)
    tape = []
    passes.forward(f, np.zeros((1, 3)), tape)
    gradients = {layer: g[0, 0] for layer, _, g in passes.backward(f, tape, np.ones((1, 1, 1)), [True] * 3)}
    assert_allclose(gradients[1], 0.6 * f.weights[2][0] / math.sqrt(6))
    assert_allclose(gradients[0], 0.5 * gradients[1] @ f.weights[1] / math.sqrt(6))


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_kernel_of_the_factors_is_that_of_the_jacobian(name, n_outputs, parametrization):
    f = finite(NETWORKS[name], n_outputs, parametrization)
    for layer in factors.layer_factors(f, X):
        assert layer.inputs.flags.c_contiguous
        assert layer.sensitivities is None or layer.sensitivities.flags.c_contiguous
        assert layer.sensitivities is None or layer.sensitivities.shape[:2] == (n_outputs, 7)
    kernel = reference_finite.ntk(f, X, outputs="full")
    assert_allclose(kernel_of_factors(f, X), kernel, atol=1e-12 * np.abs(kernel).max())


def kernel_of_factors(f, X):
    """Σ_l (weight_l α·α' + bias_l) B·B', as `layer_factors` says."""
    kernel = 0
    for layer in factors.layer_factors(f, X):
        gram = layer.weight * (layer.inputs @ layer.inputs.T) + layer.bias
        B = layer.sensitivities
        kernel = kernel + gram[..., None, None] * (
            np.eye(f.n_outputs) if B is None else np.einsum("kin,ljn->ijkl", B, B)
        )
    return kernel


FROZEN = nf.Network(
    [
        nf.Dense(bias_std=0.3, weight_lr=0, bias_lr=0),
        "relu",
        nf.Dense(bias_std=0.5, weight_lr=0, bias_lr=2.0),
        nf.Residual("tanh", nf.Dense(weight_lr=0.0, bias_lr=3.0), scale=0.5),
        "tanh",
        nf.Dense(weight_std=1.2, bias_std=0.1, weight_lr=0.25, bias_lr=0),
    ]
)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_learning_rates_of_layers(parametrization):
    f = finite(FROZEN, 2, parametrization)
    assert len(factors.layer_factors(f, X)) == 2  # the first layer, and the one without bias, are frozen
    kernel = reference_finite.ntk(f, X, outputs="full")
    assert_allclose(kernel_of_factors(f, X), kernel, atol=1e-12)
    v = RNG.normal(size=(7, 2))
    assert_allclose(ntk_vector_product(f, X, v), np.einsum("ijkl,jl->ik", kernel, v), atol=1e-11)


def test_the_jacobian_has_the_columns_of_frozen_layers_too():
    check_against_twin(finite(FROZEN), X)


def test_no_work_below_the_last_trained_layer():
    frozen = nf.Dense(weight_lr=0, bias_lr=0)
    for net, n_factors in (([frozen, "tanh", frozen], 0), ([frozen, "tanh", nf.Dense()], 1)):
        f = finite(nf.Network(net), 1)
        assert len(factors.layer_factors(f, X)) == n_factors
        tape = [None, None, X]  # only the inputs of the last layer are read
        assert len(list(passes.backward(f, tape, np.ones((1, 1, 1)), passes.trained(f)))) == n_factors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1.0, 1e22, 1e37])
def test_layer_norm_far_from_one(scale, dtype):
    """Normal features give those of x, in whatever unit they are; constant ones give 0, not noise."""
    x = RNG.normal(size=(4, 50)).astype(dtype)
    exact = x.astype(float) - x.mean(axis=1, dtype=float)[:, None]
    exact /= np.sqrt((exact**2).mean(axis=1))[:, None]
    step = steps.LayerNormStep(1.0)
    found, _ = step.forward(None, x * dtype(scale), None)
    assert_allclose(found, exact, atol=20 * np.finfo(dtype).eps)  # eps of the largest feature, about 3 std
    constant = np.repeat(x[0], 50).reshape(50, 50) * dtype(scale)
    nearly = np.nextafter(constant, dtype(0), where=np.arange(50) > 20, out=constant.copy())
    for features in (constant, nearly, x * np.finfo(dtype).tiny / 8):
        normalised, (_, inverse) = step.forward(None, features, None)
        assert not normalised.any()
        assert not inverse.any()


# --- products


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    parametrization=st.sampled_from(["ntk", "standard"]),
    n_outputs=st.integers(1, 3),
    n=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_products_are_those_of_the_jacobian(name, parametrization, n_outputs, n, seed):
    rng = np.random.default_rng(seed)
    f = finite(NETWORKS[name], n_outputs, parametrization, rng=seed)
    points, v, u = rng.normal(size=(n, 3)), rng.normal(size=f.n_parameters), rng.normal(size=(n, n_outputs))
    forward, back = jvp(f, points, v), vjp(f, points, u)
    scale = np.linalg.norm(forward) * np.linalg.norm(u) + np.linalg.norm(back) * np.linalg.norm(v)
    assert abs(np.vdot(forward, u) - back @ v) < 1e-13 * scale
    jacobian = f.jacobian(points)
    size = np.linalg.norm(jacobian)
    assert_allclose(forward, jacobian @ v, atol=1e-13 * size * np.linalg.norm(v))
    assert_allclose(back, np.einsum("ikp,ik->p", jacobian, u), atol=1e-13 * size * np.linalg.norm(u))
    product = np.einsum("ikp,jlp,jl->ik", jacobian, jacobian, u)
    assert_allclose(ntk_vector_product(f, points, u), product, atol=1e-13 * size**2 * np.linalg.norm(u))


def test_blocks_of_points_change_nothing(monkeypatch):
    f, v = finite(NETWORKS["residual"], 1), RNG.normal(size=7)
    whole = f(X), jvp(f, X, np.ones(f.n_parameters)), vjp(f, X, v), ntk_vector_product(f, X, v)
    monkeypatch.setattr(passes, "PASS_BYTES", 2000)
    assert len(passes.blocks(f, 7)) > 2
    blocked = f(X), jvp(f, X, np.ones(f.n_parameters)), vjp(f, X, v), ntk_vector_product(f, X, v)
    for a, b in zip(whole, blocked, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_small_blocks_of_entries_change_nothing(monkeypatch):
    f = finite(nf.MLP(4, "gelu"), 2)
    whole = f.jacobian(X)
    monkeypatch.setattr(steps, "BLOCK", 5)
    assert_array_equal(f.jacobian(X), whole)


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_is_float64_rounded(name):
    f64 = finite(NETWORKS[name])
    biases = [None if bias is None else bias.astype("f4") for bias in f64.biases]
    f32 = FiniteNetwork(f64.net, [weight.astype("f4") for weight in f64.weights], biases)
    for call in (lambda f: f(X), lambda f: f.jacobian(X), lambda f: nf.empirical_ntk(f, X)):
        exact, single = call(f64), call(f32)
        assert single.dtype == np.float32
        assert_allclose(single, exact, atol=2e-5 * np.abs(exact).max())


def test_neither_points_nor_parameters_are_written_to():
    f = finite(NETWORKS["residual"])
    points = X.copy()
    for array in (points, *f.weights, *(bias for bias in f.biases if bias is not None)):
        array.flags.writeable = False
    f(points), f.jacobian(points), factors.layer_factors(f, points)
    linearize(f).train(points, np.ones((7, 2)), steps=2)


# --- the network linearised


@pytest.fixture
def least_squares():
    f = finite(nf.MLP(3, "tanh", 1.2, 0.1), 2)
    y, others = RNG.normal(size=(7, 2)), RNG.normal(size=(4, 3))
    kernel = np.swapaxes(reference_finite.ntk(f, X, outputs="full"), 1, 2).reshape(14, 14)
    cross = np.swapaxes(reference_finite.ntk(f, others, X, outputs="full"), 1, 2).reshape(8, 14)
    return f, y, others, kernel, cross


def test_linearised_network_is_its_taylor_polynomial():
    f = finite(NETWORKS["residual"])
    direction = RNG.normal(size=f.n_parameters)
    assert_allclose(linearize(f, direction)(X), f(X) + f.jacobian(X) @ direction, atol=1e-12)


def test_linearised_training_in_steps(least_squares):
    """f - y shrinks by a factor 1 - ηλ per step along each eigenvector of Θ̂/N."""
    f, y, others, kernel, cross = least_squares
    trained = linearize(f).train(X, y, steps=300, learning_rate=0.5)
    rates, modes = np.linalg.eigh(kernel / 7)
    start = (f(X) - y).ravel()
    left = (1 - 0.5 * rates) ** 300
    assert_allclose((trained(X) - y).ravel(), modes @ (left * (modes.T @ start)), atol=1e-11)
    moved = cross @ modes @ ((1 - left) / rates * (modes.T @ start)) / 7
    assert_allclose(trained(others).ravel(), f(others).ravel() - moved, atol=1e-10)


@pytest.mark.parametrize("t", [0.0, 3.0, 1e4, np.inf])
def test_linearised_flow(least_squares, t):
    f, y, others, kernel, cross = least_squares
    trained = linearize(f).flow(X, y, t)
    rates, modes = np.linalg.eigh(kernel / 7)
    start = (f(X) - y).ravel()
    left = np.exp(-t * rates)
    assert_allclose((trained(X) - y).ravel(), modes @ (left * (modes.T @ start)), atol=1e-10)
    moved = cross @ modes @ ((1 - left) / rates * (modes.T @ start)) / 7
    assert_allclose(trained(others).ravel(), f(others).ravel() - moved, atol=1e-9)


def test_flow_leaves_the_null_space_alone():
    """Two points, each twice in the data with different targets: the outputs are the means."""
    f = finite(nf.MLP(2, "tanh", bias_std=0.1), 1, widths=20)
    points, y = X[[0, 0, 1, 1]], np.array([1.0, 3.0, -1.0, 2.0])
    assert_allclose(linearize(f).flow(points, y, np.inf)(points).ravel(), [2, 2, 0.5, 0.5], atol=1e-9)


def test_linearize_copies_the_displacement():
    f = finite(NETWORKS["relu"])
    displacement = np.zeros(f.n_parameters)
    linear = linearize(f, displacement)
    displacement[:] = 1
    assert not linear.displacement.any()


@pytest.mark.parametrize("loss", ["mse", lambda f, y: (0.0, f - y)])
def test_linearised_training_that_diverges(loss):
    f = finite(NETWORKS["relu"])
    with pytest.raises(DivergenceError, match=r"diverged at step \d+: .*; learning_rate is 1000, .* must be below"):
        linearize(f).train(X, np.ones((7, 2)), steps=1000, learning_rate=1000, loss=loss)


# --- initialisation


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_seeds(dtype):
    def draw(rng):
        return FiniteNetwork.init(NETWORKS["mixed"], 3, 8, rng=rng, dtype=dtype)

    one, same = draw(5), draw(np.random.default_rng(5))
    for a, b in zip([*one.weights, one.biases[0]], [*same.weights, same.biases[0]], strict=True):
        assert a.dtype == dtype
        assert_array_equal(a, b)
    assert not np.array_equal(one.weights[0], draw(6).weights[0])
    assert not np.array_equal(draw(None).weights[0], draw(None).weights[0])


def test_both_parametrisations_are_one_function_at_initialisation():
    ntk, standard = finite(NETWORKS["residual"]), finite(NETWORKS["residual"], parametrization="standard")
    assert_allclose(ntk(X), standard(X), atol=1e-12)


@pytest.mark.parametrize(
    ("parametrization", "deviations"), [("ntk", (1.0, 1.0)), ("standard", (1.4 / math.sqrt(400), 0.3))]
)
def test_scale_of_parameters(parametrization, deviations):
    """Standard deviations within 4 standard errors, 1/√(2n) relative."""
    net = nf.Network([nf.Dense(), "relu", nf.Dense(weight_std=1.4, bias_std=0.3), "relu", nf.Dense()])
    f = finite(net, 1, parametrization, widths=400)
    for array, expected in zip((f.weights[1], f.biases[1]), deviations, strict=True):
        assert_allclose(array.std(), expected, rtol=4 / math.sqrt(2 * array.size))
    assert f.biases[0] is None
    assert f.biases[2] is None
    assert f.n_parameters == 400 * 3 + 400 * 400 + 400 + 400


def test_widths_of_residual_networks():
    shapes = [weight.shape for weight in finite(NETWORKS["residual"], 2, widths=[8, 5, 5, 8, 4, 4, 8]).weights]
    assert shapes == [(8, 3), (5, 8), (5, 5), (8, 5), (4, 8), (4, 4), (8, 4), (2, 8)]
    shapes = [weight.shape for weight in finite(NETWORKS["ends in a block"], 2, widths=8).weights]
    assert shapes == [(8, 3), (2, 8), (2, 2)]
    assert finite(NETWORKS["ends in nested blocks"], 2, widths=None)(X).shape == (7, 2)


@pytest.mark.parametrize("name", ["relu", "residual", "layer norm"])
def test_wide_networks_have_the_limit_kernel_in_the_mean(name):
    """The mean over 40 networks of width 600, within 5 standard errors and a bias of order 1/width."""
    net = NETWORKS[name]
    exact = nf.ntk(net, X)
    kernels = np.array([nf.empirical_ntk(finite(net, 1, rng=seed, widths=600), X) for seed in range(40)])
    error = kernels.std(axis=0, ddof=1) / math.sqrt(40)
    assert np.all(np.abs(kernels.mean(axis=0) - exact) < 5 * error + 10 / 600 * np.abs(exact).max())
    assert kernels.std(axis=0).max() < 0.2 * exact.max()


def test_copies_and_pickles_are_networks_of_their_own():
    f = finite(NETWORKS["residual"])
    for other in (f.copy(), pickle.loads(pickle.dumps(f))):
        assert_array_equal(other(X), f(X))
        other.weights[0][:] = 0
        assert f.weights[0].any()


# --- bad input


def refused(error, words, call, *args, **kwargs):
    """call raises exactly this error, and its message contains the words in this order."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is error
    message = str(caught.value)
    assert re.match(r".*?".join(map(re.escape, words)), message, re.DOTALL), f"{words} not in {message!r}"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"net": "relu"}, TypeError, ("net: expected a Network", "got str")),
        ({"n_inputs": 0}, ValueError, ("n_inputs: expected an integer >= 1", "got 0")),
        ({"n_inputs": 2.0}, TypeError, ("n_inputs: expected an integer", "got float")),
        ({"n_outputs": -1}, ValueError, ("n_outputs: expected an integer >= 1", "got -1")),
        ({"widths": None}, TypeError, ("widths: expected a number, or one per hidden Dense", "got None")),
        ({"widths": 0}, ValueError, ("widths: expected an integer >= 1", "got 0")),
        ({"widths": 8.0}, TypeError, ("widths: expected a number", "got float")),
        ({"widths": True}, TypeError, ("widths: expected a number", "got bool")),
        ({"widths": "8"}, TypeError, ("widths: expected a number", "got str")),
        ({"widths": {8, 9, 10}}, TypeError, ("widths: expected a number, or one per hidden Dense", "got set")),
        ({"widths": [8, 8]}, ValueError, ("widths: expected a number, or 3, one per hidden Dense", "got 2")),
        ({"widths": [8, 8, 0]}, ValueError, ("widths[2]: expected an integer >= 1", "got 0")),
        ({"widths": [8, 8, 8.0]}, TypeError, ("widths[2]: expected an integer", "got float")),
        ({"rng": "0"}, TypeError, ("rng: expected None, an integer or a numpy.random.Generator", "got str")),
        ({"rng": -1}, ValueError, ("rng: expected an integer >= 0", "got -1")),
        ({"dtype": np.float16}, TypeError, ("dtype: expected float32 or float64", "got float16")),
        ({"parametrization": np.ones(2)}, ValueError, ("parametrization: expected 'ntk' or 'standard'", "got array")),
        ({"parametrization": "ntx"}, ValueError, ("parametrization: expected 'ntk' or 'standard'", "got 'ntx'")),
        ({"widths": 10**7}, MemoryError, ("widths: a network of", "needs", "available", "a narrower one")),
    ],
)
def test_bad_arguments_of_init(changes, error, words):
    arguments = {"net": NETWORKS["relu"], "n_inputs": 3, "widths": 8, **changes}
    refused(error, words, FiniteNetwork.init, **arguments)


@pytest.mark.parametrize(
    ("name", "widths", "words"),
    [
        ("residual", [8, 5, 5, 9, 4, 4, 8], ("widths[3]: expected 8 to go with widths[0]=8", "branches join", "got 9")),
        ("residual", [8, 5, 6, 8, 4, 4, 8], ("widths[2]: expected 5 to go with widths[1]=5", "branches join", "got 6")),
        ("ends in a block", [8, 8], ("widths[1]: expected 2 to go with n_outputs=2", "branches join", "got 8")),
        ("layer norm", 1, ("widths: expected at least 2 units before a LayerNorm", "got 1")),
    ],
)
def test_widths_that_do_not_suit_the_layers(name, widths, words):
    refused(ValueError, words, finite, NETWORKS[name], widths=widths)


def test_parameters_that_do_not_suit_the_layers():
    net = nf.Network([nf.Dense(bias_std=0.1), "relu", nf.Dense()])
    w, b = [np.ones((4, 3)), np.ones((2, 4))], [np.ones(4), None]
    assert FiniteNetwork(net, w, b)(X).shape == (7, 2)
    for weights, biases, error, words in (
        (w[:1], b, ValueError, ("weights: expected 2, one per Dense", "got 1")),
        ([w[0], np.ones((2, 5))], b, ValueError, ("weights[1]: expected shape (2, 4)", "got (2, 5)")),
        (
            [np.ones((3, 4)).T, w[1]],
            b,
            TypeError,
            ("weights[0]: expected a C-contiguous 2-D array", "got shape (4, 3)"),
        ),
        ([w[0], w[1].astype("f4")], b, TypeError, ("weights[1]: expected float32 or float64, one", "got float32")),
        (w, [b[0], np.ones(2)], ValueError, ("biases[1]: expected None exactly where bias_std is 0", "got an array")),
        (w, [None, None], ValueError, ("biases[0]: expected None exactly", "got None")),
        (w, [np.ones(3), None], ValueError, ("biases[0]: expected shape (4,)", "got (3,)")),
        (None, b, TypeError, ("weights: expected a list of arrays", "got NoneType")),
        (w, 0, TypeError, ("biases: expected a list of arrays", "got int")),
        ([np.ma.ones((4, 3)), w[1]], b, TypeError, ("weights[0]: expected an array without mask", "a masked array")),
        ([np.ones((4, 0)), w[1]], b, ValueError, ("weights[0]: expected at least one unit", "got shape (4, 0)")),
        ([w[0], np.ones((0, 4))], b, ValueError, ("weights[1]: expected at least one unit", "got shape (0, 4)")),
        (
            [w[0], np.where(np.eye(2, 4), 1, np.inf)],
            b,
            ValueError,
            ("weights[1]: expected finite", "got inf in row 0, column 1"),
        ),
        (w, [np.full(4, np.nan), None], ValueError, ("biases[0]: expected finite numbers", "got nan in row 0")),
    ):
        refused(error, words, FiniteNetwork, net, weights, biases)


@pytest.mark.parametrize(
    ("points", "error", "words"),
    [
        (X[:, :2], ValueError, ("X: expected 3 features as in the network", "got shape (7, 2)")),
        (X[0], ValueError, ("X: expected a 2-D array", "got shape (3,)")),
        (X.astype(complex), TypeError, ("X: expected real numbers", "got dtype complex128")),
        (np.where(X[4, 1] == X, np.nan, X), ValueError, ("X: expected finite numbers", "got nan in row 4, column 1")),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda f, X: f(X),
        lambda f, X: f.jacobian(X),
        factors.layer_factors,
        lambda f, X: vjp(f, X, np.ones((7, 2))),
        lambda f, X: jvp(f, X, np.ones(f.n_parameters)),
        lambda f, X: ntk_vector_product(f, X, np.ones((7, 2))),
        lambda f, X: linearize(f)(X),
    ],
)
def test_points_that_do_not_suit_the_network(call, points, error, words):
    refused(error, words, call, finite(NETWORKS["relu"]), points)


PRODUCTS = {
    "tangent": lambda f, v: jvp(f, X, v),
    "cotangent": lambda f, v: vjp(f, X, v),
    "v": lambda f, v: ntk_vector_product(f, X, v),
    "displacement": linearize,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_vectors_of_other_things_than_numbers(name):
    f = FiniteNetwork.init(nf.MLP(2), 3, 1, rng=0, dtype=np.float32)
    v = np.ones(f.n_parameters if name in ("tangent", "displacement") else 7)
    for bad, error, words in (
        (np.where(np.arange(len(v)) == 2, np.nan, v), ValueError, "expected finite numbers, got nan in row 2"),
        (np.where(np.arange(len(v)) == 2, -np.inf, v), ValueError, "expected finite numbers, got -inf in row 2"),
        (1e39 * v, ValueError, "expected numbers within float32, got 1e+39 in row 0"),
        (np.ma.array(v, mask=v), TypeError, "expected an array without mask, got a masked array"),
        ([[1.0], [1.0, 2.0]], ValueError, "expected an array of numbers, got list that is not one"),
        (1j * v, TypeError, "expected real numbers, got dtype complex128"),
        (None if name != "displacement" else "0", TypeError, "expected real numbers, got dtype"),
    ):
        refused(error, (f"{name}: {words}",), PRODUCTS[name], f, bad)


@pytest.mark.parametrize("call", [*PRODUCTS.values(), lambda f, v: factors.layer_factors(f, X)])
@pytest.mark.parametrize("f", [NETWORKS["relu"], None])
def test_products_of_other_things_than_finite_networks(call, f):
    refused(TypeError, (f"f: expected a FiniteNetwork, got {type(f).__name__}",), call, f, np.ones(7))


def test_bad_vectors():
    f = finite(NETWORKS["relu"])
    p = f.n_parameters
    refused(ValueError, (f"tangent: expected shape ({p},)", "got (3,)"), jvp, f, X, np.ones(3))
    refused(ValueError, (f"displacement: expected shape ({p},)", "got (3,)"), linearize, f, np.ones(3))
    refused(ValueError, ("cotangent: expected shape (7, 2)", "got (7,)"), vjp, f, X, np.ones(7))
    refused(ValueError, ("v: expected shape (7, 2)", "got (2, 7)"), ntk_vector_product, f, X, np.ones((2, 7)))
    refused(
        TypeError, ("v: expected real numbers", "got dtype complex128"), ntk_vector_product, f, X, 1j * np.ones((7, 2))
    )


@pytest.mark.parametrize(
    ("phi", "named"), [(np.tanh, "tanh"), (lambda x: np.where(x > 0, x, np.exp(x) - 1), "elu"), (abs, "abs")]
)
def test_an_activation_without_derivative(phi, named):
    """Its slopes are those of the polynomials that interpolate it, at a kink the mean of both sides."""
    act = nf.Activation.from_function(phi, name="mine")
    x = np.append(np.linspace(-9, 9, 101), [-0.0, 40.3, -1e3])
    assert_allclose(act.derivative(x), nf.activations.get(named).derivative(x), rtol=1e-12, atol=1e-12)
    f = finite(nf.Network([nf.Dense(), act, nf.Dense()]))
    twin = finite(nf.MLP(2, named))
    assert_allclose(f(X), twin(X))
    assert_allclose(f.jacobian(X), twin.jacobian(X), rtol=1e-10, atol=1e-12)
    single = nf.FiniteNetwork.init(f.net, 3, 6, dtype=np.float32)
    assert nf.empirical_ntk(single, X.astype(np.float32)).dtype == np.float32


def test_jacobian_larger_than_memory():
    f = FiniteNetwork.init(nf.MLP(3), 3, 2000, rng=0, dtype=np.float32)
    with pytest.raises(MemoryError, match=r"the Jacobian, 100000 x 1 x \d+, needs .* available"):
        f.jacobian(np.ones((100000, 3)))
