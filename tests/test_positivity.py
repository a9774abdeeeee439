"""Positive definite kernels: Hermite coefficients, smallest eigenvalues and their causes; models of random features."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import special

import ntkfast as nf
from ntkfast.learning import rounding
from ntkfast.learning.features import random_feature_convergence, random_feature_model
from ntkfast.learning.positivity import hermite_certificate, smallest_eigenvalue

A = nf.activations
POLYNOMIALS = {
    A.identity(): 1,
    A.monomial(4): 4,
    A.polynomial((1.0, 2.0, 3.0)): 2,
    A.hermite(3): 3,
    nf.Activation.from_function(lambda x: x**3 - x, name="cubic"): 3,
}


@pytest.mark.parametrize("beta", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("activation", POLYNOMIALS, ids=repr)
def test_polynomials_do_not_certify(activation, beta):
    found = hermite_certificate(activation, bias_std=beta)
    assert not found.certifies
    assert found.degree == POLYNOMIALS[activation]
    assert "polynomial of degree" in found.reason


ENTIRE = nf.Activation.from_function(lambda x: np.exp(-x * x / 50), name="broad")  # 9 coefficients above rounding


@pytest.mark.parametrize(
    ("activation", "without_bias", "n_even", "n_odd"),
    [
        ("elu", True, 32, 32),
        ("exp", True, None, None),
        ("relu", False, 32, 1),
        ("gelu", False, 32, 1),
        ("softplus", False, 32, 1),
        ("sigmoid", False, 1, 32),
        ("tanh", False, 0, 32),
        ("abs", False, 32, 0),
        ("sin", False, 0, None),
        ("cos", False, None, 0),
        (ENTIRE, False, None, 0),
    ],
    ids=str,
)
def test_certificate(activation, without_bias, n_even, n_odd):
    found = hermite_certificate(activation)
    assert found.certifies == without_bias
    assert found.degree is None
    assert n_even in (None, found.n_even)
    assert n_odd in (None, found.n_odd)
    with_bias = hermite_certificate(activation, bias_std=0.3)
    assert with_bias.certifies
    assert min(with_bias.n_even, with_bias.n_odd) > 3


def test_reasons():
    shown = "above rounding: as far as that shows, the kernel is"
    assert hermite_certificate("tanh").reason == f"no even coefficients {shown} odd"
    assert hermite_certificate("abs").reason == f"no odd coefficients {shown} even"
    assert hermite_certificate("sigmoid").reason == f"only 1 even coefficient {shown} odd except for a polynomial"


def test_small_variances_claim_no_more_than_rounding_shows():
    """elu has infinitely many of both parities, but at this variance all except two even ones are below rounding."""
    found = hermite_certificate("elu", variance=1e-12)
    assert not found.certifies
    assert found.reason.startswith("only 2 even coefficients above rounding: ")


@pytest.mark.parametrize("degree", [28, 40, 63])
def test_polynomials_of_high_degree(degree):
    """Recognised by their parameters: the rounded coefficients may not end."""
    for activation in (A.hermite(degree), A.monomial(degree)):
        assert hermite_certificate(activation, bias_std=0.3).degree == degree
        assert hermite_certificate(activation, bias_std=0.3, n_terms=3).degree == degree


def test_a_function_too_steep_to_tell():
    """The 64 coefficients of x^70 do not end, but it is a polynomial."""
    found = hermite_certificate(nf.Activation.from_function(lambda x: x**70, name="power"), bias_std=0.3)
    assert found.reason.startswith("cannot tell")
    assert found.certifies is False


@pytest.mark.parametrize("n_terms", [1, 2, 3, 8])
def test_few_terms_change_no_answer(n_terms):
    for name in ("relu", "tanh", "exp", "identity"):
        for beta in (0.0, 0.3):
            few, many = (
                hermite_certificate(name, bias_std=beta, n_terms=n_terms),
                hermite_certificate(name, bias_std=beta),
            )
            assert (few.certifies, few.reason, few.degree) == (many.certifies, many.reason, many.degree)
            assert_allclose(few.coefficients, many.coefficients[:n_terms], rtol=1e-14)


@pytest.mark.parametrize(
    ("activation", "beta", "variance"),
    [("exp", 1e-3, 1e-6), ("hardsigmoid", 0.01, 1e-4), ("hardtanh", 0.05, 0.0025), ("sin", 1e-3, 1e-6)],
)
def test_no_polynomials_at_small_variance(activation, beta, variance):
    given = A.get(activation)
    for phi in (given, nf.Activation.from_function(given.function, name="the same")):
        assert hermite_certificate(phi, bias_std=beta, variance=variance).certifies is True
        assert hermite_certificate(phi, bias_std=beta, variance=variance).degree is None
        alone = hermite_certificate(phi, bias_std=0.0, variance=variance)
        assert alone.certifies is False
        assert alone.reason.startswith("cannot tell: phi is not a polynomial, but only")


def test_polynomials_at_small_variance():
    for function, degree in ((lambda x: x**5 + x**2, 5), (lambda x: x**3 - x, 3), (lambda x: 2 + 0 * x, 0)):
        phi = nf.Activation.from_function(function, name="given")
        for beta, variance in ((0.0, 1.0), (0.1, 0.01), (1e-3, 1e-6)):
            assert hermite_certificate(phi, bias_std=beta, variance=variance).degree == degree


@pytest.mark.parametrize("activation", ["erf", "gelu", "exp"])
@pytest.mark.parametrize(("beta", "variance"), [(0.0, 1.0), (0.4, 0.5), (1.0, 0.2)])
def test_coefficients_are_those_of_the_kernel(activation, beta, variance):
    """β² + Σ b_k ρ^k against the kernel of depth 2 on a circle."""
    rho = np.linspace(-0.8, 0.8, 9)
    points = np.stack([rho, np.sqrt(1 - rho**2)], axis=1)
    net = nf.Network(
        [nf.Dense(weight_std=np.sqrt(2 * variance), bias_std=beta), activation, nf.Dense(bias_std=beta)]
    )  # |x|²/n_0 = 1/2
    exact = nf.nngp(net, [[1.0, 0.0]], points)[0]
    b = hermite_certificate(activation, bias_std=beta, variance=variance).coefficients
    assert_allclose(beta**2 + np.polynomial.polynomial.polyval(rho, b), exact, rtol=1e-9)


# --- smallest eigenvalue


def sphere(n, d, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_positive_on_the_sphere(kernel):
    found = smallest_eigenvalue(nf.MLP(depth=3, bias_std=0.1), sphere(60, 4), kernel=kernel)
    assert found.positive_definite
    assert found.cause == ""
    assert found.error < 1e-9
    assert not found.duplicates
    assert not found.antipodes


BY_SERIES = nf.Activation.from_function(special.erf, name="erf by its series")


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("distance", [0.1, 1e-3, 1e-5, 1e-7, 3e-8, 1e-9])
@pytest.mark.parametrize(("activation", "exact"), [("relu", A.relu()), ("abs", A.abs()), (BY_SERIES, A.erf())], ids=str)
def test_the_error_bound(activation, exact, distance, kernel):
    """Against the eigenvalues of the matrix at 50 digits: five points on the sphere, and two pairs that are near."""
    X = sphere(5, 3)
    X = np.vstack([X, X[0] + distance * X[1], -1.5 * X[1] + distance * X[3]])
    found = smallest_eigenvalue(nf.MLP(3, activation, 1.2, 0.1), X, kernel=kernel)
    K = reference.mp.matrix(7, 7)
    for i, j in np.ndindex(7, 7):
        pair = reference.pair(nf.MLP(3, exact, 1.2, 0.1), X[i], X[j])
        K[i, j] = pair.xy if kernel == "nngp" else pair.ntk_xy
    smallest = reference.mp.eigsy(K, eigvals_only=True)[0]
    assert abs(found.value - smallest) <= found.error
    largest = max(K[i, i] for i in range(7))
    assert found.error < {"relu": 1e-5, "abs": 1e-5}.get(activation, 1e-7) * largest  # it is informative
    assert found.positive_definite == (found.value > found.error)
    if distance > 1e-4 and activation == "relu":
        assert found.positive_definite


@given(data=st.data())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_bound_of_every_entry(data):
    """Two points, near or not, of any lengths: each kernel against 50 digits."""
    vector = st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.array)
    depth, w, beta = data.draw(st.integers(1, 5)), data.draw(st.floats(0.5, 2)), data.draw(st.sampled_from([0, 0.1, 2]))
    x = data.draw(vector) + np.array([3, 0, 0])
    step = 10.0 ** -data.draw(st.integers(0, 12)) * data.draw(vector)
    X = np.array([x, data.draw(st.sampled_from([1, -1, 1.7])) * x + step])
    net = nf.MLP(depth, data.draw(st.sampled_from(["relu", "abs", "erf", "identity"])), w, beta)
    exact, got, bounds = reference.pair(net, *X), nf.kernels(net, X), rounding.known(net, X)
    assert abs(got.nngp[0, 1] - exact.xy) <= bounds.nngp * reference.mp.sqrt(exact.xx * exact.yy)
    assert abs(got.ntk[0, 1] - exact.ntk_xy) <= bounds.ntk * reference.mp.sqrt(exact.ntk_xx * exact.ntk_yy)


def test_the_bound_follows_every_layer():
    """Its variances are the kernel's, and no correlation is above its bound."""
    block = nf.Residual("erf", nf.Dense(weight_std=1.4, bias_std=0.3), scale=0.7)
    layers = [
        nf.Dropout(0.2),
        nf.Dense(weight_std=2.0, bias_std=0.1),
        "relu",
        nf.Dropout(0.5),
        nf.Dense(weight_std=1.5),
        nf.LayerNorm(),
        block,
    ]
    X = np.random.default_rng(0).normal(size=(9, 3))
    gate = nf.Parallel(
        [nf.Dense(weight_std=1.2), "relu"], ["erf", nf.Dense(weight_std=0.8, bias_std=0.1)], how="product"
    )
    side = nf.Parallel([], [gate, nf.Dense()], nf.Scale(-0.5), how="sum")
    wide = nf.Parallel(
        ["relu"], [nf.Dense(weight_std=1.3, bias_std=0.2), nf.LayerNorm(2.0)], how="concat", shares=(1, 2)
    )
    layers += [nf.Dense(weight_std=1.1), side, wide, nf.Dense(weight_std=0.9)]
    for end in (2, 5, 6, 7, 8, 9, 10, 11):
        net = nf.Network([*layers[:end], *([] if end in (2, 5, 8, 9, 11) else [nf.Dense()])])
        bounds, K = rounding.known(net, X), nf.nngp(net, X)
        assert_allclose(bounds.q, np.diagonal(K), rtol=1e-13)
        rho = np.abs(K - np.diag(np.diagonal(K))) / np.sqrt(np.outer(np.diagonal(K), np.diagonal(K)))
        assert rho.max() <= bounds.rho * (1 + 1e-14) < 1
        assert 0 < bounds.nngp <= bounds.ntk < 1e-11


