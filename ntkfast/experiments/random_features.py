"""Section 3.1 of the paper: the tangent kernel of a linear model of P random functions tends to their covariance."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from ntkfast.experiments.figures import COLOURS, new_figure
from ntkfast.experiments.running import circle, relu_network
from ntkfast.experiments.verdicts import exponent, power_law, told, within
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.features import FeatureConvergence, random_feature_convergence

__all__ = ["FeatureConvergence", "findings", "plot", "run"]

PAPER = relu_network(4)
FULL = {"P": (10, 30, 100, 300, 1000, 3000, 10000, 100000), "repeats": 100}


def run(P=(10, 30, 100, 300, 1000, 3000, 10000), repeats=30, n=30, *, net=PAPER, seed=0, progress=None):
    """Random functions with the covariance Θ on n points of the circle.

    Parameters
    ----------
    P : sequence of int
        Numbers of functions.
    repeats : int
        Models for each.
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
    >>> random_features.run(P=(10, 100), repeats=2, n=5).errors.shape
    (2, 2)
    """
    K = ntk(net, circle(2 * np.pi * np.arange(n) / n), progress=False)
    return random_feature_convergence(K, P, repeats, rng=seed, progress=progress)


def plot(data: FeatureConvergence):
    """The errors against P beside their root mean square in theory. Returns a matplotlib Figure."""
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


def findings(data: FeatureConvergence):
    """The exponent, and the size of the error: a list of Finding."""
    n, repeats = data.errors.shape
    squares = data.errors**2
    relative = squares.std(axis=1, ddof=1) / squares.mean(axis=1) / 2 / np.sqrt(repeats)  # of a root mean square
    ratio = np.sqrt(squares.mean(axis=1)) / data.expected
    lines = [exponent("E ‖K̃ - K‖² ∝ P^s: s", -1, power_law(data.P, squares), 0, 0)]
    for P, value, tolerance in zip(data.P, ratio, relative, strict=True):
        lines.append(
            told(f"P = {P}: root mean square error over that of theory", f"{value:.3f} ± {tolerance:.3f}", "1")
        )
    apart = np.sqrt(np.mean(((ratio - 1) / relative) ** 2))
    most = np.sqrt(chi2.ppf(0.9998, n) / n).round(1)
    lines.append(within("these ratios minus 1, in standard errors", 0, most, apart, f"about 1, {n} values"))
    return lines


def caption(data: FeatureConvergence):
    return (
        f"Tangent kernel of the linear model (1/√P) Σ θ_p f^(p) on points of the circle, f^(p) with covariance Θ, "
        f"{data.errors.shape[1]} models for each P."
    )
