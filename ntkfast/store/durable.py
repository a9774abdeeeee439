"""Files that survive a power failure: the data are on disk before the file has its name, and the name before we go on.

Zarr's own local store writes beside a file and renames, too, but does not wait for the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


def write(path: Path, parts: Iterable[Any]) -> None:
    """Write bytes and arrays to a file, which is either complete or absent."""
    beside = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with open(beside, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    sync(path.parent)


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make(folder: Path) -> None:
    """Make a folder with its parents up to one that exists."""
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)
