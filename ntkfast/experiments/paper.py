"""Runs experiments into a folder: their data, their figures, and one report on everything in the folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ntkfast.datasets import MNIST, mnist
from ntkfast.engine.threads import limited
from ntkfast.experiments import (
    beyond,
    early_stopping,
    fig1,
    fig2,
    fig3a,
    fig3bc,
    inflation,
    proposition1,
    proposition2,
    random_features,
    theorem1,
    theorem2,
)
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import new_figure
from ntkfast.experiments.results import PathLike, data_path, exclusive, keep_full, read, settings, settings_of, stored
from ntkfast.experiments.storage import Parts, Values, as_dict, save
from ntkfast.experiments.verdicts import Finding
from ntkfast.experiments.work import Progress
from ntkfast.support.files import replacing

__all__ = ["EXPERIMENTS", "read", "report", "run", "run_all", "select"]

EXPERIMENTS: tuple[Experiment[Any], ...] = (
    fig1.EXPERIMENT,
    fig2.EXPERIMENT,
    fig3a.EXPERIMENT,
    fig3bc.EXPERIMENT,
    theorem1.EXPERIMENT,
    theorem2.EXPERIMENT,
    proposition1.EXPERIMENT,
    proposition2.EXPERIMENT,
    random_features.EXPERIMENT,
    early_stopping.EXPERIMENT,
    beyond.EXPERIMENT,
    inflation.EXPERIMENT,
)


def select(figure: str) -> tuple[Experiment[Any], ...]:
    """The experiments of a figure.

    Parameters
    ----------
    figure : str
        "fig1", "fig2", "fig3", "theory", "beyond", "all", or the name of one experiment.

    Raises
    ------
    ValueError
        The figure is unknown.

    Examples
    --------
    >>> from ntkfast.experiments import paper
    >>> [experiment.name for experiment in paper.select("fig3")]
    ['fig3a', 'fig3bc']
    """
    chosen = tuple(each for each in EXPERIMENTS if figure in ("all", each.figure, each.name))
    if not chosen:
        known = dict.fromkeys([*(each.figure for each in EXPERIMENTS), "all", *(each.name for each in EXPERIMENTS)])
        raise ValueError(f"figure: expected one of {', '.join(known)}, got {figure!r}")
    return chosen


def run_all(
    figure: str,
    out: PathLike,
    *,
    data: PathLike | None = None,
    full: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
    progress: Progress = None,
    say: Callable[[str], object] = print,
) -> list[tuple[str, Finding]]:
    """Run the experiments of a figure (or "theory", or "all") and write the report of the folder.

    Parameters
    ----------
    figure : str
        As in `select`.
    out : path-like
        Created if it does not exist.
    data : path-like, optional
        Folder of the MNIST files. Default: the folder that the environment variable NTKFAST_DATA names.
    n_threads : int, optional
        For BLAS and for the engine.
    full, seed, progress, say
        As in `run`.

    Returns
    -------
    list of (title, Finding)
        Of these experiments; the report covers all experiments whose data are in the folder.

    Raises
    ------
    ValueError
        The figure is unknown.
    OSError
        The folder cannot be written to, or holds the data of a full run that this one would replace.
    ntkfast.datasets.DataError
        MNIST is needed but missing or damaged.
    """
    chosen = select(figure)
    with exclusive(out) as out, limited(n_threads):
        for experiment in chosen:  # before any work, like the reading of MNIST
            keep_full(out, experiment, settings(experiment, full=full, seed=seed))
        digits = mnist("train", data) if any(experiment.needs_mnist for experiment in chosen) else None
        for experiment in chosen:
            run(experiment, out, digits=digits, full=full, seed=seed, progress=progress, say=say)
        titles = {experiment.title for experiment in chosen}
        return [(title, finding) for title, finding in report(out) if title in titles]


def run(
    experiment: Experiment[Any],
    out: PathLike,
    *,
    digits: MNIST | None = None,
    full: bool = False,
    seed: int = 0,
    progress: Progress = None,
    say: Callable[[str], object] = print,
) -> None:
    """Run an experiment, or find its data in the folder, and write its data and figure there.

    Data of the same sizes, seed and version are reused; an interrupted run resumes.

    Parameters
    ----------
    experiment : Experiment
    out : path-like
        An existing folder.
    digits : ntkfast.datasets.MNIST, optional
        The training set, for figure 3.
    full : bool
        The paper's sizes, or large ones where it gives none; otherwise the defaults of the experiment's `run`.
    seed : int
    progress : bool or callable, optional
        As in `ntkfast.ntk`.
    say : callable
        Called with a line of text when the experiment begins and when it is done.

    Raises
    ------
    ValueError
        The experiment needs digits.
    FileExistsError
        The folder holds the data of a full run that this one would replace.
    ImportError
        matplotlib is not installed.
    """
    new_figure(1, 1)  # a missing matplotlib is detected before the work, not after it
    wanted = settings(experiment, full=full, seed=seed)
    keep_full(out, experiment, wanted)
    path = data_path(out, experiment)
    text = json.dumps(wanted, sort_keys=True)
    parts = path.parent / "parts" / f"{experiment.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    values = stored(out, experiment)
    if values is not None and settings_of(values) == wanted:
        say(f"{experiment.title}: found in {path}; delete that file to run it again")
    else:
        instead = "" if values is None else f", in place of {path}, which has other sizes or another seed"
        say(experiment.title + instead)
        start = time.perf_counter()
        data = experiment.compute(digits=digits, full=full, seed=seed, parts=Parts(parts), progress=progress)
        values = {**as_dict(data), "settings": text, "seconds": time.perf_counter() - start}
        save(path, values)
        say(f"  {values['seconds']:.0f} s")
    shutil.rmtree(parts, ignore_errors=True)
    with contextlib.suppress(OSError):  # it does not exist, or holds parts of other runs
        parts.parent.rmdir()
    _draw(experiment, values, path)


def _draw(experiment: Experiment[Any], values: Values, path: Path) -> None:
    """The figure of stored data, next to them, as PNG and PDF."""
    from matplotlib import style

    with style.context("default"):  # whatever the user's matplotlibrc says
        figure = experiment.plot(experiment.restore(values))
        for suffix in ("png", "pdf"):
            with replacing(path.with_suffix(f".{suffix}")) as file:
                figure.savefig(file, format=suffix, dpi=150)


def report(out: PathLike) -> list[tuple[str, Finding]]:
    """Write report.md on every experiment whose data from this version are in the folder.

    Parameters
    ----------
    out : path-like

    Returns
    -------
    list of (title, Finding)
    """
    out = Path(out)
    every: list[tuple[str, Finding]] = []
    lines = [
        "# The experiments of Jacot, Gabriel and Hongler (2018)",
        "",
        f"ntkfast {version('ntkfast')}. ReLU networks in the NTK parametrisation, one output, w = 1, β = 0.1, "
        "full-batch gradient descent on ½‖f - f*‖². A line without a verdict claims nothing.",
        "",
    ]
    for experiment in EXPERIMENTS:
        values = stored(out, experiment)
        if values is None:
            continue
        data = experiment.restore(values)
        findings = experiment.findings(data)
        every += [(experiment.title, finding) for finding in findings]
        lines += _section(experiment.title, experiment.name, experiment.caption(data), findings, values)
    with replacing(out / "report.md") as file:
        file.write("\n".join(lines).encode())
    return every


def _section(title: str, name: str, caption: str, findings: list[Finding], values: Values) -> list[str]:
    """The lines of one experiment in the report."""
    run = settings_of(values)
    sizes = "full sizes" if run["full"] else "quick sizes"
    verdicts = {None: "", True: "ok", False: "**out**"}
    return [
        *(f"## {title}", "", f"![{title}]({name}.png)", "", caption, ""),
        f"Seed {run['seed']}, {sizes}, {values['seconds']:.0f} s (since it last resumed, if it was interrupted).",
        *("", "| | paper or theory | here | tolerance | verdict |", "|---|---|---|---|---|"),
        *(
            f"| {_cell(f.what)} | {_cell(f.expected)} | {_cell(f.found)} | {f.tolerance} | {verdicts[f.ok]} |"
            for f in findings
        ),
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