def test_no_bound_where_the_dual_has_none():
    """Too steep: no dual for |ρ| near 1; these points are far from that, but their bound is not."""
    phi = nf.Activation.from_function(lambda x: np.tanh(1e5 * x), name="steep")
    found = smallest_eigenvalue(nf.MLP(2, phi, 1.0, 1.0), [[0.5], [5.0]])
    assert found.error > found.value > 0
    assert not found.positive_definite


def test_duplicates():
    X = sphere(300, 4)
    found = smallest_eigenvalue(nf.MLP(depth=3, bias_std=0.1), X[[*range(300), 7, 290]])
    assert not found.positive_definite
    assert found.duplicates == [(7, 300), (290, 301)]
    assert found.cause == "points 7 and 300 are the same (and 1 more pair)"


def test_many_copies():
    """Each copy is reported once, with the first of its kind, not every pair of copies."""
    X, n = sphere(3, 4), 400
    found = smallest_eigenvalue(
        nf.MLP(depth=2, activation="erf"), np.vstack([X, *[X[1]] * n, *[-X[2]] * 2, X[2]]), kernel="nngp"
    )
    assert found.duplicates == [(1, 3 + k) for k in range(n)] + [(2, n + 5)]
    assert found.antipodes == [(2, n + 3), (2, n + 4)]
    assert found.cause.startswith(
        f"points 1 and 3 are the same (and {n} more pairs); points 2 and {n + 3} are antipodes"
    )
    assert len(repr(found)) < 500


