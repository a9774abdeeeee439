"""Predictions for the rows of a file, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ntkfast.tabular import output
from ntkfast.tabular.errors import TableError
from ntkfast.tabular.model import TableModel
from ntkfast.tabular.table import chunks

ROWS = 16384  # at a time
MOST_ENTRIES = 2**22  # of a kernel between rows and the training points, which deviations need


@dataclass(frozen=True)
class Predicted:
    """How many rows have been predicted, and in how many of them columns of text had values without a feature."""

    n_rows: int
    unseen: dict[str, int]


def predict(
    model: TableModel,
    source: str | Path,
    out: str | Path,
    std: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Predicted:
    """Write the predictions of the rows of a file to another. progress(rows done) is called after each piece."""
    size = ROWS if not std else max(64, MOST_ENTRIES // model.n_points)
    done, unseen = 0, {encoder.name: 0 for encoder in model.encoders}
    with output.writer(out) as put:
        for table in chunks(source, size, model.text):
            model.match(table)
            try:
                predicted = model.predict(table, std)
            except TableError as error:
                place = f"{source}, rows {done + 1} to {done + len(table)}" if done else f"{source}"
                raise TableError(f"{place}: {error}") from None
            put(predicted)
            for encoder in model.encoders:
                unseen[encoder.name] += encoder.unseen(table[encoder.name])
            done += len(table)
            if progress is not None:
                progress(done)
    return Predicted(done, {name: count for name, count in unseen.items() if count})
