"""Checks and conversions of array arguments. Every message names the argument, what was expected and what was given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.support import memory, reprs
from ntkfast.support.typing import Array, DType

DTYPES: tuple[DType, DType] = (np.dtype(np.float32), np.dtype(np.float64))


def real(values: object, name: str, what: str = "an array of numbers") -> NDArray[Any]:
    """values as an array of real numbers, with dtype and layout unchanged.

    They may be anything on the CPU that NumPy's protocols or DLPack read, without a copy where the library allows it,
    and frames of numbers whose columns differ in dtype.
    """
    if np.ma.isMaskedArray(values):
        raise TypeError(f"{name}: expected an array without mask, got a masked array")
    if hasattr(values, "toarray") and hasattr(values, "nnz"):  # of scipy.sparse, which this need not import
        raise TypeError(f"{name}: expected a dense array, got a {type(values).__name__}; {name}.toarray() is one")
    try:
        array = _converted(values)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:  # also ragged nested lists
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: expected {what}, got {type(values).__name__} that is not one ({error})") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def _converted(values: Any) -> NDArray[Any]:
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        return np.from_dlpack(values)
    array = np.asarray(values)
    if array.dtype == object and hasattr(values, "dtypes") and hasattr(values, "to_numpy"):
        return _of_frame(values, array)
    return array


def _of_frame(frame: Any, array: NDArray[Any]) -> NDArray[Any]:
    """A frame of pandas with columns of several or of nullable dtypes, NaN where numbers are missing; what it was to
    NumPy if there are other columns.
    """
    dtypes = list(frame.dtypes) if np.ndim(frame) > 1 else [frame.dtypes]
    if not all(getattr(dtype, "kind", "O") in "biuf" for dtype in dtypes):
        return array
    single = all((dtype.kind, dtype.itemsize) == ("f", 4) for dtype in dtypes)
    found: NDArray[Any] = frame.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan)
    return found


def finite(array: Array, name: str, most: float = np.inf) -> Array:
    """The array; raise for its first entry that is not finite, or beyond `most` in absolute value."""
    good = np.isfinite(array) if np.isinf(most) else np.abs(array) <= most
    bad = np.argwhere(~good)
    if len(bad):
        place = tuple(int(k) for k in bad[0])
        what = f"numbers up to {most:.1e}" if np.isfinite(array[place]) else "finite numbers"
        hint = "; scale the data" if np.isfinite(array[place]) else ""
        raise ValueError(f"{name}: expected {what} in {array.dtype}, got {array[place]} at index {place}{hint}")
    return array


def blocks(n: int, size: int = 256) -> list[slice]:
    """Slices that cut range(n) into blocks of this size."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def mirror(A: Array) -> None:
    """Copy the entries below the diagonal to above it."""
    parts = blocks(len(A))
    for k, rows in enumerate(parts):
        for columns in parts[:k]:
            A[columns, rows] = A[rows, columns].T
        block = A[rows, rows]
        block[:] = np.tril(block) + np.tril(block, -1).T


def fix_signs(vectors: Array) -> None:
    """Flip columns, in place, so that their largest entry in absolute value (the first of them) is positive.

    Which of two signs LAPACK returns depends on the machine.
    """
    for part in blocks(vectors.shape[1]):
        block = vectors[:, part]
        largest = block[np.abs(block).argmax(axis=0), np.arange(block.shape[1])]
        block *= np.where(largest < 0, -1, 1).astype(block.dtype)


def sha256(array: Array) -> str:
    """Of the numbers in the order of C, in hexadecimal."""
    import hashlib

    data = np.ascontiguousarray(array).data
    try:
        return hashlib.sha256(data).hexdigest()
    except ValueError as error:  # OpenSSL has no other for a lack of memory
        raise MemoryError(str(error)) from error


def as_points(X: object, name: str, n_features: int | None = None) -> NDArray[Any]:
    """X as an array (n, d) with n, d >= 1 of real numbers, with dtype and layout unchanged."""
    array = real(X, name, "a 2-D array")
    if array.ndim != 2:
        hint = f"; points of one feature are {name}[:, None], one point is {name}[None, :]" if array.ndim == 1 else ""
        raise ValueError(f"{name}: expected a 2-D array (n_points, n_features), got shape {array.shape}{hint}")
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one point and one feature, got shape {array.shape}")
    if array.shape[1] >= 2**31:
        raise ValueError(f"{name}: expected fewer than 2**31 features, got shape {array.shape}")
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(f"{name}: expected {n_features} features as in X, got shape {array.shape}")
    return array


def working_dtype(dtype: DTypeLike | None, *arrays: NDArray[Any]) -> DType:
    """float32 if all arrays are, of any byte order, else float64; dtype, if given, must be one of the two."""
    if dtype is None:
        return DTYPES[not all(array.dtype.newbyteorder("=") == DTYPES[0] for array in arrays)]
    try:
        given = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected float32 or float64, got {reprs.brief(dtype)}") from None
    if given not in DTYPES:
        raise TypeError(f"dtype: expected float32 or float64, got {given}")
    return DTYPES[DTYPES.index(given)]


