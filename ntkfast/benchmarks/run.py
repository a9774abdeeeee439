"""A whole run of `ntkfast bench` as plain numbers, which are JSON as they are."""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntkfast.benchmarks import goals, growth, limits, memory, peers
from ntkfast.benchmarks.workload import DTYPES, Workload
from ntkfast.benchmarks.workloads import WORKLOADS
from ntkfast.engine import threads
from ntkfast.engine.config import configuration

VERSION = 1  # of the format
Say = Callable[[str], object]


def run(n: int, repeats: int, with_peers: bool, say: Say = lambda line: None) -> dict[str, Any]:
    """Everything that is measured; `say` hears what is being done.

    The result: version, date, machine, n, repeats, n_threads; limits, workloads, growth, goals, memory, peers.
    """
    quick = n < 4000
    most = threads.resolve(None)
    rates = []
    for n_threads in limits.thread_counts():
        for dtype in DTYPES:
            say(f"limits of {DTYPES[dtype]}, {n_threads} thread{'s' * (n_threads > 1)}")
            rates.append(limits.measure(dtype, n_threads, quick))
    found: dict[str, Any] = {
        "version": VERSION,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), **configuration()},
        "n": n,
        "repeats": repeats,
        "n_threads": most,
        "limits": [dataclasses.asdict(rate) for rate in rates],
        "workloads": [],
        "goals": [],
        "peers": [],
    }
    for workload in WORKLOADS:
        if workload.n_threads is None or workload.n_threads <= most:
            say(workload.name)
            found["workloads"].append(timed(workload, n, repeats, rates, most))
    say("growth")
    found["growth"] = [
        dataclasses.asdict(one) | {"exponent": None if math.isnan(one.exponent) else one.exponent}
        for one in growth.measure(n, 2 if quick else 3)
    ]
    for goal in (goal for goal in goals.GOALS if goal.n_threads <= most):
        say(goal.name)
        seconds, ratio = goals.measure(goal, n, repeats)
        found["goals"].append(
            dataclasses.asdict(goal)
            | {"name": goal.name, "seconds": seconds, "ratio": ratio, "met": goal.met(ratio, n)}
        )
    say("memory")
    found["memory"] = memory.above_output(n)
    if with_peers:
        for peer in peers.PEERS:
            if peer.installed:
                say(peer.distribution)
                found["peers"] += [dataclasses.asdict(one) for one in peers.measure(peer, n / 8000, repeats)]
    return found


def timed(workload: Workload, n: int, repeats: int, rates: list[limits.Rates], most: int) -> dict[str, Any]:
    """The median seconds of a workload, their spread, and its limit by parts with the share that is reached."""
    n_threads = workload.n_threads or most
    call = workload.make(n)
    seconds = [row[0] for row in goals.in_turn([call], repeats)]
    median = statistics.median(seconds)
    parts = None if workload.work is None else limits.parts(workload.work(n), rates, n_threads)
    return {
        "name": workload.name,
        "group": workload.group,
        "n_threads": n_threads,
        "seconds": median,
        "fastest": min(seconds),
        "parts": parts,
        "share": None if parts is None else sum(parts.values()) / median,
    }


def processor() -> str:
    """The name of the processor; Linux has it in a file, Python elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
