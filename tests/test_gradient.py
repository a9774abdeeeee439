"""Derivatives of kernels and likelihoods with respect to hyperparameters: against differences and 50 digits."""

import itertools
import re

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
from ntkfast.engine import series
from ntkfast.learning.gaussian import GaussianProcess, log_marginal_likelihood
from ntkfast.learning.likelihood import fit_hyperparameters, network_likelihood

A = nf.activations
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(5, 4)), RNG.normal(size=(3, 4))
STEPS, WEIGHTS = (-2, -1, 1, 2), np.array([1, -8, 8, -1]) / 12  # a fourth-order central difference
H = 5e-4  # its error is h⁴ f⁽⁵⁾/30, and f⁽⁵⁾ up to 50⁴ f' for polynomials of degree 50 in a weight_std


def moved(net, p, step):
    """Kernels are even in bias_std."""
    values = list(nf.hyperparameters(net).values())
    values[p] = abs(values[p] + step)
    return nf.with_hyperparameters(net, values)


def difference(function, net, p, h=H):
    return (
        sum(weight * np.asarray(function(moved(net, p, step * h))) for step, weight in zip(STEPS, WEIGHTS, strict=True))
        / h
    )


def check(net, X, Y=None, get=("nngp", "ntk"), exact=1e-12):
    """Against differences of kernels accurate to `exact`, and weighted sums against the matrices."""
    values, gradients = nf.kernels(net, X, Y, get=get, gradient=True)
    for value, alone in zip(values, nf.kernels(net, X, Y, get=get), strict=True):  # series have fewer terms alone
        assert_allclose(value, alone, rtol=0, atol=1e-10 * np.abs(alone).max())
    for p in range(2 * net.depth):
        wanted = difference(lambda net: nf.kernels(net, X, Y, get=get), net, p)
        for name, want in zip(get, wanted, strict=True):
            atol = 5e-8 * np.abs(want).max() + exact / H * np.abs(getattr(values, name)).max()
            assert_allclose(getattr(gradients, name)[p], want, rtol=0, atol=atol)
    weights = RNG.normal(size=values[0].shape)
    for name in get:
        matrices = getattr(gradients, name)
        scale = np.einsum("pij,ij->p", np.abs(matrices), np.abs(weights)).max()
        found = nf.kernel_vjp(net, X, Y, weights=weights, kernel=name)
        assert_allclose(found, np.einsum("pij,ij->p", matrices, weights), rtol=0, atol=1e-9 * scale)


# --- the kernels


@pytest.mark.parametrize("other", [None, Y], ids=["symmetric", "rectangular"])
@pytest.mark.parametrize("entry", catalogue.DIFFERENTIABLE_ENTRIES, ids=repr)
def test_against_differences(entry, other):
    """Series are truncated at about 1e-10, at a term that a step may change."""
    check(deep(entry.activation), X, other, exact=min(entry.promised, 1e-10))


@pytest.mark.parametrize("activation", catalogue.CLOSED, ids=repr)
def test_against_fifty_digits(activation):
    """Hyperparameters are dyadic, so that those at a distance of 2^-16 are exact floats."""
    net = nf.Network(
        [
            nf.Dense(weight_std=1.25, bias_std=0.5),
            activation,
            nf.Dense(weight_std=0.75, bias_std=0.25),
            activation,
            nf.Dense(weight_std=1.5, bias_std=0.125),
        ]
    )
    found = nf.kernels(net, X[:2], gradient=True).gradients
    h = reference.mp.mpf(2) ** -16
    for i, j in [(0, 0), (0, 1), (1, 1)]:
        for p in range(6):
            states = [reference.pair(moved(net, p, s * 2.0**-16), X[i], X[j]) for s in STEPS]
            for name, field in (("nngp", "xy"), ("ntk", "ntk_xy")):
                values = [getattr(state, field) for state in states]
                want = float((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h))
                assert getattr(found, name)[p, i, j] == pytest.approx(want, rel=1e-12, abs=1e-13)


