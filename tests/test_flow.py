"""Kernel gradient descent: the closed form and the solver against matrix exponentials, integration and plain loops."""

import pickle
import threading
import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, linalg, sparse

import ntkfast as nf
from ntkfast import plotting
from ntkfast.learning import initial, propagator
from ntkfast.learning import kernel_flow as descent
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.learning.gaussian import GaussianProcess
from ntkfast.learning.kernel_flow import kernel_flow
from ntkfast.learning.path import Path
from ntkfast.support import losses, memory

N, M = 30, 7
NET = nf.MLP(depth=3, activation="relu", bias_std=0.1)


def sphere(n, d, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True) * np.sqrt(d)


class Problem:
    """Kernels on N data and M new points, targets and initial functions with two outputs."""

    def __init__(self, X, T, net=NET, seed=1):
        rng = np.random.default_rng(seed)
        self.nngp, self.ntk = nf.kernels(net, X)
        self.nngp_tx, self.ntk_tx = nf.kernels(net, T, X)
        self.nngp_tt = nf.nngp(net, T)
        self.y, self.f0, self.f0_t = (rng.normal(size=(len(Z), 2)) for Z in (X, X, T))
        self.pi = self.ntk / len(X)
        self.flow = LeastSquaresFlow(self.ntk, self.y, self.nngp)


@pytest.fixture
def problem():
    return Problem(sphere(N, 4), sphere(M, 4, seed=5))


@pytest.fixture
def singular():
    """Five points are in the data twice, with different targets."""
    X = sphere(N, 4)
    return Problem(np.vstack([X, X[:5]]), sphere(M, 4, seed=5))


@pytest.fixture
def smooth():
    """Sixty points on an arc: the erf kernel's eigenvalues fall to rounding, and half of them are below it."""
    angle = np.linspace(0, 2, 60)[:, None]
    X, T = (np.hstack([np.cos(a), np.sin(a)]) for a in (angle, np.linspace(-0.3, 2.3, M)[:, None]))
    return Problem(X, T, nf.MLP(depth=3, activation="erf", bias_std=0.1))


def exponential(pi, t):
    """e^{-tΠ} and ∫₀ᵗ e^{-sΠ} ds, from one matrix exponential: no eigenvalues, no inverse."""
    n = len(pi)
    both = np.zeros((2 * n, 2 * n))
    both[:n, :n], both[:n, n:] = -t * pi, t * np.eye(n)
    both = linalg.expm(both)
    return both[:n, :n], both[:n, n:]


TIMES = [0.0, 0.01, 1.0, 30.0, 1000.0]


@pytest.mark.parametrize("name", ["problem", "singular", "smooth"])
def test_mean_is_the_matrix_exponential(name, request):
    p = request.getfixturevalue(name)
    on_data = p.flow.mean(TIMES, f0=p.f0)
    beyond = p.flow.mean(TIMES, p.ntk_tx, p.f0, p.f0_t)
    for t, f, f_t in zip(TIMES, on_data, beyond, strict=True):
        E, integral = exponential(p.pi, t)
        assert_allclose(f, p.y + E @ (p.f0 - p.y), atol=1e-10)
        assert_allclose(f_t, p.f0_t + p.ntk_tx @ integral @ (p.y - p.f0) / len(p.y), atol=1e-10)
        assert_allclose(p.flow.mean(t, f0=p.f0), f, atol=1e-13)
        assert_allclose(p.flow.mean(t, p.ntk_tx, p.f0, p.f0_t), f_t, atol=1e-11)


