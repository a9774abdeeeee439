"""Proposition 1 of the paper: at initialisation the outputs of wide networks are Gaussian with covariance Σ^L."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.linalg import solve_triangular

from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, new_figure
from ntkfast.experiments.networks import as_mlp, check_widths, circle, described, network, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.verdicts import Finding, near, reported, within
from ntkfast.experiments.work import Progress, Report, working
from ntkfast.infinite.kernels import nngp
from ntkfast.networks import MLP, Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Proposition1", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)
GAMMA = (0.0, 0.5, 1.5, 3.0)


@dataclass(frozen=True)
class Proposition1:
    """The result of `run`: W widths, S networks of each, 4 points.

    Attributes
    ----------
    net : Network
    widths : ndarray, shape (W,)
    outputs : ndarray, shape (W, S, 4)
        f_θ at the points.
    covariance : ndarray, shape (4, 4)
        Σ of infinite width.
    """

    net: Network
    widths: np.ndarray
    outputs: np.ndarray
    covariance: np.ndarray

    __repr__ = short

    @property
    def whitened(self) -> np.ndarray:
        """L⁻¹ times the outputs, where Σ = L Lᵀ: independent N(0, 1) in the limit, shape (W, S, 4)."""
        L = np.linalg.cholesky(self.covariance)
        return np.array([solve_triangular(L, f.T, lower=True).T for f in self.outputs])


def run(
    widths: Sequence[int] = (8, 32, 256),
    n_seeds: int = 1000,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Proposition1:
    """Outputs of random networks at 4 points of the circle.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width.
    net, seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Proposition1

    Examples
    --------
    >>> from ntkfast.experiments import proposition1
    >>> proposition1.run(widths=(10,), n_seeds=3).outputs.shape
    (1, 3, 4)
    """
    widths, n_seeds = check_widths(widths), positive_integer(n_seeds, "n_seeds")
    points = circle(np.array(GAMMA))

    def of_width(width: int, report: Report) -> Values:
        outputs = np.empty((n_seeds, len(GAMMA)))
        with blas_threads(width, len(points)):
            for k in range(n_seeds):
                outputs[k] = network(net, 2, width, seed, k)(points)[:, 0]
                report(k + 1, n_seeds)
        return {"outputs": outputs}

    outputs = []
    with working(progress, "proposition 1", sum(width**2 + 10000 for width in widths)) as work:
        for width in widths:
            compute = functools.partial(of_width, width, work.part(width**2 + 10000))
            outputs.append(parts.get(f"n{width}", compute)["outputs"])
    return Proposition1(net, np.array(widths), np.array(outputs), nngp(net, points, progress=False))


def plot(data: Proposition1) -> Figure:
    """Quantiles of the whitened outputs against those of N(0, 1)."""
    figure = new_figure(6, 5)
    ax = figure.subplots()
    for width, z, colour, mark in zip(data.widths, data.whitened, cycle(COLOURS), cycle("v^os"), strict=False):
        z = np.sort(z.reshape(-1))
        level = (np.arange(len(z)) + 0.5) / len(z)
        some = np.unique(np.round(np.geomspace(1, len(z) / 2, 25)).astype(int)) - 1
        some = np.concatenate([some, len(z) - 1 - some])
        ax.plot(stats.norm.ppf(level[some]), z[some], mark, markersize=4, color=colour, label=f"$n = {width}$")
    line = stats.norm.ppf([0.5 / len(z), 1 - 0.5 / len(z)])
    ax.plot(line, line, color="black", linewidth=1, label=r"$n = \infty$")
    covariance = rf"$\Sigma^{{({data.net.depth})}} = LL^T$"
    ax.set(xlabel=r"quantiles of $\mathcal{N}(0, 1)$", ylabel=rf"quantiles of $L^{{-1}} f_\theta(X)$, {covariance}")
    ax.grid(True, alpha=0.3)
    ax.legend()
    return figure


def excess_kurtosis(net: Network, width: int) -> float | None:
    """E f(x)⁴/(E f(x)²)² - 3 for |x| = 1 in the plane, exact at any width, for a ReLU MLP; None for any other net.

    Given the layer below, an output is N(0, q) with random q. From one layer to the next E q' = w²/2 q + β², and the
    n independent units add 1/n of the variance of one, w⁴ (3/2 - 1/4) q², to E q'².
    """
    found = as_mlp(net)
    if found is None or net != MLP(net.depth, "relu", *found[1:]):
        return None
    _, w, b = found
    q = w**2 / 2 + b**2
    square = q**2
    for _ in range(net.depth - 1):
        square = (w**4 / 4 + 1.25 * w**4 / width) * square + w**2 * b**2 * q + b**4
        q = w**2 / 2 * q + b**2
    return 3 * (square / q**2 - 1)


def findings(data: Proposition1) -> list[Finding]:
    """Covariance and Gaussianity."""
    lines = []
    n = data.outputs.shape[1]
    variances = data.covariance.diagonal()
    # standard error of a covariance from n Gaussian samples: √((Σ_ij² + Σ_ii Σ_jj)/n)
    error = np.sqrt((data.covariance**2 + np.outer(variances, variances)) / n)
    # and of their excess kurtosis, averaged over the points, which has covariances 24 ρ⁴/n for correlations ρ
    rho = data.covariance / np.sqrt(np.outer(variances, variances))
    fourth_error = np.sqrt(np.mean(24 * rho**4) / n)
    for width, f, z in zip(data.widths, data.outputs, data.whitened, strict=True):
        wide = width == data.widths.max()
        apart = np.abs(f.T @ f / n - data.covariance) / error
        what = f"n = {width}: covariance of outputs minus Σ, largest of 10 entries, in standard errors"
        lines.append(within(what, 0, 4, apart.max(), "about 2") if wide else reported(what, apart.max()))
        kurtosis = np.mean(np.mean(f**4, axis=0) / np.mean(f**2, axis=0) ** 2) - 3
        exact = excess_kurtosis(data.net, width)
        what = f"n = {width}: excess kurtosis E f⁴/(E f²)² - 3, mean over the points"
        if exact is not None and wide:
            lines.append(near(what, exact, kurtosis, 3 * fourth_error))
        else:  # the tails of narrow networks are too heavy to estimate their fourth moment from a sample
            lines.append(reported(what, kurtosis, "→ 0 like 1/n" if exact is None else f"{exact:.4g}"))
        p = min(4 * min(stats.kstest(column, "norm").pvalue for column in z.T), 1)
        what = f"n = {width}: Kolmogorov-Smirnov test of Gaussianity, p (smallest of 4, Bonferroni)"
        lines.append(within(what, 0.001, 1, p, "not small") if wide else reported(what, p, "may be small"))
    return lines


def caption(data: Proposition1) -> str:
    return (
        f"Outputs of {data.outputs.shape[1]} random networks of each width at 4 points of the circle, "
        f"{described(data.net)}, whitened by the limit covariance Σ."
    )


EXPERIMENT = Experiment(
    name="proposition1",
    figure="theory",
    title="Proposition 1: outputs at initialisation",
    result=Proposition1,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"widths": (8, 32, 256, 1024), "n_seeds": 4000},
    network=PAPER,
    resumable=True,
)
