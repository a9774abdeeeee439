"""The face for scikit-learn: its own checks, and every number against the functions of ntkfast or a loop."""

import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.engine import threads
from ntkfast.support import memory

pytest.importorskip("sklearn")

import joblib
from sklearn import config_context
from sklearn.base import clone
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import KernelPCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkfast.sklearn import NTKClassifier, NTKKernel, NTKRegressor

NET = nf.MLP(depth=3, weight_std=2**0.5, bias_std=0.1)  # the estimators' default
RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((40, 3)), RNG.standard_normal((7, 3))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1] + 0.1 * RNG.standard_normal(40), X[:, 2] ** 2], axis=1)
y = Y[:, 0]


ESTIMATORS = [NTKRegressor(), NTKRegressor(alpha=[0.1]), NTKRegressor(alpha=0.1, t=100.0)]
ESTIMATORS += [NTKRegressor(alpha=[0.1], t=[10.0])]
ESTIMATORS += [NTKClassifier(), NTKClassifier(alpha=[0.1]), NTKClassifier(alpha=0.1, t=100.0)]


@parametrize_with_checks(ESTIMATORS)
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


def test_ridges_and_times_from_one_eigendecomposition():
    alphas, times = [0.01, 0.3, 10.0], [1.0, 300.0, np.inf]
    model = NTKRegressor(alpha=alphas, t=times).fit(X, Y)
    each = [NTKRegressor(alpha=alphas, t=t).fit(X, Y) for t in times]
    np.testing.assert_allclose(model.loo_scores_, [one.loo_scores_ for one in each], rtol=1e-10)
    np.testing.assert_array_equal(model.times_, times)
    best = max(each, key=lambda one: one.loo_scores_.max())
    assert (model.t_, model.alpha_) == (best.t_, best.alpha_)
    np.testing.assert_allclose(model.predict(T), best.predict(T), rtol=1e-10)


def test_the_time_alone_by_leave_one_out():
    noisy = y + RNG.standard_normal(40)
    model = NTKRegressor(alpha=0, t="loo").fit(X, noisy)
    assert model.loo_scores_.shape == (50, 1)
    assert 0 < model.t_ < np.inf
    flow = nf.LeastSquaresFlow(nf.ntk(NET, X), noisy)
    np.testing.assert_allclose(model.predict(T), flow.mean(model.t_, nf.ntk(NET, T, X)), rtol=1e-7)
    errors = nf.GaussianProcess(nf.ntk(NET, X), noisy).leave_one_out().mean - noisy
    assert model.loo_scores_[-1, 0] == pytest.approx(-np.mean(errors**2), rel=1e-6)


