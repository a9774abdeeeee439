"""Runs the jobs of _jobs.py in processes that may be killed or given faults, and compares what they leave."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from . import frame


class Server:
    """A process that runs these jobs, one at a time, each in a child; faults: with shim.c, which makes them."""

    def __init__(self, folder, *jobs, faults=False):
        frame.require("fcntl", linux=True)
        self.folder = Path(folder)
        variables = {"LD_PRELOAD": str(frame.shared_object("shim.c", folder))} if faults else {}
        self.process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("_jobs.py"), *jobs],
            env=frame.environment(**variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n", "the server of jobs did not start"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    @property
    def error(self):
        """(class, message, traceback) of the last child that raised; None if none did."""
        text = (self.folder / "error").read_text()
        return json.loads(text) if text else None

    def start(self, job, folder, **options):
        """The process id of a child that runs a job in a folder; `wait` for it."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "error").unlink(missing_ok=True)
        request = {
            "job": job,
            "folder": str(folder),
            "units": str(folder) + ".units",
            "error": str(self.folder / "error"),
        }
        print(json.dumps(request | options), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def wait(self):
        """The child's exit status; below 0: the signal that ended it."""
        return int(self.process.stdout.readline())

    def run(self, job, folder, **options):
        """The child's exit status."""
        self.start(job, folder, **options)
        return self.wait()

    def finish(self, job, folder, **options):
        """Run it, which succeeds; returns seconds."""
        start = time.perf_counter()
        status = self.run(job, folder, **options)
        assert status == 0, f"{job} ended with status {status}: {'' if self.error is None else self.error[-1]}"
        return time.perf_counter() - start

    def kill(self, job, folder, after):
        """Run it, and kill it after so many seconds. Returns whether it was still running."""
        process = self.start(job, folder)
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(process, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL


def units(folder):
    """Units of work that were begun in a folder, over all runs."""
    path = Path(f"{folder}.units")
    return path.stat().st_size if path.exists() else 0


def files(folder):
    """All files in a folder and in those within it."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def debris(folder):
    """What no job leaves behind when it ends: files and folders that were on their way to their names."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.name.startswith("."))


def digests(folder):
    """SHA-256 of the result in each file by name, whatever the order of ledgers and how long the job took."""
    return {str(path.relative_to(folder)): _digest(path) for path in files(folder) if path.suffix not in DRAWN}


DRAWN = (".png", ".pdf", ".md")  # from the data beside them, with dates


def _digest(path):
    content = path.read_bytes()
    if path.name == "ledger":
        content = b"\n".join(sorted(content.split(b"\n")))
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            kept = [(name, arrays[name]) for name in sorted(arrays.files) if name not in ("seconds", "memory")]
        content = repr([(name, str(a.dtype), a.shape, a.tobytes()) for name, a in kept]).encode()
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        content = json.dumps(sorted(repr(sorted((line | {"seconds": 0}).items())) for line in lines)).encode()
    return hashlib.sha256(content).hexdigest()
