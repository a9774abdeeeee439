"""A run of `ntkfast bench` as one page of HTML, with plots inside."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast.benchmarks import table
from ntkfast.benchmarks.workload import DTYPES
from ntkfast.plotting.axes import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #1a1a1a; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0; } .wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; } .missed { color: #b00020; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: 0.85rem; } dd { margin: 0; }
"""


def page(found: dict[str, Any]) -> str:
    """One file that needs no other."""
    plots = {
        "What this machine can do": of_limits(found["limits"]),
        f"Workloads, n = {found['n']}": of_shares(found["workloads"]),
        "Growth": of_growth(found["growth"]),
        "Other libraries": of_peers(found["peers"]) if found["peers"] else None,
    }
    machine = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in found["machine"].items()
    )
    parts = [f"<dl>{machine}<dt>date</dt><dd>{html.escape(found['date'])}</dd></dl>"]
    for title, note, rows in table.tables(found):
        figure = plots.get(title)
        picture = "" if figure is None else f"<figure>{svg(figure)}</figure>"
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(note)}</p>{picture}{in_html(rows)}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>ntkfast bench</title><style>{STYLE}</style></head>\n<body><h1>ntkfast bench</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def in_html(rows: table.Rows) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in body:
        missed = ' class="missed"' if row[-1].endswith("missed") else ""
        lines.append(f"<tr{missed}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def svg(figure: Figure) -> str:
    """The figure as an element of the page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def of_limits(rates: Sequence[dict[str, Any]]) -> Figure:
    """GEMM, SYRK and writing over the number of threads."""
    figure = new_figure(9, 2.8)
    names = {"gemm": "GEMM, Gflop/s", "syrk": "SYRK, Gflop/s", "written": "write, GB/s"}
    for ax, (name, title) in zip(figure.subplots(1, 3), names.items(), strict=True):
        for colour, (dtype, label) in zip(COLOURS, DTYPES.items(), strict=False):
            of_dtype = [rate for rate in rates if rate["dtype"] == dtype]
            counts = [rate["n_threads"] for rate in of_dtype]
            ax.plot(counts, [rate[name] / 1e9 for rate in of_dtype], "o-", color=colour, label=label)
        ax.set(title=title, xlabel="threads", ylim=(0, None), xticks=counts)
    figure.axes[0].legend(frameon=False)
    return figure


def of_shares(workloads: Sequence[dict[str, Any]]) -> Figure:
    """The parts of each workload's limit, as shares of its time."""
    shown = [one for one in workloads if one["parts"] is not None][::-1]
    figure = new_figure(9, 0.3 * len(shown) + 1)
    ax = figure.subplots()
    left = np.zeros(len(shown))
    for colour, part in zip(COLOURS, ("products", "memory", "map"), strict=False):
        share = np.array([one["parts"][part] / one["seconds"] for one in shown])
        ax.barh(range(len(shown)), share, left=left, color=colour, label=part)
        left += share
    for k, total in enumerate(left):
        ax.text(total + 0.01, k, f"{total:.0%}", va="center", fontsize=8)
    ax.set_yticks(range(len(shown)), [one["name"] for one in shown], fontsize=8)
    ax.set(xlabel="limit / time", xlim=(0, max(1.08, left.max(initial=0) + 0.1)), ylim=(-0.6, len(shown) - 0.4))
    ax.axvline(1, color="0.5", linewidth=0.8)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=3)
    return figure


def of_growth(growths: Sequence[dict[str, Any]]) -> Figure:
    """Times over sizes, with the line of the expected exponent."""
    figure = new_figure(9, 2.8)
    for ax, one in zip(figure.subplots(1, len(growths)), growths, strict=True):
        sizes, seconds = np.array(one["sizes"], float), 1000 * np.array(one["seconds"])
        middle = np.exp(np.mean(np.log(seconds)) - one["expected"] * np.mean(np.log(sizes)))
        ax.loglog(sizes, middle * sizes ** one["expected"], color="0.6", label=f"exponent {one['expected']:g}")
        label = "measured" if one["exponent"] is None else f"measured: {one['exponent']:.2f}"
        ax.loglog(sizes, seconds, "o", color=COLOURS[0], label=label)
        ax.set_xticks(one["sizes"], [str(size) for size in one["sizes"]])
        ax.minorticks_off()
        ax.set(xlabel=one["of"], ylabel="ms" if ax is figure.axes[0] else "")
        ax.legend(frameon=False, fontsize=7)
    return figure


def of_peers(beside: Sequence[dict[str, Any]]) -> Figure:
    """How many times as long other libraries take."""
    shown = beside[::-1]
    figure = new_figure(9, 0.4 * len(shown) + 1)
    ax = figure.subplots()
    times = [one["theirs"] / one["ours"] for one in shown]
    ax.barh(range(len(shown)), times, color=COLOURS[0])
    for k, factor in enumerate(times):
        ax.text(factor, k, f" {factor:.3g}", va="center", fontsize=8)
    ax.set_yticks(range(len(shown)), [f"{one['library'].split()[0]}: {one['job']}" for one in shown], fontsize=7)
    ax.set(xscale="log", xlabel="time / that of ntkfast")
    ax.axvline(1, color="0.5", linewidth=0.8)
    ax.margins(x=0.1)
    return figure
