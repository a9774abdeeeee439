"""Residual blocks, LayerNorm, Dropout and frozen layers against the plain recursion of the twin; their bad input."""

import pickle

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

A = nf.activations


def check(net, X, rows=slice(None), tolerance=1e-9):
    """Against the twin, at these rows."""
    exact, got = reference.kernels(net, np.asarray(X, dtype=float)[rows]), nf.kernels(net, X)
    for name, result in got._asdict().items():
        scale = np.sqrt(np.outer(np.diagonal(exact[name]), np.diagonal(exact[name]))) + 1e-300
        assert_allclose(result[rows][:, rows] / scale, exact[name] / scale, rtol=0, atol=tolerance)
        assert_array_equal(result, result.T)
    assert_allclose(nf.diagonal(net, X)[rows], np.diagonal(exact["ntk"]), rtol=tolerance / 10)


def dense():
    value = st.sampled_from([0.5, 1.0, 1.3])
    rate = st.sampled_from([0.0, 1.0, 2.0])
    return st.builds(nf.Dense, value, st.sampled_from([0.0, 0.2]), weight_lr=rate, bias_lr=rate)


def body(depth):
    activation = st.sampled_from([A.relu(), A.erf(), A.gelu(), A.tanh(), A.abs()])
    between = st.sampled_from([[], [nf.Dropout(0.25)], [nf.LayerNorm()]])
    plain = st.builds(lambda b, a, d: [*b, a, d], between, activation, dense())
    if depth == 0:
        return plain
    block = st.builds(lambda inner, s: nf.Residual(*inner, scale=s), body(depth - 1), st.sampled_from([0.5, 1.0]))
    return st.builds(lambda p, r, more: [*p, r, *more], plain, block, plain)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(first=dense(), rest=body(2), seed=st.integers(0, 1000))
def test_any_nesting(first, rest, seed):
    X = np.random.default_rng(seed).normal(size=(5, 4))
    check(nf.Network([first, *rest]), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deep_residual_network(dtype):
    block = nf.Residual(A.relu(), nf.Dense(1.0, 0.1), nf.Residual("tanh", nf.Dense(), scale=0.3), scale=0.7)
    net = nf.Network([nf.Dense(), *[block] * 6, nf.LayerNorm(), "gelu", nf.Dense(1.0, 0.1)])
    X = np.random.default_rng(0).normal(size=(150, 10)).astype(dtype)
    check(net, X, rows=np.array([0, 1, 63, 127, 128, 149]), tolerance=1e-9 if dtype is np.float64 else 2e-5)
    assert net.depth == 1 + 6 * 2 + 1
    assert pickle.loads(pickle.dumps(net)) == net
    assert hash(net) == hash(pickle.loads(pickle.dumps(net)))


def test_residual_of_linear_layers_on_paper():
    """x + s W x of a linear network: Σ = (1 + s² w²) Σ¹, Θ = Θ¹ (1 + s² w²) + s² w² Σ¹."""
    net = nf.Network([nf.Dense(), nf.Residual(nf.Dense(1.5), scale=0.5)])
    nngp, ntk = nf.kernels(net, [[2.0]])
    assert_allclose(nngp, 4 * (1 + 0.25 * 2.25))
    assert_allclose(ntk, 4 * (1 + 0.25 * 2.25) + 4 * 0.25 * 2.25)


def test_frozen_layers_add_nothing():
    X = np.random.default_rng(0).normal(size=(5, 3))
    frozen = nf.Network([nf.Dense(weight_lr=0, bias_lr=0), "relu", nf.Dense(1.0, 0.3, weight_lr=0, bias_lr=0)])
    assert not nf.ntk(frozen, X).any()
    last = nf.Network([nf.Dense(weight_lr=0, bias_lr=0), "relu", nf.Dense(1.0, 0.3)])
    assert_array_equal(*nf.kernels(last, X))


def test_a_wide_residual_network_has_this_covariance():
    """Monte Carlo: outputs of random networks of width 300 with one block, against Σ within four standard errors."""
    rng, n, runs = np.random.default_rng(0), 300, 300
    X = np.array([[1.0, 0.5], [-0.3, 1.2]])
    outputs = np.empty((runs, 2))
    for k in range(runs):
        h = X @ rng.normal(size=(2, n)) / np.sqrt(2)
        h = h + 0.8 * (np.tanh(h) @ rng.normal(size=(n, n)) / np.sqrt(n))
        outputs[k] = np.maximum(h, 0) @ rng.normal(size=n) / np.sqrt(n)
    net = nf.Network([nf.Dense(), nf.Residual("tanh", nf.Dense(), scale=0.8), "relu", nf.Dense()])
    exact = nf.nngp(net, X)
    spread = np.sqrt((np.outer(np.diagonal(exact), np.diagonal(exact)) + exact**2) / runs)
    assert np.all(np.abs(outputs.T @ outputs / runs - exact) < 4 * spread)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([nf.Residual("relu", nf.Dense()), nf.Dense()], ValueError, r"layers\[0\].*Dense before the Residual.*nothing"),
        ([nf.Dense(), nf.Residual("relu"), nf.Dense()], ValueError, r"layers\[1\]\.layers: .*Dense as the last"),
        ([nf.Dense(), nf.Residual("relu", "relu", nf.Dense())], ValueError, r"layers\[1\]\.layers\[1\].*got relu\(\)"),
        ([nf.LayerNorm(), nf.Dense()], ValueError, r"layers\[0\].*Dense before the LayerNorm"),
        (
            [nf.Dense(), "relu", nf.LayerNorm(), nf.Dense()],
            ValueError,
            r"layers\[2\].*Dense before the LayerNorm.*relu",
        ),
        ([nf.Dense(), nf.LayerNorm()], ValueError, "layers: .*Dense as the last layer.*LayerNorm"),
    ],
)
def test_bad_orders(layers, error, words):
    with pytest.raises(error, match=words):
        nf.Network(layers)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nf.Dropout(1.0), ValueError, r"rate: expected a number in \[0, 1\), got 1\.0"),
        (lambda: nf.Dropout("a"), TypeError, "rate: expected a number"),
        (lambda: nf.Residual(), ValueError, "at least one layer in a Residual"),
        (lambda: nf.Residual(nf.Dense(), scale=0), ValueError, "scale: expected a number > 0"),
        (lambda: nf.Residual(3), TypeError, r"layers\[0\]: expected a Dense, .*got int"),
        (lambda: nf.ntk(nf.Network([nf.Dense(), nested(9)]), [[1.0]]), ValueError, "nested 8 deep at most"),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()


def nested(depth):
    return nf.Residual(nested(depth - 1), scale=1.0) if depth else nf.Dense()
