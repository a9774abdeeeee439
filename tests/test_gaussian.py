"""Gaussian processes with a given kernel: against plain inverses, loops, differences and 50 digits."""

import pickle
import warnings

import mpmath
import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

import ntkfast as nf
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.learning.gaussian import GaussianProcess, log_marginal_likelihood

N, M = 25, 6
NET = nf.MLP(depth=3, activation="erf", bias_std=0.1)
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(N, 3)), RNG.normal(size=(M, 3))
K, K_TX, K_TT = nf.nngp(NET, X), nf.nngp(NET, T, X), nf.nngp(NET, T)
Y = RNG.normal(size=(N, 2))


@pytest.mark.parametrize("noise", [1e-4, 0.1, 3.0])
def test_posterior(noise):
    inverse = np.linalg.inv(K + noise * np.eye(N))
    gp = GaussianProcess(K, Y, noise=noise)
    scale = 1e-12 / noise
    assert_allclose(gp.mean(K_TX), K_TX @ inverse @ Y, atol=scale)
    covariance = gp.covariance(K_TX, K_TT)
    assert_allclose(covariance, K_TT - K_TX @ inverse @ K_TX.T, atol=scale)
    assert_array_equal(covariance, covariance.T)
    assert_allclose(gp.variance(K_TX, np.diagonal(K_TT)), np.diagonal(covariance), atol=1e-14)
    assert_allclose(GaussianProcess(K, Y[:, 0], noise=noise).mean(K_TX), gp.mean(K_TX)[:, 0], atol=1e-13)
    assert_allclose(gp.dual_coefficients, inverse @ Y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coupled", [False, True])
def test_intervals_of_observations(coupled):
    """A new observation of the same points: its covariance is that of y given y, from the joint Gaussian."""
    noise, targets, names = 0.3, Y, (K, K_TX, K_TT)
    if coupled:
        names = tuple(np.einsum("ij,kl->ijkl", part, [[2.0, 0.5], [0.5, 1.0]]) for part in names)
    flat = [part.swapaxes(1, 2).reshape(2 * len(part), -1) if coupled else part for part in names]
    covariance = flat[2] - flat[1] @ np.linalg.solve(flat[0] + noise * np.eye(len(flat[0])), flat[1].T)
    expected = covariance + noise * np.eye(len(covariance))
    gp = GaussianProcess(names[0], targets, noise=noise)
    found = gp.covariance(*names[1:], observations=True)
    found = found.swapaxes(1, 2).reshape(expected.shape) if coupled else found
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    prior = np.einsum("iikk->ik", names[2]) if coupled else np.diagonal(names[2])
    variance = expected.diagonal().reshape(prior.shape)
    assert_allclose(gp.variance(names[1], prior, observations=True), variance, rtol=1e-9)
    mean, std = gp.predict(names[1], prior, return_std=True, observations=True)
    assert_array_equal(mean, gp.mean(names[1]))
    assert_array_equal(gp.predict(names[1]), mean)
    assert_allclose(std**2, variance, rtol=1e-9)
    assert_allclose(gp.predict(names[1], prior, return_std=True)[1] ** 2, variance - noise, rtol=1e-9)
    low, high = gp.percentiles(names[1], prior, levels=(16, 84), observations=True)
    spread = np.broadcast_to(std if coupled else std[:, None], low.shape)
    assert_allclose(high - low, 2 * scipy.special.ndtri(0.84) * spread, rtol=1e-9)


def test_ridge_regression_minimises():
    """f = K a minimises ‖f - y‖² + σ² aᵀ K a, which is convex: its gradient 2 K (K a - y + σ² a) vanishes."""
    a = GaussianProcess(K, Y[:, 0], noise=0.3).dual_coefficients
    assert_allclose(2 * K @ (K @ a - Y[:, 0]) + 0.6 * K @ a, 0, atol=1e-12 * np.linalg.norm(K, 2) * np.abs(Y).max())


def test_without_noise_it_is_training_forever():
    gp, flow = GaussianProcess(K, Y), LeastSquaresFlow(K, Y, K)
    assert_allclose(gp.mean(K_TX), flow.mean(np.inf, K_TX), atol=1e-9)
    assert_allclose(gp.covariance(K_TX, K_TT), flow.covariance(np.inf, K_TX, K_TX, K_TT), atol=1e-9)
    assert_allclose(gp.mean(K), Y, atol=1e-9)


def test_leave_one_out_by_force():
    left_out = GaussianProcess(K, Y, noise=0.05).leave_one_out()
    for i in range(N):
        rest = np.arange(N) != i
        gp = GaussianProcess(K[np.ix_(rest, rest)], Y[rest], noise=0.05)
        assert_allclose(left_out.mean[i], gp.mean(K[i : i + 1, rest])[0], atol=1e-11)
        assert_allclose(left_out.variance[i], gp.variance(K[i : i + 1, rest], K[i : i + 1, i])[0] + 0.05, rtol=1e-11)
    assert GaussianProcess(K, Y[:, 0], noise=0.05).leave_one_out().mean.shape == (N,)


# --- marginal likelihood


def kernel(p):
    """A kernel with two parameters, and its derivatives."""
    square = ((X[:, None] - X) ** 2).sum(axis=2)
    shape = np.exp(-square / (2 * p[1] ** 2))
    return p[0] * shape, [shape, p[0] * shape * square / p[1] ** 3]


STEPS, WEIGHTS = (-2, -1, 1, 2), np.array([1, -8, 8, -1])


def test_gradients_against_differences():
    p, noise, h = np.array([1.3, 0.8]), 0.2, 1e-4
    found = log_marginal_likelihood(kernel(p)[0], Y, noise=noise, gradients=kernel(p)[1])
    assert found.value == pytest.approx(log_marginal_likelihood(kernel(p)[0], Y, noise=noise), rel=1e-14)

    def difference(unit):
        """A fourth-order central difference along the parameters and the noise."""
        moves = [
            log_marginal_likelihood(kernel(p + s * h * unit[:2])[0], Y, noise=noise + s * h * unit[2]) for s in STEPS
        ]
        return WEIGHTS @ moves / (12 * h)

    for k, given in enumerate([*found.gradient, found.noise_gradient]):
        assert given == pytest.approx(difference(np.eye(3)[k]), rel=1e-8)
    assert log_marginal_likelihood(K, Y, noise=1.0, gradients=[]).gradient.shape == (0,)


def test_value_and_gradient_to_50_digits():
    n, noise = 8, 0.1
    C, dC = kernel([1.3, 0.8])
    C, dC, y = C[:n, :n], dC[1][:n, :n], Y[:n, 0]
    found = log_marginal_likelihood(C, y, noise=noise, gradients=[dC])
    with mpmath.workdps(50):
        S = mpmath.matrix(C.tolist()) + mpmath.mpf(noise) * mpmath.eye(n)
        inverse, t = S**-1, mpmath.matrix(y.tolist())
        alpha = inverse * t
        value = -((t.T * alpha)[0] + mpmath.log(mpmath.det(S)) + n * mpmath.log(2 * mpmath.pi)) / 2
        G = (alpha * alpha.T - inverse) * mpmath.matrix(dC.tolist())
        gradient = sum(G[i, i] for i in range(n)) / 2
        assert abs(found.value / value - 1) < 1e-12
        assert abs(found.gradient[0] / gradient - 1) < 1e-12


def test_gradient_matrices_may_have_no_diagonal():
    off, half = np.array([[0.0, 1.0], [1.0 + 1e-15, 0.0]]), np.array([[2.0, 0.5], [0.5, 1.0]])
    given = log_marginal_likelihood(half, [1.0, 2.0], noise=0.1, gradients=[off]).gradient[0]
    values = [log_marginal_likelihood(half + s * 1e-4 * off, [1.0, 2.0], noise=0.1) for s in STEPS]
    assert given == pytest.approx(WEIGHTS @ values / 12e-4, rel=1e-8)


def test_percentiles():
    gp, across, prior = GaussianProcess(K, Y, noise=0.1), K_TX, np.diagonal(K_TT)
    low, middle, high = gp.percentiles(across, prior, levels=(2.5, 50, 97.5))
    assert_allclose(middle, gp.mean(across), atol=1e-14)
    deviation = np.sqrt(gp.variance(across, prior))[:, None] + 0 * middle
    assert_allclose(high - middle, 1.959963984540054 * deviation, rtol=1e-12)
    assert_allclose(middle - low, high - middle, rtol=1e-12)
    assert GaussianProcess(K, Y[:, 0], noise=0.1).percentiles(across, prior).shape == (3, M)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-140, 1e140])
