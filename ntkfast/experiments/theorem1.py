"""Theorem 1 of the paper: at initialisation the tangent kernel converges to the limit kernel, in operator norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.experiments.figures import new_figure
from ntkfast.experiments.running import circle, near, relu_network, told
from ntkfast.finite.convergence import Convergence, convergence
from ntkfast.plotting import plot_convergence

__all__ = ["Theorem1", "findings", "plot", "run"]

FULL = {"widths": (64, 128, 256, 512, 1024, 2048, 4096, 8192), "n_seeds": 100}
DEPTH = 4


@dataclass(frozen=True)
class Theorem1:
    """What `run` finds; W widths, S networks of each.

    Attributes
    ----------
    widths : ndarray, shape (W,)
    errors : ndarray, shape (W, S)
        ‖Θ̂ - Θ‖/‖Θ‖.
    """

    widths: np.ndarray
    errors: np.ndarray

    @property
    def convergence(self) -> Convergence:
        return Convergence(relu_network(DEPTH), self.widths, self.errors)


def run(widths=(64, 128, 256, 512, 1024, 2048), n_seeds=40, n=30, *, seed=0, parts=None, progress=None) -> Theorem1:
    """‖Θ̂ - Θ‖/‖Θ‖ on n points of the circle against the width.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width.
    n : int
        Number of points.
    seed, progress
        As in `ntkfast.experiments.fig1.run`.
    parts
        Not used: this takes minutes at most.

    Returns
    -------
    Theorem1

    Examples
    --------
    >>> from ntkfast.experiments import theorem1
    >>> theorem1.run(widths=(10, 20), n_seeds=2, n=4).errors.shape
    (2, 2)
    """
    points = circle(2 * np.pi * np.arange(n) / n).astype(np.float32)
    found = convergence(relu_network(DEPTH), points, widths, n_seeds, rng=seed, progress=progress)
    return Theorem1(found.widths, found.errors)


def plot(data: Theorem1):
    """The errors against the width. Returns a matplotlib Figure."""
    figure = new_figure(6, 4.5)
    plot_convergence(data.convergence, figure.subplots())
    return figure


def findings(data: Theorem1):
    """The exponent, and the errors: a list of Finding."""
    found = data.convergence
    tolerance = 3 * found.slope_error + 0.05
    lines = [near("‖Θ̂ - Θ‖/‖Θ‖ ∝ n^s at initialisation: s", -0.5, found.slope, tolerance)]
    return lines + [
        told(f"n = {n}: median of ‖Θ̂ - Θ‖/‖Θ‖", e, "→ 0") for n, e in zip(data.widths, found.median, strict=True)
    ]


def caption(data: Theorem1):
    return (
        f"Distance of the tangent kernel to the limit kernel on points of the circle, depth {DEPTH}, "
        f"{data.errors.shape[1]} networks of each width at initialisation."
    )