def test_mean_is_the_solution_of_the_differential_equation(problem):
    p, n = problem, N
    y, f0, f0_t = p.y[:, 0], p.f0[:, 0], p.f0_t[:, 0]
    everywhere = np.vstack([p.ntk, p.ntk_tx])
    found = integrate.solve_ivp(
        lambda t, f: -everywhere @ (f[:n] - y) / n,
        (0, 100),
        np.concatenate([f0, f0_t]),
        t_eval=[1, 10, 100],
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    flow = LeastSquaresFlow(p.ntk, y)
    assert_allclose(flow.mean([1, 10, 100], f0=f0), found.y[:n].T, atol=1e-9)
    assert_allclose(flow.mean([1, 10, 100], p.ntk_tx, f0, f0_t), found.y[n:].T, atol=1e-9)


def test_forever(problem):
    p = problem
    assert_array_equal(p.flow.mean(np.inf), p.y)
    assert p.flow.loss(np.inf) == 0
    assert p.flow._propagator._eigen is None  # the Cholesky factor was used
    by_cholesky = p.flow.mean(np.inf, p.ntk_tx)
    assert_allclose(by_cholesky, p.ntk_tx @ np.linalg.solve(p.ntk, p.y), atol=1e-10)
    at_once = p.flow.mean([1.0, np.inf], p.ntk_tx)[1]
    assert_allclose(at_once, by_cholesky, atol=1e-10)
    assert_allclose(p.flow.mean([1e7, np.inf])[0], p.y, atol=1e-12)


def test_shapes(problem):
    p = problem
    flat = LeastSquaresFlow(p.ntk, p.y[:, 0], p.nngp)
    new = p.ntk_tx, p.nngp_tx, p.nngp_tt
    for flow, k in ((p.flow, (2,)), (flat, ())):
        assert flow.mean(1.0).shape == (N, *k)
        assert flow.mean([1.0]).shape == (1, N, *k)
        assert flow.mean(1.0, p.ntk_tx).shape == (M, *k)
        assert flow.mean([1.0, np.inf, 0.0], p.ntk_tx).shape == (3, M, *k)
        assert flow.components([1.0, 2.0], n_components=4).shape == (2, 4, *k)
        assert flow.samples(1.0, n_samples=5, rng=0).shape == (5, N, *k)
        assert flow.samples([1.0, np.inf], *new, n_samples=5, rng=0).shape == (2, 5, M, *k)
        assert flow.percentiles([1.0, 2.0], levels=(5, 50)).shape == (2, 2, N, *k)
        assert flow.null_space_part().shape == (N, *k)
        assert isinstance(flow.loss(1.0), float)
        assert flow.loss([1.0]).shape == (1,)
    assert flat.covariance(1.0).shape == (N, N)
    assert flat.covariance([1.0, 2.0], *new).shape == (2, M, M)
    assert flat.variance([1.0, 2.0]).shape == (2, N)


def counted(monkeypatch, place, name):
    """A list that gets the keywords of every call of place.name."""
    calls, function = [], getattr(place, name)
    monkeypatch.setattr(place, name, lambda *args, **kwargs: calls.append(kwargs) or function(*args, **kwargs))
    return calls


def test_one_decomposition_serves_everything(problem, monkeypatch):
    calls = counted(monkeypatch, linalg, "eigh")
    p = problem
    for t in (1.0, [2.0, np.inf], np.inf):
        p.flow.mean(t, p.ntk_tx)
        p.flow.covariance(t)
        p.flow.loss(t)
    p.flow.components(2.0)
    p.flow.early_stopping(p.ntk_tx, p.f0_t)
    assert len(calls) == 1
    p.flow.samples(1.0, p.ntk_tx, p.nngp_tx, p.nngp_tt, n_samples=1, rng=0)
    assert [call["driver"] for call in calls] == ["evd"] * 2


def test_one_cholesky_factor_serves_forever(problem, monkeypatch):
    p = problem
    of_ntk, of_nngp = (counted(monkeypatch, *place) for place in ((propagator, "cholesky"), (initial, "factor")))
    eigen = counted(monkeypatch, linalg, "eigh")
    for _ in range(2):
        p.flow.mean(np.inf)
        p.flow.mean(np.inf, p.ntk_tx)
        p.flow.covariance(np.inf)
        p.flow.covariance([np.inf] * 2, p.ntk_tx, p.nngp_tx, p.nngp_tt)
        p.flow.variance(np.inf, p.ntk_tx, p.nngp_tx, np.diagonal(p.nngp_tt))
        p.flow.loss(np.inf)
    assert (len(of_ntk), len(of_nngp), len(eigen)) == (1, 1, 0)


# --- discrete steps


@settings(deadline=None, max_examples=25, derandomize=True)
@given(steps=st.integers(0, 60), share=st.floats(1e-3, 1.0), seed=st.integers(0, 100))
def test_steps_are_plain_gradient_descent(steps, share, seed):
    p = Problem(sphere(12, 3, seed), sphere(M, 3, seed + 1), seed=seed)
    rate = share * p.flow.max_learning_rate
    f, f_t = p.f0, p.f0_t
    for _ in range(steps):
        d = (f - p.y) / 12
        f, f_t = f - rate * p.ntk @ d, f_t - rate * p.ntk_tx @ d
    assert_allclose(p.flow.mean(steps=steps, learning_rate=rate, f0=p.f0), f, atol=1e-10)
    got = p.flow.mean(None, p.ntk_tx, p.f0, p.f0_t, steps=[steps], learning_rate=rate)
    assert_allclose(got[0], f_t, atol=1e-10)
    assert_allclose(p.flow.loss(f0=p.f0, steps=steps, learning_rate=rate), ((f - p.y) ** 2).sum() / 24, atol=1e-10)


def test_covariance_after_steps(problem):
    p, rate = problem, problem.flow.max_learning_rate / 3
    R = np.linalg.matrix_power(np.eye(N) - rate * p.pi, 20)
    assert_allclose(p.flow.covariance(steps=20, learning_rate=rate), R @ p.nngp @ R.T, atol=1e-12)
    A = rate / N * sum(p.ntk_tx @ np.linalg.matrix_power(np.eye(N) - rate * p.pi, m) for m in range(20))
    exact = p.nngp_tt + A @ p.nngp @ A.T - A @ p.nngp_tx.T - p.nngp_tx @ A.T
    got = p.flow.covariance(None, p.ntk_tx, p.nngp_tx, p.nngp_tt, steps=[20], learning_rate=rate)
    assert_allclose(got[0], exact, atol=1e-12)


def test_many_tiny_steps():
    """1 - (1 - ηλ)^m of a single eigenvalue, where ηλ is near eps: against 50 digits."""
    flow = LeastSquaresFlow([[3.0]], [1.0])
    for rate, steps in ((1e-13, 10**12), (1e-16, 7), (0.3, 3), (0.5, 1001), (2 / 3, 1001), (1 / 3, 2)):
        with mpmath.workdps(50):
            exact = 1 - (1 - mpmath.mpf(rate) * 3) ** steps
            assert abs(flow.mean(None, [[3.0]], steps=steps, learning_rate=rate)[0] / exact - 1) < 1e-12


@pytest.mark.parametrize("steps", [2**53, 2**53 + 1, 2**63 + 1, 2**64 - 1])
def test_steps_keep_their_parity(steps):
    """At the largest learning rate (1 - ηλ)^m is (-1)^m forever."""
    assert LeastSquaresFlow([[2.0]], [1.0]).mean(steps=steps, learning_rate=1.0)[0] == 2 * (steps % 2)


def test_a_learning_rate_that_diverges(problem):
    largest = problem.flow.max_learning_rate
    assert largest == pytest.approx(2 / np.linalg.eigvalsh(problem.pi)[-1])
    values, vectors = np.linalg.eigh(problem.pi)
    remains = vectors @ np.diag((1 - 2 * values / values[-1]) ** 10**6) @ vectors.T  # the first component alternates
    exact = problem.y - remains @ problem.y
    assert_allclose(problem.flow.mean(steps=10**6, learning_rate=largest), exact, atol=1e-9)  # 10**6 eps
    with pytest.raises(ValueError, match=rf"learning_rate: expected at most 2/λ_1 = {largest:.6g}, .*diverges"):
        problem.flow.mean(steps=1, learning_rate=1.0001 * largest)


# --- singular kernels


def test_the_null_space_never_moves(singular):
    p = singular
    null = p.flow.null_space_part(p.f0)
    twice = (p.y - p.f0)[:5] - (p.y - p.f0)[-5:]
    assert_allclose(null[:5], twice / 2, atol=1e-12)
    assert_allclose(null[-5:], -twice / 2, atol=1e-12)
    assert_allclose(null[5:-5], 0, atol=1e-12)
    assert np.count_nonzero(p.flow.eigenvalues == 0) == 5
    for t in (1.0, 1e6, 1e30, np.inf):
        left = p.y - p.flow.mean(t, f0=p.f0)
        assert_allclose((left[:5] - left[-5:]) / 2, null[:5], atol=1e-11)
    assert_allclose(p.flow.mean(np.inf, f0=p.f0), p.y - null, atol=1e-11)
    assert p.flow.loss(np.inf, p.f0) == pytest.approx((null**2).sum() / 70)


def test_new_points_of_a_singular_kernel(singular):
    """At t = inf it is the solution of least norm; before that nothing grows without bound."""
    p = singular
    exact = p.ntk_tx @ np.linalg.pinv(p.ntk, rcond=1e-12, hermitian=True) @ p.y
    assert_allclose(p.flow.mean([1e9, 1e12, 1e20, np.inf], p.ntk_tx), [exact] * 4, atol=1e-11)


def test_near_duplicates():
    """Copies in K are points at distance 1e-9 in κ: what κ says of their difference must not grow with t."""
    rng = np.random.default_rng(0)
    X = sphere(40, 4)
    moved = np.vstack([X, X[:20], X[20:] + 1e-9 * sphere(20, 4, seed=1)])
    flow = LeastSquaresFlow(nf.ntk(NET, np.vstack([X, X])), rng.normal(size=80))
    ntk_tx = nf.ntk(NET, sphere(4, 4, seed=2), moved)
    assert np.count_nonzero(flow.eigenvalues == 0) == 40
    late = flow.mean([1e9, 1e12, 1e16, np.inf], ntk_tx)
    assert_allclose(late[:3], [late[3]] * 3, atol=1e-12)
    assert_allclose(flow.mean(1e7, ntk_tx), late[3], atol=1e-4)  # t/N 1e-10 ‖y‖, as κ differs by 1e-10


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [1e-12, 1e-9])
def test_noise_of_the_kernel_is_not_learned(noise, seed):
    """A kernel of rank 3 plus a symmetric E: eigenvalues of either sign up to ‖E‖ are noise, in κ as well."""
    rng = np.random.default_rng(seed)
    F, F_t, y = (rng.normal(size=shape) for shape in ((20, 3), (5, 3), 20))
    E = rng.normal(size=(20, 20))
    E = (E + E.T) * noise / np.linalg.norm(E + E.T, 2) * np.linalg.norm(F, 2) ** 2
    flow = LeastSquaresFlow(F @ F.T + E, y)
    assert np.count_nonzero(flow.eigenvalues) == 3
    least_norm = F_t @ np.linalg.lstsq(F, y, rcond=None)[0]
    late = flow.mean([1e5, 1e7, 1e9, 1e13, np.inf], F_t @ F.T)
    condition = np.linalg.cond(F) ** 2
    assert_allclose(late, [least_norm] * 5, atol=10 * condition * noise + 1e-12)
    shifted = LeastSquaresFlow(F @ F.T - noise * np.eye(20), y)
    assert_allclose(shifted.mean([1e5, 1e13], F_t @ F.T), [least_norm] * 2, atol=10 * condition * noise + 1e-12)


def test_the_null_space_does_not_grow():
    """Three equal points with three targets: their mean is learned, at late times too."""
    flow, late = LeastSquaresFlow(np.ones((3, 3)), [1.0, 2.0, 3.0], np.ones((3, 3))), [1e10, 1e14, 1e15, 1e16, np.inf]
    for m in (1, 50):  # both orders of the products
        assert_allclose(flow.mean(late, np.ones((m, 3))), 2, rtol=1e-12)
    assert_allclose(flow.mean(1e14, np.ones((50, 3))), 2, rtol=1e-12)
    assert_allclose(flow.variance(late, [[1.0, 1, 1]], [[1.0, 1, 1]], [1.0]), 0, atol=1e-14)
    assert_allclose(flow.early_stopping([[1.0, 1, 1]], [2.0]).validation_loss[-1], 0, atol=1e-20)


def test_kernel_of_zeros():
    flow = LeastSquaresFlow(np.zeros((2, 2)), [1.0, 2.0])
    assert_array_equal(flow.mean([0.0, 1.0, np.inf]), np.zeros((3, 2)))
    assert_array_equal(flow.null_space_part(), [1.0, 2.0])
    assert flow.max_learning_rate == np.inf


