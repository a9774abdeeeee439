"""Threads: how many, holding BLAS to one meanwhile, and what a fork does to them."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntkfast.engine import _core
from ntkfast.support import forks
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# More than any machine can use; OpenMP ends the process when the system refuses it a thread.
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))

# Floating-point operations of a BLAS or LAPACK call, some 30 ms on one core, below which several threads lose more by
# waiting for one another on a busy machine (factors of 5 to 50 were seen) than they gain on an idle one.
SMALL_WORK = 6e8


class _Caller:
    """Somebody who needs BLAS to have one thread."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class _State:
    """One per process; a child made by fork starts with a fresh one."""

    def __init__(self, pool_is_lost: bool = False) -> None:
        self.lock = threading.Lock()
        self.pool_is_lost = pool_is_lost  # GNU OpenMP hangs in a child whose parent used its threads
        self.pool_was_used = False
        self.libraries: list[Any] | None = None  # of BLAS
        self.callers: weakref.WeakSet[_Caller] = weakref.WeakSet()
        self.before: tuple[tuple[Any, int], ...] = ()  # BLAS libraries held to one thread, and the numbers they had


_state = _State()


@functools.cache
def cgroup_cpus() -> int | None:
    """CPUs that the cgroup's quota grants (rounded up), None without a quota."""
    for folder, quota_file, period_file in (
        ("/sys/fs/cgroup", "cpu.max", None),
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ):
        try:
            words = Path(folder, quota_file).read_text().split()
            quota = int(words[0])
            period = int(words[1] if period_file is None else Path(folder, period_file).read_text())
        except (OSError, ValueError, IndexError):  # no such file, or "max"
            continue
        if quota > 0 and period > 0:
            return max(1, math.ceil(quota / period))
    return None


def resolve(n_threads: int | None) -> int:
    """The number of threads for one call.

    None: OpenMP's own limit (OMP_NUM_THREADS, CPU affinity, threadpoolctl), lowered to the cgroup's quota. In a child
    forked after the parent used several threads it is one: GNU OpenMP would hang.
    """
    if n_threads is not None:
        n_threads = positive_integer(n_threads, "n_threads")
    else:
        n_threads = _core.max_threads()
        quota = cgroup_cpus()
        if quota is not None and "OMP_NUM_THREADS" not in os.environ:
            n_threads = min(n_threads, quota)
    n_threads = min(n_threads, MOST_THREADS)
    if _state.pool_is_lost or not _core.has_openmp():
        return 1
    if n_threads > 1:
        _state.pool_was_used = True
    return n_threads


def of_task(n_threads: int | None) -> int:
    """The number of threads for a task on a cluster: one, as a worker has as many tasks at a time as it has threads.

    (Dask's nanny sets OMP_NUM_THREADS to 1 before a worker starts, so that `resolve` could not find out by itself.)
    """
    return 1 if n_threads is None else positive_integer(n_threads, "n_threads")


