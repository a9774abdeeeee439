"""Files that are either complete or absent: written next to their final place and renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where the files of a killed process stay
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file, to read too, that becomes `path` when the block ends, and leaves no trace if it does not.

    It is written next to `path` as .ntkfast-….tmp, and is locked meanwhile. A process that is killed leaves it behind,
    without the lock: whoever writes `path` next deletes it. A file that is replaced keeps its permissions; if `path` is
    a link, its target is replaced. An OSError in the block names `path`.
    """
    sweep(path)
    target = Path(os.path.realpath(path))
    beside = target.with_name(f"{_prefix(target)}{secrets.token_hex(6)}.tmp")
    with contextlib.ExitStack() as held:
        try:
            with open(beside, "x+b") as file:
                if fcntl:
                    lock = os.dup(file.fileno())  # keeps the lock until the file has its name
                    held.callback(os.close, lock)
                    _is_free(lock)
                yield file
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, error.strerror, os.fspath(path)) from None
            raise


def sweep(path: str | os.PathLike[str]) -> None:
    """Delete what processes that were killed while they wrote `path` have left."""
    target = Path(os.path.realpath(path))
    for left in target.parent.glob(f"{_prefix(target)}*.tmp"):
        with contextlib.suppress(OSError), open(left, "rb") as file:
            if _is_free(file.fileno()):
                left.unlink()


def _prefix(target: Path) -> str:
    """Of the files that become this one: short whatever its name."""
    return f".ntkfast-{zlib.crc32(os.fsencode(target.name)):08x}-"


def _is_free(file: int) -> bool:
    """Whether nobody else holds a lock on an open file; then it is locked. False where files cannot be locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (AttributeError, OSError):
        return False
    return True
