"""Kernel matrices as dask arrays."""

from __future__ import annotations

from typing import Any

import dask
import dask.array
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.distributed import client
from ntkfast.engine import threads
from ntkfast.engine.blocks import SIDE, Block, BlockGrid
from ntkfast.engine.problem import Problem, Window
from ntkfast.engine.workers import Workers
from ntkfast.networks import Network
from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Array

__all__ = ["nngp", "ntk"]


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
        With the bits of `ntkfast.ntk`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    See Also
    --------
    ntkfast.ntk : The same in memory.
    ntkfast.store.compute : The same on disk.
    ntkfast.distributed.KernelOperator : Products without a matrix.

    Examples
    --------
    >>> import dask
    >>> import ntkfast as nf
    >>> K = nf.distributed.ntk(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]])
    >>> with dask.config.set(scheduler="synchronous"):
    ...     K.trace().compute()
    np.float64(2.5)
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
    """The limit covariance Σ^L as a dask array, computed when it is asked for. See `ntkfast.nngp`.

    Parameters
    ----------
    net, X, Y, chunks, dtype, n_threads
        As in `ntk`.

    Returns
    -------
    dask.array.Array, shape (n, m)
        With the bits of `ntkfast.nngp`.

    Raises
    ------
    TypeError, ValueError
        As in `ntk`.

    See Also
    --------
    ntkfast.nngp : The same in memory.
    ntk : Θ.

    Examples
    --------
    >>> import dask
    >>> import ntkfast as nf
    >>> K = nf.distributed.nngp(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]])
    >>> with dask.config.set(scheduler="synchronous"):
    ...     K.trace().compute()
    np.float64(1.25)
    """
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
    problem = Problem(net, X, Y, dtype=dtype, n_threads=threads.of_task(n_threads))
    problem.load()
    grid = BlockGrid.of(problem, SIDE if chunks is None else positive_integer(chunks, "chunks"))
    there, computed = _sent(problem), dask.delayed(_window)

    def chunk(block: Block) -> dask.array.Array:
        window = grid.window(block)
        shape = tuple(part.stop - part.start for part in window)
        return dask.array.from_delayed(computed(there, kernel, window), shape, problem.dtype)

    kept = {block: chunk(block) for block in grid.blocks()}
    n, m = grid.counts
    rows = [[kept[i, j] if (i, j) in kept else kept[j, i].T for j in range(m)] for i in range(n)]
    result: dask.array.Array = dask.array.block(rows)
    return result


def _sent(problem: Problem) -> Any:
    """What represents a problem in tasks: it goes to each worker once."""
    found = client.current()
    return dask.delayed(problem, traverse=False) if found is None else Workers(found, problem).there


def _window(problem: Problem, kernel: str, window: Window) -> Array:
    """A part of the matrix."""
    found: Array = problem.matrices((kernel,), show=False, window=window)[0]
    return found
