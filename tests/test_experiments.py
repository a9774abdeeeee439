"""The paper's experiments at small size: data, figures, the report, and the command that produces them."""

import dataclasses
import errno
import functools
import gzip
import hashlib
import inspect
import json
import signal
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import cli, datasets
from ntkfast.datasets import MNIST, DataError
from ntkfast.experiments import (
    early_stopping,
    fig1,
    fig2,
    fig3a,
    fig3bc,
    inflation,
    mnist,
    networks,
    paper,
    proposition1,
    proposition2,
    random_features,
    results,
    storage,
    theorem1,
    theorem2,
    training,
    verdicts,
)
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.support import memory

TINY = {
    "fig1": {"widths": (20, 60), "n_seeds": 2, "n_initial": 3, "n_train": 5, "steps": 6},
    "fig2": {"widths": (10, 20), "n_seeds": 3, "n_initial": 3, "wide": 100, "steps": 20},
    "fig3a": {"n": 40, "wide": 100, "narrow": 50, "n_networks": 3, "n_batches": 3},
    "fig3bc": {"widths": (20, 40), "learning_rates": (2.0, 4.0), "n": 40, "n_initial": 3, "time": 80, "n_times": 4},
    "theorem1": {"widths": (16, 64), "n_seeds": 3, "n": 6},
    "theorem2": {"widths": (16, 64), "n_seeds": 2, "n": 6, "time": 16},
    "proposition1": {"widths": (8, 64), "n_seeds": 50},
    "proposition2": {"names": ("relu", "quadratic"), "depths": (2, 3), "n": 30},
    "random_features": {"n_features": (10, 100), "n_seeds": 5, "n": 6},
    "early_stopping": {"n": 40, "n_validation": 60},
    "beyond": {"widths": (8, 16), "n_networks": 5},
    "inflation": {"widths": (30, 60), "n_networks": (4, 3), "n_points": 3, "steps": 10},
}


def noise(n, seed=0):
    rng = np.random.default_rng(seed)
    return MNIST(rng.integers(0, 256, (n, 784), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8))


@pytest.fixture
def tiny(monkeypatch):
    """All experiments at sizes that take a moment."""
    small = [
        dataclasses.replace(each, run=functools.partial(each.run, **TINY[each.name])) for each in paper.EXPERIMENTS
    ]
    monkeypatch.setattr(paper, "EXPERIMENTS", tuple(small))


@pytest.fixture
def change(tiny, monkeypatch):
    """change(name, field=...): an experiment with another value of a field, at a size that takes a moment."""

    def changed(name, **fields):
        others = [dataclasses.replace(each, **fields) if each.name == name else each for each in paper.EXPERIMENTS]
        monkeypatch.setattr(paper, "EXPERIMENTS", tuple(others))

    return changed


def experiment(name):
    (found,) = (each for each in paper.select(name) if each.name == name)  # a figure may have the name, too
    return found


def command(*arguments):
    return CliRunner().invoke(cli.main, ["paper", *map(str, arguments)])


# --- the experiments as values