def layers():
    std, bias = st.sampled_from([0.6, 1.0, 1.3]), st.sampled_from([0.0, 0.2])
    rate = st.sampled_from([0.0, 1.0, 2.0])
    dense = st.builds(nf.Dense, weight_std=std, bias_std=bias, weight_lr=rate, bias_lr=rate)
    activation = st.sampled_from([A.relu(), A.erf(), A.gelu(), A.tanh(), A.hardtanh(), A.rbf(0.4)])
    norm = st.sampled_from([[], [], [nf.LayerNorm()]])
    mask = st.sampled_from([[], [], [nf.Dropout(0.3)]])
    hidden = st.builds(lambda n, a, m, d: [*n, a, *m, d], norm, activation, mask, dense)
    block = st.builds(lambda inner, s: [nf.Residual(*inner, scale=s)], hidden, st.sampled_from([0.5, 1.0]))
    nested = st.builds(lambda a, b: [nf.Residual(nf.Residual(*a, scale=0.7), *b)], hidden, hidden)
    some = st.lists(st.one_of(hidden, block, nested), min_size=1, max_size=3)
    return st.builds(lambda first, rest, last: nf.Network([first, *itertools.chain(*rest), *last]), dense, some, hidden)


@settings(max_examples=25, deadline=None)
@given(net=layers(), rectangular=st.booleans())
def test_any_network(net, rectangular):
    check(net, X, Y if rectangular else None, exact=1e-10)


@pytest.mark.parametrize("other", [None, Y], ids=["symmetric", "rectangular"])
@pytest.mark.parametrize("seed", range(20))
def test_any_layers(seed, other):
    check(random_networks.network(np.random.default_rng(seed)), X, other, exact=1e-10)


def test_tiles_of_branches():
    """Sums and products over several chunks and rectangles, against the matrices of a few points."""
    gate = nf.Parallel(["relu", nf.Dense()], [nf.Dense(weight_std=0.8, bias_std=0.1), "erf"], [], how="product")
    wide = nf.Parallel([], ["gelu", nf.Dense(weight_std=1.2)], [nf.Residual("relu", nf.Dense()), nf.Scale(0.5)])
    net = nf.Network([nf.Dense(bias_std=0.2), wide, gate, nf.Dense(bias_std=0.1), "erf", nf.Dense()])
    X, Y = RNG.normal(size=(300, 4)), RNG.normal(size=(140, 4))
    for other in (None, Y):
        columns = X if other is None else Y
        found, few = nf.kernels(net, X, other, gradient=True), nf.kernels(net, X[-3:], columns[-2:], gradient=True)
        for all_of, some in zip(found.gradients, few.gradients, strict=True):
            assert_allclose(all_of[:, -3:, -2:], some, rtol=1e-6, atol=1e-9)  # near ρ = 1: both have one point
        for name, matrices in zip(("nngp", "ntk"), found.gradients, strict=True):
            weights = RNG.normal(size=matrices.shape[1:])
            scale = np.einsum("pij,ij->p", np.abs(matrices), np.abs(weights)).max()
            total = np.einsum("pij,ij->p", matrices, weights)
            assert_allclose(
                nf.kernel_vjp(net, X, other, weights=weights, kernel=name), total, rtol=0, atol=1e-9 * scale
            )


