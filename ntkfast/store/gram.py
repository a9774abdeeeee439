"""A kernel matrix on disk, as NumPy and SciPy see it: slices, and a linear operator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from ntkfast.engine import threads
from ntkfast.engine.blocks import Block
from ntkfast.engine.workers import Workers
from ntkfast.store.folder import ALL, Folder
from ntkfast.support import arrays, sums
from ntkfast.support.files import npy_memmap, replacing
from ntkfast.support.memory import require
from ntkfast.support.progress import check, reporter
from ntkfast.support.typing import Array, Progress

if TYPE_CHECKING:
    import dask.array

__all__ = ["Check", "GramStore", "open"]

Term: TypeAlias = tuple[slice, Array]  # rows of a product, and what is added to them


class Check(NamedTuple):
    """What `GramStore.verify` found.

    Attributes
    ----------
    damaged, missing : list of (int, int)
        Blocks, by row and column of blocks; missing ones have not been computed.
    n_blocks : int
        Of the whole matrix.

    See Also
    --------
    GramStore.verify : Makes it.
    repair : Computes again what it found.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.store.Check._fields
    ('damaged', 'missing', 'n_blocks')
    """

    damaged: list[Block]
    missing: list[Block]
    n_blocks: int


class GramStore(LinearOperator):  # type: ignore[misc]  # SciPy has no types
    """A kernel matrix on disk; `ntkfast.store.compute` and `ntkfast.store.open` make it.

    Slices give NumPy arrays: `K[:100, 5]`, `K[[3, 1]]`. Of the matrix only the blocks that are asked for are read, and
    each is checked against its checksum. As a `scipy.sparse.linalg.LinearOperator` it multiplies vectors, in one pass
    over the file for all of them, and `ntkfast.solve` takes it.

    Parameters
    ----------
    path : str or path-like
        The folder of a store.
    client : distributed.Client, optional
        As in `ntkfast.store.open`.

    Attributes
    ----------
    shape : (int, int)
        (n, m).
    dtype : numpy.dtype
        Of the entries.
    ndim : int
        2.
    path : pathlib.Path
        A folder, which is a Zarr array of version 3. If `symmetric`, only blocks on and above the diagonal are kept in
        it: other programs find NaN below.
    symmetric : bool
        Whether it is the kernel of X with itself.
    block : int
        Rows and columns of a block, one chunk of the array.
    kernel : str
        "ntk" or "nngp".
    complete : bool
        Whether all blocks have been computed.

    See Also
    --------
    compute : Makes it.
    open : Opens it.
    solve : Regression with it.

    Examples
    --------
    >>> import tempfile
    >>> import ntkfast as nf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
    ...     K[1], (K @ [1.0, 0.0]).round(3)
    (array([0.15915494, 2.        ]), array([0.5  , 0.159]))
    """

    ndim = 2

    def __init__(self, path: str | os.PathLike[str], *, client: Any = None) -> None:
        self._folder = Folder(path)
        self._workers = None if client is None else Workers(client, self._folder.path)
        self.path = self._folder.path
        self.kernel: str = self._folder.metadata["kernel"]
        self.symmetric, self.block = self._folder.grid.symmetric, self._folder.grid.side
        super().__init__(self._folder.dtype, self._folder.grid.shape)

    @property
    def complete(self) -> bool:
        """Whether all blocks have been computed.

        See Also
        --------
        compute : Computes what is missing.

        Examples
        --------
        >>> import tempfile
        >>> import ntkfast as nf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
        ...     K.complete
        True
        """
        return len(self._folder.finished()) == len(self._folder.grid)

    def verify(self, *, progress: Progress = None) -> Check:
        """Read every block, and compare it with its checksum. Needs neither the network nor the points.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `ntkfast.ntk`; counts the blocks.

        Returns
        -------
        Check
            Which blocks are damaged or missing.

        Raises
        ------
        StoreError
            The ledger is damaged.

        See Also
        --------
        repair : Computes them again.

        Examples
        --------
        >>> import tempfile
        >>> import ntkfast as nf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
        ...     K.verify().damaged
        []
        """
        check(progress)
        finished, damaged = self._folder.finished(), []
        with reporter(progress, "verify") as report:
            for done, (block, checksum) in enumerate(finished.items(), start=1):
                if self._folder.checksum(block) != checksum:
                    damaged.append(block)
                if report is not None:
                    report(done, len(finished))
        grid = self._folder.grid
        return Check(damaged, [block for block in grid.blocks() if block not in finished], len(grid))

    def __getitem__(self, index: Any) -> Any:
        """Rows, or rows and columns, as NumPy takes them; an index array along one axis at most.

        Returns
        -------
        ndarray, or a number
        """
        if index is Ellipsis:
            index = ()
        index = tuple(list(part) if isinstance(part, tuple) else part for part in np.index_exp[index])
        if len(index) > 2:
            raise IndexError(f"expected at most two indices, got {len(index)}")
        chosen = [np.arange(size)[part] for size, part in zip(self.shape, (*index, slice(None), slice(None)))]  # noqa: B905
        if any(part is None or isinstance(part, bool | np.bool_) for part in index):
            raise IndexError("expected numbers, slices and arrays of indices, got a new axis")
        if any(part.ndim > 1 for part in chosen):
            raise IndexError("expected indices along one axis, got an array of several")
        if sum(not isinstance(part, slice) and np.ndim(part) > 0 for part in index) > 1:
            raise IndexError("expected an index array along one axis at most: K[rows][:, columns] takes both")
        rows, columns = (np.atleast_1d(part) for part in chosen)
        require(len(rows) * len(columns) * self.dtype.itemsize, "this part of the matrix")
        result: Array = np.empty((len(rows), len(columns)), self.dtype)
        at_rows, at_columns = (_by_block(part, self.block) for part in (rows, columns))
        self._folder.require((i, j) for i in at_rows for j in at_columns)
        for i, of_rows in at_rows.items():
            for j, of_columns in at_columns.items():
                block = self._folder.read((i, j))
                inside = np.ix_(rows[of_rows] - i * self.block, columns[of_columns] - j * self.block)
                result[np.ix_(of_rows, of_columns)] = block[inside]
        return result[tuple(0 if part.ndim == 0 else slice(None) for part in chosen)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("copy: the matrix is on disk, and an array of it is a copy")
        return np.asarray(self[:], dtype)

    def columns(self, indices: Any) -> Array:
        """Columns of the matrix.

        Parameters
        ----------
        indices : int, slice, or array_like of int or bool
            As NumPy takes them along one axis.

        Returns
        -------
        ndarray, shape (n, k); (n,) for a single index
            Read from disk, checked against their checksums.

        Raises
        ------
        StoreError
            A block is damaged or missing.

        See Also
        --------
        GramStore.diagonal : The diagonal.

        Examples
        --------
        >>> import tempfile
        >>> import ntkfast as nf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
        ...     K.columns([1]).shape
        (2, 1)
        """
        found: Array = self[:, indices]
        return found

    def diagonal(self) -> Array:
        """The diagonal of a symmetric matrix.

        Returns
        -------
        ndarray, shape (n,)
            Read from disk, checked against its checksums.

        Raises
        ------
        ValueError
            The matrix is of two sets of points.
        StoreError
            A block is damaged or missing.

        See Also
        --------
        ntkfast.diagonal : The same from the points.

        Examples
        --------
        >>> import tempfile
        >>> import ntkfast as nf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
        ...     K.diagonal()
        array([0.5, 2. ])
        """
        if not self.symmetric:
            raise ValueError("diagonal: expected the kernel of X with itself, got one with two sets of points")
        blocks = [(i, i) for i in range(self._folder.grid.counts[0])]
        self._folder.require(blocks)
        return np.concatenate([self._folder.read(block).diagonal().copy() for block in blocks])

    def _product(self, V: Array, transposed: bool) -> Array:
        """K V or Kᵀ V, summed in float64, in the order of the blocks."""
        result = np.zeros((self.shape[transposed], V.shape[1]))
        for term in self._terms(V, transposed):
            for rows, part in term:
                result[rows] += part
        return result

    def _terms(self, V: Array, transposed: bool) -> Iterator[list[Term]]:
        """What each block adds to the product, in their order, computed here or by workers."""
        if self._workers is None:
            yield from _terms(self._folder, ALL, V, transposed)
        else:
            for some in self._workers.each(_part, sums.parts(len(self._folder.grid)), V, transposed):
                yield from some

    def _multiplied(self, V: ArrayLike, transposed: bool) -> Array:
        V = arrays.real(V, "V")
        found = self._product(V.astype(np.float64, copy=False), transposed)
        return arrays.in_dtype_of_product(found, self.dtype, V.dtype)

    def _matmat(self, V: ArrayLike) -> Array:
        return self._multiplied(V, False)

    def _matvec(self, v: ArrayLike) -> Array:
        return self._matmat(np.reshape(v, (-1, 1)))

    def _rmatmat(self, V: ArrayLike) -> Array:
        return self._multiplied(V, True)

    def _rmatvec(self, v: ArrayLike) -> Array:
        return self._rmatmat(np.reshape(v, (-1, 1)))

    def as_dask(self) -> dask.array.Array:
        """A dask.array of the whole matrix, which reads blocks when it needs them.

        Returns
        -------
        dask.array.Array, shape (n, m)
            One chunk for each block.

        Raises
        ------
        ImportError
            Dask is not installed: `pip install 'ntkfast[dask]'`.

        See Also
        --------
        ntkfast.distributed.ntk : A dask array that is computed, not read.

        Examples
        --------
        >>> import tempfile
        >>> import ntkfast as nf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
        ...     K.as_dask().shape
        (2, 2)
        """
        try:
            import dask.array
        except ImportError:
            raise ImportError("as_dask needs Dask: pip install 'ntkfast[dask]'") from None
        return dask.array.from_array(self, chunks=(self.block, self.block), fancy=False)

    def to_npy(self, path: str | os.PathLike[str], *, progress: Progress = None) -> None:
        """Write the whole matrix to a .npy file, which may be larger than memory.

        Parameters
        ----------
        path : str or path-like
            The file is either complete or absent.
        progress : bool or callable, optional
            As in `ntkfast.ntk`; counts the blocks.

        Raises
        ------
        StoreError
            A block is damaged or missing.
        OSError
            The file cannot be written.

        See Also
        --------
        GramStore.as_dask : The matrix without a copy.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0]], folder + "/K.zarr").to_npy(folder + "/K.npy")
        ...     np.load(folder + "/K.npy")
        array([[0.5]])
        """
        check(progress)
        grid = self._folder.grid
        with replacing(path) as file, reporter(progress, os.fspath(path)) as report:
            matrix: Any = npy_memmap(file, self.shape, self.dtype)
            for done, (block, K) in enumerate(self._folder.blocks(), start=1):  # each is read once
                rows, columns = grid.window(block)
                matrix[rows, columns] = K
                if self.symmetric and block[0] != block[1]:
                    matrix[columns, rows] = K.T
                if report is not None:
                    report(done, len(grid))
            matrix.flush()
            del matrix


def open(path: str | os.PathLike[str], *, client: Any = None) -> GramStore:
    """A matrix that `compute` wrote, complete or not.

    Parameters
    ----------
    path : str or path-like
        The folder of the store.
    client : distributed.Client, optional
        Of a Dask cluster, whose workers compute products with vectors, to the same bits, in at most 64 tasks; they see
        `path` as this process does. So `ntkfast.solve` by conjugate gradients and `ntkfast.kernel_pca` use them.

    Returns
    -------
    GramStore
        Nothing is read before it is asked for.

    Raises
    ------
    FileNotFoundError
        There is nothing at path.
    StoreError
        What is there is something else.
    ConnectionError
        The cluster is gone, or has no workers; products raise it, too. A ValueError: they have another version or
        instruction set.

    See Also
    --------
    compute : Makes a store.
    GramStore.verify : Reads and checks all of it.

    Examples
    --------
    >>> import tempfile
    >>> import ntkfast as nf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
    ...     nf.store.open(folder + "/K.zarr").verify()
    Check(damaged=[], missing=[], n_blocks=1)
    """
    return GramStore(path, client=client)


def _terms(folder: Folder, some: slice, V: Array, transposed: bool) -> Iterator[list[Term]]:
    """Rows of K V, or Kᵀ V, and what each of these blocks adds to them."""
    symmetric = folder.grid.symmetric
    for block, K in folder.blocks(some):
        rows, columns = folder.grid.window(block)
        found: list[Term] = []
        with threads.single_threaded_blas():  # the same bits everywhere; the disk takes longer
            K = K.astype(np.float64, copy=False)
            if not transposed or symmetric:
                found.append((rows, K @ V[columns]))
            if (transposed and not symmetric) or (symmetric and block[0] != block[1]):
                found.append((columns, K.T @ V[rows]))
        yield found


def _part(path: Path, some: slice, V: Array, transposed: bool) -> list[list[Term]]:
    """The terms of some blocks, by a worker."""
    return list(_terms(Folder(path), some, V, transposed))


def _by_block(indices: Array, side: int) -> dict[int, Array]:
    """Number of a block -> where its indices are."""
    of = indices // side
    return {int(k): np.flatnonzero(of == k) for k in np.unique(of)}
