"""Accuracy of the engine against the twin in reference.py, and of the twin against wide random networks.

The tolerances are derived as follows. Let u be the unit roundoff and ε the error of a covariance relative to √(q1 q2),
which is the error of the correlation ρ.

- Input: a product over d features has an error of at most d·u·|x||y|.
- A layer rounds about 16 times (table entries 1/√q and √q of both points, their products, the constants of the dual,
  angle, cosine, the sum of the dual, the affine layer), each time by at most u: OPS below.
- The error before a layer passes through its dual. By Price's theorem ∂K/∂c = K̇. For piecewise-linear φ, K̇ is
  largest at ρ = 1, where K̇ = K/q, so ε does not grow: ε_l ≤ (d + 16 l)u. For erf, K̇ may be larger than K/q, up to
  the cusp of the arcsine at |ρ| = 1 when q is large.
- K̇ of a kinked φ is (a²+b²)/2 - (a-b)²θ/2π, and θ = arccos ρ moves by √(2ε) when ρ = ±1 moves by ε. The diagonals
  obey Θ_l(x,x) K̇_l(x,x) ≤ Θ_{l+1}(x,x), so each layer adds at most (a-b)²/(a²+b²)·√(2ε_l)/π to the error of Θ
  relative to √(Θ(x,x)Θ(y,y)). This is `cusp_bound`.
- Away from the cusp that bound is far too large. `radii` follows the error through the exact recursion instead: it
  moves the exact covariance of every layer by its error and measures how far K and K̇ move (they are monotone in
  between).
"""

import math

import formulas
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_sets import each_isa

import ntkfast as nf

OPS = 16
ROUNDOFF = {np.float64: 2.0**-53, np.float32: 2.0**-24}
SPECIFIED = {np.float64: 1e-13, np.float32: 2e-6}  # error of Σ at depth 4; ten times that at depth 50
DTYPES = [np.float64, np.float32]
DEPTHS = (1, 2, 4, 10, 50)

ACT = nf.activations
NETWORKS = {  # (activation, weight_std, bias_std) of networks that keep a norm of 1e150 in range for 50 layers
    "relu": (ACT.relu(), 1.4142, 0.0),
    "relu-1.4-bias": (ACT.relu(), 1.4, 0.1),
    "relu-1-bias": (ACT.relu(), 1.0, 0.1),
    "leaky_relu": (ACT.leaky_relu(0.2), 1.4, 0.3),
    "abs": (ACT.abs(), 1.0, 0.0),
    "abs-bias": (ACT.abs(), 1.0, 0.05),
    "identity": (ACT.identity(), 1.0, 0.0),
    "erf": (ACT.erf(), 1.0, 0.0),
    "erf-1.4-bias": (ACT.erf(), 1.4, 0.1),
    "erf-abc": (ACT.erf(1.2, 0.7, 0.2), 1.0, 0.2),
}


def mlp(name, depth):
    activation, weight_std, bias_std = NETWORKS[name]
    return nf.MLP(depth, activation, weight_std, bias_std)


