"""What is finished is on disk before anything says so. Of each block of a store, each column of a factor, each
checkpoint and each line of results: it is written beside its place, fsync, rename, fsync of the folder; of a block,
then its line in the ledger, fsync.
"""

import re
import tempfile
from collections import Counter
from pathlib import Path

from . import _server, frame

ROW = 2
JOBS = {
    "small": ("whole", "iterations", "uci_regression"),
    "full": ("whole", "iterations", "factor", "augment", "paper", "uci", "uci_regression", "model"),
}


def run(scale):
    frame.require("google_crc32c", programs=["gcc"], linux=True)
    frame.require(*(["sklearn", "matplotlib"] if scale == "full" else []))
    jobs, found = JOBS[scale], {}
    with (
        tempfile.TemporaryDirectory() as folder,
        _server.Server(folder, *jobs, faults=True) as server,
    ):
        for job in jobs:
            out, log = server.folder / job / "out", server.folder / f"{job}.log"
            server.finish(job, out, fault={"log": str(log)})
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
            numbers = ordered([line.split(" ", 2) for line in lines], out)
            found[job] = ", ".join(f"{what}: {count}" for what, count in numbers.items())
    return found


def ordered(calls, out):
    """How many files got their names; raises unless each did in order.

    calls: (what, path, detail), the detail being what was written, or the name before.
    """
    counts, state, lines = Counter(), {}, {}
    for what, path, detail in calls:
        if what == "write":
            if Path(path).name == "ledger":
                entry = re.match(r"(\d+) (\d+) [0-9a-f]{8} [0-9a-f]{8}", detail)
                block = str(out / "K.zarr" / "c" / entry[1] / entry[2])
                assert state.get(block) == "safe", f"{block} is in the ledger, and {state.get(block)}"
                lines[path] = block
            state[path] = "written"
        elif what == "fsync":
            if lines.pop(path, None):
                counts["lines of the ledger after their blocks"] += 1
            elif state.get(path) not in ("renamed", "safe"):
                state[path] = "on disk"
            for other, how in state.items():
                if how == "renamed" and str(Path(other).parent) == path:
                    state[other] = "safe"
        elif what == "rename":
            inside = [name for name in state if name.startswith(detail + "/")]
            if inside:
                assert {state[name] for name in inside} <= {"on disk", "safe"}, f"a folder with {state} gets its name"
                counts["folders"] += 1
            else:
                how = state.pop(detail, None)
                assert how == "on disk", f"{path} gets its name, and its data are {how}"
                state[path] = "renamed"
                counts["files in order"] += 1
    assert not lines, f"lines of the ledger that were not waited for: {lines}"
    left = [name for name, how in state.items() if how == "renamed"]
    assert not left, f"names that were not waited for: {left}"
    return counts