@pytest.mark.parametrize(("n", "m"), [(300, None), (130, 129), (2, 700), (700, 1)])
def test_tiles(n, m):
    """Every part of a matrix of several rectangles, whatever the threads; the weights need not be symmetric."""
    net, rng = nf.MLP(3, "relu", 1.2, 0.1), np.random.default_rng(n)
    X, Y = rng.normal(size=(n, 5)), None if m is None else rng.normal(size=(m, 5))
    found = nf.kernels(net, X, Y, get="ntk", gradient=True).gradients
    weights = rng.normal(size=found.shape[1:])
    sums = [
        nf.kernel_vjp(net, X, Y, weights=w, n_threads=k) for k in (1, 3) for w in (weights, np.asfortranarray(weights))
    ]
    assert_allclose(
        sums[0], np.einsum("pij,ij->p", found, weights), rtol=0, atol=1e-12 * np.abs(found).sum(axis=(1, 2)).max()
    )
    assert_array_equal(sums[0], sums[2])
    assert_array_equal(sums[1], sums[3])
    assert_allclose(sums[0], sums[1], rtol=1e-12, atol=1e-12 * np.abs(sums[0]).max())
    assert_array_equal(found, nf.kernels(net, X, Y, get="ntk", gradient=True, n_threads=3).gradients)
    some = [0, n // 2, n - 1]
    if m is None:
        assert_array_equal(found, np.swapaxes(found, 1, 2))
        few = nf.kernels(net, X[some], None, get="ntk", gradient=True).gradients
        assert_allclose(found[:, some][:, :, some], few, rtol=1e-12, atol=1e-13)
    else:
        few = nf.kernels(net, X[some], Y[:1], get="ntk", gradient=True).gradients
        assert_allclose(found[:, some, :1], few, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "erf", "gelu", "tanh", "hardtanh", "sin"])
def test_float32(activation):
    net, single = deep(A.get(activation)), X.astype("f4")
    found, exact = (nf.kernels(net, single, dtype=dtype, gradient=True).gradients for dtype in (None, "f8"))
    for one, two in zip(found, exact, strict=True):
        assert one.dtype == np.float32
        assert_allclose(one, two, atol=2e-5 * np.abs(two).max())
    weights = np.ones((5, 5))
    total = nf.kernel_vjp(net, single, weights=weights)
    assert total.dtype == np.float32
    assert_allclose(total, nf.kernel_vjp(net, X, weights=weights), rtol=1e-4, atol=1e-4)