def test_experiments_are_imported_when_they_are_used():
    code = """
import sys
import ntkfast as nf
assert not [name for name in sys.modules if name.startswith("ntkfast.experiments")]
assert set(nf.experiments.__all__) <= set(dir(nf.experiments))
assert [name for name in sys.modules if name.startswith("ntkfast.experiments.")] == []
assert nf.experiments.fig1.run is sys.modules["ntkfast.experiments.fig1"].run
assert "ntkfast.experiments.fig2" not in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'fig9'"):
        nf.experiments.fig9  # noqa: B018


@pytest.mark.parametrize("each", paper.EXPERIMENTS, ids=lambda each: each.name)
def test_an_experiment_is_what_its_module_defines(each):
    module = getattr(nf.experiments, each.name)
    assert each is module.EXPERIMENT
    for name in ("run", "plot", "findings", "caption"):
        assert getattr(each, name) is getattr(module, name)
    parameters = inspect.signature(each.run).parameters
    assert ("data" in parameters) == each.needs_mnist
    assert ("parts" in parameters) == each.resumable
    assert ("net" in parameters) == (each.network is not None)
    assert set(each.full) <= set(each.sizes(full=False))


def test_figures_are_selected_by_name():
    assert [each.name for each in paper.select("fig3")] == ["fig3a", "fig3bc"]
    assert paper.select("all") == paper.EXPERIMENTS
    with pytest.raises(ValueError, match=r"figure: expected one of fig1, .*, got 'fig9'"):
        paper.select("fig9")


def test_mnist_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="digits: fig3a expected MNIST's training set, got None"):
        paper.run(fig3a.EXPERIMENT, tmp_path)


def test_the_command_line_puts_arguments_into_its_own_words(tmp_path):
    with pytest.raises(OSError, match=r"^out: expected a folder, got an empty name"), results.exclusive(""):
        pass
    assert command("fig1", "--out", "").output == "ntkfast: --out: expected a folder, got an empty name\n"


# --- each experiment against known facts


def test_figure_1_is_the_kernel_of_the_networks():
    data = fig1.run(**TINY["fig1"])
    assert data.limit[50] == pytest.approx(0.2825, abs=1e-14)
    f = networks.network(networks.relu_network(4), 2, 20, 0, 1)
    points = networks.circle(data.gamma)
    J = f.jacobian(points)[:, 0].astype(float)
    # float32: a few units in the last place of the diagonal
    np.testing.assert_allclose(data.kernels[0, 1, 0], J[50] @ J.T, atol=1e-5)
    np.testing.assert_allclose(data.initial[0, 1], data.kernels[0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(data.traces[0, 1, 0], np.mean(np.sum(J * J, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(data.variance.mean(axis=1), data.initial.var(axis=1, ddof=1).mean(axis=1), rtol=1e-10)


def test_figure_2_limits_are_the_flow_at_infinity():
    data = fig2.run(widths=(40,), n_seeds=2, n_initial=2, wide=2000, steps=600)
    points, X = networks.circle(data.gamma), networks.circle(data.data_gamma)
    net = networks.relu_network(4)
    A = np.linalg.solve(nf.ntk(net, X), nf.ntk(net, X, points)).T  # Θ(x, X) Θ(X, X)⁻¹
    low, mean, high = data.percentiles
    np.testing.assert_allclose(mean, A @ data.targets, atol=1e-10)
    S = nf.nngp(net, X, points)
    covariance = nf.nngp(net, points) + A @ nf.nngp(net, X) @ A.T - A @ S - S.T @ A.T
    np.testing.assert_allclose(((high - low) / 2.5631031310892007) ** 2, covariance.diagonal(), atol=1e-10)
    f = networks.network(net, 2, 40, 0, 1)
    np.testing.assert_allclose(data.initial[0, 1], [nf.empirical_ntk(f, X), nf.empirical_nngp(f, X)], rtol=1e-5)
    np.testing.assert_allclose(data.percentiles_of(10**9), data.percentiles, atol=1e-6)
    # the kernels of a wide network are within a few 1/√n of the limit's
    assert np.abs(data.wide_percentiles - data.percentiles).max() < 5 / np.sqrt(2000)
    assert np.abs(data.errors).max() < 0.1


def test_figure_3a_finds_the_components():
    digits = noise(60)
    data = fig3a.run(digits, **TINY["fig3a"])
    X, labels = fig3a.batch(digits, 40, 0)
    K = nf.ntk(networks.relu_network(5), X) / 40
    np.testing.assert_allclose(data.eigenvalues, np.linalg.eigvalsh(K)[:-4:-1], rtol=1e-12)
    np.testing.assert_array_equal(data.digits, labels)
    wide = nf.empirical_ntk(networks.network(networks.relu_network(5), 784, 100, 0, 0), X).astype(float) / 40
    np.testing.assert_allclose(data.wide_eigenvalues, np.linalg.eigvalsh(wide)[:-4:-1], rtol=1e-6)
    assert (np.sum(data.components * data.wide_components, axis=0) >= 0).all()
    narrow = nf.empirical_ntk(networks.network(networks.relu_network(5), 784, 50, 0, 1), X).astype(float)
    np.testing.assert_allclose(data.rows[1], narrow[0], rtol=1e-5)
    np.testing.assert_allclose(data.squares[1], (np.linalg.norm(narrow / 40 - K) / np.linalg.norm(K)) ** 2, rtol=1e-3)


def test_figure_3bc_splits_the_error():
    digits = noise(60)
    data = fig3bc.run(digits, **TINY["fig3bc"], n_trials=1)
    X, _ = fig3a.batch(digits, 40, 0)
    net = networks.relu_network(5)
    f = networks.network(net, 784, 20, 0, 0)
    component = LeastSquaresFlow(nf.ntk(net, X), np.zeros(40)).eigenfunctions(2)[:, 1]
    run = nf.train(f, X, f(X)[:, 0] + 0.5 * component, steps=40, learning_rate=2.0)
    # C = ½(‖g‖² + ‖h‖²); the signs of f^(2) may differ, which is another target for the same distances at t = 0 only
    np.testing.assert_allclose(data.along[:, :, 0], 0.5, rtol=1e-5)
    np.testing.assert_allclose(data.deviation[:, :, 0], 0, atol=1e-6)
    squares = (data.along**2 + data.deviation**2)[0, 0] / 2
    np.testing.assert_allclose(squares, run.losses[::10], rtol=1e-3)
    K = nf.empirical_ntk(f, X).astype(float)
    np.testing.assert_allclose(data.rates[0, 0, 0], component @ K @ component / 40**2, rtol=1e-4)
    K = nf.empirical_ntk(networks.network(net, 784, 20, 0, 1, 2), X).astype(float)
    np.testing.assert_allclose(data.initial_rates[0, 2], component @ K @ component / 40**2, rtol=1e-4)
    K = nf.finite_width(net, X, width=40, get="ntk_mean")
    np.testing.assert_allclose(data.theory_rates[1], component @ K @ component / 40**2, rtol=1e-10)


def test_theorem_1_and_2():
    found = theorem1.run(widths=(32, 512), n_seeds=8, n=8)
    slope, error, _ = verdicts.power_law(found.widths, found.errors)
    assert abs(slope + 0.5) < 3 * error + 0.1
    drift = theorem2.run(widths=(32, 256), n_seeds=4, n=8, time=100)
    assert (drift.drift[:, :, 0] == 0).all()
    assert drift.drift[1].max(axis=1).mean() < 0.5 * drift.drift[0].max(axis=1).mean()


def test_proposition_1_whitens():
    data = proposition1.run(widths=(200,), n_seeds=400)
    z = data.whitened[0]
    # covariance of 400 samples: I ± 1/√400, √2 more on the diagonal
    assert np.abs(z.T @ z / 400 - np.eye(4)).max() < 5 * np.sqrt(2 / 400)


def test_proposition_2_and_its_counterexample():
    data = proposition2.run(**TINY["proposition2"])
    np.testing.assert_array_equal(data.eigenvalues > data.errors, [[True, True], [False, False]])
    np.testing.assert_array_equal(data.certified, [True, False])
    assert proposition2.rank_bound(2, 3) == 9
    assert proposition2.rank_bound(3, 3) == 25


def test_random_features_have_the_error_of_theory():
    data = random_features.run(n_features=(10, 1000), n_seeds=50, n=6)
    assert all(finding.ok is not False for finding in random_features.findings(data))


def test_early_stopping_stops_before_the_end():
    data = early_stopping.run(n=60, n_validation=200)
    assert data.loss < data.validation_loss[-1]
    np.testing.assert_allclose(data.remaining, np.exp(-data.t * data.eigenvalues), atol=1e-8)


def test_inflation_is_that_of_theory_and_of_trained_networks():
    tiny = TINY["inflation"]
    data = inflation.run(**tiny)
    points = networks.circle(inflation.START + 2 * np.pi * np.arange(3) / 3)
    y = points[:, 0] * points[:, 1]
    theory = nf.kernel_change(data.net, points, y, width=1000, steps=tiny["steps"], rng=0)
    assert data.predicted == pytest.approx(1000 * theory.inflation)
    assert data.in_the_end != data.predicted
    assert data.widths.tolist() == [30] * 4 + [60] * 3
    for net, measured in ((data.net, data.inflation), (inflation.KINKED, data.kinked)):
        f = networks.network(net, 2, 60, 0, 2)
        trained = [nf.train(f, points, sign * y, steps=tiny["steps"], progress=False).network for sign in (1, -1)]
        before, *after = (np.trace(nf.empirical_ntk(g, points)) for g in (f, *trained))
        expected = (np.mean(after) - before) / np.trace(nf.ntk(net, points))
        assert measured[-1] == pytest.approx(expected, rel=1e-3)


def test_the_fit_of_the_inflation_of_relu_networks():
    """r/√n + c/n with noise of order 1/n: over 200 draws r is unbiased, and its standard error is its scatter.

    The mean of 200 z-scores is within 5/√200 of 0, their variance, of Student's t, within 5 √(2/200) of 1.
    """
    rng, widths, scores = np.random.default_rng(0), np.repeat([100, 400, 1600], [60, 30, 15]), []
    for _ in range(200):
        kinked = -1.4 * widths**-0.5 + (17 + 4 * rng.standard_normal(len(widths))) / widths
        r, error = inflation.Inflation(inflation.SMOOTH, 200, 5, widths, kinked, kinked, 4.3, 0.01, 4.4).root
        scores.append((r + 1.4) / error)
    assert abs(np.mean(scores)) < 5 / 200**0.5
    assert abs(np.var(scores) - 1) < 5 * (2 / 200) ** 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (30, 60), "n_networks": (4,)}, "n_networks: expected a number for each of at least two"),
        ({"widths": (30, 30), "n_networks": (4, 4)}, "n_networks: expected a number for each of at least two"),
        ({"widths": (30, 60), "n_networks": (4, 4), "n_points": 31}, "n_points: expected at most 30"),
        ({"widths": (1, 60), "n_networks": (4, 4)}, "width: expected at least 2"),
        ({"widths": (30, 60), "n_networks": (4, 4), "net": nf.MLP(3)}, "net: expected smooth activations"),
    ],
)
def test_inflation_without_a_theory(options, words):
    with pytest.raises((ValueError, nf.ActivationError), match=words):
        inflation.run(**options)


@pytest.mark.parametrize("name", [name for name in TINY if name != "proposition2"])
def test_other_networks_than_the_papers(name):
    """All except proposition 2 take a network, and claim about another network only what does not need the paper's."""
    module = experiment(name)
    net = nf.MLP(3, "erf", 1.2, 0.3)
    digits = (noise(60),) if module.needs_mnist else ()
    data = module.run(*digits, **TINY[name], net=net)
    of_paper = {"0.2825", *(f"{value:.4g}" for value in fig3a.PUBLISHED), "about 10"}
    assert not any(line.expected in of_paper for line in module.findings(data))
    assert module.plot(data).get_axes()
    caption = module.caption(data)
    assert "ReLU" not in caption
    assert "erf, L = 3, w = 1.2, β = 0.3" in caption or name in ("random_features", "early_stopping")


