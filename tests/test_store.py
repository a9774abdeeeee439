"""Kernels on disk: the bits of the matrix in memory, whatever stops the process; no block that was not written."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast import cli
from ntkfast.engine import series
from ntkfast.engine.problem import Problem

zarr = pytest.importorskip("zarr")
pytest.importorskip("google_crc32c")
from ntkfast.store.folder import Folder  # noqa: E402
from ntkfast.store.job import writing  # noqa: E402

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(700, 4)), RNG.normal(size=(300, 4))
X[5], X[400] = X[3], X[2] * (1 + 1e-12)
NET = nf.MLP(3, "relu", 1.3, 0.1)
SMALL = 2 * 8 * 256**2  # bytes for blocks: 256 rows and columns, of float64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "K.zarr"


@pytest.fixture
def store(path):
    return nf.store.compute(NET, X, path, memory=SMALL)


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


# --- the same numbers as in memory


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("other", [None, Y, Y[:20]], ids=["symmetric", "rectangular", "narrow"])
def test_bits_of_the_matrix_in_memory(other, dtype, kernel, path):
    right = getattr(nf, kernel)(NET, X, other, dtype=dtype)
    for memory in (SMALL, "1GB"):
        store = nf.store.compute(NET, X, path.with_name(f"{memory}"), other, kernel=kernel, dtype=dtype, memory=memory)
        assert_array_equal(store[:], right, strict=True)
        assert store.complete
        assert (store.kernel, store.symmetric, store.shape) == (kernel, other is None, right.shape)


@pytest.mark.parametrize("activation", ["tanh", "elu", "hard_swish", "rbf"])
def test_bits_with_series_and_near_pairs(activation, path):
    net = nf.MLP(4, activation, 1.5, 0.1)
    store = nf.store.compute(net, X, path, memory=SMALL)
    assert_array_equal(store[:], nf.ntk(net, X))


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_bits_with_tables_that_blocks_need_one_after_the_other(activation, path):
    """Variances on several panels, whose tables are made as near pairs need them; each time without those of before."""
    x, moves = np.random.default_rng(0).normal(size=(2, 200, 4))
    x *= np.exp(np.linspace(-1, 1.5, 200))[:, None]
    points, net = np.concatenate([x, x * (1 + 1e-3 * moves)]), nf.MLP(2, activation, bias_std=0.1)
    found = []
    for make in (
        lambda: nf.ntk(net, points),
        lambda: nf.store.compute(net, points, path, memory=SMALL // 4)[:],
        lambda: (nf.ntk(net, points[:40]), nf.ntk(net, points))[1],
    ):
        series._families.abandoned()
        found.append(make())
    for other in found[1:]:
        assert_array_equal(other, found[0])


def test_any_number_of_threads_writes_the_same_files(path):
    for n_threads in (1, 3):
        nf.store.compute(NET, X, path.with_name(str(n_threads)), memory=SMALL, n_threads=n_threads)
    one, three = files(path.with_name("1")), files(path.with_name("3"))
    assert one == three


INDICES = [np.s_[:], np.s_[3], np.s_[-1, 5], np.s_[10:600:7, ::-3], np.s_[[5, 690, 5]], np.s_[:, [1, 2]], np.s_[5:5]]
INDICES += [np.s_[X[:, 0] > 1, 3:9], np.s_[...], np.s_[np.int64(4), 300:], np.s_[(1, 2), :]]


@pytest.mark.parametrize("index", INDICES, ids=range(len(INDICES)))
def test_slices_are_those_of_numpy(index, store):
    assert_array_equal(store[index], nf.ntk(NET, X)[index], strict=True)


@pytest.mark.parametrize(
    "index", [np.s_[1, 2, 3], np.s_[[1], [2]], np.s_[[[1]]], None, True, 700, -701, 1.5, "a"], ids=repr
)
def test_slices_that_are_refused(index, store):
    with pytest.raises(IndexError):
        store[index]


@pytest.mark.parametrize("other", [None, Y])
def test_products(other, path):
    store, K = nf.store.compute(NET, X, path, other, memory=SMALL), nf.ntk(NET, X, other)
    V, W = RNG.normal(size=(K.shape[1], 3)), RNG.normal(size=len(K))
    assert_allclose(store @ V, K @ V, atol=1e-11)
    assert_allclose(store.T @ W, K.T @ W, atol=1e-11)
    assert_array_equal(store @ V, nf.store.open(path) @ V)
    if other is None:
        assert_array_equal(store.diagonal(), K.diagonal())
    else:
        with pytest.raises(ValueError, match="diagonal: expected the kernel of X with itself"):
            store.diagonal()


def test_solve_takes_a_store(store):
    y = np.sin(X[:, 0])
    found = nf.solve(store, y, 0.1, rng=0)
    right = nf.solve(nf.ntk(NET, X), y, 0.1).dual_coefficients
    assert_allclose(found.dual_coefficients, right, atol=1e-6 * abs(right).max())


def test_principal_components_of_a_store(store):
    found, right = nf.kernel_pca(store, 4, rng=0), nf.kernel_pca(nf.ntk(NET, X), 4)
    assert_allclose(found.eigenvalues, right.eigenvalues, rtol=1e-9)
    assert_allclose(found.explained, right.explained, rtol=1e-9)
    assert_allclose(found.eigenfunctions, right.eigenfunctions, atol=1e-6)


def test_other_programs(store, tmp_path):
    """Zarr's own reader finds the upper triangle, and NaN below; .npy files and Dask have all of it."""
    K = nf.ntk(NET, X)
    plain = zarr.open_array(store.path, mode="r")[:]
    assert_array_equal(plain[np.triu_indices(len(X))], K[np.triu_indices(len(X))])
    assert np.isnan(plain[699, 0])
    store.to_npy(tmp_path / "K.npy")
    assert_array_equal(np.load(tmp_path / "K.npy"), K)
    pytest.importorskip("dask.array")
    assert_array_equal(store.as_dask()[100:600, 3].compute(), K[100:600, 3])