@pytest.mark.parametrize("weights", [None, np.repeat([0.0, 0.5, 2.0], [4, 16, 20])])
def test_early_stopping_against_a_loop(weights):
    alphas, times = [0.01, 1.0], [3.0, 100.0, np.inf]
    model = NTKRegressor(alpha=alphas, t=times, early_stopping=0.25, random_state=1).fit(X, Y, sample_weight=weights)
    w = np.ones(40) if weights is None else weights
    some = np.flatnonzero(w)
    order = np.random.RandomState(1).permutation(some)
    apart, rest = np.split(order, [len(some) // 4])
    scores = np.empty((3, 2))
    for k, t in enumerate(times):
        for j, alpha in enumerate(alphas):
            one = NTKRegressor(alpha=alpha, t=t).fit(X[rest], Y[rest], sample_weight=w[rest])
            errors = np.square(one.predict(X[apart]) - Y[apart]).mean(axis=1)
            scores[k, j] = -np.average(errors, weights=w[apart])
    np.testing.assert_allclose(model.validation_scores_, scores, rtol=1e-8)
    k, j = np.unravel_index(scores.argmax(), scores.shape)
    assert (model.t_, model.alpha_) == (times[k], alphas[j])
    same = NTKRegressor(alpha=model.alpha_, t=model.t_).fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(model.predict(T), same.predict(T), rtol=1e-12)


def test_early_stopping_chooses_a_time():
    codes = (X[:, 0] + 2 * RNG.standard_normal(40)) > 0
    model = NTKClassifier(alpha=0, early_stopping=True, random_state=0).fit(X, codes)
    assert model.validation_scores_.shape == (50, 1)
    assert model.t_ in model.times_
    same = NTKClassifier(alpha=0, t=model.t_).fit(X, codes)
    np.testing.assert_array_equal(model.predict_proba(T), same.predict_proba(T))
    model.set_params(early_stopping=False).fit(X, codes)
    assert not hasattr(model, "validation_scores_")
    assert model.t_ == np.inf


def test_solvers():
    one, two = (NTKRegressor(alpha=0.1, solver=solver).fit(X, Y) for solver in ("cholesky", "eigh"))
    np.testing.assert_allclose(one.dual_coef_, two.dual_coef_, rtol=1e-9)
    doubled = np.concatenate([X, X])
    with pytest.raises(np.linalg.LinAlgError, match="expected a larger ridge, or solver='eigh'"):
        NTKRegressor(alpha=0, solver="cholesky").fit(doubled, np.concatenate([y, y]))
    for chosen in ({"alpha": "loo"}, {"t": 1.0}, {"early_stopping": True}):
        with pytest.raises(ValueError, match="solver: expected 'auto' or 'eigh'"):
            NTKRegressor(solver="cholesky", **chosen).fit(X, y)


# --- classification


@pytest.mark.parametrize("k", [2, 4])
def test_classification_is_regression_on_one_hot_targets(k):
    codes = RNG.integers(0, k, 40)
    names = np.array(["ape", "bee", "cat", "dog"])[codes]
    model = NTKClassifier(alpha=0.1).fit(X, names)
    targets = 2.0 * codes - 1 if k == 2 else (codes[:, None] == np.arange(k)) - 1 / k
    regressor = NTKRegressor(alpha=0.1).fit(X, targets)
    values = regressor.predict(T)
    np.testing.assert_allclose(model.decision_function(T), values, rtol=1e-12, atol=1e-14)
    chosen = (values > 0).astype(int) if k == 2 else values.argmax(axis=1)
    np.testing.assert_array_equal(model.predict(T), model.classes_[chosen])
    np.testing.assert_array_equal(model.predict(T), model.classes_[model.predict_proba(T).argmax(axis=1)])


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("alpha", [0.1, [0.1, 0.2]])
def test_probabilities_have_the_largest_leave_one_out_likelihood(k, alpha):
    from sklearn.metrics import log_loss

    codes = np.digitize(X[:, 0] + RNG.standard_normal(40), [0.0, 1.0][: k - 1])
    model = NTKClassifier(alpha=alpha).fit(X, codes)
    rest = [NTKClassifier(alpha=model.alpha_).fit(*without(i, X, codes)) for i in range(40)]
    values = np.concatenate([one.decision_function(X[i : i + 1]) for i, one in enumerate(rest)]).reshape(40, -1)

    def loss(scale):
        scores = scale * (values if k > 2 else np.concatenate([-values / 2, values / 2], axis=1))
        return log_loss(codes, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), labels=np.arange(k))

    assert 1e-2 < model.scale_ < 1e2
    assert loss(model.scale_) < min(loss(0.95 * model.scale_), loss(1.05 * model.scale_))
    np.testing.assert_allclose(model.predict_proba(T).sum(axis=1), 1, rtol=1e-12)


def test_probabilities_of_digits_are_calibrated():
    features, classes = load_digits(return_X_y=True)
    model = NTKClassifier(alpha="loo").fit(features[:400] / 16, classes[:400])
    probabilities = model.predict_proba(features[400:800] / 16)
    right = model.predict(features[400:800] / 16) == classes[400:800]
    assert right.mean() > 0.85
    assert probabilities.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.05)


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


@pytest.mark.parametrize("t", [3.0, np.inf])
def test_a_weight_of_two_is_a_point_given_twice(t):
    weights = np.repeat([1.0, 2.0], 20)
    weighted = NTKRegressor(alpha=0.1, t=t).fit(X, y, sample_weight=weights)
    repeated = NTKRegressor(alpha=0.1, t=t).fit(
        np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int))
    )
    np.testing.assert_allclose(weighted.predict(T), repeated.predict(T), rtol=1e-8)
    if np.isinf(t):
        std, expected = (model.predict(T, return_std=True)[1] for model in (weighted, repeated))
        np.testing.assert_allclose(std, expected, rtol=1e-8)


