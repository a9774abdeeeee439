"""Proposition 2 of the paper: on the sphere the limit kernel is positive definite, unless σ is a polynomial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, legend_above, new_figure
from ntkfast.experiments.verdicts import Finding, reported
from ntkfast.experiments.work import Progress
from ntkfast.infinite.kernels import diagonal
from ntkfast.learning.positivity import hermite_certificate, smallest_eigenvalue
from ntkfast.networks import MLP, Activation, activations
from ntkfast.support.progress import reporter
from ntkfast.support.reprs import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Proposition2", "caption", "findings", "plot", "run"]

NAMES = ("relu", "erf", "tanh", "gelu", "quadratic")
BETA = 0.1


def _activation(name: str) -> Activation:
    return activations.polynomial((0.0, 1.0, 0.5)) if name == "quadratic" else activations.get(name)


@dataclass(frozen=True)
class Proposition2:
    """The result of `run`: A activations, D depths.

    Attributes
    ----------
    names : ndarray, shape (A,)
        "quadratic" is the polynomial x + x²/2.
    depths : ndarray, shape (D,)
    n, n_inputs : int
        Number of points on the sphere, and of their coordinates.
    eigenvalues, errors : ndarray, shape (A, D)
        λ_min/λ_mean of Θ^L, and a bound on its error.
    certified : ndarray, shape (A,)
        Whether the Hermite coefficients of σ prove the kernel positive definite.
    """

    names: np.ndarray
    depths: np.ndarray
    n: int
    n_inputs: int
    eigenvalues: np.ndarray
    errors: np.ndarray
    certified: np.ndarray

    __repr__ = short


def run(
    names: Sequence[str] = NAMES,
    depths: Sequence[int] = (2, 3, 4, 5, 6),
    n: int = 30,
    n_inputs: int = 3,
    *,
    seed: int = 0,
    progress: Progress = None,
) -> Proposition2:
    """The smallest eigenvalue of Θ^L on random points of the unit sphere.

    If σ is a polynomial of degree p, Θ^L is a polynomial of degree p^(L-1) in x·x', so that its rank on the sphere of
    R³ is at most (p^(L-1) + 1)², whatever the number of points.

    Parameters
    ----------
    names : sequence of str
        Activations by name; "quadratic" is x + x²/2.
    depths : sequence of int
    n, n_inputs : int
        Number of points, and of coordinates.
    seed, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Proposition2

    Examples
    --------
    >>> from ntkfast.experiments import proposition2
    >>> data = proposition2.run(names=("relu", "quadratic"), depths=(2,), n=15)
    >>> data.eigenvalues > data.errors
    array([[ True],
           [False]])
    """
    X = np.random.default_rng([seed, 2]).standard_normal((n, n_inputs))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    shape = (len(names), len(depths))
    eigenvalues, errors = np.empty(shape), np.empty(shape)
    with reporter(progress, "proposition 2") as report:
        for done, (i, j) in enumerate(np.ndindex(shape)):
            net = MLP(depths[j], _activation(names[i]), 1.0, BETA)
            found = smallest_eigenvalue(net, X, progress=False)
            mean = diagonal(net, X, progress=False).mean()
            eigenvalues[i, j], errors[i, j] = found.value / mean, found.error / mean
            if report is not None:
                report(done + 1, eigenvalues.size)
    variance = 1 / n_inputs  # w² |x|²/n_0 on the unit sphere
    certified = [hermite_certificate(_activation(name), bias_std=BETA, variance=variance).certifies for name in names]
    return Proposition2(np.array(names), np.array(depths), n, n_inputs, eigenvalues, errors, np.array(certified))


def rank_bound(depth: int, n_inputs: int) -> int:
    """The dimension of polynomials of degree 2^(depth-1) on the sphere of R^n_inputs, for σ of degree 2."""
    degree, d = 2 ** (depth - 1), n_inputs
    return comb(degree + d - 1, d - 1) + comb(degree + d - 2, d - 1)


def plot(data: Proposition2) -> Figure:
    """λ_min over the mean eigenvalue against depth; hollow where it cannot be distinguished from 0."""
    figure = new_figure(6.5, 4.8)
    ax = figure.subplots()
    for k, (name, values, errors) in enumerate(zip(data.names, data.eigenvalues, data.errors, strict=True)):
        colour, mark, sizes = COLOURS[k % len(COLOURS)], "osv^D"[k % 5], np.maximum(np.abs(values), 1e-19)
        label = r"$x + x^2/2$" if name == "quadratic" else name
        ax.semilogy(data.depths, sizes, mark + "-", color=colour, label=label)
        unknown = np.abs(values) <= errors
        ax.semilogy(data.depths[unknown], sizes[unknown], mark, color=colour, markerfacecolor="white")
    ax.set(xlabel="depth $L$", ylabel=r"$|\lambda_{\min}|$ over the mean eigenvalue of $\Theta^{(L)}$", ylim=(1e-19, 1))
    ax.set_title("hollow: 0 to within the accuracy of the kernel", fontsize=9, color="0.35", loc="right")
    ax.set_xticks(data.depths)
    legend_above(figure, ax, 5)
    return figure


def findings(data: Proposition2) -> list[Finding]:
    """Whether each kernel is positive definite, as it should be."""
    lines = []
    for name, certified, values, errors in zip(data.names, data.certified, data.eigenvalues, data.errors, strict=True):
        should = "no" if name == "quadratic" else "yes"
        found = "yes" if certified else "no"
        lines.append(
            Finding(f"{name}: Hermite coefficients prove positive definiteness", should, found, "", found == should)
        )
        for depth, value, error in zip(data.depths, values, errors, strict=True):
            what = f"{name}, L = {depth}: λ_min over the mean eigenvalue"
            bound = f"accurate to {error:.1g}"
            if name != "quadratic":
                lines.append(Finding(what, "> 0", f"{value:.2g}", bound, bool(value > error)))
            elif rank_bound(depth, data.n_inputs) < data.n:
                rank = rank_bound(depth, data.n_inputs)
                lines.append(
                    Finding(f"{what}, rank ≤ {rank} < {data.n}", "0", f"{value:.2g}", bound, bool(abs(value) <= error))
                )
            else:
                lines.append(
                    reported(f"{what}, rank bound {rank_bound(depth, data.n_inputs)} ≥ {data.n}", f"{value:.2g}")
                )
    return lines


def caption(data: Proposition2) -> str:
    return (
        f"Smallest eigenvalue of Θ^L on {data.n} random points of the unit sphere of R^{data.n_inputs}, β = {BETA}. "
        "A polynomial σ is the counterexample: its kernel has finite rank."
    )


EXPERIMENT = Experiment(
    name="proposition2",
    figure="theory",
    title="Proposition 2: positive definiteness",
    result=Proposition2,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"depths": (2, 3, 4, 5, 6, 8, 10)},
)