def radii(net, n_inputs, products, u, m, same=0):
    """Yield, after every affine layer, the State of the pair and bounds on the errors of Σ, Θ and Σ̇ for roundoff u."""
    before, activation, error = None, None, {"nngp": 0, "ntk": 0, "nngp_dot": 0}
    for layer, state in reference.recursion(net, n_inputs, products, m, same):
        if isinstance(layer, nf.Activation):
            activation = layer
            continue
        w2, weight_lr = m.number(layer.weight_std) ** 2, m.number(layer.weight_lr)
        if before is None:
            w2 = w2 / n_inputs
            value_error, theta_error = n_inputs * u * m.sqrt(products[0] * products[1]), 0
        else:
            limit = m.sqrt(before.xx * before.yy)
            moved = error["nngp"] + OPS * u * limit
            places = [before.xy, m.maximum(before.xy - moved, -limit), -m.maximum(-before.xy - moved, -limit)]
            (value, slope), *ends = (dual(activation, before.xx, before.yy, c, m) for c in places)
            value_error = m.maximum(*(abs(end - value) for end, _ in ends))
            slope_error = m.maximum(*(abs(end - slope) for _, end in ends))
            slope_error = slope_error + OPS * u * (abs(slope) + slope_error + slope_terms(activation))
            theta_error = (abs(slope) + slope_error) * error["ntk"] + slope_error * abs(before.ntk_xy)
            if activation is not None:
                error["nngp_dot"] = w2 * slope_error
        theta_error = w2 * (theta_error + weight_lr * value_error)
        error["ntk"] = theta_error + OPS * u * m.sqrt(state.ntk_xx * state.ntk_yy)
        error["nngp"] = w2 * value_error + OPS * u * m.sqrt(state.xx * state.yy)
        yield state, dict(error)
        before, activation = state, None


def dual(activation, q1, q2, c, m):
    return (c, 1 + 0 * c) if activation is None else formulas.dual(activation, q1, q2, c, m)


def slopes(activation):
    """Those of a piecewise-linear φ with its kink at 0, below and above."""
    return formulas.phi(activation)(np.array([-1.0, 1.0])) * [-1, 1]


def slope_terms(activation):
    """K̇ of a kinked activation is a difference and rounds like its terms, which are together at most this large."""
    return 0 if activation is None or not activation.kinks else float(np.sum(slopes(activation) ** 2))


def cusp_bound(net, n_inputs, u):
    """Bound on the error of Θ relative to √(Θ(x,x)Θ(y,y)), for any pair and piecewise-linear activations."""
    total = (n_inputs + 2 * OPS * net.depth) * u
    activations = [layer for layer in net.layers if isinstance(layer, nf.Activation)]
    for depth, activation in enumerate(activations, start=1):
        a, b = slopes(activation)
        rho_error = (n_inputs + OPS * (depth + 1)) * u
        total += (a - b) ** 2 / (a**2 + b**2) * np.sqrt(2 * rho_error) / np.pi
    return total


def exact_enough(name, *points):
    """Working digits: erf adds 1 + 2q to q1 q2 - c², which loses as many digits as |x||y| has (300 at most here)."""
    if "erf" not in name:
        return reference.mp.workdps(50)
    norms = (np.max(np.abs(np.asarray(point, float)), initial=1.0) for point in points)
    return reference.mp.workdps(50 + math.ceil(sum(math.log10(norm) for norm in norms)))


def specified(dtype, depth):
    return SPECIFIED[dtype] * max(1.0, depth / 5)


# ---- the twin and the engine on random data ------------------------------------------------------------------


def some_activation():
    slope = st.floats(-2, 2).map(lambda value: round(value, 3))
    positive = st.floats(0.1, 2).map(lambda value: round(value, 3))
    return st.one_of(
        st.sampled_from([ACT.relu(), ACT.abs(), ACT.identity()]),
        st.builds(ACT.leaky_relu, slope),
        st.builds(ACT.erf, positive, positive, slope),
    )


