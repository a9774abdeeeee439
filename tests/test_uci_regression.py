"""The comparison on UCI data, with made-up data in the layout of Gal's splits."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import cli
from ntkfast.experiments import uci_regression as module

N, M = 30, 10


@pytest.fixture
def folder(tmp_path):
    """yacht and energy with two splits each: a constant feature, an unused column, targets in large units."""
    for name in ("yacht", "energy"):
        at = tmp_path / "UCI_Datasets" / name / "data"
        at.mkdir(parents=True)
        rng = np.random.default_rng(0)
        X = np.column_stack([rng.normal(size=(N + M, 2)), np.ones(N + M)])
        y = 1000 + 50 * np.sin(X[:, 0]) + 2 * rng.normal(size=N + M)
        np.savetxt(at / "data.txt", np.column_stack([X, y, rng.normal(size=N + M)]))
        np.savetxt(at / "index_features.txt", [0, 1, 2], fmt="%d")
        np.savetxt(at / "index_target.txt", [3], fmt="%d")
        for number in range(2):
            order = rng.permutation(N + M)
            np.savetxt(at / f"index_train_{number}.txt", order[:N], fmt="%.18e")  # as Gal's are
            np.savetxt(at / f"index_test_{number}.txt", order[N:], fmt="%.18e")
    return tmp_path / "UCI_Datasets"


def test_scores_are_in_units_of_the_target(folder):
    """Against the same Gaussian process in units of the target, from the numbers that were fitted."""
    X, y, X_test, y_test = module.split(folder, "yacht", 1)
    assert X.shape == (N, 3)
    assert y_test.shape == (M,)
    fits = module.run(folder, folder / "r.jsonl", ["yacht"], splits=2, n_threads=1, say=lambda line: None)
    assert [(fit.split, fit.kernel) for fit in fits] == [(0, "nngp"), (0, "ntk"), (1, "nngp"), (1, "ntk")]
    for fit in fits[2:]:
        net = nf.with_hyperparameters(module.NETWORK, fit.hyperparameters)
        scale = np.where(X.std(axis=0) == 0, 1, X.std(axis=0))
        A, B = (X - X.mean(axis=0)) / scale, (X_test - X.mean(axis=0)) / scale
        K, C, D = (y.var() * nf.kernels(net, *points, get=fit.kernel) for points in ((A,), (B, A), (B,)))
        noise = y.var() * fit.noise
        inverse = np.linalg.inv(K + noise * np.eye(N))
        mean = y.mean() + C @ inverse @ (y - y.mean())
        deviation = np.sqrt(np.diag(D - C @ inverse @ C.T) + noise)
        assert fit.rmse == pytest.approx(np.sqrt(np.mean((mean - y_test) ** 2)), rel=1e-4)
        density = np.exp(-(((mean - y_test) / deviation) ** 2) / 2) / np.sqrt(2 * np.pi) / deviation
        assert fit.log_likelihood == pytest.approx(np.log(density).mean(), abs=1e-3)
        assert fit.rmse < 10
        assert fit.converged


def test_a_run_continues(folder):
    results, said = folder / "r.jsonl", []
    first = module.run(folder, results, ["yacht"], splits=1, say=said.append)
    assert module.read(results) == first
    both = module.run(folder, results, ["yacht"], splits=2, say=said.append)
    assert len(said) == 4
    assert module.read(results) == both
    assert both[:2] == first


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("data", "1 2\n3\n", "expected a table of numbers, got"),
        ("data", "", "expected a table of numbers, got none"),
        ("data", "1 2 3 nan\n", "expected finite numbers"),
        ("index_target", "5\n", "expected integers from 0 to 4"),
        ("index_train_0", "-1\n", "expected integers from 0 to 39"),
        ("index_test_0", "0.5\n", "expected integers from 0 to 39"),
    ],
)
def test_damaged_splits_are_named(file, content, words, folder):
    path = folder / "yacht" / "data" / f"{file}.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        module.split(folder, "yacht", 0)
    assert str(path) in str(caught.value)


def test_page():
    fit = module.Fit("energy", "nngp", 0, 0.4, -0.5, True, "", 100.0, 1e-3, [1.0], 2.0)
    again = dataclasses.replace(fit, split=1, rmse=0.5, converged=False)
    text = module.page([fit, again, dataclasses.replace(fit, kernel="ntk", rmse=0.6)])
    assert "| energy | 1, 2 | 0.450 ± 0.050 | 0.600 | 1.80 ± 0.05 |" in text
    assert "| energy | NNGP | 1 of 2 | 100.0 | 1.0e-03 | 2 s |" in text
    assert "yacht" not in text


def test_missing_files_are_named(folder):
    (folder / "energy" / "data" / "index_test_1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no energy/data/index_test_1\.txt$"):
        module.run(folder, folder / "r.jsonl", ["yacht", "energy"], splits=2)
    assert not (folder / "r.jsonl").exists()


FIT = module.Fit("yacht", "nngp", 0, 0.4, -0.5, True, "", 100.0, 1e-3, [1.0], 2.0)
GOOD = json.dumps(dataclasses.asdict(FIT)).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"oops",
        b"\xff",
        b"[1]",
        b"{}",
        GOOD[:50],
        GOOD.replace(b"0.4", b'"0.4"'),
        GOOD.replace(b"0.4", b"NaN"),
        GOOD.replace(b"true", b"1"),
        GOOD.replace(b"[1.0]", b"1.0"),
        GOOD.replace(b"nngp", b"nnpg"),
        GOOD.replace(b"yacht", b"boat"),
    ],
)
def test_results_that_are_damaged_are_refused_in_one_line(line, folder):
    results = folder / "r.jsonl"
    results.write_bytes(GOOD + line)
    done = CliRunner().invoke(
        cli.main, ["uci-regression", str(folder), "--data", "yacht", "--splits", "1", "--results", str(results)]
    )
    assert done.exit_code == 2
    place = "" if line == b"\xff" else " in line 2"
    assert done.stderr.startswith("ntkfast: --results: expected fits of ntkfast uci-regression in")
    assert f"got something else{place} (" in done.stderr
    with pytest.raises(ValueError, match="results: expected fits"):
        module.read(results)
    assert done.stderr.count("\n") == 1
    assert results.read_bytes() == GOOD + line


def test_command(folder):
    arguments = ["uci-regression", str(folder), "--data", "yacht", "--splits", "1", "--threads", "1"]
    where = ["--results", str(folder / "r.jsonl"), "--out", str(folder / "page.md")]
    done = CliRunner().invoke(cli.main, arguments + where)
    assert done.exit_code == 0, done.output
    assert (folder / "page.md").read_text() == module.page(module.read(folder / "r.jsonl"))
    for wrong, words in ((["--data", "yatch"], "--data: expected one of"), (["--splits", "3"], "has no energy/data")):
        failed = CliRunner().invoke(cli.main, ["uci-regression", str(folder), "--data", "energy", *wrong, *where])
        assert failed.exit_code == 2
        assert words in failed.output
