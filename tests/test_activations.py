"""The catalogue: every dual against its formula or its defining integral; activations from functions.

Errors are relative to √(K(q1,q1) K(q2,q2)), the diagonal. The correlation of two different points is accurate to a few
roundings in the engine, and near |ρ| = 1 some duals have a cusp: a closed form may differ by its change when c moves by
8 roundings. At |ρ| = 1 itself there is no such allowance.
"""

import functools
import itertools
import math
import pickle
import subprocess
import sys

import catalogue
import formulas
import mpmath
import numpy as np
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, special

import ntkfast as nf
from ntkfast.engine import near, series

mp = formulas.mp
A = nf.activations
VARIANCES = (1e-6, 0.01, 1.0, 37.5, 1e6)
CORRELATIONS = (-1.0, -0.999, -0.5, 0.0, 0.3, 0.99, 1.0)


def pairs(variances):
    """(q1, q2, c), with |ρ| = 1 only where c is exact."""
    for q1 in variances:
        for q2 in variances:
            for rho in CORRELATIONS:
                if abs(rho) < 1 or q1 == q2:
                    yield q1, q2, rho * q1 if q1 == q2 else rho * math.sqrt(q1 * q2)


@functools.cache
def exact_dual(activation, q1, q2, c):
    """To 50 digits, of which the difference q1 q2 - c² may lose 16. Symmetric in q1 and q2."""
    if q1 > q2:
        return exact_dual(activation, q2, q1, c)
    return formulas.dual(activation, mp.mpf(q1), mp.mpf(q2), mp.mpf(c))


@pytest.mark.parametrize("activation", catalogue.CLOSED, ids=repr)
def test_closed_forms(activation):
    """To 1e-12, both ends of ρ included. Beyond float64's range there is nothing to compare."""
    within = [q for q in VARIANCES if exact_dual(activation, q, q, q)[0] < 1e150]
    triples = list(pairs(within))
    q1, q2, c = np.array(triples).T
    got = nf.dual(activation, q1, q2, c), nf.dual_derivative(activation, q1, q2, c)
    for k, (a, b, covariance) in enumerate(triples):
        exact = exact_dual(activation, a, b, covariance)
        near = exact
        if abs(covariance) < math.sqrt(a * b) * (1 - 1e-15):
            near = exact_dual(activation, a, b, mp.mpf(covariance) * (1 - mp.mpf(2) ** -50))
        ends = [exact_dual(activation, q, q, q) for q in (a, b)]
        for what in (0, 1):
            scale = mp.sqrt(ends[0][what] * ends[1][what])
            error = abs(mp.mpf(float(got[what][k])) - exact[what])
            assert error <= 1e-12 * scale + abs(near[what] - exact[what]), (what, triples[k])


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
def test_phi_and_its_derivative(activation):
    """Both match the formula for their name; at a kink φ' is the mean of both sides."""
    x = np.linspace(-12, 12, 4001) + 1e-4
    kinks = np.array(activation.kinks)
    for function, formula in (
        (activation, formulas.phi(activation)),
        (activation.derivative, formulas.slope(activation)),
    ):
        assert_allclose(function(x), formula(x), rtol=1e-14, atol=1e-14)
    sides = [formulas.slope(activation)(kinks + side) for side in (-1e-12, 1e-12)]
    assert_allclose(activation.derivative(kinks), np.mean(sides, axis=0), rtol=0, atol=1e-11)


@pytest.mark.parametrize("entry", catalogue.CLOSED_ENTRIES + catalogue.PIECEWISE_ENTRIES, ids=repr)
def test_closed_forms_are_the_integral_of_phi(entry):
    """Σ_k a_k² ρ^k by quadrature of φ, and the diagonal by a different quadrature."""
    activation = entry.activation
    for q, rho in ((0.7, 0.4), (1.3, -0.6)):
        a = activation.hermite_coefficients(q, 120)
        k = np.arange(120)
        value = nf.dual(activation, q, q, rho * q)
        assert_allclose(value, np.sum(a * a * rho**k), rtol=1e-9, atol=1e-12)
        if not entry.jumps:
            slope = np.sum(k[1:] * a[1:] ** 2 * rho ** (k[1:] - 1)) / q
            assert_allclose(nf.dual_derivative(activation, q, q, rho * q), slope, rtol=1e-9, atol=1e-12)
        for dual, function in (
            (nf.dual, formulas.phi(activation)),
            (nf.dual_derivative, formulas.slope(activation)),
        ):
            exact = integral(lambda x, f=function: f(x) ** 2, q, activation.kinks)
            assert_allclose(dual(activation, q, q, q), exact, atol=1e-14)


