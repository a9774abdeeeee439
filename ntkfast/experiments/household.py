"""Beyond the paper: two million points, the household power data of UCI, by kernel regression on some centres.

G. Hebrail and A. Berard (2012), "Individual household electric power consumption": measurements of one minute each. The
global active power of a minute is predicted from the other measurements, on a random tenth of the minutes, with the
target standardised, as published results are.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ntkfast.learning.solvers.nystrom import NystromRegression
from ntkfast.networks import MLP, Network
from ntkfast.support.files import opened
from ntkfast.support.reprs import short
from ntkfast.support.scalars import non_negative_integer, positive_integer, positive_number
from ntkfast.support.typing import Memory, Progress

__all__ = [
    "MEASUREMENTS",
    "NETWORK",
    "PUBLISHED",
    "TARGET",
    "Data",
    "Features",
    "Regression",
    "features",
    "read",
    "run",
]

Features = Literal["row", "neighbors"]
Kernel = Literal["ntk", "nngp", "matern"]

TARGET = "Global_active_power"
MEASUREMENTS = (
    "Global_reactive_power",
    "Voltage",
    "Global_intensity",
    "Sub_metering_1",
    "Sub_metering_2",
    "Sub_metering_3",
)
TIME = ("year", "month", "day", "hour", "minute")
NETWORK = MLP(depth=2, activation="relu", bias_std=0.5)
CENTERS = 3000
LENGTHS = (1.0, 4.0, 16.0, 64.0)  # of the Matérn kernel, from which the pilot chooses
PILOT = 100_000, 1000  # points and centres by which the ridge is chosen
VALIDATION = 50_000  # training points that are kept back to scale the variances
PUBLISHED = (  # root mean square error, negative log likelihood
    ("full Gaussian process, two A6000 GPUs (ADASAP, 2025)", 0.027, -2.346),
    ("stochastic dual descent (2024)", 0.119, None),
)


@dataclass(frozen=True)
class Data:
    """minutes: (n,) since 1970; measurements: (n, 6) as named in `MEASUREMENTS`; power: (n,) in kW."""

    minutes: np.ndarray
    measurements: np.ndarray
    power: np.ndarray


@dataclass(frozen=True)
class Regression:
    """The result of `run`.

    Attributes
    ----------
    features : tuple of str
        What each minute is described by; all standardised.
    n_train, n_test, n_centers : int
    method : str
    alpha : float
        The ridge.
    rmse : float
        Root mean square error on the test minutes, in standard deviations of the target.
    nll : float
        Mean negative log density of the standardised test targets, noise included; nan for FALKON, which has no
        variances.
    standard_deviation : float
        Of the target, in kW.
    predicted, actual : ndarray, shape (n_test,), in kW
    seconds : float
        Of everything but reading the file.
    memory : int
        Bytes that the solver allocated, as it estimates them.
    """

    features: tuple[str, ...]
    n_train: int
    n_test: int
    n_centers: int
    method: str
    alpha: float
    rmse: float
    nll: float
    standard_deviation: float
    predicted: np.ndarray
    actual: np.ndarray
    seconds: float
    memory: int

    __repr__ = short


def read(path: str | Path) -> Data:
    """The minutes of a file without a missing value, in the order of time.

    Parameters
    ----------
    path : str or Path
        household_power_consumption.txt as UCI publishes it (;-separated, with Date, Time and ? for what is missing), or
        a copy as CSV with one column of the time, such as date_time.

    Returns
    -------
    Data

    Raises
    ------
    ImportError
        pandas is not installed.
    ValueError
        Columns are missing or are no numbers, or times occur twice.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("household data need pandas: pip install 'ntkfast[tables]'") from None
    with opened(path) as file, io.TextIOWrapper(file, "utf-8", "replace", newline="") as text:
        line = text.readline(2**16)
    separator = ";" if ";" in line else ","
    names = next(csv.reader([line], delimiter=separator), [])
    missing = [name for name in (TARGET, *MEASUREMENTS) if name not in names]
    if missing:
        raise ValueError(f"{path}: expected the columns of the household power data, {missing[0]} is missing")
    numbers = dict.fromkeys((TARGET, *MEASUREMENTS), np.float64)
    try:
        table = pd.read_csv(path, sep=separator, na_values="?", dtype=numbers)
        if "Date" in names and "Time" in names:
            times = pd.to_datetime(table["Date"] + " " + table["Time"], format="%d/%m/%Y %H:%M:%S")
        else:
            times = pd.to_datetime(table[next(name for name in names if name not in numbers)])
    except StopIteration:
        raise ValueError(f"{path}: expected a column of the time beside the measurements") from None
    except (ValueError, TypeError, pd.errors.ParserError) as error:
        first = str(error).partition("\n")[0].partition(". ")[0]  # pandas adds advice to its callers
        raise ValueError(f"{path}: expected the household power data: {first}") from None
    minutes = times.to_numpy().astype("datetime64[m]").astype(np.int64)
    order = np.argsort(minutes, kind="stable")
    order = order[~table.isna().any(axis=1).to_numpy()[order]]
    minutes = minutes[order]
    if len(np.unique(minutes)) < len(minutes):
        raise ValueError(f"{path}: expected each minute once")
    return Data(minutes, table[list(MEASUREMENTS)].to_numpy()[order], table[TARGET].to_numpy()[order])


