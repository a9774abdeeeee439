"""Kernels on a cluster, by Dask: matrices as dask arrays, products without a matrix, stores written by the workers.

Points go to the workers once, not with every task. A task computes a part of the matrix that begins and ends where the
engine's tiles do, so that it has the bits of the matrix on one machine, however often it is computed; a worker that is
killed costs its tasks, which Dask gives to others. Each task runs on one thread unless n_threads= says otherwise: a
worker has as many tasks at a time as it has threads. (Dask's nanny sets OMP_NUM_THREADS to 1 before a worker starts, so
that the engine cannot find out by itself.)

>>> import dask
>>> import numpy as np
>>> import ntkfast as nf
>>> net, X = nf.MLP(depth=3), np.random.default_rng(0).standard_normal((300, 4))
>>> K = nf.distributed.ntk(net, X)
>>> with dask.config.set(scheduler="synchronous"):
...     bool(np.array_equal(K.compute(), nf.ntk(net, X)))
True
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine.problem import Problem, Window
from ntkfast.infinite import operator
from ntkfast.networks import Network
from ntkfast.support.progress import reporter
from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Array, KernelName, Progress

try:
    import dask
    import dask.array
except ImportError as _error:
    raise ImportError("ntkfast.distributed needs Dask: pip install 'ntkfast[dask]'") from _error

__all__ = ["KernelOperator", "nngp", "ntk"]

SIDE = 4096  # of a chunk, about
ONE = 1  # thread of a task
PARTS = 64  # of a product, at most; a fixed number, so that sums do not depend on the workers


def ntk(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    chunks: int | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
) -> dask.array.Array:
    """The limit neural tangent kernel as a dask array, computed when it is asked for. See `ntkfast.ntk`.

    Parameters
    ----------
    net, X, Y, dtype
        As in `ntkfast.ntk`.
    chunks : int, optional
        Rows and columns of a chunk, rounded to the engine's tiles. Default: about 4096. Of a symmetric matrix chunks
        below the diagonal are transposes of those above.
    n_threads : int, optional
        Of a task. Default: 1.

    Returns
    -------
    dask.array.Array, shape (n, m)

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    return _matrix(net, X, Y, "ntk", chunks, dtype, n_threads)


def nngp(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    chunks: int | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
) -> dask.array.Array:
    """The limit covariance Σ^L as a dask array; parameters, result and errors are those of `ntk`."""
    return _matrix(net, X, Y, "nngp", chunks, dtype, n_threads)


def _matrix(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None,
    kernel: str,
    chunks: int | None,
    dtype: DTypeLike | None,
    n_threads: int | None,
) -> dask.array.Array:
    problem = Problem(net, X, Y, dtype=dtype, n_threads=ONE if n_threads is None else n_threads)
    problem.load()
    side = _side(problem, SIDE if chunks is None else positive_integer(chunks, "chunks"))
    parts = [[slice(start, min(start + side, size)) for start in range(0, size, side)] for size in problem.shape]
    there, computed = _sent(problem), dask.delayed(_window)
    blocks: list[list[Any]] = []
    for i, rows in enumerate(parts[0]):
        blocks.append([])
        for j, columns in enumerate(parts[1]):
            if problem.symmetric and j < i:
                blocks[i].append(blocks[j][i].T)
                continue
            shape = rows.stop - rows.start, columns.stop - columns.start
            block = computed(there, kernel, (rows, columns))
            blocks[i].append(dask.array.from_delayed(block, shape, problem.dtype))
    result: dask.array.Array = dask.array.block(blocks)
    return result


def _side(problem: Problem, wanted: int) -> int:
    """Of a chunk: whole tiles."""
    tile = problem.tile()
    return max(1, min(wanted // tile, -(-max(problem.shape) // tile))) * tile


def _client() -> Any:
    """Dask's client, if there is one; other schedulers have none."""
    try:
        from distributed import default_client

        return default_client()
    except (ImportError, ValueError):
        return None


def _sent(problem: Problem) -> Any:
    """What stands for a problem in tasks: it goes to each worker once."""
    client = _client()
    return dask.delayed(problem, traverse=False) if client is None else _scattered(client, problem)


def _scattered(client: Any, thing: Any) -> Any:
    """On every worker, under a name of its own: one of equal contents may just be on its way out."""
    return client.scatter(thing, broadcast=True, hash=False)


def _window(problem: Problem, kernel: str, window: Window) -> Array:
    """A part of the matrix."""
    found: Array = problem.matrices((kernel,), show=False, window=window)[0]
    return found


class KernelOperator(operator.KernelOperator):
    """`ntkfast.KernelOperator` whose products are computed by the workers of a cluster.

    `ntkfast.solve` takes it, by conjugate gradients, and so does `ntkfast.kernel_pca` for the largest eigenvalues. Each
    product sends the vectors to every worker once, and adds up at most 64 parts of n numbers for each vector, in one
    order, whatever the number of workers: they differ from those of one machine by rounding.

    Parameters
    ----------
    net, X, Y, kernel, dtype, progress
        As in `ntkfast.KernelOperator`. Rows, columns and the diagonal are computed here.
    n_threads : int, optional
        Of a task. Default: 1.
    client : distributed.Client, optional
        Default: the current one.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or there is no client.
    """

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        kernel: KernelName = "ntk",
        *,
        dtype: DTypeLike | None = None,
        n_threads: int | None = None,
        progress: Progress = None,
        client: Any = None,
    ) -> None:
        super().__init__(
            net, X, Y, kernel, dtype=dtype, n_threads=ONE if n_threads is None else n_threads, progress=progress
        )
        self._client = client if client is not None else _client()
        if self._client is None:
            raise ValueError("client: expected a distributed.Client, as there is no current one")
        self._there = _scattered(self._client, self._problem)

    def _product(self, V: Array) -> Array:
        if self._there.status != "finished":  # all workers that had it are gone
            self._there = _scattered(self._client, self._problem)
        last = self._problem.grid().tiles
        cuts = np.unique(np.linspace(0, last, min(PARTS, last) + 1).astype(int)).tolist()
        vectors = _scattered(self._client, V)
        parts = [
            self._client.submit(_part, self._there, self.kernel, vectors, first, last, pure=False)
            for first, last in pairwise(cuts)
        ]
        total = np.zeros((self.shape[0], V.shape[1]))
        with reporter(self.progress, self.kernel) as report:
            for number, part in enumerate(parts, start=1):
                total += part.result()
                part.release()
                if report is not None:
                    report(number, len(parts))
        return total

    def _of(self, problem: Problem) -> KernelOperator:
        other: Any = super()._of(problem)
        other._client, other._there = self._client, _scattered(self._client, problem)
        return other  # type: ignore[no-any-return]


def _part(problem: Problem, kernel: str, V: Array, first: int, last: int) -> Array:
    """What some tiles of the matrix contribute to its product with V."""
    return problem.product(kernel, V, False, first, last)
