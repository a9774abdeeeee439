"""Checks of kernel matrices, targets and times. Messages name the argument, what was expected and what was given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast.support import arrays, memory
from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Array, DType


def largest(dtype: DType) -> float:
    """The size up to which numbers are accepted: the sum of the squares of a million of them fits dtype."""
    return float(np.sqrt(np.finfo(dtype).max) / 2**10)


def smallest(dtype: DType) -> float:
    """The smallest accepted size of a kernel's largest entry: its square is a normal number."""
    return float(np.sqrt(np.finfo(dtype).tiny))


def bounded(array: Array, name: str) -> Array:
    """The array; raise for its first entry that is not finite, or too large to compute with."""
    most = largest(array.dtype)
    if array.size and not (array.min() >= -most and array.max() <= most):  # a NaN too
        arrays.finite(array, name, most)
    return array


@contextlib.contextmanager
def overflow(what: str) -> Iterator[Callable[[Any], Any]]:
    """Yields a function that returns its argument, or raises if that is not finite; silences all other warnings."""

    def fits(result: Any) -> Any:
        if not np.isfinite(result).all():
            raise ValueError(
                f"{what}: the result overflows {np.asarray(result).dtype}; scale the kernel or the targets"
            )
        return result

    with np.errstate(over="ignore", invalid="ignore"):
        yield fits


def count(value: object, name: str, most: int = 2**31 - 1) -> int:
    """value as an integer from 1 to most."""
    number = positive_integer(value, name)
    if number > most:
        got = number if number < 2**63 else f"one of {number.bit_length()} bits"
        raise ValueError(f"{name}: expected an integer up to {most}, got {got}")
    return number


def square(K: ArrayLike, name: str, n: int | None = None) -> NDArray[Any]:
    """K as an array of real numbers, (n, n), none of which is read yet: it may be larger than memory."""
    given = arrays.real(K, name)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
        raise ValueError(f"{name}: expected a square matrix, got shape {given.shape}")
    if n is not None and len(given) != n:
        raise ValueError(f"{name}: expected shape ({n}, {n}) to match the other arguments, got {given.shape}")
    return given


def require_factor(K: NDArray[Any], name: str, hint: str, copies: float = 1) -> None:
    """Raise MemoryError unless so many matrices like K fit, in its working dtype, before anything of K is read."""
    dtype = arrays.working_dtype(None, K)
    what = f"{name}: a factor of {' x '.join(map(str, K.shape))} numbers in {dtype}"
    memory.require(int(copies * dtype.itemsize * K.size), what, hint)


def symmetric(K: ArrayLike, name: str, n: int | None = None) -> Array:
    """K as a symmetric float32 or float64 array (n, n), not copied if it is one.

    Entries may differ from their mirror images by √eps of the largest, as in kernels whose entries a library computes
    twice; then only one triangle is used.
    """
    given = square(K, name, n)
    dtype = arrays.working_dtype(None, given)
    if given.dtype != dtype:
        memory.require(given.size * dtype.itemsize, f"{name}: a copy in {dtype}", f"; an array of {dtype} takes none")
    A: Array = np.asarray(given, dtype=dtype)
    size, worst, place = 0.0, 0.0, (0, 0)
    parts = arrays.blocks(len(A))
    for k, rows in enumerate(parts):
        for columns in parts[k:]:
            block = A[rows, columns]
            with np.errstate(over="ignore", invalid="ignore"):
                gap = np.abs(block - A[columns, rows].T)
            size = max(size, block.max(), -block.min())
            if not gap.max() <= worst:  # a NaN too
                worst, (row, column) = gap.max(), np.unravel_index(gap.argmax(), gap.shape)
                place = int(row) + rows.start, int(column) + columns.start
            if not (np.isfinite(worst) and size <= largest(A.dtype)):
                bounded(A, name)
    if worst > np.sqrt(np.finfo(A.dtype).eps) * size:
        i, j = place
        raise ValueError(
            f"{name}: expected a symmetric matrix, got {A[i, j]} at ({i}, {j}) and {A[j, i]} at ({j}, {i})"
        )
    if 0 < size < smallest(A.dtype):
        raise ValueError(
            f"{name}: expected 0 everywhere, or a largest entry of at least {smallest(A.dtype):.1e} in {A.dtype}, "
            f"got {size}; scale the data"
        )
    return A


