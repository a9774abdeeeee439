"""ntkfast gram and spectrum: the kernel of one's own points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntkfast.cli import shared
from ntkfast.cli.shared import dask, json_option, network_options, new_file, one_line, print_json, table_file, threads

if TYPE_CHECKING:
    from ntkfast.networks import Network
    from ntkfast.support.typing import Array

SHOWN = 10  # components
RIDGES = (1e-1, 1e-2, 1e-3, 1e-4)  # relative to the mean eigenvalue of K


def points_options(command: Callable[..., None]) -> Callable[..., None]:
    """How the columns of a table become coordinates."""
    for option in (
        click.option("--impute", type=click.Choice(["median"]), help="Fill in missing values, with --standardize."),
        click.option(
            "--standardize", is_flag=True, help="Numbers to mean 0 and deviation 1, text to a feature for each level."
        ),
        click.option("--drop", multiple=True, metavar="COLUMN", help="A column not to use; may be repeated."),
    ):
        command = option(command)
    return command


def _points(
    X: Path, Y: Path | None, drop: tuple[str, ...], standardize: bool, impute: str | None
) -> tuple[Array, Array | None]:
    from ntkfast.tabular import columns, matrix
    from ntkfast.tabular.errors import find
    from ntkfast.tabular.table import Table, read

    table = read(X)
    for name in drop:
        find(name, table.names, "drop")
    table = table.without(drop)
    encoders = columns.learn(table, impute is not None) if standardize else None
    points = matrix.points(table, encoders, X)
    if Y is None:
        return points, None
    other = read(Y).without(drop)
    columns.match(table.names, other.names, str(X))
    return points, matrix.points(Table({name: other[name] for name in table.names}), encoders, Y)


def _network(depth: int, activation: str, weight_std: float, bias_std: float) -> Network:
    from ntkfast.networks import MLP

    return MLP(depth, activation, weight_std, bias_std)


@click.command()
@click.argument("X", type=table_file)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A .npy file, or a .zarr folder.")
@click.option("--y", "other", type=table_file, metavar="Y", help="Other points: K(X, Y) instead of K(X, X).")
@network_options
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option("--resume", is_flag=True, help="Go on with a .zarr folder where it was stopped, and repair it.")
@dask
@click.option("--dry-run", is_flag=True, help="Only print the size and an estimate of the time.")
@points_options
@threads
@json_option
def gram(
    x: Path,
    out: Path,
    other: Path | None,
    kernel: Any,
    dtype: str,
    resume: bool,
    client: str | None,
    dry_run: bool,
    drop: tuple[str, ...],
    standardize: bool,
    impute: str | None,
    n_threads: int | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Write the kernel matrix of the rows of a table to disk; it may be larger than memory.

    X and Y are tables as in `ntkfast fit`, whose columns are the coordinates. A .zarr folder has checksums, one
    triangle if the matrix is symmetric, and --resume: whatever stops the command, little is lost. A .npy file is
    complete or absent. With --dask, workers compute and write the blocks of a .zarr folder, which they see as this
    process does.

    Example:

        ntkfast gram points.npy -o K.npy --depth 4 --dtype float32

        ntkfast gram points.npy -o K.zarr --depth 4 --dtype float32 --resume
    """
    stored = out.suffix == ".zarr"
    if not stored and out.suffix != ".npy":
        shared.fail(f"--out: expected a file name that ends in .npy or .zarr, got {out}")
    if resume and not stored:
        shared.fail("--resume: expected a .zarr folder as --out: a .npy file is complete or absent")
    if client and not stored:
        shared.fail("--dask: expected a .zarr folder as --out")
    if stored and out.exists() and not (resume or dry_run):
        shared.fail(f"--out: {out} exists; --resume goes on with it, if it is of the same matrix")
    if out.is_dir() and not stored:
        shared.fail(f"--out: {out} is a folder")
    shared.require_writable(out, "--out", [x, *([other] if other else [])])
    kept = "what is finished is kept: --resume goes on with it" if stored else "nothing was saved"
    with one_line(kept, out=out):
        from ntkfast.support.memory import in_words
        from ntkfast.tabular import matrix

        net = _network(**network)
        X, Y = _points(x, other, drop, standardize, impute)
        shape = len(X), len(X if Y is None else Y)
        described = {"shape": list(shape), "dtype": dtype, "kernel": kernel, "features": X.shape[1], "out": str(out)}
        said = f"{out}: {kernel.upper()} of shape {shape}, {dtype}, {X.shape[1]} features"
        if dry_run:
            plan = matrix.plan(net, X, Y, stored, kernel, dtype, n_threads)
            described |= {"bytes": plan.n_bytes, "seconds": plan.seconds, "memory": plan.memory}
            said += (
                f"\n{in_words(plan.n_bytes)} on disk, about {plan.seconds:.0f} s without writing, "
                f"{in_words(plan.memory)} of memory besides the points"
            )
        elif stored:
            matrix.gram_to_store(net, X, Y, out, kernel, dtype, client, n_threads)
        else:
            matrix.gram(net, X, Y, out, kernel, dtype, n_threads)
    if as_json:
        print_json(described)
    else:
        click.echo(said)


