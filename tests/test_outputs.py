"""Kernels (N, N, k, k): against matrix exponentials, plain inverses and outputs that are independent after all."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg

import ntkfast as nf

N, M, K = 6, 4, 3
RNG = np.random.default_rng(0)


def kernels(seed):
    """A kernel of all points, data and new, as (N + M, N + M, K, K), positive definite."""
    half = np.random.default_rng(seed).normal(size=(N + M, K, 40))
    return np.einsum("iap,jbp->ijab", half, half) / 40


def matrix(kernel):
    """Row i K + a is output a of point i, entry by entry."""
    n, m = kernel.shape[:2]
    rows = [[kernel[i, j, a, b] for j in range(m) for b in range(K)] for i in range(n) for a in range(K)]
    return np.array(rows)


THETA, SIGMA = kernels(1), kernels(2)
XX, TX, TT = (slice(0, N), slice(0, N)), (slice(N, None), slice(0, N)), (slice(N, None), slice(N, None))
Y, F0, F0_T = RNG.normal(size=(N, K)), RNG.normal(size=(N, K)), RNG.normal(size=(M, K))
T_DIAGONAL = np.einsum("iiaa->ia", SIGMA[TT])
TIMES = [0.1, 3.0, 50.0]


@pytest.fixture(params=["(N, N, k, k)", "(N k, N k)"])
def given(request):
    """How the kernels are given."""
    return matrix if request.param == "(N k, N k)" else np.ascontiguousarray


def test_the_flow_in_units_of_points(given):
    flow = nf.LeastSquaresFlow(given(THETA[XX]), Y, given(SIGMA[XX]))
    k_xx, k_tx, s_xx, s_tx, s_tt = (matrix(part) for part in (THETA[XX], THETA[TX], SIGMA[XX], SIGMA[TX], SIGMA[TT]))
    y, f0 = Y.reshape(-1), F0.reshape(-1)
    new = given(THETA[TX]), given(SIGMA[TX])
    for t in TIMES:
        E = linalg.expm(-t * k_xx / N)  # N points, not N k numbers
        A = k_tx @ np.linalg.solve(k_xx, np.eye(N * K) - E)
        assert_allclose(flow.mean(t, f0=F0).reshape(-1), y + E @ (f0 - y), atol=1e-11)
        assert_allclose(flow.mean(t, new[0], F0, F0_T), F0_T + (A @ (y - f0)).reshape(M, K), atol=1e-10)
        covariance = s_tt + A @ s_xx @ A.T - A @ s_tx.T - s_tx @ A.T
        found = flow.covariance(t, *new, given(SIGMA[TT]))
        assert found.shape == (M, M, K, K)
        assert_allclose(matrix(found), covariance, atol=1e-10)
        variance = flow.variance(t, *new, T_DIAGONAL)
        assert_allclose(variance, np.diagonal(covariance).reshape(M, K), atol=1e-10)
        mean, band = flow.mean(t, new[0]), flow.percentiles(t, *new, T_DIAGONAL)
        assert_allclose(band[[0, 2]] - mean, np.multiply.outer([-1, 1], 1.2815515655446004 * np.sqrt(variance)))
        rest = E @ (f0 - y)
        assert flow.loss(t, F0) == pytest.approx(rest @ rest / (2 * N))
        expected = (np.square(E @ y).sum() + np.trace(E @ s_xx @ E)) / (2 * N)
        assert flow.expected_loss(t) == pytest.approx(expected)
    assert_allclose(np.sort(flow.eigenvalues), np.linalg.eigvalsh(k_xx / N), atol=1e-12)
    functions = flow.eigenfunctions(5)
    assert functions.shape == (N, K, 5)
    assert_allclose(np.einsum("iap,iaq->pq", functions, functions) / N, np.eye(5), atol=1e-12)
    components = np.einsum("tia,iap->tp", flow.mean(TIMES, f0=F0) - Y, functions) / N
    assert_allclose(flow.components(TIMES, F0, n_components=5), components, atol=1e-12)
    assert_array_equal(flow.null_space_part(), np.zeros((N, K)))
    assert_array_equal(flow.mean(np.inf), Y)
    samples = flow.samples(TIMES, *new, given(SIGMA[TT]), n_samples=4000, rng=0)
    assert samples.shape == (3, 4000, M, K)
    assert_allclose(samples[1].mean(axis=0), flow.mean(TIMES[1], new[0]), atol=0.1)
    assert_allclose(samples[1].std(axis=0), np.sqrt(flow.variance(TIMES[1], *new, T_DIAGONAL)), rtol=0.1)
    stop = flow.early_stopping(new[0], F0_T, t=TIMES)
    losses = ((flow.mean(TIMES, new[0]) - F0_T) ** 2).sum(axis=(1, 2)) / (2 * M)
    assert_allclose(stop.validation_loss, losses)
    steps = flow.mean(steps=1, learning_rate=0.01).reshape(-1)
    assert_allclose(steps, 0.01 / N * k_xx @ y, rtol=1e-12)
    assert repr(flow) == "LeastSquaresFlow(N=6, coupled outputs=3, float64)"


def test_a_gaussian_process(given):
    process = nf.GaussianProcess(given(SIGMA[XX]), Y, noise=0.1)
    s_xx, s_tx, s_tt, y = matrix(SIGMA[XX]) + 0.1 * np.eye(N * K), matrix(SIGMA[TX]), matrix(SIGMA[TT]), Y.reshape(-1)
    inverse = np.linalg.inv(s_xx)
    assert_allclose(process.mean(given(SIGMA[TX])), (s_tx @ inverse @ y).reshape(M, K), atol=1e-12)
    covariance = s_tt - s_tx @ inverse @ s_tx.T
    assert_allclose(matrix(process.covariance(given(SIGMA[TX]), given(SIGMA[TT]))), covariance, atol=1e-12)
    variance = process.variance(given(SIGMA[TX]), T_DIAGONAL)
    assert_allclose(variance, np.diagonal(covariance).reshape(M, K), atol=1e-12)
    assert process.dual_coefficients.shape == (N, K)
    value = -(y @ inverse @ y + np.linalg.slogdet(s_xx)[1] + N * K * np.log(2 * np.pi)) / 2
    assert process.log_marginal_likelihood() == pytest.approx(value)
    W = (np.outer(inverse @ y, inverse @ y) - inverse) / 2
    assert_allclose(matrix(process.likelihood_gradient()), W, atol=1e-12)
    found = nf.log_marginal_likelihood(given(SIGMA[XX]), Y, noise=0.1, gradients=[given(THETA[XX])])
    assert_allclose(found.gradient, [(W * matrix(THETA[XX])).sum()])


def test_points_are_left_out_with_all_of_their_outputs():
    found = nf.GaussianProcess(SIGMA[XX], Y, noise=0.1).leave_one_out()
    for i in range(N):
        rest = np.delete(np.arange(N), i)
        process = nf.GaussianProcess(SIGMA[np.ix_(rest, rest)], Y[rest], noise=0.1)
        assert_allclose(found.mean[i], process.mean(SIGMA[[i]][:, rest])[0], atol=1e-12)
        own = np.diagonal(SIGMA[i, i])[None]
        assert_allclose(found.variance[i], process.variance(SIGMA[[i]][:, rest], own)[0] + 0.1, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "huber", lambda f, y: ((f - y) ** 2).sum(axis=1) / 2])
def test_a_kernel_flow(given, loss):
    path = nf.kernel_flow(given(THETA[XX]), Y, F0, t=TIMES, loss=loss, rtol=1e-10, atol=1e-10)
    assert path.f.shape == path.dual_coefficients.shape == (3, N, K)
    assert path.predict(TIMES, given(THETA[TX]), F0_T).shape == (3, M, K)
    if loss != "huber":
        flow = nf.LeastSquaresFlow(THETA[XX], Y)
        assert_allclose(path.f, flow.mean(TIMES, f0=F0), atol=1e-7)
        assert_allclose(path.predict(TIMES, given(THETA[TX]), F0_T), flow.mean(TIMES, THETA[TX], F0, F0_T), atol=1e-6)
    else:  # small steps
        f, k_xx, h = F0.copy(), matrix(THETA[XX]), 1e-3
        for _ in range(int(TIMES[1] / h)):
            d = np.clip(f - Y, -1, 1)
            d = np.clip(f - h / 2 / N * (k_xx @ d.reshape(-1)).reshape(N, K) - Y, -1, 1)
            f = f - h / N * (k_xx @ d.reshape(-1)).reshape(N, K)
        assert_allclose(path.f[1], f, atol=1e-5)


def test_independent_outputs_are_a_special_case():
    net, X = nf.MLP(3, bias_std=0.1), RNG.normal(size=(N + M, 2))
    one, S = nf.ntk(net, X), nf.nngp(net, X)
    many, many_s = (kernel[:, :, None, None] * np.eye(K) for kernel in (one, S))
    a, b = (nf.LeastSquaresFlow(k[XX], Y, s[XX]) for k, s in ((one, S), (many, many_s)))
    assert_allclose(b.mean(TIMES, many[TX], F0, F0_T), a.mean(TIMES, one[TX], F0, F0_T), atol=1e-11)
    variance = a.variance(2.0, one[TX], S[TX], np.diagonal(S[TT]))
    wide = b.variance(2.0, many[TX], many_s[TX], np.repeat(np.diagonal(S[TT])[:, None], K, axis=1))
    assert_allclose(wide, np.repeat(variance[:, None], K, axis=1), atol=1e-11)
    # one output in a kernel of four axes
    single = nf.LeastSquaresFlow(one[XX][:, :, None, None], Y[:, 0])
    assert_allclose(single.mean(TIMES, one[TX][:, :, None, None]), a.mean(TIMES, one[TX])[..., 0], atol=1e-12)


def test_a_finite_network_follows_its_own_kernel():
    f = nf.FiniteNetwork.init(nf.MLP(3, bias_std=0.1), 2, 50, K, rng=0)
    X, T = RNG.normal(size=(N, 2)), RNG.normal(size=(M, 2))
    pairs = nf.empirical_ntk(f, X, outputs="full"), nf.empirical_ntk(f, T, X, outputs="full")
    flow = nf.LeastSquaresFlow(pairs[0], Y)
    right = nf.linearize(f).flow(X, Y, 2.0)
    assert_allclose(flow.mean(2.0, pairs[1], f(X), f(T)), right(T), atol=1e-9)
    assert flow.max_learning_rate == pytest.approx(nf.max_learning_rate(pairs[0]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: nf.LeastSquaresFlow(SIGMA[XX], Y[:, :2]),
            r"y: expected 3 outputs as in the kernel, got shape \(6, 2\)",
        ),
        (
            lambda: nf.LeastSquaresFlow(SIGMA[XX][..., :2], Y),
            r"ntk_xx: expected shape \(N, N, k, k\), got \(6, 6, 3, 2\)",
        ),
        (lambda: nf.LeastSquaresFlow(SIGMA[TX], Y), r"ntk_xx: expected a square matrix, got shape \(12, 18\)"),
        (
            lambda: nf.LeastSquaresFlow(SIGMA[XX], Y).mean(1.0, SIGMA[TT]),
            r"ntk_tx: expected shape \(any, 6, 3, 3\), got \(4, 4, 3, 3\)",
        ),
        (
            lambda: nf.LeastSquaresFlow(SIGMA[XX], Y).mean(1.0, matrix(SIGMA[TX])[1:]),
            r"ntk_tx: expected 3 rows for each point, got shape \(11, 18\)",
        ),
        (
            lambda: nf.GaussianProcess(SIGMA[XX], Y).variance(SIGMA[TX], T_DIAGONAL[:, 0]),
            r"K_t: expected 3 outputs as in y, got shape \(4,\)",
        ),
        (lambda: nf.kernel_flow(SIGMA[XX], Y[:, :2], t=1.0), "y: expected 3 outputs as in K_xx, got 2"),
        (
            lambda: nf.LeastSquaresFlow(SIGMA[XX], Y, SIGMA[XX][:, :, 0, 0]),
            r"nngp_xx: expected shape \(18, 18\) to match the other arguments, got \(6, 6\)",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_labels_without_initial_function():
    """The number of outputs is that of the classes, whether they are numbers or names."""
    X = RNG.normal(size=(9, 2))
    kernel, labels = nf.ntk(nf.MLP(2), X), np.arange(9) % 3
    path = nf.kernel_flow(kernel, labels, t=[1.0, 5.0], loss="softmax")
    assert path.f.shape == (2, 9, 3)
    again = nf.kernel_flow(kernel, labels, np.zeros((9, 3)), t=[1.0, 5.0], loss="softmax")
    assert_array_equal(path.f, again.f)
    named = nf.kernel_flow(kernel, np.array(["a", "b", "c"])[labels].tolist(), t=[1.0, 5.0], loss="softmax")
    assert_array_equal(named.f, path.f)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_cost_alone_in_a_flow(scale):
    """Stiff for the large scale: the solver's Jacobian is then that of the costs of the points."""
    X = RNG.normal(size=(20, 3))
    kernel, signs = scale * nf.ntk(nf.MLP(3), X), np.where(X[:, 0] > 0, 1.0, -1.0)[:, None]
    right = nf.kernel_flow(kernel, signs, t=[0.1, 2.0], loss="logistic")
    by_points = nf.kernel_flow(kernel, signs, t=[0.1, 2.0], loss=lambda f, y: np.log1p(np.exp(-y * f))[:, 0])
    assert_allclose(by_points.f, right.f, rtol=1e-6)
    assert_allclose(by_points.loss, right.loss, rtol=1e-6)
    if scale == 1:
        alone = nf.kernel_flow(kernel, signs, t=[0.1, 2.0], loss=lambda f, y: np.log1p(np.exp(-y * f)).mean())
        assert_allclose(alone.f, right.f, rtol=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("two", [False, True])
def test_the_layout_of_an_empirical_kernel(n_outputs, two):
    f = nf.FiniteNetwork.init(nf.MLP(3, bias_std=0.1), 2, 20, n_outputs, rng=0)
    X = RNG.normal(size=(5, 2))
    Y = RNG.normal(size=(4, 2)) if two else None
    pairs = nf.empirical_ntk(f, X, Y, outputs="full")
    shape = (5 * n_outputs, pairs.shape[1] * n_outputs)
    found = nf.empirical_ntk(f, X, Y, outputs="full", layout="matrix")
    assert_array_equal(found, np.swapaxes(pairs, 1, 2).reshape(shape))
    assert found.flags.c_contiguous
    out = np.empty(shape, order="F")
    assert nf.empirical_ntk(f, X, Y, "full", layout="matrix", out=out) is out
    assert_array_equal(out, found)
    in_blocks = nf.empirical_ntk(f, X, Y, outputs="full", layout="matrix", memory=1)
    assert_allclose(in_blocks, found, rtol=1e-12)
    with pytest.raises(ValueError, match=r"out: expected shape \(.*\), got \(5, "):
        nf.empirical_ntk(f, X, Y, "full", layout="matrix", out=np.empty(pairs.shape))


def test_layouts_that_are_none():
    f = nf.FiniteNetwork.init(nf.MLP(2), 2, 20, 3, rng=0)
    with pytest.raises(ValueError, match="layout: expected 'pairs' or 'matrix', got 'flat'"):
        nf.empirical_ntk(f, [[1.0, 2.0]], outputs="full", layout="flat")
    with pytest.raises(ValueError, match="layout: 'matrix' is for outputs='full', got outputs='mean'"):
        nf.empirical_ntk(f, [[1.0, 2.0]], layout="matrix")
