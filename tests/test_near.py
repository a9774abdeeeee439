"""Pairs that are nearly equal, antipodal or far from the origin keep their digits in any network (src_c/pair.c)."""

import dataclasses
import itertools

import catalogue
import numpy as np
import pytest
import reference

import ntkfast as nf
from ntkfast.accuracy import oracle

A = nf.activations
X = np.array([1.0, 2.0, -0.5])
ASIDE = np.array([1.0, -0.3, 0.2])
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-6}  # relative to the diagonal
TAME = [entry for entry in catalogue.CLOSED_ENTRIES if entry.largest_variance > 4]
TAME = [entry.activation for entry in TAME if entry.activation.name not in ("monomial", "polynomial", "hermite")]


def errors(net, x, y):
    """Of Σ and Θ of one pair, relative to the diagonal, as the entry of a rectangle and of a symmetric matrix."""
    x, y = np.atleast_1d(x), np.atleast_1d(y)
    right = reference.pair(net, x, y)
    for K in (nf.kernels(net, x[None], y[None]), nf.kernels(net, np.stack([x, y]))):
        for value, expected, square in (
            (K.nngp, right.xy, right.xx * right.yy),
            (K.ntk, right.ntk_xy, right.ntk_xx * right.ntk_yy),
        ):
            if square > 0:
                yield float((float(value[0, -1]) - expected) / square**0.5)


def assert_right(net, x, y, dtype=np.float64, factor=1):
    x, y = np.asarray(x, dtype), np.asarray(y, dtype)
    assert max(map(abs, errors(net, x, y))) < factor * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("distance", [0.03, 1e-6, 1e-12])
@pytest.mark.parametrize(("std", "depth"), [(1.0, 20), (4.0, 6)])
@pytest.mark.parametrize("activation", TAME, ids=str)
def test_near_points(activation, std, depth, distance, dtype):
    if activation.name == "rectified_monomial" and dict(activation.parameters)["order"] > 1:
        std, depth = 1, 3  # variances grow like their powers
    assert_right(nf.MLP(depth, activation, weight_std=std, bias_std=0.2), X, X + distance * ASIDE, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("factor", [-1, -1 - 1e-5, -1 + 1e-10, 1 + 1e-3, 1 + 1e-10, 2, -3])
@pytest.mark.parametrize("bias_std", [0.0, 0.3])
@pytest.mark.parametrize("name", ["relu", "erf", "gelu", "sin", "gaussian", "abs", "sign"])
def test_parallel_points_and_antipodes(name, bias_std, factor, dtype):
    assert_right(nf.MLP(4, name, weight_std=1.5, bias_std=bias_std), X, factor * X, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("x", "y"), [(500.0, 500.1), (1e4, 1e4 + 0.3), (1e4, 1e4 + 3), (1e8, 1e8 + 1)])
@pytest.mark.parametrize("activation", [A.rbf(0.5), A.sin(), A.cos(1.0, 0.7, 0.2)], ids=str)
def test_far_from_the_origin(activation, x, y, dtype):
    assert_right(nf.Network([nf.Dense(), activation, nf.Dense()]), [x], [y], dtype)


@pytest.mark.parametrize("size", [1e-100, 1e80, 1e110])
@pytest.mark.parametrize("name", ["relu", "erf", "gaussian"])
def test_tiny_and_huge_points(name, size, monkeypatch):
    monkeypatch.setattr(reference.mp, "dps", 600)  # a bias beside such squares
    net = nf.MLP(3, name, weight_std=2, bias_std=0.3)
    for y in (X + 1e-9 * ASIDE, 3 * X, -3 * X + 1e-9 * ASIDE, -2 * X):
        assert_right(net, size * X, size * y)


@pytest.mark.parametrize("size", [300.0, 3e4, 1e9])
@pytest.mark.parametrize("activation", [A.erf(1.0, 5.0), A.gaussian(1.0, -3.0)], ids=str)
def test_steep_activations(activation, size):
    """Their duals change over a δ that is smaller than 1/q, and one large point among small ones must not be missed."""
    net = nf.MLP(3, activation, weight_std=2, bias_std=1)
    for distance in (1e-2, 1e-4, 1e-7):
        assert_right(net, size * X, size * (X + distance * ASIDE))
    K = nf.nngp(net, np.stack([X, 2 * X, ASIDE, size * X, size * (X + 1e-4 * ASIDE)]))
    right = reference.pair(net, size * X, size * (X + 1e-4 * ASIDE))
    assert float((float(K[3, 4]) - right.xy) / (right.xx * right.yy) ** 0.5) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("depth", "distance", "right"), [(10, 1e-3, 21.481264155245), (50, 1e-8, 0.106518)])
