"""ntkfast fit and predict: a model of one's own table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntkfast.cli import shared
from ntkfast.cli.shared import fail, json_option, network_options, new_file, one_line, print_json, table_file, threads

if TYPE_CHECKING:
    from ntkfast.tabular.fit import Fit


def ridge(ctx: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """A number > 0, or None for "loo"."""
    if value == "loo":
        return None
    try:
        alpha = float(value)
    except ValueError:
        alpha = 0.0
    if not 0 < alpha < 1e300:
        raise click.BadParameter(f"expected a number > 0 or loo, got {value}")
    return alpha


@click.command()
@click.argument("table", type=table_file)
@click.option("--target", required=True, metavar="COLUMN", help="The column to predict.")
@click.option(
    "--task",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "regression", "classification"]),
    help="auto: classification if the target is text, or whole numbers with at most 20 different values that occur in "
    "10 rows on average (or just 2 values).",
)
@network_options
@click.option(
    "--alpha", default="loo", show_default=True, callback=ridge, help="The ridge; loo: by leave-one-out errors."
)
@click.option("--impute", type=click.Choice(["median"]), help="Fill in missing values.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="A column not to use; may be repeated.")
@click.option("--categorical", multiple=True, metavar="COLUMN", help="Numbers that are names; may be repeated.")
@click.option(
    "--rows", "n_rows", type=click.IntRange(min=10), help="Fit to a random sample of the rows.  [default: all]"
)
@click.option(
    "--held-out",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0.01, 0.9),
    callback=shared.finite,
    help="Share of rows for the scores.",
)
@click.option("--compare/--no-compare", default=True, help="Score other models beside it.  [default: compare]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the split.")
@click.option("-o", "--out", required=True, type=new_file, metavar="MODEL", help="The file of the model.")
@click.option("--figure", type=new_file, help=".png, .pdf or .svg.  [default: MODEL with .png]")
@click.option("--no-figure", is_flag=True)
@threads
@json_option
def fit(
    table: Path,
    target: str,
    task: str,
    alpha: float | None,
    impute: str | None,
    drop: tuple[str, ...],
    categorical: tuple[str, ...],
    held_out: float,
    out: Path,
    figure: Path | None,
    no_figure: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit a network's kernel to a table, score it beside other models, and save the model.

    TABLE is a .csv, .tsv, .parquet, .feather, .npy or .npz file. Columns of arrays have their numbers as
    names, 0, 1, …; those of an array X in an .npz file are X0, X1, …. Columns of text become a feature for each level.

    The scores are of rows held out, and of the other rows, each predicted without itself; then the model is fitted to
    every row.

    Example:

        ntkfast fit diabetes.csv --target target -o diabetes.ntk
    """
    shared.require_writable(out, "--out", [table])
    path = out.with_name(out.name + ".png") if out.suffix == ".png" else out.with_suffix(".png")
    path = figure or path
    if not no_figure:
        shared.require_figure(path)
        if path.resolve() == out.resolve():
            fail(f"--figure: {path} is also --out")
    with one_line("nothing was saved", out=out, figure=path):
        from ntkfast.saving import save
        from ntkfast.tabular import figure as figures
        from ntkfast.tabular import fit as module
        from ntkfast.tabular.table import read

        settings = module.Options(
            alpha=alpha,
            task=None if task == "auto" else task,  # type: ignore[arg-type]
            impute=impute is not None,
            categorical=categorical,
            dropped=drop,
            held_out=held_out,
            figure=not no_figure,
            **options,
        )
        found = module.fit(read(table, categorical), target, settings, _steps(settings.n_steps))
        drawn = None if no_figure else figures.of_fit(found)
        save(found.model, out)
        if drawn is not None:
            figures.save(drawn, path)
    files = {"model": str(out)} | ({} if no_figure else {"figure": str(path)})
    if as_json:
        print_json(_as_dict(found) | files)
        return
    _print(table, found)
    click.echo("; ".join(f"{name}: {file}" for name, file in files.items()))


def _steps(n: int) -> Any:
    """A context for each of n steps, which moves a bar on a terminal."""
    from tqdm import tqdm

    bar = tqdm(total=n, unit="step", leave=False, disable=None)

    @contextlib.contextmanager
    def step(name: str) -> Iterator[None]:
        bar.set_description(name)
        try:
            yield
        except BaseException:
            bar.close()
            raise
        bar.update()
        if bar.n == n:
            bar.close()

    return step


