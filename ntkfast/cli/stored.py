"""ntkfast verify and solve: kernel matrices on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ntkfast.cli import shared
from ntkfast.cli.shared import dask, json_option, new_file, one_line, print_json, threads
from ntkfast.learning.solvers.solve import METHODS

store_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("store", metavar="K.zarr", type=store_folder)
@json_option
def verify(store: Path, as_json: bool) -> None:
    """Compare every block of a matrix on disk with its checksum.

    Exits with code 1 if blocks are damaged or missing, which `ntkfast gram` with --resume computes again.

    Example:

        ntkfast verify K.zarr
    """
    with one_line("nothing was changed"):
        from ntkfast.store import open

        found = open(store).verify()
    if as_json:
        print_json({"blocks": found.n_blocks, "damaged": found.damaged, "missing": found.missing})
    else:
        click.echo(f"{store}: {found.n_blocks} blocks, {len(found.damaged)} damaged, {len(found.missing)} not computed")
        for block in found.damaged:
            click.echo(f"damaged: c/{block[0]}/{block[1]}")
    if found.damaged or found.missing:
        click.get_current_context().exit(1)


@click.command()
@click.argument("store", metavar="K.zarr", type=store_folder)
@click.argument("y", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--alpha", required=True, type=click.FloatRange(min=0), callback=shared.finite, help="The ridge.")
@click.option("-o", "--out", required=True, type=new_file, help="A .npy file for the dual coefficients.")
@click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True)
@click.option(
    "--tol", type=click.FloatRange(min=0, min_open=True), callback=shared.finite, default=1e-8, show_default=True
)
@click.option("--memory", metavar="SIZE", help="For example 4GB.  [default: what is free]")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Where the iterations are kept: the same command goes on from there, whatever ended the one before.",
)
@dask
@threads
@json_option
def solve(
    store: Path,
    y: Path,
    alpha: float,
    out: Path,
    method: Any,
    tol: float,
    memory: str | None,
    checkpoint: Path | None,
    client: str | None,
    n_threads: int | None,
    as_json: bool,
) -> None:
    """Dual coefficients (K + αI)⁻¹ y of kernel ridge regression, for a matrix on disk and targets in a .npy file.

    With --dask, method cg: workers compute its products with the matrix, each those of the blocks that it reads, from a
    folder that they see as this process does. Coefficients have the bits of --method cg without.

    Example:

        ntkfast solve K.zarr y.npy --alpha 0.1 -o coefficients.npy

        ntkfast solve K.zarr y.npy --alpha 0.1 -o coefficients.npy --dask tcp://10.0.0.1:8786
    """
    if client is not None:
        if method not in ("auto", "cg"):
            shared.fail(f"--dask: expected --method cg, as {method} has no products for workers")
        method = "cg"
    if out.suffix != ".npy":
        shared.fail(f"--out: expected a file name that ends in .npy, got {out}")
    shared.require_writable(out, "--out", [y])
    if checkpoint is not None and checkpoint.resolve() == out.resolve():
        shared.fail(f"--checkpoint: {checkpoint} is also --out, and would be replaced")
    stopped = "nothing was saved" if checkpoint is None else f"the same command goes on from {checkpoint}"
    with one_line(stopped, out=out, checkpoint=checkpoint):
        import numpy as np

        from ntkfast.learning.solvers.solve import solve as solution
        from ntkfast.store import open
        from ntkfast.support.files import replacing
        from ntkfast.tabular.matrix import cluster
        from ntkfast.tabular.table import load

        targets = load(y)
        if not isinstance(targets, np.ndarray):
            shared.fail(f"{y}: expected one array, got a file of several")
        if targets.dtype.kind not in "biuf":
            shared.fail(f"{y}: expected numbers, got dtype {targets.dtype}")
        with cluster(client) as there:
            found = solution(
                open(store, client=there),
                targets,
                alpha,
                method=method,
                tol=tol,
                checkpoint=checkpoint,
                rng=0,
                n_threads=n_threads,
                memory=memory,
            )
        with replacing(out) as file:
            np.save(file, found.dual_coefficients)
    if as_json:
        print_json(
            {
                "method": found.method,
                "iterations": found.iterations,
                "residual": found.residual,
                "converged": found.converged,
                "rank": found.rank,
                "seconds": found.seconds,
                "out": str(out),
            }
        )
    else:
        click.echo(
            f"{out}: by {found.method}, {found.iterations} iterations, residual {found.residual:.1e}, "
            f"{found.seconds:.1f} s" + ("" if found.converged else "; not converged")
        )
