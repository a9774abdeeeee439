"""Empirical kernels: the tile driver's sums against J Jᵀ of the plain Jacobian, in every mode and tiling.

A sum of P products in double has an error of a few √P ε times its largest terms: 1e-13 of the largest entry is ample.
In float32 that is 1e-5.
"""

import itertools

import catalogue
import numpy as np
import pytest
import reference_finite
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

D = 5
NETS = {
    "relu": (nf.MLP(4, "relu", 1.0, 0.1), 20, 3),
    "erf, one output": (nf.MLP(3, "erf", 1.3), [30, 140], 1),
    "linear": (nf.MLP(1, bias_std=0.3), None, 2),
    "residual": (
        nf.Network(
            [
                nf.Dense(bias_std=0.1),
                nf.Residual("tanh", nf.Dense(weight_std=1.2, bias_std=0.1), nf.Residual("relu", nf.Dense(), scale=0.5)),
                nf.LayerNorm(),
                "gelu",
                nf.Dense(bias_std=0.2),
            ]
        ),
        17,
        3,
    ),
    "residual outputs": (
        nf.Network(
            [
                nf.Dense(bias_std=0.1),
                "relu",
                nf.Dense(),
                nf.Residual("tanh", nf.Dense(weight_std=1.3, bias_std=0.4), scale=0.5),
            ]
        ),
        [17, 3],
        3,
    ),
    "branches": (
        nf.Network(
            [
                nf.Parallel([nf.Dense(bias_std=0.1), "relu"], [nf.Dense(weight_std=1.2), "tanh"], how="concat"),
                nf.Dense(bias_std=0.2),
                nf.Parallel(["erf", nf.Dense(weight_std=0.9)], [], [nf.Dense(bias_std=0.3), "sigmoid"], how="product"),
                nf.Dense(weight_lr=0),
                nf.LayerNorm(2.0),
                nf.Parallel([], ["relu", nf.Dense()], nf.Scale(-0.5)),
                "gelu",
                nf.Dense(bias_std=0.2),
            ]
        ),
        12,
        3,
    ),
    "added outputs": (
        nf.Network(
            [
                nf.Dense(bias_std=0.1),
                nf.Parallel(
                    ["relu", nf.Dense(bias_std=0.3)], ["tanh", nf.Dense(weight_std=0.7, bias_std=0.2), nf.Scale(-0.5)]
                ),
            ]
        ),
        [12, 3],
        3,
    ),
    "learning rates": (
        nf.Network(
            [
                nf.Dense(bias_std=0.1, weight_lr=0, bias_lr=0),
                "relu",
                nf.Dense(bias_std=0.3, weight_lr=0.5),
                "relu",
                nf.Dense(bias_std=0.1, bias_lr=2),
            ]
        ),
        20,
        2,
    ),
}


def points(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, D))


def network(name, parametrization="ntk", dtype=np.float64):
    net, widths, k = NETS[name]
    return nf.FiniteNetwork.init(net, D, widths, k, rng=1, dtype=dtype, parametrization=parametrization)


def by_jacobian(f, X, Y, outputs):
    """J diag(learning rates) Jᵀ of the product's own Jacobian, which tests/test_finite.py compares with the twin's."""
    left, right = f.jacobian(X), f.jacobian(X if Y is None else Y)
    full = np.einsum("ikp,p,jlp->ijkl", left, reference_finite.learning_rates(f), right, optimize=True)
    return reference_finite.reduced(full, outputs)


