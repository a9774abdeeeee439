"""Tables of duals near |ρ| = 1: the rules that fill them, and where they lie."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.accuracy import oracle, polar
from ntkfast.accuracy.formulas import mp
from ntkfast.engine import _core, near, series
from ntkfast.networks import graded, quadrature, smoothing

A = nf.activations


def moments(act, q):
    return np.array([quadrature.gaussian(act).coefficients(value, 2)[1:3] for value in q]).T


@pytest.mark.parametrize("delta", [0.3, 1e-4])
@pytest.mark.parametrize(("act", "q"), [(A.tanh(), [0.3, 4.0]), (A.softplus(), [1.0, 30.0]), (A.arctan(), [2.0, 5.0])])
def test_smoothing_against_panels(act, q, delta):
    """The FFT against the twin's panels, for φ and φ', at both signs of ρ."""
    q, functions = np.array(q), (act.function, act.derivative)
    found = smoothing.Smoothed(functions, q, moments(act, q), 1e-13)
    assert found.error <= 1e-13
    check(found.matrices(delta), functions, q, delta)


@pytest.mark.parametrize("delta", [0.3, 1e-4])
@pytest.mark.parametrize("act", [A.tanh(), A.silu(), A.sigmoid()], ids=repr)
def test_straight_lines_and_the_rest(act, delta):
    """The same at variances where φ is nearly its asymptote."""
    q, functions = np.array([2e3, 1e4]), (act.function, act.derivative)
    lines = smoothing.lines_of(*functions)
    of_points = moments(act, q)
    found = smoothing.Localised(functions, lines, q, of_points, 1e-12)
    assert found.error <= 1e-12
    check(found.matrices(delta), functions, q, delta)


def flow(act):
    return graded.Flow((act.function, quadrature.gaussian(act).derivative), 1)


@pytest.mark.parametrize("delta", [0.3, 1e-4])
@pytest.mark.parametrize(("act", "q"), [(A.selu(), [0.3, 4.0]), (A.softsign(), [1.0, 60.0]), (A.tanh(), [0.1, 9.0])])
def test_graded_panels_against_plain_ones(act, q, delta):
    """With a kink at 0, and without."""
    found = graded.Graded(flow(act), np.array(q))
    check(found.matrices(delta), (act.function, act.derivative), q, delta, act.kinks)


def check(matrices, functions, q, delta, kinks=()):
    for sign, of_sign in ((1, matrices[0]), (-1, matrices[1])):
        for function, matrix in zip(functions, of_sign, strict=True):
            exact = reference.pair_expectation(function, *q, sign * (1 - delta), kinks)
            assert abs(matrix[0, 1] - exact) < 2e-10 * abs(matrices[0]).max(axis=(1, 2)).min()
            assert_allclose(matrix, matrix.T, rtol=1e-12)


def test_no_straight_lines():
    for act in (A.arctan(), A.sin(), nf.Activation.from_function(lambda x: x + np.sin(x) ** 2)):
        assert smoothing.lines_of(act.function, quadrature.gaussian(act).derivative) is None


@pytest.mark.parametrize("q", [3e3, 1e6, 1e8])
@pytest.mark.parametrize("act", [A.tanh(), A.softplus(), A.mish()], ids=repr)
def test_large_variances(act, q):
    """Against graded panels, which share nothing with `Localised` and the series."""
    pair = np.array([q, 2 * q])
    for rho in (0.3, 0.99, -0.9999, 1 - 1e-7):
        exact = graded.Graded(flow(act), pair).matrices(1 - abs(rho))[int(rho < 0), 0, 0, 1]
        scale = math.sqrt(nf.dual(act, q, q, q) * nf.dual(act, 2 * q, 2 * q, 2 * q))
        assert abs(nf.dual(act, q, 2 * q, rho * math.sqrt(2) * q) - exact) < 1e-10 * scale


def test_variances_whose_squares_overflow():
    """There softplus is a ReLU to rounding. The kernel of near points was off by 1 % from variances of 1e154 on."""
    X, act = np.random.default_rng(0).normal(size=(6, 3)), A.softplus()
    X *= 1e100 / np.linalg.norm(X, axis=1)[:, None]
    found, right = (nf.ntk(nf.MLP(3, activation, bias_std=0.1), X) for activation in (act, "relu"))
    assert_allclose(found, right, rtol=2e-9)
    assert max(len(tables.edges) for tables in series._families.of(act)._tables.values()) < 60  # some ms each


def test_the_largest_variances():
    """1e-30/q leaves float64. elu is a ReLU there."""
    q = np.array([1e306])
    assert_allclose(graded.Graded(flow(A.elu()), q).matrices(0.0)[0, :, 0, 0], [q[0] / 2, 0.5], rtol=1e-12)


def bent(x):
    return np.where(x > 0, x, 0.1 * np.tanh(x))


def bent_slope(x):
    return np.where(x > 0, 1.0, 0.1 / np.cosh(np.clip(x, -300, 0)) ** 2)


def broken(x):
    return np.where(x > 0, 1 - np.tanh(x), 0.5 + np.arctan(x))


def broken_slope(x):
    return np.where(x > 0, np.tanh(x) ** 2 - 1, 1 / (1 + x * x))


def difference(f):
    return lambda u, v, d: f(u) - f(v)


OWN = {  # with a kink, with a jump
    "bent": polar.Phi(bent, bent_slope, difference(bent)),
    "broken": polar.Phi(broken, broken_slope, difference(broken)),
}
BENT, BROKEN = nf.Activation.from_function(bent), nf.Activation.from_function(broken)


@pytest.mark.parametrize(
    ("act", "q", "promised"),
    [(A.elu(), q, 1e-12) for q in (1e-6, 1.0, 1e4, 1e8, 1e16)]
    + [(A.selu(), q, 1e-12) for q in (1e-6, 1e6, 1e12)]
    + [(BENT, q, 1e-12) for q in (1.0, 1e4, 1e8)]
    + [(A.softsign(), q, 1e-12) for q in (1.0, 1e4)]
    + [(BROKEN, q, 1e-10) for q in (1.0, 1e4)],
    ids=repr,
)
def test_kinks_at_zero_at_any_variance(act, q, promised, monkeypatch):
    """Against polar coordinates in long double."""
    for name, phi in OWN.items():
        monkeypatch.setitem(polar.PHI, name, lambda phi=phi: phi)
    pair = q, 1.7 * q
    points = [polar.dual(act.name, act.parameters, *[mp.mpf(value)] * 3) for value in pair]
    for rho in (0.64, -0.9, 0.99, -(1 - 1e-6)):
        c = rho * math.sqrt(pair[0] * pair[1])
        right = polar.dual(act.name, act.parameters, *map(mp.mpf, (*pair, c)))
        for of, dual in enumerate((nf.dual, nf.dual_derivative)):
            scale = mp.sqrt(points[0][of] * points[1][of])
            assert abs((dual(act, *pair, c) - right[of]) / scale) < promised, (rho, of)


def test_a_network_whose_variances_grow():
    """From 1 to 1e15 in six layers."""
    x, y = np.array([1.0, 2.0, -0.5]), np.array([0.9, 2.2, -0.1])
    found = nf.kernels(nf.MLP(6, "elu", 30.0), np.array([x, y]), get=("nngp", "ntk"))
    *_, right = (state for state, _ in zip(oracle.layers(A.elu(), 30.0, 0.0, x, y), range(6), strict=False))
    for kernel, names in zip(found, (("xx", "yy", "xy"), ("ntk_xx", "ntk_yy", "ntk_xy")), strict=True):
        xx, yy, xy = (getattr(right, name) for name in names)
        assert abs((kernel[0, 1] - xy) / mp.sqrt(xx * yy)) < 1e-11
        assert_allclose(kernel.diagonal(), [float(xx), float(yy)], rtol=1e-11)


def test_fast_oscillation():
    """Coefficients that change quickly with log q: panels get more points."""
    made = nf.Activation.from_function(lambda x: np.sin(10 * x), name="made")
    for rho in (0.8, 0.999, -0.999999):
        for dual in (nf.dual, nf.dual_derivative):
            found, exact = (dual(act, 3.0, 3.05, rho * math.sqrt(3 * 3.05)) for act in (made, A.sin(1, 10)))
            assert abs(found - exact) < 1e-10 * dual(A.sin(1, 10), 3, 3, 3)


def test_no_series_is_empty():
    """The engine reads the first term for the diagonal, also where φ oscillates so fast that none counts."""
    made = nf.Activation.from_function(lambda x: np.sin(10 * x), name="made")
    family = series.Family(made)
    _, panels = family._resolved(3.0, 3.3)
    assert family._reach_and_terms(panels, np.dtype(float), gradient=False)[1].any()
    diagonals = (nf.diagonal(nf.MLP(2, act, 1.0, 0.0), [[1.75], [1.8]]) for act in (made, A.sin(1, 10)))
    assert_allclose(*diagonals, rtol=1e-10)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.floats(-25, 25), st.floats(0, 4), st.sampled_from([0.5, 1.0, 8.0]))
def test_spans_cover_the_variances(low, length, coarsest):
    family = series.Family(A.elu())
    family.coarsest = coarsest
    span = family._span(4.0**low, 4.0 ** (low + length))
    ends = span.first / span.per_unit, (span.first + span.n) / span.per_unit
    around = math.log(series.AROUND, 4)
    assert ends[0] <= low - around + 1e-9
    assert low + length + around <= ends[1] + 1e-9
    if span.n == 1:  # no shorter one of half the length would do
        assert span.per_unit == series.FINEST or length + 2 * around > 0.75 / (2 * span.per_unit) - 1e-9


def test_tables_of_a_layer_with_equal_variances_are_small():
    """What varies little needs few Chebyshev points."""
    narrow, wide = (
        near.Tables(quadrature.gaussian(A.tanh()), near.Span(per_unit, 0, 1), 0, True, 1e-10) for per_unit in (32, 0.5)
    )
    assert narrow.n_points < 8 < wide.n_points


def test_the_bar_says_that_tables_are_made(monkeypatch, capsys):
    monkeypatch.setattr(series, "_families", series._Families())  # new families, which have no tables yet
    X = np.random.default_rng(0).normal(size=(40, 2))
    nf.ntk(nf.MLP(2, "elu"), X, progress=True)
    assert "tables of elu" in capsys.readouterr().err


def test_rows_and_whole_agree_in_float32():
    """The tables are double; what float32 loses is the rounding of ρ and of the result."""
    X = np.random.default_rng(0).normal(size=(150, 10)).astype(np.float32) * 3
    for act in (A.elu(), A.tanh()):
        net = nf.MLP(3, act, 1.3, 0.2)
        assert_allclose(
            nf.nngp(net, X), nf.nngp(net, X.astype(np.float64)), rtol=0, atol=2e-5 * nf.diagonal(net, X, "nngp").max()
        )


def test_parts_whose_degrees_are_too_high_for_cells_are_halved(monkeypatch):
    """The numbers are the same; what was packed for longer parts is forgotten."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    net = nf.MLP(2, "elu")
    right = nf.ntk(net, X)
    monkeypatch.setattr(series, "_families", series._Families())  # new families, which have no tables yet
    monkeypatch.setattr(near, "SHORT", 0.1)
    assert_allclose(nf.ntk(net, X), right, rtol=1e-12)
    (tables,) = series._families.of(A.elu())._tables.values()
    cells, parts = tables.cells()
    assert parts > tables._least_parts
    assert tables._cells.keys() == tables._blocks.keys()
    assert all(cell is None or cell[1].shape[:2] == (parts, parts) for cell in cells)


