"""The target column: regression or classification, and its values as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from ntkfast.support.saved import Saved, checked
from ntkfast.support.typing import Array
from ntkfast.tabular import columns
from ntkfast.tabular.errors import TableError, listed
from ntkfast.tabular.table import Column

Task: TypeAlias = Literal["regression", "classification"]

DTYPES = (
    *("object", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
MOST_CLASSES = 100
MOST_AUTO_CLASSES = 20  # of a target of whole numbers
SMALLEST = float(np.finfo(np.float64).tiny) ** 0.5  # standard deviation


@dataclass(frozen=True)
class Target(Saved):
    """The target of a model: y = mean + scale f for numbers; for classes, their names.

    `dtype` is that of predicted columns: for classes, that of the column that was learned from.
    """

    name: str
    classes: tuple[str, ...] | None
    dtype: str
    mean: float
    scale: float

    def __post_init__(self) -> None:
        checked(self.name, str, "name")
        for name in () if self.classes is None else checked(self.classes, tuple, "classes"):
            checked(name, str, "classes")
        if checked(self.dtype, str, "dtype") not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        checked(self.mean, float, "mean")
        checked(self.scale, float, "scale")

    @property
    def task(self) -> Task:
        return "regression" if self.classes is None else "classification"

    def encode(self, column: Column) -> Any:
        """Standardised numbers, or the numbers of classes, (n,)."""
        if self.classes is None:
            return (columns.numbers(column, self.name) - self.mean) / self.scale
        places = {name: k for k, name in enumerate(self.classes)}
        return np.array([places[str(value)] for value in columns.text(column)])

    def standardised_by(self, column: Column) -> Target:
        """The same target with the mean and the deviation of these rows."""
        if self.classes is not None:
            return self
        values = columns.numbers(column, self.name)
        return replace(self, mean=float(values.mean()), scale=float(values.std()) or 1.0)

    def decode(self, values: Array) -> Any:
        """The inverse of `encode`."""
        if self.classes is None:
            return self.mean + self.scale * values
        if self.dtype == "bool":
            return np.array([name == "True" for name in self.classes])[values]
        return np.array(self.classes, dtype=object).astype(self.dtype)[values]


def guess(column: Column, name: str) -> Task:
    """The task of a target.

    Text is classes, and so are at most 20 different whole numbers, if they occur in ten rows on average or are only
    two; everything else is numbers.
    """
    if columns.is_text(column, name):
        return "classification"
    values = columns.numbers(column, name)
    different = np.unique(values)
    few = len(different) <= max(2, min(MOST_AUTO_CLASSES, len(values) // 10))
    return "classification" if few and (different == np.round(different)).all() else "regression"


def learn(column: Column, name: str, task: Task | None) -> Target:
    """The target of a column; None: of the task that `guess` finds."""
    missing = int(columns.is_missing(column).sum())
    if missing:
        raise columns.missing_values([(f"{name}", missing)], "rows without a target cannot be learned from")
    if len(column) < 10:
        raise TableError(f"expected a table of at least 10 rows, got {len(column)}")
    if column.dtype != object and (column == column[0]).all():
        raise TableError(f"target {name!r}: expected numbers that vary, got {float(column[0]):g} in every row")
    if (task or guess(column, name)) == "classification":
        found = {str(value) for value in columns.text(column)}
        if len(found) < 2:
            raise TableError(f"target {name!r}: expected at least two classes, got only {listed(found)}")
        if len(found) > MOST_CLASSES:
            raise TableError(f"target {name!r}: expected at most {MOST_CLASSES} classes, got {len(found)}")
        whole = all(re.fullmatch("-?[0-9]{1,4000}", value) for value in found)  # more digits are no number to int
        return Target(name, tuple(sorted(sorted(found), key=int if whole else str)), column.dtype.name, 0.0, 1.0)
    values = columns.numbers(column, name)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = float(values.std())
    if not np.isfinite(scale):
        raise TableError(f"target {name!r}: expected numbers whose squares are finite")
    if scale < SMALLEST:  # its square, the variance, has lost digits, or is 0
        raise TableError(
            f"target {name!r}: expected numbers with a standard deviation of at least {SMALLEST:.2g}, got values from "
            f"{values.min():.3g} to {values.max():.3g}; use other units"
        )
    return Target(name, None, "float64", float(values.mean()), scale)
