"""A problem on the workers of a Dask cluster: sent to each of them once, and tasks that use it.

Dask is a guest here: all that is used of it are methods of the client that is passed in. Before work starts, and in
every task, since workers may join later, versions and instruction sets are compared: others round otherwise.
"""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import fields, is_dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from ntkfast.engine.config import instruction_set
from ntkfast.support import arrays, sums
from ntkfast.support.sums import Arrays
from ntkfast.support.typing import Array

SMALL = 2**22  # bytes that are sent in less time than another task costs
TRIES = 5
GONE = "the cluster is gone, or all workers that had the points are"
AHEAD = 2  # parts for each thread of the cluster that are computed or wait to be added: what bounds the memory


@functools.cache
def described() -> dict[str, str]:
    """What results and pickles depend on."""
    from importlib.metadata import version  # slow to import

    return {
        "ntkfast": version("ntkfast"),
        "instruction set": str(instruction_set()),
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def check_client(client: Any) -> None:
    """Raise unless this is None or what Dask calls a client."""
    if client is not None and not (hasattr(client, "scatter") and hasattr(client, "submit")):
        raise TypeError(f"client: expected a distributed.Client, got {type(client).__name__}")


def require_cluster(client: Any) -> None:
    """Raise unless the cluster is there."""
    if client.status != "running":
        raise ConnectionError(f"client: expected a cluster that answers, got a client that is {client.status}")


def require_same(client: Any) -> None:
    """Raise unless the cluster is there, and all workers have what this process has."""
    require_cluster(client)
    found = client.run(described, on_error="return")
    if not found:
        raise ConnectionError("client: expected a cluster with workers, got none; client.wait_for_workers(1) waits")
    for address, there in found.items():
        if isinstance(there, OSError):  # it has just died
            continue
        if isinstance(there, BaseException):
            raise ValueError(f"client: expected workers with ntkfast, got {there!r} from {address}")
        _compare(described(), there, address)


def _compare(wanted: dict[str, str], there: dict[str, str], address: str) -> None:
    for name, value in wanted.items():
        if there.get(name) != value:
            hint = f"; NTKFAST_ISA={value} selects it where the CPU has it" if name == "instruction set" else ""
            got = f"{there.get(name)} on {address}"
            raise ValueError(f"client: expected workers with {name} {value} as here, got {got}{hint}")


class Workers:
    """The workers of a cluster, which have a problem: a `Problem`, or what else their functions take.

    Raises
    ------
    TypeError, ValueError, ConnectionError
        client is not one, has other workers than are needed, or none.
    """

    def __init__(self, client: Any, problem: Any) -> None:
        check_client(client)
        require_same(client)
        self._client, self._problem = client, problem
        self._there = self._scatter(problem)

    def with_problem(self, problem: Any) -> Workers:
        """The same workers with another problem."""
        other = object.__new__(Workers)
        other._client, other._problem = self._client, problem
        other._there = self._scatter(problem)
        return other

    def _put(self, thing: Any) -> Any:
        """What represents this in tasks. An array that is not large is the result of one, so that it cannot be lost."""
        if isinstance(thing, np.ndarray) and thing.nbytes <= SMALL:
            return self._client.submit(_same, thing, pure=False)
        if not isinstance(thing, np.ndarray) and not is_dataclass(thing):
            return thing  # a few bytes
        return self._scatter(thing)

    def _scatter(self, thing: Any) -> Any:
        """What represents this on every worker, under a name of its own: an equal one may just be on its way out."""
        for _ in range(TRIES):
            try:
                found = self._client.scatter(thing, broadcast=True, hash=False)
            except OSError:  # a worker that has just died
                pass
            else:
                if self._is_safe(found):
                    return found
            require_cluster(self._client)
            time.sleep(1)
        try:
            return self._client.scatter(thing, broadcast=True, hash=False)
        except OSError as error:
            raise ConnectionError(f"client: expected a cluster with workers, got none for long ({error})") from None

    def _is_safe(self, scattered: Any) -> bool:
        """Whether it outlives a worker: one that died during the broadcast may have been the first to have it."""
        there = self._client.who_has(scattered).get(scattered.key, ())
        return len(there) >= min(2, len(self._client.nthreads()))

    @property
    def there(self) -> Any:
        """What represents the problem in tasks."""
        if self._there.status != "finished":  # all workers that had it are gone
            self._there = self._scatter(self._problem)
        return self._there

    def submit(self, function: Callable[..., Any], *given: Any) -> Any:
        """The future of function(problem, *given)."""
        return self._client.submit(_task, described(), function, self.there, *given, pure=False)

    def finished(self, function: Callable[..., Any], values: list[Any], *given: Any) -> Iterator[tuple[Any, Any]]:
        """Each value with function(problem, *given, value), in the order in which they are done.

        What is lost with all workers that had the problem is sent again.
        """
        from distributed import as_completed

        for _ in range(TRIES):
            futures, values = {self.submit(function, *given, value): value for value in values}, []
            for future in as_completed(futures, loop=self._client.loop):
                value = futures.pop(future)
                try:
                    result = future.result()
                except CancelledError:
                    values.append(value)
                else:
                    yield value, result
            if not values:
                return
            require_cluster(self._client)
        raise ConnectionError(f"client: {GONE}")

    def each(
        self,
        function: Callable[..., Any],
        ranges: list[slice],
        *given: Any,
        report: Callable[[int, int], object] | None = None,
    ) -> Iterator[Any]:
        """function(problem, range, *given) for each range, in their order.

        What is lost with all workers that had the problem, or what is given, is sent again.
        """
        task, first = functools.partial(_task, described(), function), 0
        for again in reversed(range(TRIES)):
            require_cluster(self._client)
            left = ranges[first:]
            there = ([self._put(thing)] * len(left) for thing in given)
            futures = self._client.map(task, [self.there] * len(left), left, *there, key=function.__name__, pure=False)
            while first < len(ranges):
                some, futures = futures[: sums.GROUP], futures[sums.GROUP :]  # one call for several costs less
                try:
                    results = self._client.gather(some)
                except CancelledError as error:
                    if not again:
                        raise ConnectionError(f"client: {GONE} ({error})") from None
                    break
                for result in results:
                    yield result
                    first += 1
                    if report is not None:
                        report(ranges[first - 1].stop, ranges[-1].stop)
            else:
                return

    def total(
        self,
        function: Callable[..., Arrays],
        ranges: list[slice],
        *given: Any,
        n_bytes: int,
        report: Callable[[int, int], object] | None = None,
    ) -> Arrays:
        """Their sum, as in `sums`. If terms have many bytes, workers add up the groups: here they would be too many."""
        if n_bytes <= SMALL:
            return sums.in_groups(self.each(function, ranges, *given, report=report))
        require_cluster(self._client)
        there = [self._put(thing) for thing in given]
        ahead = AHEAD * sum(self._client.nthreads().values())
        groups: list[Any] = []
        done = [Event() for _ in ranges]
        for k in range(len(ranges) + ahead):
            if 0 <= k - ahead < len(ranges):
                done[k - ahead].wait()
                if report is not None:
                    report(ranges[k - ahead].stop, ranges[-1].stop)
                if groups[(k - ahead) // sums.GROUP].status == "error":
                    break
            if k < len(ranges):
                term = self.submit(function, ranges[k], *there)
                term.add_done_callback(functools.partial(_set, done[k]))
                if k % sums.GROUP == 0:
                    groups.append(term)
                else:  # first of all, so that terms do not wait in memory
                    groups[-1] = self._client.submit(_added, groups[-1], term, pure=False, priority=1)
        return sums.total(_waiting(groups.pop(0).result) for _ in ranges[:: sums.GROUP])


def _set(event: Event, _: Any) -> None:
    event.set()


def _waiting(result: Callable[..., Any], *given: Any) -> Any:
    """result(*given), which waits for the cluster."""
    try:
        return result(*given)
    except CancelledError as error:
        raise ConnectionError(f"client: {GONE} ({error})") from None


def _task(wanted: dict[str, str], function: Callable[..., Any], problem: Any, *given: Any) -> Any:
    _compare(wanted, described(), platform.node())
    return function(problem, *map(_aligned, given))


def _aligned(thing: Any) -> Any:
    """The same arrays, aligned.

    NumPy would copy them for every product, in another order, on which last bits depend where OpenBLAS has kernels for
    small matrices (AVX-512).
    """
    if isinstance(thing, np.ndarray):
        return arrays.aligned(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        return replace(thing, **{field.name: _aligned(getattr(thing, field.name)) for field in fields(thing)})
    return thing


def _same(array: Array) -> Array:
    return array


def _added(a: Arrays, b: Arrays) -> Arrays:
    return tuple(x + y for x, y in zip(a, b, strict=True))
