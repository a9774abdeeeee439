"""One pair of points at a time (engine/pair.py): the numbers of the matrix and of 50 digits, in any order of calls."""

import threading
from concurrent.futures import ThreadPoolExecutor

import catalogue
import numpy as np
import pytest
import reference

import ntkfast as nf
from ntkfast.engine import pair as pairs
from ntkfast.engine import series
from ntkfast.engine.pair import pair
from ntkfast.support.errors import PrecisionError

X = np.array([1.0, 2.0, -0.5])
ASIDE = np.array([1.0, -0.3, 0.2])
OTHERS = {
    "far": ASIDE,
    "near": X + 1e-7 * ASIDE,
    "nearly antipodal": -X + 1e-7 * ASIDE,
    "parallel": 2.5 * X,
    "origin": 0 * X,
    "small": 1e-3 * ASIDE,
}
CLOSED = [entry.activation for entry in catalogue.CLOSED_ENTRIES]
ROWS = np.random.default_rng(0).standard_normal((12, 5)) * np.geomspace(0.3, 3, 12)[:, None]
BLOCK = nf.Residual("relu", nf.Dense(weight_std=1.1))
BRANCHES = nf.Network([nf.Dense(weight_std=1.3, bias_std=0.2), BLOCK, "erf", nf.Dense(bias_std=0.3)])


@pytest.fixture(autouse=True)
def nothing_is_kept():
    pairs._kept.cache_clear()


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("activation", CLOSED, ids=str)
def test_closed_forms(activation, other):
    net, y = nf.MLP(3, activation, weight_std=1.2, bias_std=0.2), OTHERS[other]
    right = reference.pair(net, X, y)
    for kernel, exact, square in (
        ("nngp", right.xy, right.xx * right.yy),
        ("ntk", right.ntk_xy, right.ntk_xx * right.ntk_yy),
    ):
        value = pair(net, X, y, kernel)
        assert value == pair(net, y, X, kernel)
        assert float((value - exact) / square**0.5) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ["silu", "softplus", "selu", "hardtanh", "threshold", "relu"])
def test_the_entries_of_a_matrix(activation, dtype):
    net, rows = nf.MLP(3, activation, weight_std=1.2, bias_std=0.2), ROWS.astype(dtype)
    rows[5] = rows[4]
    K = nf.kernels(net, rows)
    for name, matrix in zip(K._fields, K, strict=True):
        values = np.array([[pair(net, x, y, name) for y in rows] for x in rows])
        std = np.sqrt(matrix.diagonal().astype(float))
        np.testing.assert_allclose(
            values / np.outer(std, std),
            matrix / np.outer(std, std),
            rtol=0,
            atol=1e-10 if dtype == np.float64 else 1e-6,
        )
        again = np.array([[pair(net, x, y, name) for y in rows] for x in rows])  # all variances have been met
        np.testing.assert_array_equal(again, again.T)
    assert pair(net, rows[4], rows[5], "ntk") == pytest.approx(float(K.ntk[4, 4]), rel=1e-12)


def test_branches_and_equal_points():
    K = nf.ntk(BRANCHES, ROWS)
    values = np.array([[pair(BRANCHES, x, y, "ntk") for y in ROWS] for x in ROWS])
    np.testing.assert_allclose(values, K, rtol=1e-13)
    np.testing.assert_array_equal(values.diagonal(), K.diagonal())


def test_few_ranges_of_variances_serve_many_pairs(monkeypatch):
    calls, bind = [], series.bind
    monkeypatch.setattr(series, "bind", lambda *given: calls.append(1) or bind(*given))
    net = nf.MLP(3, "tanh", weight_std=1.5)
    for x in ROWS:
        for y in ROWS:
            pair(net, x, y, "ntk")
    assert len(calls) < 40  # of 144, tables near |ρ| = 1 included


def test_strided_rows_lists_and_mixed_precision():
    net, rows = nf.MLP(2, "relu"), np.asfortranarray(ROWS)
    value = pair(net, ROWS[0], ROWS[1], "ntk")
    assert pair(net, rows[0], rows[1], "ntk") == value
    assert pair(net, ROWS[0].tolist(), ROWS[1], "ntk") == value
    single = ROWS[1].astype(np.float32)
    assert pair(net, ROWS[0], single, "ntk") == pair(net, ROWS[0], single.astype(float), "ntk")


def test_errors_are_those_of_a_matrix():
    net = nf.MLP(3, "relu", weight_std=10.0)
    with pytest.raises(ValueError, match="Y: expected finite numbers in float64, got nan in row 0, column 1"):
        pair(net, [1.0, 2.0], [0.0, np.nan], "ntk")
    with pytest.raises(ValueError, match="X: the kernel of row 0 with itself overflows float32"):
        pair(net, np.full(2, 1e18, np.float32), np.ones(2, np.float32), "ntk")
    with pytest.raises(ValueError, match="X: the squared norm of row 0 overflows"):
        pair(net, [1e200, 1.0], [1.0, 1.0], "ntk")
    with pytest.raises(ValueError, match="Y: expected 2 features as in X"):
        pair(net, [1.0, 2.0], [1.0], "ntk")
    with pytest.raises(ValueError, match="kernel: expected one of nngp, ntk, got 'nngp_dot'"):
        pair(net, [1.0], [1.0], "nngp_dot")


def test_variances_that_are_too_far_apart_for_one_series(monkeypatch):
    net, bind = nf.MLP(2, "silu"), series.bind

    def narrow(code, norms, *rest):
        q = np.concatenate(norms)
        if len(q) and q.max() > 1e3 * q.min():
            raise PrecisionError("too far apart")
        return bind(code, norms, *rest)

    small, large = 1e-2 * X, 1e2 * X
    right = [float(nf.ntk(net, x[None], y[None])[0, 0]) for x, y in ((small, small), (large, ASIDE), (small, large))]
    assert pair(net, small, small, "ntk") == pytest.approx(right[0], rel=1e-11)
    monkeypatch.setattr(pairs.series, "bind", narrow)
    assert pair(net, large, large - ASIDE, "ntk") > 0  # what was bound for small points is forgotten
    with pytest.raises(PrecisionError, match="too far apart"):
        pair(net, small, large, "ntk")
    assert pair(net, small, small, "ntk") == pytest.approx(right[0], rel=1e-11)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_threads_share_what_is_kept(activation):
    """While one binds series for other variances, or misses a table, the others use what they find."""
    net, n_threads = nf.MLP(3, activation, weight_std=1.2, bias_std=0.2), 16
    rows = np.concatenate([ROWS, ROWS * 30, ROWS + 1e-3])
    std, K = np.sqrt(nf.diagonal(net, rows, "ntk")), nf.ntk(net, rows)
    together = threading.Barrier(n_threads)

    def worst(seed):
        pairs = np.random.default_rng(seed).integers(len(rows), size=(300, 2))
        together.wait(60)
        return max(abs(pair(net, rows[i], rows[j], "ntk") - K[i, j]) / (std[i] * std[j]) for i, j in pairs)

    with ThreadPoolExecutor(n_threads) as pool:
        assert max(pool.map(worst, range(n_threads))) < 2e-10