def test_units(scale):
    """K in other units, and y in those of its root: results change only by factors."""
    root, gp = np.sqrt(scale), GaussianProcess(K, Y, noise=0.1)
    scaled = GaussianProcess(scale * K, root * Y, noise=scale * 0.1)
    assert_allclose(scaled.mean(scale * K_TX) / root, gp.mean(K_TX), atol=1e-10)
    assert_allclose(scaled.covariance(scale * K_TX, scale * K_TT) / scale, gp.covariance(K_TX, K_TT), atol=1e-10)
    assert_allclose(scaled.leave_one_out().variance / scale, gp.leave_one_out().variance, rtol=1e-10)
    assert_allclose(scaled.likelihood_gradient() * scale, gp.likelihood_gradient(), atol=1e-8)
    jacobian = Y.size * np.log(root)  # of the targets' unit
    assert scaled.log_marginal_likelihood() == pytest.approx(gp.log_marginal_likelihood() - jacobian, rel=1e-10)


def test_float32_and_memory():
    gp = GaussianProcess(K.astype("f4"), Y, noise=0.1)
    assert gp.mean(K_TX).dtype == gp.covariance(K_TX, K_TT).dtype == gp.leave_one_out().variance.dtype == np.float32
    assert_allclose(gp.mean(K_TX), GaussianProcess(K, Y, noise=0.1).mean(K_TX), atol=1e-4)
    for order in "CF":
        C = np.array(K, order=order)
        before = C.copy()
        kept = GaussianProcess(C, Y, noise=0.1)
        assert_array_equal(C, before)
        assert_allclose(GaussianProcess(C, Y, noise=0.1, overwrite=True).mean(K_TX), kept.mean(K_TX), atol=1e-12)
        assert not np.array_equal(C, before)


