"""Layers of all kinds, in any order and nesting, against a plain recursion over matrices and against wide networks."""

import pickle
from collections import Counter

import numpy as np
import pytest
import random_networks
import reference_layers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.finite import passes
from ntkfast.networks.layer import Layer

A = nf.activations
X = np.random.default_rng(3).normal(size=(4, 3))


def check(net, X, dtype=np.float64):
    X = np.asarray(X, dtype=dtype)
    sigma, theta = reference_layers.exact(net, X)
    got = nf.kernels(net, X)
    tolerance = 1e-9 if dtype is np.float64 else 2e-5
    for want, result in ((sigma, got.nngp), (theta, got.ntk)):
        scale = np.sqrt(np.outer(np.diagonal(want), np.diagonal(want))) + 1e-300
        assert_allclose(result / scale, want / scale, atol=tolerance)
        assert_array_equal(result, result.T)
    assert_allclose(nf.diagonal(net, X), np.diagonal(theta), rtol=1e-10 if dtype is np.float64 else 1e-5, atol=1e-15)


# --- against the twin


def dense():
    value = st.sampled_from([0.5, 1.0, 1.3])
    rate = st.sampled_from([0.0, 1.0, 2.0])
    return st.builds(nf.Dense, weight_std=value, bias_std=st.sampled_from([0.0, 0.2]), weight_lr=rate, bias_lr=rate)


def body(depth):
    activation = st.sampled_from([A.relu(), A.erf(), A.gelu(), A.tanh(), A.abs()])
    before, after = st.sampled_from([[], [nf.LayerNorm()]]), st.sampled_from([[], [nf.Dropout(0.25)]])
    plain = st.builds(lambda b, a, m, d: [*b, a, *m, d], before, activation, after, dense())
    if depth == 0:
        return plain
    block = st.builds(lambda inner, s: nf.Residual(*inner, scale=s), body(depth - 1), st.sampled_from([0.5, 1.0]))
    return st.builds(lambda p, r, more: [*p, r, *more], plain, block, plain)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(first=dense(), rest=body(2), seed=st.integers(0, 1000))
def test_any_nesting_of_blocks(first, rest, seed):
    X = np.random.default_rng(seed).normal(size=(9, 4))
    check(nf.Network([first, *rest]), X)


RANDOM = [random_networks.network(np.random.default_rng(seed)) for seed in range(60)]


@pytest.mark.parametrize("seed", range(len(RANDOM)))
def test_any_layers(seed):
    check(RANDOM[seed], np.random.default_rng(seed).normal(size=(9, 4)))


def test_a_sum_with_one_branch_that_depends_on_its_input_otherwise():
    """Its share of the input is no number; the other branches are independent of the input."""
    concat = nf.Parallel([nf.Scale(-0.7)], [], how="concat")
    block = nf.Parallel([nf.Dense()], [nf.Dense(bias_std=0.3)], concat)
    check(nf.Network([nf.Dense(weight_std=1.2), "relu", block, nf.Dropout(0.25), nf.Dense()]), X)


