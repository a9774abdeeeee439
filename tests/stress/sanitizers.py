"""The engine makes no memory error, no undefined behaviour, no data race and no leak, as far as tools can see: its C
code without Python under AddressSanitizer and UndefinedBehaviorSanitizer, ThreadSanitizer and valgrind; the tests with
an extension built for the first two, and with one of which Cython checks every index. Faults planted for these tools
are found.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from . import frame

ROW = 14
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Target of src_c/Makefile, what is planted in queued.c, a flag that plants a fault in src_c, what the tool reports.
PLANTED = (
    ("asan", 1, "", "heap-buffer-overflow"),
    ("asan", 2, "", "signed integer overflow"),
    ("tsan", 0, "-D_Atomic=", "data race"),
    ("valgrind", 3, "", "definitely lost"),
)
MORE_PLANTED = (("asan", 3, "", "detected memory leaks"), ("valgrind", 1, "", "Invalid write"))
# What is said where a tool cannot work, and what it needs.
MISSING = {
    "cannot find -l": "gcc's libasan, libubsan and libtsan",
    "cannot find lib": "gcc's libasan, libubsan and libtsan",
    "unexpected memory mapping": "ThreadSanitizer on a kernel with less randomness (sysctl vm.mmap_rnd_bits=28)",
}


def run(scale):
    frame.require("xdist", programs=("make", "gcc"), linux=True)
    targets = ["asan", "tsan", *(["valgrind"] if shutil.which("valgrind") else [])]
    planted = [fault for fault in PLANTED + MORE_PLANTED * (scale == "full") if fault[0] in targets]
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            status, said = queued(folder, target)
            for words, need in MISSING.items():
                if words in said:
                    raise unittest.SkipTest(f"needs {need}")
            assert status == 0, f"{target}:\n{said}"
        for target, fault, flag, report in planted:
            status, said = queued(folder, target, fault, flag)
            assert status != 0, f"{target} did not fail for {report}"
            assert report in said, f"{target}, expected {report}:\n{said}"
        found = {"tools without a report on tiles and their queue": ", ".join(targets)}
        found["faults planted and found"] = len(planted)
        if scale == "full":
            for target in targets:
                found[f"checks of src_c under {target}"] = smoke(folder, target)
            for mode in ("asan", "bounds"):
                found[f"tests passed, {mode}"] = suite(folder, mode)
    return found


def make(target, folder, *variables):
    command = ["make", "-s", "-C", ROOT / "src_c", target, f"BUILD={folder}", *variables]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def queued(folder, target, fault=0, flag=""):
    """Exit status and output of queued.c, beside as much of the engine as it needs, built and run as a target is."""
    build = Path(folder, f"{target}{fault}{flag}")
    compiler = f"gcc -I. -DPLANTED={fault} {flag}"
    return make(target, build, "NAMES=tiles queue queued", f"VPATH={HERE}", f"CC={compiler}")


def smoke(folder, target):
    status, said = make(target, folder, "CC=gcc")
    assert status == 0, f"{target}:\n{said}"
    return int(re.search(r"smoke: (\d+) checks passed", said).group(1))


def suite(folder, mode):
    given = os.environ | {"PYTHON": sys.executable, "FOLDER": str(Path(folder, mode))}
    command = [ROOT / "tests" / "sanitize.sh", mode, "-q", "-n", "auto", "-rfE", "--disable-warnings"]
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == 0, f"{mode}:\n{done.stdout[-20000:]}{done.stderr[-5000:]}"
    return int(re.search(r"(\d+) passed", done.stdout).group(1))
