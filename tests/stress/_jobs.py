"""Long jobs that can be resumed, each small, and a process that runs them in children: python -P _jobs.py JOB ...

It reads a line of JSON for each run, {"job", "folder", "units"} with "fault" for shim.c or "short", and answers with
the child's process id, then with how it ended. A child that is forked has everything imported: killing it costs no
seconds.
"""

import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np

KINDS = ("open", "write", "fsync", "rename", "reserve")  # of shim.c


def counted(module, name, units):
    """Have each call of a function leave a byte in the file `units`: what is done twice is seen there."""
    parent = importlib.import_module(module)
    *outer, last = name.split(".")
    for part in outer:
        parent = getattr(parent, part)
    function = getattr(parent, last)

    def call(*args, **options):
        os.write(units, b".")
        return function(*args, **options)

    setattr(parent, last, call)


def points(n, d):
    return np.random.default_rng((n, d)).normal(size=(n, d))


@contextlib.contextmanager
def once(folder):
    """A folder to fill, which gets its name at the end, unless another process was faster."""
    new = folder.with_name(f"new-{os.getpid()}")
    yield new
    try:
        os.rename(new, folder)
    except OSError:
        shutil.rmtree(new)


def store(folder, n=4096):
    import ntkfast as nf

    nf.store.compute(nf.MLP(4, "relu", 1.3, 0.1), points(n, 30), folder / "K.zarr", memory="4MiB", progress=False)


def large_store(folder):
    store(folder, 20000)


def gram(folder):
    import ntkfast as nf
    from ntkfast.tabular import matrix

    matrix.gram(nf.MLP(3), points(1500, 5), None, folder / "K.npy", "ntk", np.float64, None, False)


def whole(folder):
    """A store, and then a .npy file of it."""
    import ntkfast as nf

    K = nf.store.compute(nf.MLP(3), points(1000, 5), folder / "K.zarr", memory="1MiB", progress=False)
    K.to_npy(folder / "K.npy", progress=False)


def iterations(folder, alpha=1e-3):
    import ntkfast as nf
    from ntkfast.learning.solvers import checkpoint
    from ntkfast.support.files import replacing

    checkpoint.EVERY = 0.0  # after each iteration, not each half minute
    X = points(700, 20)
    K = nf.KernelOperator(nf.MLP(4, "relu", 2**0.5, 0.1), X)
    given = {"method": "cg", "rank": 20, "rng": 0, "checkpoint": folder / "state", "progress": False}
    found = nf.solve(K, X[:, :3], alpha, **given)
    with replacing(folder / "a.npy") as file:
        np.save(file, found.dual_coefficients)


def factor(folder, checkpoint="factor", n=1000):
    """A store, and Cholesky's factor of it on disk."""
    import ntkfast as nf
    from ntkfast.learning.solvers import blocked
    from ntkfast.support.files import replacing

    blocked.CHUNK = 2**14
    X = points(n, 8)
    K = nf.store.compute(nf.MLP(3, bias_std=0.1), X, folder / "K.zarr", memory="1MiB", progress=False)
    kept = None if checkpoint is None else folder / checkpoint
    found = nf.solve(K, X[:, :3], 1e-3, method="cholesky", memory="4MiB", checkpoint=kept, progress=False)
    with replacing(folder / "a.npy") as file:
        np.save(file, found.dual_coefficients)


def scratch(folder, n=1000):
    """The same with a factor that is not kept."""
    factor(folder, None, n)


def digits(n):
    from ntkfast.datasets import MNIST

    rng = np.random.default_rng(n)
    return MNIST(rng.integers(0, 256, (n, 196), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8))


def augment(folder, tol=1e-6):
    from ntkfast.experiments import augmentation
    from ntkfast.experiments.storage import as_dict, save
    from ntkfast.learning.solvers import checkpoint

    checkpoint.EVERY = 0.0
    given = {"tol": tol, "checkpoint": folder / "state", "progress": False}
    found = augmentation.run(digits(200), digits(20), 500, 3, 1e-4, **given)
    save(folder / "augment.npz", {key: value for key, value in as_dict(found).items() if key != "steps"})


def paper(folder, n_seeds=3):
    import dataclasses
    import functools

    from ntkfast.experiments import paper, theorem2, training

    training.SAVE_EVERY, training.SEGMENT = 0.0, 20
    paper._draw = lambda *_: None  # figures take longer than this, and are drawn from the data each time
    run = functools.partial(theorem2.run, widths=(32, 64), n_seeds=n_seeds, n=6, time=60)
    quiet = dataclasses.replace(theorem2.EXPERIMENT, run=run)
    with paper.exclusive(folder):
        paper.run(quiet, folder, progress=False, say=lambda line: None)


def uci(folder):
    from ntkfast.experiments import uci

    uci.NETWORKS, uci.C = uci.NETWORKS[1:3], uci.C[2:4]
    data = folder.parent / "data"
    with once(data) as new:
        for name in ("a", "b", "c"):
            _uci_data(new / name, name)
    uci.run(data, folder, progress=False)


