"""No public call warns: under `python -W error` the example of every public name runs in a new process, which writes
nothing to standard error, and so do the commands.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from . import frame

ROW = 15
COMMANDS = (
    "info",
    "gram table.csv --drop price -o K.zarr",
    "solve K.zarr y.npy --alpha 0.1 -o a.npy",
    "verify K.zarr",
    "spectrum table.csv",
    "fit table.csv --target price -o model",
    "predict model table.csv -o predicted.csv",
)
FIRST = {"small": 2, "full": len(COMMANDS)}


def run(scale):
    frame.require("click", "dask", "matplotlib", "pandas", "sklearn")
    seen = json.loads(_output(Path(__file__).with_name("_examples.py")))
    assert not seen["failed"], seen["failed"]
    without = [name for name in seen["without"] if not name.startswith("neural_tangents.")]  # see _examples.others
    assert not without, f"without an example: {without}"
    with tempfile.TemporaryDirectory() as folder:
        table = np.random.default_rng(0).normal(size=(30, 3))
        table[:, 2] = table[:, 0] + 0.1 * table[:, 1]
        np.savetxt(Path(folder, "table.csv"), table, delimiter=",", header="a,b,price", comments="")
        np.save(Path(folder, "y.npy"), table[:, 2])
        for command in COMMANDS[: FIRST[scale]]:
            assert _output("-m", "ntkfast", *command.split(), cwd=folder), command
    return {"public names whose examples do not warn": seen["names"], "commands that do not": FIRST[scale]}


def _output(*arguments, cwd=None):
    """What a process prints in which every warning is an error, and one that nobody catches is printed."""
    done = frame.python("-W", "error", *arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), f"{arguments}: {done.stderr[-4000:]}"
    return done.stdout