def integral(f, q, kinks=()):
    """E f(√q z) by SciPy's adaptive rule."""
    s = math.sqrt(q)
    points = sorted({-10.0, 10.0, 0.0, *(t / s for t in kinks if abs(t / s) < 10)})
    density = lambda z: float(f(s * z)) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    parts = itertools.pairwise(points)
    return sum(integrate.quad(density, a, b, epsabs=1e-13, epsrel=1e-13, limit=200)[0] for a, b in parts)


# ---- without closed form -------------------------------------------------------------------------------------


def twenty_pairs(seed):
    """q in [0.01, 100], both ends of ρ and its neighbourhood among the correlations."""
    rng = np.random.default_rng(seed)
    q = rng.choice([0.01, 0.0147, 1.1, 3.7, 70.0, 100.0], (20, 2))  # only three panels: fewer tables
    rho = np.array([1, -1, 1, -1, 0.999999, -0.9999, 0.9995, 0.997, -0.99, 0.97, 0.95, -0.93, 0.9, 0.8, 0.6, -0.6])
    rho = np.append(rho, [0.3, 0.0, -0.1, -0.3])
    return q, rho


BY_INTEGRAL = catalogue.SMOOTH_ENTRIES + catalogue.PIECEWISE_ENTRIES + catalogue.KINKED_ENTRIES


@pytest.mark.parametrize("entry", BY_INTEGRAL, ids=repr)
def test_twenty_pairs(entry):
    """As promised. For the slopes every other pair, and φ', checked above, itself: its formula is slow."""
    activation = entry.activation
    q, rhos = twenty_pairs(len(activation.name))
    c = rhos * np.sqrt(q[:, 0]) * np.sqrt(q[:, 1])
    for dual, f, every in (
        (nf.dual, formulas.phi(activation), 1),
        (nf.dual_derivative, activation.derivative, 2),
    ):
        diagonal = {v: reference.pair_expectation(f, v, v, 1, activation.kinks) for v in np.unique(q)}
        results = dual(activation, *q.T, c)
        for (q1, q2), rho, result in zip(q[::every], rhos[::every], results[::every], strict=True):
            exact = reference.pair_expectation(f, q1, q2, rho, activation.kinks)
            assert abs(result - exact) <= entry.promised * math.sqrt(diagonal[q1] * diagonal[q2]), (q1, q2, rho)


LEGENDRE = np.array(mpmath.mp._gauss_legendre.get_nodes(-1, 1, 4, 60), dtype=float).T  # mpmath's nodes and weights


def by_mpmath(phi, kinks, q1, q2, rho):
    """E[φ(u)φ(v)] by mpmath's Gauss-Legendre rule in z and, for every z, in w: u = √q1 z, v = √q2 (ρ z + √(1-ρ²) w)."""
    s1, s2, s = math.sqrt(q1), math.sqrt(q2), math.sqrt((1 - rho) * (1 + rho))
    marks = np.array([0.0, *kinks, *(sign * 2.0**k for k in range(-2, 4) for sign in (-1, 1))])

    def integral(f, *cuts):
        edges = np.unique(np.clip(np.concatenate([np.arange(-9.5, 10), *cuts]), -9.5, 9.5))
        half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
        x = (middle + half * LEGENDRE[0]).ravel()
        weights = (half * LEGENDRE[1]).ravel() * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return weights @ f(x)

    def inner(z):
        if s == 0:
            return phi(s2 * rho * z)
        means = s2 * rho * z
        return [integral(lambda w, m=m: phi(m + s2 * s * w), (marks - m) / (s2 * s)) for m in means]

    turns = [t / (s2 * rho) + s / abs(rho) * np.arange(-6, 7) for t in kinks if rho]  # where φ(v) bends
    return integral(lambda z: phi(s1 * z) * inner(z), marks / s1, *turns)


@pytest.mark.long
@pytest.mark.parametrize("entry", BY_INTEGRAL, ids=repr)
def test_twenty_pairs_by_mpmath(entry):
    activation = entry.activation
    for (q1, q2), rho in zip(*twenty_pairs(len(activation.name)), strict=True):
        result = nf.dual(activation, q1, q2, rho * math.sqrt(q1) * math.sqrt(q2))
        scale = math.sqrt(nf.dual(activation, q1, q1, q1) * nf.dual(activation, q2, q2, q2))
        exact = by_mpmath(formulas.phi(activation), activation.kinks, q1, q2, rho)
        assert abs(result - exact) <= entry.promised * scale, (q1, q2, rho)