@st.composite
def some_network(draw):
    std, rate = st.sampled_from([1.0, 1.4, 0.7, 2.0]), st.sampled_from([0.0, 0.5, 1.0, 3.0])
    bias = st.sampled_from([0.0, 0.1, 1.0])
    layers = [nf.Dense(weight_std=draw(std), bias_std=draw(bias), weight_lr=draw(rate), bias_lr=draw(rate))]
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.integers(0, 5)):
            layers.append(draw(some_activation()))
        layers.append(nf.Dense(weight_std=draw(std), bias_std=draw(bias), weight_lr=draw(rate), bias_lr=draw(rate)))
    return nf.Network(layers)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    net=some_network(),
    shape=st.tuples(st.integers(1, 7), st.integers(0, 9), st.integers(1, 20)),
    seed=st.integers(0, 2**32 - 1),
)
def test_twin_on_random_data(dtype, net, shape, seed):
    """Every output, square (m = 0) or not. Twin and engine may both be off by the bound of `radii`."""
    n, m, d = shape
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(dtype)
    Y = rng.normal(size=(m, d)).astype(dtype) if m else None
    activated = len(net.layers) > net.depth
    get = ("nngp", "ntk", "nngp_dot") if activated else ("nngp", "ntk")
    expected = reference.kernels(net, X, Y)
    u = ROUNDOFF[dtype] + ROUNDOFF[np.float64]
    *_, (_, bound) = radii(net, d, reference.products(X, Y), u, reference.FLOAT)
    for isa, result in each_isa(lambda: nf.kernels(net, X, Y, get=get)).items():
        for name in get:
            got = getattr(result, name)
            assert got.dtype == dtype
            assert got.shape == expected[name].shape
            assert np.all(np.abs(got - expected[name]) <= bound[name]), (isa, name)
            if Y is None:
                np.testing.assert_array_equal(got, got.T)
                np.testing.assert_array_equal(np.diagonal(got), nf.diagonal(net, X, name))


# ---- adversarial pairs at 50 digits --------------------------------------------------------------------------


