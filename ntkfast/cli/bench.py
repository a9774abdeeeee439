"""ntkfast bench: how fast the kernels are on this machine, and beside what."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ntkfast.cli.shared import fail, finite, in_columns, new_file, one_line, require_writable, table_file


@click.command()
@click.option("--n", default=8000, show_default=True, type=click.IntRange(min=16), help="Number of points.")
@click.option(
    "--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="Timed runs, after a warm-up."
)
@click.option("--quick", is_flag=True, help="The same as --n 1000 --repeats 3: a minute or two instead of ten.")
@click.option("--peers", is_flag=True, help="Other libraries on the same work, those that are installed.")
@click.option("--json", "json_file", type=new_file, help="A file for all numbers.")
@click.option("--html", "html_file", type=new_file, help="A file for the page, with plots; needs matplotlib.")
@click.option(
    "--compare",
    "compared",
    type=table_file,
    nargs=2,
    metavar="A.json B.json",
    help="Measure nothing: list what is slower in B; exit code 1 if by more than --tolerance.",
)
@click.option(
    "--tolerance",
    default=1.2,
    show_default=True,
    type=click.FloatRange(min=1),
    callback=finite,
    help="Time in B over time in A from which on something counts as slower.",
)
def bench(
    n: int,
    repeats: int,
    quick: bool,
    peers: bool,
    json_file: Path | None,
    html_file: Path | None,
    compared: tuple[Path, Path] | None,
    tolerance: float,
) -> None:
    """Measure this machine, what share of its speed each kernel reaches, and how that grows.

    Ratios are of two things timed in turn. The goals are the project's own, for n=8000; for smaller n, networks of
    finite width are also narrower.

    Example:

        ntkfast bench --quick --html bench.html
    """
    if compared:
        sys.exit(1 if slower(*compared, tolerance) else 0)
    for path, option in ((json_file, "--json"), (html_file, "--html")):
        if path is not None:
            require_writable(path, option)
    if json_file is not None and html_file is not None and json_file.resolve() == html_file.resolve():
        fail(f"--html: {html_file} is also --json")
    from ntkfast.benchmarks import run, table

    if html_file is not None:
        from ntkfast.plotting.axes import new_figure

        try:
            new_figure(1, 1)
        except ImportError as error:
            fail(f"--html: {error}")
    if quick:
        n, repeats = 1000, 3
    with one_line("nothing was written", json=json_file, html=html_file):
        found = run.run(n, repeats, peers, lambda line: click.echo(f"... {line}", err=True))
        click.echo(table.text(found, in_columns))
        if json_file is not None:
            json_file.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        if html_file is not None:
            from ntkfast.benchmarks.page import page

            html_file.write_text(page(found), encoding="utf-8")


def slower(before: Path, after: Path, tolerance: float) -> bool:
    """Print the ratios of two runs; whether anything became slower by more than the tolerance."""
    from ntkfast.benchmarks import compare

    with one_line("nothing was compared"):
        a, b = compare.read(before), compare.read(after)
        ratios = compare.ratios(a, b)
    if a["machine"] != b["machine"]:
        click.echo("the machines or versions differ:")
        for name in a["machine"]:
            if a["machine"][name] != b["machine"].get(name):
                click.echo(f"  {name}: {a['machine'][name]} | {b['machine'].get(name)}")
    machine = [[name, f"{ratio:.2f}"] for name, ratio in compare.machine(a, b).items()]
    click.echo(in_columns([["the machine itself, time in B / time in A", ""], *machine]) + "\n")
    turned = compare.turned(a, b)
    for title, unit, table in (("workload, ms", 1000, ratios), ("ratio timed in turn", 1, turned)):
        rows = [
            [name, f"{unit * old:.4g}", f"{unit * new:.4g}", f"{ratio:.2f}", "slower" if ratio > tolerance else ""]
            for name, (old, new, ratio) in table.items()
        ]
        click.echo(in_columns([[title, "A", "B", "B to A", ""], *rows]) + "\n")
    found = [ratio for table in (ratios, turned) for _, _, ratio in table.values()]
    n_slower = sum(ratio > tolerance for ratio in found)
    click.echo(f"{n_slower} of {len(found)} slower by more than a factor of {tolerance:g}")
    return n_slower > 0
