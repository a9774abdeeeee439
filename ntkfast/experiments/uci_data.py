"""Data sets in the format of Fernández-Delgado, Cernadas, Barro and Amorim (2014): one folder for each.

NAME/NAME.txt describes it; fich1 names the table (a line of names, then: number, features, class); conxuntos.dat has
two lines, the points to train on and those to validate on while hyperparameters are chosen; conxuntos_kfold.dat has
eight, the points to train on and to test on of four folds. Points are counted from 0.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.datasets import DataError
from ntkfast.support.files import named
from ntkfast.support.typing import Array

__all__ = ["DataSet", "Description", "describe", "read", "require"]

MOST = 10**4  # features: the data of that paper have up to 262
SELECTION, FOLDS = "conxuntos.dat", "conxuntos_kfold.dat"
Indices = NDArray[np.intp]
Split = tuple[Indices, Indices]


@dataclass(frozen=True)
class Description:
    """What NAME.txt says.

    Attributes
    ----------
    folder : Path
    n, d, n_classes : int
        Numbers of points, features and classes.
    n_test : int
        Points of a test set of its own, which few data sets have.
    table : str
        Name of the file of the points.
    """

    folder: Path
    n: int
    d: int
    n_classes: int
    n_test: int
    table: str

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class DataSet:
    """Points X (n, d), their classes y (n,), and pairs of indices: to choose hyperparameters, and of four folds."""

    X: Array
    y: NDArray[np.int_]
    selection: Split
    folds: tuple[Split, ...]


def describe(folder: str | os.PathLike[str]) -> list[Description]:
    """The data sets in a folder, by name.

    Raises
    ------
    DataError
        There are none, or a description is damaged.
    """
    found = sorted(path.parent for path in Path(named(folder, "folder")).glob("*/*.txt") if _is_of_folder(path))
    if not found:
        raise DataError(
            f"folder: expected folders NAME with NAME.txt, conxuntos.dat, conxuntos_kfold.dat and a table in {folder}, "
            "got none"
        )
    return [_description(path) for path in found]


def _is_of_folder(path: Path) -> bool:
    return path.stem == path.parent.name and path.is_file()


def require(data_sets: Iterable[Description]) -> None:
    """Raise DataError unless all files of these data sets are there; it names every missing file."""
    wanted = [of.folder / name for of in data_sets for name in (of.table, SELECTION, FOLDS)]
    missing = [str(path) for path in wanted if not path.is_file()]
    if missing:
        raise DataError(f"folder: missing files: {', '.join(missing)}")


def _description(folder: Path) -> Description:
    path = folder / f"{folder.name}.txt"
    lines = (line.partition("=") for line in path.read_text(encoding="latin-1").splitlines())
    values = {key.strip(): value.strip() for key, equal, value in lines if equal}
    try:
        n, d, k = (int(values[key]) for key in ("n_patrons1", "n_entradas", "n_clases"))
        found = Description(folder, n, d, k, int(values.get("n_patrons2", 0)), values["fich1"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: expected lines n_patrons1=, n_entradas=, n_clases= and fich1=, got {error}") from None
    if Path(found.table).name != found.table or "\0" in found.table:
        raise DataError(f"{path}: expected in fich1= the name of a file beside it, got {found.table!r}")
    if min(n, d, k) < 1 or d > MOST:
        raise DataError(
            f"{path}: expected at least one point, 1 to {MOST} features and a class, "
            f"got n_patrons1={n}, n_entradas={d}, n_clases={k}"
        )
    return found


def read(of: Description) -> DataSet:
    """The data set.

    Raises
    ------
    DataError
        A file is not as described; the message names it.
    """
    path = of.folder / of.table
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty table, which has not of.n rows
            table = np.loadtxt(path, skiprows=1, usecols=range(1, of.d + 2), ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: expected a table of {of.d} features and the class, got {error}") from None
    if len(table) != of.n or not np.isfinite(table).all():
        raise DataError(f"{path}: expected {of.n} points, all finite, got {len(table)}")
    if np.abs(table[:, -1]).max() >= 2**31:
        raise DataError(f"{path}: expected numbers of classes, got {table[:, -1].max()}")
    (selection,) = _splits(of.folder / SELECTION, 1, of.n)
    folds = _splits(of.folder / FOLDS, 4, of.n)
    return DataSet(np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(int), selection, folds)


def _splits(path: Path, count: int, n: int) -> tuple[Split, ...]:
    """Pairs of indices: two lines each."""
    lines = [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines() if line.strip()]
    try:
        rows: list[Any] = [np.array(line, dtype=np.intp) for line in lines]
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: expected numbers of points, got {error}") from None
    if len(rows) != 2 * count or any(not row.size or row.min() < 0 or row.max() >= n for row in rows):
        raise DataError(f"{path}: expected {2 * count} lines of numbers from 0 to {n - 1}, got {len(rows)} lines")
    return tuple(zip(rows[::2], rows[1::2], strict=True))