@pytest.mark.parametrize("outputs", ["mean", "diagonal", "full"])
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("name", NETS)
def test_ntk_is_the_product_of_jacobians(name, parametrization, outputs):
    f = network(name, parametrization)
    for Y in (None, points(13, seed=1)):
        exact = by_jacobian(f, points(140), Y, outputs)
        for budget in (None, 100_000):  # in one piece, and in blocks of points
            result = nf.empirical_ntk(f, points(140), Y, outputs, memory=budget)
            assert result.dtype == f.dtype
            assert_allclose(result, exact, rtol=0, atol=1e-13 * abs(exact).max())


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_against_the_twin(activation, parametrization):
    """For every activation in a residual network, and every mode."""
    block = nf.Residual(activation, nf.Dense(weight_std=0.8, bias_std=0.2), scale=0.5)
    net = nf.Network([nf.Dense(bias_std=0.1), block, activation, nf.Dense(weight_std=0.9, bias_std=0.3)])
    f = nf.FiniteNetwork.init(net, D, 7, 2, rng=3, parametrization=parametrization)
    X, Y = points(6), points(3, 1)
    full = reference_finite.ntk(f, X, Y, "full")
    for outputs in ("full", "diagonal", "mean"):
        exact = reference_finite.reduced(full, outputs)
        assert_allclose(nf.empirical_ntk(f, X, Y, outputs), exact, rtol=0, atol=1e-11 * abs(full).max())


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 150), st.integers(1, 140), st.integers(2**15, 2**20), st.sampled_from(["mean", "diagonal", "full"]),
    st.booleans(),
)  # fmt: skip
def test_any_shape_and_any_blocks(n, m, budget, outputs, symmetric):
    f = network("relu", dtype=np.float32)
    Y = None if symmetric else points(m, 1)
    exact = by_jacobian(network("relu", dtype=np.float32), points(n), Y, outputs)
    result = nf.empirical_ntk(f, points(n), Y, outputs, memory=budget)
    assert_allclose(result, exact, rtol=0, atol=1e-5 * abs(exact).max())


def test_symmetric_results_are_exactly_symmetric_and_do_not_depend_on_threads():
    f = network("relu")
    for outputs in ("mean", "diagonal", "full"):
        result = nf.empirical_ntk(f, points(700), outputs=outputs, n_threads=1)
        mirrored = np.swapaxes(result, 0, 1)
        assert_array_equal(result, np.swapaxes(mirrored, 2, 3) if outputs == "full" else mirrored)
        assert_array_equal(nf.empirical_ntk(f, points(700), outputs=outputs, n_threads=2), result)


def test_out_and_progress():
    f, seen = network("relu"), []
    out = np.full((140, 3, 140), np.nan).transpose(0, 2, 1)
    result = nf.empirical_ntk(
        f,
        points(140),
        outputs="diagonal",
        out=out,
        progress=lambda done, total: seen.append((done, total)),
        memory=50_000,
    )
    assert result is out
    assert_allclose(out, by_jacobian(f, points(140), None, "diagonal"), rtol=1e-12)
    assert all(0 <= done <= total == 140 * 140 for done, total in seen)
    assert seen[-1] == (140 * 140, 140 * 140)


def test_everything_frozen():
    layer = nf.Dense(bias_std=0.1, weight_lr=0, bias_lr=0)
    f = nf.FiniteNetwork.init(nf.Network([layer, "relu", layer]), D, 8, rng=0)
    assert not nf.empirical_ntk(f, points(4)).any()


def test_the_limit_within_monte_carlo_error():
    """The mean over seeds: it differs from Θ by its own standard error, and by O(1/width)."""
    net, X, width = nf.MLP(3, "relu", 1.0, 0.1), points(6), 1024
    draws = np.array([nf.empirical_ntk(nf.FiniteNetwork.init(net, D, width, rng=seed), X) for seed in range(20)])
    error = draws.mean(axis=0) - nf.ntk(net, X)
    deviation = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (abs(error) <= 5 * deviation + 5 * abs(nf.ntk(net, X)) / width).all()


def test_nngp_is_the_covariance_over_the_last_layer():
    """Outputs of many draws of the last layer alone; with 4000 of them the error is 1/√4000 of the scale."""
    rng, X = np.random.default_rng(0), points(4)
    for name in ("relu", "residual outputs", "added outputs"):
        f = network(name)
        kernel = nf.empirical_nngp(f, X)
        sums = np.zeros((4, 4))
        for _ in range(4000):
            f.weights[-1][:] = rng.standard_normal(f.weights[-1].shape)
            f.biases[-1][:] = rng.standard_normal(f.biases[-1].shape)
            outputs = f(X)
            sums += outputs @ outputs.T / f.n_outputs
        assert_allclose(sums / 4000, kernel, atol=5 * kernel.max() / np.sqrt(4000))
        assert_allclose(nf.empirical_nngp(f, X, X[:2], memory=1), kernel[:, :2], rtol=1e-12)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_nngp_converges(parametrization):
    net, X = nf.MLP(3, "relu", 1.2, 0.3), points(5)
    f = nf.FiniteNetwork.init(net, D, 3000, 1, rng=0, parametrization=parametrization)
    assert_allclose(nf.empirical_nngp(f, X), nf.nngp(net, X), rtol=10 / np.sqrt(3000))


