"""NTKFeatures: scikit-learn's checks, and inner products against the kernel, by formula or by Monte Carlo."""

import pickle

import numpy as np
import pytest

import ntkfast as nf

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkfast.sklearn import NTKFeatures, NTKRegressor

METHODS = ["nystroem", "random", "sketch"]
RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((40, 3)), RNG.standard_normal((7, 3))
NET = nf.MLP(depth=3, weight_std=2**0.5, bias_std=0.1)  # the default

WITHOUT_LR = nf.Dense(weight_std=1.5, bias_std=0.5, weight_lr=0.0, bias_lr=0.0)
RATES = nf.Dense(weight_std=1.5, bias_std=0.5, weight_lr=0.3, bias_lr=2.0)
ONE_RELU = {
    "plain": nf.MLP(2, "relu"),
    "bias": nf.MLP(2, "relu", 1.5, 0.7),
    "rates": nf.Network([RATES, "relu", RATES]),
    "first frozen": nf.Network([WITHOUT_LR, "relu", RATES]),
    "last frozen": nf.Network([RATES, "relu", WITHOUT_LR]),
    "standard": nf.MLP(2, bias_std=0.3, parametrization="standard", widths=5),
}


@parametrize_with_checks([NTKFeatures(method=method, n_components=10) for method in METHODS])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# --- Nyström


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_nystroem_is_the_projection_onto_the_centres(kernel):
    model = NTKFeatures(n_components=10, kernel=kernel, random_state=0).fit(X)
    C = model.centers_
    assert C.shape == (10, 3)
    assert all((center == X).all(axis=1).any() for center in C)
    K = nf.kernels(NET, np.concatenate([T, X]), C, get=kernel)
    expected = K @ np.linalg.solve(nf.kernels(NET, C, get=kernel), K.T)
    features = model.transform(np.concatenate([T, X]))
    np.testing.assert_allclose(features @ features.T, expected, rtol=1e-10, atol=1e-12)


def test_all_points_as_centres_give_the_kernel():
    model = NTKFeatures(n_components=100).fit(X)
    features = model.transform(X)
    assert features.shape == (40, 40)
    assert len(model.get_feature_names_out()) == 40
    np.testing.assert_allclose(features @ features.T, nf.ntk(NET, X), rtol=1e-9)


def test_repeated_points_are_one_centre():
    model = NTKFeatures(n_components=10).fit(np.repeat(X[:4], 5, axis=0))
    np.testing.assert_allclose(model.centers_, np.unique(X[:4], axis=0))
    assert model.transform(T).shape == (7, 4)


def test_centres_out_of_many_points():
    points = np.random.default_rng(1).standard_normal((1000, 2))
    model = NTKFeatures(n_components=5, random_state=0).fit(points)
    assert all((points == center).all(axis=1).any() for center in model.centers_)
    np.testing.assert_array_equal(model.centers_, clone(model).fit(points).centers_)


def test_centres_are_better_than_uniform_ones():
    """In the trace norm, on points of very different lengths."""
    points = RNG.standard_normal((500, 5)) * RNG.exponential(size=(500, 1))
    K, k = nf.ntk(NET, points), 40
    features = NTKFeatures(n_components=k, random_state=0).fit(points).transform(points)
    missed = np.trace(K) - np.square(features).sum()
    uniform = []
    for seed in range(10):
        chosen = np.random.default_rng(seed).choice(500, k, replace=False)
        uniform.append(np.trace(K) - np.trace(np.linalg.solve(K[np.ix_(chosen, chosen)], K[chosen] @ K[:, chosen])))
    assert 0 < missed < 0.9 * min(uniform)


def test_float32_centres_close_to_one_another():
    """Neighbours at 1e-3: the kernel of the centres is singular to within float32's rounding."""
    close = np.concatenate([X, X + 1e-3]).astype(np.float32)
    model = NTKFeatures(n_components=80).fit(close)
    features = model.transform(close)
    assert features.dtype == np.float32
    K = nf.ntk(NET, close.astype(np.float64))
    np.testing.assert_allclose(features @ features.T, K, atol=1e-4 * K.max())


# --- random features


def grams(method, net, kernel, n_components, n_seeds):
    """φφᵀ of independent draws, (n_seeds, N, N)."""
    result = []
    for seed in range(n_seeds):
        model = NTKFeatures(
            method=method, network=net, kernel=kernel, n_components=n_components, random_state=seed
        ).fit(X)
        features = model.transform(X)
        result.append(features @ features.T)
    return np.array(result)


