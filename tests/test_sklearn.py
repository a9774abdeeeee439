"""The face for scikit-learn: its own checks, and every number against the functions of ntkfast or a loop."""

import pickle

import numpy as np
import pytest

import ntkfast as nf

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkfast.sklearn import NTKRegressor

NET = nf.MLP(depth=3, weight_std=2**0.5, bias_std=0.1)  # the estimators' default
RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((40, 3)), RNG.standard_normal((7, 3))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1] + 0.1 * RNG.standard_normal(40), X[:, 2] ** 2], axis=1)
y = Y[:, 0]


@parametrize_with_checks([NTKRegressor(), NTKRegressor(alpha=[0.1]), NTKRegressor(alpha=0.1, t=100.0)])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def without(i, *arrays):
    return [np.delete(array, i, axis=0) for array in arrays]


# --- regression


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("targets", [y, Y])
def test_ridge_is_the_mean_of_a_gaussian_process(kernel, targets):
    net = nf.Network([nf.Dense(bias_std=0.2), "erf", nf.Dense()])
    model = NTKRegressor(network=net, kernel=kernel, alpha=0.1).fit(X, targets)
    K_xx, K_tx, K_tt = (nf.kernels(net, *points, get=kernel) for points in ((X,), (T, X), (T,)))
    process = nf.GaussianProcess(K_xx, targets, noise=0.1)
    np.testing.assert_allclose(model.dual_coef_, process.dual_coefficients, rtol=1e-9)
    mean, std = model.predict(T, return_std=True)
    np.testing.assert_allclose(mean, process.mean(K_tx), rtol=1e-9)
    np.testing.assert_allclose(std**2, process.variance(K_tx, K_tt.diagonal()), rtol=1e-9)
    again, covariance = model.predict(T, return_cov=True)
    np.testing.assert_array_equal(again, mean)
    np.testing.assert_allclose(covariance, process.covariance(K_tx, K_tt), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("t", [0.0, 3.0, 1e4, np.inf])
def test_without_ridge_it_is_the_flow(t):
    flow = nf.LeastSquaresFlow(nf.ntk(NET, X), Y)
    model = NTKRegressor(alpha=0, t=t).fit(X, Y)
    np.testing.assert_allclose(model.predict(T), flow.mean(t, nf.ntk(NET, T, X)), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, [0.1]])
