"""Files of finite networks: the saved network is restored, or the error says what is wrong with which file."""

import os
import re
import stat
import zipfile

import catalogue
import numpy as np
import pytest
from finite_networks import NETWORKS, finite
from numpy.testing import assert_array_equal

import ntkfast as nf
from ntkfast.finite.network import FiniteNetwork

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3))


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("name", NETWORKS)
def test_save_and_load(name, parametrization, tmp_path):
    f = finite(NETWORKS[name], 2, parametrization)
    f.save(tmp_path / "f.bin")
    again = FiniteNetwork.load(str(tmp_path / "f.bin"))
    assert again.net == f.net
    assert again.parametrization == parametrization
    assert_array_equal(again(X), f(X))
    assert [path.name for path in tmp_path.iterdir()] == ["f.bin"]


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
def test_every_activation_comes_back_from_a_file(activation, tmp_path):
    f = finite(nf.Network([nf.Dense(weight_std=1 / 3, bias_std=0.1), activation, nf.Dense()]))
    f.save(tmp_path / "f.npz")
    assert FiniteNetwork.load(tmp_path / "f.npz").net == f.net


def test_own_activations_are_given_when_loading(tmp_path):
    def net(name="mine", w=1.0):
        return nf.Network([nf.Dense(weight_std=w), nf.Activation.from_function(np.tanh, name=name), nf.Dense()])

    f = finite(net())
    f.save(tmp_path / "f.npz")
    assert_array_equal(FiniteNetwork.load(tmp_path / "f.npz", net=net())(X), f(X))
    with pytest.raises(ValueError, match=r"net: the activation 'mine' was made by .*from_function.*load\(path, net"):
        FiniteNetwork.load(tmp_path / "f.npz")
    for other in (net("other"), net(w=2.0), nf.MLP(2)):
        with pytest.raises(ValueError, match=r"net: expected the network of .*mine.*, got Network"):
            FiniteNetwork.load(tmp_path / "f.npz", net=other)


def test_files_that_are_no_networks(tmp_path):
    (tmp_path / "text").write_text("no network")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", network=np.array([{}], dtype=object))
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("text", "other.npz", "objects.npz", "array.npy"):
        with pytest.raises(ValueError, match=r"path: expected a file that FiniteNetwork.save wrote, got .*" + name):
            FiniteNetwork.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        FiniteNetwork.load(tmp_path / "nothing")


def damaged(contents, text, remove=(), **changes):
    """The entries of a file with another text, some entries removed, others changed."""
    return {
        name: array for name, array in ({**contents, "network": np.array(text)} | changes).items() if name not in remove
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: damaged(c, "{"), "JSONDecodeError"),
        (lambda c: damaged(c, "[" * 100000), "RecursionError"),
        (lambda c: damaged(c, "[]"), "TypeError"),
        (lambda c: damaged(c, '{"layers": [[]], "parametrization": "ntk"}'), "ValueError"),
        (lambda c: damaged(c, '{"layers": 3, "parametrization": "ntk"}'), "TypeError"),
        (lambda c: damaged(c, '{"layers": [["Pool", {}]], "parametrization": "ntk"}'), "a layer of kind 'Pool'"),
        (lambda c: damaged(c, '{"layers": [["Dropout", {}]], "parametrization": "ntk"}'), "TypeError"),
        (lambda c: damaged(c, str(c["network"]).replace('"relu"', '"x"')), "KeyError: 'x'"),
        (lambda c: damaged(c, '{"layers": [["Dense", {"weight_std": -1}]], "parametrization": "ntk"}'), "weight_std"),
        (lambda c: damaged(c, str(c["network"]).replace('"ntk"', "[1]")), "parametrization: expected 'ntk'"),
        (lambda c: damaged(c, str(c["network"]), remove="network"), "KeyError: 'network'"),
        (lambda c: damaged(c, str(c["network"]), remove="weight_1"), r"missing arrays: \['weight_1'\]"),
        (lambda c: damaged(c, str(c["network"]), weight_9=X), r"arrays of no layer: \['weight_9'\]"),
        (
            lambda c: damaged(c, str(c["network"]), weight_0=np.full((6, 3), np.nan)),
            r"weights\[0\]: .* got nan in row 0",
        ),
        (lambda c: damaged(c, str(c["network"]), weight_0=np.ones((6, 3), int)), r"weights\[0\]: expected float32 or"),
    ],
)
def test_files_with_other_contents(change, words, tmp_path):
    path = tmp_path / "f.npz"
    finite(NETWORKS["relu"]).save(path)
    contents = dict(np.load(path))
    np.savez(path, **change(contents))
    with pytest.raises(ValueError, match=rf"^path: expected a file that .*f\.npz \(.*{words}"):
        FiniteNetwork.load(path)


def test_files_with_damaged_bytes(tmp_path):
    """Cut off anywhere, or with any byte changed: the network, or a ValueError that names the path."""
    path, errors = tmp_path / "f.npz", []
    finite(nf.MLP(1), 1).save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x5B]) + whole[place + 1 :]):
            path.write_bytes(data)
            try:
                FiniteNetwork.load(path)
            except ValueError as error:
                errors.append(str(error))
    assert len(errors) > len(whole) / 7
    assert all(
        error.startswith(f"path: expected a file that FiniteNetwork.save wrote, got {path} (") for error in errors
    )


@pytest.mark.parametrize("shape", [(2**40, 2**10), (2**62, 2**62), (-1, 3)])
def test_a_header_that_promises_more_than_there_is(shape, tmp_path):
    path = tmp_path / "f.npz"
    finite(nf.MLP(1), 1).save(path)
    contents = dict(np.load(path))
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in contents.items():
            with archive.open(f"{name}.npy", "w") as file:
                header = np.lib.format.header_data_from_array_1_0(array)
                if name == "weight_0":
                    header["shape"] = shape
                np.lib.format.write_array_header_1_0(file, header)
                file.write(array.tobytes())
    with pytest.raises((ValueError, MemoryError), match=r"^path: .*f\.npz"):
        FiniteNetwork.load(path)


def test_what_save_replaces(tmp_path):
    f = finite(NETWORKS["relu"])
    target, link = tmp_path / "target", tmp_path / "link"
    old = os.umask(0o027)
    try:
        f.save(target)
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640  # as created by open()
    target.chmod(0o604)
    link.symlink_to("target")
    f.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert_array_equal(FiniteNetwork.load(target)(X), f(X))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
    f.save(tmp_path / ("n" * 250))


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("", ValueError, "path: expected the name of a file, got an empty one"),
        (".", ValueError, "path: expected the name of a file, got '.', which is a directory"),
        (os.devnull, ValueError, f"path: expected the name of a file, got '{os.devnull}', which is not a regular file"),
        ("no/such/folder", FileNotFoundError, "No such file or directory: 'no/such/folder'"),
        (3, TypeError, "int"),
    ],
)
def test_paths_that_are_no_files(path, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(words)):
        finite(NETWORKS["relu"]).save(path)
    assert not list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    f = finite(NETWORKS["relu"])
    f.save(tmp_path / "f.npz")
    before = (tmp_path / "f.npz").read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        f.save(tmp_path / "f.npz")
    assert (tmp_path / "f.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