@pytest.mark.parametrize("entry", catalogue.ENTRIES, ids=repr)
def test_diagonal(entry):
    """E φ² of a network of depth 2, to 1e-12."""
    phi = formulas.phi(entry.activation)
    for q in (0.01, 0.3, 1.0, 4.0, 100.0):
        if q <= entry.largest_variance:
            exact = integral(lambda x: phi(x) ** 2, q, entry.activation.kinks)
            got = nf.diagonal(nf.MLP(2, entry.activation), [[math.sqrt(q)]], "nngp")
            assert_allclose(got, exact, rtol=1e-12)


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_agree_with_dual(activation, dtype):
    """One layer over many points, some of equal norm, some duplicates or opposites, against `dual` of each pair."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 5)).astype(dtype)
    X *= np.sqrt(5 * rng.uniform(1.1, 3.8, (150, 1)) / np.sum(X**2, axis=1, keepdims=True))  # one panel of variances
    X[40:80] *= np.sqrt(5 * 1.5) / np.linalg.norm(X[40:80], axis=1)[:, None]
    X[100:110] = X[:10]
    X[110:120] = -1.001 * X[:10]
    net = nf.Network([nf.Dense(), activation, nf.Dense()])
    got = nf.kernels(net, X, get=("nngp", "nngp_dot"))
    q = np.sum(X.astype(float) ** 2, axis=1) / 5
    c = X.astype(float) @ X.T.astype(float) / 5
    c = np.clip(c, -np.sqrt(np.outer(q, q)), np.sqrt(np.outer(q, q)))
    i, j = rng.integers(0, 150, (2, 400))
    keep = i != j
    i, j = i[keep], j[keep]
    for plane, function in ((got.nngp, nf.dual), (got.nngp_dot, nf.dual_derivative)):
        exact = function(activation, q[i], q[j], c[i, j])
        scale = np.sqrt(function(activation, q, q, q))
        epsilon = 40 * np.finfo(dtype).eps
        tolerance = max(3e-10, 4e-6 if dtype is np.float32 else 0)
        if activation.kinks:  # the cusp of a kink's slope (and, at a jump, of the value) at |ρ| = 1
            tolerance += np.sqrt(2 * epsilon)
        pairs = np.where(scale[i] * scale[j] > 0, scale[i] * scale[j], 1)
        assert_allclose(plane[i, j] / pairs, exact / pairs, atol=tolerance, rtol=1e-5)


AT_MOST_LINEAR = [a for a in catalogue.SMOOTH + catalogue.PIECEWISE + catalogue.KINKED if a.name != "squared_relu"]


@pytest.mark.parametrize("activation", AT_MOST_LINEAR, ids=repr)
def test_depth_fifty_stays_positive(activation):
    X = np.random.default_rng(0).normal(size=(60, 10))
    for kernel in nf.kernels(nf.MLP(50, activation, 1.2, 0.1), X):
        eigenvalues = np.linalg.eigvalsh(kernel)
        assert eigenvalues[0] >= -1e-10 * eigenvalues[-1]


# ---- from functions ------------------------------------------------------------------------------------------


def sloped(x):
    """A scalar function, for numba."""
    if x > 0.5:
        return x - 0.5
    return 0.1 * (x - 0.5)


class Unhashable:
    __hash__ = None

    def __call__(self, x):
        return np.tanh(x)


def plain_tanh(x):
    return np.tanh(x)


@pytest.mark.parametrize(
    ("phi", "twin"),
    [
        (plain_tanh, A.tanh()),
        (math.tanh, A.tanh()),
        (lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0), A.softplus()),
        (lambda x: np.log(1 + np.exp(x)), A.softplus()),  # formulas whose rounding is not small against φ in a tail
        (lambda x: 0.5 * x * (1 + special.erf(x / np.sqrt(2))), A.gelu()),
        (lambda x: x * np.tanh(np.log(1 + np.exp(x))), A.mish()),
        (lambda x: np.where(x > 0, x, np.exp(x) - 1), A.elu()),
        (lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1), A.tanh()),
        (lambda x: np.clip(x, -1, 1), A.hardtanh()),
        (lambda x: np.where(x > 0, x, np.expm1(x)), A.elu()),
        (lambda x: np.maximum(x, 0), A.relu()),
        (lambda x: np.maximum(x, 0) ** 3, A.rectified_monomial(3)),
        (lambda x: np.sign(x), A.sign()),
        (lambda x: np.exp(-x * x), A.gaussian()),
        (lambda x: 0.5 * x**3 - x, A.polynomial([0, -1, 0, 0.5])),
        (lambda x: np.sin(3 * x), A.sin(1, 3)),
        (lambda x: 2.0 + 0 * x, A.polynomial([2.0])),
    ],
)
def test_from_function_is_the_named_one(phi, twin):
    """The dual of a function given without options, against that of the named activation."""
    made = nf.Activation.from_function(phi, name="made")
    assert made.kinks == twin.kinks
    promised = 1e-9 if twin == A.mish() else 1e-10  # log(1 + exp x) is rounded
    for q1, q2, rho in [(1, 1.2, 0.3), (1.1, 2, -0.7), (1.3, 1.3, 0.99), (1.5, 2.5, -0.9999), (1.2, 1.2, 1)]:
        c = rho * math.sqrt(q1 * q2)
        for got, exact, scale in [
            (nf.dual(made, q1, q2, c), nf.dual(twin, q1, q2, c), nf.dual(twin, [q1, q2], [q1, q2], [q1, q2])),
            (
                nf.dual_derivative(made, q1, q2, c),
                nf.dual_derivative(twin, q1, q2, c),
                nf.dual_derivative(twin, [q1, q2], [q1, q2], [q1, q2]),
            ),
        ]:
            assert abs(got - exact) <= promised * math.sqrt(scale[0] * scale[1]) + 1e-24


@pytest.mark.parametrize(
    ("phi", "kinks", "pair"),
    [
        (lambda x: np.where(x > 0.7, x - 0.7, np.expm1(np.minimum(x - 0.7, 0))), (0.7,), (1.3, 0.8, 0.5)),
        (lambda x: np.abs(np.sin(x / 3)), (-3 * math.pi, 0, 3 * math.pi), (1.3, 0.8, -0.6)),
        (lambda x: np.maximum(x - 20.3, 0) + np.tanh(x), (20.3,), (30.0, 40.0, 0.8)),  # beyond the search for kinks
        (lambda x: np.sin(6 * x), (), (0.2, 0.3, 0.97)),
        (lambda x: np.exp(-((x / 0.3) ** 2)), (), (1.1, 1.3, -0.995)),  # steep: tables of more panels
    ],
)
def test_unusual_functions(phi, kinks, pair):
    """Second derivatives that jump, kinks at numbers that are not round, kinks far away, oscillation, spikes."""
    made = nf.Activation.from_function(phi, name="made")
    assert_allclose([t for t in made.kinks if abs(t) < 15], [t for t in kinks if abs(t) < 15], atol=1e-9)
    q1, q2, rho = pair
    scale = math.sqrt(nf.dual(made, q1, q1, q1) * nf.dual(made, q2, q2, q2))
    exact = reference.pair_expectation(phi, q1, q2, rho, kinks)
    assert abs(nf.dual(made, q1, q2, rho * math.sqrt(q1 * q2)) - exact) <= (1e-8 if kinks else 1e-10) * scale


def test_a_function_may_write_into_its_argument():
    made = nf.Activation.from_function(lambda x: np.tanh(x, out=x), name="in_place")
    assert_allclose(nf.dual(made, 1.0, 1.0, 0.5), nf.dual(A.tanh(), 1.0, 1.0, 0.5), rtol=1e-10)
    x = np.array([1.0, -2.0])
    made(x)
    assert_array_equal(x, [1.0, -2.0])


def test_superfluous_kinks():
    """A kink where φ is smooth costs nothing."""
    clip = nf.Activation.from_function(lambda x: np.clip(x, -1, 1), name="clip", kinks=(-1, 0, 1))
    assert clip.kinks == (-1.0, 1.0)
    assert nf.dual(clip, 1.0, 2.0, 1.41) == nf.dual(A.hardtanh(), 1.0, 2.0, 1.41)
    assert nf.Activation.from_function(plain_tanh, kinks=(1,)).kinks == ()


def test_large_variances_of_clipping():
    """hardtanh is a sign function there: E φφ = 2 arcsin(ρ)/π up to O(1/√q); too much cancellation raises."""
    for q in (1e6, 1e10):
        for rho in (0.5, 0.9999):
            assert_allclose(nf.dual(A.hardtanh(), q, q, rho * q), 2 / math.pi * math.asin(rho), atol=3 / math.sqrt(q))
        assert 1 - 3 / math.sqrt(q) < nf.dual(A.hardtanh(), q, q, q) < 1
    with pytest.raises(nf.PrecisionError, match=r"'hardtanh': for variances up to 1\.\d+e\+18 .* scale the data"):
        nf.dual(A.hardtanh(), 1e18, 1e18, 0.0)


@pytest.mark.parametrize("q", [1e-17, 1e-28, 1e-60, 1e-105])
def test_tiny_variances(q):
    """The behaviour at 0 continues below the lowest panel."""
    c = 0.999 * q
    step = nf.Activation.from_function(lambda x: np.where(x > 0, 1.0, 0.0), name="a_step")
    assert_allclose(nf.dual(step, q, q, [0, 0.5 * q, c, q]), nf.dual(A.step(), q, q, [0, 0.5 * q, c, q]), rtol=1e-8)
    for act, zero, slope in ((A.tanh(), 0.0, 1.0), (A.sigmoid(), 0.5, 0.25), (A.softplus(), math.log(2), 0.5)):
        assert_allclose(nf.dual(act, q, q, c), zero**2 + slope**2 * c, rtol=1e-8)
        assert_allclose(nf.dual_derivative(act, q, q, c), slope**2, rtol=1e-8)
    assert_allclose(nf.dual(A.relu6(), q, q, c), nf.dual(A.relu(), q, q, c), rtol=1e-8)
    assert_allclose(nf.dual(A.elu(), q, q, c), c, rtol=1e-8)
    assert_allclose(nf.dual_derivative(A.elu(), q, q, c), 1, rtol=max(1e-8, 3 * math.sqrt(q)))


def test_an_error_does_not_outlive_its_call():
    steep = nf.Activation.from_function(lambda x: np.tanh(3e4 * x), name="steep")
    before = nf.dual(steep, 1.0, 1.0, 0.5)
    with pytest.raises(nf.PrecisionError, match="'steep'"):
        nf.dual(steep, 1.0, 1.0, 0.999)
    assert_allclose(nf.dual(steep, 1.0, 1.0, 0.5), before, rtol=1e-12)


def test_what_no_table_resolves_raises():
    steep = nf.Activation.from_function(lambda x: np.tanh(1e5 * x), name="steep")
    assert_allclose(nf.dual(steep, 1.0, 1.0, 0.5), 1 / 3, rtol=1e-4)
    with pytest.raises(
        nf.PrecisionError, match=r"'steep': its dual near \|ρ\| = 1 for variances about 1\.\d+ is accurate only"
    ):
        nf.dual(steep, 1.0, 1.0, 0.999)


def test_scalar_function_and_its_kink():
    made = nf.Activation.from_function(sloped)
    assert made.name == "sloped"
    assert made.kinks == (0.5,)
    near = 1 - 1e-6  # where only piecewise linear functions have a dual, if their kinks are not at 0
    assert_allclose(nf.dual(made, 1.0, 1.0, near), reference.pair_expectation(made, 1, 1, near, (0.5,)), rtol=1e-8)
    again = nf.Activation.from_function(sloped)
    assert again == made
    assert hash(again) == hash(made)
    assert pickle.loads(pickle.dumps(nf.MLP(2, made))) == nf.MLP(2, again)


def test_a_second_call_compiles_nothing():
    """In a process of its own, numba's compile events are counted."""
    code = """
import numpy as np, ntkfast as nf
from numba.core import event
def phi(x):
    return np.tanh(x) if x > 0 else 0.5 * np.tanh(2 * x)
X = np.random.default_rng(0).normal(size=(50, 3))
nf.ntk(nf.MLP(3, nf.Activation.from_function(phi)), X)
with event.install_recorder("numba:compile") as recorder:
    nf.ntk(nf.MLP(3, nf.Activation.from_function(phi)), X)
print(len(recorder.buffer))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr


def test_jumps_and_slopes():
    """A jump at 0 in addition to a smooth part: Σ has the jump, Σ̇ only the slope."""
    made = nf.Activation.from_function(lambda x: np.sign(x) + np.tanh(x))
    for q1, q2, rho in [(1.0, 1.0, 0.3), (0.5, 2.0, -0.8), (1.0, 1.5, 0.999)]:
        c = rho * math.sqrt(q1 * q2)
        value = reference.pair_expectation(lambda x: np.sign(x) + np.tanh(x), q1, q2, rho, (0.0,))
        slope = reference.pair_expectation(lambda x: 1 - np.tanh(x) ** 2, q1, q2, rho)
        assert_allclose([nf.dual(made, q1, q2, c), nf.dual_derivative(made, q1, q2, c)], [value, slope], rtol=1e-8)


def piecewise_linear(kinks, slopes):
    def phi(x):
        jumps = zip(kinks, np.diff(slopes), strict=False)
        return slopes[0] * x + sum(jump * np.maximum(x - t, 0) for t, jump in jumps)

    return phi


@settings(deadline=None, max_examples=10, derandomize=True)
@given(
    kinks=st.lists(st.integers(-30, 30).map(lambda k: k / 10), min_size=1, max_size=3, unique=True),
    slopes=st.lists(st.integers(-8, 8).map(lambda k: k / 4), min_size=4, max_size=4, unique=True),
    q=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
    rho=st.floats(-1, 1).map(lambda rho: round(rho, 6)),
)
def test_any_piecewise_linear_function(kinks, slopes, q, rho):
    kinks = sorted(kinks)
    phi = piecewise_linear(kinks, slopes)
    diagonal = [reference.pair_expectation(phi, v, v, 1, kinks) for v in q]
    assume(min(diagonal) > 1e-3)  # a φ that is 0 except in the tails is refused: nothing is accurate relative to E φ²
    made = nf.Activation.from_function(phi)
    assert made.kinks == pytest.approx(kinks, abs=1e-10)
    c = rho * math.sqrt(q[0]) * math.sqrt(q[1])
    exact = reference.pair_expectation(phi, *q, rho, kinks)
    assert abs(nf.dual(made, *q, c) - exact) <= 1e-8 * math.sqrt(diagonal[0] * diagonal[1])


@pytest.mark.parametrize("slopes", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.5)])
def test_a_kink_where_the_search_cuts(slopes):
    assert nf.Activation.from_function(piecewise_linear([0.6], slopes)).kinks == (0.6,)


def tooth(x):
    """Of polynomials up to degree 3, with a jump and a kink that is not a round number."""
    return np.where(x < -0.4, 1.0, np.where(x < math.sqrt(2), x**3 - x, 2 - x))


ELSEWHERE = {  # φ, φ', and the kinks
    "hard_swish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, None, (-3.0, 3.0)),
    "squared_hinge": (lambda x: np.maximum(1 - x, 0) ** 2, lambda x: -2 * np.maximum(1 - x, 0), (1.0,)),
    "tooth": (
        tooth,
        lambda x: np.where(x < -0.4, 0.0, np.where(x < math.sqrt(2), 3 * x * x - 1, -1.0)),
        (-0.4, math.sqrt(2)),
    ),
    "bent": (
        lambda x: np.abs(np.tanh(x) - 0.3),
        lambda x: np.sign(np.tanh(x) - 0.3) / np.cosh(x) ** 2,
        (math.atanh(0.3),),
    ),
    "cut": (
        lambda x: np.where(x > 0.7, x - 0.7, np.expm1(np.minimum(x - 0.7, 0))),
        lambda x: np.exp(np.minimum(x - 0.7, 0)),
        (0.7,),
    ),
    "step_and_slope": (lambda x: np.tanh(x) + (x > 0.4), lambda x: 1 / np.cosh(x) ** 2, (0.4,)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "step_and_slope" else name for name in ELSEWHERE]
)
def test_kinks_anywhere(name):
    """Beyond the reach of the series: truncated powers in closed form and, where φ is no polynomial, a table of the
    smooth rest. ρ as it is after c = ρ √(q1 q2) was rounded."""
    phi, slope, kinks = ELSEWHERE[name]
    made = nf.Activation.from_function(phi, name=name)
    assert made.kinks == pytest.approx(kinks, abs=3e-15)
    if slope is None:
        slope = made.derivative
    variances = (
        ((0.01, 0.01), (1.0, 1.0), (0.03, 2.1), (1.9, 2.1))
        if name in ("bent", "cut")
        else ((0.01, 0.01), (1.0, 1.0), (0.03, 2.1), (100.0, 95.0), (0.01, 100.0))
    )
    for q1, q2 in variances:
        for rho in (0.95, 1 - 1e-6, 1 - 2.0**-33, -0.999):
            c = rho * math.sqrt(q1) * math.sqrt(q2)
            near = min(c / math.sqrt(q1) / math.sqrt(q2), 1.0)
            for dual, f in ((nf.dual, phi), (nf.dual_derivative, slope)):
                scale = math.prod(math.sqrt(dual(made, q, q, q)) for q in (q1, q2))
                exact = reference.pair_expectation(f, q1, q2, near, kinks)
                allowed = 1e-8 if name == "step_and_slope" else 1e-10  # the series of a φ that jumps are long
                assert abs(dual(made, q1, q2, c) - exact) <= allowed * scale, (q1, q2, rho)


@pytest.mark.parametrize(("j", "k"), [(0, 0), (1, 0), (2, 1), (3, 3)])
def test_truncated_powers_by_mpmath(j, k):
    """E[(u-s)₊^j (v+t)₊^k] against mpmath's quadrature of one integral of the conditional moments."""
    s, t = 0.4, 0.7
    made = nf.Activation.from_function(
        lambda x: np.maximum(x - s, 0) ** j * (x > s) + np.maximum(x + t, 0) ** k * (x > -t)
    )
    alone = [
        nf.Activation.from_function(lambda x: np.maximum(x - s, 0) ** j * (x > s)),
        nf.Activation.from_function(lambda x: np.maximum(x + t, 0) ** k * (x > -t)),
    ]
    for q1, q2, rho in ((2.0, 0.3, -0.99), (0.6, 0.65, 1 - 1e-6)):
        c = rho * math.sqrt(q1 * q2)
        got = nf.dual(made, q1, q2, c) - sum(nf.dual(one, q1, q2, c) for one in alone)
        exact = cross_moment(s, -t, j, k, q1, q2, c) + cross_moment(-t, s, k, j, q1, q2, c)
        assert got == pytest.approx(float(exact), rel=1e-12, abs=1e-13)


