"""Nyström regression against dense linear algebra on the same kernels."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.learning.solvers.panels import Panels

NET = nf.MLP(3, "relu", 1.4, 0.1)
RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((700, 5)), RNG.standard_normal((60, 5))
Y = np.stack([np.sin(X[:, 0]) * X[:, 1], np.abs(X[:, 2])], axis=1) + 0.1 * RNG.standard_normal((700, 2))
C = X[::7]  # 100 centres
ALPHA = 0.5


def dense(alpha=ALPHA, kernel="ntk", points=X, centers=C):
    """K_nm, K_mm and the matrix K_nmᵀ K_nm + α K_mm."""
    K_nm, K_mm = nf.kernels(NET, points, centers, get=kernel), nf.kernels(NET, centers, get=kernel)
    return K_nm, K_mm, K_nm.T @ K_nm + alpha * K_mm


def predicted(T, y=Y, points=X, centers=C, alpha=ALPHA, kernel="ntk"):
    K_nm, _, A = dense(alpha, kernel, points, centers)
    return nf.kernels(NET, T, centers, get=kernel) @ np.linalg.solve(A, K_nm.T @ y)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_predictions_are_those_of_the_normal_equations(method, kernel):
    model = nf.NystromRegression(NET, C, ALPHA, kernel=kernel, method=method, tol=1e-10).fit(X, Y)
    assert_allclose(model.predict(T), predicted(T, kernel=kernel), atol=1e-7)
    one = nf.NystromRegression(NET, C, ALPHA, kernel=kernel, method=method, tol=1e-10).fit(X, Y[:, 0])
    assert_allclose(one.predict(T), model.predict(T)[:, 0], atol=1e-8)
    assert_allclose(nf.kernels(NET, T, one.centers, get=kernel) @ one.dual_coefficients, one.predict(T), atol=1e-8)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10.0])
def test_falkon_reaches_the_direct_solution(alpha):
    direct = nf.NystromRegression(NET, 150, alpha, rng=0, method="direct").fit(X, Y)
    falkon = nf.NystromRegression(NET, 150, alpha, rng=0, method="falkon", tol=1e-10).fit(X, Y)
    assert_array_equal(np.sort(direct.centers, axis=0), np.sort(falkon.centers, axis=0))
    assert_allclose(falkon.predict(T), direct.predict(T), atol=1e-6 * np.abs(Y).max())
    assert falkon.solution.converged
    assert falkon.solution.residual <= 1e-10
    assert len(falkon.solution.residuals) == falkon.solution.iterations + 1
    assert falkon.solution.residuals[0] == 1


def test_all_points_as_centers_are_kernel_ridge_regression():
    process = nf.GaussianProcess(nf.ntk(NET, X), Y[:, 0], noise=ALPHA)
    model = nf.NystromRegression(NET, len(X), ALPHA).fit(X, Y[:, 0])
    K_tx = nf.ntk(NET, T, X)
    assert_allclose(model.predict(T), process.mean(K_tx), atol=1e-7)
    assert_allclose(model.variance(T), process.variance(K_tx, nf.diagonal(NET, T)), atol=1e-7)
    assert_allclose(model.leave_one_out(), process.leave_one_out().mean, atol=1e-7)
    assert_allclose(model.log_marginal_likelihood(), process.log_marginal_likelihood(), rtol=1e-9)


def test_variances_are_those_of_the_projected_process():
    _, K_mm, A = dense()
    k = nf.ntk(NET, C, T)
    explained = np.einsum("ij,ij->j", k, np.linalg.solve(K_mm, k))
    expected = nf.diagonal(NET, T) - explained + ALPHA * np.einsum("ij,ij->j", k, np.linalg.solve(A, k))
    model = nf.NystromRegression(NET, C, ALPHA).fit(X, Y)
    assert_allclose(model.variance(T), expected, atol=1e-8)
    assert_allclose(model.variance(T, observations=True), expected + ALPHA, atol=1e-8)
    mean, std = model.predict(T, return_std=True)
    assert_array_equal(mean, model.predict(T))
    assert_allclose(std**2, expected, atol=1e-8)


def test_evidence_is_that_of_the_dense_formula():
    K_nm, K_mm, _ = dense()
    Q = K_nm @ np.linalg.solve(K_mm, K_nm.T) + ALPHA * np.eye(len(X))
    each = -0.5 * np.einsum("ij,ij->j", Y, np.linalg.solve(Q, Y))
    expected = (each - 0.5 * np.linalg.slogdet(Q)[1] - len(X) / 2 * np.log(2 * np.pi)).sum()
    model = nf.NystromRegression(NET, C, ALPHA).fit(X, Y)
    assert_allclose(model.log_marginal_likelihood(), expected, rtol=1e-9)
    assert_allclose(model.solution.log_determinant, np.linalg.slogdet(Q)[1], rtol=1e-9)
    assert model.with_alpha(0.0).solution.log_determinant == -np.inf
    assert np.isnan(nf.NystromRegression(NET, C, ALPHA, method="falkon").fit(X, Y).solution.log_determinant)


def test_leave_one_out_by_leaving_out():
    left_out = nf.NystromRegression(NET, C, ALPHA).fit(X, Y).leave_one_out()
    for i in (0, 7, 10, 699):  # centres and others
        rest = np.arange(len(X)) != i
        assert_allclose(left_out[i], predicted(X[[i]], Y[rest], X[rest])[0], atol=1e-9)


@pytest.mark.parametrize("alpha", ["loo", [1e-4, 1e-2, 1.0, 100.0]])
def test_the_ridge_of_smallest_leave_one_out_error_is_chosen(alpha):
    model = nf.NystromRegression(NET, C, alpha).fit(X, Y)
    for k in (0, 3):
        other = nf.NystromRegression(NET, C, float(model.alphas[k])).fit(X, Y)
        assert_allclose(np.square(Y - other.leave_one_out()).mean(), model.loo_errors[k], rtol=1e-6)
    assert model.alpha == model.alphas[model.loo_errors.argmin()]
    assert_allclose(model.predict(T), predicted(T, alpha=model.alpha), atol=1e-7)


@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_another_ridge(method):
    model = nf.NystromRegression(NET, C, ALPHA, method=method, tol=1e-9).fit(X, Y)
    cold = nf.NystromRegression(NET, C, 0.4, method=method, tol=1e-9).fit(X, Y)
    warm = model.with_alpha(0.4)
    assert warm is model
    assert model.alpha == 0.4
    assert_allclose(model.predict(T), predicted(T, alpha=0.4), atol=1e-6)
    assert method == "direct" or warm.solution.iterations < cold.solution.iterations


@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_centers_that_repeat_are_left_out(method):
    repeated = np.concatenate([C, C[:40], C[:1]])
    model = nf.NystromRegression(NET, repeated, ALPHA, method=method, tol=1e-9).fit(X, Y)
    assert model.solution.rank == len(model.centers) == len(C)
    assert_allclose(model.predict(T), predicted(T), atol=1e-6)


def test_a_smooth_kernel_whose_centers_are_nearly_dependent():
    """What the squared matrix does not resolve matters little at a ridge of 1e-6 of the largest eigenvalue."""
    net, points = nf.MLP(3, "erf", 1.0, 0.1), X[:, :2]
    direct = nf.NystromRegression(net, 400, 1e-3, rng=0).fit(points, Y)
    assert direct.solution.rank < 250
    exact = nf.GaussianProcess(nf.ntk(net, points), Y, noise=1e-3).mean(nf.ntk(net, T[:, :2], points))
    assert_allclose(direct.predict(T[:, :2]), exact, atol=2e-3)
    falkon = nf.NystromRegression(net, 400, 1e-3, rng=0, method="falkon").fit(points, Y)
    assert_allclose(falkon.predict(T[:, :2]), exact, atol=1e-4)


def test_float32_data_have_sums_in_float64():
    model = nf.NystromRegression(NET, C.astype(np.float32), 0.01).fit(X.astype(np.float32), Y)
    assert model.predict(T.astype(np.float32)).dtype == np.float32
    assert model.variance(T.astype(np.float32)).dtype == np.float32
    assert_allclose(model.predict(T.astype(np.float32)), predicted(T, alpha=0.01), atol=2e-4)
    assert nf.NystromRegression(NET, C, 0.01, dtype=np.float32).fit(X, Y).predict(T).dtype == np.float32


@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_float32_points_far_from_the_origin(method):
    """The kernels of all centres are nearly the same there, and what differs is near the rounding of float32."""
    far, new = (X + 1e4).astype(np.float32), (T + 1e4).astype(np.float32)
    options = {"alpha": 1e-2, "method": method, "rng": 0}
    with pytest.warns(UserWarning, match=r"in float32 \d+ of 100 centers are independent.*subtract the mean"):
        lost = nf.NystromRegression(NET, 100, **options).fit(far, Y)
    kept = nf.NystromRegression(NET, 100, dtype=np.float64, **options).fit(far, Y)
    mean = far.mean(0)
    centred = nf.NystromRegression(NET, 100, **options).fit(far - mean, Y)
    assert lost.solution.rank < 50
    assert kept.solution.rank == centred.solution.rank == 100
    truth = np.stack([np.sin(T[:, 0]) * T[:, 1], np.abs(T[:, 2])], axis=1)
    errors = [np.square(f - truth).mean() for f in (lost.predict(new), centred.predict(new - mean))]
    assert errors[1] < 0.5 * errors[0]


def test_more_centers_are_not_worse_in_float32():
    points, new = X.astype(np.float32), T.astype(np.float32)
    exact = np.stack([np.sin(T[:, 0]) * T[:, 1], np.abs(T[:, 2])], axis=1)
    errors = [
        np.square(nf.NystromRegression(NET, m, 0.1, rng=0).fit(points, Y).predict(new) - exact).mean()
        for m in (100, 350, 700)
    ]
    assert errors[2] < 1.05 * errors[1] < 1.1 * errors[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, monkeypatch):
    monkeypatch.setattr("ntkfast.engine.problem.MOST_OF_STRIP", 16)  # four strips for a part
    monkeypatch.setattr("ntkfast.learning.solvers.panels.LEAST", 8)
    monkeypatch.setattr("ntkfast.learning.solvers.panels.MOST", 16)
    monkeypatch.setattr("ntkfast.learning.solvers.panels.LEAST_OF_PART", 43)  # 16 parts in 2 groups
    V = RNG.standard_normal((len(C), 11))  # one panel of eight, and a part of another
    found = []
    for n_threads in (1, 2, 3, 7):
        panels = Panels(NET, X.astype(dtype), C.astype(dtype), "ntk", None, n_threads, False)
        G, b = panels.gram(Y)
        found.append(
            [np.tril(G), b, panels.transposed_times(Y), panels.normal_product(V), panels.normal_product(V[:, :1])]
        )
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            assert_array_equal(ours, theirs)
    K, tolerance = dense()[0], 1e-5 if dtype == np.float32 else 1e-12
    for ours, right in zip(
        found[0], (np.tril(K.T @ K), K.T @ Y, K.T @ Y, K.T @ (K @ V), K.T @ (K @ V[:, :1])), strict=True
    ):
        assert_allclose(ours, right, rtol=tolerance, atol=tolerance * np.abs(right).max())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (700, 3), (50, 600), (300, 300)])
def test_products_in_one_pass(n, m, activation):
    """Against the matrix: any shape, all points as centres, and a kernel of one's own, whose products take panels."""
    net, points = nf.MLP(3, activation, 1.4, 0.1), X[:n]
    centers = points if n == m else RNG.standard_normal((m, 5))
    K, V = nf.ntk(net, points, centers.copy()), RNG.standard_normal((m, 2))
    for source in (net, lambda x, y: nf.ntk(net, x, y)):
        panels = Panels(source, points, centers, "ntk", None, 2, False)
        assert_allclose(panels.normal_product(V), K.T @ (K @ V), rtol=1e-9, atol=1e-12 * np.abs(K.T @ K).sum())
        assert_allclose(panels.transposed_times(Y[:n]), K.T @ Y[:n], rtol=1e-9, atol=1e-12 * np.abs(K).sum())


