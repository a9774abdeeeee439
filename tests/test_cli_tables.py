"""The commands for tables, as a user calls them, on scikit-learn's own data in every format."""

import contextlib
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import cli

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")
datasets = pytest.importorskip("sklearn.datasets")


def run(*arguments):
    return CliRunner().invoke(cli.main, [*map(str, arguments), *(["--threads", "1"] if arguments[0] != "info" else [])])


def succeed(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == ""  # no bar where there is no terminal
    return result.stdout


def refuse(*arguments):
    """The message of a command that fails as it should."""
    result = run(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("ntkfast: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("ntkfast: ").strip()


def write(frame, path):
    writers = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: frame.to_parquet(path, row_group_size=100),
        ".feather": lambda: frame.to_feather(path, chunksize=100),
        ".npy": lambda: np.save(path, frame.to_numpy()),
        ".npz": lambda: np.savez(path, **{name: frame[name].to_numpy() for name in frame}),
    }
    writers[path.suffix]()
    return path


@pytest.fixture(scope="module")
def diabetes():
    return datasets.load_diabetes(as_frame=True).frame


@pytest.fixture(scope="module")
def fitted(diabetes, tmp_path_factory):
    """The folder of a table, its model and its figure."""
    folder = tmp_path_factory.mktemp("fitted")
    write(diabetes, folder / "table.csv")
    printed = succeed("fit", folder / "table.csv", "--target", "target", "-o", folder / "model.ntk", "--json")
    (folder / "report.json").write_text(printed)
    return folder


# --- fit


def test_fit_reports_scores_beside_other_models(fitted, diabetes):
    report = json.loads((fitted / "report.json").read_text())
    assert report["rows"] == 442
    assert report["task"] == "regression"
    assert (report["rows_trained_on"], report["rows_held_out"]) == (354, 88)
    names = [model["name"] for model in report["models"]]
    assert names == ["NTK, depth 3, relu", "ridge", "RBF kernel ridge", "random forest"]
    for model in report["models"]:
        assert 0.35 < model["leave_one_out"] < 0.6
        assert 0.35 < model["held_out"] < 0.65
    assert (fitted / "model.png").read_bytes().startswith(b"\x89PNG")


def test_scores_are_those_of_scikit_learn(diabetes):
    """Leave-one-out and held-out predictions against one fit for each row left out."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import LeaveOneOut, cross_val_predict

    from ntkfast.tabular import comparison
    from ntkfast.tabular.target import learn

    frame = diabetes[:60]
    X = frame.drop(columns="target").to_numpy()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    target = learn(frame["target"].to_numpy(), "target", None)
    y = target.encode(frame["target"].to_numpy())
    found = comparison.ridge_regression(target, X[:50], y[:50], X[50:], 0, 1)
    alpha = float(found.note.split()[-1])
    np.testing.assert_allclose(found.held_out, Ridge(alpha=alpha).fit(X[:50], y[:50]).predict(X[50:]), rtol=0.05)
    slow = cross_val_predict(Ridge(alpha=alpha), X[:50], y[:50], cv=LeaveOneOut())
    np.testing.assert_allclose(found.left_out, slow, atol=0.02)  # α is printed to three digits
    found = comparison.rbf_kernel_ridge(target, X[:50], y[:50], X[50:], 0, 1)
    gamma, alpha = (float(part.split()[-1]) for part in found.note.split(","))
    model = KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha)
    np.testing.assert_allclose(found.held_out, model.fit(X[:50], y[:50]).predict(X[50:]), atol=0.02)
    slow = cross_val_predict(model, X[:50], y[:50], cv=LeaveOneOut())
    np.testing.assert_allclose(found.left_out, slow, atol=0.02)


@pytest.mark.parametrize("compare", [False, True])
def test_the_bar_reaches_its_end(compare, diabetes):
    from ntkfast.tabular.fit import Options, fit
    from ntkfast.tabular.table import Table

    seen = []

    def step(name):
        seen.append(name)
        return contextlib.nullcontext()

    options = Options(compare=compare, n_rows=60, n_threads=1)
    fit(Table({name: diabetes[name].to_numpy() for name in diabetes}), "target", options, step)
    assert len(seen) == options.n_steps


def test_the_scores_can_be_recomputed(diabetes, tmp_path):
    """From the rows held out: the other rows give the standardisation; each is left out of a fit of its own."""
    from sklearn.metrics import r2_score

    frame = diabetes[:60]
    table = write(frame, tmp_path / "table.csv")
    options = ["--alpha", 2.0, "--held-out", 0.1, "--no-compare", "--no-figure", "--json"]
    report = json.loads(succeed("fit", table, "--target", "target", "-o", tmp_path / "m", *options))
    test = report["held_out_rows"]
    assert test == sorted(set(test))
    assert len(test) == report["rows_held_out"] == 6
    train = np.setdiff1d(np.arange(60), test)
    X, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    Z = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
    mean, scale = y[train].mean(), y[train].std()
    K = nf.ntk(nf.MLP(3, weight_std=2**0.5, bias_std=0.1), Z)

    def predicted(known, new):
        process = nf.GaussianProcess(K[np.ix_(known, known)], (y[known] - mean) / scale, noise=2.0)
        return mean + scale * process.mean(K[np.ix_(new, known)])

    left_out = [predicted(np.setdiff1d(train, [row]), [row])[0] for row in train]
    held_out = predicted(train, test)
    (found,) = report["models"]
    assert found["leave_one_out"] == pytest.approx(r2_score(y[train], left_out), rel=1e-8)
    assert found["held_out"] == pytest.approx(r2_score(y[test], held_out), rel=1e-8)
    assert found["held_out_rmse"] == pytest.approx(np.sqrt(np.mean((y[test] - held_out) ** 2)), rel=1e-8)


def test_a_ridge_at_the_end_of_its_grid_is_reported(tmp_path):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.standard_normal((100, 3)), columns=["a", "b", "c"])
    frame["y"] = frame["a"] + frame["b"]  # without noise, and linear, as the network is
    table = write(frame, tmp_path / "table.csv")
    fit = ["fit", table, "--target", "y", "-o", tmp_path / "m", "--no-figure", "--depth", 1]
    warning = "is the best; smaller ones may be better still\n"
    assert re.search(rf"\nalpha: the smallest of the ridges tried, [0-9.e-]+, {warning}", succeed(*fit))
    assert "alpha: " not in succeed(*fit, "--alpha", 1.0)
    assert json.loads(succeed(*fit, "--json"))["alpha_warning"].endswith(warning.strip())


def test_the_rows_held_out_are_those_of_the_table(diabetes, tmp_path):
    """Also of a sample of the rows: what is far off there is far off in the score."""
    table = write(diabetes, tmp_path / "table.csv")
    fit = ["fit", table, "--target", "target", "-o", tmp_path / "m", "--rows", 100, "--no-compare", "--no-figure"]
    report = json.loads(succeed(*fit, "--json"))
    (row, *_), expected = report["held_out_rows"], report["models"][0]
    assert report["rows"] == 100
    assert max(report["held_out_rows"]) > 100
    write(diabetes.assign(target=diabetes["target"].where(diabetes.index != row, 1e5)), table)
    found = json.loads(succeed(*fit, "--json"))["models"][0]
    assert found["held_out_rmse"] == pytest.approx((1e5 - diabetes["target"][row]) / 20**0.5, rel=0.01)
    assert found["leave_one_out"] == pytest.approx(expected["leave_one_out"], rel=1e-9)  # nothing of it is known


def test_the_model_is_that_of_the_estimator(fitted, diabetes):
    """All that the command does besides: standardise, and choose the ridge."""
    report = json.loads((fitted / "report.json").read_text())
    X, y = diabetes.drop(columns="target").to_numpy(), diabetes["target"].to_numpy()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    estimator = nf.sklearn.NTKRegressor(alpha=report["alpha"]).fit(Z, (y - y.mean()) / y.std())
    out = fitted / "plain.npy"
    succeed("predict", fitted / "model.ntk", fitted / "table.csv", "-o", out)
    np.testing.assert_allclose(np.load(out), y.mean() + y.std() * estimator.predict(Z), rtol=1e-9)


def test_deviations_are_calibrated(fitted, diabetes):
    out = fitted / "std.csv"
    succeed("predict", fitted / "model.ntk", fitted / "table.csv", "-o", out, "--std")
    found = pandas.read_csv(out)
    assert list(found) == ["target", "target_std"]
    assert 40 < found["target_std"].min() < found["target_std"].max() < 77  # the noise; the target's own deviation
    inside = np.abs(found["target"] - diabetes["target"]) < 1.96 * found["target_std"]
    assert 0.93 < inside.mean() < 0.99


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".feather", ".npy", ".npz"])
def test_every_format_gives_the_same_model(ending, fitted, diabetes, tmp_path):
    table = write(diabetes, tmp_path / f"table{ending}")
    target = "10" if ending == ".npy" else "target"
    options = ["--no-compare", "--no-figure", "--json"]
    report = json.loads(succeed("fit", table, "--target", target, "-o", tmp_path / "m", *options))
    expected = json.loads((fitted / "report.json").read_text())
    assert report["alpha"] == pytest.approx(expected["alpha"], rel=1e-6)
    assert report["models"][0]["held_out"] == pytest.approx(expected["models"][0]["held_out"], rel=1e-6)
    succeed("predict", tmp_path / "m", table, "-o", tmp_path / "out.npy")
    succeed("predict", fitted / "model.ntk", fitted / "table.csv", "-o", tmp_path / "expected.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), np.load(tmp_path / "expected.npy"), rtol=1e-9)


@pytest.mark.parametrize(("name", "lowest"), [("digits", 0.97), ("breast_cancer", 0.94)])
def test_classification(name, lowest, tmp_path):
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame
    if name == "breast_cancer":
        frame["target"] = bunch.target_names[frame["target"]]
    table = write(frame, tmp_path / "table.parquet")
    printed = succeed("fit", table, "--target", "target", "-o", tmp_path / "m.ntk", "--depth", 2, "--no-compare")
    assert "classification" in printed
    row = next(line for line in printed.splitlines() if line.startswith("NTK"))
    assert all(float(word[:-1]) > 100 * lowest for word in row.split() if word.endswith("%"))
    assert (tmp_path / "m.png").exists()
    succeed("predict", tmp_path / "m.ntk", table, "-o", tmp_path / "out.csv")
    found = pandas.read_csv(tmp_path / "out.csv")
    assert (found["target"] == frame["target"]).mean() > lowest
    assert list(found)[1:] == [f"target={label}" for label in sorted(frame["target"].unique())]
    np.testing.assert_allclose(found.iloc[:, 1:].sum(axis=1), 1)
    said = run("predict", tmp_path / "m.ntk", table, "-o", tmp_path / "x.csv", "--std")
    assert said.exit_code == 0
    assert said.stderr == "ntkfast: --std: classes have no deviations; the uncertainty is in their probabilities\n"
    assert (tmp_path / "x.csv").read_text() == (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize("kind", ["bool", "int8", "int64", "float64", "str", "Int32", "boolean", "category"])
def test_predicted_classes_are_of_the_kind_of_the_target(kind, tmp_path):
    """In every format as in the table, and in CSV the same text."""
    bunch = datasets.load_iris(as_frame=True)
    frame = bunch.frame[bunch.target < 2].reset_index(drop=True)
    if kind == "str":
        frame["target"] = frame["target"].map({0: "no", 1: "yes"})
    frame["target"] = frame["target"].astype(kind)  # the two classes are far apart: predictions are right
    frame[["target"]].to_csv(tmp_path / "expected.csv", index=False)
    plain = {"Int32": "int32", "boolean": "bool", "category": "int64"}.get(kind, kind)
    for ending, reader in ((".parquet", "read_parquet"), (".feather", "read_feather"), (".csv", "read_csv")):
        table, out = write(frame, tmp_path / f"t{ending}"), tmp_path / f"out{ending}"
        fit = ["fit", table, "--target", "target", "-o", tmp_path / "m", "--no-compare", "--no-figure"]
        succeed(*fit, "--task", "classification")
        succeed("predict", tmp_path / "m", table, "-o", out)
        found = getattr(pandas, reader)(out)["target"]
        assert found.tolist() == frame["target"].tolist()
        assert ending == ".csv" or found.dtype == frame["target"].astype(plain).dtype
        succeed("predict", tmp_path / "m", table, "-o", tmp_path / "out.csv")
        words = [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()]
        assert words == (tmp_path / "expected.csv").read_text().split()
    if kind == "str":
        message = refuse("predict", tmp_path / "m", table, "-o", tmp_path / "out.npy")
        assert message.endswith("the classes are text; use .csv, .parquet or .feather")
    else:
        succeed("predict", tmp_path / "m", table, "-o", tmp_path / "out.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[:, 0], frame["target"].astype(float))


def test_text_and_missing_values(diabetes, tmp_path):
    frame = diabetes.copy()
    frame["sex"] = np.where(frame["sex"] > 0, "f", "m")
    frame.loc[3, "bmi"] = np.nan
    frame.loc[5, "sex"] = None
    table = write(frame, tmp_path / "table.csv")
    fit = ["fit", table, "--target", "target", "-o", tmp_path / "m", "--no-compare", "--no-figure"]
    assert refuse(*fit) == "missing values in 'sex' (1), 'bmi' (1): fill them in, or pass --impute median"
    printed = succeed(*fit, "--impute", "median")
    assert "10 columns, 11 features" in printed
    model = nf.load(tmp_path / "m")
    bmi = next(encoder for encoder in model.encoders if encoder.name == "bmi")
    assert bmi.median == pytest.approx(diabetes["bmi"].drop(3).median())
    frame.loc[7, "sex"] = "x"
    write(frame, table)
    result = run("predict", tmp_path / "m", table, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0
    assert result.stderr == "ntkfast: column 'sex': 1 rows have a value that the model was not fitted to\n"


def test_predictions_do_not_depend_on_the_pieces(fitted, diabetes, tmp_path, monkeypatch):
    from ntkfast.tabular import predict

    table = write(diabetes[diabetes.columns[::-1]], tmp_path / "table.parquet")  # columns are found by name
    expected = fitted / "whole.npy"
    succeed("predict", fitted / "model.ntk", fitted / "table.csv", "-o", expected, "--std")
    monkeypatch.setattr(predict, "MOST_ENTRIES", 64 * 442)
    for ending in (".csv", ".parquet", ".feather", ".npy"):
        out = tmp_path / f"out{ending}"
        succeed("predict", fitted / "model.ntk", table, "-o", out, "--std")
        if ending == ".npy":
            found = np.load(out)
        else:
            reader = {".csv": "read_csv", ".parquet": "read_parquet", ".feather": "read_feather"}[ending]
            found = getattr(pandas, reader)(out).to_numpy()
        np.testing.assert_allclose(found, np.load(expected), rtol=1e-8)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".feather", ".npy", ".npz"])
def test_a_table_is_read_in_pieces(ending, diabetes, tmp_path):
    from ntkfast.tabular.table import chunks

    pieces = list(chunks(write(diabetes, tmp_path / f"table{ending}"), 60))
    assert max(map(len, pieces)) <= 60
    rows = np.concatenate([np.stack(list(piece.columns.values()), axis=1) for piece in pieces])
    np.testing.assert_allclose(rows, diabetes.to_numpy(), rtol=1e-14)


def test_a_model_whose_parts_do_not_fit_is_refused(fitted, tmp_path):
    import dataclasses

    model = nf.load(fitted / "model.ntk")
    with pytest.raises(ValueError, match="encoders: expected 10 features, got 9"):
        dataclasses.replace(model, encoders=model.encoders[1:])
    with pytest.raises(TypeError, match="estimator: expected NTKClassifier"):
        dataclasses.replace(model, target=dataclasses.replace(model.target, classes=("a", "b"), dtype="object"))
    with pytest.raises(ValueError, match=r"dtype: expected one of object, bool, .*, got 'datetime64'"):
        dataclasses.replace(model.target, dtype="datetime64")
    with pytest.raises(TypeError, match="classes: expected str, got 3"):
        dataclasses.replace(model.target, classes=("a", 3))


def test_the_task_is_found():
    from ntkfast.tabular.target import guess

    assert guess(np.array(["a", "b"] * 10, dtype=object), "y") == "classification"
    assert guess(np.arange(20.0) % 2, "y") == "classification"
    assert guess(np.arange(200.0) % 10, "y") == "classification"
    assert guess(np.arange(200.0) % 21, "y") == "regression"  # more than 20
    assert guess(np.arange(50.0) % 10, "y") == "regression"  # five rows each
    assert guess(np.arange(200.0) % 2 + 0.5, "y") == "regression"  # not whole


@pytest.mark.parametrize(
    "names", [("-1", "9", "10"), ("1", "10", "a"), ("--1", "2"), ("²", "³"), ("0", "001", "01", "1"), ("1", "1" * 5000)]
)
def test_classes_are_in_order(names):
    """By value if all are whole numbers; not everything of which str.isdigit is true is one."""
    from ntkfast.tabular.target import learn

    assert learn(np.array(names[::-1] * 5, dtype=object), "y", "classification").classes == names


# --- what is refused


def test_a_wrong_name_gets_a_suggestion(fitted):
    fit = ["fit", fitted / "table.csv", "-o", fitted / "other"]
    assert refuse(*fit, "--target", "Targt").endswith("no column 'Targt'; did you mean 'target'?")
    assert "--drop: the table has no column 'bim'; did you mean 'bmi'?" in refuse(
        *fit, "--target", "target", "--drop", "bim"
    )
    assert "the columns are 'age', 'sex'" in refuse(*fit, "--target", "zzz")
    assert "did you mean 'relu'" in refuse(*fit, "--target", "target", "--activation", "rulu").replace('"', "'")
    assert not (fitted / "other").exists()


def test_columns_that_do_not_match_are_named(fitted, diabetes, tmp_path):
    predict = ["predict", fitted / "model.ntk"]
    table = write(diabetes.rename(columns={"bmi": "BMI"}), tmp_path / "renamed.csv")
    message = refuse(*predict, table, "-o", tmp_path / "out.csv")
    assert "missing columns 'bmi'" in message
    assert "did you mean 'BMI'?" in message
    table = write(diabetes.assign(more=1.0), tmp_path / "more.csv")
    assert "unknown columns 'more'" in refuse(*predict, table, "-o", tmp_path / "out.csv")
    table = write(diabetes.assign(bp="high"), tmp_path / "text.csv")
    assert "column 'bp': expected numbers, got 'high' in row 1" in refuse(*predict, table, "-o", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name or "tmp" in path.name] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(target=3.0), "target 'target': expected numbers that vary, got 3 in every row"),
        (lambda f: f[:1], "expected a table of at least 10 rows, got 1"),
        (lambda f: f[:0], "the table has no rows"),
        (lambda f: f[["target"]], "no column besides the target"),
        (lambda f: f.assign(target=f["target"].where(f.index != 4)), "missing values in 'target' (1)"),
        (lambda f: f.assign(name=[f"row {k}" for k in f.index]), "column 'name': 442 different values in 442 rows"),
        (
            lambda f: f.assign(bp=[*map(str, f["bp"][1:]), "oops"]),
            "'bp': expected numbers, as in 441 of 442 rows",
        ),
        (lambda f: f.assign(bp=np.inf), "column 'bp': expected finite numbers, got inf in row 1"),
        (lambda f: f.assign(bp=np.nan), "missing values in 'bp' (442)"),
        (lambda f: f.assign(bp=f["bp"] * 1e200), "column 'bp': expected numbers whose squares are finite, got 1."),
        (lambda f: f.assign(target=f["target"] * 1e200), "target 'target': expected numbers whose squares are finite"),
        (
            lambda f: f.assign(target=1e-320 * np.arange(len(f))),
            "target 'target': expected numbers with a standard deviation of at least 1.5e-154, got values from 0 to 4",
        ),
        (lambda f: f.assign(target=f["target"] * 1e-200), "expected numbers with a standard deviation of at least"),
        (lambda f: f.assign(target="a"), "target 'target': expected at least two classes"),
    ],
)
def test_bad_tables(change, message, diabetes, tmp_path):
    table = write(change(diabetes), tmp_path / "table.csv")
    assert message in refuse("fit", table, "--target", "target", "-o", tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv"]


def claiming(size):
    """An .npz file of one array, whose header has this size."""
    content, header = io.BytesIO(), io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(80))
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", "this is no CSV table (Expected 2 fields in line 3, saw 4)"),
        ("t.csv", b"a,a\n1,2\n", "expected columns of different names, got 'a' more than once"),
        ("t.csv", b"\xff\xfe\x00", "expected text in UTF-8, got byte 0xff"),
        ("t.parquet", b"no parquet", "Parquet"),
        ("t.feather", b"no feather", "t.feather"),
        ("t.npy", b"no array", "t.npy: expected a .npy file of numbers or text, got a file of another kind"),
        ("t.npz", b"no arrays", "t.npz: expected a .npz file of numbers or text, got a file of another kind"),
        ("t.npy", b"\x93NUMPY\x01\x00v\x00{", "t.npy: expected a .npy file of numbers or text, got a damaged one"),
        (
            "t.npy",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
            "t.npy: expected a .npy file of numbers or text, got a damaged one",
        ),
        ("t.npz", claiming(10**12), "t.npz: x: expected an array, got a damaged one"),
        ("t.npz", b"PK\x03\x04", "t.npz: expected a .npz file of numbers or text, got a damaged one"),
        ("t.xlsx", b"x", "expected a file that ends in .csv"),
        ("t.csv", None, "does not exist"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in refuse("fit", tmp_path / name, "--target", "a", "-o", tmp_path / "m")


def test_nothing_in_an_array_file_is_executed(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    message = refuse("gram", tmp_path / "t.npy", "-o", tmp_path / "K.npy")
    assert message.endswith("t.npy: expected a .npy file of numbers or text, got Python objects, which are never read")
    np.savez(tmp_path / "t.npz", x=np.array([{}] * 3, dtype=object), y=np.arange(3.0))
    message = refuse("gram", tmp_path / "t.npz", "-o", tmp_path / "K.npy")
    assert message == "column 'x': expected numbers or text, got Python objects, which are never read"
    succeed("gram", tmp_path / "t.npz", "-o", tmp_path / "K.npy", "--drop", "x")


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".npz"])
def test_columns_that_are_not_used_may_be_of_any_kind(ending, fitted, diabetes, tmp_path):
    when = pandas.date_range("2020", periods=len(diabetes)).astype("datetime64[ns]")
    table, model = write(diabetes.assign(when=when), tmp_path / f"table{ending}"), tmp_path / "m"
    fit = ["fit", table, "--target", "target", "-o", model, "--no-compare", "--no-figure"]
    gram = ["gram", table, "-o", tmp_path / "K.npy"]
    for refused in (fit, gram, [*gram, "--standardize"], [*fit, "--categorical", "when"]):
        assert re.match("column 'when': expected .*numbers or text, got .*datetime64", refuse(*refused))
    assert "did you mean 'when'?" in refuse(*fit, "--drop", "wen")
    succeed(*fit, "--drop", "when", "--rows", 300)
    succeed(*fit, "--drop", "when")
    succeed(*gram, "--drop", "when")
    assert np.load(tmp_path / "K.npy").shape == (442, 442)
    succeed("predict", model, table, "-o", tmp_path / "found.npy")
    succeed("predict", fitted / "model.ntk", fitted / "table.csv", "-o", tmp_path / "expected.npy")
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), np.load(tmp_path / "expected.npy"), rtol=1e-9)
    message = refuse("predict", fitted / "model.ntk", table, "-o", tmp_path / "x.csv")
    assert message.startswith("unknown columns 'when'")
    write(diabetes.assign(when=when, target=when), table)  # no column that predictions need
    succeed("predict", model, table, "-o", tmp_path / "x.csv")


@pytest.mark.parametrize("name", ["x.ntk", "x.npy"])
def test_a_file_that_cannot_be_written_is_named_with_its_option(name, fitted, tmp_path, monkeypatch):
    """Folders such as /proc say that they can be written to."""
    from ntkfast.support import files

    def refusing(path, mode, **options):
        if mode == "rb":
            return open(path, mode, **options)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(files, "open", refusing, raising=False)
    out, table = tmp_path / name, fitted / "table.csv"
    commands = {
        "x.ntk": [["fit", table, "--target", "target", "-o", out, "--no-compare", "--no-figure"]],
        "x.npy": [
            ["predict", fitted / "model.ntk", table, "-o", out],
            ["gram", table, "-o", out],
            ["spectrum", table, "-o", out, "--no-figure"],
        ],
    }
    for arguments in commands[name]:
        assert refuse(*arguments) == f"--out: cannot write {out}: No such file or directory"
    figure = tmp_path / "x.png"
    message = refuse("spectrum", table, "--figure", figure)
    assert message == f"--figure: cannot write {figure}: No such file or directory"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "0"], "expected a number > 0 or loo, got 0"),
        (["--alpha", "nan"], "expected a number > 0 or loo, got nan"),
        (["--figure", "x.xyz"], "--figure: expected a file name that ends in .png"),
        (["-o", "missing/m"], "--out: there is no folder missing"),
        (["-o", ""], "--out: expected the name of a file, got '.'"),
        (["-o", "m.png", "--figure", "m.png"], "--figure: m.png is also --out"),
        (["--held-out", "nan"], "'--held-out': expected a finite number, got nan"),
        (["--task", "sorting"], "'sorting' is not one of"),
    ],
)
def test_bad_options(options, message, fitted):
    assert message in refuse("fit", fitted / "table.csv", "--target", "target", "-o", fitted / "m2", *options)
    assert not (fitted / "m2").exists()


def test_the_input_is_never_replaced(fitted):
    table = fitted / "table.csv"
    assert "would replace the input" in refuse("fit", table, "--target", "target", "-o", table)


def test_a_file_that_is_no_model_is_refused(fitted, tmp_path):
    out = tmp_path / "out.csv"
    assert "ntkfast.save" in refuse("predict", fitted / "table.csv", fitted / "table.csv", "-o", out)
    nf.save(nf.MLP(2), tmp_path / "net")
    message = refuse("predict", tmp_path / "net", fitted / "table.csv", "-o", out)
    assert message.endswith("expected a model of `ntkfast fit`, got a Network")


def test_a_table_too_large_is_refused_with_the_way_out(fitted, monkeypatch):
    from ntkfast.support import memory

    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    message = refuse("fit", fitted / "table.csv", "--target", "target", "-o", fitted / "m3")
    assert "the kernel of 442 rows" in message
    rows = int(message.split()[-1])
    assert "with --rows" in message
    assert 200 < rows < 442
    assert "--components 100 needs no matrix" in refuse("spectrum", fitted / "table.csv", "--no-figure")


# --- gram and spectrum


def test_gram(diabetes, tmp_path):
    X = write(diabetes.drop(columns="target"), tmp_path / "X.csv")
    Y = write(diabetes[:7][[*diabetes.columns[9::-1]]], tmp_path / "Y.parquet")  # columns in another order
    points, net = diabetes.drop(columns="target").to_numpy(), nf.MLP(4, "erf", 1.3, 0.2)
    network = ["--depth", 4, "--activation", "erf", "--weight-std", 1.3, "--bias-std", 0.2]
    succeed("gram", X, "-o", tmp_path / "K.npy", *network)
    np.testing.assert_array_equal(np.load(tmp_path / "K.npy"), nf.ntk(net, points))
    options = ["--kernel", "nngp", "--dtype", "float32"]
    succeed("gram", X, "-o", tmp_path / "K.npy", "--y", Y, *network, *options)
    K = np.load(tmp_path / "K.npy")
    assert K.dtype == np.float32
    np.testing.assert_array_equal(K, nf.nngp(net, points, points[:7], dtype=np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["K.npy", "X.csv", "Y.parquet"]


def test_gram_refuses(diabetes, tmp_path, monkeypatch):

    X = write(diabetes.assign(sex="f"), tmp_path / "X.csv")
    gram = ["gram", X, "-o", tmp_path / "K.npy"]
    assert "column 'sex': expected numbers, got text" in refuse(*gram)
    succeed(*gram, "--standardize")
    assert "ends in .npy" in refuse("gram", X, "-o", tmp_path / "K.csv")
    other = write(diabetes.drop(columns="bmi"), tmp_path / "Y.csv")
    assert "missing columns 'bmi'" in refuse(*gram, "--standardize", "--y", other)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert "K.npy: the matrix of 442 by 442 numbers takes" in refuse(*gram, "--drop", "sex")


def test_spectrum(diabetes, tmp_path):
    X = write(diabetes.drop(columns="target"), tmp_path / "X.csv")
    points = diabetes.drop(columns="target").to_numpy()
    expected = np.linalg.eigvalsh(nf.ntk(nf.MLP(3, weight_std=2**0.5, bias_std=0.1), points) / 442)[::-1]
    options = ["--json", "--alpha", 0.5, "-o", tmp_path / "values.npy"]
    found = json.loads(succeed("spectrum", X, *options))
    np.testing.assert_allclose(found["eigenvalues"], expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(np.load(tmp_path / "values.npy"), found["eigenvalues"])
    np.testing.assert_allclose(found["learned_at"][:5], 1 / expected[:5], rtol=1e-9)
    dimension = np.sum(expected / (expected + 0.5 / 442))
    assert found["effective_dimension"] == [{"alpha": 0.5, "dimension": pytest.approx(dimension)}]
    assert found["participation"] == pytest.approx(expected.sum() ** 2 / np.sum(expected**2))
    assert (tmp_path / "X_spectrum.png").read_bytes().startswith(b"\x89PNG")
    few = json.loads(succeed("spectrum", X, "--json", "--components", 5, "--no-figure"))
    np.testing.assert_allclose(few["eigenvalues"], expected[:5], rtol=1e-6)
    assert few["trace"] == pytest.approx(expected.sum())
    assert "at least" in succeed("spectrum", X, "--components", 5, "--no-figure")


# --- the command itself


@pytest.mark.parametrize("name", [*cli.main.commands, "paper fig1", "paper theorem1", "paper mnist"])
def test_every_help_has_an_example(name):
    result = CliRunner().invoke(cli.main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert f"ntkfast {name}" in result.output.partition("Example:")[2]


def command(*arguments):
    return [sys.executable, "-P", "-m", "ntkfast", *map(str, arguments)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["info"]])
def test_output_on_a_full_disk(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "ntkfast: cannot write the output: No space left on device\n")


def test_as_a_process(fitted, tmp_path):
    done = subprocess.run(
        command("predict", fitted / "model.ntk", fitted / "table.csv", "-o", tmp_path / "out.csv"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'out.csv'}: 442 rows\n"


def test_shell_completion():
    environment = os.environ | {"_NTKFAST_COMPLETE": "bash_source"}
    done = subprocess.run(command(), env=environment, capture_output=True, text=True, check=False)
    assert "_ntkfast_completion" in done.stdout


def heed_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which shells ignore in what they run in the background


@pytest.fixture
def writing(tmp_path):
    """A process that is writing K.npy, for a minute or more."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.standard_normal((12000, 300)))
    np.save(tmp_path / "Y.npy", rng.standard_normal((6000, 300)))
    arguments = ["gram", tmp_path / "X.npy", "-o", tmp_path / "K.npy", "--y", tmp_path / "Y.npy", "--depth", 60]
    with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c) as process:
        while not list(tmp_path.glob(".ntkfast-*")):  # on a busy machine starting takes long
            assert process.poll() is None
            time.sleep(0.01)
        yield process
        process.kill()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_no_partial_output(writing, tmp_path):
    writing.send_signal(signal.SIGINT)
    message = writing.communicate(timeout=60)[1]
    assert message == "ntkfast: stopped; nothing was saved\n"
    # 130 to a shell either way: Python 3.11 ends by the signal itself, whatever the program then exits with, if Ctrl-C
    # came while it ran the text of some exec(), which dataclasses and named tuples of other libraries have at import.
    assert writing.returncode in (130, -signal.SIGINT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "Y.npy"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_while_it_starts():
    """No traceback, whatever is being imported. Python itself prints one until it has found the program."""
    code = """
import os, signal, sys
class Presses:  # Ctrl-C at the first import of this module
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
module, sys.argv[0] = sys.argv[1], "/usr/bin/ntkfast"
sys.meta_path.insert(0, Presses())
from ntkfast.cli import main
main([])
"""
    for module in ("numpy", "ntkfast.engine._core", "ntkfast.learning.flow", "click", "ntkfast.cli.paper"):
        run = [sys.executable, "-P", "-c", code, module]
        done = subprocess.run(run, capture_output=True, text=True, preexec_fn=heed_ctrl_c, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", ""), module  # 130 to a shell


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_what_a_killed_process_left_is_deleted_by_the_next(writing, tmp_path):
    small = tmp_path / "small.npy"
    np.save(small, np.eye(3))
    (left,) = tmp_path.glob(".ntkfast-*")
    succeed("gram", small, "-o", tmp_path / "K.npy")
    assert left.exists()  # its process is at work
    writing.kill()
    writing.wait()
    succeed("gram", small, "-o", tmp_path / "other.npy")
    assert left.exists()
    succeed("gram", small, "-o", tmp_path / "K.npy")
    assert not list(tmp_path.glob(".ntkfast-*"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_before_a_command_begins(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.shared, "require_writable", interrupted)
    result = run("fit", __file__, "--target", "y", "-o", "model.ntk")
    assert (result.exit_code, result.stderr.strip()) == (130, "ntkfast: stopped")


def test_warnings_take_one_line():
    with CliRunner().isolation() as (_, err, _), cli.shared.one_line("nothing was saved"):
        warnings.warn("solve: the residual is large", stacklevel=1)
        sys.stderr.flush()
        assert err.getvalue() == b"ntkfast: solve: the residual is large\n"


@pytest.mark.parametrize("kind", ["csv", "npy", "parquet", "npz"])
def test_how_many_rows_a_file_has(kind, tmp_path):
    from ntkfast.tabular.table import about_rows

    path, frame = tmp_path / f"table.{kind}", pandas.DataFrame({"a": np.arange(200000) % 7, "b": np.ones(200000)})
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        (np.save if kind == "npy" else np.savez)(path, frame.to_numpy())
    assert about_rows(path) == {"csv": pytest.approx(200000, rel=1e-3), "npz": None}.get(kind, 200000)
    path.write_bytes(b"damaged")
    if kind in ("csv", "parquet"):
        assert about_rows(path) is None


def test_scikit_learn_is_imported_while_the_kernel_is_scored():
    """It takes 2 s: not before the work, but missing it is an error before the work."""
    code = """
import sys
from ntkfast.tabular import figure, fit
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    fit._libraries(fit.Options())
except ImportError as error:
    assert "pip install 'ntkfast[sklearn]'" in str(error), error
    print("refused")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr
