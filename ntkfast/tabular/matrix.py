"""The kernel of a table in a file, and its spectrum."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import DTypeLike

from ntkfast.engine import threads
from ntkfast.infinite.kernels import kernels
from ntkfast.infinite.operator import KernelOperator
from ntkfast.learning.factor import fortran
from ntkfast.learning.spectrum import kernel_pca
from ntkfast.networks import Network
from ntkfast.support import memory
from ntkfast.support.files import npy_memmap, replacing, require_space, sweep
from ntkfast.support.typing import Array, KernelName
from ntkfast.tabular import columns
from ntkfast.tabular.columns import Encoder
from ntkfast.tabular.errors import TableError
from ntkfast.tabular.table import Table


def points(table: Table, encoders: tuple[Encoder, ...] | None, path: str | Path) -> Array:
    """The rows of a table as points: its numbers as they are, or features as encoders make them."""
    if encoders is not None:
        return columns.encode(encoders, table)
    for name, column in table.items():
        if columns.is_text(column, name):
            raise TableError(f"{path}: column {name!r}: expected numbers, got text; drop it, or pass --standardize")
    counts = [(name, int(columns.is_missing(column).sum())) for name, column in table.items()]
    if any(count for _, count in counts):
        missing = ((name, count) for name, count in counts if count)
        raise columns.missing_values(missing, "fill them in, or pass --standardize --impute median")
    result: Array = np.stack([columns.numbers(column, name) for name, column in table.items()], axis=1)
    return result


def gram(
    net: Network,
    X: Array,
    Y: Array | None,
    out: str | Path,
    kernel: KernelName,
    dtype: DTypeLike,
    n_threads: int | None,
    progress: Any = None,
) -> tuple[int, int]:
    """Write a kernel matrix to a .npy file, which is mapped into memory, and return its shape."""
    path, dtype = Path(out), np.dtype(dtype)
    sweep(path)  # before asking for free space
    shape = (len(X), len(X if Y is None else Y))
    require_space(path, shape[0] * shape[1] * dtype.itemsize, f"the matrix of {shape[0]} by {shape[1]} numbers")
    with replacing(path) as file:
        matrix: Any = npy_memmap(file, shape, dtype)
        kernels(net, X, Y, get=kernel, out=matrix, dtype=dtype, n_threads=n_threads, progress=progress)
        matrix.flush()
        del matrix
    return shape


def gram_to_store(
    net: Network,
    X: Array,
    Y: Array | None,
    out: str | Path,
    kernel: KernelName,
    dtype: DTypeLike,
    client: str | None,
    n_threads: int | None,
    progress: Any = None,
) -> None:
    """Write a kernel matrix to a Zarr folder, or go on with it, and repair what is damaged.

    client: the address of a Dask scheduler, or a number of workers here, which do it.
    """
    from ntkfast import store

    there = store.open(out) if Path(out).exists() else None
    if there is not None and (there.kernel, there.dtype) != (kernel, np.dtype(dtype)):
        raise TableError(
            f"out: {out} is a store of another matrix: it is {there.kernel} in {there.dtype}, not {kernel} in {dtype}"
        )
    options: Any = {"n_threads": n_threads, "progress": progress}
    with cluster(client) as workers:
        if there is None:
            store.compute(net, X, out, Y, kernel=kernel, dtype=dtype, client=workers, **options)
        else:
            store.repair(net, X, out, Y, client=workers, **options)


def cluster(client: str | None) -> contextlib.AbstractContextManager[Any]:
    """A client of the scheduler at this address, or of so many workers here; None for None."""
    if client is None:
        return contextlib.nullcontext()
    from ntkfast.distributed.client import connected  # needs Dask

    found: contextlib.AbstractContextManager[Any] = connected(client)
    return found


@dataclass(frozen=True)
class Plan:
    """What a kernel matrix will take: bytes on disk, seconds, bytes of memory beside the points."""

    n_bytes: int
    seconds: float
    memory: int


SAMPLE = 1024  # rows and columns


def plan(
    net: Network, X: Array, Y: Array | None, stored: bool, kernel: KernelName, dtype: DTypeLike, n_threads: int | None
) -> Plan:
    """The plan of `gram` or `store`, from the time of a part of the matrix."""
    columns = X if Y is None else Y
    size, n, m = np.dtype(dtype).itemsize, len(X), len(columns)
    sample = [points[np.linspace(0, len(points) - 1, min(SAMPLE, len(points))).astype(int)] for points in (X, columns)]
    seconds = []
    for _ in range(3):  # the first has tables and threads to make
        start = time.perf_counter()
        kernels(net, *sample, get=kernel, dtype=dtype, n_threads=n_threads, progress=False)
        seconds.append(time.perf_counter() - start)
    entries = n * (n + 1) // 2 if Y is None else n * m
    per_entry = min(seconds) / (len(sample[0]) * len(sample[1]))
    if not stored:
        return Plan(size * n * m, per_entry * entries, 0)
    from ntkfast.store.job import BUFFERS, Job

    job = Job(net, X, os.curdir, Y, kernel, dtype, n_threads)  # which is never run
    job.divide(None)
    return Plan(job.block_bytes * len(job.grid), per_entry * entries, BUFFERS * job.block_bytes)


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues λ of K/N, largest first, and what follows from them.

    Attributes
    ----------
    eigenvalues : ndarray, shape (k,)
    trace : float
        The sum of all N.
    n : int
    """

    eigenvalues: Array
    trace: float
    n: int

    @property
    def learned_at(self) -> Array:
        """1/λ_i: the time at which gradient descent has reduced the error along a component to 1/e."""
        return np.divide(1.0, self.eigenvalues, out=np.full(len(self.eigenvalues), np.inf), where=self.eigenvalues > 0)

    def effective_dimension(self, alpha: float) -> float:
        """Σ_i λ_i/(λ_i + α/N), of kernel ridge regression with the ridge α (Zhang 2005); a lower bound if some λ are
        not known."""
        return float((self.eigenvalues / (self.eigenvalues + alpha / self.n)).sum())

    @property
    def participation(self) -> float:
        """(Σ λ_i)²/Σ λ_i²; an upper bound, hardly above it, if the smallest λ are not known."""
        return self.trace**2 / float(np.square(self.eigenvalues).sum())


def spectrum(
    net: Network, X: Array, kernel: KernelName, n_components: int | None, n_threads: int | None, progress: Any = None
) -> Spectrum:
    """The spectrum of a kernel: all of it from the matrix, or the largest components from products with it."""
    n = len(X)
    if n_components is not None and n_components < n:
        operator = KernelOperator(net, X, kernel=kernel, n_threads=n_threads, progress=progress)
        found = kernel_pca(operator, n_components, tol=1e-6, rng=0, n_threads=n_threads)
        assert found.trace is not None  # the operator has a diagonal
        return Spectrum(found.eigenvalues, found.trace, n)
    memory.require(2 * 8 * n * n, f"the kernel of {n} rows and its eigenvalues", "; --components 100 needs no matrix")
    K = kernels(net, X, get=kernel, dtype=np.float64, n_threads=n_threads, progress=progress)
    trace = float(K.trace()) / n
    with threads.blas(n_threads, float(n) ** 3):
        values = scipy.linalg.eigvalsh(fortran(K, True, "the kernel"), overwrite_a=True, check_finite=False)[::-1] / n
    return Spectrum(np.maximum(values, 0), trace, n)