def _uci_data(there, name, n=40, d=3):
    rng = np.random.default_rng(ord(name))
    there.mkdir(parents=True)
    (there / f"{name}.txt").write_text(f"n_entradas= {d}\nn_clases= 2\nfich1= {name}_R.dat\nn_patrons1= {n}\n")
    X = rng.normal(size=(n, d))
    rows = ["\t".join(map(str, [k, *x, int(x[0] * x[1] > 0)])) for k, x in enumerate(X)]
    (there / f"{name}_R.dat").write_text("\n".join(["head", *rows]) + "\n")
    parts = [rng.permutation(n)[: n // 2] for _ in range(10)]
    lines = [" ".join(map(str, part)) + "\n" for part in parts]
    (there / "conxuntos.dat").write_text("".join(lines[:2]))
    (there / "conxuntos_kfold.dat").write_text("".join(lines[2:]))


def uci_regression(folder):
    from ntkfast.experiments import uci_regression

    data = folder.parent / "data"
    with once(data) as new:
        at = new / "yacht" / "data"
        at.mkdir(parents=True)
        X = points(30, 2)
        np.savetxt(at / "data.txt", np.column_stack([X, np.sin(X[:, 0])]))
        np.savetxt(at / "index_features.txt", [0, 1], fmt="%d")
        np.savetxt(at / "index_target.txt", [2], fmt="%d")
        for number in range(2):
            order = np.random.default_rng(number).permutation(len(X))
            np.savetxt(at / f"index_train_{number}.txt", order[5:], fmt="%d")
            np.savetxt(at / f"index_test_{number}.txt", order[:5], fmt="%d")
    uci_regression.run(data, folder / "fits.jsonl", ["yacht"], splits=2, n_threads=1, say=lambda line: None)


def household(folder):
    from ntkfast.experiments import household
    from ntkfast.experiments.storage import as_dict, save

    measured = np.random.default_rng(0).random((2000, 6))
    data = household.Data(np.arange(2000), measured, measured[:, 1] * measured[:, 2])
    save(folder / "household.npz", as_dict(household.run(data, "row", 100, seed=1, progress=False)))


def model(folder):
    import ntkfast as nf

    f = nf.FiniteNetwork.init(nf.MLP(3), n_inputs=10, widths=1000, rng=0)
    nf.save(f, folder / "f.ntk")


# job -> what it imports, and the function whose calls are its units of work (module, name)
JOBS = {
    store: (["ntkfast.store"], ("ntkfast.store.job", "make")),
    large_store: (["ntkfast.store"], ("ntkfast.store.job", "make")),
    gram: (["ntkfast.tabular.matrix"], None),
    whole: (["ntkfast.store"], None),
    iterations: ([], ("ntkfast.learning.solvers.checkpoint", "Checkpoints.keep")),
    scratch: (["ntkfast.store"], None),
    factor: (["ntkfast.store"], ("ntkfast.learning.solvers.blocked", "BlockedCholesky._factor")),
    augment: (["ntkfast.experiments.augmentation"], ("ntkfast.learning.solvers.checkpoint", "Checkpoints.keep")),
    paper: (["ntkfast.experiments.paper", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf"], None),
    uci: (["ntkfast.experiments.uci", "sklearn.svm"], ("ntkfast.experiments.uci", "score")),
    uci_regression: (["ntkfast.experiments.uci_regression"], ("ntkfast.experiments.uci_regression", "_fit")),
    household: (["ntkfast.experiments.household"], None),
    model: ([], None),
}
# what makes jobs with thousands of calls of the system short, for those who have each of them fail in turn
SHORT = {
    iterations: {"alpha": 100.0},
    factor: {"n": 400},
    scratch: {"n": 400},
    augment: {"tol": 1e-2},
    paper: {"n_seeds": 1},
}
BY_NAME = {job.__name__: job for job in JOBS}


def obey_permissions():
    """Give up root's right to write to files whose permissions say otherwise: CAP_DAC_OVERRIDE."""
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    C = ctypes.CDLL(None)
    assert C.capget(header, sets) == 0
    sets[0] &= ~(1 << 1)
    assert C.capset(header, sets) == 0


def child(request):
    """Run a job in this process."""
    job, folder = BY_NAME[request["job"]], Path(request["folder"])
    _, unit = JOBS[job]
    if unit is not None:
        counted(*unit, os.open(request["units"], os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    if "as_owner" in request:
        obey_permissions()
    if "file_size" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"], resource.RLIM_INFINITY))
    fault = request.get("fault")
    if fault is not None:
        log = os.open(fault["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if fault.get("log") else -1
        kind = KINDS.index(fault["kind"]) if fault.get("kind") else -1
        where, k, room = os.fsencode(folder), ctypes.c_long(fault.get("k", 0)), ctypes.c_long(fault.get("room", -1))
        ctypes.CDLL(None).stress_arm(where, kind, k, fault.get("error", errno.EIO), room, log)
    job(folder, **(SHORT.get(job, {}) if "short" in request else {}))


def serve():
    for name in sys.argv[1:]:
        for module in JOBS[BY_NAME[name]][0]:
            importlib.import_module(module)
    import ntkfast

    assert ntkfast.__version__  # imports what a user without rights could not read
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            code, file = 1, open(request["error"], "w")  # noqa: SIM115
            try:
                child(request)
                code = 0
            except BaseException as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                json.dump([type(error).__name__, str(error), traceback.format_exc()], file)
                file.flush()
            finally:
                os._exit(code)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
