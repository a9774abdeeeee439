"""A process that gives damaged files to readers: python -P _fuzzing.py READER CASES SEED FOLDER

Once it has warmed up, an audit hook sees what Python does: nothing may be unpickled, executed or started, and no file
opened but those of the folder and those that tell what memory there is. Its memory is limited, and so is what one file
may take, beside its size. It prints a line of JSON: how many cases there were, and how many of each outcome.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import resource
import sys
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

import ntkfast as nf

WARM = 300  # cases before the hook and the limit: what is imported when it is first used
ROOM = 2**26  # bytes beyond what the process has then
TRACED, BESIDE, TIMES = 97, 2**20, 12  # each so many cases; bytes, and multiples of its size, that a file may take
ALLOWED = ("/proc/meminfo", "/proc/self/", "/sys/fs/cgroup", *filter(None, sys.path))  # the version of ntkfast
FORBIDDEN = ("pickle.find_class", "exec", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
FORBIDDEN += ("socket.connect", "os.remove", "os.rename", "os.mkdir", "os.rmdir")
TOKENS = (b"-1", b"0", b"1e999", b"NaN", b"99999999999999999999", b"4611686018427387904", b'""', b"null", b"[]", b"{}")
TOKENS += (b"true", b'"../../x"', b'"/etc/passwd"', b"[[[[", b"\x00", b"\xff\xfe", b"1e-400", b'{"array": 0}')


def damaged(content, rng):
    """Some bytes changed: flipped, cut off, left out, repeated, or numbers and words replaced."""
    data = bytearray(content)
    for _ in range(1 + rng.integers(3)):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 20))
        how = rng.integers(7)
        if how < 2:
            data[at] ^= 1 << int(rng.integers(8))
        elif how == 2:
            del data[at:]
        elif how == 3:
            del data[at : at + length]
        elif how == 4:
            data[at:at] = data[at : at + length] if length % 2 else rng.bytes(length)
        else:
            found = [match.span() for match in re.finditer(rb'-?\d[\d.e+-]*|"[^"]*"|null|true|false', data)]
            if found:
                start, stop = found[rng.integers(len(found))]
                data[start:stop] = TOKENS[rng.integers(len(TOKENS))]
    return bytes(data)


def sealed(content, rng):
    """A file of `ntkfast.save` with another description or other arrays, and checksums that are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "SHA256SUMS"}
    names = list(members)
    name = names[0] if rng.integers(3) else names[rng.integers(len(names))]
    members[name] = damaged(members[name], rng) if rng.integers(3) else other_tree(members[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if rng.integers(50) == 0 else zipfile.ZIP_STORED) as archive:
        for each, data in members.items():
            archive.writestr(zipfile.ZipInfo(each), data)
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {each}\n" for each, data in members.items())
        archive.writestr(zipfile.ZipInfo("SHA256SUMS"), sums)
    return out.getvalue()


def other_tree(content, rng):
    """JSON with one value in place of another, from the same text."""
    try:
        tree = json.loads(content)
    except ValueError:
        return damaged(content, rng)
    places = []

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(tree)
    (node, key), (other, name) = places[rng.integers(len(places))], places[rng.integers(len(places))]
    strange = [None, True, -1, 0, 2**62, 1e308, "x", [], {}, {"float": "nan"}, {"array": 0}, {"tuple": []}]
    node[key] = other[name] if rng.integers(2) else strange[rng.integers(len(strange))]
    try:
        return json.dumps(tree).encode()
    except ValueError:  # a value within itself
        return content


class Memory:
    """A file in memory, which has a path."""

    def __init__(self):
        self.descriptor = os.memfd_create("damaged")
        self.path = f"/proc/self/fd/{self.descriptor}"

    def fill(self, content):
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, content, 0)
        return self.path


def of_models(folder):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    net = nf.Network([nf.Dense(bias_std=0.1), nf.Residual("relu", nf.Dense()), nf.LayerNorm(), "gelu", nf.Dense()])
    K = nf.ntk(nf.MLP(2), X)
    models = [
        net,
        nf.MLP(3, nf.activations.polynomial((0.3, -1.0, 0.5))),
        nf.FiniteNetwork.init(nf.MLP(2, bias_std=0.1), n_inputs=2, widths=4, rng=0),
        nf.GaussianProcess(K, y, noise=0.1),
        nf.LeastSquaresFlow(K, y),
        nf.NystromRegression(nf.MLP(2), 3, 0.1, rng=0).fit(X, y),
        nf.kernel_pca(K, 2),
    ]
    with contextlib.suppress(ImportError):
        models.append(nf.sklearn.NTKRegressor().fit(X, y))
    contents = []
    for model in models:
        nf.save(model, folder / "model")
        contents.append((folder / "model").read_bytes())
    return contents


def models(folder):
    contents, file = of_models(folder), Memory()

    def case(rng):
        content = (sealed if rng.integers(4) else damaged)(contents[rng.integers(len(contents))], rng)
        return len(content), lambda: nf.load(file.fill(content))

    return case, (ValueError,)


