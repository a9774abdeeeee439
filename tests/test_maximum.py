"""Whether a search says truly that it ended at a maximum: functions with a known one, with and without rounding."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import ntkfast as nf
from ntkfast.learning.maximum import maximise

TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]


def quadratic(curvatures, top=(0.5, -1.0, 0.3, 1.5)):
    H = TURN * np.array(curvatures) @ TURN.T

    def function(x):
        away = x - np.array(top)
        return 20 - away @ H @ away / 2, -H @ away

    return function


def rounded(function, value, slope):
    """With errors of a given size that depend on the last bits of the point, as rounding does."""

    def noisy(x):
        rng = np.random.default_rng(np.frombuffer(x.tobytes(), np.uint32))
        f, g = function(x)
        return f + value * rng.normal(), g + slope * rng.normal(size=len(g))

    return noisy


def found(function, start=(0.0, 0.0, 0.0, 0.0), low=-9.0, high=9.0, scale=100.0, max_iterations=100, **options):
    start = np.array(start, float)
    low, high = np.broadcast_to(low, start.shape), np.broadcast_to(high, start.shape)
    return maximise(function, start, low, high, scale=scale, eps=2.0**-52, max_iterations=max_iterations, **options)


def test_a_maximum():
    calls = []
    result = found(quadratic([1, 10, 100, 1000]), report=lambda *done: calls.append(done))
    assert result.converged
    assert_allclose(result.at, [0.5, -1.0, 0.3, 1.5], atol=1e-2)
    assert result.path[-1] == result.value == pytest.approx(20, abs=0.01)
    assert calls == [(k, 100) for k in range(1, len(result.path))]
    assert len(result.flat) == 0


def test_too_few_iterations():
    """Whatever the search itself says."""
    result = found(quadratic([1, 10, 100, 1000]), start=[-8, 8, -8, 8], max_iterations=3)
    assert not result.converged
    assert "expected to gain" in result.message
    assert len(result.path) <= 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.03])
def test_rounding_that_stops_the_line_search(size, seed):
    top = 0.5 * np.random.default_rng(seed).normal(size=4)
    result = found(rounded(quadratic([0.3, 10, 100, 1000], top), size, 5 * size))
    assert result.converged
    assert quadratic([0.3, 10, 100, 1000], top)(result.at)[0] > 20 - max(0.02, 10 * size)
    assert (np.diff(result.path) >= 0).all()


def test_a_search_that_is_content_too_early():
    """Its own tolerances, relative to the scale, are met at the start."""
    exact = quadratic([1, 3, 10, 30])
    result = found(exact, scale=1e9)
    assert exact(np.zeros(4))[0] < 10
    assert result.converged
    assert result.value > 20 - 0.01


def test_a_saddle_is_not_a_maximum():
    """x = 0 has no slope; the maxima are at ±1."""

    def double_well(x):
        return float(5 * x[0] ** 2 - 2.5 * x[0] ** 4 - x[1] ** 2), np.array([10 * x[0] - 10 * x[0] ** 3, -2 * x[1]])

    result = found(double_well, start=[0.0, 0.0])
    assert result.converged
    assert_allclose(np.abs(result.at), [1, 0], atol=0.03)


def test_a_gradient_that_contradicts_the_values_is_not_a_maximum():
    result = found(lambda x: (20 - x @ x / 2, -x + np.array([3.0, 0, 0, 0])), start=[0, 1, 1, 1])
    assert not result.converged


@pytest.mark.parametrize("scale", [100.0, 1e9])
def test_ends_of_ranges(scale):
    """The best point of the box, not the top of the quadratic pulled into it."""
    H = np.array([[2.0, 1.5], [1.5, 2.0]])

    def function(x):
        away = x - np.array([3.0, 0.0])
        return float(-away @ H @ away / 2), -H @ away

    result = found(function, start=[0.2, -0.5], low=-1.0, high=1.0, scale=scale)
    assert result.converged
    assert result.at[0] == 1
    assert function(result.at)[0] > function(np.array([1.0, 1.0]))[0] - 0.01  # x1 = 1.5 would be best without its end


def test_flat_directions():
    """Flat in two of four directions, and none of what does not move."""
    result = found(quadratic([0.01, 0.01, 10, 100]), start=[0.3, -0.9, 0.2, 1.4])
    assert result.converged
    assert_allclose(result.flat @ TURN[:, 2:], 0, atol=0.01)
    assert_allclose(np.linalg.norm(result.flat, axis=1), 1)
    assert len(result.flat) == 2


@pytest.mark.parametrize("steepness", [1.0, 1e-9])
def test_many_coordinates_are_judged_by_their_slopes(steepness):
    def function(x):
        return -steepness * float((x - 1) @ (x - 1)), -2 * steepness * (x - 1)

    result = found(function, start=np.zeros(50), max_iterations=1)
    assert result.flat is None
    assert result.converged == (steepness < 1 or np.linalg.norm(function(result.at)[1]) < 0.01)


# --- fits


def grid():
    """A full design with repeated points and rounded targets, nearly a polynomial: as in the energy data of UCI."""
    X = np.array(np.meshgrid([-1, 0, 1], [-1.0, -0.3, 0.3, 1.0], np.linspace(-1.5, 1.5, 6))).reshape(3, -1).T
    X = np.vstack([X, X[:5]])
    noise = 0.02 * np.random.default_rng(0).normal(size=len(X))
    return X, np.round(X[:, 0] - 0.5 * X[:, 1] ** 2 + 0.3 * X[:, 2] * X[:, 0] + noise, 2)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_fits_of_a_nearly_polynomial_kernel(kernel):
    """Small first and large last weights: rounding of K, which is large everywhere, is more than is left to gain."""
    X, y = grid()
    fitted = nf.fit_hyperparameters(nf.MLP(2, "erf", bias_std=0.1), X, y, kernel=kernel)
    assert fitted.converged
    for key, value in nf.hyperparameters(fitted.network).items():
        for factor in (0.8, 1.25):
            moved = nf.with_hyperparameters(fitted.network, {**nf.hyperparameters(fitted.network), key: factor * value})
            there = nf.network_likelihood(moved, X, y, noise=fitted.noise, kernel=kernel)
            assert there.value < fitted.value + 0.05


def test_a_fit_from_far_away_with_few_iterations():
    X, y = grid()
    for max_iterations in (1, 3):
        fitted = nf.fit_hyperparameters(nf.MLP(2, "erf", 30.0, 5.0), X, y, noise=10.0, max_iterations=max_iterations)
        assert not fitted.converged
        assert "expected to gain" in fitted.message


@pytest.mark.parametrize(("noise", "is_lost"), [(0.1, False), (1e-3, True)])
def test_fits_in_float32(noise, is_lost):
    """As good as those in float64, or, where rounding leads them astray, not called converged."""
    X, y = grid()
    net = nf.MLP(2, "erf", bias_std=0.1)
    exact = nf.fit_hyperparameters(net, X, y, noise=noise, fixed="noise")
    fitted = nf.fit_hyperparameters(net, X, y, noise=noise, fixed="noise", dtype=np.float32)
    assert exact.converged
    assert fitted.converged != is_lost
    assert (fitted.value < exact.value - 5) == is_lost


def test_some_of_the_points():
    """The fit of those that are drawn, which are other ones for another rng."""
    X = np.random.default_rng(0).normal(size=(300, 3))
    y = np.stack([np.sin(X[:, 0]), X[:, 1]], axis=1)
    net = nf.MLP(2, "erf", 1.0, 0.5)
    found = nf.fit_hyperparameters(net, X, y, n_centers=60, rng=3)
    chosen = np.sort(np.random.default_rng(3).choice(300, 60, replace=False))
    right = nf.fit_hyperparameters(net, X[chosen], y[chosen])
    assert found.value == right.value
    assert found.network == right.network
    assert nf.fit_hyperparameters(net, X, y[:, 0], n_centers=60, rng=4).value != found.value
    for given, words in ((301, "expected at most the number of points, 300, got 301"), (0, "expected an integer >= 1")):
        with pytest.raises(ValueError, match=f"n_centers: {words}"):
            nf.fit_hyperparameters(net, X, y, n_centers=given)