def test_networks_in_the_papers_letters():
    assert networks.described(nf.MLP(4, "relu", 1.0, 0.1)) == "ReLU, L = 4, β = 0.1"
    assert networks.described(nf.MLP(1, "relu", 2.0)) == "L = 1, w = 2, β = 0"
    assert networks.described(nf.Network([nf.Dense(), "relu", nf.Dense(weight_std=2.0), "erf", nf.Dense()])) == "L = 3"
    assert networks.described(nf.Network([nf.Dense(), nf.LayerNorm(), "relu", nf.Dense()])) == "L = 2"
    assert networks.described(nf.Network([nf.Dropout(0.1), nf.Dense()])) == "L = 1"
    assert proposition1.excess_kurtosis(nf.Network([nf.Dropout(0.1), nf.Dense()]), 10) is None


@pytest.mark.parametrize("module", [fig1, fig2, theorem1, theorem2, proposition1], ids=lambda m: m.__name__[20:])
def test_widths_and_networks_that_cannot_be(module):
    with pytest.raises(ValueError, match="widths: expected at least one, got none"):
        module.run(widths=())
    with pytest.raises(TypeError, match="widths: expected an integer, got float"):
        module.run(widths=(16.5, 20))
    dropout = nf.Network([nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()])
    with pytest.raises(ValueError, match="net: expected a network without Dropout"):
        module.run(widths=(16, 20), net=dropout)