def _as_dict(fit: Fit) -> dict[str, Any]:
    from ntkfast.tabular import scores

    target = fit.target
    models = []
    for found in fit.predictions:
        values = {
            "name": found.name,
            "note": found.note,
            "leave_one_out": scores.score(target, fit.y_train, found.left_out),
            "held_out": scores.score(target, fit.y, found.held_out),
        }
        if target.classes is None:
            values["held_out_rmse"] = scores.error(target, fit.y, found.held_out)
        models.append(values | {"seconds": round(found.seconds, 3)})
    return {
        "rows": fit.n_rows,
        "columns": fit.n_columns,
        "features": fit.n_features,
        "target": target.name,
        "task": target.task,
        "classes": None if target.classes is None else list(target.classes),
        "score": "R2" if target.classes is None else "accuracy",
        "rows_trained_on": fit.n_train,
        "rows_held_out": len(fit.y),
        "held_out_rows": fit.held_out_rows.tolist(),
        "alpha": fit.alpha,
        "alpha_warning": fit.selection.warning,
        "models": models,
    }


def _print(table: Path, fit: Fit) -> None:
    values = _as_dict(fit)
    target = fit.model.target
    columns = f"{fit.n_columns} columns" + (f", {fit.n_features} features" if fit.n_features != fit.n_columns else "")
    kind = (
        f"regression, standard deviation {target.scale:.4g}"
        if target.classes is None
        else f"classification, {len(target.classes)} classes"
    )
    chosen = f"; alpha by {fit.selection.n} of them" if fit.selection.n < fit.n_train else ""
    click.echo(f"{table}: {fit.n_rows} rows, {columns}; {target.name}: {kind}")
    click.echo(f"{fit.n_train} rows trained on, {len(fit.y)} held out{chosen}\n")
    score = "R²" if target.classes is None else "accuracy"
    rows = [["", f"leave-one-out {score}", f"held-out {score}"]]
    rows[0] += ["held-out RMSE", "seconds"] if target.classes is None else ["seconds"]
    for model in values["models"]:
        form = "{:.3f}" if target.classes is None else "{:.2%}"
        row = [model["name"], form.format(model["leave_one_out"]), form.format(model["held_out"])]
        if target.classes is None:
            row.append(f"{model['held_out_rmse']:.4g}")
        rows.append([*row, f"{model['seconds']:.1f}"])
    rows = [[*row, note] for row, note in zip(rows, ["", *(model["note"] for model in values["models"])], strict=True)]
    warning = f"\n{fit.selection.warning}" if fit.selection.warning else ""
    click.echo(shared.in_columns(rows) + f"{warning}\n\nfitted to all {fit.n_rows} rows; ", nl=False)


@click.command()
@click.argument("model", type=table_file)
@click.argument("table", type=table_file)
@click.option("-o", "--out", required=True, type=new_file, help=".csv, .parquet, .feather or .npy.")
@click.option("--std", is_flag=True, help="Also the standard deviation of a new value, if it is a number.")
@threads
@json_option
def predict(model: Path, table: Path, out: Path, std: bool, n_threads: int | None, as_json: bool) -> None:
    """Predict the rows of a table with a model of `ntkfast fit`, some rows at a time.

    The columns are found by name; the target may be among them. OUT has a column of the target's name, for numbers
    with --std another one, and for classes their probabilities.

    Example:

        ntkfast predict diabetes.ntk new.csv -o predicted.csv --std
    """
    shared.require_writable(out, "--out", [model, table])
    with one_line("nothing was saved", out=out):
        from tqdm import tqdm

        from ntkfast.engine.threads import limited
        from ntkfast.saving import load
        from ntkfast.tabular import predict as module
        from ntkfast.tabular.model import TableModel
        from ntkfast.tabular.table import about_rows

        loaded = load(model)
        if not isinstance(loaded, TableModel):
            fail(f"{model}: expected a model of `ntkfast fit`, got a {type(loaded).__name__}")
        with tqdm(total=about_rows(table), unit=" rows", leave=False, disable=None) as bar, limited(n_threads):
            found = module.predict(loaded, table, out, std, lambda done: bar.update(done - bar.n))
    if as_json:
        print_json({"rows": found.n_rows, "unseen": found.unseen, "out": str(out)})
        return
    click.echo(f"{out}: {found.n_rows} rows")
    if std and loaded.target.classes is not None:
        click.echo("ntkfast: --std: classes have no deviations; the uncertainty is in their probabilities", err=True)
    for name, count in found.unseen.items():
        click.echo(f"ntkfast: column {name!r}: {count} rows have a value that the model was not fitted to", err=True)