def test_flow_with_a_ridge_against_an_integrator(alpha):
    """a' = -((K + αI) a - y)/N."""
    from scipy.integrate import solve_ivp

    K, t = nf.ntk(NET, X), 5.0
    slope = lambda _, a: (y - K @ a - 0.1 * a) / len(y)  # noqa: E731
    a = solve_ivp(slope, (0, t), np.zeros_like(y), method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(NTKRegressor(alpha=alpha, t=t).fit(X, y).dual_coef_, a, rtol=1e-7, atol=1e-9)


def test_least_norm_where_the_kernel_is_singular():
    doubled, targets = np.concatenate([X, X]), np.concatenate([y, y])
    model = NTKRegressor(alpha=0).fit(doubled, targets)
    np.testing.assert_allclose(model.predict(X), y, rtol=1e-6)
    np.testing.assert_allclose(model.dual_coef_[:40], model.dual_coef_[40:], rtol=1e-5, atol=1e-8)


# --- leave-one-out


@pytest.mark.parametrize("weights", [None, RNG.uniform(0.5, 2, 40)])
def test_leave_one_out_against_a_loop(weights):
    alphas = [0.01, 0.3, 10.0]
    model = NTKRegressor(alpha=alphas).fit(X, Y, sample_weight=weights)
    w = np.ones(40) if weights is None else weights
    errors = np.empty((3, *Y.shape))
    for k, alpha in enumerate(alphas):
        for i in range(40):
            rest = NTKRegressor(alpha=alpha).fit(*without(i, X, Y), sample_weight=np.delete(w, i))
            errors[k, i] = rest.predict(X[i : i + 1])[0] - Y[i]
    expected = -np.einsum("i,aij->a", w, errors**2) / (2 * w.sum())
    np.testing.assert_allclose(model.loo_scores_, expected, rtol=1e-8)
    assert model.alpha_ == alphas[expected.argmax()]
    same = NTKRegressor(alpha=model.alpha_).fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(model.dual_coef_, same.dual_coef_, rtol=1e-8, atol=1e-11)


def test_leave_one_out_before_convergence_is_close():
    alphas, t = [1e-3, 1.0], 30.0
    model = NTKRegressor(alpha=alphas, t=t).fit(X, y)
    for alpha, score in zip(alphas, model.loo_scores_, strict=True):
        errors = []
        for i in range(40):
            rest = NTKRegressor(alpha=alpha, t=t * 39 / 40).fit(*without(i, X, y))
            errors.append(rest.predict(X[i : i + 1])[0] - y[i])
        assert -score == pytest.approx(np.mean(np.square(errors)), rel=0.05)


def test_the_default_grid():
    model = NTKRegressor(alpha="loo").fit(X, y)
    assert model.alphas_.shape == model.loo_scores_.shape == (50,)
    assert model.alphas_[-1] == pytest.approx(100 * nf.diagonal(NET, X).mean())
    assert model.alpha_ == model.alphas_[model.loo_scores_.argmax()]
    assert model.alphas_[0] < model.alpha_ < model.alphas_[-1]


# --- what users of scikit-learn rely on


def test_float32_stays():
    model = NTKRegressor(alpha="loo").fit(X.astype(np.float32), y)
    mean, std = model.predict(T.astype(np.float32), return_std=True)
    assert model.dual_coef_.dtype == mean.dtype == std.dtype == np.float32
    exact = NTKRegressor(alpha=model.alpha_).fit(X, y).predict(T)
    np.testing.assert_allclose(mean, exact, atol=1e-3)


def test_a_pickle_holds_no_matrix():
    model = NTKRegressor().fit(X, y)
    mean, std = model.predict(T, return_std=True)
    loaded = pickle.loads(pickle.dumps(model))
    assert not any(np.size(value) >= 40 * 40 for value in vars(loaded).values())
    for got, expected in zip(loaded.predict(T, return_std=True), (mean, std), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_second_fit_forgets_the_first():
    model = NTKRegressor().fit(X, y)
    model.predict(T, return_std=True)
    model.fit(X[:20], y[:20], sample_weight=np.full(20, 2.0))
    fresh = clone(model).fit(X[:20], y[:20], sample_weight=np.full(20, 2.0))
    np.testing.assert_array_equal(model.predict(T, return_std=True), fresh.predict(T, return_std=True))


def test_searches_and_pipelines():
    features, targets = (part[:150] for part in load_diabetes(return_X_y=True))
    model = make_pipeline(StandardScaler(), NTKRegressor(alpha="loo"))
    grid = {"ntkregressor__depth": [1, 2], "ntkregressor__activation": ["relu", "erf"]}
    search = GridSearchCV(model, grid, cv=3, error_score="raise").fit(features, targets)
    assert search.best_score_ > 0.3
    one, two = (cross_val_score(model, features, targets, cv=3, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-10)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": []}, "alpha: expected a number, 'loo' or a sequence"),
        ({"alpha": [1.0, -1.0]}, "alpha: expected a number, 'loo' or a sequence"),
        ({"alpha": -1.0}, "'alpha' parameter of NTKRegressor must be"),
        ({"kernel": "rbf"}, "'kernel' parameter of NTKRegressor must be"),
        ({"depth": 0}, "'depth' parameter of NTKRegressor must be"),
        ({"t": np.nan}, "'t' parameter of NTKRegressor must be"),
        ({"activation": "rleu"}, "rleu"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        NTKRegressor(**parameters).fit(X, y)


def test_uncertainties_are_of_the_limit():
    model = NTKRegressor(t=1.0).fit(X, y)
    with pytest.raises(ValueError, match=r"t: expected inf for uncertainties, got 1\.0"):
        model.predict(T, return_std=True)
    with pytest.raises(ValueError, match="return_cov: expected one of"):
        model.predict(T, return_std=True, return_cov=True)