def cell(terms, parts=2, size=None):
    return list(terms), np.zeros((parts, parts, 8 * sum(terms) if size is None else size))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([cell([4, 2])] * 7, "expected 8 for 1 panels of q, 4 of y, got 7"),
        ([cell([4, 2], parts=1)] * 8, r"expected coefficients of shape \(2, 2, 48\)"),
        ([cell([4, 2], size=47)] * 8, r"expected coefficients of shape \(2, 2, 48\)"),
        ([cell([2, 4])] * 8, "expected up to 4 counts"),
        ([cell([4, 3])] * 8, "expected up to 4 counts"),
        ([cell([4, 0])] * 8, "expected up to 4 counts"),
        ([cell([])] * 8, "expected up to 4 counts"),
        ([cell([2] * 5)] * 8, "expected up to 4 counts"),
        ([cell([138])] * 8, "expected up to 4 counts"),
    ],
)
def test_cells_that_the_engine_would_misread_are_refused(cells, words):
    bound = _core.Series("series", (1, 1), 0.9, np.ones((_core.BINS, 2), np.int32))
    bound.panels(0.0, 1.0, np.zeros((1, 4, 2)), np.zeros((1, 2, 4)), 0.0, 0.0, False)
    edges = np.linspace(0, 0.4, 5)
    bound.near([None, cell([136, 2])] * 4, 2, edges, False)
    with pytest.raises(ValueError, match=words):
        bound.near(cells, 2, edges, False)