def test_metadata_is_routed():
    with config_context(enable_metadata_routing=True):
        model = NTKRegressor(alpha=0.1).set_fit_request(sample_weight=True)
        weights = np.linspace(0.5, 2, 40)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        routed = pipeline.fit(X, y, sample_weight=weights)
    scaled = StandardScaler().fit(X)
    direct = NTKRegressor(alpha=0.1).fit(scaled.transform(X), y, sample_weight=weights)
    np.testing.assert_allclose(routed.predict(T), direct.predict(scaled.transform(T)), rtol=1e-12)


def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; import ntkfast as nf; nf.sklearn"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "ImportError: ntkfast.sklearn needs scikit-learn: pip install 'ntkfast[sklearn]'" in done.stderr


def test_searches_and_pipelines():
    features, targets = (part[:150] for part in load_diabetes(return_X_y=True))
    model = make_pipeline(StandardScaler(), NTKRegressor(alpha="loo"))
    grid = {"ntkregressor__depth": [1, 2], "ntkregressor__activation": ["relu", "erf"]}
    search = GridSearchCV(model, grid, cv=3, error_score="raise").fit(features, targets)
    assert search.best_score_ > 0.3
    one, two = (cross_val_score(model, features, targets, cv=3, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-10)


def test_two_jobs_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which joblib leaves to each job
    counts = joblib.Parallel(n_jobs=2)(joblib.delayed(threads.resolve)(None) for _ in range(2))
    assert sum(counts) <= max(2, joblib.cpu_count())


def test_tables_with_names():
    pandas = pytest.importorskip("pandas")
    table, rows = (pandas.DataFrame(part, columns=["a", "b", "c"]) for part in (X, T))
    model = NTKRegressor().fit(table, pandas.Series(y))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(model.predict(rows), NTKRegressor().fit(X, y).predict(T))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(rows[["b", "a", "c"]])
    pipeline = make_pipeline(StandardScaler(), NTKRegressor()).set_output(transform="pandas").fit(table, y)
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": []}, "alpha: expected a number, 'loo' or a sequence"),
        ({"alpha": [1.0, -1.0]}, "alpha: expected a number, 'loo' or a sequence"),
        ({"alpha": -1.0}, "'alpha' parameter of NTKRegressor must be"),
        ({"kernel": "rbf"}, "'kernel' parameter of NTKRegressor must be"),
        ({"depth": 0}, "'depth' parameter of NTKRegressor must be"),
        ({"t": np.nan}, "'t' parameter of NTKRegressor must be"),
        ({"t": [1.0, -1.0]}, "t: expected a number, 'loo' or a sequence"),
        ({"t": []}, "t: expected a number, 'loo' or a sequence"),
        ({"early_stopping": 1.5}, "'early_stopping' parameter of NTKRegressor must be"),
        ({"early_stopping": 0.999}, "early_stopping: expected to leave samples to learn from, got 0.999 of 40"),
        ({"solver": "lsqr"}, "'solver' parameter of NTKRegressor must be"),
        ({"activation": "rleu"}, "rleu"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        NTKRegressor(**parameters).fit(X, y)


@pytest.mark.parametrize(("alpha", "size"), [(0.1, "68.66 MiB"), ("loo", "137.33 MiB")])
def test_a_kernel_that_exceeds_memory(alpha, size, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**26)
    monkeypatch.setattr(NTKRegressor, "_weighted_matrix", None)  # nothing is computed before
    points = np.zeros((3000, 1))
    words = rf"X: learning from the kernel of 3000 points needs {size}, 64\.00 MiB are available; .*NTKFeatures"
    with pytest.raises(MemoryError, match=words):
        NTKRegressor(alpha=alpha).fit(points, points[:, 0])


@pytest.mark.parametrize("estimator", [NTKRegressor(), NTKClassifier()])
def test_bad_weights(estimator):
    with pytest.raises(ValueError, match="at least one"):
        estimator.fit(X, y > 0, sample_weight=np.zeros(40))


def test_a_network_stays_a_value():
    model = clone(NTKRegressor(network=NET))
    assert model.network == NET
    np.testing.assert_array_equal(model.fit(X, y).predict(T), NTKRegressor().fit(X, y).predict(T))


def test_uncertainties_are_of_the_limit():
    model = NTKRegressor(t=1.0).fit(X, y)
    with pytest.raises(ValueError, match=r"t: expected inf for uncertainties, got 1\.0"):
        model.predict(T, return_std=True)
    with pytest.raises(ValueError, match="return_cov: expected one of"):
        model.predict(T, return_std=True, return_cov=True)


TENSORS = """
import numpy as np, torch, sklearn
import ntkfast as nf
from ntkfast.sklearn import NTKClassifier, NTKFeatures, NTKRegressor

rng = np.random.default_rng(0)
X, T = rng.standard_normal((30, 3)), rng.standard_normal((5, 3))
codes = np.arange(30) % 3
for dtype in (torch.float64, torch.float32):
    for dispatch in (True, False):
        x, t = (torch.asarray(points, dtype=dtype) for points in (X, T))
        y, w = x[:, 0].clone(), torch.ones(30, dtype=dtype)
        with sklearn.config_context(array_api_dispatch=dispatch):
            model = NTKRegressor().fit(x, y, sample_weight=w)
            found = [*model.predict(t, return_std=True), model.predict(t)]
            one = NTKClassifier().fit(x, torch.asarray(codes))
            found += [one.predict_proba(t), one.decision_function(t), one.predict(t)]
            assert model.score(x, y) > 0.9
            names = NTKClassifier().fit(x, np.array(["a", "b", "c"])[codes]).predict(t)
            features = NTKFeatures(n_components=8, random_state=0).fit(x)
            if dispatch:  # else in float64
                found.append(features.transform(t))
        model.fit(x.numpy(), y.numpy())
        one.fit(x.numpy(), codes)
        points = t.numpy()
        expected = [*model.predict(points, return_std=True), model.predict(points)]
        expected += [one.predict_proba(points), one.decision_function(points), one.predict(points)]
        if dispatch:
            expected.append(features.fit(x.numpy()).transform(points))
        for got, numbers in zip(found, expected, strict=True):
            assert isinstance(got, torch.Tensor if dispatch else np.ndarray), type(got)
            assert np.asarray(got).dtype == numbers.dtype or not dispatch  # scikit-learn converts to float64
            np.testing.assert_allclose(np.asarray(got), numbers, rtol=1e-4 if dtype == torch.float32 else 1e-12)
        assert isinstance(names, np.ndarray)
"""


def test_tensors():
    pytest.importorskip("torch")
    given = {**os.environ, "SCIPY_ARRAY_API": "1"}  # read when SciPy is imported
    run = [sys.executable, "-P", "-c", TENSORS]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False, env=given)
    assert not done.returncode, done.stderr


# --- the kernel


BRANCHES = nf.Network(
    [nf.Dense(bias_std=0.5), nf.Residual(["erf", nf.Dense(weight_std=2.0)]), "relu", nf.Dense(weight_std=1.5)]
)
KERNELS = {
    "shared": NTKKernel(depth=3, activation="erf", bias_std=0.3),
    "per layer": NTKKernel(depth=2, weight_std=[1.0, 1.5], bias_std=[0.2, 0.1], kernel="nngp"),
    "mixed": NTKKernel(depth=2, weight_std=[1.0, 1.5], bias_std=0.3),
    "fixed": NTKKernel(depth=2, bias_std=0.3, bias_std_bounds="fixed"),
    "zeros": NTKKernel(depth=3, weight_std=[1.0, 1.5, 2.0], bias_std=[0.0, 0.3, 0.0]),
    "no bias": NTKKernel(depth=3, bias_std=0.0),
    "network": NTKKernel(network=BRANCHES),
    "nothing free": NTKKernel(weight_std_bounds="fixed", bias_std_bounds="fixed"),
    "composed": 2.0 * NTKKernel(depth=2, kernel="nngp") ** 2 + WhiteKernel(0.1),
}


@pytest.mark.parametrize("name", KERNELS)
def test_derivatives_of_the_kernel_against_differences(name):
    kernel = KERNELS[name]
    K, gradient = kernel(X, eval_gradient=True)
    np.testing.assert_array_equal(K, kernel(X))
    assert gradient.shape == (40, 40, kernel.n_dims)
    for k, step in enumerate(1e-5 * np.eye(kernel.n_dims)):
        up, down = (kernel.clone_with_theta(kernel.theta + sign * step)(X) for sign in (1, -1))
        np.testing.assert_allclose(gradient[..., k], (up - down) / 2e-5, rtol=1e-6, atol=1e-8)


def test_derivatives_take_the_memory_of_their_result():
    import tracemalloc

    kernel, points = NTKKernel(depth=6), RNG.standard_normal((800, 5))
    kernel(points, eval_gradient=True)
    tracemalloc.start()
    kernel(points, eval_gradient=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.5 * 8 * 800**2  # the matrix and two of derivatives


def test_hyperparameters_of_a_network():
    kernel = NTKKernel(network=BRANCHES)
    values = [0.5, 1.0, 2.0, 1.5]  # biases that are 0 remain so
    np.testing.assert_allclose(kernel.theta, np.log(values))
    np.testing.assert_array_equal(kernel(T, X), nf.ntk(BRANCHES, T, X))
    np.testing.assert_array_equal(kernel.diag(X), nf.diagonal(BRANCHES, X))
    moved = kernel.clone_with_theta(np.log([0.25, 1.0, 2.0, 3.0]))
    expected = nf.with_hyperparameters(BRANCHES, [1.0, 0.25, 2.0, 0.0, 3.0, 0.0])
    assert kernel.network == BRANCHES
    np.testing.assert_allclose(moved(X), nf.ntk(expected, X), rtol=1e-12)
    assert kernel.bounds.shape == (4, 2)
    fixed = NTKKernel(network=BRANCHES, weight_std_bounds="fixed")
    np.testing.assert_allclose(fixed.theta, np.log([0.5]))
    assert "NTKKernel(network=Network(" in repr(kernel)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_kernel_is_that_of_the_network(kernel):
    net = nf.Network([nf.Dense(weight_std=1.5, bias_std=0.2), "gelu", nf.Dense(weight_std=0.5, bias_std=0.1)])
    wrapped = NTKKernel(depth=2, activation="gelu", weight_std=[1.5, 0.5], bias_std=[0.2, 0.1], kernel=kernel)
    np.testing.assert_array_equal(wrapped(X), nf.kernels(net, X, get=kernel))
    np.testing.assert_array_equal(wrapped(T, X), nf.kernels(net, T, X, get=kernel))
    np.testing.assert_array_equal(wrapped.diag(X), nf.diagonal(net, X, kernel))
    assert not wrapped.is_stationary()


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_values(name):
    kernel = KERNELS[name]
    for same in (clone(kernel), pickle.loads(pickle.dumps(kernel)), kernel.clone_with_theta(kernel.theta)):
        np.testing.assert_allclose(same(X), kernel(X), rtol=1e-12)
    assert clone(kernel) == kernel
    assert "NTKKernel(" in repr(kernel)


def test_a_gaussian_process_fits_the_hyperparameters():
    kernel = NTKKernel(depth=2, activation="erf", kernel="nngp") + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=0).fit(X, y)
    start = GaussianProcessRegressor(kernel, optimizer=None).fit(X, y)
    assert process.log_marginal_likelihood_value_ > start.log_marginal_likelihood_value_ + 1
    found, noise = process.kernel_.k1, process.kernel_.k2.noise_level
    net = nf.MLP(2, "erf", found.weight_std, found.bias_std)
    expected = nf.GaussianProcess(nf.nngp(net, X), y, noise=noise)
    assert process.log_marginal_likelihood_value_ == pytest.approx(expected.log_marginal_likelihood(), rel=1e-8)
    np.testing.assert_allclose(process.predict(T), expected.mean(nf.nngp(net, T, X)), rtol=1e-6)


def test_a_gaussian_process_of_three_classes():
    classes = np.digitize(X[:, 0], [-0.5, 0.5])
    model = GaussianProcessClassifier(NTKKernel(depth=2, weight_std=3.0), max_iter_predict=20).fit(X, classes)
    assert model.score(X, classes) > 0.9
    assert model.kernel_(X, eval_gradient=True)[1].shape == (40, 40, 2, 3)


def test_kernels_where_matrices_are_wanted(monkeypatch):
    kernel, calls = NTKKernel(), []
    call = NTKKernel.__call__
    monkeypatch.setattr(NTKKernel, "__call__", lambda *given, **rest: calls.append(1) or call(*given, **rest))
    ridge = KernelRidge(alpha=0.1, kernel=kernel).fit(X, y)
    np.testing.assert_allclose(ridge.predict(T), NTKRegressor(alpha=0.1).fit(X, y).predict(T), rtol=1e-9)
    assert SVC(kernel=kernel).fit(X, y > 0).score(X, y > 0) > 0.9
    assert KernelPCA(3, kernel=kernel).fit_transform(X).shape == (40, 3)
    assert Nystroem(kernel, n_components=10, random_state=0).fit_transform(X).shape == (40, 10)
    assert len(calls) == 7  # KernelRidge 2, SVC 2, KernelPCA 1, Nystroem 2
    np.testing.assert_array_equal(pairwise_kernels(T, X, metric=kernel), nf.ntk(NET, T, X))
    clusters = SpectralClustering(2, affinity=kernel, random_state=0).fit(np.concatenate([X, -X - 5]))
    assert clusters.affinity_matrix_.shape == (80, 80)
    assert len(calls) == 9
    assert kernel(T[0], X[1]) == pytest.approx(nf.ntk(NET, T, X)[0, 1], rel=1e-14)
    by_rows = KernelRidge(alpha=0.1, kernel=lambda one, other: kernel(one, other)).fit(X[:9], y[:9])
    np.testing.assert_allclose(by_rows.predict(T), NTKRegressor(alpha=0.1).fit(X[:9], y[:9]).predict(T), rtol=1e-9)


def test_bad_kernels():
    with pytest.raises(ValueError, match=r"weight_std: expected a number or 3, one per layer, got shape \(2,\)"):
        NTKKernel(weight_std=[1.0, 2.0])(X)
    with pytest.raises(TypeError, match="activation"):
        NTKKernel(activation=["relu"])(X)
    with pytest.raises(ValueError, match="Y: expected None with eval_gradient=True"):
        NTKKernel()(X, T, eval_gradient=True)


def test_what_was_learned_does_not_follow_the_array_of_the_caller():
    X = np.random.default_rng(0).standard_normal((30, 3))
    model = NTKRegressor().fit(X, X[:, 0])
    before = model.predict(np.ones((1, 3)))
    X[:] = 0
    assert model.predict(np.ones((1, 3))) == before


# --- a choice at the end


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_end_of_a_grid_is_named(early_stopping):
    y = np.sin(X[:, 0])
    model = NTKRegressor(alpha=[1e2, 1e1], early_stopping=early_stopping, random_state=0)
    with pytest.warns(
        ConvergenceWarning, match="alpha: the smallest of the ridges tried, 10, is the best; smaller"
    ) as found:
        model.fit(X, y)
    assert [record.filename for record in found] == [__file__]
    model.set_params(alpha=[1e-2, 0.1], early_stopping=False)
    with pytest.warns(
        ConvergenceWarning, match=r"alpha: the largest of the ridges tried, 0\.1, is the best; larger"
    ) as found:
        model.fit(X, np.random.default_rng(1).standard_normal(len(X)))
    assert [record.filename for record in found] == [__file__]
    with pytest.warns(ConvergenceWarning, match="alpha: the smallest of the ridges tried") as found:
        NTKClassifier(alpha=[1e2, 1e1]).fit(X, y > 0)
    assert [record.filename for record in found] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for alpha in ([1e-3, 0.1, 10.0, 1e3, 1e5], [1e-9, 1e-8], [10.0], "loo"):  # inside, flat, no choice, enough
            model.set_params(alpha=alpha).fit(X, y + 0.3 * np.random.default_rng(1).standard_normal(len(X)))


def test_a_choice_by_errors_that_overflow_is_refused():
    """Of errors that are all infinite the first would be chosen."""
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20.0)
    model = nf.sklearn.NTKRegressor(alpha="loo")
    with pytest.raises(ValueError, match="y: expected targets of which squared errors are finite"):
        model.fit(X, 1e200 * y)
    assert model.fit(X, 2.0**400 * y).alpha_ == pytest.approx(model.fit(X, y).alpha_)