def test_chaos(depth, distance, right):
    net = nf.MLP(depth, "erf", weight_std=5, bias_std=0.1)
    assert nf.nngp(net, [X], [X + np.array([distance, 0, 0])])[0, 0] == pytest.approx(
        right, rel=1e-5 if depth == 50 else 1e-13
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("depth", [30, 56, 100])
def test_order(depth, dtype):
    """Where a network draws all points together, every pair is near."""
    for name in ("relu", "leaky_relu", "abs", "erf"):
        net = nf.MLP(depth, name, weight_std=1, bias_std=0.1)
        assert_right(net, [1.0, 2, -1], [0.5, -1, 1.5], dtype)


@pytest.mark.parametrize("distance", [0.3, 0.1, 0.03])
@pytest.mark.parametrize(("depth", "factor"), [(20, 1), (100, 10)])
def test_rounding_adds_up_over_the_layers(depth, factor, distance):
    """Small points of a critical network, neither near nor far: every layer rounds ρ by some 1e-16, in Θ over √(2δ)."""
    net = nf.MLP(depth, "relu", weight_std=2**0.5, bias_std=0.1)
    assert_right(net, 0.1 * X, 0.1 * (X + distance * ASIDE), factor=factor)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_large_bias_before_large_weights(dtype):
    layers = nf.Dense(weight_std=0.009, bias_std=90), "erf", nf.Dense(weight_std=250, bias_std=0.5), "erf"
    net = nf.Network([*layers, nf.Dense(weight_std=1.4, bias_std=0.7)])
    assert_right(net, [1.0, 0.0], [-1.0, 0.5], dtype)


def test_points_of_a_line_in_float32():
    x = np.linspace(-10 * np.pi, 10 * np.pi, 15, dtype=np.float32)[:, None]
    K = nf.ntk(nf.MLP(3, "relu", weight_std=1.5, bias_std=0.05), x)
    assert np.linalg.eigvalsh(K.astype(float))[0] == pytest.approx(0.01625005781, rel=1e-3)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-10])
def test_branches(distance):
    block = [nf.LayerNorm(), "relu", nf.Dense(weight_std=2), "erf", nf.Dense(weight_std=3, bias_std=0.1)]
    layers = [nf.Dense(weight_std=1.3, bias_std=0.2), nf.Residual(*block), nf.Residual(*block), "relu", nf.Dense()]
    assert_right(nf.Network(layers), X, X + distance * ASIDE)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-10])
def test_products(distance):
    """Θ of a product of branches, from the kernels of the branches."""
    branches = ["erf", nf.Dense(weight_std=3)], ["gelu", nf.Dense(bias_std=0.1)]
    x, y = [X], [X + distance * ASIDE]
    whole = nf.kernels(nf.Network([nf.Dense(), nf.Parallel(*branches, how="product"), nf.Dense()]), x, y)
    first, second = (nf.kernels(nf.Network([nf.Dense(), *branch]), x, y) for branch in branches)
    product = first.nngp * second.nngp
    np.testing.assert_allclose(whole.nngp, product, rtol=1e-14)
    np.testing.assert_allclose(whole.ntk, first.ntk * second.nngp + first.nngp * second.ntk + product, rtol=1e-14)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", [entry.activation for entry in catalogue.ENTRIES], ids=str)
def test_a_point_meets_itself(activation, dtype):
    """In blocks of rows and among copies, a pair of equal points has the value of the diagonal, to the last bit."""
    points = np.random.default_rng(0).standard_normal((9, 5)).astype(dtype) / 2
    net = nf.MLP(3, activation, weight_std=1.2, bias_std=0.1)
    points = np.vstack([points, points[2:5]])
    K, blocks = nf.ntk(net, points), nf.ntk(net, points[2:5], points)
    np.testing.assert_array_equal(K[[2, 3, 4], [9, 10, 11]], np.diag(K)[2:5])
    np.testing.assert_array_equal(blocks[[0, 1, 2], [2, 3, 4]], np.diag(K)[2:5])