def features(data: Data, kind: Features = "neighbors") -> tuple[np.ndarray, tuple[str, ...]]:
    """What describes each minute, in float32 and not yet standardised.

    Parameters
    ----------
    data : Data
    kind : {"row", "neighbors"}
        "row": the six measurements of the minute, and its year, month, day, hour and minute. "neighbors": the six
        measurements, and how they differ from those of the minutes before and after, 0 where such a minute is missing.
        The power of other minutes is in neither.

    Returns
    -------
    X : ndarray, shape (n, 11) or (n, 18)
    names : tuple of str
    """
    if kind not in get_args(Features):
        raise ValueError(f"features: expected one of {', '.join(get_args(Features))}, got {kind!r}")
    own = data.measurements
    if kind == "row":
        moments = data.minutes.astype("datetime64[m]")
        months, days = moments.astype("datetime64[M]"), moments.astype("datetime64[D]")
        parts = (
            months.astype(int) // 12 + 1970,
            months.astype(int) % 12 + 1,
            (days - months).astype(int) + 1,
            data.minutes // 60 % 24,
            data.minutes % 60,
        )
        return np.column_stack([*parts, own]).astype(np.float32), (*TIME, *MEASUREMENTS)
    names = list(MEASUREMENTS)
    columns = [own]
    for step, where in ((-1, "before"), (1, "after")):
        difference = np.roll(own, -step, axis=0) - own
        difference[np.roll(data.minutes, -step) != data.minutes + step] = 0
        columns.append(difference)
        names += [f"{name}, minute {where} minus this one" for name in MEASUREMENTS]
    return np.column_stack(columns).astype(np.float32), tuple(names)