def _controller() -> ThreadpoolController:
    """threadpoolctl's view of the libraries, including SciPy's, which it finds only once they are loaded."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController  # takes a while to import

    return ThreadpoolController()


def blas_controller() -> ThreadpoolController:
    """The BLAS libraries alone."""
    return _controller().select(user_api="blas")


def limited(n_threads: int | None) -> contextlib.AbstractContextManager[object]:
    """Holds OpenMP and BLAS to this number of threads in the whole process, unless it is None."""
    return contextlib.nullcontext() if n_threads is None else _controller().limit(limits=n_threads)


def blas(n_threads: int | None, flops: float) -> contextlib.AbstractContextManager[object]:
    """Holds BLAS to this number of threads in the whole process, for work whose largest call takes this many flops.

    None: one thread below SMALL_WORK, else BLAS's own number.
    """
    if n_threads is not None:
        n_threads = positive_integer(n_threads, "n_threads")
    elif flops < SMALL_WORK:
        n_threads = 1
    if n_threads == 1:
        return single_threaded_blas()
    return contextlib.nullcontext() if n_threads is None else _held(n_threads)


def _set(library: Any, n_threads: int) -> None:
    """From any thread: threadpoolctl 3.8 ignores all but the first that sets the number, as long as that lives."""
    claim = getattr(library, "clear_controlling_thread", None)
    if claim is not None:
        claim(force=True)
    library.set_num_threads(n_threads)
    if claim is not None:
        claim(force=True)


def _restore(before: Iterable[tuple[Any, int]]) -> None:
    """Whatever fails on the way is tried once more: it may be memory that another thread has given back."""
    for library, n_threads in before:
        try:
            _set(library, n_threads)
        except MemoryError:
            _set(library, n_threads)


@contextlib.contextmanager
def _held(n_threads: int) -> Iterator[None]:
    libraries = blas_controller().lib_controllers
    before = [(library, library.get_num_threads()) for library in libraries]
    try:
        with _state.lock:
            for library in libraries:
                _set(library, n_threads)
        yield
    finally:
        with _state.lock:
            _restore(before)


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One BLAS thread while any caller is inside: the tiles are parallel already, and two pools would compete, or the
    work is small.

    The caller who finds no other one left restores the numbers of threads, so that the next call repairs whatever an
    interrupt skipped, or a lack of memory.
    """
    state, caller = _state, _Caller()
    try:
        with state.lock:
            state.callers.add(caller)
            if state.libraries is None:
                state.libraries = blas_controller().lib_controllers
            if not state.before:
                state.before = tuple((library, library.get_num_threads()) for library in state.libraries)
            for library, _ in state.before:
                _set(library, 1)
        yield
    finally:
        try:
            _leave(state, caller)
        except MemoryError:
            _leave(state, caller)


def _leave(state: _State, caller: _Caller) -> None:
    with state.lock:
        state.callers.discard(caller)
        if not state.callers:
            _restore(state.before)
            state.before = ()


_forking: dict[int, contextlib.ExitStack] = {}  # thread that forks -> what it holds meanwhile


def _blas_calls() -> dict[int, tuple[Any, int]]:
    """Other threads that may be in a call of BLAS with several threads, and where: their innermost frame and its
    instruction.
    """
    safe = {threading.get_ident(), *_forking, *(caller.thread for caller in list(_state.callers))}
    found = {}
    for thread, innermost in sys._current_frames().items():
        frame = None if thread in safe else innermost
        while frame is not None and _package(frame) != "ntkfast":
            frame = frame.f_back
        if frame is not None and _package(innermost) in {"ntkfast", "numpy", "scipy"}:
            found[thread] = innermost, innermost.f_lasti
    return found


def _package(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _before_fork() -> None:
    """OpenBLAS ends its threads at a fork, and a call of another thread that uses them would wait for them for ever.

    So hold it to one, and wait for the calls of this library that had begun with several: not for long where the thread
    may as well be waiting for a lock. Nor may another thread be setting its number of threads, under a lock that the
    child would find locked.
    """
    if threading.active_count() < 2 or (_state.libraries is None and not _blas_calls()):
        return
    held = _forking[threading.get_ident()] = contextlib.ExitStack()
    held.enter_context(single_threaded_blas())
    begun, end = _blas_calls(), time.monotonic() + forks.PATIENCE
    while begun:
        time.sleep(0.001)
        now, late = _blas_calls(), time.monotonic() > end
        begun = {
            thread: call
            for thread, call in begun.items()
            if now.get(thread) == call and not (late and _package(call[0]) == "ntkfast")
        }
    if _state.lock.acquire(timeout=forks.PATIENCE):
        held.callback(_state.lock.release)


def _after_fork() -> None:
    held = _forking.pop(threading.get_ident(), None)
    if held is not None:
        held.close()


def _after_fork_in_child() -> None:
    global _state
    before = _state.before
    _after_fork()
    _state = _State(_state.pool_was_used or _state.pool_is_lost)
    _restore(before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
