"""Several outputs: independent ones as columns, coupled ones, whose kernel is (N, N, k, k), as one long column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.learning import checks
from ntkfast.support import arrays
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Array


@dataclass(frozen=True)
class Outputs(Saved):
    """How kernels and values of N points with k outputs become matrices and columns.

    Independent outputs share a kernel (N, N), and values (N, k) are k columns. Coupled outputs have a kernel
    (N, N, k, k), which becomes (N k, N k), and values (N, k) one column, (N k, 1); row i k + a is output a of point i.
    Kernels of coupled outputs may be given as (N k, N k), too.
    """

    n: int  # points
    k: int  # outputs
    coupled: bool
    flat: bool  # values were given as (N,)

    @classmethod
    def of(cls, K: Array, shape: tuple[int, ...], n: int | None) -> Outputs:
        """For a kernel K as `kernel` returns it and values of this shape."""
        k = shape[1] if len(shape) == 2 else 1
        if n is None:  # given as a matrix
            n = shape[0] if k > 1 and shape[0] * k == len(K) else len(K)
        coupled = n != len(K)
        return cls(n, len(K) // n if coupled else k, coupled, len(shape) == 1)

    @classmethod
    def rebuilt(cls, n: Any, k: Any, coupled: Any, flat: Any) -> Outputs:
        n, k = positive_integer(n, "n"), positive_integer(k, "k")
        return cls(n, k, checked(coupled, bool, "coupled"), checked(flat, bool, "flat"))

    def saved_columns(self, values: Any, name: str, dtype: DTypeLike) -> Array:
        """Values at the data from a file, as `values` returned them."""
        return checked_array(values, (self.n * self._block, 1 if self.coupled else self.k), name, dtype)

    @property
    def _block(self) -> int:
        """Rows of a point."""
        return self.k if self.coupled else 1

    # --- arguments

    def values(self, values: ArrayLike, name: str, dtype: DTypeLike, m: int | None = None) -> Array:
        """Values at m points, by default all of the data, as columns."""
        array = checks.columns(values, self.n if m is None else m, name, dtype, self.k)[0]
        return array.reshape(-1, 1) if self.coupled else array

    def symmetric(self, K: ArrayLike, name: str, m: int | None = None) -> Array:
        """A kernel of m points, by default the data, with themselves, as a matrix."""
        m = self.n if m is None else m
        return checks.symmetric(self._matrix(K, name, m, m), name, m * self._block)

    def cross(self, K: ArrayLike, name: str, dtype: DTypeLike, m: int | None = None) -> Array:
        """A kernel of m points (any number by default) with the data, as a matrix."""
        rows = None if m is None else m * self._block
        matrix = checks.matrix(self._matrix(K, name, m, self.n), name, (rows, self.n * self._block), dtype)
        if len(matrix) % self._block:
            raise ValueError(f"{name}: expected {self.k} rows for each point, got shape {matrix.shape}")
        return matrix

    def _matrix(self, K: ArrayLike, name: str, m: int | None, n: int) -> ArrayLike:
        shape, k = np.shape(K), self._block
        if len(shape) != 4:
            return K
        if shape[1:] != (n, k, k) or shape[0] != (shape[0] if m is None else m):
            wanted = f"({'any' if m is None else m}, {n}, {k}, {k})"
            raise ValueError(f"{name}: expected shape {wanted}, got {shape}")
        return checks.as_matrix(K, name)

    def variances(self, values: ArrayLike, name: str, m: int) -> Array:
        """Variances at m points, (m,), or (m, k) for coupled outputs, as one column."""
        if not self.coupled:
            return checks.variances(values, name, m)
        return checks.columns(values, m, name, np.float64, self.k)[0].reshape(-1)

    def points(self, rows: Array) -> int:
        """How many points these rows of a matrix belong to."""
        return len(rows) // self._block

    # --- results

    def shaped(self, columns: Array) -> Array:
        """(..., m, k), or (..., m) if values were given as (N,), from columns."""
        if self.coupled:
            columns = columns.reshape(*columns.shape[:-2], -1, self.k)
        return columns[..., 0] if self.flat else columns

    def variance(self, column: Array) -> Array:
        """(..., m), or (..., m, k) for coupled outputs."""
        return self.shaped(column[..., None]) if self.coupled else column

    def kernel(self, matrix: Array) -> Array:
        """(..., m, m), or (..., m, m, k, k) for coupled outputs."""
        if not self.coupled:
            return matrix
        m = matrix.shape[-1] // self.k
        return np.ascontiguousarray(np.swapaxes(matrix.reshape(*matrix.shape[:-2], m, self.k, m, self.k), -3, -2))

    def in_repr(self) -> str:
        """For reprs."""
        return "" if self.flat else f", {'coupled ' if self.coupled else ''}outputs={self.k}"


def kernel(K_xx: ArrayLike, name: str, in_place: bool = True, hint: str = "") -> tuple[Array, int | None]:
    """The kernel of the data as a symmetric matrix; and the number of points where its shape, (N, N, k, k), tells.

    Unless it is to be factored in place, there must be room for its factor, which is asked for before it is read.
    """
    given = arrays.real(K_xx, name)
    if given.ndim != 4:
        given = checks.square(given, name)
    if not in_place:
        checks.require_factor(given, name, hint)
    if given.ndim != 4:
        return checks.symmetric(given, name), None
    return checks.symmetric(checks.as_matrix(given, name), name), len(given)
