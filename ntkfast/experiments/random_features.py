"""Section 3.1 of the paper: the tangent kernel of a linear model of P random functions tends to their covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, new_figure
from ntkfast.experiments.networks import circle, relu_network
from ntkfast.experiments.verdicts import Finding, exponent, power_law, reported, within
from ntkfast.experiments.work import Progress
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.features import FeatureConvergence, random_feature_convergence
from ntkfast.networks import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "FeatureConvergence", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)


def run(
    n_features: Sequence[int] = (10, 30, 100, 300, 1000, 3000, 10000),
    n_seeds: int = 30,
    n: int = 30,
    *,
    net: Network = PAPER,
    seed: int = 0,
    progress: Progress = None,
) -> FeatureConvergence:
    """Random functions with the covariance Θ on n points of the circle.

    Parameters
    ----------
    n_features : sequence of int
        Numbers of functions.
    n_seeds : int
        Models for each number.
    n : int
        Number of points.
    net, seed, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    FeatureConvergence

    Examples
    --------
    >>> from ntkfast.experiments import random_features
    >>> random_features.run(n_features=(10, 100), n_seeds=2, n=5).errors.shape
    (2, 2)
    """
    K = ntk(net, circle(2 * np.pi * np.arange(n) / n), progress=False)
    return random_feature_convergence(K, n_features=n_features, n_seeds=n_seeds, rng=seed, progress=progress)


def plot(data: FeatureConvergence) -> Figure:
    """The errors against P, with their theoretical root mean square."""
    figure = new_figure(6, 4.5)
    ax = figure.subplots()
    for k, errors in enumerate(data.errors.T):
        ax.loglog(data.P, errors, ".", color=COLOURS[5], markersize=4, label=None if k else "one model")
    ax.loglog(data.P, np.sqrt((data.errors**2).mean(axis=1)), "o", color=COLOURS[1], label="root mean square")
    ax.loglog(data.P, data.expected, color="black", linewidth=1, label=r"theory, $\propto P^{-1/2}$")
    ax.set(xlabel="number of random functions $P$", ylabel=r"$\|\tilde K - K\|_F \,/\, \|K\|_F$")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return figure


def findings(data: FeatureConvergence) -> list[Finding]:
    """The exponent, and the size of the error."""
    n, n_seeds = data.errors.shape
    squares = data.errors**2
    relative = squares.std(axis=1, ddof=1) / squares.mean(axis=1) / 2 / np.sqrt(n_seeds)  # of a root mean square
    ratio = np.sqrt(squares.mean(axis=1)) / data.expected
    lines = [exponent("E ‖K̃ - K‖² ∝ P^s: s", -1, power_law(data.P, squares), 0, 0)]
    for P, value, tolerance in zip(data.P, ratio, relative, strict=True):
        lines.append(
            reported(f"P = {P}: root mean square error over the theoretical one", f"{value:.3f} ± {tolerance:.3f}", "1")
        )
    apart = np.sqrt(np.mean(((ratio - 1) / relative) ** 2))
    most = np.sqrt(chi2.ppf(0.9998, n) / n).round(1)
    lines.append(within("these ratios minus 1, in standard errors", 0, most, apart, f"about 1, {n} values"))
    return lines


def caption(data: FeatureConvergence) -> str:
    return (
        f"Tangent kernel of the linear model (1/√P) Σ θ_p f^(p) on points of the circle, f^(p) with covariance Θ, "
        f"{data.errors.shape[1]} models for each P."
    )


EXPERIMENT = Experiment(
    name="random_features",
    figure="theory",
    title="Section 3.1: random features",
    result=FeatureConvergence,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"n_features": (10, 30, 100, 300, 1000, 3000, 10000, 100000), "n_seeds": 100},
    network=PAPER,
)