# --- random initial functions


@pytest.mark.parametrize("name", ["problem", "singular", "smooth"])
def test_covariance_is_that_of_the_formula(name, request):
    p = request.getfixturevalue(name)
    new = p.ntk_tx, p.nngp_tx, p.nngp_tt
    for t, on_data, beyond in zip(TIMES, p.flow.covariance(TIMES), p.flow.covariance(TIMES, *new), strict=True):
        E, integral = exponential(p.pi, t)
        A = p.ntk_tx @ integral / len(p.y)
        exact = p.nngp_tt + A @ p.nngp @ A.T - A @ p.nngp_tx.T - p.nngp_tx @ A.T
        assert_allclose(on_data, E @ p.nngp @ E.T, atol=1e-10)
        assert_allclose(beyond, exact, atol=1e-10)
        assert_allclose(p.flow.variance(t), np.diagonal(on_data), atol=1e-12)
        assert_allclose(p.flow.variance(t, *new[:2], np.diagonal(p.nngp_tt)), np.diagonal(beyond), atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("n", [10, 60])
def test_covariance_is_symmetric_and_positive(activation, n):
    """erf on a circle: Σ and Θ are numerically singular, and A_t is large away from the data."""
    net = nf.MLP(depth=3, activation=activation, bias_std=0.1)
    angle = np.linspace(0, 2, n)[:, None]
    X, T = (np.hstack([np.cos(a), np.sin(a)]) for a in (angle, np.linspace(-0.5, 2.5, 9)[:, None]))
    p = Problem(X, np.vstack([T, X[:2]]), net)
    new = p.ntk_tx, p.nngp_tx, p.nngp_tt
    for covariance in (p.flow.covariance([0.0, 1.0, 1e4, np.inf]), p.flow.covariance([0.0, 1.0, 1e4, np.inf], *new)):
        assert_array_equal(covariance, covariance.transpose(0, 2, 1))
        for C in covariance:
            scale = max(np.abs(C).max(), p.nngp_tt.max())
            assert np.linalg.eigvalsh(C)[0] >= -1e-12 * scale


def test_covariance_vanishes_on_the_data(problem):
    p = problem
    assert_array_equal(p.flow.covariance(np.inf), np.zeros((N, N)))
    assert_array_equal(p.flow.covariance([1.0, np.inf])[1], np.zeros((N, N)))
    assert_array_equal(p.flow.variance(np.inf), np.zeros(N))
    as_new = p.flow.covariance(np.inf, p.ntk, p.nngp, p.nngp)
    assert np.abs(as_new).max() < 1e-12 * p.nngp.max()


def test_samples_have_this_mean_and_covariance(problem):
    p = problem
    new = p.ntk_tx, p.nngp_tx, p.nngp_tt
    times = [0.0, 20.0, np.inf]
    for matrices in ((), new):
        n = 4000
        f = p.flow.samples(times, *matrices, n_samples=n, rng=0)
        mean, covariance = p.flow.mean(times, *matrices[:1]), p.flow.covariance(times, *matrices)
        for k in range(3):
            C = covariance[k]
            for output in range(2):
                sample = f[k, :, :, output]
                error = np.sqrt(np.diagonal(C) / n) + 1e-9
                assert np.all(np.abs(sample.mean(axis=0) - mean[k][:, output]) < 5 * error)
                spread = np.sqrt((np.outer(np.diagonal(C), np.diagonal(C)) + C**2) / n) + 1e-9
                assert np.all(np.abs(np.cov(sample.T) - C) < 5.5 * spread)
    assert_array_equal(p.flow.samples(1.0, n_samples=2, rng=7), p.flow.samples(1.0, n_samples=2, rng=7))


def test_samples_follow_their_own_start(problem):
    p = problem
    f = p.flow.samples([0.0, 5.0], n_samples=3, rng=0)
    for start, later in zip(*f, strict=True):
        assert_allclose(p.flow.mean(5.0, f0=start), later, atol=1e-11)


def test_percentiles(problem):
    p = problem
    low, middle, high = p.flow.percentiles(3.0, p.ntk_tx, p.nngp_tx, np.diagonal(p.nngp_tt), levels=(10, 50, 90))
    assert_allclose(middle, p.flow.mean(3.0, p.ntk_tx), atol=1e-14)
    sd = np.sqrt(p.flow.variance(3.0, p.ntk_tx, p.nngp_tx, np.diagonal(p.nngp_tt)))[:, None]
    assert_allclose(high - middle, 1.2815515655446004 * sd + 0 * high, rtol=1e-12)
    assert_allclose(middle - low, high - middle, rtol=1e-12)


def test_percentiles_at_any_levels(problem):
    """In the order of the levels; and what belongs elsewhere is not printed number by number."""
    p = problem
    new = p.ntk_tx, p.nngp_tx, np.diagonal(p.nngp_tt)
    assert_array_equal(p.flow.percentiles(1.0, *new, levels=(90, 10, 50)), p.flow.percentiles(1.0, *new)[[2, 0, 1]])
    for swapped in (
        lambda: p.flow.percentiles(p.ntk_tx, 1.0, *new[1:]),
        lambda: p.flow.percentiles(1.0, *new[::-1]),
        lambda: p.flow.percentiles(1.0, *new, levels=p.ntk),
        lambda: p.flow.percentiles(1.0, *new, levels=-p.ntk[0]),
        lambda: GaussianProcess(p.nngp, p.y, noise=0.1).percentiles(new[2], p.nngp_tx),
        lambda: nf.ntk(NET, p.ntk, dtype=p.ntk),
        lambda: kernel_flow(p.ntk, p.y, t=1.0, stop=lambda t, f: f),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            swapped()
        assert len(str(error.value)) < 200


def test_kernels_that_do_not_belong_together(problem):
    """The covariance of f_0 given as Σ at new points, and as Θ on the data and between them."""
    p = problem
    flow = LeastSquaresFlow(p.ntk, p.y, p.ntk)
    words = ".* of point .* less than what the data explain.*kernel as nngp_xx"
    with pytest.raises(ValueError, match=f"nngp_t: {words}"):
        flow.variance(1.0, p.ntk_tx, p.ntk_tx, np.diagonal(p.nngp_tt))
    for get in (flow.covariance, lambda *matrices: flow.samples(1.0, *matrices[1:], n_samples=1, rng=0)):
        with pytest.raises(ValueError, match=f"nngp_tt: {words}"):
            get(1.0, p.ntk_tx, p.ntk_tx, p.nngp_tt)


# --- the cost


def test_loss_and_components(problem):
    p = problem
    times = [0.0, 1.0, 100.0, 1e4]
    f = p.flow.mean(times, f0=p.f0)
    assert_allclose(p.flow.loss(times, p.f0), ((f - p.y) ** 2).sum(axis=(1, 2)) / (2 * N), rtol=1e-9)
    functions = p.flow.eigenfunctions(N)
    assert_allclose(functions.T @ functions / N, np.eye(N), atol=1e-11)
    assert_allclose(p.pi @ functions, functions * p.flow.eigenvalues, atol=1e-12)
    components = p.flow.components(times, f0=p.f0)
    assert_allclose(components, np.einsum("ji,tjk->tik", functions, f - p.y) / N, atol=1e-11)
    assert_array_equal(p.flow.components(times, n_components=3, f0=p.f0), components[:, :3])


def test_a_loss_far_below_rounding_of_the_targets(problem):
    """e^{-2tλ} itself, not the square of a difference."""
    p = problem
    flow = LeastSquaresFlow(np.eye(2) * 2, [1.0, 1.0])
    assert flow.loss(300.0) == pytest.approx(0.5 * np.exp(-600.0), rel=1e-10)
    assert p.flow.loss(1e6) < 1e-30


def test_expected_loss(problem):
    p = problem
    for t in (0.0, 2.0, np.inf):
        bias = ((p.flow.mean(t) - p.y) ** 2).sum()
        assert_allclose(p.flow.expected_loss(t), (bias + 2 * p.flow.variance(t).sum()) / (2 * N), atol=1e-12)


def test_early_stopping(problem):
    p = problem
    rng = np.random.default_rng(3)
    y_v = p.flow.mean(30.0, p.ntk_tx) + 0.01 * rng.normal(size=(M, 2))
    found = p.flow.early_stopping(p.ntk_tx, y_v)
    fine = np.geomspace(found.t / 3, 3 * found.t, 2001)
    losses = ((p.flow.mean(fine, p.ntk_tx) - y_v) ** 2).sum(axis=(1, 2)) / (2 * M)
    assert found.loss <= losses.min() * (1 + 1e-12)
    assert found.t == pytest.approx(fine[losses.argmin()], rel=0.002)
    assert_allclose(found.training_loss, p.flow.loss(found.times))
    assert found.loss <= found.validation_loss.min()
    assert p.flow.early_stopping(p.ntk_tx, y_v, t=[5.0, 25.0, 1000.0]).t == 25.0
    assert p.flow.early_stopping(p.ntk_tx, np.zeros((M, 2))).t == 0
    start = p.flow.early_stopping(p.ntk_tx, y_v + p.f0_t, p.f0 * 0, p.f0_t)
    assert start.t == pytest.approx(found.t, rel=1e-3)


def test_early_stopping_at_the_ends():
    """A loss that falls to the end: inf; one that never changes: 0; one whose minimum is before or after the grid."""
    flow = LeastSquaresFlow(np.diag([2.0, 0.2]), [1.0, 1.0])
    for targets in ([1.0, 1.0], [2.0, 2.0]):
        found = flow.early_stopping(np.diag([2.0, 0.2]), targets)
        assert found.t == np.inf
        assert found.loss == found.validation_loss[-1]
    assert flow.early_stopping(np.diag([2.0, 0.2]), [1.0, 1.0], t=[1.0, 1e4, 1e5, np.inf]).t == np.inf
    assert flow.early_stopping(np.diag([2.0, 0.2]), [1.0, 1.0], t=[1.0, 1e4, 1e5]).t == 1e4  # the first of equals
    assert flow.early_stopping(np.zeros((2, 2)), [1.0, 1.0]).t == 0
    assert flow.early_stopping(np.diag([2.0, 0.2]), [-1.0, -1.0]).t == 0
    for part in (1e-5, 0.003, 0.0099, 0.0101, 0.5):  # a new point like the first: e^{-t} of its error remains
        found = flow.early_stopping([[2.0, 0.0]], [part])
        assert found.t == pytest.approx(-np.log1p(-part), rel=1e-4)
        assert found.loss <= found.validation_loss.min()
    assert LeastSquaresFlow(np.zeros((2, 2)), [1.0, 1.0]).early_stopping(np.zeros((1, 2)), [1.0]).t == 0


# --- memory and precision


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["problem", "singular"])
@pytest.mark.parametrize("scale", [1e-150, 1e-60, 1e60, 1e150])
def test_units(scale, name, request):
    """In other units of the kernel, of time and of the targets the results are the same, as in the equations."""
    p = request.getfixturevalue(name)
    new, times = (p.ntk_tx, p.nngp_tx, p.nngp_tt), np.array([0.0, 3.0, 1e4, np.inf])
    unit = 1e100
    flow = LeastSquaresFlow(scale * p.ntk, unit * p.y, scale * p.nngp)
    scaled = tuple(scale * K for K in new)
    assert_allclose(flow.mean(times / scale) / unit, p.flow.mean(times), atol=1e-10)
    assert_allclose(flow.mean(times / scale, scaled[0]) / unit, p.flow.mean(times, p.ntk_tx), atol=1e-8)
    assert_allclose(flow.covariance(times / scale, *scaled) / scale, p.flow.covariance(times, *new), atol=1e-8)
    assert_allclose(flow.loss(times / scale) / unit**2, p.flow.loss(times), atol=1e-10)
    assert_allclose(flow.null_space_part() / unit, p.flow.null_space_part(), atol=1e-10)
    y_v = p.flow.mean(30.0, p.ntk_tx)
    stop = flow.early_stopping(scaled[0], unit * y_v).t * scale
    assert stop == pytest.approx(p.flow.early_stopping(p.ntk_tx, y_v).t, rel=1e-5)
    assert_array_equal(np.isfinite(flow.samples([1e-300, 1e300], n_samples=2, rng=0)), True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-18, 1e16])