def as_matrix(K: ArrayLike, name: str) -> Array:
    """A kernel (m, n, k, k) as a matrix (m k, n k): row i k + a is output a of point i."""
    given = arrays.real(K, name)
    m, n, k, also = given.shape
    if k != also:
        raise ValueError(f"{name}: expected shape (N, N, k, k), got {given.shape}")
    memory.require(given.nbytes, f"{name}: a copy as a matrix", "; a kernel given as (N k, N k) takes none")
    matrix: Array = np.swapaxes(given, 1, 2).reshape(m * k, n * k)
    return matrix


def in_place(K: object, name: str) -> None:
    """Raise unless K can be factored in its own memory."""
    if not isinstance(K, np.ndarray) or K.dtype not in arrays.DTYPES:
        what = f"dtype {K.dtype}" if isinstance(K, np.ndarray) else type(K).__name__
        raise TypeError(f"{name}: expected a float32 or float64 array to overwrite, got {what}")
    if not (K.flags.writeable and K.flags.aligned and (K.flags.c_contiguous or K.flags.f_contiguous)):
        raise ValueError(f"{name}: expected a writeable, contiguous array to overwrite, got a view or a read-only one")


def matrix(K: object, name: str, shape: tuple[int | None, int | None], dtype: DTypeLike) -> Array:
    """K as a finite matrix of this dtype; None in the shape means any size."""
    given = arrays.real(K, name)
    if given.ndim != 2 or any(want not in (None, got) for want, got in zip(shape, given.shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {given.shape}")
    with np.errstate(over="ignore"):  # beyond float32: reported as not finite
        return bounded(np.asarray(given, dtype=dtype), name)


def columns(values: ArrayLike, n: int, name: str, dtype: DTypeLike, n_columns: int | None = None) -> tuple[Array, bool]:
    """values, shape (n,) or (n, k), as (n, k), and whether they were given as (n,)."""
    given = arrays.real(values, name)
    if given.ndim not in (1, 2) or len(given) != n or not given.size:
        raise ValueError(f"{name}: expected shape ({n},) or ({n}, outputs), got {given.shape}")
    with np.errstate(over="ignore"):
        array: Array = np.array(given, dtype=dtype)  # a copy: the caller may change the original
    array = bounded(array, name).reshape(n, -1)
    if n_columns is not None and array.shape[1] != n_columns:
        source = "the kernel" if name == "y" else "y"
        raise ValueError(f"{name}: expected {n_columns} outputs as in {source}, got shape {given.shape}")
    return array, given.ndim == 1


def variances(values: ArrayLike, name: str, n: int) -> Array:
    """values as a float64 array of shape (n,)."""
    array, flat = columns(values, n, name, np.float64)
    if not flat:
        raise ValueError(f"{name}: expected shape ({n},), got {np.shape(values)}")
    return array[:, 0]


def times(t: ArrayLike, name: str = "t", infinite: bool = True) -> tuple[Array, bool]:
    """t as a 1-D float64 array of numbers >= 0, and whether it was given as one number."""
    given = arrays.real(t, name)
    if given.dtype.kind == "b":
        raise TypeError(f"{name}: expected real numbers, got dtype bool")
    array = given.astype(np.float64)
    if array.ndim > 1 or not array.size:
        raise ValueError(f"{name}: expected a number or a list of numbers, got shape {array.shape}")
    good = array >= 0 if infinite else (array >= 0) & np.isfinite(array)
    if not good.all():
        kind = "numbers" if infinite else "finite numbers"
        raise ValueError(f"{name}: expected {kind} >= 0, got {array[~good].flat[0]}")
    return np.atleast_1d(array), array.ndim == 0


def operator(K: Any) -> Any:
    """K_xx, if it is a square operator of real numbers."""
    if K.shape[0] != K.shape[1]:
        raise ValueError(f"K_xx: expected a square operator, got shape {K.shape}")
    if np.dtype(K.dtype).kind not in "iuf":
        raise TypeError(f"K_xx: expected an operator of real numbers, got dtype {K.dtype}")
    return K


def eps(K: Any) -> float:
    """The precision of a kernel's numbers, whether it is an array or an operator: float64's, unless it is float32."""
    return float(np.finfo(K.dtype if K.dtype in arrays.DTYPES else np.float64).eps)
