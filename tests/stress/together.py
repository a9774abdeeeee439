"""Two processes that run one job in one folder at once do no harm: the second is refused or both are right, and so is
what they leave. In a folder that cannot be written to, jobs end with an OSError that names it and change nothing, or
find that nothing is left to do.
"""

import tempfile
from pathlib import Path

from . import _killing, _server, frame

ROW = 1
GO_ON = ("store", "iterations", "factor", "paper", "uci", "uci_regression")
JOBS = {
    "small": ("store", "iterations", "factor", "uci_regression", "gram"),
    "full": (*GO_ON, "scratch", "augment", "gram", "whole", "model"),
}
REFUSALS = ("BlockingIOError", "OSError")


def run(scale):
    frame.require("google_crc32c", *(["sklearn", "matplotlib"] if scale == "full" else []))
    rounds, jobs, found = {"small": 1, "full": 10}[scale], JOBS[scale], {}
    with (
        tempfile.TemporaryDirectory() as first,
        tempfile.TemporaryDirectory() as second,
        _server.Server(first, *jobs) as one,
        _server.Server(second, *jobs) as other,
    ):
        for job in jobs:
            found[job] = f"{_at_once(one, other, job, rounds)}; {_read_only(one, job)}"
    return found


def _at_once(one, other, job, rounds):
    whole = one.folder / f"{job}-whole" / "out"
    one.finish(job, whole)
    right, refused = _server.digests(whole), 0
    for k in range(rounds):
        out = one.folder / f"{job}-{k}" / "out"
        for server in (one, other):
            server.start(job, out)
        statuses = [server.wait() for server in (one, other)]
        for server, status in zip((one, other), statuses, strict=True):
            if status:
                kind, message, trace = server.error
                assert kind in REFUSALS, f"{job}: {trace}"
                assert "another process" in message, f"{job}: {trace}"
                refused += 1
        assert 0 in statuses, f"{job}: both processes were refused"
        _killing.compare(job, out, right)
    return f"twice at once {rounds} times, {refused} refused"


def _read_only(server, job):
    """The finished job in a folder that cannot be written to, and one that has nothing."""
    if job not in GO_ON:
        out = server.folder / f"{job}-locked" / "out"
        out.mkdir(parents=True)
    else:
        out = server.folder / f"{job}-whole" / "out"
    before = {path: path.stat().st_mtime_ns for path in _server.files(out.parent)}
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    status = server.run(job, out, as_owner=True)
    for path in folders:
        path.chmod(0o755)
    if status:
        kind, message, trace = server.error
        assert kind in ("PermissionError", "OSError"), f"{job}: {trace}"
        assert str(out) in message, f"{job}: the message does not name the folder: {message}"
    after = {path: path.stat().st_mtime_ns for path in _server.files(out.parent)}
    assert {path: when for path, when in after.items() if not _is_units(path)} == {
        path: when for path, when in before.items() if not _is_units(path)
    }, f"{job} changed files in a folder that cannot be written to"
    return "read-only: " + ("OSError" if status else "nothing to do")


def _is_units(path):
    return Path(path).suffix == ".units"