def test_the_random_networks_have_everything():
    """Each layer and each way to join, nested and at the end of a network; dependent branches of a sum; inputs."""
    found = Counter(
        (type(layer).__name__, getattr(layer, "how", None), getattr(layer, "share", lambda _: 0)(1.0) in (0, None))
        for net in RANDOM
        for layer in net.walk()
    )
    kinds = {cls.__name__ for cls in Layer.__subclasses__() if cls.__module__.startswith("ntkfast.")}
    assert {name for name, _, _ in found} == kinds >= {"Activation", "Dense", "Parallel"}
    assert {how for _, how, _ in found} == {None, "sum", "product", "concat"}
    assert found["Residual", None, False] > 3
    assert found["Parallel", "sum", False] > 0
    assert any(net.layers[-1].branches for net in RANDOM)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deep_residual_network(dtype):
    block = nf.Residual(A.relu(), nf.Dense(bias_std=0.1), nf.Residual("tanh", nf.Dense(), scale=0.3), scale=0.7)
    net = nf.Network([nf.Dense(), *[block] * 6, nf.LayerNorm(), "gelu", nf.Dense(bias_std=0.1)])
    check(net, np.random.default_rng(0).normal(size=(30, 10)), dtype)  # the twin integrates tanh pair by pair
    assert net.depth == 1 + 6 * 2 + 1
    assert pickle.loads(pickle.dumps(net)) == net
    assert hash(net) == hash(pickle.loads(pickle.dumps(net)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_of_branches(dtype):
    """More than one chunk of columns, and rectangles away from the diagonal."""
    gate = nf.Parallel(
        ["relu", nf.Dense()], [nf.Dense(weight_std=0.8, bias_std=0.1), "sigmoid_like"], [], how="product"
    )
    wide = nf.Parallel([], ["erf", nf.Dense(weight_std=1.2)], [nf.Residual("relu", nf.Dense()), nf.Scale(0.5)])
    net = nf.Network([nf.Dense(bias_std=0.2), wide, gate, nf.Dense(), "gelu", nf.Dense(bias_std=0.1)])
    X = np.random.default_rng(0).normal(size=(160, 10))
    check(net, X, dtype)
    Y = X[::2].copy()
    assert_allclose(nf.ntk(net, X, Y), nf.ntk(net, X)[:, ::2], rtol=1e-7)  # at ρ = 1
    assert_array_equal(nf.ntk(net, X, n_threads=1), nf.ntk(net, X, n_threads=2))


# --- on paper


def test_residual_of_linear_layers_on_paper():
    """x + s W x of a linear network: Σ = (1 + s² w²) Σ¹, Θ = Θ¹ (1 + s² w²) + s² w² Σ¹."""
    net = nf.Network([nf.Dense(), nf.Residual(nf.Dense(weight_std=1.5), scale=0.5)])
    nngp, ntk = nf.kernels(net, [[2.0]])
    assert_allclose(nngp, 4 * (1 + 0.25 * 2.25))
    assert_allclose(ntk, 4 * (1 + 0.25 * 2.25) + 4 * 0.25 * 2.25)


def test_a_block_that_ends_in_a_block_on_paper():
    """h + s(h + r) = (1 + s) h + s r, with Σ_r = Σ/2 on the diagonal."""
    net = nf.Network([nf.Dense(), nf.Residual(nf.Residual("relu", nf.Dense()), scale=0.5), nf.Dense()])
    x = np.array([1.0, 0.5, -0.3])
    assert_allclose(nf.diagonal(net, [x], "nngp"), (1.5**2 + 0.25 / 2) * (x @ x) / 3)
    parallel = nf.Parallel([], [nf.Parallel([], ["relu", nf.Dense()]), nf.Scale(0.5)])
    again = nf.Network([nf.Dense(), parallel, nf.Dense()])
    assert_array_equal(nf.kernels(again, X), nf.kernels(net, X))


def test_difference_of_equal_branches():
    """h + r - h/2: (1 - 1/2)² Σ + Σ_r, though the branches are not independent."""
    net = nf.Network([nf.Dense(), nf.Parallel([], ["relu", nf.Dense()], nf.Scale(-0.5)), nf.Dense()])
    x = np.array([1.0, 0.5, -0.3])
    assert_allclose(nf.diagonal(net, [x], "nngp"), (0.5**2 + 1 / 2) * (x @ x) / 3)


def test_a_multiple_is_a_weight():
    """Scale(c) before or after a Dense makes its weight_std c times as large, with the learning rates c² times."""
    plain = nf.Network([nf.Dense(weight_std=2.0, weight_lr=0.25), "erf", nf.Dense(weight_std=1.5, bias_std=0.5)])
    scaled = nf.Network(
        [
            nf.Scale(2.0),
            nf.Dense(weight_std=1.0, weight_lr=0.25),
            "erf",
            nf.Dense(weight_std=3.0, bias_std=1.0),
            nf.Scale(-0.5),
        ]
    )
    assert_allclose(nf.kernels(scaled, X), nf.kernels(plain, X), rtol=1e-14)


def test_concatenations_on_paper():
    """Shares weight the branches; the branches of one network side by side are that network."""
    one, other = [nf.Dense(), "relu"], [nf.Dense(weight_std=1.5), "erf"]
    kernels = [np.array(nf.kernels(nf.Network([*branch, nf.Dense()]), X)) for branch in (one, other)]
    both = nf.Network([nf.Parallel(one, other, how="concat", shares=(1, 3)), nf.Dense()])
    assert_allclose(nf.kernels(both, X), 0.25 * kernels[0] + 0.75 * kernels[1], rtol=1e-12)
    twice = nf.Network([nf.Parallel(one, one, how="concat"), nf.Dense()])
    assert_allclose(nf.kernels(twice, X), kernels[0], rtol=1e-12)


def test_product_on_paper():
    """Of two linear layers: Σ = Σ¹², Θ = 2 Σ¹ Θ¹, and after a last Dense Θ + Σ."""
    net = nf.Network([nf.Parallel(nf.Dense(), nf.Dense(), how="product"), nf.Dense()])
    nngp, ntk = nf.kernels(net, [[2.0, 0.0], [1.0, 1.0]])
    first = np.array([[2.0, 1.0], [1.0, 1.0]])
    assert_allclose(nngp, first**2)
    assert_allclose(ntk, 3 * first**2)


def test_frozen_layers_add_nothing():
    X = np.random.default_rng(0).normal(size=(5, 3))
    frozen = nf.Network([nf.Dense(weight_lr=0, bias_lr=0), "relu", nf.Dense(bias_std=0.3, weight_lr=0, bias_lr=0)])
    assert not nf.ntk(frozen, X).any()
    last = nf.Network([nf.Dense(weight_lr=0, bias_lr=0), "relu", nf.Dense(bias_std=0.3)])
    assert_array_equal(*nf.kernels(last, X))


def test_learning_rates_of_an_mlp():
    net = nf.MLP(3, "relu", 1.2, 0.3, weight_lr=0.5, bias_lr=2.0)
    layer = nf.Dense(weight_std=1.2, bias_std=0.3, weight_lr=0.5, bias_lr=2.0)
    assert net == nf.Network([layer, "relu", layer, "relu", layer])


def test_the_derivative_kernel_is_that_of_the_last_activation():
    dot = nf.kernels(nf.Network([nf.Dense(), "relu", nf.Scale(2.0), nf.Dense(weight_std=0.5)]), X, get="nngp_dot")
    assert_allclose(dot, nf.kernels(nf.MLP(2), X, get="nngp_dot"), rtol=1e-14)
    nested = nf.Network([nf.Dense(), "relu", nf.Dense(), nf.Residual("relu", nf.Dense())])
    with pytest.raises(
        ValueError, match="get: 'nngp_dot' is the derivative kernel of the last activation, with a Dense right"
    ):
        nf.kernels(nested, X, get="nngp_dot")


# --- wide networks


WIDTH, RUNS = 96, 40


@pytest.mark.parametrize("seed", range(0, len(RANDOM), 2))
def test_wide_networks_have_these_kernels(seed):
    """Monte Carlo: second moments of the outputs and, without Dropout, tangent kernels of random networks. They differ
    from the limit by at most five standard errors, or by O(1/width).
    """
    net = RANDOM[seed]
    limit, moments, tangents = nf.kernels(net, X), [], []
    for run in range(RUNS):
        rng = np.random.default_rng([seed, run])
        f = nf.FiniteNetwork.init(net, X.shape[1], WIDTH, WIDTH, rng=rng)
        outputs = passes.forward(f, X, rng=rng)
        moments.append(outputs @ outputs.T / WIDTH)
        if run < RUNS // 4 and not any(isinstance(layer, nf.Dropout) for layer in net.walk()):
            tangents.append(nf.empirical_ntk(f, X))
    for exact, draws in ((limit.nngp, moments), (limit.ntk, tangents)):
        if draws:
            scale = np.sqrt(np.outer(np.diagonal(exact), np.diagonal(exact)))
            error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
            assert np.all(np.abs(np.mean(draws, axis=0) - exact) <= 5 * error + 6 / WIDTH * scale)


# --- what holds for every layer


@pytest.mark.parametrize("seed", range(20))
def test_networks_are_values(seed, tmp_path):
    net = RANDOM[seed]
    assert pickle.loads(pickle.dumps(net)) == net
    assert hash(pickle.loads(pickle.dumps(net))) == hash(net)
    assert (
        eval(repr(net), {name: getattr(nf, name) for name in nf.__all__} | {n: getattr(A, n) for n in A.names()}) == net
    )
    values = list(nf.hyperparameters(net).values())
    assert nf.with_hyperparameters(net, values) == net
    moved = nf.with_hyperparameters(net, [2 * value for value in values])
    assert [layer.weight_std for layer in moved.dense_layers] == [2 * value for value in values[::2]]
    f = nf.FiniteNetwork.init(net, 3, 12, 12, rng=0)
    nf.save(f, tmp_path / "f.ntk")
    again = nf.load(tmp_path / "f.ntk")
    assert again.net == net
    assert_array_equal(again(X), f(X))


def test_a_layer_without_step_is_refused_by_name():
    class Bare(Layer):
        def after(self, flow, place):
            return flow

        def emit(self, code):
            code.scale(2)

        def __repr__(self):
            return "Bare()"

    net = nf.Network([nf.Dense(), Bare()])
    assert_allclose(nf.nngp(net, [[1.0]]), 2)
    with pytest.raises(TypeError, match=r"net: expected layers that finite networks have a step for, got Bare\(\)"):
        nf.FiniteNetwork.init(net, 1)


# --- bad input


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            [nf.Parallel(["relu"], nf.Dense()), nf.Dense()],
            r"layers\[0\]\.branches\[0\]\[0\].*before the activation relu",
        ),
        ([nf.Residual(nf.Dense()), nf.Dense()], r"layers\[0\]: .*Dense before the Residual.*nothing"),
        ([nf.Parallel(nf.Dense(), nf.Scale(2.0)), nf.Dense()], r"layers\[0\]\.branches\[1\]: .*each of its branches"),
        ([nf.Dense(), nf.Residual("relu"), nf.Dense()], r"layers\[1\]: .*Residual.* 0 and 1 depend on the same input"),
        ([nf.Dense(), nf.Residual("relu", "relu", nf.Dense())], r"layers\[1\]\.layers\[1\].*got relu\(\)"),
        ([nf.Dense(), nf.Residual(nf.LayerNorm()), nf.Dense()], r"layers\[1\]: .*Residual.*let one of them end in a D"),
        (
            [nf.Dense(), nf.Parallel([], nf.Scale(2.0), how="product"), nf.Dense()],
            r"layers\[1\]: .*Parallel.* 0 and 1 depend on the same input",
        ),
        (
            [nf.Dense(), nf.Parallel([nf.Dense(), "relu"], [], [nf.Dense(), "erf"]), nf.Dense()],
            r"layers\[1\]: expected at most one branch.*mean is not 0, got branches 0 and 2, .*relu\(\) and erf",
        ),
        ([nf.Dense(), nf.Parallel([], nf.Dense(), how="concat"), "relu", nf.Dense()], r"layers\[2\].*before the activ"),
        ([nf.Dense(), nf.Dropout(0.5), "relu", nf.Dense()], r"layers\[2\].*Dense before the activation.*got Dropout"),
        ([nf.LayerNorm(), nf.Dense()], r"layers\[0\].*Dense before the LayerNorm"),
        ([nf.Dense(), "relu", nf.LayerNorm(), nf.Dense()], r"layers\[2\].*Dense before the LayerNorm.*relu"),
        ([nf.Dense(), nf.LayerNorm()], r"layers: .*Dense as the last layer.*LayerNorm.*; .*Dense\(weight_lr=0\)"),
        ([nf.Dense(), nf.Parallel(nf.Dense(), nf.Dense(), how="concat")], "layers: .*Dense as the last layer.*concat"),
        ([], "layers: .*Dense as the last layer.*an empty list"),
    ],
)
def test_bad_orders(layers, words):
    with pytest.raises(ValueError, match=words):
        nf.Network(layers)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nf.Dropout(1.0), ValueError, r"rate: expected a number in \[0, 1\), got 1\.0"),
        (lambda: nf.Dropout("a"), TypeError, "rate: expected a number"),
        (lambda: nf.Scale(0), ValueError, "factor: expected a number other than 0"),
        (lambda: nf.Scale(np.inf), ValueError, "factor: expected a finite number"),
        (lambda: nf.LayerNorm(0), ValueError, "scale: expected a number > 0"),
        (lambda: nf.Residual(), ValueError, "at least one layer in a Residual"),
        (lambda: nf.Residual(nf.Dense(), scale=0), ValueError, "scale: expected a number > 0"),
        (lambda: nf.Residual(3), TypeError, r"layers\[0\]: expected a Dense, .*Residual, Scale, got int"),
        (lambda: nf.Parallel("relu"), ValueError, "branches: expected two or more, got 1"),
        (lambda: nf.Parallel([], []), ValueError, "branches: .*empty ones only"),
        (lambda: nf.Parallel([], [nf.Dense(), 3]), TypeError, r"branches\[1\]\[1\]: expected a Dense, .*got int"),
        (lambda: nf.Parallel([], nf.Dense(), how="max"), ValueError, "how: expected one of 'sum', .*got 'max'"),
        (lambda: nf.Parallel([], nf.Dense(), shares=(1, 2)), ValueError, "shares: expected None with how='sum'"),
        (lambda: nf.Parallel([], nf.Dense(), how="concat", shares=(1,)), ValueError, "shares: expected 2, .*got 1"),
        (lambda: nf.Parallel([], nf.Dense(), how="concat", shares=(1, 0)), ValueError, r"shares\[1\]: .* > 0"),
        (lambda: nf.Parallel([], nf.Dense(), how="concat", shares=1), TypeError, "shares: expected a sequence"),
        (
            lambda: nf.Network([nf.Dense(), "relu", nf.Residual(nf.Dense(), "relu"), nf.Dense()]),
            ValueError,
            r"layers\[2\]: the Residual hands on a multiple of its input, whose mean is not 0",
        ),
        (
            lambda: nf.Network([nf.Dense(), "relu", nf.Residual(nf.Residual(nf.Dense(), "relu")), nf.Dense()]),
            ValueError,
            "the Residual hands on a multiple of its input, whose mean is not 0",
        ),
        (lambda: nf.ntk(nf.Network([nf.Dense(), nested(25)]), [[1.0]]), ValueError, "at most 24 branches"),
        (lambda: nf.MLP(2, "relu", 1.0, 0.1, 2.0), TypeError, "positional"),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()


