"""ntkfast info, demo and accuracy: the machine, and how accurate the kernels are on it."""

from __future__ import annotations

from pathlib import Path

import click

from ntkfast.cli.shared import fail, finite, one_line, require_writable, threads
from ntkfast.engine.config import show_config


@click.command()
def info() -> None:
    """Print version, instruction set, OpenMP, BLAS, caches and tile size.

    Example:

        ntkfast info
    """
    show_config()


@click.command()
@click.option(
    "--out", default="ntkfast_demo.png", show_default=True, type=click.Path(dir_okay=False), help="File of the figure."
)
@threads
def demo(out: str, n_threads: int | None) -> None:
    """NTK regression on scikit-learn's handwritten digits, with a figure.

    Example:

        ntkfast demo --out digits.png
    """
    from ntkfast import demo as module

    require_writable(Path(out), "--out")
    path = Path(out).with_suffix(Path(out).suffix or ".png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        fail(f"--out: expected a file name that ends in .png, .pdf or .svg, got {out}")
    with one_line("nothing was saved", out=path):
        report = module.run(path, n_threads=n_threads)
    click.echo(f"{report.n_train} training and {report.n_test} test digits; depth-4 ReLU network, bias_std 0.1")
    click.echo(f"test accuracy, NTK regression         {report.accuracy_ntk:8.2%}")
    click.echo(f"test accuracy, RBF kernel ridge       {report.accuracy_rbf:8.2%}  (scikit-learn)")
    click.echo("leading eigenvalues of K/N            " + "  ".join(f"{value:.4g}" for value in report.eigenvalues[:6]))
    for name, seconds in report.seconds.items():
        click.echo(f"{name:<36} {1000 * seconds:8.1f} ms")
    click.echo(f"figure: {path}")


@click.command()
@click.argument("names", nargs=-1, metavar="[ACTIVATION]...")
@click.option("--full", is_flag=True, help="All pairs and depths for every activation, without a limit of time.")
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0),
    callback=finite,
    help="CPU time for the errors of one activation, and time for its times.",
)
@click.option("--out", type=click.Path(dir_okay=False, writable=True), help="A file for the page.  [default: stdout]")
def accuracy(names: tuple[str, ...], full: bool, seconds: float, out: str | None) -> None:
    """Measure the errors and times of every named activation, as in docs/accuracy.md. Takes about ten minutes.

    Example:

        ntkfast accuracy relu tanh --seconds 5
    """
    from ntkfast.networks import activations

    unknown = [name for name in names if name not in activations.names()]
    if unknown:
        fail(f"accuracy: {unknown[0]!r} is unknown; known are {', '.join(activations.names())}")
    if out is not None:
        require_writable(Path(out), "--out")
    try:
        from ntkfast.accuracy import report
    except ModuleNotFoundError as error:
        fail(f"accuracy: the reference needs {error.name}: pip install {error.name}")

    def progress(line: str) -> None:
        click.echo(line, err=True)

    with one_line("nothing was written", out=None if out is None else Path(out)):
        page = report.report(names or None, full, seconds, progress)
        if out is not None:
            Path(out).write_text(page, encoding="utf-8")
    if out is None:
        click.echo(page, nl=False)