def test_units_in_float32(scale):
    """Two blocks of equal points, and a new point that lies partly in the null space: norms of rows fit."""
    K, cross, scale = np.ones((40, 40), "f4"), np.ones((2, 40), "f4"), np.float32(scale)
    K[:20, :20] += 0.5
    cross[1, 1:] = 0
    times = np.array([1.0, 100.0, np.inf])
    flow, scaled = LeastSquaresFlow(K, np.arange(40.0)), LeastSquaresFlow(scale * K, np.arange(40.0))
    assert_allclose(scaled.mean(times / scale, scale * cross), flow.mean(times, cross), rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_the_dtype_are_refused():
    for call, words in (
        (
            lambda: LeastSquaresFlow(1e300 * K, [1.0, 2.0]),
            r"ntk_xx: expected numbers up to 1.3e\+151 in float64, got 2e\+300",
        ),
        (
            lambda: LeastSquaresFlow(1e-300 * K, [1.0, 2.0]),
            "ntk_xx: expected 0 everywhere, or a largest entry of at least",
        ),
        (lambda: LeastSquaresFlow(K, [1.0, -1e300]), r"y: expected numbers up to 1.3e\+151 in float64, got -1e\+300"),
        (lambda: LeastSquaresFlow(K.astype("f4"), [1.0, 1e300]), "y: expected finite numbers in float32, got inf"),
        (
            lambda: LeastSquaresFlow(1e-150 * K, [1.0, 1e150]).mean(np.inf, 1e150 * K),
            "mean: the result overflows float64",
        ),
        (lambda: LeastSquaresFlow(0 * K, [1.0, 1e150]).mean(1e200, K), "mean: the result overflows float64"),
        (lambda: kernel_flow(1e300 * K, [1.0, 2.0], t=1.0), "K_xx: expected numbers up to"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("overwrite", [False, True])
def test_threads(problem, overwrite):
    """Between a Cholesky factor and an eigendecomposition in the same memory, from eight threads at once."""
    p, found, errors = problem, {}, []
    times = [np.inf, 3.0, [1.0, np.inf], np.inf] * 2
    for _ in range(20):
        flow, barrier = LeastSquaresFlow(p.ntk.copy(), p.y, overwrite=overwrite), threading.Barrier(len(times))

        def run(k, flow=flow, barrier=barrier):
            barrier.wait()
            try:
                found[k] = flow.mean(times[k], p.ntk_tx)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(k,)) for k in range(len(times))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        for k, t in enumerate(times):
            assert_allclose(found[k], p.flow.mean(t, p.ntk_tx), atol=1e-10)


@pytest.mark.parametrize("order", ["C", "F"])
def test_overwrite_works_in_place(order):
    X = sphere(600, 8)
    kept = nf.ntk(NET, X)
    K, y = np.array(kept, order=order), X[:, 0].copy()
    tracemalloc.start()
    flow = LeastSquaresFlow(K, y, overwrite=True)
    forever = flow.mean(np.inf, kept[:20])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * K.nbytes
    assert not np.array_equal(K, kept)
    assert_allclose(forever, y[:20], atol=1e-10)
    plain = LeastSquaresFlow(kept, y)
    assert_allclose(flow.mean(3.0, kept[:20]), plain.mean(3.0, kept[:20]), atol=1e-12)


def test_overwrite_of_a_singular_kernel(singular):
    p = singular
    flow = LeastSquaresFlow(p.ntk.copy(), p.y, overwrite=True)
    assert_allclose(flow.mean(np.inf, p.ntk_tx), p.flow.mean(np.inf, p.ntk_tx), atol=1e-9)


@pytest.mark.parametrize("t", [1.0, np.inf])
def test_a_kernel_that_was_overwritten_in_vain(t):
    flow = LeastSquaresFlow(np.array([[1.0, 2.0], [2.0, 1.0]]), [1.0, 2.0], overwrite=True)
    with pytest.raises(ValueError, match="smallest eigenvalue is -1"):
        flow.mean(t)
    for again in (1.0, np.inf):
        with pytest.raises(ValueError, match="ntk_xx: was overwritten by a decomposition that failed"):
            flow.mean(again)


def test_a_kernel_that_was_not_overwritten_for_want_of_memory(problem, monkeypatch):
    def require(n_bytes, what, hint=""):
        raise MemoryError(what)

    flow = LeastSquaresFlow(problem.ntk.copy(), problem.y, overwrite=True)
    flow.mean(np.inf)
    monkeypatch.setattr(memory, "require", require)
    with pytest.raises(MemoryError, match="the eigenvectors"):
        flow.mean(1.0)
    monkeypatch.undo()
    assert_allclose(flow.mean(1.0), problem.flow.mean(1.0), atol=1e-13)


def test_arguments_are_left_alone(problem):
    p = problem
    before = [a.copy() for a in (p.ntk, p.nngp, p.ntk_tx, p.y, p.f0, p.f0_t, p.nngp_tx, p.nngp_tt)]
    p.flow.mean([1.0, np.inf], p.ntk_tx, p.f0, p.f0_t)
    p.flow.mean(np.inf, p.ntk_tx, p.f0, p.f0_t)
    p.flow.samples(np.inf, p.ntk_tx, p.nngp_tx, p.nngp_tt, n_samples=2, rng=0)
    p.flow.covariance(1.0, p.ntk_tx, p.nngp_tx, p.nngp_tt)
    for a, b in zip(before, (p.ntk, p.nngp, p.ntk_tx, p.y, p.f0, p.f0_t, p.nngp_tx, p.nngp_tt), strict=True):
        assert_array_equal(a, b)


def test_float32(problem):
    p = problem
    flow = LeastSquaresFlow(p.ntk.astype("f4"), p.y, p.nngp)
    new = p.ntk_tx, p.nngp_tx, p.nngp_tt
    for got, exact in (
        (flow.mean([1.0, np.inf], p.ntk_tx), p.flow.mean([1.0, np.inf], p.ntk_tx)),
        (flow.covariance([1.0, 9.0], *new), p.flow.covariance([1.0, 9.0], *new)),
        (flow.samples(1.0, n_samples=2, rng=0), p.flow.samples(1.0, n_samples=2, rng=0)),
        (flow.percentiles(1.0), p.flow.percentiles(1.0)),
        (flow.components(1.0, n_components=1), p.flow.components(1.0, n_components=1)),
    ):
        assert got.dtype == np.float32
        assert_allclose(got, exact, atol=2e-3)


def test_float32_at_any_time():
    """As accurate as the decomposition: LAPACK's syevr, whose vectors are not orthogonal, was off by up to 1."""
    X = sphere(400, 10)
    K, y = nf.ntk(NET, X.astype("f4")), np.sin(X[:, 0])
    flow, exact = LeastSquaresFlow(K, y), LeastSquaresFlow(K.astype(float), y)
    times = [1e-3, 1.0, 100.0, 1e4]
    for got, right in zip(flow.mean(times), exact.mean(times), strict=True):
        assert np.linalg.norm(got - right) < 2e-5 * np.linalg.norm(right)
    functions = flow.eigenfunctions(400).astype(float)
    assert_allclose(functions.T @ functions / 400, np.eye(400), atol=1e-5)


def test_small_times_in_fifty_digits(problem):
    """f_t - f_0 relative to itself, on the data and at new points."""
    p, y = problem, problem.y[:, 0]
    flow = LeastSquaresFlow(p.ntk, y)
    with mpmath.workdps(50):
        K, K_tx = (mpmath.matrix(matrix.tolist()) for matrix in (p.ntk, p.ntk_tx))
        values, V = mpmath.eigsy(K)
        along = V.T * mpmath.matrix(y.tolist())
        for t in (1e-12, 1e-3, 1.0, 100.0):
            gone = [-mpmath.expm1(-mpmath.mpf(t) * value / N) for value in values]
            dual = V * mpmath.matrix([w * c / value for w, c, value in zip(gone, along, values, strict=True)])
            for got, right in ((flow.mean(t), K * dual), (flow.mean(t, p.ntk_tx), K_tx * dual)):
                right = np.array(right.tolist(), dtype=float)[:, 0]
                assert np.abs(got - right).max() < 3e-14 * np.abs(right).max()
    assert_array_equal(p.flow.mean(0.0, f0=p.f0), p.f0)


def test_memory_is_asked_for_first(problem, monkeypatch):
    p = problem
    monkeypatch.setattr(memory, "available", lambda: 0)
    with pytest.raises(MemoryError, match=r"the function at all times needs 91\.55 MiB, 0 bytes"):
        p.flow.mean(np.ones(200_000), f0=p.f0)
    K = np.eye(3000, dtype="f4")
    with pytest.raises(MemoryError, match=r"the kernel in float64 needs 68\.66 MiB, 0 bytes"):
        kernel_flow(K, K[0], t=1.0)


# --- bad input

K = np.array([[2.0, 1.0], [1.0, 2.0]])
FLOW = LeastSquaresFlow(K, [1.0, 2.0], K)
NOT_DEFINITE = "expected a positive semi-definite matrix, but its smallest eigenvalue is -1; a ridge .* larger than 1 "


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: LeastSquaresFlow(K[:1], [1.0]), ValueError, r"ntk_xx: expected a square matrix, got shape \(1, 2\)"),
        (lambda: LeastSquaresFlow(np.zeros((0, 0)), []), ValueError, "ntk_xx: expected a square matrix"),
        (
            lambda: LeastSquaresFlow(np.triu(K), [1.0, 2.0]),
            ValueError,
            "ntk_xx: expected a symmetric matrix, got 1.0 at",
        ),
        (lambda: LeastSquaresFlow(K * [[1, 1], [1, np.nan]], [1.0, 2.0]), ValueError, r"ntk_xx: .* nan at .*\(1, 1\)"),
        (lambda: LeastSquaresFlow(K + 0j, [1.0, 2.0]), TypeError, "ntk_xx: expected real numbers, got dtype complex"),
        (lambda: LeastSquaresFlow(K, [1.0]), ValueError, r"y: expected shape \(2,\) or \(2, outputs\), got \(1,\)"),
        (lambda: LeastSquaresFlow(K, [1.0, np.inf]), ValueError, "y: expected finite numbers in float64, got inf"),
        (lambda: LeastSquaresFlow(K, ["a", "b"]), TypeError, "y: expected real numbers"),
        (lambda: LeastSquaresFlow(K, [1.0, 2.0], np.eye(3)), ValueError, r"nngp_xx: expected shape \(2, 2\)"),
        (lambda: LeastSquaresFlow(K, [1.0, 2.0], K, overwrite=True), ValueError, "nngp_xx: .*overwritten"),
        (lambda: LeastSquaresFlow(K.tolist(), [1.0, 2.0], overwrite=True), TypeError, "ntk_xx: .*overwrite, got list"),
        (lambda: LeastSquaresFlow(np.eye(4)[::2, ::2], [1.0, 2.0], overwrite=True), ValueError, "ntk_xx: .*contiguous"),
        (lambda: LeastSquaresFlow([[1, 2], [2, 1]], [1, 2]).mean(1.0), ValueError, f"ntk_xx: {NOT_DEFINITE}"),
        (lambda: LeastSquaresFlow([[1, 2], [2, 1]], [1, 2]).mean(np.inf), ValueError, f"ntk_xx: {NOT_DEFINITE}"),
        (
            lambda: LeastSquaresFlow(K, [1, 2], [[1, 2], [2, 1]]).covariance(1.0),
            ValueError,
            f"nngp_xx: {NOT_DEFINITE}",
        ),
        (lambda: LeastSquaresFlow(K, [1.0, 2.0]).covariance(1.0), ValueError, "nngp_xx: expected .*got None"),
        (lambda: FLOW.mean(), TypeError, "t: expected either t or steps, got neither"),
        (lambda: FLOW.mean(1.0, steps=1, learning_rate=1.0), TypeError, "t: expected either t or steps, got both"),
        (lambda: FLOW.mean(1.0, learning_rate=1.0), TypeError, "learning_rate: expected together with steps"),
        (lambda: FLOW.mean(steps=1), TypeError, "learning_rate: expected a number together with steps, got None"),
        (lambda: FLOW.mean(steps=1.5, learning_rate=1.0), TypeError, "steps: expected integers, got dtype float64"),
        (lambda: FLOW.mean(steps=-1, learning_rate=1.0), ValueError, "steps: expected numbers >= 0, got -1"),
        (lambda: FLOW.mean(steps=1, learning_rate=0), ValueError, "learning_rate: expected a number > 0"),
        (lambda: FLOW.mean([1.0, -2.0]), ValueError, "t: expected numbers >= 0, got -2.0"),
        (lambda: FLOW.mean(np.nan), ValueError, "t: expected numbers >= 0, got nan"),
        (lambda: FLOW.mean([[1.0]]), ValueError, r"t: expected a number or a list of numbers, got shape \(1, 1\)"),
        (lambda: FLOW.mean("now"), TypeError, "t: expected real numbers"),
        (lambda: FLOW.mean(1.0, [[1.0]]), ValueError, r"ntk_tx: expected shape \(any, 2\), got \(1, 1\)"),
        (
            lambda: FLOW.mean(1.0, [[1.0, np.nan]]),
            ValueError,
            r"ntk_tx: expected finite numbers in float64, got nan at .*\(0, 1\)",
        ),
        (lambda: FLOW.mean(1.0, K, f0=[1.0, 2.0]), TypeError, "f0_t: expected the initial function there too"),
        (lambda: FLOW.mean(1.0, K, f0_t=[1.0, 2.0]), TypeError, "f0: expected the initial function there too"),
        (lambda: FLOW.mean(1.0, f0_t=[1.0, 2.0]), TypeError, "f0_t: expected together with ntk_tx"),
        (lambda: FLOW.mean(1.0, f0=np.ones((2, 2))), ValueError, "f0: expected 1 outputs as in y"),
        (lambda: FLOW.covariance(1.0, K), TypeError, "nngp_tx: expected a matrix together with the others"),
        (lambda: FLOW.covariance(1.0, K, K[:1], K), ValueError, r"nngp_tx: expected shape \(2, 2\), got \(1, 2\)"),
        (lambda: FLOW.covariance(1.0, K, K, K[:1]), ValueError, "nngp_tt: expected a square matrix"),
        (lambda: FLOW.variance(1.0, K, K, K), ValueError, r"nngp_t: expected shape \(2,\), got \(2, 2\)"),
        (lambda: FLOW.samples(1.0, n_samples=0), ValueError, "n_samples: expected an integer >= 1"),
        (
            lambda: FLOW.percentiles(1.0, levels=(0, 50)),
            ValueError,
            r"levels: expected a list of numbers in \(0, 100\)",
        ),
        (lambda: FLOW.percentiles(1.0, levels=50), ValueError, r"levels: .* in \(0, 100\), got shape \(\)"),
        (lambda: FLOW.percentiles(1.0, levels=[]), ValueError, r"levels: .* in \(0, 100\), got shape \(0,\)"),
        (lambda: FLOW.samples(1.0, rng="seed"), TypeError, "rng: expected None, an integer or .*, got str"),
        (
            lambda: FLOW.samples(1.0, n_samples=10**400),
            ValueError,
            "n_samples: expected an integer up to 2147483647, got one of 1329 bits",
        ),
        (lambda: FLOW.mean(10**400), TypeError, "t: expected real numbers"),
        (lambda: FLOW.mean(steps=2**64, learning_rate=1.0), TypeError, "steps: expected real numbers"),
        (lambda: FLOW.mean(1.0, sparse.csr_array(K)), TypeError, "ntk_tx: expected a dense array, got a csr_array"),
        (
            lambda: LeastSquaresFlow(sparse.csr_matrix(K), [1.0, 2.0]),
            TypeError,
            "ntk_xx: .* got a csr_matrix; ntk_xx.to",
        ),
        (lambda: FLOW.early_stopping(K, [1.0]), ValueError, r"y_t: expected shape \(2,\)"),
        (lambda: FLOW.early_stopping(K, [1.0, 2.0], f0=[0.0, 0.0]), TypeError, "f0_t: expected the initial function"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_kernels_that_are_symmetric_and_positive_but_for_rounding():
    X = sphere(20, 3)
    K = nf.ntk(NET, X)
    noisy = K + 1e-12 * np.random.default_rng(0).normal(size=K.shape)
    assert_allclose(LeastSquaresFlow(noisy, X[:, 0]).mean(5.0), LeastSquaresFlow(K, X[:, 0]).mean(5.0), atol=1e-9)
    low_rank = X @ X.T - 1e-11 * np.eye(20)
    assert_allclose(LeastSquaresFlow(low_rank, X[:, 0]).mean(np.inf), X[:, 0], atol=1e-13)  # a target in its range


# --- any cost, any direction: the differential equation

TIGHT = {"rtol": 1e-11, "atol": 1e-12}


@pytest.mark.parametrize("method", descent.METHODS)
def test_a_path_is_that_of_the_solver(problem, method, monkeypatch):
    """SciPy's own interpolation to rounding, within steps and at their ends, from no more numbers than it needs."""
    p, kept, made = problem, [], Path.of
    monkeypatch.setattr(Path, "of", lambda solution, n: made(kept.append(solution) or solution, n))
    path = kernel_flow(p.ntk, p.y, t=50.0, f0=p.f0, method=method, friction=0.7)._path
    solution = kept[0]
    times = np.concatenate([solution.ts, np.linspace(0, 50, 301)])
    found = np.array([path(t) for t in times])
    expected = np.array([solution(t)[: p.y.size] for t in times])
    # two interpolants meet at the end of a step, those of some methods to their tolerance only
    at_ends = {"RK45": 1e-14, "Radau": 1e-14}.get(method, 1e-7)
    size = np.abs(expected).max()
    assert_allclose(found[: len(solution.ts)], expected[: len(solution.ts)], rtol=0, atol=at_ends * size)
    assert_allclose(found[len(solution.ts) :], expected[len(solution.ts) :], rtol=0, atol=1e-14 * size)
    assert not path(0.0).any()
    assert np.diff(path.first).mean() <= {"RK45": 5, "RK23": 4, "Radau": 4, "BDF": 6, "LSODA": 10}[method] + 1


@pytest.mark.parametrize("method", [None, *descent.METHODS])
def test_kernel_flow_of_least_squares(problem, method):
    """Every step may be off by a tolerance: the steps to t = 50 add up to 100 of them."""
    p = problem
    for tolerance in (1e-6, 1e-10):
        path = kernel_flow(p.ntk, p.y, t=[0.0, 1.0, 50.0], f0=p.f0, method=method, rtol=tolerance, atol=tolerance)
        atol = 100 * tolerance
        assert_allclose(path.f, p.flow.mean([0.0, 1.0, 50.0], f0=p.f0), atol=atol)
        beyond = path.predict([1.0, 50.0], p.ntk_tx, p.f0_t)
        assert_allclose(beyond, p.flow.mean([1.0, 50.0], p.ntk_tx, p.f0, p.f0_t), atol=atol)
        assert_allclose(path.predict(20.0), p.flow.mean(20.0, f0=p.f0), atol=atol)
        assert_allclose(path.loss, p.flow.loss([0.0, 1.0, 50.0], p.f0), atol=atol)


def cubic(f, y):
    """A cost that is not a sum over points: (‖f - y‖²_pin)^{3/2}."""
    square = ((f - y) ** 2).mean(axis=0).sum()
    return square**1.5, 3 * np.sqrt(square) * (f - y)


COSTS = {
    "mse": lambda rng: rng.normal(size=(N, 2)),
    "huber": lambda rng: 3 * rng.normal(size=(N, 2)),
    "logistic": lambda rng: rng.choice([-1.0, 1.0], size=(N, 2)),
    "softmax": lambda rng: rng.integers(0, 2, size=N),
    cubic: lambda rng: rng.normal(size=(N, 2)),
}


@pytest.mark.parametrize("loss", COSTS, ids=lambda loss: getattr(loss, "__name__", loss))
def test_the_cost_decreases_as_the_paper_says(problem, loss):
    """∂_t C = -‖d‖²_K, the norm of d in the RKHS of K over p^in: -(1/N²) Σ d_i K_ij d_j. So C never grows."""
    p = problem
    y = COSTS[loss](np.random.default_rng(0))
    cost = losses.get(loss, y, (N, 2))
    path = kernel_flow(p.ntk, y, loss=loss, t=np.linspace(0, 60, 200), f0=p.f0, **TIGHT)
    assert np.all(np.diff(path.loss) < 0)
    for t in (0.5, 10.0):
        h = 0.01
        slope = (
            8 * (cost(path.predict(t + h))[0] - cost(path.predict(t - h))[0])
            - (cost(path.predict(t + 2 * h))[0] - cost(path.predict(t - 2 * h))[0])
        ) / (12 * h)
        d = cost(path.predict(t))[1]
        assert slope == pytest.approx(-np.sum(d * (p.ntk @ d)) / N**2, rel=1e-5)
    assert_allclose(path.f, p.f0 + p.ntk @ path.dual_coefficients, atol=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "softmax", "huber"])
def test_a_stiff_flow_against_a_fine_one(singular, loss):
    """The implicit steps of LSODA with our Jacobian against an explicit method at tight tolerance, to a late time."""
    p = singular
    rng = np.random.default_rng(0)
    y = {"logistic": rng.choice([-1, 1], size=(35, 2)), "softmax": rng.integers(0, 2, 35), "huber": 3 * p.y}[loss]
    stiff = kernel_flow(p.ntk, y, loss=loss, t=3000.0, f0=p.f0)
    fine = kernel_flow(p.ntk, y, loss=loss, t=3000.0, f0=p.f0, method="RK45", **TIGHT)
    assert_allclose(stiff.f, fine.f, atol=2e-6)  # some 200 steps that matter, each to 1e-8


def test_direction(problem):
    """A given direction: the derivative of a cost gives its descent; one that ignores f, an integral over time."""
    p = problem
    path = kernel_flow(p.ntk, p.y, direction=lambda t, f: f - p.y, t=[3.0], f0=p.f0, **TIGHT)
    assert_allclose(path.f[0], p.flow.mean(3.0, f0=p.f0), atol=1e-9)
    straight = kernel_flow(p.ntk, direction=lambda t, f: -2 * t * np.ones_like(f), f0=p.f0[:, 0], t=[3.0, 4.0])
    assert_allclose(straight.f[1], p.f0[:, 0] + 16 * p.ntk.mean(axis=1), atol=1e-7)
    assert straight.loss is None


def test_friction(problem):
    """Least squares: each component is a damped oscillator, c'' + γ c' + λ c = 0 from rest."""
    p, gamma = problem, 0.02
    path = kernel_flow(p.ntk, p.y, t=np.linspace(0, 40, 81), friction=gamma, **TIGHT)
    functions, t = p.flow.eigenfunctions(N), path.t[:, None]
    omega = np.sqrt(gamma**2 / 4 - p.flow.eigenvalues + 0j)
    decay = np.exp(-gamma * t / 2) * (np.cosh(omega * t) + gamma / (2 * omega) * np.sinh(omega * t))
    components = np.einsum("ji,tjk->tik", functions, path.f - p.y) / N
    assert_allclose(components, decay.real[:, :, None] * p.flow.components(0.0), atol=1e-9)
    assert np.any(np.diff(path.loss) > 0)
    h = path.t[1]
    speed = (
        8 * (path.dual_coefficients[3:-1] - path.dual_coefficients[1:-3])
        - (path.dual_coefficients[4:] - path.dual_coefficients[:-4])
    ) / (12 * h)
    energy = path.loss[2:-2] + np.einsum("tik,ij,tjk->t", speed, p.ntk, speed) / 2
    assert np.all(np.diff(energy) < 1e-5)
    assert energy[-1] < 0.5 * energy[0]


def test_stop(problem):
    p = problem
    path = kernel_flow(p.ntk, p.y, t=[1.0, 5.0, 1e5], stop=0.1)
    assert path.stopped
    assert path.loss[-1] == pytest.approx(0.1, abs=1e-7)
    assert len(path.t) == len(path.f) <= 3
    assert path.loss[-1] == pytest.approx(p.flow.loss(path.t[-1]), abs=1e-6)
    at_once = kernel_flow(p.ntk, p.y, t=[1.0, 5.0], stop=1e9)
    assert at_once.stopped
    assert_array_equal(at_once.f, np.zeros((1, N, 2)))
    by_function = kernel_flow(p.ntk, p.y, t=10.0, stop=lambda t, f: t - 2.0)
    assert by_function.t[-1] == pytest.approx(2.0)
    assert not kernel_flow(p.ntk, p.y, t=1.0, stop=1e-9).stopped


def test_friction_needs_no_more_than_it_says(problem):
    p = problem
    flat = kernel_flow(p.ntk, p.y[:, 0], t=2.0, friction=1.0)
    assert flat.f.shape == flat.dual_coefficients.shape == (1, N)
    assert flat.predict([1.0, 2.0], p.ntk_tx).shape == (2, M)
    assert flat.predict(1.0, p.ntk_tx, p.f0_t[:, 0]).shape == (M,)


def flow_of(**arguments):
    return lambda: kernel_flow(**{"K_xx": K, "y": [1.0, 2.0], "t": 1.0, **arguments})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (flow_of(K_xx=np.triu(K)), ValueError, "K_xx: expected a symmetric matrix"),
        (flow_of(y=[1.0]), ValueError, r"y: expected shape \(2,\)"),
        (flow_of(y=None), TypeError, "y: expected targets, or a direction"),
        (flow_of(loss="hinge"), ValueError, "loss: 'hinge' is unknown"),
        (flow_of(loss="softmax", y=[0, 0]), ValueError, "loss: expected at least 2 outputs for softmax, got 1"),
        (flow_of(f0=np.zeros((2, 3))), ValueError, r"f0: expected 1 outputs as in y, got shape \(2, 3\)"),
        (flow_of(f0=[0.0, 0.0], y=K), ValueError, r"f0: expected 2 outputs as in y, got shape \(2,\)"),
        (flow_of(progress="yes"), TypeError, "progress: expected None, True, False or a callable, got str"),
        (flow_of(K_xx=-K, t=1e4), ArithmeticError, "gave up at t = .*as when a flow diverges"),
        (flow_of(direction=lambda t, f: f * np.nan), ArithmeticError, "not finite, .* cost or direction is not finite"),
        (flow_of(t=1e-300), ArithmeticError, "gave up at t = 0: its steps no longer change the time, .*tiny t"),
        (
            flow_of(K_xx=1e100 * K, method="Radau"),
            ArithmeticError,
            "its numbers are not finite, .*the kernel is huge",
        ),
        (flow_of(t=-1.0), ValueError, "t: expected finite numbers >= 0, got -1"),
        (flow_of(t=np.inf), ValueError, "t: expected finite numbers >= 0, got inf"),
        (flow_of(t=[2.0, 1.0]), ValueError, "t: expected strictly ascending times, got 2 and then 1 at index 1"),
        (flow_of(direction=3), TypeError, "direction: expected a function"),
        (flow_of(direction=lambda t, f: f.T), ValueError, r"direction: .* shape \(2, 1\), got \(1, 2\)"),
        (flow_of(friction=0), ValueError, "friction: expected a number > 0"),
        (flow_of(method="Euler"), ValueError, "method: expected one of RK45"),
        (flow_of(rtol=0), ValueError, "rtol: expected a number > 0"),
        (flow_of(stop="soon"), TypeError, "stop: expected a number"),
        (flow_of(y=None, f0=[0.0, 0.0], direction=lambda t, f: f, stop=1.0), TypeError, "stop: expected a function"),
        (
            flow_of(direction=lambda t, f: -(f**3) - 1, t=100.0),
            ArithmeticError,
            "kernel_flow: the solver gave up at t = 0.80",
        ),
        (
            flow_of(direction=lambda t, f: -f - 1, t=1e4),
            ArithmeticError,
            "kernel_flow: the solver gave up at t = 47.*: its numbers are not finite",
        ),
        (lambda: flow_of()().predict(2.0), ValueError, "t: expected times up to 1, where the flow ends, got 2"),
        (lambda: flow_of()().predict(1.0, [[1.0]]), ValueError, r"K_tx: expected shape \(any, 2\)"),
    ],
)
def test_bad_input_of_kernel_flow(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- plots


def test_plots(problem):
    p = problem
    flow = LeastSquaresFlow(p.ntk, p.y[:, 0], p.nngp)
    x, t = np.arange(N), [0.0, 5.0, np.inf]
    ax = plotting.plot_percentiles(x, flow.percentiles(t), t)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "$t = 0$",
        "$t = 5$",
        r"$t = \infty$",
        "band of percentiles",
    ]
    assert_allclose(ax.lines[1].get_ydata(), flow.mean(5.0), atol=1e-14)
    assert plotting.plot_percentiles(x, flow.percentiles(1.0), ax=ax) is ax
    t = np.linspace(0, 50, 20)
    ax = plotting.plot_components(t, flow.components(t, n_components=3), flow.eigenvalues)
    assert_allclose(ax.lines[2].get_ydata(), np.abs(flow.components(t, n_components=3)[:, 2]))
    assert "f^*" in ax.get_ylabel()
    t = np.linspace(0, 1e6, 20)  # components far below rounding are not shown
    low, high = plotting.plot_components(t, flow.components(t, n_components=3)).get_ylim()
    assert high / low < 1e17
    t = np.linspace(0, 50, 20)
    stopping = flow.early_stopping(p.ntk_tx, p.flow.mean(30.0, p.ntk_tx)[:, 0] + 0.1)
    ax = plotting.plot_early_stopping(stopping)
    assert ax.lines[-1].get_xdata()[0] == stopping.t
    forever = plotting.plot_early_stopping(FLOW.early_stopping(K, [1.0, 2.0]))
    assert forever.get_legend().get_texts()[-1].get_text() == r"smallest, at $t = \infty$"
    with pytest.raises(ValueError, match="percentiles: expected an odd number of levels for 30 points"):
        plotting.plot_percentiles(x, np.zeros((2, N)))
    with pytest.raises(ValueError, match="components: expected 20 times and at most 6 components"):
        plotting.plot_components(t, flow.components(t))
    with pytest.raises(ValueError, match="eigenvalues: expected one for each of 3 components, got shape"):
        plotting.plot_components(t, flow.components(t, n_components=3), flow.eigenvalues[:2])
    with pytest.raises(ValueError, match="percentiles: expected levels in ascending order"):
        plotting.plot_percentiles(x, flow.percentiles(1.0, levels=(90, 50, 10)))
    for draw in (
        lambda t: plotting.plot_percentiles(x, flow.percentiles([0.0, 1.0]), t),
        lambda t: plotting.plot_components(t, flow.components([0.0, 1.0], n_components=3)),
    ):
        with pytest.raises(ValueError, match=r"t: expected a number or a list of numbers, got shape \(2, 1\)"):
            draw([[0.0], [1.0]])
    for times in ([0.0], [0.0, 1.0, 2.0]):
        with pytest.raises(ValueError, match=f"t: expected 2 times as in percentiles, got {len(times)}"):
            plotting.plot_percentiles(x, flow.percentiles([0.0, 1.0]), times)


