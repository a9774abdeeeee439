"""Statistics of finite width: against the recursions in mpmath (reference_beyond.py) and against random networks."""

import math

import mpmath as mp
import numpy as np
import pytest
import reference_beyond as reference

import ntkfast as nf
from ntkfast.engine import series_statistics, statistics
from ntkfast.engine.lower import lower
from ntkfast.engine.problem import Problem

ALL = statistics.NAMES
X_PUBLISHED = (-0.98952293396, -0.59924918413)
Y_PUBLISHED = (-0.17877477490, 2.25368285179)


def slow(net, x, y, widths, n_outputs=1, digits=30):
    """The reference for one pair."""
    lines = lower(net, len(x)).lines
    numbers = [tuple(map(float, line.numbers)) for line in lines]
    activations = [reference.TwoSlopes(*statistics.slopes(line)) for line in lines[1:]]
    with mp.workdps(digits):
        return reference.statistics(x, y, numbers, activations, widths, n_outputs)


def test_the_reference_has_the_known_numbers():
    # ReLU, 4 affine layers, C = 2, in Roberts, Yaida and Hanin's parametrisation with learning rate 1/n: H = Θ/2
    net = nf.MLP(4, weight_std=math.sqrt(2), weight_lr=0.5)
    found = slow(net, X_PUBLISHED, Y_PUBLISHED, [1] * 3)
    np.testing.assert_allclose([float(h) for h in found["ntk"]], [2.676510, 0.998865, 10.222094], rtol=1e-6)
    np.testing.assert_allclose([float(k) for k in found["nngp"]], [1.338255, 1.397022, 5.111047], rtol=1e-6)
    np.testing.assert_allclose([float(v) for v in found["variances"]], [71.637, 13.4447, 1044.91], rtol=1e-5)
    assert float(found["ntk_mean"] - found["ntk"][1]) == pytest.approx(-1.20562, rel=1e-5)
    assert float(found["nngp_mean"] - found["nngp"][1]) == pytest.approx(-2.40020, rel=1e-5)
    assert max(abs(shift) for shift in found["diagonal"]) < 1e-20


@pytest.mark.parametrize(("width", "percent"), [(20, 6.035), (80, 1.509)])
def test_off_diagonal_shift(width, percent):
    net = nf.MLP(4, weight_std=math.sqrt(2))
    x, y = [X_PUBLISHED], [Y_PUBLISHED]
    limit = nf.ntk(net, x, y)
    mean = nf.finite_width(net, x, y, width=width, get="ntk_mean")
    assert 100 * abs(mean / limit - 1)[0, 0] == pytest.approx(percent, abs=5e-4)


NETWORKS = {
    "relu": (nf.MLP(4, weight_std=1.4), [20, 20, 20]),
    "biases": (nf.MLP(4, weight_std=1.3, bias_std=0.4), [20, 30, 50]),
    "rates": (nf.MLP(4, nf.activations.leaky_relu(0.3), bias_std=0.5, weight_lr=0.3, bias_lr=2.0), [50, 20, 30]),
    "abs": (nf.MLP(4, "abs", bias_std=0.4), [20, 30, 50]),
    "odd signs": (nf.MLP(4, nf.activations.abrelu(0.7, -0.3), bias_std=0.2), [20, 30, 40]),
    "linear": (nf.Network([nf.Dense(bias_std=0.3), nf.Dense(weight_std=1.2), nf.Scale(-2.0), nf.Dense()]), [20, 30]),
    "standard": (nf.MLP(3, bias_std=0.4, parametrization="standard", widths=[20, 30]), [20, 30]),
    "frozen": (nf.Network([nf.Dense(weight_lr=0), "relu", nf.Dense(bias_std=0.3), "abs", nf.Dense()]), [20, 30]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_against_the_recursions_in_mpmath(name):
    net, widths = NETWORKS[name]
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((1, 3)), rng.standard_normal((1, 3))
    if name in ("relu", "abs", "odd signs"):  # a negative correlation, and another where signs matter most
        y = -0.9 * x + 0.3 * y
    x = np.concatenate([x, rng.standard_normal((int(name == "odd signs"), 3))])
    found = nf.finite_width(net, x, y, widths=widths, n_outputs=3, get=ALL)
    for i in range(len(x)):
        exact = slow(net, x[i], y[0], widths, 3)
        for output in ALL:
            scale = math.sqrt(exact[output[: output.index("_")]][0] * exact[output[: output.index("_")]][2])
            assert getattr(found, output)[i, 0] == pytest.approx(float(exact[output]), abs=1e-12 * scale)


def derivatives_of_tanh(count):
    found = [np.polynomial.Polynomial([0, 1])]
    for _ in range(count - 1):
        found.append(found[-1].deriv() * np.polynomial.Polynomial([1, 0, -1]))
    return [lambda x, p=p: p(np.tanh(x)) for p in found]


SMOOTH = {
    "sin": reference.Smooth([lambda x, k=k: np.sin(x + k * np.pi / 2) for k in range(6)], 50),
    "tanh": reference.Smooth(derivatives_of_tanh(6), 100),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_against_two_dimensional_integrals(name):
    net, widths, x = nf.MLP(4, name, weight_std=1.3, bias_std=0.3, bias_lr=0.5), [20, 30, 50], POINTS[:2]
    found = nf.finite_width(net, x, widths=widths, n_outputs=2, get=ALL)
    numbers = [tuple(map(float, line.numbers)) for line in lower(net, 3).lines]
    exact = reference.statistics(*x, numbers, [SMOOTH[name]] * 3, widths, 2)
    for output in ALL:
        assert getattr(found, output)[0, 1] == pytest.approx(float(exact[output]), rel=1e-10)
        assert (getattr(found, output) == getattr(found, output).T).all()
    parts = nf.finite_width(net, x, x[1:], widths=widths, n_outputs=2, get=ALL)
    for part, whole in zip(parts, found, strict=True):
        np.testing.assert_allclose(part, whole[:, 1:], rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "abs", "biases", "linear"])
def test_series_of_kinks_agree_with_closed_forms(name):
    net, widths = NETWORKS[name]
    x = np.concatenate([POINTS, POINTS[:1]])  # with a copy
    problem = Problem(net, x, dtype=np.float64)
    problem.load()
    closed, summed = problem.results(ALL), problem.results(ALL)
    for module, results in ((statistics, closed), (series_statistics, summed)):
        module.run(problem, [1 / n for n in widths], 3, ALL, results, False)
    for one, other in zip(closed, summed, strict=True):
        scale = np.sqrt(np.outer(one.diagonal(), one.diagonal()))
        assert (abs(one - other) < 1e-13 * scale).all()


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("activation", ["relu", "abs"])
def test_near_pairs_keep_their_digits(gap, activation):
    net = nf.MLP(3, activation, bias_std=0.3)
    x = np.array([[1.0, 2.0, -0.5]])
    y = x + gap * np.array([[1.0, -1.0, 0.5]])
    found = nf.finite_width(net, x, y, width=20, get=ALL)
    exact = slow(net, x[0], y[0], [20, 20], digits=70)  # enough for second differences within gap²
    for output in ALL:  # relative: changes of order gap must be right to 1e-8 or so too
        assert getattr(found, output)[0, 0] == pytest.approx(float(exact[output]), rel=1e-14 + 1e-9 * gap)


@pytest.mark.parametrize("activation", ["relu", "abs", "identity"])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_equal_opposite_and_parallel_points(activation, bias):
    net = nf.MLP(5, activation, weight_std=1.2, bias_std=bias)
    x = np.random.default_rng(1).standard_normal((3, 4))
    x = np.concatenate([x, x, -x, 3 * x, np.zeros((1, 4))])
    found = nf.finite_width(net, x, width=50, get=ALL)
    for values in found:
        assert np.isfinite(values).all()
        assert (values == values.T).all()
        np.testing.assert_allclose(values[:3, 3:6].diagonal(), values.diagonal()[:3], rtol=1e-12)
    np.testing.assert_allclose(found.ntk_mean.diagonal(), nf.diagonal(net, x), rtol=1e-12)
    np.testing.assert_allclose(found.nngp_mean.diagonal(), nf.diagonal(net, x, "nngp"), rtol=1e-12)


def test_tiles_windows_and_threads_do_not_matter():
    net = nf.MLP(3, bias_std=0.2)
    x = np.random.default_rng(2).standard_normal((300, 5))
    whole = nf.finite_width(net, x, width=40, get=ALL)
    for threads in (1, 2):
        parts = nf.finite_width(net, x[:3], x, width=40, get=ALL, n_threads=threads)
        for all_rows, rows in zip(whole, parts, strict=True):
            np.testing.assert_allclose(rows, all_rows[:3], rtol=1e-12)
    turned = nf.finite_width(net, x, x[:3], width=40, get="ntk_mean")
    np.testing.assert_allclose(turned, whole.ntk_mean[:, :3], rtol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_results_are_written_where_the_caller_says(activation, tmp_path):
    net, x = nf.MLP(3, activation, bias_std=0.2), np.random.default_rng(2).standard_normal((30, 5))
    y = x[:7] + 0.5
    for given in ((x,), (x, y), (y, x)):
        whole = nf.finite_width(net, *given, width=40)
        shape = whole.ntk_mean.shape
        mapped = np.lib.format.open_memmap(tmp_path / "std.npy", "w+", shape=shape)
        strided = np.empty((*shape[::-1], 2))[..., 0].T
        found = nf.finite_width(net, *given, width=40, get=("ntk_std", "ntk_mean"), out=[mapped, strided])
        assert (found.ntk_std is mapped, found.ntk_mean is strided) == (True, True)
        assert (mapped == whole.ntk_std).all()
        assert (strided == whole.ntk_mean).all()
    with pytest.raises(ValueError, match="out: expected shape"):
        nf.finite_width(net, x, width=40, get="ntk_std", out=np.empty((3, 3)))
    with pytest.raises(ValueError, match="out: expected 2 arrays"):
        nf.finite_width(net, x, width=40, get=("ntk_std", "ntk_mean"), out=[None])
    with pytest.raises(ValueError, match="expected memory apart from"):
        nf.finite_width(net, np.eye(5), width=40, get=("ntk_std", "ntk_mean"), out=[np.empty((5, 5))] * 2)


def test_a_depth_of_one_has_no_corrections():
    net, x = nf.MLP(1, bias_std=0.1), [[1.0, 2.0], [0.0, 1.0]]
    found = nf.finite_width(net, x, width=2)
    np.testing.assert_allclose(found.ntk_mean, nf.ntk(net, x), rtol=1e-14)
    assert not found.ntk_std.any()
    assert not found.nngp_std.any()


def test_width_for():
    net, x = nf.MLP(3, bias_std=0.1), np.random.default_rng(3).standard_normal((20, 3))
    for kernel in ("ntk", "nngp"):
        width = nf.width_for(net, x, 0.05, kernel=kernel)
        size = 0.05 * np.linalg.norm(nf.kernels(net, x, get=kernel))
        deviation = [np.linalg.norm(nf.finite_width(net, x, width=n, get=f"{kernel}_std")) for n in (width, width - 1)]
        assert deviation[0] <= size < deviation[1]
    assert nf.width_for(nf.MLP(1), x, 0.05) == 2
    with pytest.raises(ValueError, match="tolerance: expected a number > 0"):
        nf.width_for(net, x, 0.0)
    with pytest.raises(MemoryError, match="a sample of a few thousand points does"):
        nf.width_for(net, np.zeros((10**7, 1)), 0.1)
    for tolerance in (1e-300, 1e-9):
        with pytest.raises(ValueError, match="tolerance: expected one that widths"):
            nf.width_for(net, x, tolerance)
    with pytest.raises(ValueError, match="NTK parametrisation"):
        nf.width_for(nf.MLP(3, parametrization="standard", widths=9), x, 0.1)
    with pytest.raises(ValueError, match="not 0"):
        nf.width_for(nf.MLP(3), np.zeros((2, 2)), 0.1)


# ---- the flow of the mean kernels ----------------------------------------------------------------------------


def test_the_flow_of_the_mean_kernels():
    net, x, y = nf.MLP(4, bias_std=0.2), np.random.default_rng(4).standard_normal((9, 3)), np.arange(6.0)
    flow = nf.LeastSquaresFlow.of_initial_kernel(net, x[:6], y, width=30)
    whole = nf.finite_width(net, x, width=30)
    K, new = whole.ntk_mean[:6, :6], whole.ntk_mean[6:, :6]
    by_hand = new @ np.linalg.solve(K, y)
    np.testing.assert_allclose(flow.mean(np.inf, new), by_hand, rtol=1e-8)
    assert (
        abs(by_hand / nf.LeastSquaresFlow(nf.ntk(net, x[:6]), y).mean(np.inf, nf.ntk(net, x[6:], x[:6])) - 1).min()
        > 1e-3
    )
    spread = flow.variance(0.0, new, whole.nngp_mean[6:, :6], whole.nngp_mean.diagonal()[6:])
    np.testing.assert_allclose(spread, whole.nngp_mean.diagonal()[6:], rtol=1e-12)
    unequal = nf.LeastSquaresFlow.of_initial_kernel(net, x[:6], y, widths=[30, 30, 30])
    assert (unequal.eigenvalues == flow.eigenvalues).all()


def test_where_the_mean_kernel_is_indefinite():
    x = np.random.default_rng(0).standard_normal((20, 2))
    for width, kernel in (({"width": 2}, "ntk_xx"), ({"widths": [2] * 7}, "ntk_xx")):
        (name,) = width
        with (
            pytest.warns(RuntimeWarning, match="says nothing"),
            pytest.raises(
                ValueError, match=f"^{name}: expected networks so wide.*got .*2.*; {kernel}: .*smallest eigenv"
            ),
        ):
            nf.LeastSquaresFlow.of_initial_kernel(nf.MLP(8, weight_std=2**0.5), x, x[:, 0], **width)


POINTS = np.array([[1.0, 0.3, -0.5], [-0.4, 1.1, 0.2], [0.9, 0.5, -0.3], [-0.8, -0.2, 0.6]])


# ---- random networks ---------------------------------------------------------------------------------------


def z_scores(net, widths, x, n_networks, n_outputs=1, seed=0):
    """(networks - theory)/error for the mean and variance of every entry."""
    apart, errors = deviations(net, widths, x, n_networks, n_outputs, seed)
    return apart / errors


def deviations(net, widths, x, n_networks, n_outputs, seed):
    """Mean and variance of every entry over networks minus theory's, and their standard errors."""
    rng = np.random.default_rng(seed)
    theory = nf.finite_width(net, x, widths=widths, n_outputs=n_outputs, get=ALL)
    upper = np.triu_indices(len(x))
    ntk, cross, nngp = [], [], []
    for _ in range(n_networks):
        f = nf.FiniteNetwork.init(net, len(x[0]), widths, n_outputs, rng=rng)
        full = nf.empirical_ntk(f, x, outputs="full")
        ntk.append(np.einsum("ijkk->ij", full)[upper] / n_outputs)
        if n_outputs > 1:
            cross.append(full[..., 0, 1][upper])
        nngp.append(nf.empirical_nngp(f, x)[upper])
    apart, errors = [], []
    for samples, mean, std in (
        (ntk, theory.ntk_mean[upper], theory.ntk_std[upper]),
        (nngp, theory.nngp_mean[upper], theory.nngp_std[upper]),
        (cross, np.zeros(len(upper[0])), theory.ntk_cross_std[upper]),
    ):
        if samples:
            samples = np.array(samples)
            squares = (samples - mean) ** 2
            apart += [samples.mean(axis=0) - mean, squares.mean(axis=0) - std**2]
            errors += [samples.std(axis=0) / math.sqrt(n_networks), squares.std(axis=0) / math.sqrt(n_networks)]
    return np.concatenate(apart), np.concatenate(errors)


@pytest.mark.parametrize("name", ["relu", "biases", "rates", "abs", "odd signs", "linear", "standard"])
def test_random_networks(name):
    net, widths = NETWORKS[name]
    if name != "standard":  # wide, so that the second order in 1/n is below the errors
        widths = [8 * n for n in widths]
    else:
        widths = [200, 300]
        net = nf.MLP(3, bias_std=0.4, parametrization="standard", widths=widths)
    assert abs(z_scores(net, widths, POINTS, 400, n_outputs=2)).max() < 4


@pytest.mark.parametrize("activation", ["erf", "gelu", "tanh"])
def test_random_smooth_networks(activation):
    # Points at acute angles: for odd activations and Θ(x, y) near 0 so is the order 1/n of the variance between
    # outputs, and the next order shows (at this width 1.7 times the first; measured to shrink with 1/n beside it).
    net = nf.MLP(3, activation, weight_std=1.5, bias_std=0.3)
    assert abs(z_scores(net, [200, 300], abs(POINTS), 300, n_outputs=2)).max() < 4


MIXED = nf.Network([nf.Dense(weight_std=1.4), "relu", nf.Dense(bias_std=0.3), "erf", nf.Dense()])


@pytest.mark.parametrize("net", [nf.MLP(3, "hardtanh", 1.5, 0.3), nf.MLP(3, "elu", 1.5, 0.3), MIXED])
def test_random_networks_with_kinks(net):
    assert abs(z_scores(net, [200, 300], abs(POINTS[[0, 1, 3]]), 300, n_outputs=2)).max() < 4


@pytest.mark.long
@pytest.mark.parametrize("name", ["relu", "biases", "rates", "abs", "odd signs", "linear"])
def test_many_random_networks(name):
    net, widths = NETWORKS[name]
    narrow, wide = (deviations(net, [k * n for n in widths], POINTS, 10000, 2, k) for k in (3, 6))
    # what theory leaves out is of order 1/n², which so many networks see; it cancels in 4 wide - narrow
    z = (4 * wide[0] - narrow[0]) / np.hypot(4 * wide[1], narrow[1])
    assert abs(z).max() < 4.5


# ---- bad input -----------------------------------------------------------------------------------------------


def test_bad_input():
    net, x = nf.MLP(3), [[1.0, 2.0]]
    with pytest.raises(TypeError, match="width: expected a number of units"):
        nf.finite_width(net, x)
    with pytest.raises(TypeError, match="either width or widths"):
        nf.finite_width(net, x, width=3, widths=[3, 3])
    with pytest.raises(ValueError, match="width: expected at least 2 units"):
        nf.finite_width(net, x, width=1)
    with pytest.raises(ValueError, match=r"widths\[1\]: expected at least 2"):
        nf.finite_width(net, x, widths=[5, 1])
    with pytest.raises(ValueError, match="widths: expected 2, one per hidden Dense, got 3"):
        nf.finite_width(net, x, widths=[5, 5, 5])
    with pytest.raises(ValueError, match="get: expected names out of"):
        nf.finite_width(net, x, width=5, get="ntk")
    for layer in (nf.LayerNorm(), nf.Dropout(0.5), nf.Residual("relu", nf.Dense())):
        with pytest.raises(ValueError, match=f"got {type(layer).__name__}"):
            nf.finite_width(nf.Network([nf.Dense(), layer, "relu", nf.Dense()]), x, width=5)


def test_activations_whose_moments_diverge():
    x = [[1.0, 2.0], [2.0, 1.0]]
    for name in ("sign", "step"):
        with pytest.raises(nf.ActivationError, match=f"got {name}.*E.φ'.u.φ'.v.. diverges"):
            nf.finite_width(nf.MLP(3, name), x, width=9)
    with pytest.raises(nf.PrecisionError, match="variances stay above"):
        nf.finite_width(nf.MLP(3, "erf"), [[1e-3, 0.0]], width=9)
    with pytest.raises(nf.PrecisionError, match=r"400 terms of the Hermite series.*correlation of 0\.99"):
        nf.finite_width(nf.MLP(3, "tanh", weight_std=9.0), [[1.0, 2.0], [1.2, 2.0]], width=99)
    for near in ([1.001, 2.0], [-1.0, -2.0]):
        with pytest.raises(nf.PrecisionError, match=r"hardtanh.*nearly parallel"):
            nf.finite_width(nf.MLP(3, "hardtanh"), [[1.0, 2.0], near], width=9)


def test_networks_in_standard_parametrisation_have_their_widths():
    net, x = nf.MLP(3, bias_std=0.4, parametrization="standard", widths=[20, 30]), [[1.0, 2.0]]
    given = nf.finite_width(net, x, widths=[20, 30])
    assert (nf.finite_width(net, x).ntk_std == given.ntk_std).all()
    with pytest.raises(ValueError, match="of the network: expected at least 2"):
        nf.finite_width(nf.MLP(2, parametrization="standard", widths=1), x)


def test_a_warning_where_the_first_order_means_nothing():
    with pytest.warns(RuntimeWarning, match="says nothing"):
        nf.finite_width(nf.MLP(20), [[1.0, 2.0]], width=4)
