"""Input and output that fails once: for every k, the k-th open, write, fsync, rename or reservation of space of a job
fails, and the job ends with an OSError, or does without. Then the same job goes on to the same bits.
"""

import errno
import shutil
import tempfile

from . import _killing, _server, frame
from ._jobs import KINDS

ROW = 5
ERRORS = {"open": errno.EMFILE, "write": errno.EIO, "fsync": errno.EIO, "rename": errno.EIO, "reserve": errno.ENOSPC}
MOST = {"small": 3, "full": 10**6}  # calls of each kind and job
JOBS = {
    "small": ("whole", "gram", "uci_regression"),
    "full": ("whole", "iterations", "factor", "scratch", "augment", "paper", "uci", "uci_regression", "gram", "model"),
}


def run(scale):
    frame.require("google_crc32c", programs=["gcc"], linux=True)
    frame.require(*(["sklearn", "matplotlib"] if scale == "full" else []))
    found = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        _server.Server(folder, *JOBS[scale], faults=True) as server,
    ):
        for job in JOBS[scale]:
            found[job] = _failing(server, job, MOST[scale])
    return found


def _failing(server, job, most):
    whole, log = server.folder / f"{job}-whole" / "out", server.folder / f"{job}.log"
    server.finish(job, whole, short=True, fault={"log": str(log)})
    right, calls = _server.digests(whole), log.read_text(encoding="utf-8", errors="replace").split("\n")
    tried = raised = 0
    for kind in KINDS:
        count = sum(line.startswith(kind + " ") for line in calls)
        for k in sorted({1 + i * count // min(most, count) for i in range(min(most, count))}):
            out = server.folder / f"{job}-{kind}" / "out"
            status = server.run(job, out, short=True, fault={"kind": kind, "k": k, "error": ERRORS[kind]})
            tried += 1
            if status:
                assert status == 1, f"{job}: the {k}-th {kind} failed, and it ended with status {status}"
                raised += 1
                name, _, trace = server.error
                kinds = ("OSError", "PermissionError", "StoreError", "ValueError", "TableError")
                assert name in kinds, f"{job}: the {k}-th {kind} failed: {trace}"
            server.finish(job, out, short=True)
            _killing.compare(f"{job} (after the {k}-th {kind} failed)", out, right)
            shutil.rmtree(out.parent)
    return f"{tried} calls failed, {raised} exceptions, then the same bits"