def test_tables_that_take_too_much_memory_are_forgotten(monkeypatch):
    monkeypatch.setattr(series, "_families", series._Families())
    X = np.random.default_rng(0).normal(size=(8, 3))
    X[4:] = X[:4] + 1e-3
    both = nf.Network([nf.Dense(), "tanh", nf.Dense(), "elu", nf.Dense()])
    right = [nf.ntk(net, X) for net in (nf.MLP(2, "tanh"), nf.MLP(2, "elu"), both)]
    assert sum(family.n_bytes for family in series._families._kept.values()) > 1e4
    assert len(series._families._kept) == 2
    monkeypatch.setattr(series, "MOST_BYTES", 1)
    monkeypatch.setattr(series, "MOST_OF_LAST", 1e12)
    for net, expected in zip((nf.MLP(2, "tanh"), nf.MLP(2, "elu"), both), right, strict=True):
        assert_array_equal(nf.ntk(net, X), expected)
    nf.ntk(nf.MLP(2, "elu"), X)
    assert list(series._families._kept) == [nf.activations.get("elu")]
    series._families.trim()
    assert len(series._families._kept) == 1
    monkeypatch.setattr(series, "MOST_OF_LAST", 1)
    series._families.trim()
    assert not series._families._kept


def test_a_flow_does_not_depend_on_what_it_was_asked_before():
    shared, q = flow(A.selu()), np.array([0.3, 4.0, 50.0])
    for delta in (0.3, 1e-9, 1e-3, 0.1):
        alone = graded.Graded(flow(A.selu()), q).matrices(delta)
        assert_array_equal(graded.Graded(shared, q).matrices(delta), alone)


def test_a_flow_keeps_no_more_than_its_share(monkeypatch):
    """What was dropped is computed again, to the same bits."""

    def size(flow):
        return [sum(ring.nbytes for ring in rings) for rings in flow._kept.values()]

    act, deltas = A.selu(), [1e-9, 1e-3, 0.3]
    kept, short = flow(act), flow(act)
    right = [graded.Graded(kept, np.array([0.3, 4.0, 50.0])).matrices(delta) for delta in deltas]
    assert len(kept._kept) > 2
    monkeypatch.setattr(graded, "MOST_KEPT", 2 * max(size(kept)))
    for delta, expected in zip(deltas * 2, right * 2, strict=True):
        assert_array_equal(graded.Graded(short, np.array([0.3, 4.0, 50.0])).matrices(delta), expected)
        assert sum(size(short)) <= graded.MOST_KEPT
