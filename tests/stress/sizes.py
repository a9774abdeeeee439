"""Sizes whose products exceed 2³¹ are addressed rightly: the last tiles of a kernel of 70000 points in a sparse file,
with and without symmetry, where all other bytes stay untouched. Eigenproblems get a LAPACK driver whose counts fit 32
bits.
"""

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import scipy.linalg

import ntkfast as nf
from ntkfast.engine import _core, problem
from ntkfast.learning import factor

ROW = 7
N = 70_000
DRIVERS = {32766: "evd", 32767: "evr", 46341: "evr"}


def run(scale):
    found = {f"driver at N = {n}": _driver(n) for n in DRIVERS}
    assert found == {f"driver at N = {n}": driver for n, driver in DRIVERS.items()}, found
    for dtype in ("float32", "float64") if scale == "full" else ("float32",):
        for symmetric in (True, False):
            how = "symmetric" if symmetric else "of two sets"
            found[f"last tile, {dtype}, {how}"] = _last_tile(dtype, symmetric)
    return found


def _driver(n):
    """The driver of all eigenpairs of a matrix that exists by its shape only."""
    seen = []

    def eigh(A, driver, **options):
        seen.append(driver)
        return np.zeros(n), A

    A = np.broadcast_to(np.zeros((1, 1)), (n, n))
    patches = mock.patch.object(scipy.linalg, "eigh", eigh), mock.patch.object(factor, "_orthonormalise")
    with patches[0], patches[1], mock.patch.multiple(factor.memory, fits=lambda size: True, require=mock.DEFAULT):
        factor.eigenpairs(A)
    (driver,) = seen
    return driver


def _last_tile(dtype, symmetric):
    X = np.random.default_rng(0).normal(size=(N, 4)).astype(dtype)
    Y = None if symmetric else X[::-1].copy()
    net = nf.MLP(3, bias_std=0.1)
    prepared = problem.Problem(net, X, Y, n_threads=1)
    tile, grid = prepared.tile(), prepared.grid()
    start = (N - 1) // tile * tile
    n = N - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "K")
        with path.open("wb") as file:
            file.truncate(N * N * X.itemsize)
        K = np.memmap(path, dtype=dtype, mode="r+", shape=(N, N))
        first = grid.tiles - -(-N // tile)  # the last column of tiles
        for number in (first, grid.tiles - 1):
            prepared.run(_core.ArraySink([None, K, None]), ("ntk",), tiles=slice(number, number + 1))
        columns = (X if symmetric else Y)[start:]
        corner, edge = nf.ntk(net, X[start:], None if symmetric else columns), nf.ntk(net, X[:tile], columns)
        scale = np.finfo(dtype).eps * 100 * np.abs(corner).max()
        assert np.abs(K[start:, start:] - corner).max() < scale
        assert np.abs(K[:tile, start:] - edge).max() < scale
        if symmetric:
            assert np.array_equal(K[start:, :tile], K[:tile, start:].T)
        assert not K[start:, tile : 2 * tile].any()
        assert not K[tile : 2 * tile, start:].any()
        held = path.stat().st_blocks * 512
        del K
    written = (n + tile) * n * X.itemsize
    assert held < 64 * 4096 * (2 * n + 2 * tile), f"{held} bytes are on disk"
    return f"{N} x {N}, {written} bytes from byte {(start * N + start) * X.itemsize} on"