def test_duplicates_are_like_the_diagonal():
    twice = np.vstack([X, X])
    for name in ("relu", "abs", "hardtanh", "gelu"):
        for found in nf.kernels(deep(A.get(name)), twice, gradient=True).gradients:
            copies, diagonal = found[:, range(5), range(5, 10)], found[:, range(5), range(5)]
            assert_allclose(copies, diagonal, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("distance", [2.0**-6, 2.0**-12, 2.0**-18])
def test_near_duplicates(distance):
    """ρ is accurate to ε, and dΘ to ε/√(1-ρ), where 1-ρ is about the distance squared."""
    net = nf.Network(
        [
            nf.Dense(weight_std=1.25, bias_std=0.5),
            "relu",
            nf.Dense(weight_std=0.75, bias_std=0.25),
            "relu",
            nf.Dense(weight_std=1.5, bias_std=0.125),
        ]
    )
    pair = np.array([[1.0, 0.5], [1.0, 0.5 + distance]])
    found = nf.kernels(net, pair, get="ntk", gradient=True).gradients[:, 0, 1]
    h = reference.mp.mpf(2) ** -40
    for p in range(6):
        values = [reference.pair(moved(net, p, s * 2.0**-40), *pair).ntk_xy for s in (-1, 1)]
        assert found[p] == pytest.approx(float((values[1] - values[0]) / (2 * h)), rel=1e-14 / distance)


@pytest.mark.parametrize("name", ["sin", "cos", "rbf"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_duplicates_of_large_norm(name, dtype):
    """|dE[φφ]/dq| <= b² E[φ²]/2, though E[(u-v)²] is rounded below 0 by far more than 1."""
    X = np.vstack([RNG.normal(size=(9, 4)), np.zeros((1, 4))]).astype(dtype) * {"f4": 1e6, "f8": 1e11}[dtype]
    X = np.vstack([X, X * (1 + np.finfo(dtype).eps)])
    q = np.max(np.sum(X.astype(float) ** 2, axis=1))
    gradient = nf.kernel_vjp(nf.MLP(2, name), X, weights=np.full((20, 20), 1 / 400, dtype), kernel="nngp")
    assert np.abs(gradient).max() <= 4 * q  # a sum of NaN is not


def test_opposite_points_and_zero_rows():
    """Without biases ρ remains -1, and the point 0 has no variance: nothing is divided by it."""
    points = np.array([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]])
    net = nf.MLP(3, "leaky_relu", 1.3)
    values, found = nf.kernels(net, points, gradient=True)
    for value, gradient in zip(values, found, strict=True):
        assert np.isfinite(gradient).all()
        assert_array_equal(gradient[1::2], 0)
        for p in (0, 2, 4):  # Σ is the product of all w², Θ is L times that
            assert_allclose(gradient[p], 2 / 1.3 * value, rtol=1e-12, atol=1e-13)


def close_points():
    """Pairs with |ρ| from 0.91 to 1, of both signs and unequal lengths; no duplicates, accurate only to √ε."""
    rng = np.random.default_rng(1)
    x, away = rng.normal(size=4), rng.normal(size=4)
    away -= away @ x / (x @ x) * x
    angles = np.array([0, 1e-6, 1e-3, 0.1, 0.3, 0.42])[:, None]
    points = (np.cos(angles) * x + np.sin(angles) * away) * np.array([1, 1, 0.7, 1.5, 3, 1])[:, None]
    return np.vstack([points, -points[[0, 2, 4]]])


BENT = nf.Activation.from_function(lambda x: np.abs(np.tanh(x) - 0.3), name="bent")
STEEP = nf.Activation.from_function(lambda x: np.tanh(3 * x + 1) + x, name="steep")
CLOSE = [
    A.hardtanh(),
    A.relu6(),
    A.elu(),
    A.selu(),
    A.celu(0.5),
    A.softsign(),
    STEEP,
    A.hard_swish(),
    A.squared_relu(0.3),
    BENT,
]


@pytest.mark.parametrize(
    ("activation", "rectangular"),
    [
        pytest.param(
            activation,
            rectangular,
            id=f"{'rectangular' if rectangular else 'symmetric'}-{activation.name}",
            marks=pytest.mark.long if activation is BENT and rectangular else (),  # more variances, so more tables
        )
        for rectangular in (False, True)
        for activation in CLOSE
    ],
)
def test_close_pairs_beyond_the_reach_of_the_series(activation, rectangular):
    """Tails of 1e-10 in each layer are relative to the diagonal, which is a few times the entry."""
    points = close_points()
    check(deep(activation), points, 1.1 * points[::-1] if rectangular else None, exact=1e-9)


def test_tables_and_series_have_the_same_derivatives(monkeypatch):
    """softplus's series converges up to |ρ| = 1 here; its tables, accurate to 1e-11, lose 13² · 2/h in a derivative."""
    points, net = close_points() / 2, deep(A.softplus())
    by_series = nf.kernels(net, points, gradient=True).gradients
    whole = series.Family._reach_and_terms
    monkeypatch.setattr(series.Family, "_reach_and_terms", lambda *args: (0.9, whole(*args)[1]))
    monkeypatch.setattr(series, "_families", series._Families())  # new families, which have bound nothing yet
    by_tables = nf.kernels(net, points, gradient=True).gradients
    for found, wanted in zip(by_tables, by_series, strict=True):
        assert not np.array_equal(found, wanted)
        assert_allclose(found, wanted, rtol=0, atol=1e-8 * np.abs(wanted).max())


# --- names and values of hyperparameters


def test_hyperparameters():
    net = nf.Network(
        [
            nf.Dense(weight_std=2.0, bias_std=0.5),
            nf.Residual("relu", nf.Dense(weight_std=3.0), scale=0.5),
            "erf",
            nf.Dense(weight_std=4.0, bias_std=0.1),
        ]
    )
    assert list(nf.hyperparameters(net).values()) == [2.0, 0.5, 3.0, 0.0, 4.0, 0.1]
    assert list(nf.hyperparameters(net))[2:4] == [(1, "weight_std"), (1, "bias_std")]
    changed = nf.with_hyperparameters(net, np.arange(1.0, 7.0))
    assert list(nf.hyperparameters(changed).values()) == [1, 2, 3, 4, 5, 6]
    assert nf.with_hyperparameters(changed, nf.hyperparameters(net).values()) == net


# --- the likelihood

TARGETS = np.sin(X.sum(axis=1))[:, None] + np.array([0.0, 0.3])


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_likelihood(kernel):
    net = deep(A.relu())
    found = network_likelihood(net, X, TARGETS, noise=0.2, kernel=kernel)
    K, dK = nf.kernels(net, X, get=kernel, gradient=True)
    by_matrices = log_marginal_likelihood(K, TARGETS, noise=0.2, gradients=dK)
    assert found.value == by_matrices.value
    assert_allclose(found.gradient, by_matrices.gradient, rtol=1e-11)
    assert found.noise_gradient == pytest.approx(by_matrices.noise_gradient, rel=1e-12)
    for p in range(6):
        want = difference(lambda net: network_likelihood(net, X, TARGETS, noise=0.2, kernel=kernel).value, net, p)
        assert found.gradient[p] == pytest.approx(want, rel=1e-8, abs=1e-8)


def test_likelihood_gradient_is_symmetric():
    gp = GaussianProcess(nf.nngp(deep(A.erf()), X), TARGETS, noise=0.1)
    W = gp.likelihood_gradient()
    assert_allclose(W, W.T, atol=1e-13)
    inverse = np.linalg.inv(nf.nngp(deep(A.erf()), X) + 0.1 * np.eye(5))
    assert_allclose(W, (gp.dual_coefficients @ gp.dual_coefficients.T - 2 * inverse) / 2, rtol=1e-10, atol=1e-12)


POINTS = np.linspace(-2, 2, 25)[:, None]
NOISY = np.sin(2 * POINTS[:, 0]) + 0.1 * np.random.default_rng(0).normal(size=25)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_fit(kernel):
    start, calls = nf.MLP(2, "erf", bias_std=0.5), []
    found = fit_hyperparameters(
        start, POINTS, NOISY, kernel=kernel, progress=lambda done, total: calls.append((done, total))
    )
    assert found.converged
    assert "CONVERGENCE" in found.message
    assert found.path[0] == network_likelihood(start, POINTS, NOISY, noise=0.1, kernel=kernel).value
    assert (np.diff(found.path) >= 0).all()
    assert found.value == pytest.approx(found.path[-1], rel=1e-12)
    assert calls == [(k, 100) for k in range(1, len(found.path))]
    there = network_likelihood(found.network, POINTS, NOISY, noise=found.noise, kernel=kernel)
    assert there.value == pytest.approx(found.value, rel=1e-10)
    logs = there.gradient * list(nf.hyperparameters(found.network).values())
    assert np.abs([*logs, there.noise_gradient * found.noise]).max() < 0.05  # of about 25 points
    assert 0.003 < found.noise < 0.03  # 0.01 was put in


def test_fixed_stays():
    start = nf.MLP(2, "erf", bias_std=0.5)
    found = fit_hyperparameters(start, POINTS, NOISY, fixed=["noise", "bias_std", (1, "weight_std")], max_iterations=3)
    before, after = nf.hyperparameters(start), nf.hyperparameters(found.network)
    assert {key for key in before if before[key] != after[key]} == {(0, "weight_std")}
    assert found.noise == 0.1
    assert len(found.path) <= 4
    without_bias = fit_hyperparameters(nf.MLP(2, "erf"), POINTS, NOISY, max_iterations=2).network
    assert nf.hyperparameters(without_bias)[0, "bias_std"] == 0


def test_a_fit_survives_trial_steps_without_a_likelihood():
    """Targets this large send the first line search to where K + σ² I is singular to rounding."""
    net, y = nf.MLP(2, "relu", bias_std=0.5), 1e4 * POINTS[:, 0]
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        network_likelihood(nf.with_hyperparameters(net, [1e4, 0.5, 1e4, 0.5]), POINTS, y, noise=1e-3)
    found = fit_hyperparameters(net, POINTS, y, noise=1e-3)
    assert found.value == found.path.max() > found.path[0]


def test_a_fit_names_flat_directions():
    """Only the product of the weight_std of a relu without biases matters: L - 1 directions, each with sum 0."""
    X = np.random.default_rng(0).standard_normal((30, 3))
    y = np.sin(X[:, 0]) + 0.1 * np.random.default_rng(1).standard_normal(30)
    found = fit_hyperparameters(nf.MLP(3, "relu"), X, y)
    assert len(found.flat) == 2
    assert all(set(direction) <= {(k, "weight_std") for k in range(3)} for direction in found.flat)
    for direction in found.flat:
        assert sum(direction.values()) == pytest.approx(0, abs=0.15)  # entries below 0.1 are left out
    assert "log p(y) hardly changes in 2 directions of (0, 'weight_std'), (1, 'weight_std')" in found.message
    assert found.message in repr(found)
    moved = [np.exp(direction.get((k, "weight_std"), 0)) for direction in found.flat[:1] for k in range(3)]
    stds = np.array(list(nf.hyperparameters(found.network).values())).reshape(3, 2)
    stds[:, 0] *= moved
    there = network_likelihood(nf.with_hyperparameters(found.network, stds.ravel()), X, y, noise=found.noise)
    assert abs(there.value - found.value) < 0.5
    assert fit_hyperparameters(nf.MLP(2, "erf", bias_std=0.5), POINTS, NOISY, fixed=[(1, "bias_std")]).flat == []
    many = fit_hyperparameters(nf.MLP(45, "relu"), X[:5], y[:5], max_iterations=1)
    assert many.flat is None


def test_a_fit_names_what_ends_at_an_end_of_its_range():
    """Without noise in the targets the likelihood grows as the noise goes to 0."""
    found = fit_hyperparameters(nf.MLP(2, "erf", bias_std=0.5), POINTS, np.sin(POINTS[:, 0]), noise=1e-2)
    assert found.noise == pytest.approx(1e-6)
    assert re.search("at an end of its range: .*noise", found.message)


JUMP = nf.Activation.from_function(lambda x: np.where(x > 0.3, np.tanh(x) + 1.0, np.tanh(x)), name="jump", kinks=[0.3])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: nf.kernel_vjp(deep(A.relu()), X, weights=np.ones((5, 4))),
            ValueError,
            r"weights: expected shape \(5, 5\)",
        ),
        (
            lambda: nf.kernel_vjp(deep(A.relu()), X, weights=[["a"] * 5] * 5),
            TypeError,
            "weights: expected real numbers",
        ),
        (
            lambda: nf.kernel_vjp(
                deep(A.relu()), X, weights=np.asfortranarray(np.where(np.eye(5, k=2)[1], np.nan, [[1]] * 5))
            ),
            ValueError,
            r"weights: expected finite numbers in float64, got nan at index \(0, 3\)",
        ),
        (lambda: nf.kernel_vjp(deep(A.relu()), X, weights=np.ma.ones((5, 5))), TypeError, "weights: .* masked"),
        (
            lambda: nf.kernel_vjp(deep(A.relu()), X, Y=Y[:, :2], weights=np.ones((5, 3))),
            ValueError,
            "Y: expected 4 features",
        ),
        (lambda: nf.kernel_vjp(A.relu(), X, weights=np.ones((5, 5))), TypeError, "net: expected a Network"),
        (
            lambda: nf.kernel_vjp(deep(A.relu()), X, weights=np.ones((5, 5)), kernel="dot"),
            ValueError,
            "kernel: expected one of",
        ),
        (lambda: nf.kernels(deep(A.relu()), X, get="nngp_dot", gradient=True), ValueError, "get: with gradient=True"),
        (lambda: nf.kernels(deep(JUMP), X, gradient=True), ValueError, "gradient: activation 'jump' jumps"),
        (lambda: nf.hyperparameters("relu"), TypeError, "net: expected a Network"),
        (
            lambda: nf.with_hyperparameters(nf.MLP(2), [1.0]),
            ValueError,
            "values: expected 4, two for each Dense, got 1",
        ),
        (lambda: nf.with_hyperparameters(nf.MLP(1), [1.0, -1.0]), ValueError, "bias_std: expected a number >= 0"),
        (
            lambda: network_likelihood(nf.MLP(2), X, TARGETS, noise=0.1, kernel="rbf"),
            ValueError,
            "kernel: expected one of",
        ),
        (lambda: network_likelihood(nf.MLP(2), X, TARGETS[:3], noise=0.1), ValueError, r"y: expected shape \(5,\)"),
        (lambda: fit_hyperparameters(nf.MLP(2), X, TARGETS, noise=0), ValueError, "noise: expected a number > 0"),
        (lambda: fit_hyperparameters(nf.MLP(2), X, TARGETS, fixed=["w"]), ValueError, "fixed: .* got 'w'"),
        (
            lambda: fit_hyperparameters(nf.MLP(2), X, TARGETS, fixed=["weight_std", "noise"]),
            ValueError,
            "fixed: expected something left",
        ),
        (
            lambda: fit_hyperparameters(nf.MLP(2), X, TARGETS, max_iterations=0),
            ValueError,
            "max_iterations: expected an integer",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_gamma_of_rbf_is_in_the_layer_before_it(kernel):
    X, gamma = np.random.default_rng(3).normal(size=(6, 2)), 0.7

    def net(gamma):
        return nf.Network(
            [nf.Dense(bias_std=0.3), "relu", nf.Dense(weight_std=0.9, bias_std=0.2), A.rbf(gamma), nf.Dense()]
        )

    of = nf.kernels(net(gamma), X, get=kernel, gradient=True).gradients
    by_gamma = (0.9 * of[2] + 0.2 * of[3]) / (2 * gamma)
    high, low = (nf.kernels(net(gamma + step), X, get=kernel) for step in (1e-5, -1e-5))
    assert_allclose(by_gamma, (high - low) / 2e-5, atol=1e-9)


# --- parameters of activations


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_derivatives_with_respect_to_activations(kernel, dtype):
    """Against differences at 50 digits, whose step leaves 1e-12; biases before them, and a block, are passed over."""
    activations = [A.rbf(0.6), A.leaky_relu(-0.2), A.abrelu(0.4, 1.3)]

    def net(rbf, leaky, abrelu):
        return nf.Network([nf.Dense(), rbf, nf.Dense(weight_std=1.1), nf.Residual(leaky, nf.Dense()), nf.Dense(),
                           abrelu, nf.Dense(bias_std=0.2)])  # fmt: skip

    points = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32)
    x, y = points.astype(float)
    found = nf.kernel_vjp(net(*activations), points[:1].astype(dtype), points[1:].astype(dtype), weights=[[2.0]],
                          kernel=kernel, activations=True)  # fmt: skip
    keys = list(nf.hyperparameters(net(*activations), activations=True))
    assert found.dtype == dtype
    assert keys[10:] == [(0, "gamma"), (1, "alpha"), (2, "a"), (2, "b")]
    assert_allclose(found[:10], nf.kernel_vjp(net(*activations), points[:1].astype(dtype), points[1:].astype(dtype),
                                             weights=[[2.0]], kernel=kernel), rtol=1e-6)  # fmt: skip
    for value, (k, name) in zip(found[10:], keys[10:], strict=True):
        ends = []
        for side in (1, -1):
            parameters = dict(activations[k].parameters)
            at = parameters[name] = parameters[name] + side * 1e-6
            there = [*activations[:k], getattr(A, activations[k].name)(**parameters), *activations[k + 1 :]]
            ends.append((at, getattr(reference.pair(net(*there), x, y), reference.KERNELS[kernel])))
        (above, high), (below, low) = ends
        right = 2 * float((high - low) / (reference.mp.mpf(above) - below))
        assert abs(value - right) < (1e-9 if dtype == "float64" else 2e-6) * max(abs(right), 1)


def test_derivatives_with_respect_to_thresholds():
    """With tables in place of closed forms: softshrink's E[φ²] has d/dt = -4 E[(u - t)₊] = -4 (√q p(t/√q) - t P)."""
    t, q = 0.4, 1.7
    net = nf.MLP(2, A.softshrink(t))
    found = nf.kernel_vjp(net, [[np.sqrt(q)]], weights=[[1.0]], kernel="nngp", activations=True)[-1]
    z = t / np.sqrt(q)
    tail = np.sqrt(q) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi) - t * (1 - reference.mp.ncdf(z))
    assert abs(found + 4 * float(tail)) < 1e-9