@pytest.mark.parametrize("method", ["random", "sketch"])
@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("name", ONE_RELU)
def test_with_one_relu_the_mean_is_the_kernel(method, kernel, name):
    """Projections of φφᵀ on fixed directions, in standard errors: Student's t of 300 draws."""
    draws = grams(method, ONE_RELU[name], kernel, 20, 300)
    K = nf.kernels(ONE_RELU[name], X, get=kernel)
    directions = np.random.default_rng(2).standard_normal((5, 40))
    found = np.einsum("ki,sij,kj->sk", directions, draws, directions)
    error = found.mean(axis=0) - np.einsum("ki,ij,kj->k", directions, K, directions)
    assert (np.abs(error) < 4.5 * found.std(axis=0, ddof=1) / np.sqrt(300)).all()


@pytest.mark.parametrize("method", ["random", "sketch"])
@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_error_falls_like_monte_carlo(method, kernel):
    """E‖φφᵀ - K‖² ∝ 1/n, with two ReLU layers: the slope of its logarithm is -1 within four standard errors."""
    sizes = np.array([50, 100, 200, 400])
    K = nf.kernels(NET, X, get=kernel)
    squares = np.array([((grams(method, NET, kernel, n, 40) - K) ** 2).sum(axis=(1, 2)) for n in sizes])
    logs = np.log(squares.mean(axis=1))
    errors = squares.std(axis=1, ddof=1) / squares.mean(axis=1) / np.sqrt(40)
    x = np.log(sizes) - np.log(sizes).mean()
    slope, error = (x @ logs) / (x @ x), np.sqrt((x**2) @ errors**2) / (x @ x)
    assert error < 0.2
    assert slope == pytest.approx(-1, abs=4 * error)


def test_a_linear_kernel_has_its_own_features():
    features = NTKFeatures(method="sketch", depth=1).fit_transform(X)
    assert features.shape == (40, 4)
    np.testing.assert_allclose(features @ features.T, nf.ntk(nf.MLP(1, bias_std=0.1, weight_std=2**0.5), X))


def test_random_features_of_any_network():
    """At the size of its random error, 5 ‖K‖/√n at most."""
    layers = [nf.Dense(bias_std=0.3), "tanh", nf.Residual(nf.Dense(), "erf", nf.Dense()), nf.Dense()]
    net = nf.Network(layers)
    K = nf.ntk(net, X)
    draws = grams("random", net, "ntk", 400, 2)
    assert (np.linalg.norm(draws - K, axis=(1, 2)) < 5 * np.linalg.norm(K) / 20).all()


@pytest.mark.parametrize("n_components", [1, 2, 3, 50, 51])
@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_features(n_components, method):
    model = NTKFeatures(method=method, n_components=n_components).fit(np.repeat(X, 2, axis=0) + np.arange(80)[:, None])
    assert model.transform(T).shape == (7, n_components)
    assert list(model.get_feature_names_out())[-1] == f"ntkfeatures{n_components - 1}"


# --- what users of scikit-learn rely on


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_reproducibility(method, dtype):
    points = X.astype(dtype)
    model = NTKFeatures(method=method, random_state=3).fit(points)
    features = model.transform(T.astype(dtype))
    assert features.dtype == dtype
    for same in (clone(model).fit(points), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(same.transform(T.astype(dtype)), features)
    if method != "nystroem":  # whose centres are all points here
        other = clone(model).set_params(random_state=4).fit(points)
        assert (other.transform(T.astype(dtype)) != features).any()


@pytest.mark.parametrize("method", METHODS)
def test_features_of_rows_do_not_depend_on_the_other_rows(method):
    model = NTKFeatures(method=method, n_components=20, random_state=0).fit(X)
    many = np.concatenate([T] * 200)
    np.testing.assert_allclose(model.transform(many)[-7:], model.transform(T), rtol=1e-9, atol=1e-12)


def test_a_second_fit_forgets_the_first():
    model = NTKFeatures().fit(X)
    assert not hasattr(model.set_params(method="sketch").fit(X), "centers_")


def test_ridge_on_the_features_is_close_to_the_kernel_ridge():
    features, y = load_diabetes(return_X_y=True)
    alpha = 30.0
    linear = Ridge(alpha=alpha, fit_intercept=False)
    approximate = make_pipeline(StandardScaler(), NTKFeatures(n_components=100, random_state=0), linear)
    exact = make_pipeline(StandardScaler(), NTKRegressor(alpha=alpha))
    scores = [cross_val_score(model, features, y - y.mean(), cv=3).mean() for model in (approximate, exact)]
    assert scores[1] > 0.4
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "fourier"}, "'method' parameter of NTKFeatures must be"),
        ({"n_components": 0}, "'n_components' parameter of NTKFeatures must be"),
        ({"method": "sketch", "activation": "tanh"}, "network: expected Dense layers with relu between them"),
        (
            {"method": "random", "network": nf.Network([nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()])},
            "expected a network without Dropout",
        ),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        NTKFeatures(**parameters).fit(X)