SINGULAR = np.ones((2, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: GaussianProcess(SINGULAR, [1, 2]),
            ValueError,
            "K_xx: expected a positive definite .*; a ridge on the",
        ),
        (
            lambda: GaussianProcess([[1, 2], [2, 1]], [1, 2]),
            ValueError,
            "K_xx: .* smallest eigenvalue is -1; .* than 1 ",
        ),
        (
            lambda: GaussianProcess([[1, 2], [2, 1]], [1, 2], noise=0.5),
            ValueError,
            r"K_xx \+ noise I: .* is -0.5; .* than 0.5 ",
        ),
        (
            lambda: GaussianProcess(K, Y, noise=0.1).predict(K_TX, return_std=True),
            TypeError,
            "K_t: expected the kernel of each new point with itself for return_std=True, got None",
        ),
        (lambda: GaussianProcess(np.zeros((2, 2)), [1, 2]), ValueError, "K_xx: .* is 0; a ridge .* than 0 makes it so"),
        (lambda: GaussianProcess(K, Y, noise=1e200), ValueError, r"K_xx \+ noise I: expected numbers up to 1.3e\+151"),
        (
            lambda: GaussianProcess(K.astype("f4"), Y, noise=1e40),
            ValueError,
            r"K_xx \+ noise I: expected finite .* float32",
        ),
        (
            lambda: GaussianProcess(1e-150 * np.eye(2), [1e150, 0], noise=0).likelihood_gradient(),
            ValueError,
            "overflows float",
        ),
        (lambda: GaussianProcess(K, Y, noise=10**400), ValueError, "noise: expected a finite number"),
        (lambda: GaussianProcess(sparse.csr_array(K), Y), TypeError, "K_xx: expected a dense array, got a csr_array"),
        (lambda: GaussianProcess([[1, 2]], [1, 2]), ValueError, "K_xx: expected a square matrix"),
        (lambda: GaussianProcess([[1, 2], [0, 1]], [1, 2]), ValueError, "K_xx: expected a symmetric matrix"),
        (lambda: GaussianProcess(K, Y[:3]), ValueError, r"y: expected shape \(25,\) or \(25, outputs\), got \(3, 2\)"),
        (lambda: GaussianProcess(K, Y, noise=-1), ValueError, "noise: expected a number >= 0"),
        (lambda: GaussianProcess(K, Y, noise=np.nan), ValueError, "noise: expected a finite number"),
        (lambda: GaussianProcess(K, Y, noise=1).mean(K[:, :3]), ValueError, r"K_tx: expected shape \(any, 25\)"),
        (lambda: GaussianProcess(K, Y, noise=1).covariance(K_TX, K), ValueError, r"K_tt: expected shape \(6, 6\)"),
        (lambda: GaussianProcess(K, Y, noise=1).variance(K_TX, K_TT), ValueError, r"K_t: expected shape \(6,\)"),
        (
            lambda: log_marginal_likelihood(K, Y, noise=1, gradients=[K_TT]),
            ValueError,
            r"gradients\[0\]: expected shape \(25, 25\)",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_refusal_costs_a_few_products(monkeypatch):
    """No eigendecomposition, but a bound of the smallest eigenvalue, which is -0.7 here without noise."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((600, 600)))[0]
    K = (Q * np.concatenate([np.geomspace(1e-3, 600, 598), [-0.3, -0.7]])) @ Q.T
    K = (K + K.T) / 2
    for name in ("eigh", "eigvalsh"):
        monkeypatch.setattr(scipy.linalg, name, None)
    with pytest.raises(np.linalg.LinAlgError, match=r"at most -0\.6\d*; a ridge .* than 1\.[234] should") as error:
        GaussianProcess(K, K[0])
    assert "float64" not in str(error.value)
    with pytest.raises(np.linalg.LinAlgError, match=r"at most -0\.5\d*; .* should .* in float64 .* needs less"):
        GaussianProcess(K.astype("f4"), K[0], noise=0.1)
    with pytest.raises(np.linalg.LinAlgError, match=r"at most -?\d.*e-1\d; a ridge"):  # 0 to rounding
        GaussianProcess((Q[:, 1:] * np.geomspace(1e-3, 1, 599)) @ Q[:, 1:].T, K[0])


def test_a_float32_kernel_at_its_own_precision():
    """Some 2e-6 of the diagonal per entry: noise below that, times √N, is no regularisation."""
    net, X = nf.MLP(8, weight_std=2**0.5, bias_std=0.1), np.random.default_rng(0).standard_normal((300, 3))
    K, y = nf.nngp(net, X.astype("f4")), X[:, 0]
    with pytest.warns(UserWarning, match=r"K_xx: the errors of this float32 kernel .* float64"):
        GaussianProcess(K, y, noise=1e-4)
    far = K - np.float32(600 * 1.2e-7 * np.linalg.norm(K)) * np.eye(300, dtype="f4")
    with pytest.warns(UserWarning, match=r"ntk_xx: .*smallest eigenvalue is -\d.* float64"):
        LeastSquaresFlow(far, y).mean(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianProcess(K, y, noise=0.01)
        GaussianProcess(nf.nngp(net, X), y, noise=1e-4)
        LeastSquaresFlow(K, y).mean(1.0)


def test_variance_of_mixed_kernels_is_refused():
    """The diagonal of the NNGP with cross terms of the NTK explains less than nothing."""
    net, X = nf.MLP(3, bias_std=0.1), np.random.default_rng(0).standard_normal((20, 3))
    gp = GaussianProcess(nf.ntk(net, X[:12]), X[:12, 0], noise=0.1)
    across = nf.ntk(net, X[12:], X[:12])
    assert (gp.variance(across, nf.diagonal(net, X[12:])) > 0).all()
    words = ".* of point .* less than what the data explain.*same kernel as K_xx"
    with pytest.raises(ValueError, match=f"K_t: {words}"):
        gp.variance(across, nf.diagonal(net, X[12:], get="nngp"))
    with pytest.raises(ValueError, match=f"K_tt: {words}"):
        gp.covariance(across, nf.nngp(net, X[12:]))


def test_pickling():
    K = np.array([[2.0, 1.0], [1.0, 3.0]])
    process = GaussianProcess(K, [1.0, 2.0], noise=0.1)
    again = pickle.loads(pickle.dumps(process))
    assert_array_equal(again.mean(K), process.mean(K))
    assert_array_equal(again.variance(K, np.diag(K)), process.variance(K, np.diag(K)))


# --- operators, whose columns are solved for by iterations


MANY, NEW = np.random.default_rng(1).normal(size=(900, 6)), np.random.default_rng(2).normal(size=(70, 6))
TARGETS = np.stack([np.sin(MANY[:, 0]), MANY[:, 1] * MANY[:, 2]], axis=1)
RELU = nf.MLP(depth=3, bias_std=0.1)


@pytest.mark.parametrize("kind", ["operator", "of SciPy", "store"])
def test_an_operator_is_the_matrix(kind, tmp_path):
    K, K_tx, K_tt = nf.nngp(RELU, MANY), nf.nngp(RELU, NEW, MANY), nf.nngp(RELU, NEW)
    if kind == "store":
        pytest.importorskip("google_crc32c")
        given = nf.store.compute(RELU, MANY, tmp_path / "K.zarr", kernel="nngp")
    else:
        given = nf.KernelOperator(RELU, MANY, kernel="nngp") if kind == "operator" else aslinearoperator(K)
    process = nf.GaussianProcess(given, TARGETS, noise=0.05, rng=0)
    right = nf.GaussianProcess(K, TARGETS, noise=0.05)
    assert_allclose(process.dual_coefficients, right.dual_coefficients, atol=1e-6)
    mean, std = process.predict(K_tx, K_tt.diagonal(), return_std=True)
    assert_allclose(mean, right.mean(K_tx), atol=1e-6)
    assert_allclose(std, np.sqrt(right.variance(K_tx, K_tt.diagonal())), atol=1e-8)
    for observations in (False, True):
        expected = right.covariance(K_tx, K_tt, observations=observations)
        assert_allclose(process.covariance(K_tx, K_tt, observations=observations), expected, atol=1e-8)
    one = nf.GaussianProcess(given, TARGETS[:, 0], noise=0.05, rng=0)
    assert_allclose(one.percentiles(K_tx, K_tt.diagonal()), right.percentiles(K_tx, K_tt.diagonal())[..., 0], atol=1e-6)
    assert repr(process) == "GaussianProcess(N=900, outputs=2, noise=0.05, float64)"


def test_variances_of_an_operator_come_some_points_at_a_time():
    """The memory for the vectors decides how many; a loose tolerance makes variances too large, by its square."""
    K = nf.KernelOperator(RELU, MANY)
    K_tx, K_t = nf.ntk(RELU, NEW, MANY), nf.diagonal(RELU, NEW)
    right = nf.GaussianProcess(K[:], TARGETS, noise=0.05).variance(K_tx, K_t)
    little = nf.GaussianProcess(K, TARGETS, noise=0.05, rng=0, memory=900 * 8 * 6 * 12)
    assert_allclose(little.variance(K_tx, K_t), right, atol=1e-8)
    loose = nf.GaussianProcess(K, TARGETS, noise=0.05, rng=0, tol=1e-2, memory=900 * 8 * 40).variance(K_tx, K_t)
    assert (loose - right >= -1e-10).all()
    assert 1e-9 < (loose - right).max() < 1e-2


def test_what_an_operator_does_not_yield(tmp_path):
    process = nf.GaussianProcess(nf.KernelOperator(RELU, MANY[:50]), TARGETS[:50], noise=0.1, rng=0)
    words = "expected a GaussianProcess of a matrix, got one of an operator"
    for method in ("leave_one_out", "log_marginal_likelihood", "likelihood_gradient"):
        with pytest.raises(ValueError, match=f"{method}: {words}"):
            getattr(process, method)()
    with pytest.raises(ValueError, match=f"model: factor: {words}"):
        nf.save(process, tmp_path / "model")
    words = "K_xx: expected a float32 or float64 array to overwrite, got KernelOperator"
    with pytest.raises(TypeError, match=words):
        nf.GaussianProcess(nf.KernelOperator(RELU, MANY), TARGETS, overwrite=True)
    with pytest.raises(ValueError, match="K_xx: expected a square operator"):
        nf.GaussianProcess(nf.KernelOperator(RELU, MANY, NEW), TARGETS)
    indefinite = aslinearoperator(np.diag([1.0, -1.0, 2.0]))
    with pytest.warns(UserWarning, match="GaussianProcess: .* smallest eigenvalue is at most -.*; raise noise or tol"):
        nf.GaussianProcess(indefinite, [1.0, 2.0, 3.0], noise=0.1)
