"""Commands that follow published protocols on the data sets of UCI."""

from __future__ import annotations

from pathlib import Path

import click

from ntkfast.cli.shared import one_line, threads


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--out", default="uci", show_default=True, type=click.Path(), help="Folder of the results, uci.csv.")
@click.option("--max-size", default=5000, show_default=True, type=click.IntRange(min=1), help="Leave larger sets out.")
@threads
def uci(folder: str, out: str, max_size: int, n_threads: int | None) -> None:
    """Support vector machines on small data sets of UCI, beside the accuracy of Arora et al. (2020).

    DIR has one folder for each data set, as in data.tar.gz of Fernández-Delgado et al. (2014). Finished data sets are
    not computed again.

    Example:

        ntkfast uci data --out results
    """
    from ntkfast.experiments import uci as module

    with one_line("run the same command again to continue from the finished data sets"):
        scores = module.run(folder, out, max_size=max_size, n_threads=n_threads)
    click.echo(module.table(scores))
    click.echo(f"lines of the table: {Path(out) / module.FILE}")