def test_names_and_values_of_parameters_of_activations():
    net = nf.Network([nf.Dense(), A.polynomial((1.0, 2.0)), nf.Dense(), A.rbf(0.5), nf.Dense()])
    values = nf.hyperparameters(net, activations=True)
    assert list(values)[6:] == [(1, "gamma")]  # coefficients are no single number
    assert nf.with_hyperparameters(net, values) == net
    assert nf.with_hyperparameters(net, values | {(1, "gamma"): 2.0}).layers[3] == A.rbf(2.0)
    with pytest.raises(ValueError, match="expected 6, two for each Dense, or 7 with the parameters of the activations"):
        nf.with_hyperparameters(net, [1.0])


def test_fit_of_activations():
    """gamma of rbf is found from samples; a slope may change its sign; fixed parameters do not move."""
    rng, X = np.random.default_rng(0), np.linspace(-3, 3, 60)[:, None]
    K = nf.nngp(nf.MLP(2, A.rbf(1.5)), X) + 1e-2 * np.eye(60)
    Y = np.linalg.cholesky(K) @ rng.standard_normal((60, 5))
    found = fit_hyperparameters(nf.MLP(2, A.rbf(0.3)), X, Y, fixed="weight_std", activations=True)
    assert found.converged
    assert found.noise == pytest.approx(1e-2, rel=0.3)
    assert nf.hyperparameters(found.network, activations=True)[0, "gamma"] == pytest.approx(1.5, rel=0.1)
    there = network_likelihood(found.network, X, Y, noise=found.noise, activations=True)
    assert abs(there.gradient[-1]) < 0.1

    K = nf.nngp(nf.MLP(2, A.leaky_relu(-0.6), bias_std=0.5), X) + 1e-2 * np.eye(60)
    Y = np.linalg.cholesky(K) @ rng.standard_normal((60, 5))
    start = nf.MLP(2, A.leaky_relu(0.3), bias_std=0.5)
    fixed = ["weight_std", "bias_std", "noise"]
    found = fit_hyperparameters(start, X, Y, noise=1e-2, fixed=fixed, activations=True)
    assert nf.hyperparameters(found.network, activations=True)[0, "alpha"] == pytest.approx(-0.6, abs=0.15)
    kept = fit_hyperparameters(start, X, Y, fixed=["alpha", "weight_std"], activations=True, max_iterations=2)
    assert kept.network.layers[1] == A.leaky_relu(0.3)
