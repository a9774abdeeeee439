"""Every other job that takes long is killed (SIGKILL) at random moments and started again, too: experiments of the
paper and their training, conjugate gradients, Cholesky's factor on disk, MNIST with copies, the UCI data, and files
that are written in one go (matrices, models). The results have the bits of a run that was never stopped, what was
finished is not made again, and nothing is left behind.
"""

import tempfile

from . import _killing, _server, frame

ROW = 1
MOST = {"iterations": 1, "factor": 1, "uci_regression": 1, "augment": 1, "uci": 1}  # units that a kill may cost
JOBS = {
    "small": ("iterations", "factor", "uci_regression", "paper", "scratch", "gram", "household"),
    "full": (*MOST, "paper", "scratch", "gram", "household", "whole", "model"),
}


def run(scale):
    frame.require("google_crc32c", "matplotlib", *(["sklearn"] if scale == "full" else []))
    kills, found = {"small": 1, "full": 50}[scale], {}
    with tempfile.TemporaryDirectory() as folder, _server.Server(folder, *JOBS[scale]) as server:
        for job in JOBS[scale]:
            numbers = _killing.killed(server, job, kills, MOST.get(job), 0.4 if job in MOST else 0.9)
            found[job] = ", ".join(f"{key}: {value}" for key, value in numbers.items() if value)
    return found
