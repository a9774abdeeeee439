"""Tables in files: CSV, Parquet, Feather, .npy and .npz, whole or some rows at a time."""

from __future__ import annotations

import csv
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.support import memory
from ntkfast.support.files import opened
from ntkfast.tabular.errors import TableError, listed

MAGIC = b"\x93NUMPY"
MOST_PACKED = 1100  # times its size that deflate can pack into a member: 1032

# Numbers (bool, integers or floats), with NaN where a value is missing; or objects: str, or None where one is.
Column: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """Named columns of one length.

    `refused` are columns that are neither numbers nor text: whoever asks for one gets the error, others ignore them.
    """

    columns: dict[str, Column]
    refused: dict[str, str] = field(default_factory=dict)  # what is wrong with each

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, *self.refused)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        if name in self.refused:
            raise TableError(f"column {name!r}: {self.refused[name]}")
        return self.columns[name]

    def items(self) -> list[tuple[str, Column]]:
        """Every column with its name; raise if one is refused."""
        return [(name, self[name]) for name in self.names]

    def rows(self, chosen: Any) -> Table:
        return Table({name: column[chosen] for name, column in self.columns.items()}, self.refused)

    def without(self, names: Sequence[str]) -> Table:
        return Table(
            {name: column for name, column in self.columns.items() if name not in names},
            {name: problem for name, problem in self.refused.items() if name not in names},
        )


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


def about_rows(path: str | Path) -> int | None:
    """How many rows there are, for a progress bar: of text an estimate from its first lines; None: unknown."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        with open(path, "rb") as file:
            start = file.read(2**20)
        lines = start.count(b"\n")
        return round(path.stat().st_size / len(start) * lines) - 1 if lines > 1 else None
    if kind == ".npy":
        shape: tuple[int, ...] = np.shape(load(path))
        return shape[0] if shape else None
    if kind == ".parquet":
        try:
            with library("pyarrow.parquet").ParquetFile(path) as found:
                return int(found.metadata.num_rows)
        except library("pyarrow").ArrowInvalid:  # which `chunks` reports
            return None
    return None


class _Refused(Exception):
    """What is wrong with a column."""


def _table(columns: dict[str, Column], refused: dict[str, str], path: Path) -> Table:
    """A table, some of whose columns can be used."""
    if refused and not columns:
        name, problem = next(iter(refused.items()))
        raise TableError(f"{path}: column {name!r}: {problem}")
    return Table(columns, refused)


def _column(series: Any, as_text: bool) -> Column:
    """A column of a data frame. Numbers keep their dtype if it can hold every value."""
    pandas = library("pandas")
    kind = pandas.api.types.infer_dtype(series, skipna=True)
    if kind == "categorical":
        return _column(series.astype(series.cat.categories.dtype), as_text)
    if kind == "empty":  # nothing but missing values
        return np.full(len(series), None) if as_text else np.full(len(series), np.nan)
    if kind in NUMBERS and not as_text:
        dtype = getattr(series.dtype, "numpy_dtype", series.dtype)  # pandas has dtypes with a mask, too
        if dtype.kind in "biuf" and (dtype is series.dtype or not series.isna().any()):
            return np.asarray(series.to_numpy(dtype=dtype))
        if kind == "decimal":
            series = series.astype(object)
        return np.asarray(series.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))
    if kind not in TEXT + NUMBERS:
        raise _Refused(f"expected numbers or text, got {kind}; drop it or make numbers of it")
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
    columns: dict[str, Column] = {}
    refused: dict[str, str] = {}
    for k, name in enumerate(names):
        try:
            columns[name] = _column(frame.iloc[:, k], name in text)
        except _Refused as error:
            refused[name] = str(error)
    return _table(columns, refused, path)


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


def _array_columns(array: NDArray[Any], key: str) -> dict[str, Column]:
    """The columns of an array: named by their numbers, after the key if there is one; a vector has the key's name."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "biufU":
        raise _Refused(
            f"expected a matrix or a vector of numbers or text, got shape {array.shape} and dtype {array.dtype}"
        )
    array = array.astype(object if array.dtype.kind == "U" else array.dtype.newbyteorder("="))
    if array.ndim == 1:
        return {key or "0": array}
    return {f"{key}{k}": column for k, column in enumerate(array.T)}


def load(path: Path) -> Any:
    """The array of a .npy file, or the file of several that .npz is; TableError if it is neither."""
    with opened(path) as file:
        start = file.read(12)
    try:
        length = int.from_bytes(start[8:12], "little") if start.startswith(MAGIC) and start[6:7] > b"\1" else 0
        if length > os.path.getsize(path):
            raise ValueError("a header longer than the file, for which NumPy would take memory")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make zipfile and NumPy raise anything
        if start.startswith(MAGIC) and "Python objects" in str(error):
            what = "Python objects, which are never read"
        elif start.startswith((MAGIC, b"PK")):
            what = "a damaged one"
        else:
            what = "a file of another kind"
        wanted = f"a {path.suffix} file" if path.suffix else "an array"
        raise TableError(f"{path}: expected {wanted} of numbers or text, got {what}") from None


def _read_npy(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    array = load(path)
    if not isinstance(array, np.ndarray):
        raise TableError(f"{path}: expected one array, got a file of several; name it .npz")
    step = size or max(1, len(array) if array.ndim else 1)
    for start in range(0, len(array) if array.ndim else 1, step):
        try:
            yield Table(_array_columns(array[start : start + step] if array.ndim else array, ""))
        except _Refused as error:
            raise TableError(f"{path}: {error}") from None


def _require_size(archive: zipfile.ZipFile, key: str) -> None:
    """Raise unless the array's header suits the size of its member, and that what it is compressed to."""
    if f"{key}.npy" not in archive.namelist():
        return
    info = archive.getinfo(f"{key}.npy")
    if info.file_size > MOST_PACKED * (info.compress_size + 1):
        raise ValueError(f"{key}: {info.file_size} bytes from {info.compress_size}")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        n_bytes = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and n_bytes != info.file_size - member.tell():
            raise ValueError(f"{key}: {n_bytes} bytes in a member of {info.file_size}")
    memory.require(n_bytes, f"{key}: the array", "; a .npy file is read in parts")


def _read_npz(path: Path, size: int | None, text: frozenset[str]) -> Iterator[Table]:
    columns: dict[str, Column] = {}
    refused: dict[str, str] = {}
    arrays = load(path)
    if isinstance(arrays, np.ndarray):
        raise TableError(f"{path}: expected a file of several arrays, got one array; name it .npy")
    with arrays:
        for key in arrays.files:
            try:
                _require_size(arrays.zip, key)
                found = _array_columns(np.asarray(arrays[key]), key)  # what is no array there comes as bytes
            except _Refused as error:
                refused[key] = str(error)
                continue
            except MemoryError:
                raise
            except Exception as error:  # a damaged file can make zipfile and NumPy raise anything
                if isinstance(error, ValueError) and "Object arrays" in str(error):
                    refused[key] = "expected numbers or text, got Python objects, which are never read"
                    continue
                raise TableError(f"{path}: {key}: expected an array, got a damaged one") from None
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
    table = _table(columns, refused, path)
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