@pytest.mark.parametrize(
    ("activation", "beta", "singular", "word"),
    [("erf", 0.0, True, "odd"), ("abs", 0.0, True, "even"), ("erf", 0.3, False, ""), ("elu", 0.0, False, "")],
)
def test_antipodes_where_they_matter(activation, beta, singular, word):
    X = sphere(12, 4)
    net = nf.MLP(depth=2, activation=activation, bias_std=beta)
    found = smallest_eigenvalue(net, np.vstack([X, -X[:1]]), kernel="nngp")
    assert found.antipodes == ([(0, 12)] if singular else [])
    assert found.positive_definite != singular
    assert word in found.cause
    assert ("antipodes" in found.cause) == singular


def test_other_causes():
    X = sphere(5, 3)
    homogeneous = smallest_eigenvalue(nf.MLP(depth=3), np.vstack([X, 2 * X[:1]]))
    assert homogeneous.proportional == [(0, 5)]
    assert "points 0 and 5 are proportional" in homogeneous.cause
    origin = smallest_eigenvalue(nf.MLP(depth=2), np.vstack([X, 0 * X[:1]]))
    assert origin.zero == [5]
    assert origin.cause == "point 5 has the kernel 0 with itself"
    assert not origin.duplicates
    rank = smallest_eigenvalue(nf.MLP(depth=2, activation="identity"), sphere(9, 3))
    assert not rank.positive_definite
    assert rank.cause.startswith("no two points")


