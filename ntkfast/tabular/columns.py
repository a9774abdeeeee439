"""From the columns of a table to the features of a model, and back from its targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ntkfast.support.saved import Saved
from ntkfast.support.typing import Array
from ntkfast.tabular.errors import TableError, listed, suggestion
from ntkfast.tabular.table import Column, Table

MOST_LEVELS = 1000  # of a column of text
FEW_LEVELS = 50  # which no column needs many rows for


class Encoder(Protocol):
    """What makes features of a column."""

    @property
    def name(self) -> str:
        """Of the column."""

    @property
    def width(self) -> int:
        """The number of features."""

    @property
    def as_text(self) -> bool:
        """Whether the column is to be read as text."""

    def encode(self, column: Column) -> Array:
        """The features, (n, width)."""

    def unseen(self, column: Column) -> int:
        """How many rows have a value that has no feature."""


@dataclass(frozen=True)
class NumberColumn(Saved):
    """Numbers: standardised, (x - mean)/scale. `median` takes the place of missing ones, if not None."""

    name: str
    mean: float
    scale: float
    median: float | None

    width = 1
    as_text = False

    def encode(self, column: Column) -> Array:
        values = numbers(column, self.name)
        missing = np.isnan(values)
        if missing.any():
            if self.median is None:
                raise missing_values([(self.name, int(missing.sum()))])
            values = np.where(missing, self.median, values)
        result: Array = ((values - self.mean) / self.scale)[:, None]
        return result

    def unseen(self, column: Column) -> int:
        return 0


@dataclass(frozen=True)
class TextColumn(Saved):
    """Text: one feature for each level, 1 where the row has it. A missing value, and one not seen before, has none."""

    name: str
    levels: tuple[str, ...]
    missing: bool  # whether values may be missing

    as_text = True

    @property
    def width(self) -> int:
        return len(self.levels)

    def encode(self, column: Column) -> Array:
        if not self.missing:
            n_missing = int(is_missing(column).sum())
            if n_missing:
                raise missing_values([(self.name, n_missing)])
        places: dict[str | None, int] = {level: k for k, level in enumerate(self.levels)}
        codes = np.array([places.get(value, -1) for value in text(column)])
        features = np.zeros((len(column), self.width))
        known = np.flatnonzero(codes >= 0)
        features[known, codes[known]] = 1.0
        return features

    def unseen(self, column: Column) -> int:
        levels = {None, *self.levels}
        return sum(value not in levels for value in text(column))


def is_missing(column: Column) -> Any:
    """Whether values are missing, (n,)."""
    return np.array([value is None for value in column]) if column.dtype == object else np.isnan(column)


REMEDY = "fill them in, or pass --impute median"


def missing_values(counts: Iterable[tuple[str, int]], remedy: str = REMEDY) -> TableError:
    named = [f"{name!r} ({count})" for name, count in counts]
    more = f" and {len(named) - 8} more columns" if len(named) > 8 else ""
    return TableError(f"missing values in {', '.join(named[:8])}{more}: {remedy}")


def text(column: Column) -> list[str | None]:
    """Values as levels: whole numbers as they are written, and True and False."""
    if column.dtype == object:
        return list(column)
    if column.dtype == bool:
        return [str(value) for value in column]
    return [None if np.isnan(value) else str(int(value)) if value == int(value) else str(value) for value in column]


def _number(value: str | None) -> float | None:
    """The value of a text that is a number; NaN for a missing one, None for any other text."""
    try:
        return np.nan if value is None else float(value)
    except ValueError:
        return None


def numbers(column: Column, name: str) -> Array:
    """A column as numbers; raise for the first value that is none."""
    if column.dtype != object:
        values: Array = np.asarray(column, dtype=np.float64)
    else:
        parsed = [_number(value) for value in column]
        for row, value in enumerate(parsed):
            if value is None:
                raise TableError(f"column {name!r}: expected numbers, got {column[row]!r} in row {row + 1}")
        values = np.array(parsed, dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        row = infinite[0]
        raise TableError(f"column {name!r}: expected finite numbers, got {values[row]} in row {row + 1}")
    return values


def is_text(column: Column, name: str) -> bool:
    """Whether a column is text; raise if it is numbers with some text among them."""
    if column.dtype != object:
        return False
    there = [(row, value) for row, value in enumerate(column) if value is not None]
    wrong = [(row, value) for row, value in there if _number(value) is None]
    if not there or not wrong:
        return bool(wrong)
    if 2 * len(wrong) <= len(there):
        row, value = wrong[0]
        raise TableError(
            f"column {name!r}: expected numbers, as in {len(there) - len(wrong)} of {len(there)} rows, got {value!r} "
            f"in row {row + 1}"
        )
    return True


def learn(table: Table, impute: bool, categorical: Sequence[str] = ()) -> tuple[Encoder, ...]:
    """How the columns of a table become features: their means and deviations, levels and medians.

    Columns named in `categorical` count as text whatever their values are.
    """
    if not table.names:
        raise TableError("the table has no column besides the target")
    there = table.items()
    if not impute:
        counts = [(name, int(is_missing(column).sum())) for name, column in there]
        if any(count for _, count in counts):
            raise missing_values((name, count) for name, count in counts if count)
    return tuple(
        _learn_text(name, column, impute)
        if name in categorical or is_text(column, name)
        else _learn_numbers(name, column, impute)
        for name, column in there
    )


def _learn_numbers(name: str, column: Column, impute: bool) -> NumberColumn:
    values = numbers(column, name)
    there = values[~np.isnan(values)]
    if not len(there):
        raise TableError(f"column {name!r}: every value is missing; drop it with --drop {name}")
    median = float(np.median(there)) if impute else None
    filled = np.where(np.isnan(values), np.median(there), values)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = float(filled.std())
    if not np.isfinite(scale):
        raise TableError(f"column {name!r}: expected numbers whose squares are finite, got {np.abs(there).max():.3g}")
    varies = scale > 1e-12 * float(np.abs(filled).max())  # else it is a constant, to rounding
    return NumberColumn(name, float(filled.mean()), scale if varies else 1.0, median)


def _learn_text(name: str, column: Column, impute: bool) -> TextColumn:
    levels = sorted({value for value in text(column) if value is not None})
    if len(levels) > MOST_LEVELS or (len(levels) > FEW_LEVELS and 2 * len(levels) > len(column)):
        raise TableError(
            f"column {name!r}: {len(levels)} different values in {len(column)} rows make too many features; "
            f"if it identifies rows, drop it with --drop {name}"
        )
    return TextColumn(name, tuple(levels), impute)


def encode(encoders: Sequence[Encoder], table: Table) -> Array:
    """The features of a table, (n, d)."""
    return np.concatenate([encoder.encode(table[encoder.name]) for encoder in encoders], axis=1)


def match(wanted: Sequence[str], names: Sequence[str], whose: str, ignored: Sequence[str] = ()) -> None:
    """Raise unless `names` has the wanted columns, in any order, and none besides but `ignored`."""
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted and name not in ignored]
    if missing:
        hint = suggestion(missing[0], extra)
        raise TableError(f"missing columns {listed(missing)}: expected those of {whose}{hint}")
    if extra:
        raise TableError(f"unknown columns {listed(extra)}: expected only those of {whose}")
