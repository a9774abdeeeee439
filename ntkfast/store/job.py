"""Computing a store: block after block, each on disk before the ledger says so, so that any moment may be the last."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import outputs, threads
from ntkfast.engine.blocks import SIDE, Block, BlockGrid
from ntkfast.engine.config import instruction_set
from ntkfast.engine.problem import Problem
from ntkfast.engine.workers import Workers, check_client
from ntkfast.networks import Network
from ntkfast.store import ledger
from ntkfast.store.folder import DESCRIPTION, FORMAT, MOST_BLOCKS, Folder, create
from ntkfast.store.gram import Check, GramStore
from ntkfast.support import arrays
from ntkfast.support import memory as bytes_of
from ntkfast.support.errors import StoreError
from ntkfast.support.files import destination, locked, require_space, sync
from ntkfast.support.progress import check, reporter
from ntkfast.support.saved import Writer
from ntkfast.support.typing import Array, KernelName, Memory, Progress

UNFINISHED = ".partial"  # of a folder that has not its name yet
BUFFERS = 2  # one is computed while the other is written


def compute(
    net: Network,
    X: ArrayLike,
    path: str | os.PathLike[str],
    Y: ArrayLike | None = None,
    *,
    kernel: KernelName = "ntk",
    resume: bool = True,
    client: Any = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
) -> GramStore:
    """Write the kernel matrix of X (and Y) to disk, or go on where a call with the same arguments was stopped.

    The matrix goes to disk in square blocks, one chunk of a Zarr array each; of a symmetric matrix only those on and
    above the diagonal. The next block is computed while one is written. A block gets its name when its data are on
    disk, and its line in the ledger after that: whatever stops the process (kill -9, a power failure, a full disk,
    Ctrl-C), the next call computes only what was being made. The result does not depend on that, and has the bits of
    `ntkfast.ntk`.

    Parameters
    ----------
    net : Network
        The network.
    X : array_like, shape (n, d)
        Points, one per row.
    path : str or path-like
        A folder that does not exist yet, or a store of the same matrix. Its parent exists.
    Y : array_like, shape (m, d), optional
        Default: X.
    kernel : {"ntk", "nngp"}
    resume : bool
        False: path must not exist.
    client : distributed.Client, optional
        Of a Dask cluster, whose workers compute and write the blocks; they see `path` as this process does. Points go
        to each worker once. A worker that is killed costs the blocks that it was making, which others make.
    dtype : {float32, float64}, optional
    n_threads : int, optional
        As in `ntkfast.ntk`; with a client, of a task.
    progress : bool or callable, optional
        In entries of the matrix.
    memory : int or str, optional
        Bytes for the two blocks that are held ("500MB"), which determines their size. Default: 4096 rows and columns.

    Returns
    -------
    GramStore
        The matrix, complete.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    StoreError
        What is at path is something else, or a store of another network, points, dtype or blocks, or was begun by
        another version or with another instruction set: the message says what differs. Nothing is changed then.
    MemoryError
        `memory` is less than two tiles of the engine, or two blocks do not fit into what is available.
    FileExistsError
        resume is False, and path exists.
    BlockingIOError
        Another process is writing this store.
    ConnectionError
        The cluster is gone, or has no workers. A ValueError: they have another version or instruction set.
    OSError
        The disk has less space than what is left to write, or writing fails. What is finished stays finished.

    See Also
    --------
    open : A store that exists.
    repair : Blocks that are damaged.
    solve : Regression with the result.
    KernelOperator : No matrix at all.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net, X = nf.MLP(depth=3), np.random.default_rng(0).standard_normal((500, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     K = nf.store.compute(net, X, folder + "/K.zarr", dtype=np.float32)
    ...     bool(np.array_equal(K[:], nf.ntk(net, X, dtype=np.float32)))
    True
    """
    check(progress)
    check_client(client)
    n_threads = n_threads if client is None else threads.of_task(n_threads)
    job = Job(net, X, path, Y, kernel, dtype, n_threads)
    job.divide(memory)
    if job.path.exists():
        if not resume:
            raise FileExistsError(errno.EEXIST, "path: expected a new one, as resume is False", os.fspath(path))
        store = job.existing()
    else:
        job.require_space(list(job.grid.blocks()))
        store = job.create()
    with writing(store.path):
        job.sweep()
        job.fill(store, progress, client)
    return GramStore(path)


def repair(
    net: Network,
    X: ArrayLike,
    path: str | os.PathLike[str],
    Y: ArrayLike | None = None,
    *,
    client: Any = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Check:
    """Compute the damaged and missing blocks of a store again, and those that were never computed.

    A ledger that is damaged or missing is made anew from the blocks whose own checksums are right.

    Parameters
    ----------
    net, X, path, Y
        As they were given to `compute`.
    client : distributed.Client, optional
        As in `compute`; blocks are verified here.
    n_threads : int, optional
        As in `ntkfast.ntk`; with a client, of a task.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.

    Returns
    -------
    Check
        What was found, and computed again.

    Raises
    ------
    StoreError, BlockingIOError, OSError
        As from `compute`.

    See Also
    --------
    GramStore.verify : Finds damage without the points.
    compute : Computes what is missing.

    Examples
    --------
    >>> import tempfile
    >>> import ntkfast as nf
    >>> net, X = nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     K = nf.store.compute(net, X, folder + "/K.zarr")
    ...     (K.path / "c/0/0").write_bytes(b"nonsense")
    ...     nf.store.repair(net, X, K.path), K[1, 1]
    8
    (Check(damaged=[(0, 0)], missing=[], n_blocks=1), np.float64(2.0))
    """
    check(progress)
    check_client(client)
    there = Folder(path)
    n_threads = n_threads if client is None else threads.of_task(n_threads)
    job = Job(net, X, path, Y, there.metadata["kernel"], there.dtype, n_threads)
    job.grid = replace(job.grid, side=there.grid.side)
    store = job.existing()
    with writing(store.path):
        job.sweep()
        try:
            finished = store.finished()
            found = GramStore(path).verify(progress=progress)
        except StoreError:  # of the ledger; blocks have checksums of their own
            sums = {block: store.checksum(block) for block in job.grid.blocks()}
            finished = {block: checksum for block, checksum in sums.items() if checksum is not None}
            found = Check([], [block for block in sums if block not in finished], len(job.grid))
        for block in found.damaged:
            if store.file(block).is_dir():  # no file could take its place
                shutil.rmtree(store.file(block))
        ledger.write(store.ledger, ((block, c) for block, c in finished.items() if block not in found.damaged))
        job.fill(store, progress, client)
    return found


class Job:
    """A store that is to be computed."""

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        path: str | os.PathLike[str],
        Y: ArrayLike | None,
        kernel: KernelName,
        dtype: DTypeLike | None,
        n_threads: int | None,
    ) -> None:
        self.path = destination(path)
        self.kernel = outputs.kernel(kernel)
        self.problem = Problem(net, X, Y, dtype=dtype, n_threads=n_threads)
        self.problem.load()
        self.grid = BlockGrid.of(self.problem)

    def divide(self, memory: Memory) -> None:
        """Choose the blocks: whole tiles of the engine, so that they have the bits of the matrix in memory."""
        tile, size = self.problem.tile(), self.problem.dtype.itemsize
        free = bytes_of.amount(memory)
        most = SIDE if free is None else min(SIDE, int((free / (BUFFERS * size)) ** 0.5))
        if most < tile:
            raise MemoryError(f"memory: expected at least {BUFFERS * size * tile**2} bytes, got {free}")
        self.grid = BlockGrid.of(self.problem, most)
        if len(self.grid) > MOST_BLOCKS:
            raise MemoryError(f"memory: expected enough for at most {MOST_BLOCKS} blocks, got {free}: {len(self.grid)}")
        bytes_of.require(BUFFERS * size * self.grid.side**2, "the blocks of the matrix that are being made")

    @property
    def block_bytes(self) -> int:
        return self.grid.side**2 * self.problem.dtype.itemsize + 4

    def metadata(self) -> dict[str, Any]:
        """What a store is told apart by."""
        writer = Writer()
        network = writer.value(self.problem.net)
        if writer.arrays:
            raise TypeError("net: expected a network whose parameters are numbers, got one with arrays")
        points = [digest(points.x) for points in self.problem.points]
        return {
            "format": FORMAT,
            "kernel": self.kernel,
            "network": network,
            "X": points[0],
            "Y": points[-1] if len(points) > 1 else None,
            "symmetric": self.problem.symmetric,
            "tile": self.problem.tile(),
            "version": version("ntkfast"),
            "instruction set": instruction_set(),
        }

    def existing(self) -> Folder:
        """The store at path, if it is of this job."""
        folder = Folder(self.path)
        here = self.metadata() | {"dtype": str(self.problem.dtype), "block": self.grid.side}
        there = folder.metadata | {"dtype": str(folder.dtype), "block": folder.grid.side}
        differences = [_difference(name, there.get(name), here[name]) for name in here if there.get(name) != here[name]]
        if differences:
            raise StoreError(f"path: {self.path} is a store of another matrix: {'; '.join(differences)}")
        return folder

    def create(self) -> Folder:
        """An empty store, which has its name when it is complete; that of another process which was faster."""
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}{UNFINISHED}")
        try:
            create(beside, self.grid.shape, self.grid.side, str(self.problem.dtype), self.metadata())
            os.rename(beside, self.path)
            sync(self.path.parent)
        except BaseException as error:
            shutil.rmtree(beside, ignore_errors=True)
            if not (isinstance(error, OSError) and self.path.exists()):
                raise
        return self.existing()

    def sweep(self) -> None:
        """Remove what writers that were killed left behind, and refuse links, through which files elsewhere would be
        replaced; nobody else may be writing this store.
        """
        for file in self.path.rglob("*"):
            if file.is_symlink():
                raise StoreError(f"path: expected a store of files, got a link, {file}; delete it")
        left = f".{glob.escape(self.path.name)}.{'[0-9a-f]' * 12}{UNFINISHED}"
        for folder in self.path.parent.glob(left):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self.path.rglob(".ntkfast-*.tmp"):
            file.unlink(missing_ok=True)

    def require_space(self, blocks: list[Block]) -> None:
        require_space(self.path, len(blocks) * self.block_bytes, "what is left of the matrix")

    def fill(self, store: Folder, progress: Progress, client: Any = None) -> None:
        """Compute the blocks that are not in the ledger."""
        finished = store.finished()
        left = [block for block in self.grid.blocks() if block not in finished]
        if not left:
            return
        self.require_space(left)
        for folder in {store.file(block).parent for block in left}:
            folder.mkdir(parents=True, exist_ok=True)
            sync(folder.parent)
        sync(self.path)
        total = sum(map(self.grid.area, self.grid.blocks()))
        done = total - sum(map(self.grid.area, left))
        with reporter(progress, f"{self.kernel} to {self.path.name}") as report:
            for block in self.written(left, store) if client is None else self.by_workers(left, store, client):
                done += self.grid.area(block)
                if report is not None:
                    report(done, total)

    def written(self, blocks: list[Block], store: Folder) -> Iterator[Block]:
        """Blocks that are on disk and in the ledger: one is computed while the one before is written."""
        buffers = [np.empty((self.grid.side, self.grid.side), self.problem.dtype) for _ in range(BUFFERS)]
        writing: deque[Future[Block]] = deque()

        def write(block: Block, buffer: Array) -> Block:
            store.finish(block, store.write(block, buffer))
            return block

        with ThreadPoolExecutor(1) as writer:
            # A pool does not wait for a thread whose start failed for lack of memory, yet which does run: it starts
            # before there is something that it could still write when the store is another's again.
            writer.submit(bool)
            for number, block in enumerate(blocks):
                if len(writing) == BUFFERS:
                    yield writing.popleft().result()
                buffer = buffers[number % BUFFERS]
                make(self.problem, self.kernel, self.grid, block, buffer)
                writing.append(writer.submit(write, block, buffer))
            while writing:
                yield writing.popleft().result()

    def by_workers(self, blocks: list[Block], store: Folder, client: Any) -> Iterator[Block]:
        """The same by the workers of a Dask cluster, which write to the same disk."""
        workers = Workers(client, self.problem)
        for block, checksum in workers.finished(_made, blocks, self.kernel, self.grid, self.path):
            store.finish(block, checksum)
            yield block


def make(problem: Problem, kernel: str, grid: BlockGrid, block: Block, buffer: Array) -> None:
    """A block, and NaN past the edge of the matrix."""
    window = grid.window(block)
    n, m = (part.stop - part.start for part in window)
    buffer[n:], buffer[:, m:] = np.nan, np.nan
    problem.matrices((kernel,), (buffer[:n, :m],), show=False, window=window)


def _made(problem: Problem, kernel: str, grid: BlockGrid, path: Path, block: Block) -> int:
    """The checksum of a block that this worker has made and written."""
    buffer = np.empty((grid.side, grid.side), problem.dtype)
    make(problem, kernel, grid, block, buffer)
    return Folder(path).write(block, buffer)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold a store, one process at a time."""
    try:
        with locked(path / DESCRIPTION):
            yield
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "path: another process is writing this store", str(path)) from None


def digest(x: Array) -> dict[str, Any]:
    """Shape and SHA-256 of points."""
    return {"shape": list(x.shape), "sha256": arrays.sha256(x)}


def _difference(name: str, there: Any, here: Any) -> str:
    """How one entry of the metadata differs, in words."""
    if name == "network":
        return "its network is another one"
    if isinstance(there, dict) and isinstance(here, dict):
        return f"{name} has other numbers" if there.get("shape") == here["shape"] else f"{name} has another shape"
    if name in ("version", "instruction set"):
        return f"it was begun with the {name} {there}, not {here}, which rounds otherwise"
    return f"{name} is {there}, not {here}"
