"""Theorem 1 of the paper: at initialisation the tangent kernel converges to the limit kernel, in operator norm."""

from __future__ import annotations

import numpy as np

from ntkfast.experiments.figures import new_figure
from ntkfast.experiments.running import NO_PARTS, check_widths, circle, described, relu_network, working
from ntkfast.experiments.verdicts import TOO_FEW, PowerLaw, exponent, told
from ntkfast.learning.convergence import Convergence, convergence
from ntkfast.plotting import plot_convergence

__all__ = ["Convergence", "findings", "plot", "run"]

PAPER = relu_network(4)
FULL = {"widths": (64, 128, 256, 512, 1024, 2048, 4096, 8192), "n_seeds": 100}


def run(
    widths=(64, 128, 256, 512, 1024, 2048), n_seeds=40, n=30, *, net=PAPER, seed=0, parts=NO_PARTS, progress=None
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

    def of_width(width, report):
        rng = np.random.default_rng([seed, width])
        return {"errors": convergence(net, points, [width], n_seeds, rng=rng, progress=report).errors[0]}

    errors = []
    with working(progress, "theorem 1", sum(width**2 + 10000 for width in widths)) as work:
        for width in widths:
            report = work.part(width**2 + 10000)
            errors.append(parts.get(f"n{width}", lambda w=width, r=report: of_width(w, r))["errors"])
    return Convergence(net, np.array(widths), np.array(errors))


def plot(data: Convergence):
    """The errors against the width. Returns a matplotlib Figure."""
    figure = new_figure(6, 4.5)
    plot_convergence(data, figure.subplots())
    return figure


def findings(data: Convergence):
    """The exponent, and the errors: a list of Finding."""
    few = len(set(data.widths)) < 2 or data.errors.size < 3
    law = TOO_FEW if few else PowerLaw(data.slope, data.slope_error, data.errors.size - 2)
    return [exponent("‖Θ̂ - Θ‖/‖Θ‖ ∝ n^s at initialisation: s", -0.5, law, 0.05, 0.05)] + [
        told(f"n = {n}: median of ‖Θ̂ - Θ‖/‖Θ‖", e, "→ 0") for n, e in zip(data.widths, data.median, strict=True)
    ]


def caption(data: Convergence):
    return (
        f"Distance of the tangent kernel to the limit kernel on points of the circle, {described(data.net)}, "
        f"{data.errors.shape[1]} networks of each width at initialisation."
    )
