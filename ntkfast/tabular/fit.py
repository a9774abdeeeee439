"""Fit the model of a table: choose the ridge, score it on rows held out beside other models, fit it to every row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy

from ntkfast.engine import threads
from ntkfast.infinite.kernels import diagonal, kernels
from ntkfast.learning.gaussian import GaussianProcess
from ntkfast.networks import MLP
from ntkfast.support import memory
from ntkfast.support.typing import Array, KernelName
from ntkfast.tabular import columns, scores
from ntkfast.tabular import target as targets
from ntkfast.tabular.comparison import MODELS, load
from ntkfast.tabular.errors import TableError, find
from ntkfast.tabular.model import TableModel
from ntkfast.tabular.scores import Predictions, as_columns, decided
from ntkfast.tabular.selection import MOST_ROWS, Selection, select
from ntkfast.tabular.table import Table
from ntkfast.tabular.target import Target, Task

Step = Callable[[str], Any]  # a context around each step, for a progress bar


@dataclass(frozen=True)
class Options:
    """The network and its ridge (None: chosen by leave-one-out), the split, and how columns become features."""

    depth: int = 3
    activation: str = "relu"
    weight_std: float = 2**0.5
    bias_std: float = 0.1
    kernel: KernelName = "ntk"
    alpha: float | None = None
    task: Task | None = None
    impute: bool = False
    categorical: Sequence[str] = ()
    dropped: Sequence[str] = ()
    n_rows: int | None = None
    held_out: float = 0.2
    compare: bool = True
    figure: bool = False  # one is drawn afterwards: matplotlib is imported meanwhile
    seed: int = 0
    n_threads: int | None = None

    @property
    def n_steps(self) -> int:
        """How many steps `fit` takes: four for the kernel, and one for each model beside it."""
        return 4 + (len(MODELS) if self.compare else 0)


@dataclass(frozen=True)
class Fit:
    """What `fit` finds.

    Attributes
    ----------
    model : TableModel
        Fitted to every row.
    target : Target
        Of the scores: standardised by the mean and the deviation of the training rows.
    held_out_rows : ndarray, shape (m,)
        The rows held out, ascending: their places in the table, of which the first is 0.
    n_rows, n_train, n_features, n_columns : int
    alpha : float
    selection : Selection
        The ridges tried, on training rows.
    predictions : tuple of Predictions
        Of the kernel, then of the models it is compared with, on one split.
    y_train, y : ndarray
        Their targets: of the training rows, and of the rows held out.
    deviations : ndarray, shape (m,), or None
        Of new values at the rows held out, standardised; None for classes.
    times, curves : ndarray, shape (T,) and (2, T)
        The scores of `selection.n` rows and of the rows held out as the kernel is trained.
    """

    model: TableModel
    target: Target
    held_out_rows: Any
    n_rows: int
    n_train: int
    n_features: int
    n_columns: int
    alpha: float
    selection: Selection
    predictions: tuple[Predictions, ...]
    y_train: Any
    y: Any
    deviations: Array | None
    times: Array
    curves: Array


@contextmanager
def silent(name: str) -> Iterator[None]:
    """A step that nobody watches."""
    yield


def fit(table: Table, name: str, options: Options, step: Step = silent) -> Fit:
    """Fit a model of the column `name`, given all others that are not dropped."""
    for argument, wanted in (("target", [name]), ("drop", options.dropped), ("categorical", options.categorical)):
        for column in wanted:
            find(column, table.names, argument)
    if name in options.dropped:
        raise TableError(f"drop: expected another column than the target, got {name!r}")
    rng = np.random.default_rng(options.seed)
    table = table.without(options.dropped)
    rows = np.arange(len(table))
    if options.n_rows is not None and options.n_rows < len(table):
        rows = np.sort(rng.permutation(len(table))[: options.n_rows])
        table = table.rows(rows)
    target = targets.learn(table[name], name, options.task)
    inputs = table.without([name])
    encoders = columns.learn(inputs, options.impute, options.categorical)
    n_features = sum(encoder.width for encoder in encoders)
    require_memory(len(table), n_features)
    y = target.encode(table[name])
    train, test = split(target, y, options.held_out, rng)

    net = MLP(options.depth, options.activation, options.weight_std, options.bias_std)
    learned = columns.learn(inputs.rows(train), options.impute, options.categorical)
    X, X_test = columns.encode(learned, inputs.rows(train)), columns.encode(learned, inputs.rows(test))
    scored = target.standardised_by(table[name][train])  # nothing of the rows held out is known to the scores
    y_train, y_test = scored.encode(table[name][train]), scored.encode(table[name][test])
    Y = as_columns(scored, y_train)

    def kernel(A: Array, B: Array | None = None) -> Array:
        matrix: Array = kernels(net, A, B, get=options.kernel, n_threads=options.n_threads, progress=False)
        return matrix

    libraries = _libraries(options)
    start = time.perf_counter()
    with step("choosing the ridge"):
        some = np.sort(rng.permutation(len(train))[:MOST_ROWS])
        selection = select(kernel(X[some]), Y[some], options.alpha, options.n_threads)
    with step("scoring the kernel"):
        process = GaussianProcess(kernel(X), Y, noise=selection.alpha, overwrite=True, n_threads=options.n_threads)
        across = kernel(X_test, X)
        held_out, left_out = process.mean(across), process.leave_one_out()
        std_scale, deviations = 1.0, None
        if scored.classes is None:
            std_scale = float(np.sqrt(np.mean((Y - left_out.mean)[:, 0] ** 2 / left_out.variance))) or 1.0
            prior = diagonal(net, X_test, options.kernel, n_threads=options.n_threads)
            deviations = std_scale * np.sqrt(process.variance(across, prior, observations=True))
            std_scale *= scored.scale / target.scale  # for the model of every row
    described = f"{options.kernel.upper()}, depth {options.depth}, {options.activation}"
    note = f"alpha {selection.alpha:.3g}"
    found = [
        Predictions(
            described, decided(scored, left_out.mean), decided(scored, held_out), time.perf_counter() - start, note
        )
    ]
    del process
    with step("the course of training"):
        times = selection.times()
        curves = np.array(
            [
                [scores.score(scored, y_train[some], decided(scored, f)) for f in selection.course(times)],
                [scores.score(scored, y_test, decided(scored, f)) for f in selection.course(times, across[:, some])],
            ]
        )
    del across
    libraries.result()
    for other, predict in MODELS.items() if options.compare else ():
        with step(other):
            found.append(predict(scored, X, y_train, X_test, options.seed, options.n_threads))
    with step("fitting to every row"):
        from ntkfast.sklearn import NTKClassifier, NTKRegressor

        cls = NTKRegressor if target.classes is None else NTKClassifier
        estimator = cls(
            depth=options.depth,
            activation=options.activation,
            weight_std=options.weight_std,
            bias_std=options.bias_std,
            kernel=options.kernel,
            alpha=selection.alpha,
            n_threads=options.n_threads,
        ).fit(columns.encode(encoders, inputs), y)
        estimator.n_threads = None  # whoever predicts has threads of their own
    model = TableModel(encoders, target, estimator, std_scale, tuple(options.dropped))
    return Fit(
        model,
        scored,
        rows[test],
        len(table),
        len(train),
        n_features,
        len(encoders),
        selection.alpha,
        selection,
        tuple(found),
        y_train,
        y_test,
        deviations,
        times,
        curves,
    )


def _libraries(options: Options) -> Future[None]:
    """scikit-learn and matplotlib, which take 3 s to import, on another thread: LAPACK lets Python work meanwhile."""
    if find_spec("sklearn") is None:
        import_module("ntkfast.sklearn")  # raises, and says what to install
    _ = scipy.linalg  # two threads must not import it at once
    pool = ThreadPoolExecutor(1)
    found = pool.submit(load, options.compare, options.figure)
    pool.shutdown(wait=False)
    if threads.resolve(options.n_threads) == 1:
        found.result()
    return found


def require_memory(n: int, d: int) -> None:
    """Raise if the kernel of so many rows and its factor do not fit into memory."""
    there = memory.available()
    per_pair = 2 * 8
    most = 0 if there is None else int(math.sqrt(0.9 * there / per_pair))
    hint = f"; fit to a random sample of the rows with --rows {most // 1000 * 1000 or most}"
    memory.require(per_pair * n * n + 3 * 8 * n * d, f"the kernel of {n} rows, with its factor,", hint)


def split(target: Target, y: Any, held_out: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """The rows to train on and those held out, ascending: for classes, the same share of each that has two rows."""
    shuffled = rng.permutation(len(y))
    if target.classes is None:
        chosen = shuffled[: max(2, round(held_out * len(y)))]
    else:
        of = y[shuffled]
        chosen = np.concatenate(
            [
                rows[: max(1, round(held_out * len(rows)))]
                for rows in (shuffled[of == k] for k in np.unique(y))
                if len(rows) > 1
            ]
        )
    test = np.zeros(len(y), dtype=bool)
    test[chosen] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
