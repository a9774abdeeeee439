"""Files that are either complete or absent: written next to their final place and renamed."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.support.memory import in_words

try:
    import fcntl
except ImportError:  # Windows, where the files of a killed process stay
    fcntl = None  # type: ignore[assignment]


def named(path: object, name: str = "path") -> str:
    """A path as text; an error that names the argument for what is none, an empty one, or one with null characters."""
    try:
        text = os.fsdecode(path)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected a path, got {type(path).__name__}") from None
    if not text or "\0" in text:
        raise ValueError(f"{name}: expected a path, got {text!r}")
    return text


def resolved(path: object, name: str = "path") -> Path:
    """A path in full, whatever folder the process goes to later; errors as those of `named`."""
    try:
        return Path(named(path, name)).resolve()
    except RuntimeError as error:  # a loop of links
        raise ValueError(f"{name}: expected a path, got {path!r} ({error})") from None


def destination(path: object, name: str = "path") -> Path:
    """A path in full that is to be written; FileNotFoundError if there is no folder for it."""
    found = resolved(path, name)
    if not found.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"{name}: there is no folder", str(found.parent))
    return found


@contextlib.contextmanager
def opened(path: object, name: str = "path") -> Iterator[BinaryIO]:
    """A regular file to read; a ValueError that names the argument for a pipe or a device, without waiting for it."""
    text, at_once = named(path, name), getattr(os, "O_NONBLOCK", 0)
    with open(text, "rb", opener=lambda path, flags: os.open(path, flags | at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{name}: expected a file, got {text}, which is not a regular one")
        yield file


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file, to read too, that becomes `path` when the block ends, and leaves no trace if it does not.

    It survives a power failure: its data are on disk before it has its name, and the name before this returns.

    It is written next to `path` as .ntkfast-….tmp, and is locked meanwhile. A process that is killed leaves it behind,
    without the lock: whoever writes `path` next deletes it. A file that is replaced keeps its permissions; if `path` is
    a link, its target is replaced. An OSError in the block names `path`.
    """
    named(path)
    target = Path(os.path.realpath(path))
    if target.is_char_device() or target.is_block_device():  # root could replace /dev/null
        raise FileExistsError(errno.EEXIST, "it is a device", os.fspath(path))
    sweep(path)
    with contextlib.ExitStack() as held:
        beside = target
        try:
            while True:
                beside = target.with_name(f"{_prefix(target)}{secrets.token_hex(6)}.tmp")
                file = held.enter_context(open(beside, "x+b"))
                lock = os.dup(file.fileno())  # keeps the lock until the file has its name
                held.callback(os.close, lock)
                _lock(lock)
                if os.fstat(lock).st_nlink:  # else another process has swept it before it was locked
                    break
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)
            sync(target.parent)
        except BaseException as error:
            if beside != target:
                with contextlib.suppress(OSError):
                    beside.unlink()
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, error.strerror, os.fspath(path)) from None
            raise


def require_space(path: Path, n_bytes: int, what: str) -> None:
    """Raise OSError unless the disk has this much space left for what is to be written to a path."""
    free = shutil.disk_usage(path if path.is_dir() else path.resolve().parent).free
    if n_bytes > free:
        raise OSError(errno.ENOSPC, f"{what} takes {in_words(n_bytes)}, {in_words(free)} are free", str(path))


def npy_memmap(file: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Make an empty file a .npy file, and map its array into memory."""
    dtype = np.dtype(dtype)
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    file.flush()
    start = file.tell()
    reserve(file, start + math.prod(shape) * dtype.itemsize)
    return np.memmap(file, dtype, "r+", start, shape)


def reserve(file: BinaryIO, size: int) -> None:
    """Make an open file this large, and keep the space for it: a map of it would end in SIGBUS on a disk without."""
    os.truncate(file.fileno(), size)  # to a limit of its size, which ends in an OSError, too
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # not on macOS and Windows
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system without it
            raise


def sweep(path: str | os.PathLike[str]) -> None:
    """Delete what processes that were killed while they wrote `path` have left."""
    target = Path(os.path.realpath(path))
    for left in target.parent.glob(f"{_prefix(target)}*.tmp"):
        with contextlib.suppress(OSError), open(left, "rb") as file:
            if _lock(file.fileno()):
                left.unlink()


def _prefix(target: Path) -> str:
    """Of the files that become this one: short whatever its name."""
    return f".ntkfast-{zlib.crc32(os.fsencode(target.name)):08x}-"


def _lock(file: int) -> bool:
    """Lock an open file, if nobody else holds it. False where files cannot be locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (AttributeError, OSError):
        return False
    return True


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """A file or folder that one process at a time holds; BlockingIOError if another one does.

    The system releases the lock however the process ends. Where there are no locks, everyone gets it.
    """
    if fcntl is None:
        yield
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(opened)


def abandoned(path: str | os.PathLike[str]) -> bool:
    """Whether no process holds this file or folder any more (`locked`). False where there are no locks."""
    opened = os.open(path, os.O_RDONLY)
    try:
        return _lock(opened)
    finally:
        os.close(opened)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder, or the data of a file, are on disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot wait for names
            raise
    finally:
        os.close(opened)
