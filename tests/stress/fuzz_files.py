"""A file may come from anywhere. Damaged in any way (models and checkpoints also with checksums that fit the damage), a
store, a saved model, a checkpoint, a file of results or of data is read as it was written or ends in the error that is
documented: nothing in it is executed or unpickled, no other file is opened, and it takes no more memory than it holds.
"""

import json
import tempfile
from pathlib import Path

from . import frame

ROW = 13
CASES = {  # small, full
    "ledgers": (1000, 550_000),
    "results": (500, 300_000),
    "models": (300, 50_000),
    "checkpoints": (200, 40_000),
    "digits": (200, 40_000),
    "stores": (100, 20_000),
    "tables": (300, 50_000),
    "data_sets": (200, 40_000),
}


def run(scale):
    frame.require("google_crc32c", linux=True)
    found = {}
    for reader, sizes in CASES.items():
        with tempfile.TemporaryDirectory(dir=memory()) as folder:
            cases = sizes[frame.SCALES.index(scale)]
            done = frame.python(Path(__file__).with_name("_fuzzing.py"), reader, cases, 0, folder)
        assert done.returncode == 0, f"{reader}: {done.stderr[-2000:]}"
        outcome = json.loads(done.stdout)
        assert not outcome["broken"], f"{reader}: {outcome['broken']}"
        assert not outcome["opened"], f"{reader} opened {outcome['opened']}"
        outcomes = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome["outcomes"].items()))
        found[reader] = f"{cases} cases: {outcomes}"
    return found


def memory():
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
