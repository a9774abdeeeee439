"""Files that are either complete or absent: written next to their final place and renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file, to read too, that becomes `path` when the block ends, and leaves no trace if it does not.

    It is written next to `path` as .ntkfast-….tmp. A file that is replaced keeps its permissions; if `path` is a link,
    its target is replaced. An OSError in the block names `path`.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".ntkfast-{secrets.token_hex(6)}.tmp")
    try:
        with open(beside, "x+b") as file:
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