def test_progress_counts_entries(path):
    seen = []
    nf.store.compute(NET, X, path, memory=SMALL, progress=lambda done, total: seen.append((done, total)))
    total = 3 * 256**2 + 2 * 256 * 188 + 188**2  # on and above the diagonal, by blocks
    assert seen[-1] == (seen[-1][1], total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- stopped and resumed

WRITER = """
import sys
import numpy as np
import ntkfast as nf
from ntkfast import cli
from ntkfast.engine import series
from ntkfast.engine.problem import Problem
rng = np.random.default_rng(0)
X = rng.normal(size=(4000, 30))
nf.store.compute(nf.MLP(5, "relu", 1.3, 0.1), X, sys.argv[1], memory="4MiB", n_threads=1, progress=False)
"""


def start(path):
    return subprocess.Popen([sys.executable, "-P", "-c", WRITER, str(path)], stderr=subprocess.PIPE)


def test_killed_at_any_moment_and_resumed(path, tmp_path):
    """The files of an uninterrupted run; what was finished is not made again; nothing is left behind."""
    whole = tmp_path / "whole.zarr"
    assert start(whole).wait() == 0
    seen, moments = [], np.random.default_rng(1).uniform(0, 0.1, 5)
    for moment in moments:
        process = start(path)
        ledger = path / "ledger"
        while not (ledger.exists() and ledger.stat().st_size) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = {name: os.stat(path / name).st_mtime_ns for name in files(path) if name.startswith("c/")}
        finished = Folder(path).finished()
        seen.append(len(finished))
    assert 0 < seen[0] < 36
    assert start(path).wait() == 0
    after = {name: os.stat(path / name).st_mtime_ns for name in files(path) if name.startswith("c/")}
    assert all(after[f"c/{i}/{j}"] == before[f"c/{i}/{j}"] for i, j in finished)
    found, right = files(path), files(whole)
    assert sorted(found.pop("ledger").splitlines()) == sorted(right.pop("ledger").splitlines())
    assert found == right
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_torn_line_of_the_ledger(store):
    contents = Folder(store.path).ledger.read_bytes()
    Folder(store.path).ledger.write_bytes(contents[:-5])
    assert len(Folder(store.path).finished()) == 5
    with pytest.raises(nf.StoreError, match=r"block \(2, 2\) .* has not been computed \(5 of 6 have\)"):
        store[-1]
    nf.store.compute(NET, X, store.path, memory=SMALL)
    assert Folder(store.path).ledger.read_bytes() == contents


def test_interrupt(path):
    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nf.store.compute(NET, X, path, memory=SMALL, progress=stop)
    store = nf.store.open(path)
    assert not store.complete
    assert store.verify().damaged == []
    assert len(store.verify().missing) == 6 - len(Folder(store.path).finished())
    assert_array_equal(nf.store.compute(NET, X, path, memory=SMALL)[:], nf.ntk(NET, X))


def test_a_full_disk(path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(OSError, match=r"what is left of the matrix takes 3\.00 MiB") as caught:
        nf.store.compute(NET, X, path, memory=SMALL)
    assert caught.value.errno == errno.ENOSPC
    assert list(path.parent.iterdir()) == []


def test_a_disk_that_fills_up(path, monkeypatch):
    fsync, count = os.fsync, []

    def full(descriptor):
        count.append(descriptor)
        if len(count) == 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        nf.store.compute(NET, X, path, memory=SMALL)
    monkeypatch.undo()
    assert not list(path.rglob(".ntkfast-*"))
    store = nf.store.open(path)
    assert 0 < len(Folder(store.path).finished()) < 6
    assert store.verify().damaged == []
    assert_array_equal(nf.store.compute(NET, X, path, memory=SMALL)[:], nf.ntk(NET, X))


def test_no_thread_writes_after_the_call(path, monkeypatch):
    start, started = Thread.start, []

    def fail(thread):  # as where memory runs out in Thread.start, after the thread has begun
        start(thread)
        started.append(thread)
        raise MemoryError

    monkeypatch.setattr(Thread, "start", fail)
    with pytest.raises(MemoryError):
        nf.store.compute(NET, X, path, memory=SMALL)
    for thread in started:
        thread.join()
    assert len(started) == 1
    assert Folder(path).finished() == {}


# --- damage


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "grow", "delete", "misplace", "folder"])
def test_damage_is_found_and_repaired(damage, store):
    file, K = Folder(store.path).file((0, 1)), nf.ntk(NET, X)
    contents = file.read_bytes()
    if damage in ("delete", "folder"):
        file.unlink()
        if damage == "folder":
            file.mkdir()
    elif damage == "misplace":
        file.write_bytes(Folder(store.path).file((0, 0)).read_bytes())
    else:
        changed = bytearray(contents)
        changed[1000] ^= 1
        file.write_bytes({"flip": changed, "truncate": contents[:-100]}.get(damage, b""))
        if damage == "grow":
            os.truncate(file, 2**42)  # more than memory, if it were read
    with pytest.raises(
        nf.StoreError, match=rf"block \(0, 1\) of .* is {'gone' if damage in ('delete', 'folder') else 'damaged'}"
    ):
        store[300]
    assert_array_equal(store[600:, 600:], K[600:, 600:])  # other blocks
    assert store.verify() == ([(0, 1)], [], 6)
    assert nf.store.repair(NET, X, store.path) == ([(0, 1)], [], 6)
    assert file.read_bytes() == contents
    assert store.verify() == ([], [], 6)


