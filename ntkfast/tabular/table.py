"""Tables in files: CSV, Parquet, Feather, .npy and .npz, whole or some rows at a time."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.tabular.errors import TableError, listed

Column: TypeAlias = NDArray[Any]  # float64 with NaN where a value is missing, or objects: str, or None where one is


@dataclass(frozen=True)
class Table:
    """Named columns of one length."""

    columns: dict[str, Column]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def rows(self, chosen: Any) -> Table:
        return Table({name: column[chosen] for name, column in self.columns.items()})

    def without(self, names: Sequence[str]) -> Table:
        return Table({name: column for name, column in self.columns.items() if name not in names})


def library(name: str) -> Any:
    """A module of the extra `tables`."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ImportError(f"tables of this kind need {package}: pip install 'ntkfast[tables]'") from None


def read(path: str | Path, text: Sequence[str] = ()) -> Table:
    """The whole table."""
    (table,) = chunks(path, None, text)
    return table


def chunks(path: str | Path, size: int | None, text: Sequence[str] = ()) -> Iterator[Table]:
    """The table in pieces of at most this many rows; None: in one piece. The columns named in `text` are read as text.

    Only .npz files are read whole whatever the size is.
    """
    path = Path(path)
    if not path.suffix or path.suffix.lower() not in READERS:
        raise TableError(f"{path}: expected a file that ends in {', '.join(READERS)}, got {path.name}")
    if path.is_dir():
        raise TableError(f"{path}: expected a file, got a folder")
    if path.stat().st_size == 0:  # raises if there is no such file
        raise TableError(f"{path}: the file is empty")
    some = False
    for table in READERS[path.suffix.lower()](path, size, frozenset(text)):
        if not len(table) and some:
            continue
        if not len(table):
            raise TableError(f"{path}: the table has no rows")
        some = True
        yield table
    if not some:
        raise TableError(f"{path}: the table has no rows")


# --- columns of pandas

NUMBERS = ("integer", "floating", "boolean", "decimal", "mixed-integer-float")
TEXT = ("string", "categorical", "mixed", "mixed-integer")


def _column(series: Any, name: str, path: Path, as_text: bool) -> Column:
    """A column of a data frame."""
    pandas = library("pandas")
    kind = pandas.api.types.infer_dtype(series, skipna=True)
    if kind == "categorical":
        return _column(series.astype(series.cat.categories.dtype), name, path, as_text)
    if kind == "empty":  # nothing but missing values
        return np.full(len(series), None) if as_text else np.full(len(series), np.nan)
    if kind in NUMBERS and not as_text:
        if kind == "decimal":
            series = series.astype(object)
        return np.asarray(series.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))
    if kind not in TEXT + NUMBERS:
        raise TableError(
            f"{path}: column {name!r}: expected numbers or text, got {kind}; drop it or make numbers of it"
        )
    values = np.full(len(series), None)
    there = series.notna().to_numpy()
    values[there] = [str(value) for value in series[there]]
    return values


def _from_frame(frame: Any, path: Path, text: frozenset[str]) -> Table:
    names = [str(name) for name in frame.columns]
    if not names:
        raise TableError(f"{path}: the table has no columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: expected columns of different names, got {listed(twice)} more than once")
    columns = {name: _column(frame.iloc[:, k], name, path, name in text) for k, name in enumerate(names)}
    return Table(columns)


# --- one reader for each format: (path, size, text) -> tables


def _read_csv(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    pandas = library("pandas")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            header = next(csv.reader([first], delimiter=delimiter), [])
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise TableError(f"{path}: expected columns of different names, got {listed(twice)} more than once")
            file.seek(0)
            frames = pandas.read_csv(
                file,
                sep=delimiter,
                skipinitialspace=True,
                index_col=False,
                dtype={name: str for name in header if name in text},
                **({"low_memory": False} if size is None else {"chunksize": size}),
            )
            for frame in [frames] if size is None else frames:
                yield _from_frame(frame, path, text)
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: expected text in UTF-8, got byte {error.object[error.start]:#x}") from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, csv.Error) as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        raise TableError(f"{path}: this is no CSV table ({reason})") from None


def _from_arrow(batches: Callable[[Any], Iterator[Any]], path: Path, text: frozenset[str]) -> Iterator[Table]:
    library("pandas")
    arrow = library("pyarrow")
    try:
        for batch in batches(arrow):
            yield _from_frame(batch.to_pandas(), path, text)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, arrow.ArrowNotImplementedError) as error:
        raise TableError(f"{path}: {str(error).splitlines()[0]}") from None


def _read_parquet(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    def batches(arrow: Any) -> Iterator[Any]:
        with library("pyarrow.parquet").ParquetFile(path) as file:
            if size is None:
                yield file.read()
                return
            for k in range(file.num_row_groups):  # with all at once, or in threads, memory grows with the file
                yield from file.iter_batches(size, row_groups=[k], use_threads=False)

    return _from_arrow(batches, path, text)


def _read_feather(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    def batches(arrow: Any) -> Iterator[Any]:
        if size is None:
            yield library("pyarrow.feather").read_table(path)
            return
        with arrow.memory_map(str(path)) as source, library("pyarrow.ipc").open_file(source) as file:
            for k in range(file.num_record_batches):
                batch = file.get_batch(k)
                yield from (batch.slice(start, size) for start in range(0, batch.num_rows, size))

    return _from_arrow(batches, path, text)


def _array_columns(array: NDArray[Any], key: str, path: Path) -> dict[str, Column]:
    """The columns of an array: named by their numbers, after the key if there is one; a vector has the key's name."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "biufU":
        raise TableError(
            f"{path}: expected matrices and vectors of numbers or text, got {key or 'an array'} of shape "
            f"{array.shape} and dtype {array.dtype}"
        )
    array = array.astype(object if array.dtype.kind == "U" else np.float64)
    if array.ndim == 1:
        return {key or "0": array}
    return {f"{key}{k}": column for k, column in enumerate(array.T)}


def _load(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TableError(f"{path}: this is no file of NumPy arrays ({error})") from None


def _read_npy(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    array = _load(path)
    if not isinstance(array, np.ndarray):
        raise TableError(f"{path}: expected one array, got a file of several; name it .npz")
    step = size or max(1, len(array) if array.ndim else 1)
    for start in range(0, len(array) if array.ndim else 1, step):
        yield Table(_array_columns(array[start : start + step] if array.ndim else array, "", path))


def _read_npz(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    columns: dict[str, Column] = {}
    arrays = _load(path)
    if isinstance(arrays, np.ndarray):
        raise TableError(f"{path}: expected a file of several arrays, got one array; name it .npy")
    with arrays:
        for key in arrays.files:
            try:
                found = _array_columns(arrays[key], key, path)
            except ValueError as error:  # of objects, which are not read
                raise error if isinstance(error, TableError) else TableError(f"{path}: {key}: {error}") from None
            twice = sorted(found.keys() & columns.keys())
            if twice:
                raise TableError(f"{path}: expected columns of different names, got {listed(twice)} more than once")
            columns |= found
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise TableError(
            f"{path}: expected arrays of one length, got {lengths[short]} rows in {short!r} and {lengths[long]} in "
            f"{long!r}"
        )
    table = Table(columns)
    step = size or max(1, len(table))
    yield from (table.rows(slice(start, start + step)) for start in range(0, len(table), step))


Reader: TypeAlias = Callable[[Path, int | None, frozenset[str]], Iterator[Table]]
READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".feather": _read_feather,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
