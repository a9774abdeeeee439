"""The protocol of Arora et al. (2020) on small data sets, in their format, against the recursion in plain NumPy."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import cli
from ntkfast.datasets import DataError
from ntkfast.experiments import uci, uci_data

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris, load_wine
from sklearn.svm import SVC


def published(X, depth, frozen):
    """Θ and Σ of `depth` hidden layers: the tangent kernel collects Σ of layers frozen, frozen + 1, ..., depth."""
    S = X @ X.T
    H = np.where(frozen == 0, S, 0.0)
    for layer in range(1, depth + 1):
        norms = np.sqrt(np.diag(S))
        cosine = np.clip(S / np.outer(norms, norms), -1, 1)
        angle = np.arccos(cosine)
        S = np.outer(norms, norms) * (np.sin(angle) + cosine * (np.pi - angle)) / (2 * np.pi)
        H = H * (np.pi - angle) / (2 * np.pi)
        if layer >= frozen:
            H = H + S
    return H


def write(folder, name, X, y, rng, n_test=0):
    """A data set in the format of Fernández-Delgado et al."""
    there = folder / name
    there.mkdir(parents=True)
    n, d = X.shape
    lines = [f"n_entradas= {d}", f"n_clases= {len(np.unique(y))}", "n_arquivos= 1", f"fich1= {name}_R.dat"]
    lines += [f"n_patrons1= {n}", f"n_patrons_entrena= {n // 2}", f"n_patrons_valida= {n - n // 2}"]
    lines += [f"n_patrons2= {n_test}"] if n_test else []
    (there / f"{name}.txt").write_text("\n".join(lines) + "\n")
    rows = [
        "\t".join([str(k), *(repr(float(v)) for v in x), str(c)]) for k, (x, c) in enumerate(zip(X, y, strict=True))
    ]
    (there / f"{name}_R.dat").write_text("\n".join(["\t".join([*(f"f{k}" for k in range(d)), "clase"]), *rows]) + "\n")
    order = rng.permutation(n)
    halves = order[: n // 2], order[n // 2 :]
    (there / "conxuntos.dat").write_text("\n".join(" ".join(map(str, part)) for part in halves) + "\n")
    quarters = np.array_split(rng.permutation(n), 4)
    folds = []
    for k in range(4):
        folds += [np.concatenate(quarters[:k] + quarters[k + 1 :]), quarters[k]]
    (there / "conxuntos_kfold.dat").write_text("\n".join(" ".join(map(str, part)) for part in folds) + "\n")
    return halves, list(zip(folds[::2], folds[1::2], strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noisy parts of iris and wine, and two sets that the protocol leaves out."""
    root, rng, splits = tmp_path_factory.mktemp("uci"), np.random.default_rng(0), {}
    for name, load, n in (("iris", load_iris, 60), ("wine", load_wine, 80)):
        X, y = load(return_X_y=True)
        chosen = rng.choice(len(X), n, replace=False)
        X = (X - X.mean(axis=0)) / X.std(axis=0) + 0.8 * rng.standard_normal(X.shape)
        splits[name] = (X[chosen], y[chosen], *write(root, name, X[chosen], y[chosen], rng))
    write(root, "separate", X[:20], y[:20], rng, n_test=10)
    write(root, "large", X, y, rng)
    (root / "notes.txt").write_text("not a data set")
    return root, splits


def accuracy(K, y, train, test, C):
    machine = SVC(kernel="precomputed", C=C).fit(K[train][:, train], y[train])
    return np.mean(machine.predict(K[test][:, train]) == y[test])


@pytest.mark.parametrize(("depth", "frozen"), [(0, 0), (1, 0), (1, 1), (3, 0), (4, 2), (4, 4)])
def test_the_kernel_is_the_published_recursion(depth, frozen):
    X = np.random.default_rng(1).standard_normal((20, 7))
    K = nf.ntk(uci.network(7, depth, frozen), X)
    np.testing.assert_allclose(K, published(X, depth, frozen), rtol=1e-6)  # an arccos of 1 - 1e-16 on the diagonal


def test_scores_are_those_of_the_protocol(folder, tmp_path):
    root, splits = folder
    scores = uci.run(root, tmp_path, max_size=100)
    assert [each.name for each in scores] == ["iris", "wine"]
    for each in scores:
        X, y, (train, valid), folds = splits[each.name]
        best, chosen = -1.0, None
        for depth in range(5):
            for frozen in range(depth + 1):
                K = published(X, depth, frozen)
                for C in (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4):
                    found = accuracy(K, y, train, valid, C)
                    if found > best:
                        best, chosen = found, (depth, frozen, C)
        assert (each.depth, each.frozen, each.C) == chosen
        assert each.validation == best
        K = published(X, *chosen[:2])
        assert each.test == pytest.approx(np.mean([accuracy(K, y, *fold, chosen[2]) for fold in folds]))
        assert 0.5 < each.test < 1
        assert (each.n, each.d, each.n_classes) == (*X.shape, 3)