def cross_moment(s, t, j, k, q1, q2, c):
    """E[(u-s)₊^j (v-t)₊^k]: v given u is normal of mean c u/q1 and variance q2 - c²/q1."""
    mp = mpmath.mp.clone()
    mp.dps = 20
    q1, q2, c, s, t = (mp.mpf(float(value)) for value in (q1, q2, c, s, t))
    spread = mp.sqrt(q2 - c * c / q1)

    def conditional(over):
        before, now = mp.ncdf(over / spread), over * mp.ncdf(over / spread) + spread * mp.npdf(over / spread)
        for n in range(2, k + 1):
            before, now = now, over * now + (n - 1) * spread**2 * before
        return now if k else before

    std = mp.sqrt(q1)
    turn = t * q1 / c
    layer = [turn + n * spread * q1 / abs(c) for n in (-9, -6, -3, 0, 3, 6, 9)]
    ends = sorted({s, *(x for x in (*layer, *(n * std for n in (-2, 0, 2, 5, 10))) if x > s)})
    return mp.quad(lambda u: (u - s) ** j * conditional(c * u / q1 - t) * mp.npdf(u / std) / std, ends)


def test_deep_networks_with_kinks_anywhere():
    """Every pair comes near |ρ| = 1: against the recursion with the dual of each pair."""
    X = np.random.default_rng(0).normal(size=(12, 4))
    for activation in (A.hard_swish(), nf.Activation.from_function(ELSEWHERE["bent"][0], name="bent")):
        kernel = nf.nngp(nf.MLP(8, activation, 1.2, 0.4), X)
        sigma = 1.44 * X @ X.T / 4 + 0.16
        for _ in range(7):
            q = np.diag(sigma)
            sigma = (
                1.44 * nf.dual(activation, q[:, None], q[None], np.clip(sigma, None, np.sqrt(np.outer(q, q)))) + 0.16
            )
        assert_allclose(kernel, sigma, rtol=1e-11)


@pytest.mark.parametrize(
    ("phi", "options", "error", "words"),
    [
        (lambda x: x * np.nan, {}, nf.ActivationError, "'bad'.*finite values, got nan at x="),
        (lambda x: 1 / x, {}, nf.ActivationError, "'bad'.*got inf at x=0"),
        (lambda x: x.sum(), {}, nf.ActivationError, r"'bad'.*array or of one float.*shape \(\) for shape \(3,\)"),
        (lambda x: "text", {}, nf.ActivationError, "'bad'.*array or of one float"),
        (lambda x: x + 1j, {}, nf.ActivationError, "'bad'.*real numbers, got dtype complex128"),
        (lambda x: np.exp(x * x / 10), {}, nf.ActivationError, "'bad'.*(diverges.*q=|got inf at x=)"),
        (lambda x: np.sqrt(np.abs(x)), {}, nf.ActivationError, "'bad'.*near x=.*Lipschitz"),
        (np.tanh, {"derivative": np.cos}, nf.ActivationError, "'bad'.*not φ' at x="),
        (np.tanh, {"derivative": 3}, TypeError, "derivative: expected a function, got int"),
        (np.tanh, {"kinks": ["a"]}, TypeError, r"kinks\[0\]: expected a number, got str"),
        (np.tanh, {"kinks": 1}, TypeError, "kinks: expected a sequence of numbers, got int"),
        (np.tanh, {"kinks": [np.inf]}, ValueError, r"kinks\[0\]: expected a finite number"),
        ("tanh", {}, TypeError, "phi: expected a function, got str"),
        (lambda x: np.tanh(x.astype(np.float32)), {}, nf.ActivationError, "'bad'.*float64 for float64, got float32"),
        (lambda x: 1e160 * x, {}, nf.ActivationError, r"'bad': E\[φ\(√q z\)²\].*leaves float64 at q="),
        (lambda x: np.sort(x), {}, nf.ActivationError, "'bad'.*acts on each entry alone"),
        (
            lambda x: np.tanh(x) + np.random.default_rng().random(),
            {},
            nf.ActivationError,
            "'bad'.*same values for the same",
        ),
        (functools.partial(math.pow, 2.0), {}, nf.ActivationError, "'bad'.*wrap it in a def"),
        (lambda x: x + 1 // (len(x) - 4001), {}, nf.ActivationError, r"'bad': failed on .* \(4001,\): .* by zero"),
        (Unhashable(), {}, TypeError, "phi: expected a hashable function, got a Unhashable"),
    ],
)
def test_bad_functions(phi, options, error, words):
    with pytest.raises(error, match=words):
        nf.ntk(nf.MLP(2, nf.Activation.from_function(phi, name="bad", **options)), [[3.0]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 1, 0), "q1: expected variances >= 0, got -1"),
        ((1, 1, 1.1), r"c: expected \|c\| <= .* = 1\.0, got 1\.1"),
        ((1, np.nan, 0), "q2: expected finite numbers, got nan"),
        ((np.ones(2), np.ones(3), 0), "broadcast"),
    ],
)
def test_bad_arguments_of_dual(arguments, words):
    with pytest.raises(ValueError, match=words):
        nf.dual(A.relu(), *arguments)


