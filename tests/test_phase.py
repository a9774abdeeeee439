"""Order and chaos: fixed points against closed forms, independent quadrature and deep kernels."""

import numpy as np
import pytest
from scipy import integrate, optimize, special

import ntkfast as nf
from ntkfast import plotting
from ntkfast.infinite.phase import phase_diagram


def of(activation, weight_std, bias_std=0.0, depth=3):
    return nf.phase(nf.MLP(depth, activation, weight_std, bias_std))


def gaussian(f, q):
    """E f(√q z), by adaptive quadrature."""
    density = lambda z: f(np.sqrt(q) * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    return integrate.quad(density, -12, 12, epsabs=1e-13, epsrel=1e-12, limit=200)[0]


def gaussian_pair(f, q, c):
    """E f(u)f(v) for variances q and correlation c, by Gauss-Hermite quadrature."""
    z, weight = np.polynomial.hermite_e.hermegauss(160)
    weight = weight / weight.sum()
    u, v = z[:, None], c * z[:, None] + np.sqrt(1 - c * c) * z
    return weight @ (f(np.sqrt(q) * u) * f(np.sqrt(q) * v)) @ weight


def test_relu_of_he_is_critical():
    found = of("relu", np.sqrt(2))
    assert found.phase == "critical"
    assert (found.q_star, found.c_star, found.correlation_depth) == (1.0, 1.0, np.inf)
    assert found.chi_1 == pytest.approx(1, abs=1e-15)


def test_relu_ordered():
    found = of("relu", 1.0, 0.1)
    assert found.phase == "ordered"
    assert found.q_star == pytest.approx(0.02, rel=1e-14)
    assert (found.c_star, found.chi_1) == (1.0, 0.5)
    assert found.correlation_depth == pytest.approx(1 / np.log(2))
    c = np.linspace(-1, 1, 9)
    arc_cosine = (np.sqrt(1 - c * c) + c * (np.pi - np.arccos(c))) / np.pi
    np.testing.assert_allclose(found.correlation_map(c), (0.01 * arc_cosine + 0.01) / 0.02, rtol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "abs", nf.activations.leaky_relu(0.2), "identity"])
def test_homogeneous_variance_diverges(activation):
    found = of(activation, 2.0, 0.1)
    assert (found.q_star, found.c_star, found.phase) == (np.inf, 1.0, "divergent")
    assert found.correlation_depth == np.inf
    assert found.chi_1 == 4 * nf.dual(nf.activations.get(activation), 1.0, 1.0, 1.0)
    assert found.correlation_map([1.0])[0] == 1
    grows_linearly = of(activation, np.sqrt(4 / found.chi_1), 0.1)
    assert (grows_linearly.q_star, grows_linearly.phase) == (np.inf, "divergent")


@pytest.mark.parametrize(
    ("activation", "asymptotes"),
    [("gelu", "relu"), ("elu", "relu"), ("softplus", "relu"), ("mish", "relu"), ("log_cosh", "abs")],
)
def test_divergent_is_the_same_word_for_all(activation, asymptotes):
    found, homogeneous = of(activation, 2.0, 0.1), of(asymptotes, 2.0, 0.1)
    assert (found.q_star, found.c_star, found.phase) == (np.inf, 1.0, "divergent")
    assert (found.chi_1, found.correlation_depth) == (homogeneous.chi_1, np.inf)
    c = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(found.correlation_map(c), homogeneous.correlation_map(c))


def test_map_of_a_divergent_network_is_that_of_large_variances():
    q, c = 1e12, np.linspace(-1, 1, 5)
    found = of("gelu", 2.0).correlation_map(c)
    np.testing.assert_allclose(nf.dual("gelu", q, q, c * q) / nf.dual("gelu", q, q, q), found, atol=1e-5)


