"""Two runs of `ntkfast bench`, and what has become slower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ntkfast.benchmarks.run import VERSION
from ntkfast.support.files import opened

TOLERANCE = 1.2  # runs of a quiet machine differ by some per cent, those of a virtual one by more


def read(path: Path) -> dict[str, Any]:
    """A run from its file; ValueError if it is none of this version."""
    with opened(path) as file:
        content = file.read()
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON that ntkfast bench wrote, got {error}") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        got = found.get("version") if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: expected a run of ntkfast bench, version {VERSION}, got {got}")
    try:  # a whole run can be compared with itself
        found["machine"].items(), ratios(found, found), turned(found, found), machine(found, found)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"{path}: expected a whole run of ntkfast bench, got {type(error).__name__}: {error}"
        ) from None
    return found


def seconds(found: dict[str, Any]) -> dict[str, float]:
    """What can be compared: workloads by name, and growth by what grows and its size."""
    times = {one["name"]: one["seconds"] for one in found["workloads"]}
    for one in found["growth"]:
        times |= {f"relu, {one['of']}={size}": value for size, value in zip(one["sizes"], one["seconds"], strict=True)}
    return times


def ratios(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """name -> seconds before, after, and after / before, slowest first; of what both runs have at the same size."""
    for name in ("n", "n_threads"):
        if before[name] != after[name]:
            raise ValueError(f"{name}: expected runs of the same size, got {before[name]} and {after[name]}")
    old, new = seconds(before), seconds(after)
    found = {name: (old[name], new[name], new[name] / old[name]) for name in old if name in new}
    return dict(sorted(found.items(), key=lambda item: -item[1][2]))


def turned(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """The same of the goals, whose ratios were timed in turn and so do not depend on what else the machine did."""
    old, new = ({one["name"]: one for one in found["goals"]} for found in (before, after))
    found = {}
    for name in (name for name in old if name in new):
        a, b = old[name]["ratio"], new[name]["ratio"]
        found[name] = a, b, a / b if old[name]["at_least"] else b / a
    return dict(sorted(found.items(), key=lambda item: -item[1][2]))


def machine(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """How the machine's own limits have changed, as ratios of times: what is not 1 was not ntkfast."""
    old, new = ({(rate["dtype"], rate["n_threads"]): rate for rate in found["limits"]} for found in (before, after))
    return {
        f"{name} {dtype}, {n_threads} threads": old[dtype, n_threads][name] / new[dtype, n_threads][name]
        for dtype, n_threads in old
        if (dtype, n_threads) in new
        for name in ("gemm", "syrk", "written", "roots")
    }