def test_points_that_are_not_parallel_are_not_named():
    bias = nf.MLP(depth=2, bias_std=1.0)
    tiny = smallest_eigenvalue(bias, 1e-7 * np.eye(3), kernel="nngp")
    constant = smallest_eigenvalue(nf.MLP(depth=2, activation=A.polynomial((1.0,))), np.eye(3), kernel="nngp")
    near = sphere(5, 3)
    near = smallest_eigenvalue(nf.MLP(depth=2), np.vstack([near, near[:1] + np.array([1e-4, 0, 0])]), kernel="nngp")
    for found in (tiny, constant, near):
        assert not found.duplicates + found.antipodes + found.proportional
        assert "are" not in found.cause.split(":")[0].replace("no two points are parallel", "")
    assert not tiny.positive_definite
    assert not constant.positive_definite


# --- random features


def test_features_and_their_flow():
    X, net = sphere(20, 3), nf.MLP(depth=3, bias_std=0.1)
    model = random_feature_model(net, n_features=5000, X=X, rng=0)
    exact = nf.ntk(net, X)
    spread = np.sqrt((np.outer(np.diagonal(exact), np.diagonal(exact)) + exact**2) / 5000)
    assert np.all(np.abs(model.kernel() - exact) < 5 * spread)
    again = random_feature_model(exact, n_features=5000, rng=0)
    assert_allclose(again.features, model.features)


def test_the_kernel_of_features_is_that_of_their_derivatives():
    """F_θ is linear: its derivative with respect to θ_p is its value at the p-th unit vector."""
    model = random_feature_model(nf.MLP(depth=2), n_features=30, X=sphere(8, 3), rng=1)
    J = np.array([model(unit) for unit in np.eye(30)]).T
    assert_allclose(model.kernel(), J @ J.T, atol=1e-14)
    assert_allclose(model(), J @ model.theta, atol=1e-14)


def test_training_the_parameters_is_the_flow_of_their_kernel():
    """Plain gradient descent on θ against steps of the flow from the same function."""
    X, y = sphere(8, 3), np.linspace(-1, 1, 8)
    model = random_feature_model(nf.MLP(depth=2), n_features=30, X=X, rng=1)
    features, theta = model.features / np.sqrt(30), model.theta
    for _ in range(50):
        theta = theta - 0.5 * features.T @ (features @ theta - y) / 8
    assert_allclose(model.flow(y).mean(steps=50, learning_rate=0.5, f0=model()), model(theta), atol=1e-12)


def test_features_in_float32():
    model = random_feature_model(nf.ntk(nf.MLP(depth=3), sphere(5, 3)).astype("f4"), n_features=10, rng=0)
    for array in (model.features, model.theta, model(), model(np.ones(10)), model.kernel()):
        assert array.dtype == np.float32
    assert model.flow(np.ones(5)).mean(1.0, f0=model()).dtype == np.float32


def test_rate():
    K = nf.ntk(nf.MLP(depth=3), sphere(15, 3))
    found = random_feature_convergence(K, n_features=(100, 400, 1600, 6400), n_seeds=20, rng=0)
    assert found.errors.shape == (4, 20)
    assert found.rate == pytest.approx(-0.5, abs=0.08)


