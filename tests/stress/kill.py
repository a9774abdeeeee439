"""A store whose writer is killed (SIGKILL) at random moments and started again has, file by file, the SHA-256 of one
that was never stopped. What was finished is not made again: a kill costs at most the block that is being computed and
the one that is being written. Nothing else is left behind.
"""

import tempfile

from . import _killing, _server

ROW = 1


def run(scale):
    job, kills, part = {"small": ("store", 20, 0.25), "full": ("large_store", 200, 0.04)}[scale]
    with tempfile.TemporaryDirectory() as folder, _server.Server(folder, job) as server:
        found = _killing.killed(server, job, kills, most=2, part=part)
    return {"matrix": {"small": "4096²", "full": "20000²"}[scale]} | found
