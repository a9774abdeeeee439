"""Cholesky's factor of a matrix on disk, larger than memory: itself on disk, and computed one block column at a time.

Left-looking: with L_j the columns before, column k is A_k - Σ_j L_j (L_j)_kᵀ, factored and written. So one column is in
memory, those before it are read once for each, n³/(6b) numbers for columns of width b, and nothing is written twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from ntkfast.learning import checks, pieces
from ntkfast.learning.definiteness import singular
from ntkfast.learning.solvers import checkpoint
from ntkfast.learning.solvers.iterative import times
from ntkfast.support import arrays, memory
from ntkfast.support.eigenvalues import DENSE
from ntkfast.support.files import abandoned, destination, locked, replacing, require_space
from ntkfast.support.progress import reporter
from ntkfast.support.saved import Saved, checked
from ntkfast.support.typing import Array, Progress

WIDEST = 8192  # columns
NARROWEST = 64
CHUNK = 2**25  # bytes of a column that are read at once
DESCRIPTION = "factor"  # the file that says what the others are of
SUFFIX = ".factor"


def is_on_disk(K: Any) -> bool:
    """Whether K reads parts of itself, K[rows, columns], from square blocks in a folder, as a `GramStore` does."""
    return hasattr(K, "block") and hasattr(K, "path") and hasattr(K, "columns")


@dataclass(frozen=True)
class Description(Saved):
    """What a folder has the factor of, and the width of its columns."""

    problem: dict[str, Any]
    width: int

    @classmethod
    def rebuilt(cls, problem: Any, width: Any) -> Description:
        names = {"n": int, "alpha": float, "dtype": str, "K_xx": np.ndarray}
        return cls(
            {name: checked(problem[name], kind, name) for name, kind in names.items()},
            checked(width, int, "width"),
        )


@contextlib.contextmanager
def scratch(K: Any, path: str | os.PathLike[str] | None) -> Iterator[Path]:
    """A folder for the factor: the one that is asked for, which stays, or one beside K for as long as it is needed."""
    if path is None:
        beside, prefix = Path(K.path).parent, f".{Path(K.path).name}."
        for left in beside.glob(f"{prefix}*{SUFFIX}"):  # by a process that was killed
            with contextlib.suppress(OSError):
                if abandoned(left):
                    shutil.rmtree(left)
        folder = beside / f"{prefix}{secrets.token_hex(6)}{SUFFIX}"
    else:
        folder = destination(path, "checkpoint")
        if (
            folder.exists()
            and not (folder / DESCRIPTION).is_file()
            and not (folder.is_dir() and not any(folder.iterdir()))
        ):
            raise ValueError(f"checkpoint: expected a folder that ntkfast.solve wrote, or a new one, got {folder}")
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder):
            yield folder
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "checkpoint: another process is writing this factor", str(folder)) from None
    finally:
        if path is None:
            shutil.rmtree(folder, ignore_errors=True)


class BlockedCholesky:
    """K + αI = L Lᵀ in a folder. What is there already, of the same K and α, is used."""

    def __init__(self, K: Any, alpha: float, folder: Path, n_columns: int, free: float) -> None:
        self._K, self._alpha, self._folder = K, alpha, folder
        self._n: int = K.shape[0]
        self._dtype = np.dtype(K.dtype)
        found = folder / DESCRIPTION
        width = _width(self._n, K.block, self._dtype.itemsize, free - 16 * self._n * n_columns)
        here = Description(checkpoint.identity(K, alpha), width)
        is_new = not found.exists()
        if not is_new:
            there: Description = checkpoint.read(found, Description)
            checkpoint.require_same(there.problem, here.problem, checks.eps(K), folder)
            width = there.width
        self.n_bytes = _bytes(width, self._n, K.block, self._dtype.itemsize) + 16 * self._n * n_columns
        what = f"K_xx: 'cholesky' of {self._n} points on disk, {width} columns at a time"
        memory.require(self.n_bytes, what, "; method='cg' needs less", free)
        self._columns = arrays.blocks(self._n, width)
        self._there = [k for k in range(len(self._columns)) if self._file(k).exists()]
        self._require_space()
        if is_new:
            checkpoint.write(found, here)

    def _file(self, k: int) -> Path:
        return self._folder / str(k)

    def _size(self, k: int) -> int:
        """The numbers of a column: its rows from the diagonal on."""
        columns = self._columns[k]
        return int((self._n - columns.start) * (columns.stop - columns.start))

    def _require_space(self) -> None:
        left = sum(self._size(k) for k in range(len(self._columns)) if k not in self._there)
        require_space(self._folder, left * self._dtype.itemsize, "what is left of the factor")

    def solve(self, Y: Array, progress: Progress) -> tuple[Array, float]:
        """(K + αI)⁻¹ Y, and log det(K + αI)."""
        R = np.array(Y, self._dtype, order="C")
        floor = float(self._K.diagonal().max() + self._alpha) * float(np.finfo(self._dtype).eps)
        floor *= 1 if self._alpha else self._n
        m, done, log_determinant = len(self._columns), 0, 0.0
        with reporter(progress, "Cholesky factor on disk") as report:
            for k in range(m):
                if k in self._there:
                    pivots = self._forward(R, k, self._rows(k, verify=True))
                else:
                    A = self._updated(k)
                    self._factor(A, k, floor)
                    self._write(A, k)
                    pivots = self._forward(R, k, iter([(slice(self._columns[k].start, self._n), A)]))
                log_determinant += float(2 * np.log(pivots.astype(np.float64)).sum())
                done += k + 1
                if report is not None:
                    report(done, m * (m + 1) // 2)
        self._backward(R, m)
        return R, log_determinant

    def _updated(self, k: int) -> Array:
        """A_k - Σ_j L_j (L_j)_kᵀ, from the diagonal on."""
        columns, n = self._columns[k], self._n
        A = np.empty((n - columns.start, columns.stop - columns.start), self._dtype)
        side = self._K.block
        for start in range(columns.start - columns.start % side, n, side):  # rows as they are on disk
            rows = slice(max(start, columns.start), min(start + side, n))
            A[rows.start - columns.start : rows.stop - columns.start] = self._K[rows, columns]
        A[np.diag_indices(A.shape[1])] += self._dtype.type(self._alpha)
        for j in range(k):
            top = self._read(j, columns)
            for rows, part in self._rows(j, columns.start):
                into = A[rows.start - columns.start : rows.stop - columns.start]
                pieces.subtract_product(into.T, top.T, part.T, trans_a=True)  # in Fortran's order: transposed
        return A

    def _factor(self, A: Array, k: int, floor: float) -> None:
        """Column k of L in place of A."""
        b = A.shape[1]
        square = A[:b].T  # in Fortran's order: L is on and below the diagonal first
        stopped = pieces.factor_in_place(square, False)
        if not stopped and (pivots := np.square(square.diagonal())).min() <= floor:
            stopped = int(pivots.argmin()) + 1
        if stopped:
            raise np.linalg.LinAlgError(self._singular(square, k, stopped - 1))
        pieces.solve_triangular_in_place(square, A[b:].T)
        arrays.mirror(square)
        for rows in arrays.blocks(b):
            A[rows, rows.stop : b] = 0
            A[rows, rows] = np.tril(A[rows, rows])

    def _singular(self, L: Array, k: int, pivot: int) -> str:
        """The message for a pivot of column k that is not above 0."""
        v, start = np.zeros((self._n, 1), self._dtype), self._columns[k].start
        v[start + pivot] = 1
        if pivot:
            v[start : start + pivot, 0] = -scipy.linalg.solve_triangular(
                L[:pivot, :pivot], L[pivot, :pivot], lower=True, trans="T", check_finite=False
            )
        self._backward(v, k)
        name = "K_xx + alpha I" if self._alpha else "K_xx"
        if self._n <= DENSE:
            return singular(name, self._K[:, :] + self._alpha * np.eye(self._n, dtype=self._dtype), v[:, 0])
        return singular(name, _Shifted(self._K, self._alpha), v[:, 0])

    def _write(self, A: Array, k: int) -> None:
        checksum = 0
        with replacing(self._file(k)) as file:
            for rows in arrays.blocks(len(A), self._many(k)):
                file.write(A[rows].data)
                checksum = zlib.crc32(A[rows].data, checksum)
            file.write(checksum.to_bytes(4, "little"))

    def _many(self, k: int) -> int:
        """Rows of a column that are read or written at once."""
        columns = self._columns[k]
        return max(1, CHUNK // ((columns.stop - columns.start) * self._dtype.itemsize))

    def _read(self, k: int, rows: slice) -> Array:
        """Rows of a column."""
        columns = self._columns[k]
        b, size = columns.stop - columns.start, self._dtype.itemsize
        count, offset = (rows.stop - rows.start) * b, (rows.start - columns.start) * b * size
        found: Array = np.fromfile(self._file(k), self._dtype, count, offset=offset)
        if len(found) < count:
            raise self._damaged(k)
        return found.reshape(-1, b)

    def _rows(self, k: int, start: int | None = None, verify: bool = False) -> Iterator[tuple[slice, Array]]:
        """Rows of a column from `start` on, by default its first; the next ones are read meanwhile.

        verify: compare all of them with their checksum at the end.
        """
        columns = self._columns[k]
        b, start = columns.stop - columns.start, columns.start if start is None else start
        many = self._many(k)
        parts = [slice(first, min(first + many, self._n)) for first in range(start, self._n, many)]
        if verify:  # what is solved with the first rows must have all columns of the diagonal's square
            parts = [
                slice(start, start + b),
                *(slice(max(p.start, start + b), p.stop) for p in parts if p.stop > start + b),
            ]
            if self._file(k).stat().st_size != self._size(k) * self._dtype.itemsize + 4:
                raise self._damaged(k)
        checksum = 0
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(self._read, k, parts[0])
            for number, rows in enumerate(parts):
                found = reading.result()
                if number + 1 < len(parts):
                    reading = reader.submit(self._read, k, parts[number + 1])
                checksum = zlib.crc32(found.data, checksum) if verify else 0
                yield rows, found
        if verify:
            with open(self._file(k), "rb") as file:
                file.seek(-4, os.SEEK_END)
                if int.from_bytes(file.read(), "little") != checksum:
                    raise self._damaged(k)

    def _damaged(self, k: int) -> ValueError:
        return ValueError(f"checkpoint: {self._file(k)} is damaged; delete this file to have it computed again")

    def _forward(self, R: Array, k: int, parts: Iterator[tuple[slice, Array]]) -> Array:
        """Eliminate column k from the right-hand sides; return the diagonal of L there."""
        columns = self._columns[k]
        b = columns.stop - columns.start
        rows, part = next(parts)
        R[columns] = pieces.solve_triangular(pieces.copy(part[:b], self._dtype), R[columns])
        if len(part) > b:
            R[rows.start + b : rows.stop] -= pieces.product(part[b:], R[columns])
        pivots: Array = part[:b].diagonal().copy()
        for rows, part in parts:
            R[rows] -= pieces.product(part, R[columns])
        return pivots

    def _backward(self, R: Array, last: int) -> None:
        """R becomes L⁻ᵀ R as far as the columns before `last` go."""
        for k in reversed(range(last)):
            columns = self._columns[k]
            for rows, part in self._rows(k, columns.stop) if columns.stop < self._n else ():
                R[columns] -= pieces.product(part.T, R[rows])
            L = pieces.copy(self._read(k, columns), self._dtype)
            R[columns] = pieces.solve_triangular(L, R[columns], trans=True)


class _Shifted:
    """K + αI, for Lanczos's method."""

    def __init__(self, K: Any, alpha: float) -> None:
        self._K, self._alpha = K, alpha
        self.shape, self.dtype = K.shape, K.dtype

    def diagonal(self) -> Array:
        diagonal: Array = self._K.diagonal() + self.dtype.type(self._alpha)
        return diagonal

    def __matmul__(self, v: Array) -> Array:
        product: Array = (times(self._K, v[:, None])[:, 0] + self._alpha * v).astype(self.dtype)
        return product


def _bytes(width: int, n: int, side: int, size: int) -> int:
    """A column, two pieces of another with its square, and what reading rows of K takes."""
    return size * width * (n + 2 * width + side) + 2 * max(CHUNK, size * width * width) + 3 * size * side**2


def _width(n: int, side: int, size: int, free: float) -> int:
    """Of a column: as wide as memory allows, in whole blocks of K, or whole parts of one."""
    width = min(n, WIDEST)
    while width > NARROWEST and _bytes(width, n, side, size) > free:
        width -= -(-width // 16)
    if width >= n:
        return n
    return width - width % side if width >= side else -(-side // -(-side // width))