def adversarial_pairs(dtype):
    """Paired rows of X and Y: equal, opposite, close, orthogonal or arbitrary, of very different norms."""
    a, b = np.array([1.0, 2.0, 2.0]) / 3, np.array([2.0, 1.0, -2.0]) / 3
    far = 1e150 if dtype is np.float64 else 1e15
    partners = [a, -a, b, np.array([0.3, -1.0, 0.2]), a + 1e-6 * b, a + 1e-12 * b]
    x = [a] * 5 + [0 * a, 0 * a, far * a]
    y = [-a + 1e-6 * b, a + 1e-3 * b, -a + 1e-3 * b, a + 1e-9 * b, -a + 1e-12 * b, 0 * a, b, 0 * a]
    for left, right in [(1, 1), (1 / far, far), (far, far), (1 / far, 1 / far), (1e-7, 30)]:
        x += [left * a for _ in partners]
        y += [right * partner for partner in partners]
    return np.array(x, dtype), np.array(y, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_adversarial_pairs(name, dtype):
    X, Y = adversarial_pairs(dtype)
    nets = {depth: mlp(name, depth) for depth in DEPTHS}
    by_isa = each_isa(lambda: {depth: nf.kernels(net, X, Y) for depth, net in nets.items()})
    assert all(np.isfinite(matrix).all() for of in by_isa.values() for result in of.values() for matrix in result)
    failures = []
    for i, (x, y) in enumerate(zip(X, Y, strict=True)):
        with exact_enough(name, x, y):
            products, u = reference.exact_products(x, y), ROUNDOFF[dtype]
            layers = enumerate(radii(nets[max(DEPTHS)], len(x), products, u, reference.DIGITS), start=1)
            for depth, (exact, bound) in layers:
                if depth not in DEPTHS:
                    continue
                sigma_scale = reference.mp.sqrt(exact.xx * exact.yy)
                sigma_allowed, theta_allowed = specified(dtype, depth) * sigma_scale, bound["ntk"]
                if "erf" in name:  # no fixed tolerance at the cusp of the arcsine and after it
                    sigma_allowed = max(sigma_allowed, bound["nngp"])
                else:
                    theta_scale = reference.mp.sqrt(exact.ntk_xx * exact.ntk_yy)
                    sigma_allowed = min(sigma_allowed, bound["nngp"])
                    theta_allowed = min(theta_allowed, cusp_bound(nets[depth], len(x), u) * theta_scale)
                for isa, results in by_isa.items():
                    sigma, theta = (reference.mp.mpf(float(matrix[i, i])) for matrix in results[depth])
                    for kernel, error, allowed in [
                        ("Σ", abs(sigma - exact.xy), sigma_allowed),
                        ("Θ", abs(theta - exact.ntk_xy), theta_allowed),
                    ]:
                        if error > allowed:
                            share = float(error / sigma_scale) if sigma_scale else float(error)
                            times = float(error / allowed) if allowed else np.inf
                            failures.append(
                                f"{kernel} {isa} depth {depth} {x} {y}: {share:.2e} of Σ's scale, {times:.3g} x allowed"
                            )
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("dtype", DTYPES)
def test_vanishing_variance(dtype):
    """A variance that falls below the smallest normal number still has its correlations, here with a huge point."""
    far = 1e150 if dtype is np.float64 else 1e17
    x, y = np.array([[1.0, 2.0, 2.0]], dtype) / dtype(far), np.array([[0.3, -1.0, 0.2]], dtype) * dtype(far)
    net = nf.MLP(50, "relu", 1.0, 0.0)
    assert nf.diagonal(net, x, "nngp")[0] < np.finfo(dtype).tiny
    result, exact = nf.kernels(net, x, y), reference.pair(net, x[0], y[0])
    for got, expected in zip(result, (exact.xy, exact.ntk_xy), strict=True):
        assert abs(float(got[0, 0]) - expected) <= 10 * SPECIFIED[dtype] * expected


@pytest.mark.parametrize("weight_std", [1.4142, 1.4, 1.0])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "identity", "erf"])
def test_diagonal(name, weight_std):
    """To 1e-14, whatever the depth: it is computed in extended precision."""
    scales = np.array([1.0, 1e3, 1e100, 1e-100, 0.0])
    X = scales[:, None] * np.random.default_rng(0).normal(size=(5, 5))
    for bias_std in (0.0, 0.1, 1.0):
        with exact_enough(name, X, X):
            exact = [reference.points(nf.MLP(50, name, weight_std, bias_std), x) for x in X]
            for depth in (1, 2, 3, 4, 10, 25, 50):
                result = nf.diagonal(nf.MLP(depth, name, weight_std, bias_std), X, ("nngp", "ntk"))
                square = nf.kernels(nf.MLP(depth, name, weight_std, bias_std), X)
                for alone, matrix, field in zip(result, square, ("xx", "ntk_xx"), strict=True):
                    np.testing.assert_array_equal(alone, np.diagonal(matrix))
                    for got, states in zip(alone, exact, strict=True):
                        expected = getattr(states[depth - 1], field)
                        assert abs(float(got) - expected) <= 1e-14 * expected, (bias_std, depth, field, got)


# ---- single facts --------------------------------------------------------------------------------------------