@pytest.mark.parametrize("name", ["tanh", "erf", "hardtanh", "softsign", "sin"])
def test_odd_activations_keep_antipodes_apart(name):
    """Without a bias K(x, -x) = -K(x, x), so that nothing even is learned."""
    angle = 2 * np.pi * np.arange(16) / 32
    half = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    K = nf.ntk(nf.MLP(3, name, weight_std=1.5), np.vstack([half, -half]))
    np.testing.assert_array_equal(np.diag(K[:16, 16:]), -np.diag(K)[:16])


@pytest.mark.parametrize("activation", TAME, ids=str)
def test_both_orders_give_the_same_bits(activation):
    """In float64: single precision BLAS may add up the features of some columns in another order."""
    points = np.random.default_rng(1).standard_normal((133, 40)) / 2  # BLAS has edges here
    K = nf.ntk(nf.MLP(3, activation, weight_std=1.1, bias_std=0.1), points, points.copy())
    np.testing.assert_array_equal(K, K.T)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("name", ["relu", "erf", "abs"])
def test_numbers_at_the_ends_of_the_range(name, scale):
    points = scale * np.array([[1.0, 2.0, 2.0], [1.00000000002, 2.00000000001, 2.0], [2.0, 4.0, 4.0], [0.0, 0.0, 0.0]])
    K = nf.kernels(nf.MLP(4, name, bias_std=0.1), points, points.copy())
    assert np.isfinite(K.nngp).all()
    assert np.isfinite(K.ntk).all()