@pytest.mark.parametrize("outputs", ["mean", "diagonal", "full"])
def test_gram_from_jacobian(outputs):
    f = network("relu")
    J, other = f.jacobian(points(30)), f.jacobian(points(7, 1))
    cuts = [0, 1, 50, 333, J.shape[2]]
    pieces = [slice(*ends) for ends in itertools.pairwise(cuts)]
    assert_allclose(
        nf.gram_from_jacobian((J[..., p] for p in pieces), outputs), by_jacobian(f, points(30), None, outputs)
    )
    assert_allclose(
        nf.gram_from_jacobian([(J[..., p], other[..., p]) for p in pieces], outputs),
        by_jacobian(f, points(30), points(7, 1), outputs),
        atol=1e-12,
    )
    single = nf.gram_from_jacobian([J.astype(np.float32)], outputs)
    assert single.dtype == np.float32
    assert_allclose(single, by_jacobian(f, points(30), None, outputs), rtol=1e-4, atol=1e-4)


def test_bad_input(monkeypatch):
    f = network("relu")
    steep = f.copy()
    steep.weights[-1][:] = 1e200
    X = points(3)
    for error, words, call in (
        (TypeError, "f: expected a FiniteNetwork, got Network", lambda: nf.empirical_ntk(nf.MLP(2), X)),
        (
            ValueError,
            "outputs: expected 'mean', 'diagonal' or 'full', got 'all'",
            lambda: nf.empirical_ntk(f, X, None, "all"),
        ),
        (ValueError, "X: expected 5 features", lambda: nf.empirical_ntk(f, X[:, :2])),
        (ValueError, "Y: expected 5 features", lambda: nf.empirical_ntk(f, X, X[:, :2])),
        (ValueError, "X: expected finite numbers", lambda: nf.empirical_ntk(f, X * np.nan)),
        (
            ValueError,
            r"out: expected shape \(3, 3, 3\)",
            lambda: nf.empirical_ntk(f, X, outputs="diagonal", out=np.empty((3, 3))),
        ),
        (
            ValueError,
            "out: expected memory apart from the parameters",
            lambda: nf.empirical_ntk(f, X, out=f.weights[0][:3, :3]),
        ),
        (ValueError, "X: the kernel of row 0 leaves float64", lambda: nf.empirical_ntk(steep, X)),
        (TypeError, r"did you mean \[blocks\]", lambda: nf.gram_from_jacobian(X)),
        (TypeError, "a tuple of two arrays, got a list", lambda: nf.gram_from_jacobian([[X, X]])),
        (ValueError, "memory: expected an integer >= 1", lambda: nf.empirical_ntk(f, X, memory=0)),
        (TypeError, "progress", lambda: nf.empirical_ntk(f, X, progress=3)),
        (ValueError, "blocks: expected at least one", lambda: nf.gram_from_jacobian([])),
        (ValueError, r"blocks\[1\]: expected 3 x 3 points", lambda: nf.gram_from_jacobian([X, X[:2]])),
        (ValueError, r"blocks\[0\]: expected shape \(n, p\)", lambda: nf.gram_from_jacobian([X[0]])),
        (TypeError, r"blocks\[0\]: expected real numbers", lambda: nf.gram_from_jacobian([X * 1j])),
        (ValueError, r"blocks\[0\]: expected the same", lambda: nf.gram_from_jacobian([(X, X[:, :2])])),
    ):
        with pytest.raises(error, match=words):
            call()
    monkeypatch.setattr("ntkfast.support.memory.available", lambda: 2**27)
    with pytest.raises(MemoryError, match=r"outputs='full' needs .* GiB.*outputs='mean' or 'diagonal' is smaller"):
        nf.empirical_ntk(f, points(4000), outputs="full")