def test_mean_square_of_the_error_of_features():
    """(‖K‖² + (tr K)²)/P exactly, for Gaussian features; 400 models determine their mean square to some 10 %."""
    K = nf.ntk(nf.MLP(depth=3), sphere(15, 3))
    found = random_feature_convergence(K, n_features=(50, 100), n_seeds=400, rng=0)
    assert_allclose(np.sqrt((found.errors**2).mean(axis=1)), found.expected, rtol=0.1)


def test_progress_counts_features():
    seen = []
    random_feature_convergence(
        np.eye(2), n_features=(2, 5), n_seeds=2, rng=0, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 14), (4, 14), (9, 14), (14, 14)]


def test_features_of_a_singular_kernel():
    model = random_feature_model(np.ones((3, 3)), n_features=4, rng=0)
    assert_allclose(model.features[0], model.features[1])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hermite_certificate("nothing"), ValueError, "activation: 'nothing' is unknown"),
        (lambda: hermite_certificate("relu", bias_std=-1), ValueError, "bias_std: expected a number >= 0"),
        (lambda: hermite_certificate("relu", bias_std=0, variance=0), ValueError, "variance: expected a number > 0"),
        (lambda: hermite_certificate("relu", n_terms=0), ValueError, "n_terms: expected an integer >= 1"),
        (
            lambda: hermite_certificate("relu", bias_std=1e200),
            ValueError,
            "bias_std: expected variance . bias_std² within float64",
        ),
        (lambda: hermite_certificate("relu", n_terms=3000), ValueError, "n_terms: expected an integer up to 2048"),
        (
            lambda: smallest_eigenvalue(nf.MLP(2), [[1.0]], kernel="ntks"),
            ValueError,
            "kernel: expected one of nngp, ntk, got",
        ),
        (
            lambda: smallest_eigenvalue(nf.MLP(2), [[1.0]], kernel=nf.ntk),
            ValueError,
            "kernel: .* nngp, ntk, got function",
        ),
        (
            lambda: random_feature_model(np.eye(2), n_features=10**400),
            ValueError,
            "n_features: expected an integer up to 2147483647, got",
        ),
        (
            lambda: random_feature_model(np.eye(2), n_features=2, rng="a"),
            TypeError,
            "rng: expected None, an integer or",
        ),
        (lambda: random_feature_convergence(np.eye(2), progress=3), TypeError, "progress: expected None, True"),
        (lambda: smallest_eigenvalue(3, [[1.0]]), TypeError, "net: expected a Network"),
        (lambda: smallest_eigenvalue(nf.MLP(2), [1.0]), ValueError, "X: expected a 2-D array"),
        (
            lambda: random_feature_model(nf.MLP(2), n_features=3),
            TypeError,
            "X: expected points together with a network",
        ),
        (
            lambda: random_feature_model(np.eye(2), n_features=3, X=[[1.0]]),
            TypeError,
            "X: expected points only together",
        ),
        (lambda: random_feature_model(np.eye(2), n_features=0), ValueError, "n_features: expected an integer >= 1"),
        (
            lambda: random_feature_model(-np.eye(2), n_features=3),
            ValueError,
            "K_xx: expected a positive semi-definite matrix",
        ),
        (
            lambda: random_feature_convergence(np.eye(2), n_features=(3, 3)),
            ValueError,
            "n_features: expected at least two different numbers",
        ),
        (lambda: random_feature_convergence(np.zeros((2, 2))), ValueError, "K_xx: expected a kernel that is not 0"),
        (lambda: random_feature_model(np.eye(2), n_features=3)([1.0]), ValueError, r"theta: expected shape \(1, 3\)"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", ["relu", "abs", "tanh", "gelu"])
@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_coefficients_sum_to_the_kernel(name, beta):
    """Σ_k b_k ρ^k = E[φ(u)φ(v)] of covariance ρ + β²; after 64 terms 0.7^64, 1e-10, remains; each b_k sums as many."""
    q, activation = 1 + beta**2, nf.activations.get(name)
    b = hermite_certificate(name, bias_std=beta).coefficients
    for rho in (-0.7, -0.3, 0.0, 0.5, 0.7):
        exact = nf.dual(activation, q, q, rho + beta**2)
        assert np.polynomial.polynomial.polyval(rho, b) == pytest.approx(exact, rel=1e-9)
    np.testing.assert_allclose(
        hermite_certificate(name, bias_std=beta, n_terms=100).coefficients[:64], b, rtol=1e-6, atol=1e-20
    )
