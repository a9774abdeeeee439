"""The folder of a store: a Zarr array of version 3, one chunk for each block, and a ledger of the finished ones.

Other programs read it with Zarr. Here it is not used: a file from anywhere may be read, and Zarr's metadata can name
codecs that unpack or run whatever is installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ntkfast.engine.blocks import Block, BlockGrid
from ntkfast.store import ledger
from ntkfast.support import memory
from ntkfast.support.errors import StoreError
from ntkfast.support.files import replacing, resolved
from ntkfast.support.typing import Array, KernelName

ATTRIBUTE = "ntkfast"
FORMAT = 1
DESCRIPTION = "zarr.json"
DTYPES = ("float32", "float64")
MOST_ROWS, MOST_BLOCKS = 2**27, 2**22  # lists of them fit into memory, whatever a description says
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
        self.path = resolved(path)
        shape, side, dtype, self.metadata = _read(self.path)
        self.grid = BlockGrid(shape, side, self.metadata["symmetric"])
        self.dtype: np.dtype[Any] = np.dtype(dtype)
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
        with replacing(self.file(block)) as file:  # Zarr's own store does not wait for the disk
            file.write(plain.data)
            file.write(checksum.to_bytes(4, "little"))
        return checksum

    def finish(self, block: Block, checksum: int) -> None:
        """Note that a block is on disk."""
        ledger.append(self.ledger, block, checksum)

    def _contents(self, block: Block) -> tuple[NDArray[Any], int] | None:
        """The bytes of a block on disk and their checksum; None if the file has another size, or another at its end."""
        n_bytes = self.grid.side**2 * self.dtype.itemsize
        if not self.file(block).is_file():  # opening a pipe would wait for ever
            return None
        try:
            with open(self.file(block), "rb") as file:
                if os.fstat(file.fileno()).st_size != n_bytes + 4:  # before memory is taken for it
                    return None
                found = np.empty(n_bytes + 4, np.uint8)
                if file.readinto(found.data) < len(found):
                    return None
        except OSError as error:
            if memory.ran_out(error):
                raise _unreadable(self.file(block), error) from error
            return None
        checksum = _crc(found[:n_bytes])
        return (found[:n_bytes], checksum) if checksum == int.from_bytes(found[n_bytes:].tobytes(), "little") else None

    def checksum(self, block: Block) -> int | None:
        """Of a block on disk; None if it is not one, or not the one that the file itself has at its end."""
        found = self._contents(block)
        return None if found is None else found[1]

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
        contents = self._contents(kept)
        if contents is None or contents[1] != self._checksums[kept]:
            raise StoreError(f"path: block {kept} of {self.path} is damaged; `repair` computes it again")
        whole = contents[0].view(self.dtype.newbyteorder("<")).astype(self.dtype, copy=False)
        rows, columns = self.grid.window(kept)
        found = whole.reshape(self.grid.side, -1)[: rows.stop - rows.start, : columns.stop - columns.start]
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


def description(shape: tuple[int, int], side: int, dtype: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """zarr.json, as the specification of Zarr 3 has it."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [side, side]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "attributes": {ATTRIBUTE: metadata},
        "storage_transformers": [],
    }


def create(path: Path, shape: tuple[int, int], side: int, dtype: str, metadata: dict[str, Any]) -> None:
    """A folder without a block."""
    path.mkdir()
    with replacing(path / DESCRIPTION) as file:
        file.write(json.dumps(description(shape, side, dtype, metadata), indent=2).encode())
    ledger.write(path / "ledger", [])


def _read(path: Path) -> tuple[tuple[int, int], int, str, dict[str, Any]]:
    """What `create` was given."""
    if not path.exists():
        raise FileNotFoundError(f"path: there is no {path}")
    described = path / DESCRIPTION
    try:
        if not described.is_file():
            raise FileNotFoundError
        text = described.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        there = json.loads(text)
        metadata = there["attributes"][ATTRIBUTE]
        found = metadata["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from None
    if found != FORMAT:
        raise StoreError(f"path: expected a store of format {FORMAT}, got {found} in {path}: use another ntkfast")
    try:
        n, m = there["shape"]
        side, _ = there["chunk_grid"]["configuration"]["chunk_shape"]
        dtype = there["data_type"]
        sizes = [metadata[of]["shape"][0] for of in ("X", "X" if metadata["symmetric"] else "Y")]
        is_whole = (
            there == description((n, m), side, dtype, metadata)
            and dtype in DTYPES
            and [n, m] == sizes
            and all(type(size) is int and 0 < size <= MOST_ROWS for size in (n, m, side))
            and type(metadata["symmetric"]) is bool
            and len(BlockGrid((n, m), side, metadata["symmetric"])) <= MOST_BLOCKS
            and metadata["kernel"] in get_args(KernelName)
        )
    except (KeyError, TypeError, ValueError, IndexError):
        is_whole = False
    if not is_whole:
        raise StoreError(f"path: {path / DESCRIPTION} is not as ntkfast.store wrote it")
    return (n, m), side, dtype, metadata


def _unreadable(path: Path, error: Exception) -> Exception:
    if memory.ran_out(error):
        return MemoryError(f"path: there is no memory to read {path} with")
    return StoreError(f"path: expected a store that ntkfast.store wrote, got {path} ({type(error).__name__})")


def _crc(contents: NDArray[Any]) -> int:
    """CRC-32C of the bytes of a contiguous array."""
    return int(google_crc32c.value(contents))