@pytest.mark.parametrize("damage", ["flip", "delete", "foreign"])
def test_a_damaged_ledger(damage, store):
    contents = bytearray(Folder(store.path).ledger.read_bytes())
    if damage == "delete":
        Folder(store.path).ledger.unlink()
    else:
        contents[3] ^= 1
        Folder(store.path).ledger.write_bytes(contents if damage == "flip" else b"a\nb\n")
    with pytest.raises(nf.StoreError, match=r"ledger .* `repair` makes a new one"):
        nf.store.compute(NET, X, store.path, memory=SMALL)
    nf.store.repair(NET, X, store.path)
    assert store.verify() == ([], [], 6)
    assert_array_equal(store[:], nf.ntk(NET, X))


# --- what else may be at path


OTHERS = {
    "its network is another one": lambda path: nf.store.compute(nf.MLP(4, "relu", 1.3, 0.1), X, path, memory=SMALL),
    "X has other numbers": lambda path: nf.store.compute(NET, X + 1, path, memory=SMALL),
    "X has another shape": lambda path: nf.store.compute(NET, X[:-1], path, memory=SMALL),
    "kernel is ntk, not nngp": lambda path: nf.store.compute(NET, X, path, kernel="nngp", memory=SMALL),
    "dtype is float64, not float32": lambda path: nf.store.compute(NET, X, path, dtype=np.float32, memory=SMALL),
    "block is 256, not 768": lambda path: nf.store.compute(NET, X, path),
    "begun with the version 0, not": None,
    "symmetric is True, not False": lambda path: nf.store.compute(NET, X, path, Y, memory=SMALL),
}