def test_plot_of_a_gaussian_process(problem):
    p = problem
    process = GaussianProcess(p.nngp, p.y[:, 0], noise=0.1)
    bands = process.percentiles(p.nngp_tx, np.diagonal(p.nngp_tt))
    ax = plotting.plot_percentiles(np.arange(M), bands)
    assert_array_equal(ax.lines[0].get_ydata(), bands[1])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["median", "band of percentiles"]
    ax = plotting.plot_percentiles(np.arange(M), bands, levels=(10, 50, 90))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["median", "10th to 90th percentile"]
    with pytest.raises(ValueError, match=r"levels: expected 3 as in percentiles, ascending, got \(10, 90\)"):
        plotting.plot_percentiles(np.arange(M), bands, levels=(10, 90))
    with pytest.raises(ValueError, match="levels: expected a list of numbers in"):
        plotting.plot_percentiles(np.arange(M), bands, levels=(-5, 50, 500))
    assert (ax.get_ylabel(), ax.get_title()) == ("$f(x)$", "Percentiles of the function")


@pytest.mark.filterwarnings("error")
def test_plots_of_nothing(tmp_path):
    """Targets of 0 and their losses of 0 have no logarithm."""
    flow = LeastSquaresFlow(K, [0.0, 0.0])
    for ax in (
        plotting.plot_components([0.0, 1.0], flow.components([0.0, 1.0])),
        plotting.plot_early_stopping(flow.early_stopping(K, [0.0, 0.0])),
    ):
        ax.figure.savefig(tmp_path / "plot.png")
        assert ax.get_yscale() == "linear"


