"""Import and calls leave the state of the process as it was: rounding mode, exception masks and denormal numbers of
every thread; and thousands of calls leave behind no memory, no descriptors and no threads.
"""

import ctypes
import gc
import json
import os
import platform
import sys
import unittest
import warnings
from pathlib import Path

from . import frame

ROW = 15
CALLS = {"small": 60, "full": 10_000}
# Each in a process of its own, where `python -W error` makes every warning an exception.
FENV = """
import ctypes, json
m = ctypes.CDLL("libm.so.6")
FE_UPWARD = 0x800

def state():
    environment = (ctypes.c_uint32 * 8)()  # fenv_t of x86-64: seven words of the x87, then MXCSR
    m.fegetenv(environment)
    return [environment[0] & 0xFFFF, environment[7] & 0xFFC0]  # control words, without the flags that were raised

before = [state()]
m.fesetround(FE_UPWARD)
before.append(state())
m.fesetround(0)
import numpy, ntkfast
imported = [state()]
from stress import _calls
changed = [name for name, call in _calls.CALLS.items() if (call(), state())[1] != before[0]]
m.fesetround(FE_UPWARD)
imported.append(state())
ntkfast.ntk(_calls.NET, _calls.X, n_threads=2)
imported.append(state())
m.fesetround(0)
tiny = numpy.float64(5e-324)
print(json.dumps({"calls": len(_calls.CALLS), "changed": changed, "before": before, "after": imported,
                  "denormal": bool(tiny * 1.0 > 0 and tiny / 2 * 2 == 0)}))
"""


def run(scale):
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        raise unittest.SkipTest("needs Linux on x86-64")
    return {**_floating_point(), **_leaks(CALLS[scale])}


def _floating_point():
    done = frame.python("-W", "error", "-c", FENV)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["changed"] == [], seen["changed"]
    assert seen["after"] == [seen["before"][0], seen["before"][1], seen["before"][1]], seen
    assert seen["denormal"]
    return {"calls that leave the floating-point state as it was, and do not warn": seen["calls"]}


def _resources():
    status = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "KiB": int(status),
    }


def _leaks(n):
    """Of n calls, all kinds of them in turn, after each has been made twice."""
    from . import _calls

    calls = list(_calls.CALLS.values())
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda size: None)
    for _ in range(2):
        for call in calls:
            call()

    def now():
        gc.collect()
        trim(0)
        return _resources()

    before = now()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(n):
            calls[k % len(calls)]()
    after = now()
    assert after["descriptors"] <= before["descriptors"], (before, after)
    assert after["threads"] <= before["threads"], (before, after)
    assert after["KiB"] - before["KiB"] < 8192 + 0.2 * n, (before, after)  # a leaked 40 x 40 matrix a call is 12.5 KiB
    return {"calls in a row": n, "KiB that they left": after["KiB"] - before["KiB"]}
