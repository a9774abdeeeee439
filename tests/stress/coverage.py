"""The tests run at least 95 % of the lines of ntkfast, and at least 90 % of those of src_c. The lines of a file count
once, however often it is compiled: for each precision and each instruction set. Tests that fail under the tools that
count, which slow them down several times, have run their lines; without these tools they pass.

In a copy of the tree, the engine is built for gcov, and the tests run under coverage.py, which follows the processes
that they start, and then the C program smoke.c. Rooms whose library is missing here are counted, and named. What numba
compiles counts as not run.
"""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from collections import Counter
from pathlib import Path

from . import frame

ROW = 16
ROOT = Path(__file__).parents[2]
LEAST = {"ntkfast": 95.0, "src_c": 90.0}
OPTIONAL = ("torch", "gpytorch", "jax", "sklearn", "dask", "distributed", "matplotlib", "pandas", "pyarrow", "zarr")
TOOLS = ("smoke.c", "threads.c")  # programs for tests


def run(scale):
    if scale == "small":
        raise unittest.SkipTest("takes the whole suite")
    frame.require("coverage", "pytest", "Cython", programs=["git", "gcov", "make", compiler()])
    # processes that the last tests started may still be writing what they have run
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tree = copied(folder)
        build(tree)
        tests, failed = suite(tree)
        found = {"tests": tests, "failed under these tools": ", ".join(failed) or "none"}
        found["missing here"] = ", ".join(missing()) or "nothing"
        found |= shares("ntkfast", python_lines(tree))
        lines = c_lines(tree)
        smoke(tree)
        found["src_c, by the tests of Python alone, %"] = percent(sum(lines.values(), Counter()))
        found |= shares("src_c", c_lines(tree))
    for name, least in LEAST.items():
        assert found[f"{name}, %"] >= least, "\n".join(f"{key}: {value}" for key, value in found.items())
    return found


def missing():
    return [name for name in OPTIONAL if importlib.util.find_spec(name) is None]


def compiler():
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]


def copied(folder):
    """The files of the tree that git knows or does not ignore, in this folder."""
    tree, command = Path(folder, "ntkfast"), ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def done(tree, *command, allowed=(0,), **variables):
    """The output of a command in the tree; raises if it ends with another status."""
    given = os.environ | {"PYTHONPATH": str(tree)} | variables
    finished = subprocess.run(command, cwd=tree, env=given, capture_output=True, text=True)
    said = finished.stdout + finished.stderr
    assert finished.returncode in allowed, f"{shlex.join(map(str, command))}:\n{said[-5000:]}"
    return finished.stdout


def build(tree):
    done(tree, sys.executable, "setup.py", "-q", "build_ext", "--inplace", CC=f"{compiler()} --coverage")


def suite(tree, *arguments):
    """Run the tests, or some; the last line that pytest prints, and which tests failed."""
    command = ["-m", "coverage", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    lines = done(tree, sys.executable, *command, allowed=(0, 1)).strip().splitlines()
    return lines[-1], [line.split()[1] for line in lines if line.startswith("FAILED ")]


def smoke(tree):
    variables = "OPTIMISE=-O0", "EXTRA=--coverage", "PROBLEMS=few", f"CC={compiler()}"
    done(tree, "make", "-s", "-C", "src_c", "test", *variables)


def python_lines(tree):
    """By room, how many lines there are ("lines"), and how many were run ("run")."""
    done(tree, sys.executable, "-m", "coverage", "combine", "-q")
    command = ["-m", "coverage", "json", "-q", "-i", "-o", "-"]  # -i: code of tests that is in no file
    report = json.loads(done(tree, sys.executable, *command))
    rooms = {}
    for name, file in report["files"].items():
        if Path(name).is_absolute():  # a copy that a test has made
            continue
        room = Path(name).relative_to("ntkfast").parts[0].removesuffix(".py")
        counts = {"run": file["summary"]["covered_lines"], "lines": file["summary"]["num_statements"]}
        rooms.setdefault(room, Counter()).update(counts)
    return rooms


def c_lines(tree):
    """The same by file of src_c. A line is run if it is in any of the objects that contain it."""
    runs = {}
    for data in tree.rglob("*.gcda"):
        text = done(data.parent, "gcov", "--json-format", "--stdout", data.name)
        for document in map(json.loads, text.splitlines()):
            for file in document["files"]:
                path = Path(file["file"])
                if path.name not in TOOLS and (tree / "src_c" / path.name).is_file():
                    for line in file["lines"]:
                        key = line["line_number"]
                        of_file = runs.setdefault(path.name, {})
                        of_file[key] = of_file.get(key, False) or line["count"] > 0
    return {name: Counter(run=sum(lines.values()), lines=len(lines)) for name, lines in runs.items()}


def percent(counts):
    return round(100 * counts["run"] / max(counts["lines"], 1), 1)


def shares(name, lines):
    """Percentages of the whole, and of those parts that are below it."""
    whole = sum(lines.values(), Counter())
    parts = [f"{part} {percent(counts)}" for part, counts in sorted(lines.items()) if percent(counts) < percent(whole)]
    return {f"{name}, lines": whole["lines"], f"{name}, %": percent(whole), f"{name}, less": ", ".join(parts)}