def nested(depth):
    return nf.Residual(nested(depth - 1), scale=1.0) if depth else nf.Dense()


@pytest.mark.parametrize(
    ("net", "widths", "words"),
    [
        (nf.Network([nf.Parallel(nf.Dense(), nf.Dense(), how="concat"), nf.Dense()]), 7, "shares .* got 7/2 units"),
        (
            nf.Network([nf.Parallel(nf.Dense(), nf.Dense(), how="concat", shares=(1, 2)), nf.Dense()]),
            [4, 7],
            r"widths\[1\]: expected 8 to go with widths\[0\]=4, as branches join the two, got 7",
        ),
        (
            nf.Network(
                [nf.Dense(), nf.Parallel([], nf.Parallel([], nf.Dense(), how="concat"), how="concat"), nf.Dense()]
            ),
            4,
            "net: expected branches that can have equal widths",
        ),
    ],
)
def test_widths_that_do_not_suit_the_branches(net, widths, words):
    with pytest.raises(ValueError, match=words):
        nf.FiniteNetwork.init(net, 3, widths)


def test_widths_of_concatenations():
    branches = nf.Parallel([], [nf.Dense(), "relu"], how="concat", shares=(1, 3))
    net = nf.Network([nf.Dense(), branches, nf.Dense()])
    for widths in (8, [2, 6]):
        f = nf.FiniteNetwork.init(net, 3, widths, rng=0)
        assert [weight.shape for weight in f.weights] == [(2, 3), (6, 2), (1, 8)]


