"""Tables written some rows at a time: a file that is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ntkfast.support.files import replacing
from ntkfast.tabular.errors import TableError
from ntkfast.tabular.table import Column, library

Put: TypeAlias = Callable[[dict[str, Column]], None]


def check(path: str | Path) -> None:
    """Raise unless a table can be written there."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise TableError(f"out: expected a file that ends in {', '.join(WRITERS)}, got {path.name}")
    if not path.resolve().parent.is_dir():
        raise TableError(f"out: there is no folder {path.parent}")


@contextmanager
def writer(path: str | Path) -> Iterator[Put]:
    """A function that appends rows, always of the same columns, to a new file, which replaces an old one."""
    check(path)
    with replacing(path) as file, WRITERS[Path(path).suffix.lower()](file) as put:
        yield put


@contextmanager
def _csv(file: BinaryIO) -> Iterator[Put]:
    pandas = library("pandas")

    def put(columns: dict[str, Column]) -> None:
        pandas.DataFrame(columns).to_csv(file, index=False, header=file.tell() == 0, lineterminator="\n")

    yield put


@contextmanager
def _arrow(file: BinaryIO, make: Callable[[Any, Any], Any]) -> Iterator[Put]:
    """make(file, schema): a writer of Arrow tables."""
    arrow = library("pyarrow")
    opened: list[Any] = []

    def put(columns: dict[str, Column]) -> None:
        rows = arrow.table(columns)
        if not opened:
            opened.append(make(file, rows.schema))
        opened[0].write_table(rows)

    try:
        yield put
    finally:
        for made in opened:
            made.close()


def _parquet(file: BinaryIO) -> AbstractContextManager[Put]:
    return _arrow(file, library("pyarrow.parquet").ParquetWriter)


def _feather(file: BinaryIO) -> AbstractContextManager[Put]:
    return _arrow(file, library("pyarrow.ipc").new_file)


@contextmanager
def _npy(file: BinaryIO) -> Iterator[Put]:
    """One column: a vector; several: a matrix. The header, which has room to grow, is written once more at the end."""
    n_rows, n_columns = 0, 0

    def header() -> None:
        shape = (n_rows,) if n_columns == 1 else (n_rows, n_columns)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})

    def put(columns: dict[str, Column]) -> None:
        nonlocal n_rows, n_columns
        first = n_columns == 0
        n_columns = len(columns)
        if first:
            header()
        try:
            rows = np.stack([np.asarray(column, dtype="<f8") for column in columns.values()], axis=1)
        except ValueError:
            raise TableError(
                "out: .npy files hold numbers, the classes are text; use .csv, .parquet or .feather"
            ) from None
        n_rows += len(rows)
        file.write(np.ascontiguousarray(rows).tobytes())

    yield put
    end = file.tell()
    file.seek(0)
    header()
    file.seek(end)


WRITERS: dict[str, Callable[[BinaryIO], AbstractContextManager[Put]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".feather": _feather,
    ".npy": _npy,
}