@pytest.mark.parametrize("message", OTHERS)
def test_another_store(message, store):
    call = OTHERS[message]
    if call is None:
        file = store.path / "zarr.json"
        file.write_text(re.sub(r'"version": "[^"]*"', '"version": "0"', file.read_text()))
        call = lambda path: nf.store.compute(NET, X, path, memory=SMALL)  # noqa: E731
    before = files(store.path)
    with pytest.raises(nf.StoreError, match=f"path: .* is a store of another matrix: .*{message}"):
        call(store.path)
    assert files(store.path) == before


def test_something_else_at_path(tmp_path, store):
    with pytest.raises(FileNotFoundError, match="path: there is no"):
        nf.store.open(tmp_path / "nothing")
    with pytest.raises(FileExistsError, match="resume is False"):
        nf.store.compute(NET, X, store.path, memory=SMALL, resume=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    zarr.create_array(tmp_path / "foreign", shape=(3, 3), dtype="f8")
    zarr.create_array(tmp_path / "old", shape=(3, 3), dtype="f8", zarr_format=2)
    before = files(tmp_path)
    for name in ("folder", "file", "foreign", "old"):
        for call in (lambda path: nf.store.open(path), lambda path: nf.store.compute(NET, X, path)):
            with pytest.raises(nf.StoreError, match=r"path: expected a store that ntkfast\.store wrote"):
                call(tmp_path / name)
    assert files(tmp_path) == before


EDITS = {
    '"shape": [\n    700,\n    700': '"shape": [\n    650,\n    650',
    '"chunk_shape": [\n        256,\n        256': '"chunk_shape": [\n        256,\n        128',
    '"kernel": "ntk",': "",
    '"symmetric": true,': "",
}


@pytest.mark.parametrize("edit", [*EDITS, "[]", "null", "{"])
def test_damaged_metadata(edit, store):
    file = store.path / "zarr.json"
    contents = re.sub(r"\s+", " ", file.read_text())
    old, new = re.sub(r"\s+", " ", edit), re.sub(r"\s+", " ", EDITS.get(edit, ""))
    assert edit not in EDITS or contents.count(old) == 1
    file.write_text(contents.replace(old, new) if edit in EDITS else edit)
    for call in (lambda: nf.store.open(store.path), lambda: nf.store.compute(NET, X, store.path, memory=SMALL)):
        with pytest.raises(nf.StoreError, match="path: "):
            call()


@pytest.mark.parametrize(("n", "side"), [(10**30, 256), (10**30, 10**30), (10**9, 10**6), (10**8, 1), (10**4, 10**30)])
def test_sizes_beyond_reason(n, side, store):
    """A few bytes of metadata take neither memory nor time, whatever they claim."""
    file = store.path / "zarr.json"
    contents = json.loads(file.read_text())
    contents["shape"] = [n, n]
    contents["attributes"]["ntkfast"]["X"]["shape"][0] = n
    contents["chunk_grid"]["configuration"]["chunk_shape"] = [side, side]
    file.write_text(json.dumps(contents))
    with pytest.raises(nf.StoreError, match=r"path: .* is not as"):
        nf.store.open(store.path)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_pipes_in_place_of_files(store):
    """Opening a pipe waits for ever."""
    block, right = store.path / "c/0/0", store[:]
    block.unlink()
    os.mkfifo(block)
    assert nf.store.open(store.path).verify().damaged == [(0, 0)]
    (store.path / "ledger").unlink()
    os.mkfifo(store.path / "ledger")
    with pytest.raises(nf.StoreError, match="the ledger"):
        store.verify()
    nf.store.repair(NET, X, store.path)
    assert_array_equal(nf.store.open(store.path)[:], right)
    (store.path / "zarr.json").unlink()
    os.mkfifo(store.path / "zarr.json")
    with pytest.raises(nf.StoreError, match="path: expected a store"):
        nf.store.open(store.path)


@pytest.mark.parametrize("name", ["ledger", "zarr.json", "c/0/0", "c/0"])
def test_nothing_is_written_through_links(name, store, tmp_path):
    """Files elsewhere, which a store from a stranger may name."""
    (store.path / name).rename(tmp_path / "elsewhere")
    (store.path / name).symlink_to(tmp_path / "elsewhere")
    if name == "c/0/0":
        (tmp_path / "elsewhere").write_text("precious")
    before = files(tmp_path)
    for call in (
        lambda: nf.store.repair(NET, X, store.path),
        lambda: nf.store.compute(NET, X, store.path, memory=SMALL),
    ):
        with pytest.raises(nf.StoreError, match="path: expected a store of files, got a link"):
            call()
    assert files(tmp_path) == before


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = nf.store.compute(NET, X, "K.zarr", memory=SMALL)
    monkeypatch.chdir("/")
    assert_array_equal(store[:], nf.ntk(NET, X))
    with pytest.raises(FileNotFoundError, match="path: there is no folder"):
        nf.store.compute(NET, X, tmp_path / "no" / "K.zarr")


def test_a_store_of_a_newer_version(store):
    file = store.path / "zarr.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(nf.StoreError, match="use another ntkfast"):
        nf.store.open(store.path)


def test_two_processes_that_begin_one_store(path, monkeypatch):
    rename = os.rename

    def slower(source, target):
        if not path.exists():
            monkeypatch.undo()
            nf.store.compute(NET, X, path, memory=SMALL)
        rename(source, target)

    monkeypatch.setattr("os.rename", slower)
    assert nf.store.compute(NET, X, path, memory=SMALL).complete
    assert list(path.parent.iterdir()) == [path]


def test_points_are_prepared_once(path, monkeypatch):
    made = []
    ready = Problem._make_ready
    monkeypatch.setattr(Problem, "_make_ready", lambda self: made.append(self) or ready(self))
    nf.store.compute(NET, X, path, Y[:20], memory=SMALL)
    assert len(made) == 1


def test_two_writers(store):
    with writing(store.path), pytest.raises(BlockingIOError, match="another process is writing this store"):
        nf.store.compute(NET, X, store.path, memory=SMALL)


def test_what_killed_writers_left_is_removed(store):
    left = [
        store.path / "c" / "0" / ".ntkfast-0-1.tmp",
        store.path.with_name(f".K.zarr.{'0' * 12}.partial") / "zarr.json",
    ]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    other = store.path.with_name(f".K.zarr.v2.{'0' * 12}.partial")  # of a store that another process begins
    other.mkdir()
    nf.store.compute(NET, X, store.path, memory=SMALL)
    assert not any(file.exists() for file in left)
    assert sorted(entry.name for entry in store.path.parent.iterdir()) == sorted([store.path.name, other.name])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        nf.store.compute(NET, X, tmp_path / "K.zarr")


BAD = {
    "memory: expected at least": (MemoryError, {"memory": 100}),
    "memory: expected a number of bytes": (ValueError, {"memory": "lots"}),
    "kernel: expected": (ValueError, {"kernel": "rbf"}),
    "progress: expected": (TypeError, {"progress": 3}),
    "client: expected": (TypeError, {"client": "tcp://somewhere"}),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_leave_nothing(message, path):
    error, arguments = BAD[message]
    with pytest.raises(error, match=message):
        nf.store.compute(NET, X, path, **arguments)
    with pytest.raises(ValueError, match="X: "):
        nf.store.compute(NET, [[np.nan]], path)
    assert list(path.parent.iterdir()) == []


def test_memory_is_that_of_two_blocks(path):
    """A matrix of 256 MB, half of it on disk, with 16 MiB of blocks, in a new process."""
    code = f"""
import resource, numpy as np, ntkfast as nf
nf.store
X = np.random.default_rng(0).normal(size=(8000, 3)).astype(np.float32)
nf.ntk(nf.MLP(2), X[:600])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nf.store.compute(nf.MLP(2), X, {str(path)!r}, memory="16MiB")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 70 * 2**10  # KiB; the blocks, tiles of the engine, Zarr itself
    assert sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file()) > 2**27


# --- the command line


def command(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.fixture
def points(tmp_path):
    pytest.importorskip("pandas")
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


def test_commands(points, path, tmp_path):
    gram = ["gram", points, "-o", path, "--weight-std", 1.3, "--threads", 1]
    planned = json.loads(command(*gram, "--dry-run", "--json").stdout)
    assert not path.exists()
    assert command(*gram).exit_code == 0
    assert_array_equal(nf.store.open(path)[:], nf.ntk(NET, X))
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert size < 1.3 * planned["bytes"]
    assert 0 < planned["seconds"] < 100
    assert command("verify", path).stdout == f"{path}: 1 blocks, 0 damaged, 0 not computed\n"
    assert "--resume goes on with it" in command(*gram).stderr
    Folder(path).file((0, 0)).write_bytes(b"")
    found = command("verify", path, "--json")
    assert (found.exit_code, json.loads(found.stdout)["damaged"]) == (1, [[0, 0]])
    for damage in (lambda: None, Folder(path).ledger.unlink):
        damage()
        assert command(*gram, "--resume").exit_code == 0
        assert command("verify", path).exit_code == 0

    np.save(tmp_path / "y.npy", X[:, 0])
    found = command("solve", path, tmp_path / "y.npy", "--alpha", 0.1, "-o", tmp_path / "a.npy", "--threads", 1)
    assert (found.exit_code, found.stderr) == (0, "")
    right = nf.solve(nf.ntk(NET, X), X[:, 0], 0.1).dual_coefficients
    assert_allclose(np.load(tmp_path / "a.npy"), right, rtol=1e-6, atol=1e-9)


def test_commands_that_are_refused(points, path, tmp_path):
    np.save(tmp_path / "y.npy", X[:5, 0])
    np.save(tmp_path / "words.npy", np.array(["a"] * len(X)))
    nf.store.compute(NET, X, path)
    solve = ["solve", path, tmp_path / "y.npy", "--alpha", 1, "-o"]
    for arguments, message in (
        (["gram", points, "-o", tmp_path / "K.txt"], "ends in .npy or .zarr"),
        (["gram", points, "-o", tmp_path / "K.npy", "--resume"], "expected a .zarr folder as --out"),
        (["gram", points, "-o", path, "--resume", "--depth", 5], "its network is another one"),
        (["verify", tmp_path], "expected a store that ntkfast.store wrote"),
        ([*solve, tmp_path / "a.txt"], "ends in .npy"),
        ([*solve, tmp_path / "a.npy"], "y: expected"),
        (["solve", path, tmp_path / "words.npy", *solve[3:], tmp_path / "a.npy"], "words.npy: expected numbers, got"),
        (["solve", path, path / "ledger", *solve[3:], tmp_path / "a.npy"], "ledger: expected an array of numbers"),
        (["solve", path, points, "--alpha", 1, "-o", tmp_path / "a.npy", "--memory", "lots"], "--memory: expected a"),
    ):
        found = command(*arguments)
        assert (found.exit_code, found.stdout) == (2, "")
        assert message in found.stderr
        assert found.stderr.count("\n") == 1
    assert not (tmp_path / "a.npy").exists()
