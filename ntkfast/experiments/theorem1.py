"""Theorem 1 of the paper: at initialisation the tangent kernel converges to the limit kernel, in operator norm."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import new_figure
from ntkfast.experiments.networks import check_widths, circle, described, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.verdicts import SQUARES, TOO_FEW, Finding, PowerLaw, exponent, mean_near, reported
from ntkfast.experiments.work import Progress, Report, working
from ntkfast.learning.convergence import Convergence, convergence
from ntkfast.networks import Network
from ntkfast.plotting import plot_convergence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Convergence", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)
ORDER_TWO = 20.0  # allowance for terms of order 1/n²: this over n, relative to those of order 1/n


def run(
    widths: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
    n_seeds: int = 40,
    n: int = 30,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Convergence:
    """‖Θ̂ - Θ‖/‖Θ‖ on n points of the circle against the width.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width.
    n : int
        Number of points.
    net, seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Convergence

    Examples
    --------
    >>> from ntkfast.experiments import theorem1
    >>> theorem1.run(widths=(10, 20), n_seeds=2, n=4).errors.shape
    (2, 2)
    """
    widths = check_widths(widths)
    points = circle(2 * np.pi * np.arange(n) / n).astype(np.float32)

    def of_width(width: int, report: Report) -> Values:
        rng = np.random.default_rng([seed, width])
        found = convergence(net, points, [width], n_seeds=n_seeds, rng=rng, progress=report)
        return {"errors": found.errors[0], "frobenius": found.frobenius[0], "theory": found.theory[0]}

    rows = []
    with working(progress, "theorem 1", sum(width**2 + 10000 for width in widths)) as work:
        for width in widths:
            compute = functools.partial(of_width, width, work.part(width**2 + 10000))
            rows.append(parts.get(f"n{width}", compute))
    names = "errors", "frobenius", "theory"
    return Convergence(net, np.array(widths), *(np.array([row[name] for row in rows]) for name in names))


def plot(data: Convergence) -> Figure:
    """The errors against the width."""
    figure = new_figure(6, 4.5)
    plot_convergence(data, ax=figure.subplots())
    return figure


def findings(data: Convergence) -> list[Finding]:
    """The exponent, and the errors."""
    few = len(set(data.widths)) < 2 or data.errors.size < 3
    law = TOO_FEW if few else PowerLaw(data.slope, data.slope_error, data.errors.size - 2)
    lines = [exponent("‖Θ̂ - Θ‖/‖Θ‖ ∝ n^s at initialisation: s", -0.5, law, 0.05, 0.05)] + [
        reported(f"n = {n}: median of ‖Θ̂ - Θ‖/‖Θ‖", e, "→ 0") for n, e in zip(data.widths, data.median, strict=True)
    ]
    if (data.theory > 0).all():
        lines += [
            mean_near(
                f"n = {n}, {len(row)} networks: mean of ‖Θ̂ - Θ‖² in Frobenius norm over theory",
                1.0,
                row,
                ORDER_TWO / n,
                SQUARES,
            )
            for n, row in zip(data.widths, (data.frobenius / data.theory[:, None]) ** 2, strict=True)
        ]
    return lines


def caption(data: Convergence) -> str:
    return (
        f"Distance of the tangent kernel from the limit kernel on points of the circle, {described(data.net)}, "
        f"{data.errors.shape[1]} networks of each width at initialisation. In Frobenius norm its mean square is known "
        "to order 1/n (docs/beyond.md); in operator norm, in which the theorem is stated, it is not."
    )


EXPERIMENT = Experiment(
    name="theorem1",
    figure="theory",
    title="Theorem 1: the NTK at initialisation",
    result=Convergence,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"widths": (64, 128, 256, 512, 1024, 2048, 4096, 8192), "n_seeds": 100},
    network=PAPER,
    resumable=True,
)