class Matern:
    """k(x, y) = (1 + r) exp(-r), r = √3 |x - y|/ℓ: the Matérn kernel with ν = 3/2, for comparison."""

    def __init__(self, length: float) -> None:
        self.length = length

    def __call__(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        X, Y = (points.astype(np.float64) * (np.sqrt(3) / self.length) for points in (X, Y))
        r = X @ Y.T
        r *= -2
        r += np.square(X).sum(axis=1)[:, None]
        r += np.square(Y).sum(axis=1)
        np.sqrt(np.maximum(r, 0, out=r), out=r)
        k: np.ndarray = np.exp(-r)
        k *= r + 1
        return k

    def diag(self, X: np.ndarray) -> np.ndarray:
        return np.ones(len(X))


def run(
    data: Data,
    kind: Features = "neighbors",
    n_centers: int = CENTERS,
    alpha: float | None = None,
    *,
    kernel: Kernel = "ntk",
    net: Network = NETWORK,
    method: Literal["auto", "direct", "falkon"] = "auto",
    seed: int = 0,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
    say: Callable[[str], object] | None = None,
) -> Regression:
    """Nyström regression on nine tenths of the minutes, tested on the others.

    Parameters
    ----------
    data : Data
    kind : {"row", "neighbors"}
        See `features`.
    n_centers : int
    alpha : float, optional
        The ridge. Default: by leave-one-out errors in the pilot, 100000 training minutes with 1000 centres.
    kernel : {"ntk", "nngp", "matern"}
        "matern": with ν = 3/2, to tell apart what the kernel and what the solver contributes. Its length scale is the
        one out of 1, 4, 16 and 64 that is best in the pilot.
    net : Network
    method : {"auto", "direct", "falkon"}
    seed : int
        Of the split and of the centres.
    n_threads, progress, memory
        As in `NystromRegression`.
    say : callable, optional
        Called with a line of text when a step is done.

    Returns
    -------
    Regression

    Raises
    ------
    MemoryError
        So many centres do not fit into memory.

    Notes
    -----
    The variances of the kernel have no scale until one is chosen: predictive variances are multiplied by the mean of
    error²/variance over 50000 training minutes that are kept back from the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.experiments import household
    >>> rng = np.random.default_rng(0)
    >>> measured = rng.random((500, 6))
    >>> data = household.Data(np.arange(500), measured, measured[:, 1] * measured[:, 2])
    >>> result = household.run(data, "row", 100, seed=1)
    >>> result.n_test, result.rmse < 0.5
    (50, True)
    """
    start = time.perf_counter()
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel: expected one of {', '.join(get_args(Kernel))}, got {kernel!r}")
    n_centers, seed = positive_integer(n_centers, "n_centers"), non_negative_integer(seed, "seed")
    alpha = None if alpha is None else positive_number(alpha, "alpha")
    if len(data.power) < 20:
        raise ValueError(f"data: expected at least 20 minutes, got {len(data.power)}")

    def tell(line: str) -> None:
        if say is not None:
            say(f"{time.perf_counter() - start:8.1f} s  {line}")

    X, names = features(data, kind)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    test, train = np.split(order, [len(X) // 10])
    X = _standardised(X, train)
    mean, std = float(data.power[train].mean()), float(data.power[train].std())
    y = (data.power - mean) / std
    kept_back, fitted = np.split(train, [min(VALIDATION, len(train) // 10)])
    if n_centers > len(fitted):  # not only after the pilot
        raise ValueError(f"n_centers: expected at most the number of training minutes, {len(fitted)}, got {n_centers}")
    tell(f"{len(fitted)} training minutes, {X.shape[1]} features")

    options: dict[str, Any] = {"rng": seed, "n_threads": n_threads, "memory": memory}
    if kernel in ("ntk", "nngp"):
        options["kernel"] = kernel
    sources: list[Any] = [Matern(length) for length in LENGTHS] if kernel == "matern" else [net]
    source = sources[0]
    if alpha is None or len(sources) > 1:
        some = fitted[: PILOT[0]]
        m = min(PILOT[1], n_centers, len(some))
        best = np.inf
        for candidate in sources:
            ridges = "loo" if alpha is None else [alpha]
            pilot = NystromRegression(candidate, m, ridges, progress=False, **options)
            found = pilot.fit(X[some], y[some])
            assert found.loo_errors is not None
            if found.loo_errors.min() < best:
                best, source, chosen = found.loo_errors.min(), candidate, found.alpha
        alpha = chosen
        length = f", length {source.length:g}" if kernel == "matern" else ""
        tell(f"alpha = {alpha:.3g}{length} by the leave-one-out errors of {len(some)} minutes, {m} centres")
    model = NystromRegression(source, n_centers, alpha, method=method, progress=progress, **options)
    solution = model.fit(X[fitted], y[fitted]).solution
    tell(f"{solution.method} with {solution.rank} centres, {solution.iterations} iterations")
    predicted, nll = model.predict(X[test]), np.nan
    errors = y[test] - predicted
    if solution.method == "direct":
        scale = float(np.mean((y[kept_back] - model.predict(X[kept_back])) ** 2 / _variance(model, X[kept_back])))
        variance = scale * _variance(model, X[test])
        nll = float(0.5 * np.mean(np.log(2 * np.pi * variance) + errors**2 / variance))
    tell(f"{len(test)} test minutes")
    return Regression(
        names,
        len(fitted),
        len(test),
        solution.rank,
        solution.method,
        alpha,
        float(np.sqrt(np.mean(errors**2))),
        nll,
        std,
        predicted * std + mean,
        data.power[test],
        time.perf_counter() - start,
        solution.memory,
    )


def _standardised(X: np.ndarray, train: np.ndarray) -> np.ndarray:
    """With the mean and the standard deviation of the training points; columns that do not vary become 0."""
    std = X[train].std(axis=0, dtype=np.float64)
    standardised: np.ndarray = (X - X[train].mean(axis=0, dtype=np.float64)) / np.where(std > 0, std, 1)
    return standardised.astype(np.float32)


def _variance(model: NystromRegression, X: np.ndarray) -> np.ndarray:
    """Of new observations, up to one factor."""
    return model.variance(X, observations=True).astype(np.float64)