def test_short_reprs(problem):
    p = problem
    assert repr(p.flow) == "LeastSquaresFlow(N=30, outputs=2, float64)"
    assert repr(FLOW) == "LeastSquaresFlow(N=2, float64)"
    found = p.flow.early_stopping(p.ntk_tx, p.f0_t)
    assert repr(found).endswith("times=float64(202,), training_loss=float64(202,), validation_loss=float64(202,))")
    path = kernel_flow(p.ntk, p.y, t=[0.0, 1.0])
    assert repr(path).startswith("KernelFlow(t=float64(2,), f=float64(2, 30, 2), dual_coefficients=")
    run = nf.train(nf.FiniteNetwork.init(NET, 4, 5, rng=0), sphere(6, 4), np.ones(6), steps=2)
    assert "losses=float64(3,), steps=int64(1,), movement=float64(1,), outputs=None" in repr(run)


def test_progress_of_a_flow():
    seen = []
    kernel_flow(K, [1.0, 2.0], t=5.0, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[0] == (0, 100)
    assert seen[-1] == (100, 100)


def test_many_unknowns_at_every_time():
    """Above 4000 unknowns an explicit solver takes over; between its steps it must be as good as at them."""
    rng = np.random.default_rng(0)
    K = nf.ntk(nf.MLP(depth=3, bias_std=0.1), rng.standard_normal((41, 5)))
    y, t = rng.standard_normal((41, 100)), np.geomspace(0.1, 1000, 60)
    assert_allclose(kernel_flow(K, y, t=t).f, LeastSquaresFlow(K, y).mean(t), rtol=0, atol=2e-6)


def test_stop_must_be_a_number():
    with pytest.raises(TypeError, match="stop: expected a function to a finite number that changes its sign, got"):
        kernel_flow(np.eye(2), [1.0, 1.0], t=[5.0], stop=lambda t, f: bool(f[0, 0] > 0.5))


@pytest.mark.parametrize("method", [None, "RK45", "Radau"])
def test_a_direction_that_jumps(method, monkeypatch):
    """At its jump no step is small enough: the solver must give up, not run forever."""
    monkeypatch.setattr(descent, "PATIENCE", 5000)
    with pytest.raises(ArithmeticError, match=r"kernel_flow: the solver gave up at t = 0\.[567]"):
        kernel_flow(np.eye(2), t=5.0, f0=[1.0, 0.3], direction=lambda t, f: np.sign(f), method=method)


def test_times_are_no_booleans():
    with pytest.raises(TypeError, match="t: expected real numbers, got dtype bool"):
        LeastSquaresFlow(np.eye(2), [1.0, 1.0]).mean(True)


def test_pickling(problem):
    """After a Cholesky factor was made, and after an eigendecomposition."""
    for t in (np.inf, 2.0):
        exact = problem.flow.mean(t, problem.ntk_tx)
        assert_array_equal(pickle.loads(pickle.dumps(problem.flow)).mean(t, problem.ntk_tx), exact)
    for method, t in ((None, 3.0), ("RK45", 3.0), ("Radau", 3.0), (None, 0.0)):
        path = kernel_flow(problem.ntk, problem.y, t=t, method=method)
        assert_array_equal(pickle.loads(pickle.dumps(path)).predict(t / 2), path.predict(t / 2))


def test_targets_are_copied():
    y = np.array([1.0, 2.0])
    flow = LeastSquaresFlow(np.eye(2), y)
    y[:] = 0
    assert_allclose(flow.mean(np.inf), [1.0, 2.0])
