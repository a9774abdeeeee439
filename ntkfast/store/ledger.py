"""The ledger of a store: which blocks are finished, and the checksum of each. A block is on disk before its line is.

A line is the block, the CRC-32C of its contents, and a CRC of the line itself. The last line may be torn, by a kill or
a full disk: it is left out. Any other line that is not as it was written is damage.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from ntkfast.engine.blocks import Block
from ntkfast.support.errors import StoreError
from ntkfast.support.files import replacing


def _line(block: Block, checksum: int) -> bytes:
    text = f"{block[0]} {block[1]} {checksum:08x}".encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _parsed(line: bytes) -> tuple[Block, int] | None:
    text, _, check = line.rpartition(b" ")
    try:
        if int(check, 16) != zlib.crc32(text):
            return None
        i, j, checksum = text.split()
        return (int(i), int(j)), int(checksum, 16)
    except ValueError:
        return None


def read(path: Path) -> dict[Block, int]:
    """The checksums of the finished blocks."""
    if not path.is_file():
        raise StoreError(f"path: the ledger {path} is missing; `repair` makes a new one")
    *lines, _ = path.read_bytes().split(b"\n")
    found = {}
    for number, line in enumerate(lines, start=1):
        entry = _parsed(line)
        if entry is None:
            raise StoreError(f"path: line {number} of the ledger {path} is damaged; `repair` makes a new one")
        found[entry[0]] = entry[1]
    return found


def append(path: Path, block: Block, checksum: int) -> None:
    """A finished block, on disk when this returns."""
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # a torn line ends here
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
        file.write(_line(block, checksum))
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, entries: Iterable[tuple[Block, int]]) -> None:
    """A new ledger in place of the old one."""
    with replacing(path) as file:
        file.write(b"".join(_line(*entry) for entry in entries))
