"""A run of `ntkfast bench` as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ntkfast.benchmarks.workload import DTYPES

Rows = list[list[str]]


def tables(found: dict[str, Any]) -> list[tuple[str, str, Rows]]:
    """(title, explanation, rows with their heading) for each part of a run."""
    every = [
        (
            "What this machine can do",
            "Matrix products by SciPy's BLAS in Gflop/s (a symmetric product counts its half), writing to memory\n"
            "in GB/s, square roots in 10⁹/s.",
            limit_rows(found["limits"]),
        ),
        (
            f"Workloads, n = {found['n']}",
            f"Medians of {found['repeats']} in ms. The limit is the time of the products, the writing and the\n"
            "arithmetic of the map, one after the other, at the speed of the machine; the share is limit / time.",
            workload_rows(found["workloads"]),
        ),
        (
            "Growth",
            "The time of a ReLU kernel goes like a power of each: exponents fitted in logarithms. Beyond some 25\n"
            "layers all points are near one another: pairs, whose digits come from differences of points, take longer.",
            growth_rows(found["growth"]),
        ),
        (
            "Goals of the project",
            "Ratios of two workloads timed in turn, ms. Goals are meant for n = 8000, those of operators for 50000.",
            goal_rows(found),
        ),
    ]
    if found["peers"]:
        every.append(
            (
                "Other libraries",
                "The same job in turn, ms. Differences are relative to the largest entry; none: another kernel.",
                peer_rows(found["peers"]),
            )
        )
    return every


def limit_rows(rates: Sequence[dict[str, Any]]) -> Rows:
    rows = [["dtype", "threads", "GEMM", "SYRK", "write", "roots"]]
    for rate in rates:
        giga = [f"{rate[name] / 1e9:.3g}" for name in ("gemm", "syrk", "written", "roots")]
        rows.append([DTYPES[rate["dtype"]], str(rate["n_threads"]), *giga])
    return rows


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.4g}" if seconds < 10 else f"{1000 * seconds:.0f}"


def workload_rows(workloads: Sequence[dict[str, Any]]) -> Rows:
    rows = [["workload", "time", "products", "memory", "map", "limit", "share"]]
    for one in workloads:
        parts = one["parts"]
        cells = ["–"] * 5
        if parts is not None:
            cells = [milliseconds(value) for value in (*parts.values(), sum(parts.values()))] + [f"{one['share']:.0%}"]
        rows.append([one["name"], milliseconds(one["seconds"]), *cells])
    return rows


def growth_rows(growths: Sequence[dict[str, Any]]) -> Rows:
    rows = [["of", "sizes", "ms", "exponent", "expected"]]
    for one in growths:
        exponent = "–" if one["exponent"] is None else f"{one['exponent']:.2f}"
        times = ", ".join(map(milliseconds, one["seconds"]))
        rows.append([one["of"], ", ".join(map(str, one["sizes"])), times, exponent, f"{one['expected']:g}"])
    return rows


def goal_rows(found: dict[str, Any]) -> Rows:
    rows = [["A / B", "A", "B", "A/B", "goal"]]
    for one in found["goals"]:
        missed = "  missed" if one["met"] is False else ""
        bound = f"{'>=' if one['at_least'] else '<='} {one['bound']:g}{missed}"
        rows.append([one["name"], *map(milliseconds, one["seconds"]), f"{one['ratio']:.2f}", bound])
    memory = found["memory"]
    rows.append(
        ["memory above input and output, MiB", "", "", f"{memory:.1f}", f"<= 64{'' if memory <= 64 else '  missed'}"]
    )
    return rows


def peer_rows(beside: Iterable[dict[str, Any]]) -> Rows:
    rows = [["job", "library", "theirs, ms", "ntkfast, ms", "times as fast", "by CPU time", "difference"]]
    for one in beside:
        difference = "" if one["difference"] is None else f"{one['difference']:.0e}"
        wrong = "  not the same" if one["same"] is False else ""
        factors = [f"{one['theirs' + clock] / one['ours' + clock]:.2g}" for clock in ("", "_cpu")]
        times = [milliseconds(one[side]) for side in ("theirs", "ours")]
        rows.append([one["job"], one["library"], *times, *factors, difference + wrong])
    return rows


def text(found: dict[str, Any], in_columns: Any) -> str:
    """All tables; in_columns aligns rows."""
    machine = "\n".join(f"{name:<16} {value}" for name, value in found["machine"].items())
    parts = [f"{title}\n{note}\n\n{in_columns(rows)}" for title, note, rows in tables(found)]
    return "\n\n\n".join([machine, *parts])