def test_known_value():
    """Θ⁴ of the paper's figure 1 at x0 = (1, 0)."""
    net, x = nf.MLP(4, "relu", 1.0, 0.1), [[1.0, 0.0]]
    assert nf.ntk(net, x)[0, 0] == pytest.approx(0.2825, rel=1e-15)
    assert nf.diagonal(net, x)[0] == pytest.approx(0.2825, rel=1e-15)
    assert reference.kernels(net, x)["ntk"][0, 0] == pytest.approx(0.2825, rel=1e-14)
    assert float(reference.points(net, x[0])[-1].ntk_xy) == pytest.approx(0.2825, rel=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_finite_and_symmetric(name, dtype):
    """Adversarial rows against each other, at depth 2 several tiles of them: finite, symmetric to the last bit."""
    for depth, copies in ((1, 1), (2, 3), (50, 1)):
        net, X = mlp(name, depth), np.tile(np.concatenate(adversarial_pairs(dtype)), (copies, 1))
        get = ("nngp", "ntk", "nngp_dot") if depth > 1 else ("nngp", "ntk")
        for matrices in each_isa(lambda net=net, X=X, get=get: nf.kernels(net, X, get=get)).values():
            for matrix in matrices:
                assert np.isfinite(matrix).all()
                np.testing.assert_array_equal(matrix, matrix.T)


# ---- the twin and wide random networks -----------------------------------------------------------------------


def random_network_kernels(net, X, width, rng):
    """Σ̂ from the last hidden layer and Θ̂ layer by layer of one network with one output."""
    steps, hidden, slopes = [], X.T, None  # a step: slopes at the layer's inputs, layer, its inputs, its matrix
    for layer in net.layers:
        if isinstance(layer, nf.Activation):
            hidden, slopes = layer(hidden), layer.derivative(hidden)
            continue
        n_inputs, n_outputs = len(hidden), 1 if layer is net.layers[-1] else width
        W = rng.standard_normal((n_outputs, n_inputs), dtype=np.float32)
        steps.append((slopes, layer, hidden, W))
        hidden = layer.weight_std / np.sqrt(n_inputs) * (W @ hidden)
        hidden, slopes = hidden + layer.bias_std * rng.standard_normal((n_outputs, 1), dtype=np.float32), None
    backward, theta = np.ones((1, len(X)), np.float32), 0
    for slopes, layer, alpha, W in reversed(steps):
        gram = layer.weight_std**2 * (alpha.T @ alpha) / len(alpha)
        if layer is net.layers[-1]:
            sigma = gram + layer.bias_std**2
        theta = theta + (layer.weight_lr * gram + layer.bias_lr * layer.bias_std**2) * (backward.T @ backward)
        backward = layer.weight_std / np.sqrt(len(alpha)) * (W.T @ backward)
        backward = backward if slopes is None else backward * slopes
    return sigma, theta


MONTE_CARLO = {
    "relu": [
        nf.Dense(weight_std=1.4, bias_std=0.1),
        "relu",
        nf.Dense(weight_std=1.2, bias_std=0.3, weight_lr=0.5),
        "relu",
        nf.Dense(weight_std=1.1, bias_std=0.2, bias_lr=2),
    ],
    "leaky-abs": [
        nf.Dense(bias_std=0.5),
        ACT.leaky_relu(0.3),
        nf.Dense(weight_std=1.4, bias_lr=0),
        "abs",
        nf.Dense(weight_std=0.8, bias_std=0.1),
    ],
    "erf": [
        nf.Dense(weight_std=1.5, bias_std=0.1),
        ACT.erf(1.3, 0.8, 0.2),
        nf.Dense(weight_std=1.2, bias_std=0.2, weight_lr=2),
        "erf",
        nf.Dense(bias_std=0.1),
    ],
    "identity-relu": [
        nf.Dense(weight_std=1.1, bias_std=0.2),
        "identity",
        nf.Dense(weight_std=1.3, bias_std=0.1),
        nf.Dense(weight_std=0.9),
        "relu",
        nf.Dense(weight_std=1.2),
    ],
}


@pytest.mark.parametrize("name", MONTE_CARLO)
def test_twin_is_the_limit_of_wide_networks(name):
    """Within 5 standard errors. The bias of a finite width, of order 1/1024, is below two of them (0.5 % each)."""
    net, seeds = nf.Network(MONTE_CARLO[name]), 48
    X = np.array([[1.0, 0.5, -0.3], [1.0, 0.4, -0.2], [-0.7, 1.2, 0.4], [0.1, 0.0, 0.2]], np.float32)
    samples = [random_network_kernels(net, X, 1024, np.random.default_rng(seed)) for seed in range(seeds)]
    expected = reference.kernels(net, X)
    for kernel, values in zip(("nngp", "ntk"), zip(*samples, strict=True), strict=True):
        error = np.mean(values, axis=0) - expected[kernel]
        standard_error = np.std(values, axis=0, ddof=1) / np.sqrt(seeds)
        assert np.all(np.abs(error) <= 5 * standard_error), (kernel, error / standard_error)
