"""The folder of a store: a Zarr array of version 3, one chunk for each block, and a ledger of the finished ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from ntkfast.engine.blocks import Block, BlockGrid
from ntkfast.store import ledger
from ntkfast.support.errors import StoreError
from ntkfast.support.files import replacing
from ntkfast.support.typing import Array

ATTRIBUTE = "ntkfast"
FORMAT = 1
ALL = slice(None)


class Folder:
    """Blocks on disk.

    Attributes
    ----------
    path : pathlib.Path
    grid : BlockGrid
    dtype : numpy.dtype
    metadata : dict
        What the matrix is; see `job.Job.metadata`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path = Path(path).resolve()  # a process may go to another folder
        except (TypeError, RuntimeError) as error:
            raise type(error)(f"path: expected the folder of a store, got {path!r} ({error})") from None
        self._array, self.metadata = _read_array(self.path)
        self.grid = BlockGrid(self._array.shape, self._array.chunks[0], self.metadata["symmetric"])
        self.dtype: np.dtype[Any] = self._array.dtype
        self._checksums: dict[Block, int] = {}  # of finished blocks

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    def finished(self) -> dict[Block, int]:
        """The blocks that are in the ledger, with their checksums."""
        found = ledger.read(self.ledger)
        for block in found:
            if block not in self.grid:
                raise StoreError(f"path: the ledger {self.ledger} has the block {block}, which the matrix has not")
        return found

    def file(self, block: Block) -> Path:
        return self.path / "c" / str(block[0]) / str(block[1])

    def write(self, block: Block, contents: Array) -> int:
        """The chunk as Zarr has it: numbers, then their CRC-32C, which is returned."""
        plain = np.ascontiguousarray(contents, contents.dtype.newbyteorder("<"))
        checksum = _crc(plain)
        with replacing(self.file(block), durable=True) as file:  # Zarr's own store does not wait for the disk
            file.write(plain.data)
            file.write(checksum.to_bytes(4, "little"))
        return checksum

    def finish(self, block: Block, checksum: int) -> None:
        """Note that a block is on disk."""
        ledger.append(self.ledger, block, checksum)

    def checksum(self, block: Block) -> int | None:
        """Of a block on disk; None if it is not one, or not the one that the file itself has at its end."""
        try:
            contents = np.fromfile(self.file(block), np.uint8)
        except OSError:
            return None
        if len(contents) != self.grid.side**2 * self.dtype.itemsize + 4:
            return None
        found = _crc(contents[:-4])
        return found if found == int.from_bytes(contents[-4:].tobytes(), "little") else None

    def _kept(self, block: Block) -> Block:
        """Where a block of the whole matrix is: below the diagonal of a symmetric one, at its mirror image."""
        return block[::-1] if self.grid.symmetric and block[0] > block[1] else block

    def require(self, blocks: Iterable[Block]) -> None:
        """Raise unless these blocks of the whole matrix are finished and their files exist."""
        self._checksums = finished = self.finished()
        for block in map(self._kept, blocks):
            if block not in finished:
                raise StoreError(
                    f"path: block {block} of {self.path} has not been computed ({len(finished)} of {len(self.grid)} "
                    "have): call ntkfast.store.compute again, with the same arguments, to resume"
                )
            if not self.file(block).is_file():  # Zarr would fill it with NaN
                raise StoreError(f"path: block {block} of {self.path} is gone; `repair` computes it again")

    def read(self, block: Block) -> Array:
        """A block of the whole matrix; `require` it first."""
        kept = self._kept(block)
        try:
            found: Array = np.asarray(self._array[self.grid.window(kept)])
            with open(self.file(kept), "rb") as file:
                file.seek(-4, os.SEEK_END)  # Zarr has compared this one with the contents
                if int.from_bytes(file.read(), "little") != self._checksums[kept]:
                    raise ValueError("another checksum than in the ledger")
        except (OSError, ValueError) as error:  # its size or its checksum is wrong
            raise StoreError(f"path: block {kept} of {self.path} is damaged; `repair` computes it again") from error
        return found if kept == block else found.T

    def blocks(self, some: slice = ALL) -> Iterator[tuple[Block, Array]]:
        """All blocks that are kept, or some of them, in the order of the grid; the next one is read meanwhile."""
        self.require(islice(self.grid.blocks(), some.start, some.stop))
        with ThreadPoolExecutor(1) as reader:
            numbers = islice(self.grid.blocks(), some.start, some.stop)
            block = next(numbers, None)
            reading = reader.submit(self.read, block) if block else None
            while block and reading:
                following = next(numbers, None)
                found, reading = reading, reader.submit(self.read, following) if following else None
                yield block, found.result()
                block = following


def _read_array(path: Path) -> tuple[Any, dict[str, Any]]:
    """The Zarr array of a store, and what `compute` noted about it."""
    if not path.exists():
        raise FileNotFoundError(f"path: there is no {path}")
    try:
        array: Any = zarr.open_array(zarr.storage.LocalStore(path, read_only=True), mode="r", zarr_format=3)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = type(error).__name__
        raise StoreError(f"path: expected a store that ntkfast.store wrote, got {path} ({reason})") from None
    metadata = dict(array.attrs).get(ATTRIBUTE)
    if not isinstance(metadata, dict) or "format" not in metadata:
        raise StoreError(f"path: expected a store that ntkfast.store wrote, got another Zarr array, {path}")
    if metadata["format"] != FORMAT:
        raise StoreError(
            f"path: expected a store of format {FORMAT}, got {metadata['format']} in {path}: use another ntkfast"
        )
    try:
        sides = [metadata[side]["shape"][0] for side in ("X", "X" if metadata["symmetric"] else "Y")]
        is_whole = metadata["kernel"] and array.shape == tuple(sides) and len({*array.chunks}) == 1
    except (KeyError, TypeError, IndexError):
        is_whole = False
    if not is_whole:
        raise StoreError(f"path: {path / 'zarr.json'} is not as ntkfast.store wrote it")
    return array, metadata


def _crc(contents: NDArray[Any]) -> int:
    """CRC-32C of the bytes of a contiguous array."""
    return int(google_crc32c.value(contents))
