"""Nyström regression whose passes over the points are made by the workers of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

from numpy.typing import ArrayLike, DTypeLike

from ntkfast.distributed.client import required
from ntkfast.engine import threads
from ntkfast.engine.problem import Problem
from ntkfast.engine.workers import Workers, check_client, require_same
from ntkfast.learning.solvers import nystrom
from ntkfast.learning.solvers.panels import Panels, Part
from ntkfast.learning.solvers.source import Function
from ntkfast.networks import Network
from ntkfast.support.progress import reporter
from ntkfast.support.sums import Arrays
from ntkfast.support.typing import Array, KernelName, Memory, Progress, Seed

__all__ = ["NystromRegression"]


class NystromRegression(nystrom.NystromRegression):
    """`ntkfast.NystromRegression` whose passes over the points are made by the workers of a cluster.

    These are the pass of the direct method, every iteration of FALKON, leave-one-out errors and variances. What is
    left, m³ operations for m centres, and predictions happen here. A pass is at most 64 tasks, each for 2048 points or
    more; workers add up their sums in groups of eight, this process the groups. Results do not depend on the
    number of workers: they have the bits of `ntkfast.NystromRegression`, where BLAS is the same. `ntkfast.save` makes a
    `ntkfast.NystromRegression` of it.

    Memory of a worker: the points and targets; for each thread a panel of some 100 MiB, and in the direct method as a
    rule three matrices (m, m) of float64. Should others stall, it holds up to two for each thread of the cluster. Here:
    as much as `ntkfast.NystromRegression`. Where many centres meet many cores, one worker for each machine holds least,
    with one Dask thread and n_threads= its cores.

    Parameters
    ----------
    net, n_centers, alpha, kernel, method, tol, max_iterations, rng, dtype, progress
        As in `ntkfast.NystromRegression`.
    client : distributed.Client, optional
        Default: the current one.
    n_threads : int, optional
        Of a task. Default: 1.
    memory : int or str, optional
        Bytes that may be used here.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, there is no client, or workers have another version of ntkfast, numpy, scipy
        or Python, or another instruction set: bits would differ.
    MemoryError
        m x m matrices do not fit into `memory`; nothing has been computed then.
    ConnectionError
        The cluster is gone, or has no workers, or all that had the points were lost during a pass.

    See Also
    --------
    ntkfast.NystromRegression : The same on one machine, with its attributes and equations.

    Examples
    --------
    >>> import distributed
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.random.default_rng(0).standard_normal((500, 3))
    >>> with distributed.Client(n_workers=1, processes=False, dashboard_address=None) as client:  # doctest: +SKIP
    ...     model = nf.distributed.NystromRegression(nf.MLP(3), 100, 0.1, rng=0, client=client).fit(X, X[:, 0])
    """

    def __init__(
        self,
        net: Network | Function,
        n_centers: int | ArrayLike,
        alpha: float | str | ArrayLike,
        *,
        kernel: KernelName = "ntk",
        method: Literal["auto", "direct", "falkon"] = "auto",
        tol: float = 1e-8,
        max_iterations: int = 200,
        client: Any = None,
        rng: Seed = None,
        dtype: DTypeLike | None = None,
        n_threads: int | None = None,
        progress: Progress = None,
        memory: Memory = None,
    ) -> None:
        super().__init__(
            net,
            n_centers,
            alpha,
            kernel=kernel,
            method=method,
            tol=tol,
            max_iterations=max_iterations,
            rng=rng,
            dtype=dtype,
            progress=progress,
            memory=memory,
        )
        self._threads_of_task = threads.of_task(n_threads)
        self._client = required(client)
        check_client(self._client)

    def fit(self, X: ArrayLike, y: ArrayLike, *, checkpoint: str | os.PathLike[str] | None = None) -> NystromRegression:
        """Learn from the data, by the workers of the cluster.

        Parameters
        ----------
        X, y, checkpoint
            As in `ntkfast.NystromRegression.fit`; they go to each worker once.

        Returns
        -------
        NystromRegression
            Itself, fitted.

        Raises
        ------
        TypeError, ValueError, MemoryError, ConnectionError
            As for the class.

        See Also
        --------
        ntkfast.NystromRegression.fit : The same on one machine.

        Examples
        --------
        >>> import distributed
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.random.default_rng(0).standard_normal((500, 3))
        >>> with distributed.Client(n_workers=1, processes=False, dashboard_address=None) as client:  # doctest: +SKIP
        ...     nf.distributed.NystromRegression(nf.MLP(3), 100, 0.1, client=client).fit(X, X[:, 0]).solution.method
        'direct'
        """
        require_same(self._client)  # before the work on the centres
        super().fit(X, y, checkpoint=checkpoint)
        return self

    def _panels_of(self, X: Any, C: Array) -> Panels:
        n_threads = self._threads_of_task
        return _Panels(self._client, self._net, X, C, self._kernel, self._dtype, n_threads, self._progress)


class _Panels(Panels):
    """Panels whose parts are computed by workers."""

    def __init__(self, client: Any, *given: Any) -> None:
        super().__init__(*given)
        self._workers = Workers(client, self._problem)

    def each(self, what: str, function: Callable[..., Any], *given: Any) -> Iterator[Any]:
        with reporter(self._progress, what) as report:
            yield from self._workers.each(_on_part, self._parts, *self._first(function), *given, report=report)

    def _gram(self, what: str, function: Callable[..., Arrays], *given: Any) -> Arrays:
        first, n_bytes = self._first(function), 8 * self.shape[1] ** 2
        with reporter(self._progress, what) as report:
            return self._workers.total(_on_part, self._parts, *first, *given, n_bytes=n_bytes, report=report)

    def _first(self, function: Callable[..., Any]) -> tuple[Any, ...]:
        return function, self._kernel, self._n_threads


def _on_part(
    problem: Problem,
    rows: slice,
    function: Callable[..., Any],
    kernel: KernelName,
    n_threads: int,
    *given: Any,
) -> Any:
    return function(Part(problem, kernel, rows, n_threads), *given)
