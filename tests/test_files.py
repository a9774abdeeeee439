"""Files that are complete or absent, whatever the disk does; sizes in words."""

import errno
import os

import numpy as np
import pytest

from ntkfast.support import archive, files, memory


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