@pytest.mark.parametrize(
    ("n_networks", "message"),
    [(3, "a number for each width, got int"), ((1, 1), "at least 3 together"), ((2, 2, 2), "for each of at least two")],
)
def test_networks_from_whose_scatter_no_error_follows(n_networks, message):
    with pytest.raises((TypeError, ValueError), match=f"n_networks: expected .*{message}"):
        nf.experiments.inflation.run(widths=(16, 20), n_networks=n_networks, n_points=2, steps=3)


def test_times_that_no_number_of_steps_reaches(tmp_path):
    with pytest.raises(
        ValueError, match=r"learning_rates: expected divisors of the 20 between two observations, got \(2, 8\)"
    ):
        fig3bc.run(noise(60), **(TINY["fig3bc"] | {"learning_rates": (2, 8)}))
    with pytest.raises(ValueError, match=r"widths: expected ascending widths, got \[40, 20\]"):
        fig3bc.run(noise(60), **(TINY["fig3bc"] | {"widths": (40, 20)}))


def test_power_law():
    rng = np.random.default_rng(0)
    widths = np.array([10, 100, 1000])
    exact = 3.0 * widths[:, None] ** -0.7 * np.ones(5)
    assert verdicts.power_law(widths, exact) == pytest.approx((-0.7, 0, 12))
    noisy = [verdicts.power_law(widths, exact * (1 + 0.1 * rng.standard_normal((3, 5))))[:2] for _ in range(300)]
    slopes, errors = np.transpose(noisy)
    np.testing.assert_allclose(slopes.std(), errors.mean(), rtol=0.25)  # of 300 samples: 4 %; of 5: the rest


# --- parts: finished work is not repeated


