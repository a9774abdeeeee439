"""Cholesky's factor on disk, of a store that does not fit into memory, against the one in memory."""

import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.learning.solvers import blocked
from ntkfast.support.files import locked

pytest.importorskip("google_crc32c")

NET = nf.MLP(3, "relu", 1.3, 0.1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(700, 4))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
K = nf.ntk(NET, X)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(blocked, "CHUNK", 2**14)


@pytest.fixture
def of_width(monkeypatch):
    """Fixes the width of a column, whatever memory there is."""

    def fix(width):
        monkeypatch.setattr(blocked, "_width", lambda *sizes: width)
        monkeypatch.setattr(blocked, "_bytes", lambda *sizes: 0)

    return fix


@pytest.fixture
def store(tmp_path):
    return nf.store.compute(NET, X, tmp_path / "K.zarr", memory=2 * 8 * 256**2)


def solve(store, y=Y, alpha=0.1, memory=4 * 2**20, **options):
    return nf.solve(store, y, alpha, method="cholesky", memory=memory, n_threads=1, **options)


@pytest.mark.parametrize("width", [700, 512, 256, 128, 100])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_solution_of_the_factor_in_memory(width, dtype, tmp_path, of_width):
    store = nf.store.compute(NET, X, tmp_path / "K.zarr", dtype=dtype, memory=2 * 8 * 256**2)
    of_width(width)
    found = solve(store, memory=10**6)
    right = nf.solve(nf.ntk(NET, X, dtype=dtype), Y, 0.1, method="cholesky")
    eps = np.finfo(dtype).eps
    assert found.dual_coefficients.dtype == dtype
    assert_allclose(
        found.dual_coefficients, right.dual_coefficients, atol=1e4 * eps * abs(right.dual_coefficients).max()
    )
    assert_allclose(found.log_determinant, right.log_determinant, rtol=100 * eps)
    assert found.residual < 1e4 * eps
    assert found.method == "cholesky"
    assert os.listdir(tmp_path) == ["K.zarr"]  # nothing is left


def test_memory_is_kept_to(store):
    found = solve(store)
    assert found.memory <= 4 * 2**20
    assert_allclose(found.dual_coefficients, nf.solve(K, Y, 0.1).dual_coefficients, rtol=1e-8, atol=1e-10)
    one = solve(store, Y[:, 0])
    assert_allclose(one.dual_coefficients, found.dual_coefficients[:, 0], rtol=1e-9)
    with pytest.raises(MemoryError, match=r"K_xx: 'cholesky' of 700 points on disk, \d+ columns at a time needs"):
        solve(store, memory=10**6)


def test_widths_are_whole_blocks_or_whole_parts_of_one():
    for n, side, free in ((60000, 4096, 4e9), (60000, 4096, 2e9), (10**5, 4096, 8e9), (700, 256, 1e9)):
        width = blocked._width(n, side, 8, free)
        assert (
            width in (n, blocked.WIDEST)
            or width % side == 0
            or side % width == 0
            or -(-side // width) * width - side < 16
        )
        assert blocked._bytes(width, n, side, 8) <= free


def test_a_factor_that_is_kept_serves_other_targets_and_resumes(store, tmp_path, monkeypatch, of_width):
    folder, computed = tmp_path / "factor", []
    update = blocked.BlockedCholesky._updated
    of_width(128)
    monkeypatch.setattr(blocked.BlockedCholesky, "_updated", lambda self, k: computed.append(k) or update(self, k))

    def stop(done, total):
        if done == 1 + 2 + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(store, checkpoint=folder, progress=stop)
    assert sorted(os.listdir(folder)) == ["0", "1", "2", "factor"]
    first = solve(store, checkpoint=folder)
    assert computed == [0, 1, 2, 3, 4, 5]
    assert_array_equal(first.dual_coefficients, solve(store).dual_coefficients)
    computed.clear()
    other = solve(store, Y[:, :1] + 1, checkpoint=folder)
    assert_allclose(other.dual_coefficients, nf.solve(K, Y[:, :1] + 1, 0.1).dual_coefficients, rtol=1e-7, atol=1e-10)
    assert other.log_determinant == first.log_determinant
    assert computed == []
    file = folder / "3"
    contents = bytearray(file.read_bytes())
    for damaged in (contents[:-100], contents[:5000] + bytes([contents[5000] ^ 1]) + contents[5001:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint: .*3 is damaged; delete this file"):
            solve(store, checkpoint=folder)
        assert file.read_bytes() == damaged
    file.unlink()
    assert_array_equal(solve(store, checkpoint=folder).dual_coefficients, first.dual_coefficients)
    assert computed == [3]
    with pytest.raises(ValueError, match=r"checkpoint: .* is of another problem: alpha is 0\.1, not 0\.2"):
        solve(store, alpha=0.2, checkpoint=folder)


def test_folders_that_are_refused(store, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file"):
        with pytest.raises(ValueError, match=r"checkpoint: expected a folder that ntkfast\.solve wrote, or a new one"):
            solve(store, checkpoint=tmp_path / name)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10**5}))
    with pytest.raises(OSError, match=r"what is left of the factor takes 2\.20 MiB"):
        solve(store)
    assert sorted(os.listdir(tmp_path)) == ["K.zarr", "file", "folder"]


def test_what_a_killed_process_left_is_removed(store, tmp_path):
    left = tmp_path / ".K.zarr.0123456789ab.factor"
    left.mkdir()
    (left / "0").write_text("x")
    with locked(left):  # by a process that is alive
        solve(store)
        assert left.exists()
    solve(store)
    assert os.listdir(tmp_path) == ["K.zarr"]


def test_two_processes_with_one_factor(store, tmp_path):
    solve(store, checkpoint=tmp_path / "factor")
    with locked(tmp_path / "factor"), pytest.raises(BlockingIOError, match="checkpoint: another process is writing"):
        solve(store, checkpoint=tmp_path / "factor")


@pytest.mark.parametrize("n", [300, 700])
def test_a_matrix_that_is_not_positive_definite(n, tmp_path, of_width):
    """At this ridge; the message says which one is enough, and with that it is solved."""
    points = np.concatenate([X[: n // 2], X[: n // 2]])
    store = nf.store.compute(NET, points, tmp_path / "K.zarr", memory=2 * 8 * 256**2)
    of_width(64)
    with pytest.raises(
        np.linalg.LinAlgError, match=r"K_xx: expected a positive definite matrix.* larger than"
    ) as caught:
        solve(store, Y[:n], alpha=0.0, memory=10**6)
    enough = 2 * float(str(caught.value).split("larger than ")[1].split()[0])
    assert 0 < enough < 1e-8
    assert solve(store, Y[:n] - Y[:n].mean(0), alpha=max(enough, 1e-9), memory=10**6).residual < 1e-2
    assert os.listdir(tmp_path) == ["K.zarr"]
