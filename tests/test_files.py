"""Files that are complete or absent, whatever the disk does; sizes in words."""

import errno
import os
import pathlib

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.benchmarks import compare
from ntkfast.support import archive, files, memory
from ntkfast.tabular import table


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.00 KiB"),
        (3 * 2**20 + 2**19, "3.50 MiB"),
        (2**30, "1.00 GiB"),
        (2**30 - 1, "1024.00 MiB"),
        (1.5 * 2**40, "1.50 TiB"),
        (2**60, "1048576.00 TiB"),
    ],
)
def test_sizes_in_words(n_bytes, words):
    assert memory.in_words(n_bytes) == words


def refuse(number):
    def call(*given):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate")
def test_a_map_has_its_space_before_it_is_written(tmp_path, monkeypatch):
    with files.replacing(tmp_path / "K.npy") as file:
        files.npy_memmap(file, (100, 1000), np.float64)[:] = 1
        assert os.fstat(file.fileno()).st_blocks * 512 >= 800000
    assert np.load(tmp_path / "K.npy").sum() == 100000
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left on device"), files.replacing(tmp_path / "L.npy") as file:
        files.npy_memmap(file, (100, 1000), np.float64)
    assert os.listdir(tmp_path) == ["K.npy"]
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP))  # by some file systems
    with files.replacing(tmp_path / "K.npy") as file:
        files.npy_memmap(file, (2, 3), np.float32)[:] = 2
    assert np.load(tmp_path / "K.npy").tolist() == [[2, 2, 2]] * 2


@pytest.mark.skipif(not os.path.exists(os.devnull) or os.name == "nt", reason="no devices among the files")
def test_devices_are_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (os.devnull, tmp_path / "link"):
        with pytest.raises(FileExistsError, match="it is a device"), files.replacing(path) as file:
            file.write(b"a file now")
    assert pathlib.Path(os.devnull).is_char_device()


def test_folders_that_cannot_be_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    files.sync(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        files.sync(tmp_path)


def test_arrays_of_an_npz_file_take_what_it_holds(tmp_path):
    values = {"X": np.arange(6.0).reshape(2, 3), "n": np.array(3), "what": np.array("text")}
    np.savez(tmp_path / "a.npz", **values)
    np.savez_compressed(tmp_path / "b.npz", X=np.zeros(10**6))
    with open(tmp_path / "a.npz", "rb") as file:
        found = archive.read_arrays(file)
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, strict=True)
    with open(tmp_path / "b.npz", "rb") as file, pytest.raises(ValueError, match="compressed"):
        archive.read_arrays(file)


# --- what is no file, or no path


def readers(tmp_path):
    """Argument -> calls with a path."""
    X = np.random.default_rng(0).normal(size=(9, 2))
    store = nf.store.compute(nf.MLP(2), X, tmp_path / "K.zarr")
    operator = nf.KernelOperator(nf.MLP(2), X)
    return {
        "path": [
            nf.load,
            nf.store.open,
            store.to_npy,
            lambda path: nf.save(nf.MLP(2), path),
            lambda path: nf.store.compute(nf.MLP(2), X, path),
            lambda path: nf.store.repair(nf.MLP(2), X, path),
        ],
        "folder": [
            lambda path: nf.datasets.mnist("train", path),
            lambda path: nf.datasets.download_mnist(path),
            nf.experiments.uci.run,
        ],
        "results": [nf.experiments.uci_regression.read],
        "checkpoint": [lambda path: nf.solve(operator, X[:, 0], 0.1, method="cg", checkpoint=path)],
    }


def test_null_characters_are_reported_with_the_argument(tmp_path):
    for name, calls in readers(tmp_path).items():
        for call in calls:
            with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected a path, got 'a\\x00b'$"):
                call("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_are_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for read in (nf.load, nf.experiments.household.read, table.load, compare.read):
        with pytest.raises(ValueError, match=r"path: expected a file, got .*pipe, which is not a regular one"):
            read(pipe)
    with pytest.raises(ValueError, match=r"expected fits of ntkfast uci-regression in .*pipe"):
        nf.experiments.uci_regression.read(pipe)
    (tmp_path / "train-images-idx3-ubyte.gz").symlink_to(pipe)
    with pytest.raises(nf.datasets.DataError, match=r"MNIST: cannot read .* which is not a regular one"):
        nf.datasets.mnist("train", tmp_path)
    for call in (lambda: nf.save(nf.MLP(2), pipe), lambda: nf.store.open(pipe)):
        with pytest.raises(ValueError, match="path: expected"):
            call()