@pytest.mark.parametrize("activation", ["relu", "erf", "sin", "abs"])
@pytest.mark.parametrize(("weight_std", "bias_std"), [(2**0.5, 0.0), (1.0, 0.3), (1.5, 0.05)])
@pytest.mark.parametrize("depth", [8, 12, 40, 100])
def test_deep_networks_in_float32(activation, weight_std, bias_std, depth):
    """Rounding does not add up over layers: ordinary points, duplicates from near to far, and antipodes."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal((6, 10))
    X = np.concatenate([base, -base, *(base + 10.0**-k * rng.standard_normal(base.shape) for k in range(1, 7))])
    X = X.astype(np.float32)
    net = nf.MLP(depth, activation, weight_std=weight_std, bias_std=bias_std)
    wide = nf.kernels(net, X.astype(np.float64), get=("nngp", "ntk"))
    for K, expected in zip(nf.kernels(net, X, get=("nngp", "ntk")), wide, strict=True):
        assert K.dtype == np.float32
        scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
        assert np.abs((K - expected) / scale).max() < TOLERANCE[np.float32]


KINKED = [
    A.threshold(),
    A.hardshrink(),
    A.hardtanh(),
    A.softshrink(),
    A.relu6(),
    A.smelu(),
    A.hard_swish(),
    A.squared_relu(0.5),
]


@pytest.mark.parametrize("other", [X + 1e-2 * ASIDE, X + 1e-6 * ASIDE, X + 1e-12 * ASIDE, 1.01 * X, -X], ids=str)
@pytest.mark.parametrize("activation", KINKED, ids=str)
def test_kinks_away_from_0(activation, other):
    """Between near points there are windows in which only one of both is past a kink (src_c/kinked.c)."""
    *_, right = itertools.islice(oracle.layers(activation, 2.0, 0.1, X, other), 4)
    K = nf.kernels(nf.MLP(4, activation, weight_std=2.0, bias_std=0.1), X[None], other[None])
    for value, expected, square in (
        (K.nngp, right.xy, right.xx * right.yy),
        (K.ntk, right.ntk_xy, right.ntk_xx * right.ntk_yy),
    ):
        assert abs(float(value[0, 0]) - expected) < 1e-10 * square**0.5


@pytest.mark.parametrize("activation", [A.hardshrink(), A.softshrink(), A.hardtanh()], ids=str)
def test_antipodes_of_odd_kinks(activation):
    K = nf.ntk(nf.MLP(6, activation, weight_std=1.4), np.array([X, -X]))
    assert K[0, 1] == -K[0, 0]


# --- Hermite series

SERIES = [A.tanh(), A.silu(), A.elu(), A.selu(), A.softsign(), A.arctan()]


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("activation", SERIES, ids=str)
def test_near_points_of_one_length_alone(activation, distance):
    """Their variances span the shortest of panels, and what tells them apart reaches beyond."""
    net = nf.MLP(4, activation, weight_std=1.6, bias_std=0.1)
    x, y = X, X + distance * ASIDE
    with oracle.mp.workdps(oracle.DIGITS):
        for _, pair in zip(range(4), oracle.layers(activation, 1.6, 0.1, x, y), strict=False):
            right = pair
    kernels = nf.kernels(net, x[None], y[None])
    assert abs(kernels.nngp[0, 0] - float(right.xy)) < 2e-11 * float(right.xx)
    assert abs(kernels.ntk[0, 0] - float(right.ntk_xy)) < 1e-10 * float(right.ntk_xx)


@pytest.mark.parametrize("activation", [*SERIES[:3], A.mish(), A.softplus(), A.arctan()], ids=str)
@pytest.mark.parametrize("at", [1e6, 3e8, 1e10])
def test_series_far_from_the_origin(activation, at):
    """A large variance makes steps and lines of them: K(x, y) is between these, and continuous."""
    net = nf.MLP(2, activation, weight_std=1.0, bias_std=0.3)
    K = nf.nngp(net, [[at]], [[at * (1 + 1e-7)]])[0, 0]
    assert np.isclose(K, nf.diagonal(net, [[at]], get="nngp")[0], rtol=1e-6)


@pytest.mark.parametrize(
    "activation",
    [
        A.tanh(),
        A.elu(),
        A.softsign(),
        *(pytest.param(each, marks=pytest.mark.long) for each in (A.silu(), A.gelu_tanh())),
    ],
    ids=str,
)
def test_nearly_parallel_points_of_different_lengths(activation):
    """In the plane many pairs are; with raw numbers variances are large, and a series converges for neither point."""
    rng = np.random.default_rng(0)
    angles, lengths = np.concatenate([[0.0], 10 ** rng.uniform(-5, 0, 14)]), 10 ** rng.uniform(0, 2.5, 15)
    points = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points[1] = 130 * points[0] / lengths[0] + [0, 2.0]
    net = nf.MLP(2, activation, weight_std=1.3, bias_std=0.2)
    K, q = nf.nngp(net, points), 1.69 / 2 * points @ points.T + 0.04
    d = q.diagonal()
    right = 0.04 + 1.69 * nf.dual(activation, np.repeat(d, 15), np.tile(d, 15), q.ravel()).reshape(15, 15)
    far = 1 - q / np.sqrt(np.outer(d, d)) > 1e-7  # nf.dual gets correlations that are rounded
    assert far.sum() > 100
    assert (np.abs(K - right) / np.sqrt(np.outer(K.diagonal(), K.diagonal())))[far].max() < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_random_deep_erf_networks(seed, monkeypatch):
    """Near pairs, also of different norms, against 60 digits.

    Each layer adds a few roundings to an angle, and a slope's logarithm changes by at most half of that of δ; so Θ is
    off by L²/4 times a few roundings of δ, and Σ by less, relative to the diagonal. For pairs that are apart, δ comes
    from Σ, where a rounding is 1/δ of them. The worst of 1000 networks was 11 L² eps.
    """
    monkeypatch.setattr(reference.mp, "dps", 60)
    rng = np.random.default_rng(seed)
    for case in range(15):
        depth, d = int(rng.integers(1, 13)), int(rng.integers(1, 6))
        layers = [nf.Dense(weight_std=rng.uniform(0.5, 5), bias_std=rng.uniform(0, 90)) for _ in range(depth)]
        layers = [dataclasses.replace(layer, bias_std=0.0) if rng.random() < 0.5 else layer for layer in layers]
        net = nf.Network([one for layer in layers for one in ("erf", layer)][1:])
        x, nearness = rng.normal(size=d) * 10 ** rng.uniform(-2, 2), 10 ** rng.uniform(-12, -1)
        ratio = (1.0, 1 + nearness * rng.normal(), 10 ** rng.uniform(-1, 1))[case % 3]
        y = ratio * x + nearness * np.abs(x).max() * rng.normal(size=d)
        worst = max(map(abs, errors(net, x, y)))
        assert worst <= 16 * depth**2 * np.finfo(float).eps, (net, x, y, worst)