def in_dtype_of_product(product: Array, A: DType, V: DType) -> Array:
    """A sum in float64 in the dtype of a kernel of dtype A times vectors of dtype V: float32 if both are."""
    both = A == V == np.float32
    return product.astype(np.float32 if both else np.float64, copy=False)


def for_blas(array: NDArray[Any], name: str, dtype: DType) -> Array:
    """The array itself if its rows are contiguous with a leading dimension that BLAS accepts, else such a copy."""
    n, d = array.shape
    size = dtype.itemsize
    if array.dtype == dtype and array.flags.aligned and (d == 1 or array.strides[1] == size):
        step, rest = divmod(array.strides[0], size)
        if n == 1 or (rest == 0 and d <= step < 2**31):
            return array
    what = f"{name}: a contiguous copy in {dtype}"
    memory.require(array.size * size, what, f"; an array of {dtype} in C order takes none")
    with np.errstate(over="ignore"):  # float64 beyond float32's range: reported as not finite, with its row
        return contiguous(array, dtype)


def contiguous(array: NDArray[Any], dtype: DType) -> Array:
    """The array itself if it is what the engine reads, C-contiguous, aligned and of this dtype, else such a copy.

    NumPy's ascontiguousarray returns misaligned arrays as they are: fields of packed records, or parts of a file.
    """
    return np.require(array, dtype, ["C", "A"])


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, or a copy in its order that C may read: those of Dask lie anywhere in a message."""
    return np.require(array, requirements="A")


def require_finite(array: Array, squared_norms: Array, name: str) -> None:
    """Raise for the first row of the converted array that holds a NaN or inf, or whose squared norm overflows."""
    bad = np.flatnonzero(~np.isfinite(squared_norms))
    if len(bad) == 0:
        return
    row = bad[0]
    columns = np.flatnonzero(~np.isfinite(array[row]))
    if len(columns):
        value, place = array[row, columns[0]], f"row {row}, column {columns[0]}"
        raise ValueError(f"{name}: expected finite numbers in {array.dtype}, got {value} in {place}")
    raise ValueError(f"{name}: the squared norm of row {row} overflows {array.dtype}; scale the data")


def require_fitting(peaks: Array, dtype: DType, name: str) -> None:
    """Raise for the first point whose recursion does not fit dtype."""
    bad = np.flatnonzero(~(peaks <= np.finfo(dtype).max))
    if len(bad):
        hint = "scale the data or weight_std" + (", or use dtype=float64" if dtype == DTYPES[0] else "")
        raise ValueError(f"{name}: the kernel of row {bad[0]} with itself overflows {dtype} in some layer; {hint}")


def check_out(
    out: object, shape: tuple[int, ...], dtype: DType, inputs: Iterable[tuple[NDArray[Any], str]], name: str = "out"
) -> None:
    """Raise unless the result can be written into out without touching the inputs."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {out.shape}")
    if out.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: expected a writeable array, got a read-only one")
    if not out.flags.aligned or any(step % dtype.itemsize for step in out.strides):
        raise ValueError(f"{name}: expected strides in whole elements, got {out.strides} bytes for {dtype}")
    if _overlaps_itself(out):
        raise ValueError(f"{name}: expected one place per entry, got strides {out.strides} that overlap")
    for other, other_name in inputs:
        if _share_memory(out, other):
            raise ValueError(f"{name}: expected memory apart from {other_name}, got an overlap")


def fill_up(
    out: Sequence[NDArray[Any] | None], shape: tuple[int, ...], dtype: DType, hint: str, what: str = "the result"
) -> list[NDArray[Any]]:
    """out, a list of arrays or None, with a new array of this shape for each None."""
    missing = sum(given is None for given in out)
    size = missing * math.prod(shape) * dtype.itemsize
    memory.require(size, f"X: {what} of {missing} x {' x '.join(map(str, shape))} {dtype}", hint)
    return [np.empty(shape, dtype) if given is None else given for given in out]


def _overlaps_itself(array: NDArray[Any]) -> bool:
    reach = -1  # of the axes so far, from the innermost outwards
    for step, size in sorted((abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and step <= max(reach, 0):
            return True
        reach = max(reach, 0) + step * (size - 1)
    return False


def _share_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    try:
        return np.shares_memory(a, b, max_work=1000)  # type: ignore[arg-type]  # NumPy's stubs allow two values only
    except np.exceptions.TooHardError:  # interleaved in a way that is costly to decide
        return True


def finite_array(values: object, name: str, dtype: DTypeLike) -> Array:
    """values as a C-contiguous array of finite numbers of this dtype."""
    array = real(values, name)
    require(np.isfinite(array), array, name, "finite numbers")
    with np.errstate(over="ignore"):
        converted = np.asarray(array, dtype, order="C")
    if converted is not array:
        require(np.isfinite(converted), array, name, f"numbers within {np.dtype(dtype)}")
    return converted


def require(good: NDArray[np.bool_], array: NDArray[Any], name: str, what: str) -> None:
    """Raise for the first entry that is not good."""
    bad = np.argwhere(~good)
    if len(bad):
        place = ", ".join(f"{axis} {k}" for axis, k in zip(("row", "column"), bad[0], strict=False))
        raise ValueError(f"{name}: expected {what}, got {array[tuple(bad[0])]}{f' in {place}' if place else ''}")