def checkpoints(folder):
    from ntkfast.learning.solvers import blocked, checkpoint

    X = np.random.default_rng(0).normal(size=(40, 3))
    nf.solve(nf.KernelOperator(nf.MLP(2), X), X[:, 0], 0.1, method="cg", rng=0, checkpoint=folder / "state")
    checkpoint.write(folder / "factor", blocked.Description(checkpoint.identity(nf.ntk(nf.MLP(2), X), 0.1), 8))
    falkon = nf.NystromRegression(nf.MLP(2), 10, 0.1, method="falkon", rng=0)
    falkon.fit(X, X[:, :2], checkpoint=folder / "falkon")
    kinds = [(folder / "state", checkpoint.Checkpoint), (folder / "factor", blocked.Description)]
    kinds += [(folder / "falkon", checkpoint.CentersCheckpoint)]
    contents, file = [(path.read_bytes(), kind) for path, kind in kinds], Memory()

    def case(rng):
        content, kind = contents[rng.integers(len(contents))]
        content = (sealed if rng.integers(4) else damaged)(content, rng)
        return len(content), lambda: checkpoint.read(file.fill(content), kind)

    return case, (ValueError,)


def ledgers(folder):
    from ntkfast.store import ledger

    content, file = b"".join(ledger._line((i, j), 1000 * i + j) for i in range(5) for j in range(i, 5)), Memory()

    def case(rng):
        content_here = damaged(content, rng)
        return len(content_here), lambda: ledger.read(Path(file.fill(content_here)))

    return case, (nf.StoreError,)


def stores(folder):
    """zarr.json, the ledger or a block is damaged: what can be read is what was written."""
    X = np.random.default_rng(0).normal(size=(300, 3))
    store = nf.store.compute(nf.MLP(2), X, folder / "K.zarr", dtype=np.float32, memory="3MB", progress=False)
    K, names = store[:], ["zarr.json", "zarr.json", "ledger", "c/0/0"]
    contents = {name: (store.path / name).read_bytes() for name in names}

    def case(rng):
        name = names[rng.integers(len(names))]
        content = damaged(contents[name], rng)

        def read():
            try:
                (store.path / name).write_bytes(content)
                there = nf.store.open(store.path)
                there.verify(progress=False)
                part = there[:2, :3]
                assert part.shape == (2, 3)
                assert np.array_equal(part, K[:2, :3]) or there.dtype != K.dtype, "other numbers"
            finally:
                (store.path / name).write_bytes(contents[name])

        return sum(map(len, contents.values())), read

    return case, (nf.StoreError, IndexError)


def digits(folder):
    """MNIST's format with ten digits, plain or compressed."""
    from ntkfast import datasets

    rng = np.random.default_rng(0)
    datasets.PARTS = {"train": ("train", 10)}
    contents, right = {}, {}
    for kind, header, count in (("images-idx3", [0x803, 10, 28, 28], 7840), ("labels-idx1", [0x801, 10], 10)):
        name = f"train-{kind}-ubyte"
        contents[name] = np.array(header, ">u4").tobytes() + rng.bytes(count)
        datasets.SHA256[name] = hashlib.sha256(contents[name]).hexdigest()
        right[name] = gzip.compress(contents[name])
        (folder / f"{name}.gz").write_bytes(right[name])
    assert len(datasets.mnist("train", folder).labels) == 10
    bomb = gzip.compress(bytes(2**27))

    def case(rng):
        name = list(right)[rng.integers(2)]
        content = bomb if not rng.integers(100) else damaged((right, contents)[rng.integers(2)][name], rng)

        def read():
            try:
                (folder / f"{name}.gz").write_bytes(content)
                datasets.mnist("train", folder)
            finally:
                (folder / f"{name}.gz").write_bytes(right[name])

        return len(content) + 8000, read

    return case, (datasets.DataError,)


def results(folder):
    """The files of `ntkfast uci`, `uci-regression`, `paper` and `bench`."""
    from ntkfast.benchmarks import compare
    from ntkfast.experiments import storage, uci, uci_regression

    score = uci.Score("iris", 150, 4, 3, 2, 1, 100.0, 0.96, 0.95)
    uci._store(folder / "uci.csv", [score, score])
    fit = uci_regression.Fit("yacht", "ntk", 0, 1.0, -1.0, True, "", -10.0, 0.1, [1.0, 0.1], 1.0)
    storage.save(folder / "a.npz", {"X": np.arange(12.0).reshape(3, 4), "seconds": 1.5, "settings": '{"seed": 0}'})
    rates = {"dtype": "float64", "n_threads": 1, "gemm": 1e9, "syrk": 1e9, "written": 1e9, "roots": 1e9}
    measured = {"version": 1, "machine": {"cpu": "x"}, "n": 100, "n_threads": 1, "limits": [rates], "peers": []}
    measured |= {
        "workloads": [{"name": "ntk", "seconds": 1.5}],
        "growth": [{"of": "N", "sizes": [1], "seconds": [2.0]}],
    }
    measured |= {"goals": [{"name": "erf", "ratio": 1.5, "at_least": True}], "memory": 0.1}
    readers = [
        (json.dumps(measured).encode(), lambda path: compare.read(Path(path))),
        ((folder / "uci.csv").read_bytes(), lambda path: uci._stored(Path(path))),
        ((json.dumps(vars(fit)) + "\n").encode() * 2, uci_regression.read),
        ((folder / "a.npz").read_bytes(), storage.load),
    ]
    file = Memory()

    def case(rng):
        content, read = readers[rng.integers(len(readers))]
        content = damaged(content, rng)
        return len(content), lambda: read(file.fill(content))

    return case, (ValueError,)