@pytest.mark.parametrize("activation", [A.tanh(), A.elu(), A.hardtanh(), A.gelu()], ids=repr)
def test_any_variance(activation):
    """Points of norm 0, tiny or large: finite numbers, with the right limits."""
    X = np.array([[0.0, 0], [1e-30, 0], [0, 1e-9], [1e-3, 2e-3], [10, 3]])
    one_layer = nf.kernels(nf.MLP(2, activation), X)
    assert np.isfinite(one_layer.nngp).all()
    assert np.isfinite(one_layer.ntk).all()
    assert_array_equal(one_layer.nngp, one_layer.nngp.T)
    small = nf.dual_derivative(activation, 0, 0, 0)  # φ'(0)²
    assert_allclose(one_layer.ntk[0, 0], 0, atol=1e-30)
    assert_allclose(one_layer.nngp[1, 1], small * 5e-61, rtol=1e-9)


def test_hermite_coefficients():
    assert_allclose(A.hermite(3).hermite_coefficients(1.0, 5), [0, 0, 0, 1, 0], atol=1e-14)
    k = np.arange(6)
    assert_allclose(
        A.exp().hermite_coefficients(2.0, 6), math.e * 2 ** (k / 2) / np.sqrt([math.factorial(n) for n in k])
    )
    with pytest.raises(ValueError, match="q: expected a number > 0"):
        A.tanh().hermite_coefficients(0, 3)
    with pytest.raises(TypeError, match="n: expected an integer"):
        A.tanh().hermite_coefficients(1, 2.5)
    with pytest.raises(ValueError, match="n: expected at most 2048"):
        A.tanh().hermite_coefficients(1, 2049)
    last = A.sign().hermite_coefficients(1.0, 2048)[-1]  # a_k = 2 h_{k-1}(0)/√(2πk)
    log_h = 0.5 * math.lgamma(2047) - 1023 * math.log(2) - math.lgamma(1024)
    assert_allclose(last, -2 * math.exp(log_h) / math.sqrt(2 * math.pi * 2047), rtol=1e-9)


