"""Derivatives of kernels with respect to the points: against differences, 50 digits and their own parts."""

import catalogue
import numpy as np
import pytest
import random_networks
import reference
from example_networks import deep
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.engine import _core

A = nf.activations
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(5, 4)), RNG.normal(size=(3, 4))
STEPS, WEIGHTS = (-2, -1, 1, 2), np.array([1, -8, 8, -1]) / 12  # a fourth-order central difference
H = 5e-4


def differences(function, points, towards, h=H):
    """The derivative of a number along a change of all points."""
    pairs = zip(STEPS, WEIGHTS, strict=True)
    return sum(weight * function(points + step * h * towards) for step, weight in pairs) / h


def check(net, X, Y=None, kernels=("nngp", "ntk"), exact=1e-12):
    """Against differences of kernels accurate to `exact`."""
    weights = RNG.normal(size=(len(X), len(X if Y is None else Y)))
    for kernel in kernels:

        def weighted(X, Y=None, kernel=kernel):
            return np.vdot(weights, nf.kernels(net, X, Y, get=kernel))

        found = nf.kernel_vjp(net, X, Y, weights=weights, kernel=kernel, inputs=True)
        alone = nf.kernel_vjp(net, X, Y, weights=weights, kernel=kernel)
        assert_array_equal(found.hyperparameters, alone)
        scale = np.abs(weights).sum() * np.abs(nf.kernels(net, X, Y, get=kernel)).max()
        sides = [(X, found.X, lambda X: weighted(X, Y))]
        assert (found.Y is None) == (Y is None)
        if Y is not None:
            sides.append((Y, found.Y, lambda Y: weighted(X, Y)))
        for points, gradient, function in sides:
            assert gradient.shape == points.shape
            towards = RNG.normal(size=points.shape)
            atol = 1e-7 * np.abs(gradient * towards).sum() + exact / H * scale
            want = differences(function, points, towards)
            assert np.vdot(gradient, towards) == pytest.approx(want, rel=0, abs=atol)


@pytest.mark.parametrize("other", [None, Y], ids=["symmetric", "rectangular"])
@pytest.mark.parametrize("entry", catalogue.DIFFERENTIABLE_ENTRIES, ids=repr)
def test_against_differences(entry, other):
    """Series are truncated at about 1e-10, at a term that a step may change."""
    check(deep(entry.activation), X, other, exact=min(entry.promised, 1e-10))


@pytest.mark.parametrize("activation", catalogue.CLOSED, ids=repr)
def test_against_fifty_digits(activation):
    """Coordinates are dyadic, so that those at a distance of 2^-16 are exact floats."""
    net, (x, y) = deep(activation), np.round(X[:2] * 2**10) / 2**10
    h = reference.mp.mpf(2) ** -16
    for kernel, field in (("nngp", "xy"), ("ntk", "ntk_xy")):
        found = nf.kernel_vjp(net, x[None], y[None], weights=[[1.0]], kernel=kernel, inputs=True)
        for k in range(4):
            moved = [x + step * 2.0**-16 * np.eye(4)[k] for step in STEPS]
            values = [getattr(reference.pair(net, point, y), field) for point in moved]
            want = float((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h))
            assert found.X[0, k] == pytest.approx(want, rel=1e-11, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), rectangular=st.booleans())
def test_any_network(seed, rectangular):
    check(random_networks.network(np.random.default_rng(seed)), X, Y if rectangular else None, exact=1e-10)


@pytest.mark.parametrize("net", [deep("relu"), deep("tanh")], ids=["relu", "tanh"])
@pytest.mark.parametrize("size", [(300, 140), (260, 3), (3, 260)])
def test_tiles(net, size):
    """Rectangles and chunks together are the sum of their parts, for any number of threads to the last bit."""
    rng = np.random.default_rng(1)
    X, Y, weights = (rng.normal(size=shape) for shape in ((size[0], 20), (size[1], 20), size))
    whole = nf.kernel_vjp(net, X, Y, weights=weights, inputs=True, n_threads=1)
    for one, two in zip(whole, nf.kernel_vjp(net, X, Y, weights=weights, inputs=True, n_threads=3), strict=True):
        assert_array_equal(one, two)
    parts = [slice(0, 2), slice(2, None)]
    left = sum(nf.kernel_vjp(net, X, Y[p], weights=weights[:, p], inputs=True).X for p in parts)
    right = sum(nf.kernel_vjp(net, X[p], Y, weights=weights[p], inputs=True).Y for p in parts)
    assert_allclose(whole.X, left, rtol=0, atol=1e-9 * np.abs(left).max())
    assert_allclose(whole.Y, right, rtol=0, atol=1e-9 * np.abs(right).max())


@pytest.mark.parametrize("n", [130, 300])
def test_symmetric_is_both_sides_together(n):
    """Apart from the diagonal, where the points of a pair move together."""
    net, X = deep("relu"), np.random.default_rng(2).normal(size=(n, 20))
    weights = np.random.default_rng(3).normal(size=(n, n))
    np.fill_diagonal(weights, 0)
    both = nf.kernel_vjp(net, X, X.copy(), weights=weights, inputs=True)
    one = nf.kernel_vjp(net, X, weights=weights, inputs=True)
    assert_allclose(one.X, both.X + both.Y, rtol=0, atol=1e-11 * np.abs(one.X).max())
    assert one.Y is None