@click.command()
@click.argument("X", type=table_file)
@network_options
@click.option("--components", type=click.IntRange(min=1), help="The largest ones only, without the matrix.")
@click.option("--alpha", type=click.FloatRange(min=0, min_open=True), callback=shared.finite_or_none, help="A ridge.")
@points_options
@click.option("-o", "--out", type=new_file, help="A .npy file for the eigenvalues.")
@click.option("--figure", type=new_file, help=".png, .pdf or .svg.  [default: X_spectrum.png]")
@click.option("--no-figure", is_flag=True)
@threads
@json_option
def spectrum(
    x: Path,
    kernel: Any,
    components: int | None,
    alpha: float | None,
    drop: tuple[str, ...],
    standardize: bool,
    impute: str | None,
    out: Path | None,
    figure: Path | None,
    no_figure: bool,
    n_threads: int | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Eigenvalues of K/N for the rows of a table, its effective dimension, and when each component is learned.

    Gradient descent reduces the error along a component to 1/e by the time 1/λ. The effective dimension Σ λ/(λ + α/N)
    is that of kernel ridge regression with the ridge α.

    Example:

        ntkfast spectrum points.csv --standardize --figure spectrum.png
    """
    path = figure or x.with_name(f"{x.stem}_spectrum.png")
    if not no_figure:
        shared.require_figure(path)
    if out is not None:
        if out.suffix != ".npy":
            shared.fail(f"--out: expected a file name that ends in .npy, got {out}")
        shared.require_writable(out, "--out", [x])
    with one_line("nothing was saved", out=out, figure=path):
        import numpy as np

        from ntkfast.plotting.axes import new_figure
        from ntkfast.support.files import replacing
        from ntkfast.tabular import figure as figures
        from ntkfast.tabular import matrix

        if not no_figure:
            new_figure(1, 1)  # errors in matplotlib's settings, before the work
        net = _network(**network)
        X, _ = _points(x, None, drop, standardize, impute)
        found = matrix.spectrum(net, X, kernel, components, n_threads)
        if out is not None:
            with replacing(out) as file:
                np.save(file, found.eigenvalues)
        if not no_figure:
            figures.save(figures.of_spectrum(found), path)
    ridges = [alpha] if alpha is not None else [share * found.trace for share in RIDGES]
    dimensions = [(ridge, found.effective_dimension(ridge)) for ridge in ridges]
    files = ({} if out is None else {"eigenvalues": str(out)}) | ({} if no_figure else {"figure": str(path)})
    if as_json:
        print_json(
            {
                "rows": found.n,
                "features": X.shape[1],
                "eigenvalues": found.eigenvalues.tolist(),
                "trace": found.trace,
                "learned_at": found.learned_at.tolist(),
                "participation": found.participation,
                "effective_dimension": [{"alpha": ridge, "dimension": value} for ridge, value in dimensions],
                "files": files,
            }
        )
        return
    click.echo(
        f"{x}: {found.n} rows, {X.shape[1]} features; {kernel.upper()}, depth {network['depth']}, "
        f"{network['activation']}; tr K/N = {found.trace:.4g}\n"
    )
    shares = found.eigenvalues / (found.trace or 1.0)
    rows = [["component", "eigenvalue of K/N", "share", "cumulative", "learned at t"]]
    for i in range(min(SHOWN, len(shares))):
        rows.append(
            [
                f"{i + 1}",
                f"{found.eigenvalues[i]:.4g}",
                f"{shares[i]:.2%}",
                f"{shares[: i + 1].sum():.2%}",
                f"{found.learned_at[i]:.3g}",
            ]
        )
    click.echo(shared.in_columns(rows))
    at_least = "at least " if len(shares) < found.n else ""
    click.echo(f"\nparticipation ratio (Σλ)²/Σλ²: {found.participation:.3g}")
    for ridge, value in dimensions:
        click.echo(f"effective dimension at alpha = {ridge:.3g}: {at_least}{value:.1f} of {found.n}")
    if files:
        click.echo("; ".join(f"{name}: {file}" for name, file in files.items()))
