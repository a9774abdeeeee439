"""The verdicts of the experiments: data that obey the law are within every tolerance, data that violate it are not."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.experiments import (
    beyond,
    early_stopping,
    fig1,
    fig2,
    fig3a,
    fig3bc,
    inflation,
    networks,
    proposition1,
    proposition2,
    random_features,
    theorem1,
    theorem2,
    verdicts,
)


def spread(rng, share, *shape):
    """Positive numbers around 1 that differ by about that share."""
    return np.exp(share * rng.standard_normal(shape))


def powers(widths, exponent):
    return np.asarray(widths, dtype=float) ** exponent


# --- one example of each that obeys the law


def figure_1(rng):
    widths, gamma = np.array([100, 1000, 10000]), np.linspace(-np.pi, np.pi, 21)
    points = networks.circle(gamma)
    x0 = points[10:11]
    limit = nf.ntk(fig1.PAPER, x0, points)[0]
    std = [nf.finite_width(fig1.PAPER, x0, points, width=int(n), get="ntk_std") for n in widths]
    apart = np.array(std) * rng.standard_normal((3, 40, 1))
    traces = np.ones((3, 6, 2))
    traces[:, :, 1] += 100 * powers(widths, -1)[:, None] * spread(rng, 0.2, 3, 6)
    kernels = np.repeat((limit + apart[:, :6])[:, :, None], 2, axis=2)
    return fig1.Figure1(fig1.PAPER, 200, widths, gamma, limit, kernels, limit + apart, traces, 40)


def figure_2(rng):
    gamma = np.linspace(-np.pi, np.pi, 31)
    covariance = np.exp(-np.square(gamma[:, None] - gamma) / 2)
    root = np.linalg.cholesky(covariance + 1e-10 * np.eye(31))
    mean, outputs = np.sin(gamma), np.sin(gamma) + rng.standard_normal((2, 10, 31)) @ root.T
    percentiles = mean + 1.2815515655446004 * np.array([[-1], [0], [1]])
    points, initial = np.array([-1.0, 1.0]), []
    for width in (50, 1000):
        theory = nf.finite_width(fig2.PAPER, networks.circle(points), width=width)
        noise = rng.standard_normal((2, 60, 1, 1))
        initial.append([theory.ntk_mean + theory.ntk_std * noise[0], theory.nngp_mean + theory.nngp_std * noise[1]])
    initial = np.array(initial).transpose(0, 2, 1, 3, 4)
    return fig2.Figure2(
        fig2.PAPER, 1000, np.array([50, 1000]), gamma, outputs, points, np.sin(points), np.zeros((2, 10, 2)), initial,
        percentiles, covariance, 4000, percentiles + 0.01,
    )  # fmt: skip


def figure_3a(rng):
    eigenvalues = np.array(fig3a.PUBLISHED)
    components = np.linalg.qr(rng.standard_normal((512, 3)))[0] * np.sqrt(512)
    components[:, 0] = 1
    beta_one = eigenvalues * [10, 1, 1]
    batches = eigenvalues * spread(rng, 0.03, 10, 3)
    return fig3a.Figure3a(
        fig3a.PAPER, np.arange(512) % 10, 1.02 * eigenvalues, components, 2000, 0.98 * eigenvalues, components, batches,
        np.full(3, 1.0), beta_one, 500, 0.02 * rng.chisquare(1, 30), 0.02, 1 + 0.1 * rng.standard_normal((30, 512)),
        np.stack([np.ones(512), np.full(512, 0.1)]),
    )  # fmt: skip


def figure_3bc(rng):
    widths, t, eigenvalue = np.array([100, 1000, 10000]), np.linspace(0, 4000, 41), 0.001
    size = powers(widths, -0.5)[:, None, None]
    noise = spread(rng, 0.05, 3, 2, 1)
    along = 0.5 * np.exp(-eigenvalue * (1 + 2 * size * noise) * t)
    deviation = size * noise * t / t[-1]
    rates = eigenvalue * (1 + 9 * size * noise * t / t[-1])
    theory = eigenvalue * (1 - 2 * powers(widths, -1))
    initial = theory[:, None] * (1 + size[:, 0] * rng.standard_normal((3, 24)))
    return fig3bc.Figure3bc(fig3bc.PAPER, widths, t, along, deviation, rates, eigenvalue, np.ones(3), initial, theory)


def theorem_1(rng):
    widths = np.array([64, 256, 1024])
    theory = 3 * powers(widths, -0.5)
    frobenius = theory[:, None] * np.sqrt(1 + 0.5 * rng.uniform(-1, 1, (3, 40)))
    return theorem1.Convergence(theorem1.PAPER, widths, frobenius * spread(rng, 0.1, 3, 40), frobenius, theory)


def theorem_2(rng):
    widths, t = np.array([64, 256, 1024]), np.arange(9.0)
    drift = powers(widths, -1)[:, None, None] * spread(rng, 0.3, 3, 6, 1) * t
    return theorem2.Theorem2(theorem2.PAPER, widths, t, drift, powers(widths, -1)[:, None] * spread(rng, 0.2, 3, 6))


def proposition_1(rng):
    covariance = nf.nngp(proposition1.PAPER, networks.circle(np.array(proposition1.GAMMA)))
    outputs = rng.standard_normal((2, 2000, 4)) @ np.linalg.cholesky(covariance).T
    return proposition1.Proposition1(proposition1.PAPER, np.array([8, 10**5]), outputs, covariance)


def proposition_2(rng):
    eigenvalues = np.array([[1e-3, 1e-3], [1e-15, 1e-9]])
    names, depths = np.array(["relu", "quadratic"]), np.array([2, 6])
    return proposition2.Proposition2(names, depths, 30, 3, eigenvalues, np.full((2, 2), 1e-11), np.array([True, False]))


def features(rng):
    P = np.array([10, 100, 1000])
    expected = powers(P, -0.5)
    errors = expected[:, None] * np.sqrt(1 + 0.1 * rng.standard_normal((3, 100)))
    return random_features.FeatureConvergence(P, errors, -0.5, expected)


def stopping(rng):
    eigenvalues, t = np.geomspace(0.1, 1e-5, 30), 100.0
    times, losses = np.array([0, 10.0, 100.0, np.inf]), np.array([1, 0.5, 0.05, 0.08])
    remaining = np.exp(-t * eigenvalues)
    return early_stopping.Stopping(t, 0.05, times, losses, losses, eigenvalues, remaining, 0.5)


def beyond_the_limit(rng):
    widths, samples = np.array([64, 256]), []
    for width in widths:
        theory = nf.finite_width(beyond.CRITICAL, beyond.POINTS, width=int(width))
        mean, std = (np.array([values[entry] for entry in beyond.ENTRIES]) for values in theory[:2])
        samples.append(mean + std * rng.standard_normal((1000, 3)))
    return beyond.Beyond(beyond.CRITICAL, widths, np.array(samples), np.array([6.035, 1.509]))


def inflated(rng):
    widths = np.repeat([100, 400, 1600], [60, 30, 15])
    noise = 0.3 * rng.standard_normal((2, len(widths)))
    smooth, kinked = (4.3 + 4.3 * noise[0]) / widths, (3 - 0.1 * widths**0.5 + noise[1]) / widths
    return inflation.Inflation(inflation.SMOOTH, 200, 5, widths, smooth, kinked, 4.3, 0.01, 4.4)


OBEY = {
    fig1: figure_1,
    fig2: figure_2,
    fig3a: figure_3a,
    fig3bc: figure_3bc,
    theorem1: theorem_1,
    theorem2: theorem_2,
    proposition1: proposition_1,
    proposition2: proposition_2,
    random_features: features,
    early_stopping: stopping,
    beyond: beyond_the_limit,
    inflation: inflated,
}


def named(module):
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", OBEY, ids=named)
@pytest.mark.parametrize("seed", range(3))
def test_what_obeys_is_within_its_tolerance(module, seed):
    lines = module.findings(OBEY[module](np.random.default_rng(seed)))
    assert sum(line.ok is not None for line in lines) >= 1
    assert [line for line in lines if line.ok is False] == []


# --- violations: the experiment, the field, its change, and the line that must detect it


def centred(values, factor):
    return values.mean(axis=1, keepdims=True) + factor * (values - values.mean(axis=1, keepdims=True))


BREAK = [
    (beyond, "shifts", lambda d: d.shifts + 5, "published"),
    (beyond, "samples", lambda d: 1.5 * d.samples, "mean of Θ̂"),
    (beyond, "samples", lambda d: centred(d.samples, 2.0), "over theory"),
    (inflation, "inflation", lambda d: 1.5 * d.inflation, "coefficient of 1/n"),
    (inflation, "inflation", lambda d: d.inflation * (d.widths / 400) ** 0.5, "exponent of the inflation"),
    *((inflation, "inflation", lambda d: 2.5 * d.inflation, f"n = {n}, ") for n in (100, 400, 1600)),
    (fig1, "limit", lambda d: d.limit * 0.99, "limit kernel at γ = 0"),
    *(
        (fig1, "initial", lambda d: d.initial + 0.5, f"n = {n}, 40 networks at t = 0: mean of Θ̂(x0, x0)")
        for n in (100, 1000, 10000)
    ),
    *(  # everywhere but at γ = 0
        (
            fig1,
            "limit",
            lambda d: d.limit * np.where(d.gamma, 1.5, 1),
            f"n = {n}, 40 networks at t = 0: mean of Θ̂(x0, ·)",
        )
        for n in (100, 1000, 10000)
    ),
    (fig1, "initial", lambda d: d.initial + 0.5, "against theory"),
    (fig1, "initial", lambda d: centred(d.initial, 2.0), "over theory"),
    (fig1, "initial", lambda d: centred(d.initial, [[[1]], [[3]], [[10]]]), "variance of Θ̂"),
    (fig1, "traces", lambda d: np.stack([d.traces[..., 0], 1 + (d.traces[..., 1] - 1) ** 0.5], -1), "inflation - 1"),
    (fig1, "initial", lambda d: centred(d.initial, [[[1]], [[3]], [[10]]]), "roughness"),
    (fig1, "traces", lambda d: d.traces[:, :, ::-1], "inflation - 1"),
    *(
        (fig2, "outputs", lambda d: 4 * d.outputs, f"n = 1000: {level}th percentile of the networks")
        for level in (10, 90)
    ),
    (fig2, "outputs", lambda d: d.outputs + np.array([[[0]], [[2]]]), "n = 1000: 50th percentile of the networks"),
    (fig2, "outputs", lambda d: 4 * d.outputs, "spread about the limit's mean"),
    (fig2, "outputs", lambda d: d.percentiles[1] + 0 * d.outputs, "spread about the limit's mean"),
    (fig2, "outputs", lambda d: d.outputs + 5, "share of the curves"),
    *((fig2, "errors", lambda d: d.errors + 0.1, f"n = {n}: largest |f - f*|") for n in (50, 1000)),
    (fig2, "initial", lambda d: 2 * d.initial, "minus theory's mean"),
    (fig2, "initial", lambda d: centred(d.initial, 4.0), "the square of that"),
    *(
        (
            fig2,
            "wide_percentiles",
            lambda d: d.wide_percentiles + 0.2,
            f"limit's {level}th percentile, exact and from a network",
        )
        for level in (10, 50, 90)
    ),
    *((fig3a, "eigenvalues", lambda d: d.eigenvalues * 1.3, f"λ{i}, limit kernel") for i in (1, 2, 3)),
    *((fig3a, "wide_eigenvalues", lambda d: d.wide_eigenvalues / 1.5, f"λ{i}, network") for i in (1, 2, 3)),
    (fig3a, "components", lambda d: d.components[::-1] * np.sign(np.arange(512) - 256)[:, None], "first component"),
    (fig3a, "beta_one", lambda d: d.eigenvalues, "gap λ1/λ2"),
    (fig3a, "squares", lambda d: d.squares + 1, "Frobenius norm over theory"),
    (fig3bc, "initial_rates", lambda d: 2 * d.initial_rates, "against order 1/n"),
    (fig3bc, "along", lambda d: 1.1 * d.along, "‖g_0‖"),
    (fig3bc, "deviation", lambda d: d.deviation**0.1, "largest ‖h_t‖ ∝ n^s"),
    (fig3bc, "deviation", lambda d: d.deviation * np.nan, "largest ‖h_t‖ ∝ n^s"),
    (fig3bc, "along", lambda d: d.along[::-1], "distance of ‖g_t‖ from the limit ∝ n^s"),
    (fig3bc, "along", lambda d: d.along[::-1], "‖g_t‖ from the limit: widest over narrowest"),
    (fig3bc, "along", lambda d: d.along[::-1], "half-life, narrowest over widest"),
    (fig3bc, "rates", lambda d: d.rates[::-1], "inflation, widest over narrowest"),
    (theorem1, "errors", lambda d: d.errors**2, "at initialisation: s"),
    (theorem1, "errors", lambda d: d.errors**0.5, "at initialisation: s"),
    (theorem1, "errors", lambda d: np.nan * d.errors, "at initialisation: s"),
    (theorem1, "frobenius", lambda d: 2 * d.frobenius, "Frobenius norm over theory"),
    (theorem2, "drift", lambda d: d.drift * np.nan, "sup_t"),
    (theorem2, "drift", lambda d: d.drift**0.5, "sup_t"),
    (theorem2, "drift", lambda d: d.drift**1.5, "sup_t"),
    (theorem2, "movement", lambda d: d.movement**0.5, "‖θ_t - θ_0‖/‖θ_0‖ ∝ n^s"),
    (proposition1, "outputs", lambda d: d.outputs * 1.2, "covariance of outputs"),
    (proposition1, "outputs", lambda d: d.outputs * [[[1.2, 1, 1, 1]]], "covariance of outputs"),
    (proposition1, "outputs", lambda d: d.outputs**3, "Kolmogorov-Smirnov"),
    (proposition1, "outputs", lambda d: np.clip(d.outputs, -0.2, 0.2), "kurtosis"),
    # Student's t of 5 degrees of freedom, of the same variance
    (
        proposition1,
        "outputs",
        lambda d: d.outputs * np.sqrt(3 / np.random.default_rng(5).chisquare(5, (2, 2000, 1))),
        "kurtosis",
    ),
    (proposition2, "certified", lambda d: ~d.certified, "relu: Hermite"),
    (proposition2, "certified", lambda d: ~d.certified, "quadratic: Hermite"),
    *((proposition2, "eigenvalues", lambda d: d.eigenvalues * 0, f"relu, L = {depth}") for depth in (2, 6)),
    (proposition2, "eigenvalues", lambda d: d.eigenvalues + 1e-3, "quadratic, L = 2"),
    (random_features, "errors", lambda d: d.errors**0.9, "∝ P^s"),
    (random_features, "errors", lambda d: 1.1 * d.errors, "these ratios minus 1"),
    (early_stopping, "remaining", lambda d: d.remaining**1.01, "what remains"),
    (
        early_stopping,
        "validation_loss",
        lambda d: d.validation_loss * [1, 1, 1, 0.6],
        "validation loss at the best time",
    ),
]


@pytest.mark.parametrize(("module", "field", "change", "what"), BREAK)
def test_what_breaks_the_law_is_out(module, field, change, what):
    data = OBEY[module](np.random.default_rng(0))
    lines = module.findings(dataclasses.replace(data, **{field: change(data)}))
    meant = [line for line in lines if what in line.what and line.ok is not None]
    assert len(meant) >= 1
    assert any(line.ok is False for line in meant), meant


@pytest.mark.parametrize("module", OBEY, ids=named)
def test_every_judged_line_can_be_out(module):
    data = OBEY[module](np.random.default_rng(0))
    judged = {line.what for line in module.findings(data) if line.ok is not None}
    broken = {
        line.what
        for other, field, change, what in BREAK
        if other is module
        for line in module.findings(dataclasses.replace(data, **{field: change(data)}))
        if what in line.what and line.ok is False
    }
    assert judged - broken == set()


def test_the_published_eigenvalues_are_in_the_report():
    lines = fig3a.findings(figure_3a(np.random.default_rng(0)))
    for number in ("0.0457", "0.00108", "0.00078"):
        assert sum(line.expected == number for line in lines) == 3  # limit, network, mean of batches


def test_the_lines_of_the_docs_are_those_of_today():
    """docs/paper.md comes from a run that takes minutes; here only its words are compared, not its numbers."""

    def words(text):
        return re.sub(r"\d+", "0", re.sub(r"^(erf|tanh|gelu)\b", "relu", text))

    text = (Path(__file__).parent.parent / "docs" / "paper.md").read_text(encoding="utf-8")
    sections = dict(section.split("\n", 1) for section in text.split("\n## ")[1:])
    for module, example in OBEY.items():
        rows = re.findall(r"^\| ([^|\s][^|]*) \|", sections[module.EXPERIMENT.title].replace("\\|", "¦"), re.MULTILINE)
        today = {words(line.what.replace("|", "¦")) for line in module.findings(example(np.random.default_rng(0)))}
        assert rows
        assert {words(row) for row in rows} - today == set()


@pytest.mark.parametrize("module", OBEY, ids=named)
def test_captions_and_figures_are_made_of_any_data(module):
    data = OBEY[module](np.random.default_rng(0))
    assert "[" not in module.caption(data)
    assert len(repr(data)) < 1200
    assert module.plot(data).get_axes()


# --- exponents


def test_exponents_that_chance_may_hide_are_not_judged():
    rng = np.random.default_rng(0)
    widths = [100, 200]
    samples = powers(widths, -1)[:, None] * spread(rng, 0.01, 2, 5)
    assert verdicts.exponent("s", -1, verdicts.power_law(widths, samples)).ok
    unknown = verdicts.exponent("s", -1, verdicts.power_law(widths, spread(rng, 1, 2, 2)))
    assert unknown.ok is None
    assert "to tell" in unknown.tolerance
    for samples in (-np.ones((2, 3)), np.zeros((2, 3)), np.full((2, 3), np.nan)):
        assert verdicts.exponent("s", -1, verdicts.power_law(widths, samples)).ok is False


def test_one_width_or_one_sample_tell_nothing():
    for widths, samples in (([100], np.ones((1, 5))), ([100, 200], np.ones((2, 1))), ([100, 100], np.ones((2, 4)))):
        unknown = verdicts.exponent("s", -1, verdicts.power_law(widths, samples))
        assert (unknown.ok, unknown.tolerance) == (None, "widths too few or too close to tell")
    assert verdicts.less("x", [[1.0], [2.0]]).ok is None
    few = theorem1.Convergence(theorem1.PAPER, np.array([64]), np.ones((1, 3)), np.ones((1, 3)), np.ones(1))
    assert theorem1.findings(few)[0].ok is None
    for samples in ([1.0], [1.0, 2.0]):
        assert verdicts.mean_near("x", 5.0, samples, 0.0).ok is None


def test_what_is_less_beyond_chance():
    rng = np.random.default_rng(0)
    small, large = spread(rng, 0.05, 2), 2 * spread(rng, 0.05, 2)
    assert verdicts.less("x", [small, large]).ok is True
    assert verdicts.less("x", [large, small]).ok is False
    assert verdicts.less("x", [small, 1.01 * small]).ok is None
    assert verdicts.less("x", [small, [np.inf, 1.0]]).ok is None  # a time that is never reached
    assert verdicts.less("x", [small, [np.nan, 1.0]]).ok is False
    equal = [verdicts.less("x", spread(rng, 0.2, 2, 4)).ok for _ in range(2000)]
    assert np.mean([ok is not None for ok in equal]) < 0.1 + 4 * np.sqrt(0.1 / 2000)  # 1 in 20 on either side


def test_right_exponents_are_seldom_out():
    rng = np.random.default_rng(0)
    widths = [100, 1000, 10000]
    found = [
        verdicts.exponent(
            "s", -0.5, verdicts.power_law(widths, powers(widths, -0.5)[:, None] * spread(rng, 0.2, 3, 2)), 0, 0
        ).ok
        for _ in range(2000)
    ]
    judged = [ok for ok in found if ok is not None]
    assert len(judged) > 1800
    # 1 in 200; the spread of logarithms of means is a little smaller than that of the means
    assert np.mean(np.logical_not(judged)) < 0.005 + 4 * np.sqrt(0.005 / len(judged))


# --- the exact fourth moment of narrow networks


@pytest.mark.parametrize(("depth", "width", "w", "b"), [(2, 3, 1.0, 0.1), (3, 5, 1.4, 0.3), (4, 20, 1.0, 0.0)])
def test_excess_kurtosis(depth, width, w, b):
    rng = np.random.default_rng(0)
    n = 400000
    variance = np.full(n, w**2 / 2 + b**2)  # of the first layer for |x| = 1 and two inputs
    for _ in range(depth - 1):
        z = np.sqrt(variance)[:, None] * rng.standard_normal((n, width))
        variance = w**2 * np.mean(np.maximum(z, 0) ** 2, axis=1) + b**2
    fourth = 3 * variance**2 / variance.mean() ** 2
    exact = proposition1.excess_kurtosis(nf.MLP(depth, "relu", w, b), width)
    assert abs(fourth.mean() - 3 - exact) < 5 * fourth.std() / np.sqrt(n)
    assert proposition1.excess_kurtosis(nf.MLP(depth, "tanh", w, b), width) is None
