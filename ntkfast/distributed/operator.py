"""Products with a kernel by the workers of a cluster."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from ntkfast.distributed.client import required
from ntkfast.engine import threads
from ntkfast.engine.problem import Problem
from ntkfast.engine.workers import Workers
from ntkfast.infinite import operator
from ntkfast.networks import Network
from ntkfast.support import sums
from ntkfast.support.progress import reporter
from ntkfast.support.sums import Arrays
from ntkfast.support.typing import Array, KernelName, Progress

__all__ = ["KernelOperator"]

LEAST = 64  # tiles of a task: some tenths of a second, of which Dask takes some milliseconds


class KernelOperator(operator.KernelOperator):
    """`ntkfast.KernelOperator` whose products are computed by the workers of a cluster.

    `ntkfast.solve` takes it, by conjugate gradients, and so does `ntkfast.kernel_pca` for the largest eigenvalues. Each
    product sends the vectors to every worker once; at most 64 tasks compute n numbers for each vector, which are
    added up in groups of eight, by workers if there are many. The order of these sums does not depend on the workers;
    the result differs from that of one machine by rounding.

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
        An argument is not as described, there is no client, or workers have another version of ntkfast, numpy, scipy
        or Python, or another instruction set: bits would differ.
    ConnectionError
        The cluster is gone, or has no workers.

    See Also
    --------
    ntkfast.KernelOperator : The same on one machine.
    solve : Regression with it.
    ntkfast.distributed.NystromRegression : Regression on centres.

    Examples
    --------
    >>> import distributed
    >>> import ntkfast as nf
    >>> with distributed.Client(n_workers=1, processes=False, dashboard_address=None) as client:  # doctest: +SKIP
    ...     nf.distributed.KernelOperator(nf.MLP(depth=2), [[1.0, 0.0]], client=client) @ [1.0]
    array([0.5])
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
        n_threads = threads.of_task(n_threads)
        super().__init__(net, X, Y, kernel, dtype=dtype, n_threads=n_threads, progress=progress)
        self._workers = Workers(required(client), self._problem)

    def _product(self, V: Array) -> Array:
        parts = sums.parts(self._problem.grid().tiles, LEAST)
        n_bytes = 8 * self.shape[0] * V.shape[1]
        with reporter(self.progress, self.kernel) as report:
            return self._workers.total(_part, parts, self.kernel, V, n_bytes=n_bytes, report=report)[0]

    def _of(self, problem: Problem) -> KernelOperator:
        other: Any = super()._of(problem)
        other._workers = self._workers.with_problem(problem)
        return other  # type: ignore[no-any-return]


def _part(problem: Problem, tiles: slice, kernel: str, V: Array) -> Arrays:
    """What some tiles of the matrix contribute to its product with V."""
    return (problem.product(kernel, V, False, tiles),)