def test_series_reach_far_enough_for_the_tables():
    """The near tables begin at NEAR_RHO; every series must reach that, whatever φ is."""
    worst = np.zeros((2, series.N_TERMS)), np.ones(2)
    assert all(series._terms(*worst, tolerance, 1.0)[0] > near.NEAR_RHO for tolerance in series.TAIL.values())


@pytest.mark.parametrize("degree", [6, 16])
def test_short_panels_of_a_table(degree):
    """Cells, without the coefficients that they leave out, against the whole table at points of it."""

    def chebyshev(x, n):
        return np.cos(np.arange(n) * np.arccos(x))

    rng = np.random.default_rng(degree)
    i, m, j = np.ogrid[:degree, :10, :degree]
    block = rng.normal(size=(2, degree, 2, 10, degree)) * (8.0 ** -(i + m + j))[:, None]
    cells = near._packed(block, 4, 1e-12)
    assert all(sum(terms) < degree * degree * 10 / 4 / 3 for terms, _ in cells) or degree == 6
    for angle, q1, y, q2 in ((0, -0.9, -0.3, 0.7), (1, 0.1, 0.5, -0.6), (1, 0.99, 1.0, 0.2)):
        t1, t2 = chebyshev(q1, degree), chebyshev(q2, degree)
        whole = np.einsum("ifmj,i,m,j->f", block[angle], t1, chebyshev(y, 10), t2)
        (u, here), (v, there) = ((int(place), 2 * (place % 1) - 1) for place in (2 * (q1 + 1), 2 * (q2 + 1)))
        terms, numbers = cells[angle]
        weight = chebyshev(here, 16)[near.DEGREES[0]] * chebyshev(there, 16)[near.DEGREES[1]]
        found, at = np.zeros(2), 0
        for k, n in enumerate(terms):
            four = numbers[u, v, at : at + 8 * n].reshape(n, 2, 4)
            found += np.einsum("nfm,n,m->f", four, weight[:n], chebyshev(y, 4 * k + 4)[-4:])
            at += 8 * n
        assert at == numbers.shape[2]
        assert_allclose(found, whole, rtol=0, atol=1e-11 * np.abs(block).max())


def test_cells_hold_no_higher_degrees():
    """Panels are then divided further."""
    block = np.ones((1, 16, 2, 4, 16))
    assert near._packed(block, 1, 1e-12) is None
    assert near._packed(np.ones((1, 8, 2, 4, 8)), 1, 1e-12)[0][0] == [114]