def test_a_branch_with_a_mean_beside_an_input_that_has_one():
    """What is accepted: no multiple of the input is left, or the input has mean 0."""
    relu = [nf.Dense(), "relu"]
    for layers in (
        [nf.Dense(), "relu", nf.Parallel(nf.Scale(-1.0), [], relu), nf.Dense()],
        [nf.Dense(), "erf", nf.Dense(), nf.Residual(*relu), nf.Dense()],
        [nf.Dense(), "relu", nf.Residual(nf.Dense(), "relu", nf.Dense()), nf.Dense()],
    ):
        net, X = nf.Network(layers), np.array([[1.0, 0.3]])
        f = [nf.FiniteNetwork.init(net, 2, 1000, rng=seed) for seed in range(12)]
        found = np.array([nf.empirical_nngp(g, X)[0, 0] for g in f])
        assert abs(found.mean() - nf.nngp(net, X)[0, 0]) < 5 * found.std() / np.sqrt(len(f)) + 0.01
    with pytest.raises(ValueError, match="mean is not 0"):
        nf.Network([nf.Dense(), "relu", nf.Parallel(relu, [nf.Parallel([], [nf.Scale(-0.5)])]), nf.Dense()])


def test_many_branches_side_by_side():
    net = nf.Network([nf.Dense(), "relu", nf.Parallel(*[nf.Dense()] * 12), nf.Dense()])
    assert_allclose(nf.ntk(net, [[1.0]]), [[18.0]])
    assert_allclose(nf.nngp(net, [[1.0]]), 12 * nf.nngp(nf.MLP(2), [[1.0]]))


@pytest.mark.parametrize("last", ["tanh", nf.LayerNorm(2.0)], ids=repr)
def test_what_takes_the_place_of_an_activation_at_the_end(last):
    """Means over outputs and random networks of f f and of the tangent kernel, f the features after the last layer."""
    layers, n = [nf.Dense(weight_std=1.3, bias_std=0.3), "relu", nf.Dense(weight_std=1.5, bias_std=0.2), last], 128
    X = np.array([[1.0, 0.5], [-0.3, 1.0], [0.8, -0.7]])
    appended = nf.Network([*layers, nf.Dense(weight_lr=0)])
    with pytest.raises(ValueError, match=r"append Dense\(weight_lr=0\)"):
        nf.Network(layers)
    second_moment, tangent = np.zeros((3, 3)), np.zeros((3, 3))
    for seed in range(60):
        f = nf.FiniteNetwork.init(appended, 2, [n, n], n, rng=seed)
        f.weights[2][:] = np.sqrt(n) * np.eye(n)  # f's outputs are the features
        second_moment += f(X) @ f(X).T / n / 60
        tangent += nf.empirical_ntk(f, X) / 60
    limit = nf.kernels(appended, X)
    assert_allclose(second_moment, limit.nngp, atol=0.06 * limit.nngp.max())
    assert_allclose(tangent, limit.ntk, atol=0.06 * limit.ntk.max())