def test_finished_data_sets_are_kept(folder, tmp_path, monkeypatch):
    root, _ = folder

    def stop(of, *rest, **options):
        if of.name == "wine":
            raise KeyboardInterrupt
        return score(of, *rest, **options)

    score = uci.score
    monkeypatch.setattr(uci, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        uci.run(root, tmp_path, max_size=100)
    with open(tmp_path / "uci.csv", encoding="utf-8") as file:
        assert [line["name"] for line in csv.DictReader(file)] == ["iris"]
    called = []
    monkeypatch.setattr(uci, "score", lambda of, *rest, **options: called.append(of.name) or score(of, **options))
    again = uci.run(root, tmp_path, max_size=100)
    assert called == ["wine"]
    assert again == uci.run(root, tmp_path, max_size=100)
    assert called == ["wine"]


def test_results_of_other_versions_are_computed_again(folder, tmp_path, monkeypatch):
    one = uci.Score("iris", 60, 4, 3, 0, 0, 1.0, 0.5, 0.5)
    monkeypatch.setattr(uci, "version", lambda name: "other")
    uci._store(tmp_path / "uci.csv", [one])
    assert uci._stored(tmp_path / "uci.csv") == {"iris": one}
    monkeypatch.undo()
    assert uci._stored(tmp_path / "uci.csv") == {}


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_foreign_file_of_results(folder, tmp_path, text):
    (tmp_path / "uci.csv").write_text(text)
    with pytest.raises(ValueError, match=r"out: expected results of ntkfast uci in .*uci\.csv"):
        uci.run(folder[0], tmp_path, max_size=100)


def test_progress(folder, tmp_path):
    told = []
    uci.run(folder[0], tmp_path, max_size=60, progress=lambda *numbers: told.append(numbers))
    assert told[:15] == [(3600 * k, 15 * 3600) for k in range(1, 16)]
    assert told[-1] == (15 * 3600, 15 * 3600)


def test_the_command(folder, tmp_path):
    result = CliRunner().invoke(cli.main, ["uci", str(folder[0]), "--out", str(tmp_path), "--max-size", "100"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split() == ["data", "set", "N", "d", "classes", "depth", "frozen", "C", "validation", "test"]
    assert [line.split()[0] for line in lines[1:3]] == ["iris", "wine"]
    scores = uci.run(folder[0], tmp_path, max_size=100)
    tests = [100 * each.test for each in scores]
    assert lines[4] == (
        f"mean test accuracy {np.mean(tests):.2f} ± {np.std(tests):.2f} on 2 data sets; "
        "Arora et al. (2020): 81.95 ± 14.10 on 90, which are not these"
    )
    assert lines[5].endswith("uci.csv")


def test_missing_files_are_named(folder, tmp_path):
    root = tmp_path / "data"
    X = np.random.default_rng(0).standard_normal((20, 2))
    for name in ("one", "two"):
        write(root, name, X, (X[:, 0] > 0).astype(int), np.random.default_rng(0))
    (root / "one" / "conxuntos.dat").unlink()
    (root / "two" / "two_R.dat").unlink()
    result = CliRunner().invoke(cli.main, ["uci", str(root), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    for path in ("one/conxuntos.dat", "two/two_R.dat"):
        assert str(root / path) in result.output


def test_no_data_sets(tmp_path, folder):
    result = CliRunner().invoke(cli.main, ["uci", str(tmp_path)])
    assert result.exit_code == 2
    assert "expected folders NAME with NAME.txt, conxuntos.dat" in result.output
    with pytest.raises(DataError, match="expected data sets of at most 5 points"):
        uci.run(folder[0], tmp_path, max_size=5)
    with pytest.raises(ValueError, match="max_size: expected an integer >= 1"):
        uci.run(folder[0], tmp_path, max_size=0)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("x.txt", lambda text: text.replace("n_patrons1", "patrons"), "n_patrons1"),
        ("x.txt", lambda text: text.replace("= 20", "= many"), "many"),
        ("x_R.dat", lambda text: text.replace("\t0\n", "\tmuch\n", 1), "expected a table of 2 features and the class"),
        ("x_R.dat", lambda text: text[: text.index("\n3\t") + 1], "expected 20 points, all finite, got 3"),
        ("conxuntos.dat", lambda text: text.replace("19", "20"), "expected 2 lines of numbers from 0 to 19"),
        ("conxuntos.dat", lambda text: text.replace("19", "x"), "expected numbers of points"),
        (
            "x.txt",
            lambda text: text.replace("fich1= x", "fich1= ../x/x"),
            r"the name of a file beside it, got '\.\./x/x_R",
        ),
        ("x.txt", lambda text: text.replace("entradas= 2", "entradas= 20000000"), "n_entradas=20000000"),
        ("x_R.dat", lambda text: text.replace("\t0\n", "\t1e300\n", 1), "expected numbers of classes, got 1e.300"),
        ("conxuntos.dat", lambda text: text.replace("19", "9" * 20), "expected numbers of points"),
        ("conxuntos_kfold.dat", lambda text: "1 2 3\n4 5 6\n", "expected 8 lines of numbers from 0 to 19, got 2"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, change, words):
    X = np.random.default_rng(0).standard_normal((20, 2))
    write(tmp_path, "x", X, (X[:, 0] > 0).astype(int), np.random.default_rng(0))
    path = tmp_path / "x" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=words) as caught:
        uci_data.read(*uci_data.describe(tmp_path))
    assert str(path) in str(caught.value)


def test_the_published_sets_are_compared_without_reserve():
    score = uci.Score("x", 10, 2, 2, 0, 0, 1.0, 0.5, 0.8195)
    assert uci.summary([score] * 90).endswith("81.95 ± 14.10 on 90")