def test_silu_has_a_phase_at_any_weights():
    found = [of(activation, weight_std, 0.1) for activation in ("silu", "swish") for weight_std in (2.0, 30.0)]
    assert {(one.q_star, one.c_star, one.phase) for one in found} == {(np.inf, 1.0, "divergent")}
    chi = nf.phase_diagram("silu", [0.5, 1.0, 1.4, 2.0], [0.0, 0.3]).chi_1
    assert (chi[:, :2] < 1).all()
    assert (chi[:, 3] == 2).all()


@pytest.mark.parametrize("activation", ["silu", "sigmoid"])
@pytest.mark.parametrize("weight_std", [1.0, 1.5])
def test_variances_beyond_the_fixed_point_are_not_asked_for(activation, weight_std):
    found, act = of(activation, weight_std, 0.1), nf.activations.get(activation)
    assert found.phase == "ordered"
    assert weight_std**2 * gaussian(lambda x: act(x) ** 2, found.q_star) + 0.01 == pytest.approx(found.q_star, rel=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "sin", "elu"])
@pytest.mark.parametrize(("weight_std", "phase"), [(0.9, "ordered"), (1.0, "critical")])
def test_signals_that_die(activation, weight_std, phase):
    found = of(activation, weight_std)
    assert (found.q_star, found.c_star, found.phase) == (0.0, 1.0, phase)
    assert found.chi_1 == pytest.approx(weight_std**2, rel=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_no_variance_is_the_limit_of_small_biases(activation):
    found, near = of(activation, 0.9), of(activation, 0.9, 1e-7)
    c = np.array([-0.5, 0.0, 0.5])
    np.testing.assert_allclose(found.correlation_map(c), near.correlation_map(c), atol=1e-6)
    assert found.correlation_depth == pytest.approx(near.correlation_depth, rel=1e-5)


def test_erf_closed_form():
    w2, b2 = 4.0, 0.25

    def pair(q, c):
        return w2 * 2 / np.pi * np.arcsin(2 * c * q / (1 + 2 * q)) + b2

    q = optimize.brentq(lambda q: pair(q, 1) - q, 0.1, 10, xtol=1e-14, rtol=1e-14)
    c = optimize.brentq(lambda c: pair(q, c) / q - c, 0, 0.9, xtol=1e-14)
    found = of("erf", 2.0, 0.5)
    assert found.phase == "chaotic"
    assert found.q_star == pytest.approx(q, rel=1e-13)
    assert found.chi_1 == pytest.approx(w2 * 4 / np.pi / np.sqrt(1 + 4 * q), rel=1e-13)
    assert found.c_star == pytest.approx(c, rel=1e-11)
    step = 1e-5
    slope = (pair(q, c + step) - pair(q, c - step)) / (2 * step * q)
    assert found.correlation_depth == pytest.approx(-1 / np.log(slope), rel=1e-7)
    assert of("erf", np.sqrt(np.pi) / 2).phase == "critical"


@pytest.mark.parametrize(("activation", "weight_std", "bias_std"), [("tanh", 1.5, 0.1), ("tanh", 2.5, 0.3)])
def test_chaotic_against_quadrature(activation, weight_std, bias_std):
    found, act = of(activation, weight_std, bias_std), nf.activations.get(activation)
    w2, b2, q = weight_std**2, bias_std**2, found.q_star
    assert found.phase == "chaotic"
    assert w2 * gaussian(lambda x: act(x) ** 2, q) + b2 == pytest.approx(q, rel=1e-10)
    assert found.chi_1 == pytest.approx(w2 * gaussian(lambda x: act.derivative(x) ** 2, q), rel=1e-10)
    c = optimize.brentq(lambda c: (w2 * gaussian_pair(act, q, c) + b2) / q - c, 0, 0.9)
    assert found.c_star == pytest.approx(c, abs=1e-7)
    assert found.variance_map(q) == pytest.approx(q, rel=1e-13)
    assert found.correlation_map(c) == pytest.approx(c, abs=1e-7)


def test_critical_tanh_of_schoenholz_et_al():
    assert of("tanh", np.sqrt(1.7603), np.sqrt(0.05)).chi_1 == pytest.approx(1, abs=5e-3)


def test_deep_kernel_tends_to_the_fixed_point():
    net = nf.MLP(200, "tanh", 2.5, 0.3)
    found = nf.phase(net)
    kernel = nf.nngp(net, [[1.0, 0.0], [0.3, 1.0]])
    assert found.c_star < 1
    np.testing.assert_allclose(kernel, found.q_star * np.array([[1, found.c_star], [found.c_star, 1]]), rtol=1e-8)


@pytest.mark.parametrize(("activation", "weight_std"), [("exp", 1.0), ("sinh", 3.0), (nf.activations.monomial(3), 1.0)])
def test_divergent(activation, weight_std):
    found = of(activation, weight_std)
    assert (found.q_star, found.phase) == (np.inf, "divergent")
    assert np.isnan([found.chi_1, found.c_star, found.correlation_depth]).all()
    with pytest.raises(ValueError, match="diverges"):
        found.correlation_map(0.5)


def test_a_slope_that_oscillates_has_no_limit():
    """E φ'² of x + sin² x tends to 3/2, not to the square of its asymptote's slope."""
    snake = nf.Activation.from_function(lambda x: x + np.sin(x) ** 2, name="snake")
    found = of(snake, 1.1, 0.1)
    assert (found.q_star, found.phase) == (np.inf, "divergent")
    assert np.isnan(found.chi_1)
    found = of(snake, 0.99, 0.1)
    assert found.phase == "chaotic"
    assert found.chi_1 == pytest.approx(0.99**2 * gaussian(lambda x: (1 + np.sin(2 * x)) ** 2, found.q_star), rel=1e-9)


def test_exp_below_overflow():
    # V(q) = w² exp(2q): the lower fixed point is -W(-2w²)/2
    assert of("exp", 0.1).q_star == pytest.approx(-special.lambertw(-0.02).real / 2, rel=1e-12)


def test_first_dense_and_learning_rates_do_not_count():
    net = nf.Network(
        [
            nf.Dense(weight_std=7.0),
            "erf",
            nf.Dense(weight_std=2.0, bias_std=0.5),
            "erf",
            nf.Dense(weight_std=2.0, bias_std=0.5, weight_lr=0.0),
        ]
    )
    assert nf.phase(net) == of("erf", 2.0, 0.5)


D = nf.Dense()
REFUSED = {
    "residual": ([D, "relu", D, nf.Residual("relu", D)], "in turn, but layer 3 is Residual"),
    "layer norm": ([D, nf.LayerNorm(), "relu", D], "layer 1 is LayerNorm"),
    "dropout": ([D, "relu", nf.Dropout(0.1), D], "layer 2 is Dropout"),
    "linear": ([D], "at least one activation"),
    "two Dense": ([D, D, "relu", D], "in turn, but layer 1"),
    "activations": ([D, "relu", D, "erf", D], "equal activations.*relu.*layer 3 erf"),
    "weight_std": ([D, "relu", D, "relu", nf.Dense(weight_std=2.0)], "weight_std of layer 2 is 1.0 and of layer 4 2.0"),
    "bias_std": ([D, "relu", D, "relu", nf.Dense(bias_std=2.0)], "bias_std of layer 2 is 0.0 and of layer 4 2.0"),
    "jump": ([D, "sign", D], "continuous.*sign"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_networks_are_refused(case):
    layers, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        nf.phase(nf.Network(layers))


def test_bad_arguments():
    with pytest.raises(TypeError, match="net: expected a Network"):
        nf.phase("relu")
    found = of("relu", 1.0, 0.1)
    with pytest.raises(ValueError, match=r"c: .*\[-1, 1\], got 2.0"):
        found.correlation_map([0.0, 2.0])
    with pytest.raises(ValueError, match=r"q: .*>= 0, got -1.0"):
        found.variance_map(-1.0)
    with pytest.raises(TypeError, match="q: expected real numbers"):
        found.variance_map("1")
    for w, b, message in (
        ([0.0], [0.0], "weight_stds: .*> 0"),
        ([1.0], [-1.0], "bias_stds: .*>= 0"),
        (1.0, [0.0], "weight_stds: expected a list"),
        ([1.0], [np.nan], "bias_stds: expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            phase_diagram("relu", w, b)


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
def test_diagram_is_phase_everywhere(activation):
    w, b = [0.8, 1.3, 3.0], [0.0, 0.4]
    diagram = phase_diagram(activation, w, b)
    single = [[of(activation, v, u) for v in w] for u in b]
    for name in ("q_star", "chi_1", "c_star"):
        expected = [[getattr(found, name) for found in row] for row in single]
        assert getattr(diagram, name).shape == (2, 3)
        np.testing.assert_allclose(getattr(diagram, name), expected, rtol=1e-9, atol=1e-12)


def test_plots():
    pytest.importorskip("matplotlib")
    diagram = phase_diagram("erf", np.linspace(0.5, 2, 6), np.linspace(0, 1, 5))
    ax = plotting.plot_phase_diagram(diagram)
    ax.figure.draw_without_rendering()
    assert {"ordered", "chaotic"} <= {text.get_text() for text in ax.texts}
    ax = plotting.plot_phase_diagram(phase_diagram("relu", np.linspace(0.5, 2, 6), np.linspace(0, 1, 5)))
    assert {"ordered", "divergent"} == {text.get_text() for text in ax.texts}
    drawn = ax.collections[0].get_array()  # only where the variance has a fixed point; the rest stays grey
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn).reshape(5, 6)[0], np.linspace(0.5, 2, 6) > np.sqrt(2))
    with pytest.raises(ValueError, match="at least 2 by 2"):
        plotting.plot_phase_diagram(phase_diagram("erf", [1.0], [0.0, 1.0]))
    found = of("erf", 2.0, 0.5)
    curve = plotting.plot_correlation_map(found).lines[1]
    np.testing.assert_allclose(curve.get_ydata(), found.correlation_map(curve.get_xdata()))


@pytest.mark.parametrize(("activation", "weight_std"), [("relu", 2**0.5), ("erf", (np.pi / 4) ** 0.5)])
def test_at_criticality_fluctuations_grow_like_depth_over_width(activation, weight_std):
    found = nf.phase(nf.MLP(2, activation, weight_std=weight_std))
    depths = np.array([1, 16, 32, 64])
    relative = found.fluctuations(depths)
    assert relative[0] == 0
    np.testing.assert_allclose(np.diff(relative[1:]) / np.diff(depths[1:]), (relative[3] - relative[2]) / 32, rtol=0.01)
    depth = 48
    width = round(depth / found.depth_to_width(tolerance=0.3))
    std = nf.finite_width(nf.MLP(depth, activation, weight_std), [[1.0 / weight_std]], width=width, get="ntk_std")
    exact = std / nf.diagonal(nf.MLP(depth, activation, weight_std), [[1.0 / weight_std]])
    assert exact[0, 0] == pytest.approx(0.3, rel=0.05)
    assert plotting.plot_fluctuations(found, most=8).get_title().startswith(f"{activation}, critical: 10 %")


def test_fluctuations_of_other_phases():
    chaotic = nf.phase(nf.MLP(2, "erf", weight_std=2.0, bias_std=0.5))
    assert np.isnan(chaotic.depth_to_width())
    assert chaotic.fluctuations([2])[0] > 0
    assert "%" not in plotting.plot_fluctuations(chaotic, most=4).get_title()
    with pytest.raises(ValueError, match="diverges"):
        nf.phase(nf.MLP(2, "relu", weight_std=2.0)).fluctuations([2])