def test_features_that_do_not_follow_one_another():
    wide, net, weights = RNG.normal(size=(7, 12)), deep("erf"), RNG.normal(size=(7, 7))
    found = nf.kernel_vjp(net, wide[:, ::2], weights=weights, inputs=True).X
    assert_array_equal(found, nf.kernel_vjp(net, wide[:, ::2].copy(), weights=weights, inputs=True).X)


# --- where two points coincide, or nearly


@pytest.mark.parametrize("name", ["relu", "abs", "hardtanh", "erf", "tanh", "elu"])
@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_coinciding_points(name, factor):
    """The mean of both one-sided derivatives, which is what a central difference gives."""
    net = deep(name)
    x, y = X[:1], factor * X[:1]
    found = nf.kernel_vjp(net, x, y, weights=[[1.0]], inputs=True)
    for towards in np.eye(4):
        want = differences(lambda x: nf.ntk(net, x, y)[0, 0], x, towards, h=1e-4)
        assert found.X[0] @ towards == pytest.approx(want, rel=0, abs=5e-6)
    twice = nf.kernel_vjp(net, np.vstack([x, x, Y]), weights=np.ones((5, 5)), inputs=True).X
    assert_allclose(twice[0], twice[1], rtol=1e-8)


@pytest.mark.parametrize("name", ["relu", "abs", "sign"])
@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_near_pairs(name, distance):
    """1 - |ρ| = δ costs ε/δ of the derivative."""
    x = np.array([0.75, -0.5, 1.25])
    y = x + distance * np.array([1.0, 1.0, 0.0])
    net = nf.MLP(2, name, bias_std=0.5)
    found = nf.kernel_vjp(net, x[None], y[None], weights=[[1.0]], inputs=True).X[0]
    h = distance * 2.0**-14
    for k in range(3):
        values = [reference.pair(net, x + s * h * np.eye(3)[k], y).ntk_xy for s in STEPS]
        want = float((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * reference.mp.mpf(h)))
        assert found[k] == pytest.approx(want, rel=1e-5 + 1e-15 / distance**2, abs=1e-3 if distance < 1e-5 else 1e-6)


def test_zero_and_tiny_points():
    for net in (deep("relu"), nf.MLP(3, "relu"), deep("tanh")):
        points = np.vstack([np.zeros(4), np.full(4, 1e-160), np.full(4, 1e-320), X])
        found = nf.kernel_vjp(net, points, weights=np.ones((8, 8)), inputs=True)
        assert np.isfinite(found.X).all()
    linear = nf.kernel_vjp(nf.MLP(1), np.zeros((1, 4)), Y, weights=np.ones((1, 3)), kernel="nngp", inputs=True)
    assert_allclose(linear.X, Y.sum(axis=0, keepdims=True) / 4, rtol=1e-14)
    assert_array_equal(linear.Y, np.zeros((3, 4)))


# --- precision and arguments


def test_single_precision():
    net, weights = deep("gelu"), RNG.normal(size=(5, 3))
    exact = nf.kernel_vjp(net, X, Y, weights=weights, inputs=True)
    single = nf.kernel_vjp(net, X.astype("f4"), Y.astype("f4"), weights=weights, inputs=True)
    for one, two in zip(single, exact, strict=True):
        assert one.dtype == np.float32
        assert_allclose(one, two, rtol=0, atol=2e-5 * np.abs(two).max())


@pytest.mark.parametrize("scale", [1e-18, 1e-21, 1e-24])
def test_single_precision_of_points_whose_products_underflow(scale):
    net, points, weights = nf.MLP(4, "relu"), (X * scale).astype("f4"), RNG.normal(size=(5, 5))
    single = nf.kernel_vjp(net, points, weights=weights.astype("f4"), inputs=True)
    exact = nf.kernel_vjp(net, points.astype("f8"), weights=weights.astype("f4").astype("f8"), inputs=True)
    assert single.X.dtype == np.float32
    assert_allclose(single.X, exact.X, rtol=0, atol=1e-6 * np.abs(exact.X).max())


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_instruction_sets_agree(dtype):
    X, weights = np.random.default_rng(0).normal(size=(150, 6)).astype(dtype), np.ones((150, 150))
    before, found = _core.isa_in_use(), []
    try:
        for isa in _core.isa_available():
            _core.use_isa(isa)
            found.append(nf.kernel_vjp(deep("relu"), X, weights=weights, inputs=True).X)
    finally:
        _core.use_isa(before)
    for other in found[1:]:
        assert_allclose(other, found[0], rtol=0, atol=(1e-3 if dtype == "f4" else 1e-11) * np.abs(found[0]).max())


def test_parameters_of_activations_come_along():
    net, weights = nf.MLP(2, "rbf", bias_std=0.1), np.ones((5, 5))
    found = nf.kernel_vjp(net, X, weights=weights, inputs=True, activations=True)
    assert_array_equal(found.hyperparameters, nf.kernel_vjp(net, X, weights=weights, activations=True))
    assert found.X.shape == X.shape


def test_what_has_no_derivatives_is_named():
    with pytest.raises(ValueError, match="activation 'hardshrink' jumps"):
        nf.kernel_vjp(nf.MLP(2, "hardshrink"), X, weights=np.ones((5, 5)), inputs=True)
    weights = np.ones((5, 5))
    weights[1, 2] = np.nan
    with pytest.raises(ValueError, match="weights: expected finite numbers"):
        nf.kernel_vjp(nf.MLP(2), X, weights=weights, inputs=True)
