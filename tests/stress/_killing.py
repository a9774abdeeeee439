"""A job that is killed again and again."""

import shutil

import numpy as np

from . import _server


def killed(server, job, kills, most=None, part=0.25):
    """Kill a job this often, each time at most so large a part of its duration after it was started or resumed.

    most: units of work that a kill may cost.
    """
    rng = np.random.default_rng(kills)
    whole, out = server.folder / f"{job}-whole" / "out", server.folder / f"{job}-killed" / "out"
    seconds = server.finish(job, whole)
    right, n_units = _server.digests(whole), _server.units(whole)
    done = rounds = again = 0
    while done < kills:
        since = 0
        while done < kills and server.kill(job, out, rng.uniform(0, part * seconds)):
            done, since = done + 1, since + 1
        server.finish(job, out)
        compare(job, out, right)
        twice = _server.units(out) - n_units
        assert most is None or twice <= most * since, f"{job}: {twice} units made again after {since} kills"
        rounds, again = rounds + 1, again + twice
        shutil.rmtree(out.parent)
    found = {"kills": kills, "jobs that were begun and finished": rounds, "other bits": 0, "left behind": 0}
    if most is not None:
        found["units of work in a job, begun again per kill"] = f"{n_units}, {again / kills:.2f}"
    return found


def compare(job, out, right):
    """Raise unless the result is right, and nothing else is there."""
    left = _server.debris(out.parent)
    assert not left, f"{job} leaves {left} behind"
    found = _server.digests(out)
    wrong = sorted(name for name in {*found, *right} if found.get(name) != right.get(name))
    assert not wrong, f"{job} has other files than a run that was not stopped: {wrong}"