def tables(folder):
    """What commands learn from: CSV, .npy and .npz."""
    from ntkfast.tabular import table

    X = np.random.default_rng(0).normal(size=(20, 3)).round(3)
    text = "price,height,colour\n" + "".join(f"{a},{b},{'red' if c > 0 else 'green'}\n" for a, b, c in X)
    np.save(folder / "a.npy", X)
    np.savez(folder / "a.npz", X=X, y=X[:, 0])
    np.savez_compressed(folder / "b.npz", X=X)
    contents = {"a.csv": text.encode(), "a.tsv": text.replace(",", "\t").encode()}
    contents |= {name: (folder / name).read_bytes() for name in ("a.npy", "a.npz", "b.npz")}

    def case(rng):
        name = list(contents)[rng.integers(len(contents))]
        content = damaged(contents[name], rng)

        def read():
            (folder / name).write_bytes(content)
            found = table.read(folder / name)
            assert all(np.asarray(found.columns[each]).size < 1000 for each in found.columns)

        return len(content), read

    return case, (table.TableError,)


def data_sets(folder):
    """What people bring for `ntkfast uci`, `uci-regression` and `household`."""
    from ntkfast.datasets import DataError
    from ntkfast.experiments import household, uci_data, uci_regression

    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 3)).round(3)
    rows = "".join(f"{k}\t{a}\t{b}\t{k % 2}\n" for k, (a, b, _) in enumerate(X))
    folds = ["0 1 2 3 4 5", "6 7 8 9 10 11"] * 4
    minutes = [f"16/12/2006;17:{k:02d}:00;" + ";".join(f"{1 + k}.5" for _ in range(7)) for k in range(12)]
    names = "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;Sub_metering_1;Sub_metering_2"
    contents = {
        "iris/iris.txt": "n_patrons1= 12\nn_entradas= 2\nn_clases= 2\nfich1= iris_R.dat\n",
        "iris/iris_R.dat": "\tf1\tf2\tclase\n" + rows,
        "iris/conxuntos.dat": "\n".join(folds[:2]),
        "iris/conxuntos_kfold.dat": "\n".join(folds),
        "yacht/data/data.txt": "".join(f"{a} {b} {c}\n" for a, b, c in X),
        "yacht/data/index_features.txt": "0\n1\n",
        "yacht/data/index_target.txt": "2\n",
        "yacht/data/index_train_0.txt": "0\n1\n2\n3\n4\n",
        "yacht/data/index_test_0.txt": "5\n6\n",
        "power.txt": "\n".join([names + ";Sub_metering_3", *minutes]),
    }
    contents = {name: text.encode() for name, text in contents.items()}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def described():
        found = uci_data.describe(folder)
        uci_data.require(found)
        return [uci_data.read(of) for of in found]

    readers = {
        "iris": described,
        "yacht": lambda: uci_regression.split(folder, "yacht", 0),
        "power.txt": lambda: household.read(folder / "power.txt"),
    }

    def case(rng):
        name = list(contents)[rng.integers(len(contents))]
        content = damaged(contents[name], rng)

        def read():
            try:
                (folder / name).write_bytes(content)
                readers[name.partition("/")[0]]()
            finally:
                (folder / name).write_bytes(contents[name])

        return sum(map(len, contents.values())), read

    return case, (ValueError, DataError)


READERS = (models, checkpoints, ledgers, stores, digits, results, tables, data_sets)
READERS = {reader.__name__: reader for reader in READERS}


def main(name, cases, seed, folder):
    folder = Path(folder)
    case, expected = READERS[name](folder)
    broken, outcomes, opened = [], Counter(), []

    def hook(event, args):
        if event in FORBIDDEN:
            broken.append(f"{event}: {str(args)[:200]}")
        elif event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.fspath(args[0])
            path = path.decode() if isinstance(path, bytes) else path
            if not path.startswith((str(folder), *ALLOWED)):
                opened.append(path)

    for number in range(-WARM, cases):
        if number == 0:
            sys.addaudithook(hook)
            now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))
        size, read = case(np.random.default_rng((seed, number + WARM)))
        traced = number >= 0 and number % TRACED == 0
        if traced:
            tracemalloc.start()
        try:
            read()
            outcomes["read"] += 1
        except expected as error:
            outcomes[type(error).__name__] += 1
        except Exception as error:
            broken.append(f"case {number + WARM}: {type(error).__name__}: {error}")
        if traced:
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if taken > BESIDE + TIMES * size:
                broken.append(f"case {number + WARM}: {taken} bytes of memory for a file of {size}")
        if broken or opened:
            break
    print(json.dumps({"cases": cases, "outcomes": outcomes, "broken": broken[:3], "opened": opened[:3]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