def stopper(after):
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) > after:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("save_every", [-1, 300])
def test_stopped_training_continues_to_the_same_bits(tmp_path, monkeypatch, save_every):
    monkeypatch.setattr(training, "SAVE_EVERY", save_every)
    monkeypatch.setattr(training, "SEGMENT", 3)
    sizes = {"widths": (16, 20), "n_seeds": 2, "n": 6, "time": 20}
    whole = theorem2.run(**sizes)
    parts = storage.Parts(tmp_path / "parts")
    stops = 0
    for after in (5, 30, 31, 60, 10**6):
        try:
            again = theorem2.run(**sizes, parts=parts, progress=stopper(after))
            break
        except KeyboardInterrupt:
            stops += 1
            assert list(parts.folder.iterdir())
    assert stops >= 2
    np.testing.assert_array_equal(again.drift, whole.drift)
    np.testing.assert_array_equal(again.movement, whole.movement)
    assert {path.name for path in parts.folder.iterdir()} == {f"n{n}-{k}.npz" for n in (16, 20) for k in (0, 1)}


def test_a_network_in_training_is_kept_until_its_result_is_safe(tmp_path, monkeypatch):
    """A full disk at the last moment loses nothing; a state whose network is gone is ignored."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1)
    monkeypatch.setattr(training, "SEGMENT", 3)
    sizes = {"widths": (16, 20), "n_seeds": 2, "n": 6, "time": 20}
    whole, parts, save = theorem2.run(**sizes), storage.Parts(tmp_path / "parts"), storage.save

    def full_disk(path, values):
        if path.name == "n16-1.npz":
            raise OSError("No space left on device")
        save(path, values)

    monkeypatch.setattr(storage, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        theorem2.run(**sizes, parts=parts)
    kept = {path.name for path in parts.folder.iterdir()}
    assert kept == {"n16-0.npz", "n16-1.state.npz", "n16-1.at-20"}
    monkeypatch.setattr(storage, "save", save)
    monkeypatch.setattr(training, "train", lambda *arguments, **options: pytest.fail("trained again"))
    with pytest.raises(pytest.fail.Exception):
        theorem2.run(**sizes, parts=parts)  # continues with the next network without training this one
    assert (parts.folder / "n16-1.npz").exists()
    monkeypatch.undo()
    storage.save(parts.folder / "n20-0.state.npz", {"step": 12, "n_seen": 1})  # but no n20-0.at-12
    np.testing.assert_array_equal(theorem2.run(**sizes, parts=parts).drift, whole.drift)


def test_results_survive_the_disk(tmp_path):
    data = proposition2.run(names=("relu",), depths=(2,), n=5)
    storage.save(tmp_path / "x.npz", storage.as_dict(data))
    found = storage.load(tmp_path / "x.npz")
    again = proposition2.Proposition2(**found)
    assert again.n == 5
    assert list(again.names) == ["relu"]
    np.testing.assert_array_equal(again.eigenvalues, data.eigenvalues)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut off"])
def test_damaged_results_count_as_missing(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    assert storage.load(tmp_path / "x.npz") is None
    assert storage.load(tmp_path / "y.npz") is None


# --- the command


def test_all_writes_everything(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(paper, "mnist", lambda part, folder: noise(60))
    out = tmp_path / "new" / "paper"
    result = command("all", "--out", out, "--threads", "1")
    assert result.exit_code in (0, 1), result.output  # at these sizes a number may well be out of tolerance
    for name in TINY:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (out / f"{name}.npz").exists()
    assert not (out / "parts").exists()
    report = (out / "report.md").read_text(encoding="utf-8")
    for number in ("0.2825", "quick sizes", "Seed 0"):
        assert number in report
    for each in paper.EXPERIMENTS:
        assert f"## {each.title}" in report
    assert "within tolerance" in result.output

    settings = {name: storage.load(out / f"{name}.npz")["settings"] for name in TINY}
    assert not any(" at 0x" in text for text in settings.values())  # the same in the next process
    assert {"version", "seed", "full", "net", "steps", *TINY["fig1"]} == set(json.loads(settings["fig1"]))
    again = command("fig1", "--out", out)  # found, and the report still has everything
    assert "found in" in again.output
    assert (out / "report.md").read_text(encoding="utf-8") == report
    (out / "fig1.npz").write_bytes(b"damaged")
    other = command("fig1", "--out", out, "--seed", "5")
    assert "found in" not in other.output
    data = paper.read(out, fig2.EXPERIMENT)
    np.testing.assert_array_equal(data.outputs, storage.load(out / "fig2.npz")["outputs"])
    assert fig2.plot(data).get_axes()
    with pytest.raises(FileNotFoundError, match=r"expected data of this version of ntkfast in .*fig2.npz"):
        paper.read(tmp_path, fig2.EXPERIMENT)
    assert "in place of" in command("early_stopping", "--out", out, "--seed", "5").output
    assert json.loads(storage.load(out / "fig1.npz")["settings"])["seed"] == 5


def test_a_quick_run_does_not_replace_a_full_one(tmp_path, change):
    change("early_stopping", full={"n": 41})
    paper.run(experiment("early_stopping"), tmp_path, full=True, progress=False)
    before = (tmp_path / "early_stopping.npz").read_bytes()
    with pytest.raises(FileExistsError, match=r"early_stopping.npz holds the data of a full run \(seed 0"):
        paper.run(experiment("early_stopping"), tmp_path, progress=False)
    result = command("theory", "--out", tmp_path)
    assert result.exit_code == 2
    assert "with other settings, which this run would replace" in result.output
    assert result.output.count("\n") == 1  # before any other experiment has begun
    assert (tmp_path / "early_stopping.npz").read_bytes() == before
    with pytest.raises(FileExistsError, match="which this run would replace"):  # also one of another seed
        paper.run(experiment("early_stopping"), tmp_path, full=True, seed=1, progress=False)
    paper.run(experiment("early_stopping"), tmp_path, full=True, progress=False)  # found
    found = storage.load(tmp_path / "early_stopping.npz")
    settings = found["settings"].replace(f'"version": "{nf.__version__}"', '"version": "0.0"')
    storage.save(tmp_path / "early_stopping.npz", found | {"settings": settings})
    with pytest.raises(FileExistsError, match="which this run would replace"):  # also of another version
        paper.run(experiment("early_stopping"), tmp_path, progress=False)


THIS = json.dumps({"version": nf.__version__, "seed": 0, "full": False})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"settings": "no json"},
        {"settings": "[1]"},
        {"settings": '{"version": "0.0"}'},
        {"settings": THIS},  # but none of today's arrays
    ],
)
def test_data_of_other_programs_and_versions_are_not_reported(tmp_path, tiny, values):
    storage.save(tmp_path / "fig2.npz", {"x": 1.0, **values})
    np.save(tmp_path / "theorem1.npz", np.ones(3))  # becomes theorem1.npz.npy
    (tmp_path / "theorem1.npz.npy").rename(tmp_path / "theorem1.npz")
    paper.run(experiment("early_stopping"), tmp_path, progress=False)
    assert {title for title, _ in paper.report(tmp_path)} == {"Section 5: early stopping"}


def test_a_number_out_of_tolerance_is_said(tmp_path, change):
    change("fig1", findings=lambda data: [verdicts.near("a number", 1.0, 2.0, 0.5)])
    result = command("fig1", "--out", tmp_path)
    assert result.exit_code == 1
    assert "a number: 2 (expected 1, tolerance ±0.5): out" in result.output
    assert "| a number | 1 | 2 | ±0.5 | **out** |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_exit_code_is_that_of_what_was_run(tmp_path, change):
    change("fig1", findings=lambda data: [verdicts.near("a number", 1.0, 2.0, 0.5)])
    change("early_stopping", findings=lambda data: [verdicts.near("another", 1.0, 1.0, 0.5)])
    assert command("fig1", "--out", tmp_path).exit_code == 1
    result = command("early_stopping", "--out", tmp_path)  # one experiment of the theory, by its own name
    assert result.exit_code == 0
    assert "1 of 1 within" in result.output
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "a number" in report
    assert "another" in report


def test_a_folder_is_of_one_process(tmp_path, tiny):
    with results.exclusive(tmp_path):
        result = command("early_stopping", "--out", tmp_path)
    assert result.exit_code == 2
    assert result.output == (
        f"ntkfast: --out: another process is using {tmp_path}; wait for it, or choose another folder\n"
    )
    left = tmp_path / ".ntkfast-0123.tmp"  # of a process that was killed
    left.touch()
    assert command("early_stopping", "--out", tmp_path).exit_code in (0, 1)
    assert not left.exists()


def test_figures_do_not_depend_on_the_users_settings(tmp_path, tiny):
    assert command("early_stopping", "--out", tmp_path / "a").exit_code in (0, 1)
    with matplotlib.rc_context({"text.usetex": True, "font.size": 30}):  # LaTeX is not there
        assert command("early_stopping", "--out", tmp_path / "b").exit_code in (0, 1)
    assert (tmp_path / "a" / "early_stopping.png").read_bytes() == (tmp_path / "b" / "early_stopping.png").read_bytes()


def test_nobody_reads_what_a_long_run_tells(monkeypatch):
    def closed(*arguments, **options):
        raise BrokenPipeError

    monkeypatch.setattr(cli.shared.click, "echo", closed)
    cli.shared.say("a line")


def test_terminated_runs_end_like_interrupted_ones(tmp_path, change):
    change("fig1", run=lambda seed, parts, progress: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    result = command("fig1", "--out", tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert result.exit_code == 130
    assert "continue from the finished networks" in result.output


def test_a_group_without_a_command_shows_its_help():
    result = command()
    assert result.exit_code == 2
    assert result.output.startswith("Usage: ntkfast paper")


def test_a_full_disk_leaves_the_figure_as_it_was(tmp_path, tiny, monkeypatch):
    assert command("early_stopping", "--out", tmp_path).exit_code in (0, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(self, file, **options):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    result = command("early_stopping", "--out", tmp_path)
    assert result.exit_code == 2
    assert result.output.endswith(f"ntkfast: [Errno 28] No space left on device: '{tmp_path}/early_stopping.png'\n")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fig1", "--seed", "x"), "paper fig1: Invalid value for '--seed'"),
        (("fig1", "--seed", "-1"), "paper fig1: Invalid value for '--seed'"),
        (("fig1", "--threads", "0"), "paper fig1: Invalid value for '--threads'"),
        (("fig1", "--nothing"), "paper fig1: No such option"),
        (("mnist", "--ridge", "nan"), "paper mnist: Invalid value for '--ridge': expected a finite number"),
        (("mnist", "--ridge", "inf"), "paper mnist: Invalid value for '--ridge'"),
        (("mnist", "--ridge", "1e300"), "paper mnist: Invalid value for '--ridge'"),
        (("mnist", "--n", "60001"), "paper mnist: Invalid value for '--n'"),
        (("mnist", "--depth", "9" * 20), "paper mnist: Invalid value for '--depth'"),
        (("fig2", "--threads", "9" * 20), "paper fig2: Invalid value for '--threads'"),
    ],
)
def test_arguments_that_cannot_be_are_told_in_one_line(arguments, words):
    result = command(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith(f"ntkfast: {words}")
    assert result.output.count("\n") == 1


def test_a_terminal_without_greek(tmp_path, change):
    change("fig1", findings=lambda data: [verdicts.near("Θ", 1.0, 2.0, 0.5)])
    result = CliRunner(charset="latin-1").invoke(cli.main, ["paper", "fig1", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "?: 2 (expected 1" in result.output


def test_a_stopped_command_says_so(tmp_path, change):
    def stopped(seed, parts, progress):
        raise KeyboardInterrupt

    change("fig1", run=stopped)
    result = command("fig1", "--out", tmp_path)
    assert result.exit_code == 130
    assert "continue from the finished networks" in result.output


def test_unknown_figure():
    result = command("fig9")
    assert result.exit_code == 2
    assert result.output.startswith(
        "ntkfast: paper: unknown figure fig9; the known ones are fig1, fig2, fig3, theory, beyond, all, mnist"
    )
    assert "early_stopping" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("name", ["fig1", "all", "mnist"])
def test_folder_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    result = command(name, "--out", tmp_path / "file" / "x")
    assert result.exit_code == 2
    assert result.output.startswith("ntkfast: --out: ")
    assert result.output.count("\n") == 1


# --- MNIST


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Four small files in the right format, with checksums to match."""
    contents = {}
    for part, (prefix, n) in {"train": ("train", 30), "test": ("t10k", 20)}.items():
        digits = noise(n, seed=n)
        headers = np.array([2051, n, 28, 28], ">u4").tobytes(), np.array([2049, n], ">u4").tobytes()
        contents[f"{prefix}-images-idx3-ubyte"] = headers[0] + digits.images.tobytes()
        contents[f"{prefix}-labels-idx1-ubyte"] = headers[1] + digits.labels.tobytes()
        monkeypatch.setitem(datasets.PARTS, part, (prefix, n))
    for name, content in contents.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        monkeypatch.setitem(datasets.SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.delenv("NTKFAST_DATA", raising=False)
    return tmp_path


def test_mnist_is_read(small_mnist, monkeypatch):
    found = datasets.mnist("test", small_mnist)
    np.testing.assert_array_equal(found.images, noise(20, seed=20).images)
    np.testing.assert_array_equal(found.labels, noise(20, seed=20).labels)
    packed = small_mnist / "t10k-labels-idx1-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    monkeypatch.setenv("NTKFAST_DATA", str(small_mnist))
    np.testing.assert_array_equal(datasets.mnist("test").labels, found.labels)
    with pytest.raises(ValueError, match="part: expected 'train' or 'test', got 'all'"):
        datasets.mnist("all")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other", "no archive"])
def test_missing_or_damaged_files_are_named(small_mnist, damage):
    path = small_mnist / "train-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[:-9], "other": gzip.compress(b"x"), "no archive": b"x"}[damage])
    with pytest.raises(DataError) as caught:
        datasets.mnist("train", small_mnist)
    message = str(caught.value)
    assert "train-labels-idx1-ubyte.gz" in message
    assert damage == "missing" or datasets.SHA256["train-labels-idx1-ubyte"] in message
    for way in ("as folder", "NTKFAST_DATA", "download_mnist"):  # in Python's words
        assert way in message
    result = command("fig3", "--data", small_mnist, "--out", small_mnist / "out")
    assert result.exit_code == 2
    assert result.output.startswith(f"ntkfast: {caught.value.problem}; ")
    for way in ("--data", "NTKFAST_DATA", "--download"):  # and in those of the command line
        assert way in result.output
    assert result.output.count("\n") == 1


def test_no_folder_is_known(small_mnist):
    result = command("fig3", "--out", small_mnist / "out")
    assert result.exit_code == 2
    assert "no folder was given" in result.output


def test_download_writes_the_four_files(small_mnist, monkeypatch):
    openml = pytest.importorskip("sklearn.datasets")
    both = noise(30, seed=30), noise(20, seed=20)
    images, labels = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
    sent = images.astype(float), labels.astype(str).astype(object)  # as OpenML has them
    monkeypatch.setattr(openml, "fetch_openml", lambda name, **options: sent)
    folder = datasets.download_mnist(small_mnist / "new")
    for part, digits in zip(("train", "test"), both, strict=True):
        found = datasets.mnist(part, folder)
        np.testing.assert_array_equal(found.images, digits.images)
        np.testing.assert_array_equal(found.labels, digits.labels)
    sent[0][3, 5] += 1
    with pytest.raises(DataError, match="OpenML sent a different train-images"):
        datasets.download_mnist(small_mnist / "other")


def test_download_without_a_network(tmp_path, monkeypatch):
    openml = pytest.importorskip("sklearn.datasets")

    def fail(name, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(openml, "fetch_openml", fail)
    result = command("fig3", "--download", "--data", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "could not be fetched from OpenML: no route to host" in result.output


def test_regression_is_that_of_a_solver_in_float64():
    train, test = noise(80), noise(30, seed=1)
    found = mnist.run(train, test, n=60, depth=3, ridge=1e-3)
    net = networks.relu_network(3)
    X, T = train.images[:60] / 256, test.images / 256
    K = nf.ntk(net, X)
    K += 1e-3 * K.diagonal().mean() * np.eye(60)
    exact = nf.ntk(net, T, X) @ np.linalg.solve(K, np.eye(10)[train.labels[:60]] - 0.1)
    condition = np.linalg.cond(K)
    assert condition < 1e4
    np.testing.assert_allclose(found.outputs, exact, atol=10 * condition * 2**-24)
    assert found.accuracy == np.mean(exact.argmax(axis=1) == test.labels)
    assert len(found.seconds) == len(found.steps) == 4


def test_regression_refuses_what_does_not_fit(small_mnist, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 2**10)
    with pytest.raises(MemoryError, match=r"the kernel of 40 images in float32 needs .* are available"):
        mnist.run(noise(40), noise(20))
    monkeypatch.setattr(memory, "available", lambda: 2**33)
    big = MNIST(np.lib.stride_tricks.as_strided(np.zeros(784, np.uint8), (60000, 784), (0, 1)), np.zeros(60000, int))
    with pytest.raises(MemoryError, match=r"n = 44000 would fit"):
        mnist.run(big, noise(20))
    monkeypatch.setattr(memory, "available", lambda: 2**10)
    result = command("mnist", "--data", small_mnist, "--out", small_mnist / "out")
    assert result.exit_code == 2
    assert "needs" in result.output


def test_regression_names_the_ridge():
    digits = noise(20)
    twice = MNIST(np.concatenate([digits.images, digits.images]), np.concatenate([digits.labels, digits.labels]))
    with pytest.raises(np.linalg.LinAlgError, match="ridge larger than 0"):
        mnist.run(twice, digits, ridge=0.0)
    with pytest.raises(ValueError, match="n: expected at most 40 training images, got 41"):
        mnist.run(twice, digits, n=41)


def test_mnist_command(small_mnist):
    result = command("mnist", "--data", small_mnist, "--out", small_mnist / "out", "--n", "25", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert "Cholesky factor" in result.output
    assert "test accuracy" in result.output
    found = storage.load(small_mnist / "out" / "mnist.npz")
    assert found["n"] == 25
    assert found["outputs"].shape == (20, 10)
