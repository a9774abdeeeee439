"""Forks: a child has only the thread that forked, and finds locked for ever what another thread held."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

PATIENCE = 10.0  # seconds that a fork waits for threads which import, compile or may be in a call of BLAS
LIBRARIES = {"ntkfast", "numpy", "scipy", "numba", "llvmlite", "threadpoolctl"}  # imported on first use


class Guarded:
    """An object whose lock, `_lock`, is usable in a child made by fork, whoever held it."""

    _lock: Any

    def guard(self) -> None:
        """Called on construction."""
        self._lock = threading.RLock()
        _guarded.add(self)

    def abandoned(self) -> None:
        """Called in a child if another thread held the lock: what it guards may be half made.

        Unless overridden, the object is lost there.
        """
        self._lock = _Lost(type(self).__name__)


class _Lost:
    """In place of a lock that nobody will release."""

    owner = None  # of an import lock, in the child of a child

    def __init__(self, what: str, doing: str = "using") -> None:
        self.what, self.doing = what, doing

    def acquire(self, *args: Any) -> NoReturn:
        raise RuntimeError(
            f"{self.what}: another thread was {self.doing} it when this process was forked, and this process cannot; "
            'start processes with the "spawn" method of multiprocessing'
        )

    __enter__ = acquire

    def __exit__(self, *error: object) -> None: ...

    def release(self) -> None: ...


class cached_property(functools.cached_property[T]):
    """functools.cached_property without the lock that it has before Python 3.12, one for all objects of a class."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        super().__init__(function)
        self.lock: Any = contextlib.nullcontext()


_guarded: weakref.WeakSet[Guarded] = weakref.WeakSet()


def _is_held(lock: Any) -> bool:
    """Whether another thread holds a reentrant lock."""
    if isinstance(lock, _Lost):  # in the child of a child
        return False
    if not lock.acquire(False):
        return True
    lock.release()
    return False


class _Compiler(Guarded):
    """What numba compiles for this library. numba has locks of its own, which a fork may leave locked."""

    def __init__(self) -> None:
        self.guard()

    @property
    def lock(self) -> Any:
        return self._lock

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """function(*args), which compiles.

        For the main thread another one does it: Ctrl-C would be lost in LLVM's callbacks and end as numba's own error.
        So it ends the waiting, and what is compiled is there for the next call.
        """
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def work() -> None:
            try:
                with self._lock:
                    result.set_result(function(*args))
            except BaseException as error:
                result.set_exception(error)

        if threading.current_thread() is threading.main_thread():
            threading.Thread(target=work, name="compiler").start()
        else:
            work()
        return result.result()

    def abandoned(self) -> None:
        self._lock = _Lost("numba's compiler")


compiler = _Compiler()


_import_locks: dict[str, Any] = getattr(importlib._bootstrap, "_module_locks", {})


def _importing() -> list[str]:
    """The modules of LIBRARIES that other threads are importing."""
    found = []
    for name, reference in list(_import_locks.items()):
        lock = reference() if name.partition(".")[0] in LIBRARIES else None
        if lock is not None and lock.owner not in (None, threading.get_ident()):
            found.append(name)
    return found


def _before_fork() -> None:
    """Wait for threads that do what a child could not finish: importing a library, and compiling."""
    end = time.monotonic() + PATIENCE
    while (_importing() or _is_held(compiler.lock)) and time.monotonic() < end:
        time.sleep(0.001)


def _after_fork() -> None:
    for name in _importing():
        lost = _Lost(name, "importing")
        _import_locks[name] = lambda lost=lost: lost
    for each in list(_guarded):
        if _is_held(each._lock):
            each.abandoned()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
