"""A disk without room: a matrix that is larger than what is free is refused with an OSError before its first block. A
disk that fills up on the way ends a job with an OSError, never a signal (maps of files included, whose space is
reserved first), and leaves what the same job goes on from, to the same bits. So does a limit of the size of a file.
"""

import shutil
import subprocess
import tempfile

import numpy as np

from . import _killing, _server, frame

ROW = 4
JOBS = {
    "small": ("whole", "gram", "model"),
    "full": ("whole", "factor", "gram", "iterations", "model", "uci"),
}
ROOMS = {"small": 3, "full": 40}  # sizes of the disk that are tried

LARGE = """
import sys, errno, pathlib
import numpy as np
import ntkfast as nf
from ntkfast.tabular import matrix
folder, X = pathlib.Path(sys.argv[1]), np.random.default_rng(0).normal(size=(3000, 5))
for attempt in (
    lambda: nf.store.compute(nf.MLP(3), X, folder / "K.zarr", memory="4MiB", progress=False),
    lambda: matrix.gram(nf.MLP(3), X, None, folder / "K.npy", "ntk", np.float64, None, False),
):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__, error)
    else:
        sys.exit("a matrix of 36 MB fits on a disk of 8 MB")
    assert not list(folder.iterdir()), list(folder.iterdir())
"""


def run(scale):
    frame.require("google_crc32c", *(["sklearn"] if scale == "full" else []), programs=["gcc"], linux=True)
    found = _too_large()
    with (
        tempfile.TemporaryDirectory() as folder,
        _server.Server(folder, *JOBS[scale], faults=True) as server,
    ):
        for job in JOBS[scale]:
            found[job] = _filling(server, job, ROOMS[scale])
    return found


def _too_large():
    """On a file system of 8 MB, where one can be mounted."""
    mount = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'
    with tempfile.TemporaryDirectory() as folder:
        mounted = ["unshare", "-Urm", "sh", "-c", mount, folder]
        if subprocess.run([*mounted, "true"], capture_output=True).returncode:
            return {"a matrix larger than its disk": "not tried: no file system could be mounted"}
        done = frame.python("-c", LARGE, folder, before=mounted)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2
    return {"matrices of 36 MB, refused on a disk of 8 MB, nothing written": 2}


def _filling(server, job, rooms):
    whole = server.folder / f"{job}-whole" / "out"
    server.finish(job, whole)
    right = _server.digests(whole)
    size = sum(path.stat().st_size for path in _server.files(whole))
    largest = max(path.stat().st_size for path in _server.files(whole))
    raised = 0
    for how, top in (("room", size), ("file_size", largest)):
        for room in np.linspace(0, 0.95 * top, rooms).astype(int).tolist():
            out = server.folder / f"{job}-{how}" / "out"
            given = {"fault": {"room": room}} if how == "room" else {"file_size": room}
            status = server.run(job, out, **given)
            assert status in (0, 1), f"{job} with {how} {room} of {top} bytes ended by signal {-status}"
            if status:
                raised += 1
                name, _, trace = server.error
                assert name in ("OSError", "StoreError", "TableError"), f"{job} with {how} {room} of {top}: {trace}"
            left = [name for name in _server.debris(out) if ".tmp" in name]
            assert not left, f"{job} with {how} {room} of {top} bytes left {left}"
            server.finish(job, out)
            _killing.compare(f"{job} with {how} {room} of {top} bytes", out, right)
            shutil.rmtree(out.parent)
    return f"{2 * rooms} disks and limits of a file's size, {raised} exceptions, no signal, then the same bits"
