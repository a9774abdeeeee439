"""Support vector machines with tangent kernels on 90 small data sets of UCI, as Arora et al. (2020) ran them.

"Harnessing the power of infinitely wide deep nets on small-data tasks": for each data set the depth, the number of
frozen layers and C are chosen by the accuracy on one validation set; the accuracy reported is the mean over four folds.
Features are taken as they are in the files (standardised); kernels have no bias, no normalisation and no factor in the
duals.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ntkfast.datasets import DataError
from ntkfast.experiments import uci_data
from ntkfast.experiments.results import exclusive
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import Dense, Network
from ntkfast.support.files import opened, replacing
from ntkfast.support.progress import reporter
from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Array, Progress

__all__ = ["PUBLISHED", "Score", "network", "run", "score", "summary", "table"]

NETWORKS = tuple((depth, frozen) for depth in range(5) for frozen in range(depth + 1))  # hidden, frozen layers
C = tuple(10.0**k for k in range(-2, 5))
MAX_SIZE = 5000  # points of the largest data set
PUBLISHED = (81.95, 14.10)  # percent: mean and standard deviation over the data sets
N_PUBLISHED = 90
FILE = "uci.csv"


@dataclass(frozen=True)
class Score:
    """A line of the result: a data set, what was chosen, and the accuracies on the validation set and of four folds."""

    name: str
    n: int
    d: int
    n_classes: int
    depth: int
    frozen: int
    C: float
    validation: float
    test: float


def network(n_inputs: int, depth: int, frozen: int) -> Network:
    """`depth` hidden layers of ReLU, the first `frozen` affine layers not trained; no factors, no biases: Σ¹ = x·y.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.ntk(nf.experiments.uci.network(2, depth=1, frozen=0), [[3.0, 4.0]])
    array([[25.]])
    """
    rates = [0.0] * frozen + [1.0] * (depth + 1 - frozen)
    layers: list[Dense | str] = [Dense(weight_std=n_inputs**0.5, weight_lr=rates[0])]
    for rate in rates[1:]:
        layers += ["relu", Dense(weight_lr=rate)]
    return Network(layers)


def run(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] = "uci",
    *,
    max_size: int = MAX_SIZE,
    n_threads: int | None = None,
    progress: Progress = None,
) -> list[Score]:
    """All data sets in a folder that have at most max_size points and no test set of their own.

    Parameters
    ----------
    folder : path-like
        Of the data sets, in the format of Fernández-Delgado et al. (2014): data.tar.gz, unpacked.
    out : path-like
        Folder of uci.csv, which has one line for each finished data set. Those are not computed again.
    max_size : int
    n_threads : int, optional
        Of the kernels.
    progress : bool or callable, optional
        As in `ntkfast.ntk`; counts the pairs of points of all kernels.

    Returns
    -------
    list of Score

    Raises
    ------
    DataError
        Files are missing, all of which are named, or damaged.
    ValueError
        The results in `out` are damaged or of another kind.
    OSError
        `out` cannot be written to, or another process is using it.
    """
    max_size = positive_integer(max_size, "max_size")
    chosen = [of for of in uci_data.describe(folder) if of.n <= max_size and not of.n_test]
    if not chosen:
        raise DataError(f"folder: expected data sets of at most {max_size} points and without test sets in {folder}")
    uci_data.require(chosen)
    with exclusive(out) as target, reporter(progress, "UCI data sets") as report:
        known = _stored(target / FILE)
        total, done = sum(of.n**2 for of in chosen) * len(NETWORKS), 0
        scores: list[Score] = []
        for of in chosen:
            tick = None if report is None else lambda k, of=of, before=done: report(before + k * of.n**2, total)
            old = known.get(of.name)
            if old is None or (old.n, old.d, old.n_classes) != (of.n, of.d, of.n_classes):
                known[of.name] = score(of, tick, n_threads=n_threads)
                _store(target / FILE, known.values())
            scores.append(known[of.name])
            done += of.n**2 * len(NETWORKS)
            if report is not None:
                report(done, total)
    return scores


def score(
    of: uci_data.Description, tick: Callable[[int], object] | None = None, *, n_threads: int | None = None
) -> Score:
    """The result for one data set; tick(k) is called when k networks have been tried.

    Raises
    ------
    ImportError
        scikit-learn is missing.
    """
    data = uci_data.read(of)
    best, chosen = -1.0, (0, 0, C[0])
    for k, (depth, frozen) in enumerate(NETWORKS, 1):
        K = ntk(network(of.d, depth, frozen), data.X, n_threads=n_threads, progress=False)
        for c in C:
            found = _accuracy(K, data, data.selection, c)
            if found > best:
                best, chosen = found, (depth, frozen, c)
        if tick is not None:
            tick(k)
    depth, frozen, c = chosen
    K = ntk(network(of.d, depth, frozen), data.X, n_threads=n_threads, progress=False)
    test = float(np.mean([_accuracy(K, data, fold, c) for fold in data.folds]))
    return Score(of.name, of.n, of.d, of.n_classes, depth, frozen, c, best, test)


def _accuracy(K: Array, data: uci_data.DataSet, split: uci_data.Split, c: float) -> float:
    try:
        from sklearn.svm import SVC
    except ImportError:
        raise ImportError("ntkfast.experiments.uci needs scikit-learn: pip install 'ntkfast[sklearn]'") from None

    train, test = split
    machine = SVC(kernel="precomputed", C=c, cache_size=1000).fit(K[np.ix_(train, train)], data.y[train])
    return float((machine.predict(K[np.ix_(test, train)]) == data.y[test]).mean())


# --- the file of results

_HEADER = [*(field.name for field in fields(Score)), "version"]


def _store(path: Path, scores: Any) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows((*astuple(each), version("ntkfast")) for each in scores)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _stored(path: Path) -> dict[str, Score]:
    """The lines of this version by name."""
    if not path.exists():
        return {}
    types: list[Any] = [
        float if field.type == "float" else int if field.type == "int" else str for field in fields(Score)
    ]
    here = version("ntkfast")
    try:
        with opened(path, "out") as file:
            header, *rows = csv.reader(file.read().decode().splitlines())
        if header != _HEADER:
            raise ValueError(header)
        lines = [
            Score(*(kind(cell) for kind, cell in zip(types, row, strict=True)))
            for *row, made_by in rows
            if made_by == here
        ]
    except (ValueError, csv.Error):
        raise ValueError(f"out: expected results of ntkfast uci in {path}; delete it to compute all again") from None
    return {line.name: line for line in lines}


# --- the report


def table(scores: Sequence[Score]) -> str:
    """One line for each data set, in percent, and `summary`."""
    width = max(len("data set"), *(len(each.name) for each in scores))
    head = f"{'data set':<{width}} {'N':>5} {'d':>4} {'classes':>7} {'depth':>5} {'frozen':>6} {'C':>6}"
    lines = [f"{head} {'validation':>10} {'test':>6}"]
    for s in scores:
        line = f"{s.name:<{width}} {s.n:>5} {s.d:>4} {s.n_classes:>7} {s.depth:>5} {s.frozen:>6} {s.C:>6g}"
        lines.append(f"{line} {100 * s.validation:>10.2f} {100 * s.test:>6.2f}")
    return "\n".join([*lines, "", summary(scores)])


def summary(scores: Sequence[Score]) -> str:
    """Mean and standard deviation over the data sets, beside the published ones."""
    tests = 100 * np.array([each.test for each in scores])
    mean, deviation = PUBLISHED
    line = (
        f"mean test accuracy {tests.mean():.2f} ± {tests.std():.2f} on {len(tests)} data sets; "
        f"Arora et al. (2020): {mean:.2f} ± {deviation:.2f} on {N_PUBLISHED}"
    )
    return line if len(tests) == N_PUBLISHED else f"{line}, which are not these"
