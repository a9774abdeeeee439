"""The limit in standard parametrisation, for fixed widths: Sohl-Dickstein et al. (2020)."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

X = np.array([[1.0, 0.5, -0.3], [0.2, 1.0, 0.4], [-1.0, 0.3, 2.0]])
W, B, WIDTHS = (1.3, 0.8, 1.1), (0.2, 0.0, 0.4), (64, 48)
LAYERS = [
    nf.Dense(weight_std=W[0], bias_std=B[0]),
    "relu",
    nf.Dense(weight_std=W[1], bias_std=B[1]),
    "erf",
    nf.Dense(weight_std=W[2], bias_std=B[2]),
]
NET = nf.Network(LAYERS, parametrization="standard", widths=WIDTHS)


def test_recursion_of_neural_tangents():
    """ntk = width nngp + 1 + W_std² ntk, then nngp = W_std² nngp + b_std², nngp that of the inputs of a Dense."""
    nngp, ntk = X @ X.T / 3, np.zeros((3, 3))
    for k, width in enumerate((3, *WIDTHS)):
        if k:
            act = ("relu", "erf")[k - 1]
            q = np.diag(nngp)
            nngp, slope = nf.dual(act, q[:, None], q, nngp), nf.dual_derivative(act, q[:, None], q, nngp)
            ntk = ntk * slope
        ntk = width * nngp + (B[k] > 0) + W[k] ** 2 * ntk
        nngp = W[k] ** 2 * nngp + B[k] ** 2
    got = nf.kernels(NET, X)
    assert_allclose(got.ntk, ntk, rtol=1e-7)  # the diagonal went through arccos here
    assert_array_equal(got.nngp, nf.nngp(nf.Network(LAYERS), X))


def test_is_what_learning_rates_make():
    lrs = [{"weight_lr": n / w**2, "bias_lr": 1 / b**2 if b else 1} for n, w, b in zip((3, *WIDTHS), W, B, strict=True)]
    denses = [nf.Dense(weight_std=w, bias_std=b, **lr) for w, b, lr in zip(W, B, lrs, strict=True)]
    same = nf.Network([denses[0], "relu", denses[1], "erf", denses[2]])
    assert_allclose(nf.ntk(NET, X), nf.ntk(same, X), rtol=1e-14)
    assert_allclose(nf.ntk(NET, X, X[:2]), nf.ntk(same, X, X[:2]), rtol=1e-14)


def test_finite_networks():
    f = nf.FiniteNetwork.init(NET, 3, WIDTHS, 2, parametrization="standard", rng=0)
    plain = nf.FiniteNetwork(nf.Network(LAYERS), f.weights, f.biases, parametrization="standard")
    assert_array_equal(nf.empirical_ntk(f, X), nf.empirical_ntk(plain, X))
    g = nf.FiniteNetwork.init(NET, 3, WIDTHS, 2, rng=0)  # the same function in NTK parametrisation
    assert_allclose(g(X), f(X), rtol=1e-12)
    assert_allclose(nf.empirical_ntk(g, X, outputs="full"), nf.empirical_ntk(f, X, outputs="full"), rtol=1e-11)
    y = np.ones((3, 2))
    runs = [nf.train(network, X, y, steps=5, learning_rate=1e-3).network(X) for network in (f, g)]
    assert_allclose(*runs, rtol=1e-10)


def test_limit_of_wide_networks():
    width = 512
    net = nf.Network(LAYERS, parametrization="standard", widths=width)
    networks = [nf.FiniteNetwork.init(net, 3, width, 4, parametrization="standard", rng=seed) for seed in range(20)]
    mean = np.mean([nf.empirical_ntk(f, X) for f in networks], axis=0)
    assert_allclose(mean, nf.ntk(net, X), atol=0.03 * nf.ntk(net, X).max())


def test_branches():
    block = nf.Residual("relu", nf.Dense(weight_std=0.9), "tanh", nf.Dense(), scale=0.5)
    wide = nf.Parallel([nf.Dense(), "relu"], [nf.Dense(weight_std=0.7), "tanh"], how="concat", shares=(3, 4))
    net = nf.Network(
        [nf.Dense(), block, wide, nf.Dense(), "relu", nf.Parallel(nf.Dense(), [nf.Dense(weight_std=1.2)])],
        parametrization="standard",
        widths=[100, 70, 100, 30, 40, 80, 5],
    )
    assert [layer.fan_in for layer in net.dense_layers] == ["inputs", 100, 70, 100, 100, 70, 80, 80]
    widths = [500, 350, 500, 150, 200, 400, 5]
    net = nf.Network(net.layers, parametrization="standard", widths=widths)
    networks = [nf.FiniteNetwork.init(net, 3, widths, 5, parametrization="standard", rng=seed) for seed in range(20)]
    mean = np.mean([nf.empirical_ntk(f, X) for f in networks], axis=0)
    assert_allclose(mean, nf.ntk(net, X), atol=0.04 * nf.ntk(net, X).max())


def test_derivatives_by_differences():
    net = nf.Network(LAYERS, parametrization="standard", widths=WIDTHS)
    net = nf.with_hyperparameters(net, [1.3, 0.2, 0.8, 0.3, 1.1, 0.4])
    values = np.array(list(nf.hyperparameters(net).values()))
    gradient = nf.kernels(net, X, get="ntk", gradient=True).gradients
    for k, step in enumerate(1e-6 * np.eye(6)):
        high, low = (nf.ntk(nf.with_hyperparameters(net, values + sign * step), X) for sign in (1, -1))
        assert_allclose(gradient[k], (high - low) / 2e-6, rtol=1e-6, atol=1e-6)


def test_values():
    assert nf.MLP(3, "relu", 1.2, 0.1, parametrization="standard", widths=[5, 7]) == nf.Network(
        [
            nf.Dense(weight_std=1.2, bias_std=0.1, fan_in="inputs"),
            "relu",
            nf.Dense(weight_std=1.2, bias_std=0.1, fan_in=5),
            "relu",
            nf.Dense(weight_std=1.2, bias_std=0.1, fan_in=7),
        ]
    )
    assert pickle.loads(pickle.dumps(NET)) == NET
    assert repr(nf.MLP(5, parametrization="standard", widths=9)) == (
        "Network([Dense(fan_in='inputs'), *[relu(), Dense(fan_in=9)] * 4])"
    )


def test_saving(tmp_path):
    f = nf.FiniteNetwork.init(NET, 3, WIDTHS, rng=0)
    nf.save(f, tmp_path / "f.ntk")
    assert nf.load(tmp_path / "f.ntk").net == NET


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"parametrization": "mup"}, ValueError, "parametrization: expected 'ntk' or 'standard', got 'mup'"),
        ({"widths": 512}, ValueError, "widths: expected None in NTK parametrisation"),
        ({"parametrization": "standard"}, TypeError, "widths: expected a number, or one per hidden Dense, .* got None"),
        ({"parametrization": "standard", "widths": [3]}, ValueError, "widths: expected a number, or 2, .* got 1"),
        ({"parametrization": "standard", "widths": [3, 0]}, ValueError, r"widths\[1\]: expected an integer >= 1"),
        ({"parametrization": "standard", "widths": 0}, ValueError, "widths: expected an integer >= 1"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        nf.MLP(3, **options)
    with pytest.raises(error, match=message):
        nf.Network(LAYERS, **options)


def test_one_width_for_concatenations_is_refused():
    layers = [nf.Dense(), nf.Parallel(["relu"], [nf.Dense(), "tanh"], how="concat"), nf.Dense()]
    with pytest.raises(TypeError, match="widths: expected one number per hidden Dense with concatenations, got 8"):
        nf.Network(layers, parametrization="standard", widths=8)
    with pytest.raises(ValueError, match="fan_in: expected an integer >= 1, got 0"):
        nf.Dense(fan_in=0)
