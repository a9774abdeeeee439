"""The command line: ntkfast info, demo, bench, accuracy."""

import sys
from pathlib import Path

import click

import ntkfast


def fail(message):
    """One line on stderr and exit code 2."""
    click.echo(f"ntkfast: {message}", err=True)
    sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ntkfast.__version__, prog_name="ntkfast")
def main():
    """Neural tangent kernels at the speed of the hardware."""


@main.command()
def info():
    """Print version, instruction set, OpenMP, BLAS, caches and tile size."""
    ntkfast.show_config()


threads = click.option("--threads", type=click.IntRange(min=1), help="Number of threads.  [default: all]")


@main.command()
@click.option(
    "--out", default="ntkfast_demo.png", show_default=True, type=click.Path(dir_okay=False), help="The figure."
)
@threads
def demo(out, threads):
    """NTK regression on scikit-learn's handwritten digits, with a figure."""
    from ntkfast import demo as module

    path = Path(out).with_suffix(Path(out).suffix or ".png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        fail(f"--out: expected a file name that ends in .png, .pdf or .svg, got {out}")
    try:
        path.open("ab").close()
    except OSError as error:  # before the work, not after
        fail(f"--out: {path} cannot be written: {error.strerror}")
    try:
        report = module.run(path, n_threads=threads)
    except (ImportError, OSError) as error:
        fail(error)
    click.echo(f"{report.n_train} digits to train on, {report.n_test} to test; depth-4 ReLU network, bias_std 0.1")
    click.echo(f"test accuracy, NTK regression         {report.accuracy_ntk:8.2%}")
    click.echo(f"test accuracy, RBF kernel ridge       {report.accuracy_rbf:8.2%}  (scikit-learn)")
    click.echo("leading eigenvalues of K/N            " + "  ".join(f"{value:.4g}" for value in report.eigenvalues[:6]))
    for name, seconds in report.seconds.items():
        click.echo(f"{name:<36} {1000 * seconds:8.1f} ms")
    click.echo(f"figure: {path}")


@main.command()
@click.option("--n", default=8000, show_default=True, type=click.IntRange(min=2), help="Number of points.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="Timed runs of each side.")
def bench(n, repeats):
    """Time ntkfast beside NumPy and scikit-learn.

    Every line is a ratio of two things timed in turn. The goals are the project's own, for n=8000.
    """
    from ntkfast import benchmarks

    ntkfast.show_config()
    click.echo(f"\nn={n}; depth-4 ReLU, float64 unless named; medians of {repeats} in ms\n")
    click.echo(f"{'A / B':<68} {'A':>8} {'B':>8} {'A/B':>7}   goal (of the limit kernels: at n=8000)")
    for case in benchmarks.cases(n):
        ours, reference, ratio = benchmarks.measure(case, repeats)
        met = ratio >= case.bound if case.at_least else ratio <= case.bound
        missed = "" if met or case.size not in (None, n) else "  missed"
        goal = f"{'>=' if case.at_least else '<='} {case.bound:g}{missed}"
        click.echo(f"{case.name:<68} {1000 * ours:8.1f} {1000 * reference:8.1f} {ratio:7.2f}   {goal}")
    memory = benchmarks.peak_memory(n)
    goal = f"<= 64{'' if memory <= 64 else '  missed'}"
    click.echo(f"{'memory above input and output, MiB, d=784':<86} {memory:7.1f}   {goal}")


@main.command()
def accuracy():
    """Print the errors of every named activation's dual, as the table of docs/accuracy.md. Takes minutes."""
    from ntkfast import accuracy as module

    click.echo("| activation | method | E[φφ] | E[φ'φ'] | both at ρ = 1 |")
    click.echo("|---|---|---|---|---|")
    for row in module.rows():
        click.echo(f"| {row.name} | {row.method} | {row.value:.0e} | {row.slope:.0e} | {row.diagonal:.0e} |")