def test_the_method_is_chosen_by_cost_and_memory(monkeypatch):
    assert nf.NystromRegression(NET, C, ALPHA).fit(X, Y).solution.method == "direct"
    tight = nf.NystromRegression(NET, C, ALPHA, memory=8 * 45 * 100**2 // 10).fit(X, Y)
    assert tight.solution.method == "falkon"
    monkeypatch.setattr("ntkfast.learning.solvers.nystrom.FLOPS_PER_ENTRY", 0.001)
    monkeypatch.setattr("ntkfast.learning.solvers.nystrom.PASSES", 1)
    monkeypatch.setattr("ntkfast.learning.solvers.nystrom.QUICK", 0)
    assert nf.NystromRegression(NET, C, ALPHA).fit(X, Y[:, 0]).solution.method == "falkon"


def test_no_ridge_is_least_squares_on_the_centers():
    model = nf.NystromRegression(NET, C[:20], 0.0).fit(X, Y)
    K_nm = nf.ntk(NET, X, C[:20])
    expected = nf.ntk(NET, T, C[:20]) @ np.linalg.lstsq(K_nm, Y, rcond=None)[0]
    assert_allclose(model.predict(T), expected, atol=1e-7)
    with pytest.raises(ValueError, match="alpha: expected a ridge above 0 for the evidence"):
        model.log_marginal_likelihood()


def test_progress_and_repr():
    seen = []
    model = nf.NystromRegression(NET, 50, 0.1, progress=lambda done, total: seen.append((done, total)))
    assert repr(model) == "NystromRegression(n_centers=50, not fitted)"
    model.fit(X, Y)
    assert seen[-1] == (700, 700)
    assert repr(model) == "NystromRegression(n_centers=50, alpha=0.1, direct)"


def test_iterations_that_end_early_say_so():
    model = nf.NystromRegression(NET, C, 1e-3, method="falkon", max_iterations=3)
    with pytest.warns(UserWarning, match=r"NystromRegression: the relative residual is .*max_iterations=3 was reached"):
        model.fit(X, Y)
    assert not model.solution.converged
    assert model.solution.residual > 1e-8
    assert model.solution.iterations == 3


BAD = {
    "more centres than points": ({"n_centers": 701}, "n_centers: expected at most the number of points, 700, got 701"),
    "no centres": ({"n_centers": 0}, "n_centers: expected an integer >= 1, got 0"),
    "centres of another dimension": ({"n_centers": np.ones((3, 4))}, "n_centers: expected 5 features as in X"),
    "a NaN among centres": ({"n_centers": np.full((3, 5), np.nan)}, "n_centers: expected finite numbers"),
    "a negative ridge": ({"alpha": -1.0}, "alpha: expected a number >= 0, got -1.0"),
    "a NaN as ridge": ({"alpha": np.nan}, "alpha: expected a finite number, got nan"),
    "a grid with 0": ({"alpha": [0.0, 1.0]}, "alpha: expected numbers > 0 to choose from, got 0"),
    "a grid with a negative ridge": ({"alpha": [-1.0, 1.0]}, "alpha: expected finite numbers >= 0, got -1.0"),
    "a word": ({"alpha": "best"}, "alpha: expected a number, a sequence of numbers or 'loo', got 'best'"),
    "a method": ({"method": "lu"}, "method: expected one of auto, direct, falkon, got 'lu'"),
    "a grid for FALKON": ({"alpha": "loo", "method": "falkon"}, "alpha: expected one number for method 'falkon'"),
    "a kernel": ({"kernel": "rbf"}, "kernel: expected one of nngp, ntk, got 'rbf'"),
    "a tolerance": ({"tol": 0.0}, "tol: expected a number > 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        nf.NystromRegression(NET, **({"n_centers": 10, "alpha": 1.0} | options)).fit(X, Y)


def test_bad_data():
    model = nf.NystromRegression(NET, 10, 1.0)
    with pytest.raises(ValueError, match=r"NystromRegression: expected a fitted one"):
        model.predict(T)
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="expected finite numbers"):
        model.fit(bad, Y)
    with pytest.raises(ValueError, match=r"y: expected shape \(700,\)"):
        model.fit(X, Y[:-1])
    with pytest.raises(ValueError, match=r"y: expected .* got nan"):
        model.fit(X, np.full(700, np.nan))
    with pytest.raises(ValueError, match="X: expected 5 features as in fit, got shape"):
        model.fit(X, Y).predict(T[:, :3])
    falkon = nf.NystromRegression(NET, 10, 1.0, method="falkon").fit(X, Y)
    with pytest.raises(ValueError, match="variance: expected method='direct'"):
        falkon.variance(T)
    with pytest.raises(ValueError, match="n_centers: expected centers with a kernel above 0"):
        nf.NystromRegression(nf.MLP(2), np.zeros((2, 5)), 1.0).fit(X, Y)


def test_memory_is_refused_before_anything_is_computed():
    with pytest.raises(MemoryError, match=r"n_centers: .*direct.* with 600 centers needs .* memory=1000000 was given"):
        nf.NystromRegression(NET, 600, 1.0, method="direct", memory=10**6).fit(X, Y)
    with pytest.raises(MemoryError, match="use fewer"):
        nf.NystromRegression(NET, np.broadcast_to(X[0], (10**6, 5)), 1.0).fit(X, Y)


@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_a_kernel_of_ones_own(method):
    """The same model, whether the entries come from the engine or from a function."""
    given = nf.NystromRegression(NET, C, ALPHA, method=method, tol=1e-10).fit(X, Y)
    own = nf.NystromRegression(lambda x, y: nf.ntk(NET, x, y), C, ALPHA, method=method, tol=1e-10).fit(X, Y)
    assert_allclose(own.predict(T), given.predict(T), atol=1e-7)
    if method == "direct":
        assert_allclose(own.variance(T), given.variance(T), atol=1e-7)
        assert_allclose(own.leave_one_out(), given.leave_one_out(), atol=1e-7)


def test_a_function_that_works_in_place_cannot_change_the_points():
    def careless(x, y):
        x *= 2
        return x @ y.T

    before = X.copy()
    with pytest.raises(ValueError, match="read-only"):
        nf.NystromRegression(careless, C, ALPHA).fit(X, Y)
    assert_array_equal(X, before)


def test_a_kernel_whose_square_overflows():
    with pytest.raises(ValueError, match="net: the Gram matrix of the centers: the result overflows float64; scale"):
        nf.NystromRegression(NET, 1e100 * C, ALPHA, method="direct").fit(1e100 * X, Y)
    with pytest.raises(ValueError, match="net: the kernel of the centers: expected numbers up to"):
        nf.NystromRegression(lambda x, y: 1e200 * nf.ntk(NET, x, y), C, ALPHA).fit(X, Y)


def test_repeated_centers_of_a_function_are_left_out():
    once, twice = (
        nf.NystromRegression(lambda x, y: nf.ntk(NET, x, y), c, ALPHA).fit(X, Y) for c in (C, np.tile(C, (2, 1)))
    )
    assert len(once.centers) == len(twice.centers)
    assert_allclose(twice.predict(T), once.predict(T), atol=1e-7)


def test_a_kernel_of_scikit_learn():
    kernels = pytest.importorskip("sklearn.gaussian_process.kernels")
    model = nf.NystromRegression(kernels.RBF(2.0), 100, "loo", rng=0).fit(X.astype(np.float32), Y[:, 0])
    K_nm, K_mm = kernels.RBF(2.0)(X, model.centers), kernels.RBF(2.0)(model.centers)
    c = np.linalg.solve(K_nm.T @ K_nm + model.alpha * K_mm, K_nm.T @ Y[:, 0])
    assert_allclose(model.predict(T), kernels.RBF(2.0)(T, model.centers) @ c, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda x, y: x @ y.T + np.nan, "net: values of the kernel: expected finite numbers"),
        (lambda x, y: x[:, 0], r"net: expected a function that gives real numbers of shape \(100, 100\)"),
        (lambda x, y: None, "net: expected a function that gives real numbers"),
        (lambda x, y: x @ y.T + 5 * (x[:, :1] - y[:, 0]), "net: the kernel of the centers: expected a symmetric"),
        (lambda x, y: np.tanh(x @ y.T - 1), "net: the kernel of the centers: expected a positive semi-definite"),
        (lambda x, y: -x @ y.T, "net: the kernel of the centers: expected a positive semi-definite"),
        (lambda x, y: 0 * x @ y.T, "n_centers: expected centers with a kernel above 0"),
    ],
)
def test_a_function_that_is_no_kernel(function, problem):
    with pytest.raises(ValueError, match=problem):
        nf.NystromRegression(function, C, ALPHA).fit(X, Y)
