"""Proposition 1 of the paper: at initialisation the outputs of wide networks are Gaussian with covariance Σ^L."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import numpy as np
from scipy import stats
from scipy.linalg import solve_triangular

from ntkfast.experiments.figures import COLOURS, new_figure
from ntkfast.experiments.running import (
    NO_PARTS,
    blas_threads,
    circle,
    near,
    network,
    relu_network,
    told,
    within,
    working,
)
from ntkfast.kernels import nngp

__all__ = ["Proposition1", "findings", "plot", "run"]

FULL = {"widths": (8, 32, 256, 1024), "n_seeds": 4000}
DEPTH = 4
GAMMA = (0.0, 0.5, 1.5, 3.0)


@dataclass(frozen=True)
class Proposition1:
    """What `run` finds; W widths, S networks of each, 4 points.

    Attributes
    ----------
    widths : ndarray, shape (W,)
    outputs : ndarray, shape (W, S, 4)
        f_θ at the points.
    covariance : ndarray, shape (4, 4)
        Σ⁴ of infinite width.
    """

    widths: np.ndarray
    outputs: np.ndarray
    covariance: np.ndarray

    @property
    def whitened(self):
        """The outputs by L⁻¹, Σ = L Lᵀ: independent N(0, 1) in the limit, (W, S, 4)."""
        L = np.linalg.cholesky(self.covariance)
        return np.array([solve_triangular(L, f.T, lower=True).T for f in self.outputs])


def run(widths=(8, 32, 256), n_seeds=1000, *, seed=0, parts=NO_PARTS, progress=None) -> Proposition1:
    """Outputs of random networks of depth 4 at 4 points of the circle.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width.
    seed, parts, progress
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
    net, points = relu_network(DEPTH), circle(np.array(GAMMA))

    def of_width(width, report):
        outputs = np.empty((n_seeds, len(GAMMA)))
        with blas_threads(width):
            for k in range(n_seeds):
                outputs[k] = network(net, 2, width, seed, k)(points)[:, 0]
                report(k + 1, n_seeds)
        return {"outputs": outputs}

    outputs = []
    with working(progress, "proposition 1", sum(width**2 + 10000 for width in widths)) as work:
        for width in widths:
            report = work.part(width**2 + 10000)
            outputs.append(parts.get(f"n{width}", lambda w=width, r=report: of_width(w, r))["outputs"])
    return Proposition1(np.array(widths), np.array(outputs), nngp(net, points, progress=False))


def plot(data: Proposition1):
    """Quantiles of the whitened outputs against those of N(0, 1). Returns a matplotlib Figure."""
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
    ax.set(
        xlabel=r"quantiles of $\mathcal{N}(0, 1)$", ylabel=r"quantiles of $L^{-1} f_\theta(X)$, $\Sigma^{(4)} = LL^T$"
    )
    ax.grid(True, alpha=0.3)
    ax.legend()
    return figure


def findings(data: Proposition1):
    """Covariance and Gaussianity: a list of Finding."""
    lines = []
    n = data.outputs.shape[1]
    scale = np.sqrt(np.outer(data.covariance.diagonal(), data.covariance.diagonal()))
    # of a covariance of n Gaussian samples: √((Σ_ij² + Σ_ii Σ_jj)/n)
    error = np.sqrt((data.covariance**2 + scale**2) / n)
    for width, f, z in zip(data.widths, data.outputs, data.whitened, strict=True):
        wide = width == data.widths[-1]
        apart = np.abs(f.T @ f / n - data.covariance) / error
        what = f"n = {width}: covariance of outputs minus Σ⁴, largest of 10 entries in standard errors"
        lines.append(within(what, 0, 4, apart.max(), "about 2") if wide else told(what, apart.max()))
        kurtosis = np.mean(z**4) - 3
        what = f"n = {width}: excess kurtosis"
        if wide:  # √(24/n) for each of four coordinates; what the network adds is of order L/n
            lines.append(near(what, 0, kurtosis, 3 * np.sqrt(24 / (4 * n)) + 10 * DEPTH / width))
        else:
            lines.append(told(what, kurtosis, "→ 0 like 1/n"))
        p = min(4 * min(stats.kstest(column, "norm").pvalue for column in z.T), 1)
        what = f"n = {width}: Kolmogorov-Smirnov test of Gaussianity, p (smallest of 4, Bonferroni)"
        lines.append(within(what, 0.001, 1, p, "not small") if wide else told(what, p, "may be small"))
    return lines


def caption(data: Proposition1):
    return (
        f"Outputs of {data.outputs.shape[1]} random networks of each width at 4 points of the circle, depth {DEPTH}, "
        "whitened by the limit covariance Σ⁴."
    )
