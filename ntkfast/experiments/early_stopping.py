"""Section 5 of the paper: directions of large eigenvalue are learned first, so that early stopping keeps noise out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, new_figure
from ntkfast.experiments.networks import relu_network
from ntkfast.experiments.storage import as_dict
from ntkfast.experiments.verdicts import Finding, below, near, reported
from ntkfast.experiments.work import Progress, working
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.early_stopping import EarlyStopping
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.networks import Network
from ntkfast.plotting import plot_early_stopping
from ntkfast.support.reprs import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Stopping", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)


@dataclass(frozen=True)
class Stopping(EarlyStopping):
    """The result of `run`: the attributes of `EarlyStopping`, and the following, for N eigenvalues.

    Attributes
    ----------
    eigenvalues : ndarray, shape (N,)
        λ_i of K/N.
    remaining : ndarray, shape (N,)
        |⟨f_t - y, f^(i)⟩| / |⟨f_0 - y, f^(i)⟩| at the best time.
    noise_std : float
        Standard deviation of the noise on the labels.
    """

    eigenvalues: np.ndarray
    remaining: np.ndarray
    noise_std: float

    __repr__ = short


def run(
    n: int = 300,
    n_validation: int = 1000,
    n_inputs: int = 5,
    noise_std: float = 0.5,
    *,
    net: Network = PAPER,
    seed: int = 0,
    progress: Progress = None,
) -> Stopping:
    """The flow of an infinitely wide network on noisy labels of f*(x) = x1 + x2 x3, x from N(0, 1).

    Parameters
    ----------
    n, n_validation, n_inputs : int
        Numbers of training points, of validation points (whose labels have no noise), and of coordinates, at least 3.
    noise_std : float
        Standard deviation of the noise on the labels.
    net, seed, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Stopping

    Examples
    --------
    >>> from ntkfast.experiments import early_stopping
    >>> data = early_stopping.run(n=30, n_validation=50)
    >>> bool(data.loss <= data.validation_loss[-1])
    True
    """
    rng = np.random.default_rng([seed, 3])
    X, V = rng.standard_normal((n, n_inputs)), rng.standard_normal((n_validation, n_inputs))
    y = X[:, 0] + X[:, 1] * X[:, 2] + noise_std * rng.standard_normal(n)
    with working(progress, "early stopping", n**2 + n_validation * n) as work:
        K = ntk(net, X, progress=work.part(n**2))
        K_vx = ntk(net, V, X, progress=work.part(n_validation * n))
    flow = LeastSquaresFlow(K, y)
    found = flow.early_stopping(K_vx, V[:, 0] + V[:, 1] * V[:, 2])
    # computed independently of the flow: along NumPy's eigenvectors
    values, vectors = np.linalg.eigh(K / n)
    remaining = np.abs(vectors.T @ (flow.mean(found.t) - y)) / np.abs(vectors.T @ y)
    return Stopping(**as_dict(found), eigenvalues=values[::-1], remaining=remaining[::-1], noise_std=noise_std)


def plot(data: Stopping) -> Figure:
    """The losses against time, and the share of each component learned at the best time."""
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    plot_early_stopping(data, ax=left)
    right.semilogx(data.eigenvalues, 1 - data.remaining, ".", markersize=4, color=COLOURS[0], label="component $i$")
    x = np.geomspace(max(data.eigenvalues[-1], 1e-12 * data.eigenvalues[0]), data.eigenvalues[0], 200)
    right.semilogx(x, -np.expm1(-x * data.t), color=COLOURS[1], linewidth=1, label=r"$1 - e^{-t\lambda}$")
    right.set(xlabel=r"eigenvalue $\lambda_i$ of $K/N$", ylabel=f"share learned at $t = {data.t:.3g}$")
    right.grid(True, alpha=0.3)
    right.legend()
    return figure


def findings(data: Stopping) -> list[Finding]:
    """The gain from early stopping, and the order in which components are learned."""
    last = data.validation_loss[-1]  # t = ∞
    lines = [
        reported("best time to stop", data.t),
        reported("validation loss ½ E(f_t - f*)² at t = 0, at the best time, at t = ∞",
             f"{data.validation_loss[0]:.3g}, {data.loss:.3g}, {last:.3g}"),
        below("validation loss at the best time over that at t = ∞", 0.9, data.loss / last, "< 1"),
    ]  # fmt: skip
    exact = np.exp(-data.t * data.eigenvalues)
    lines.append(
        near(
            "what remains of component i, minus exp(-tλ_i): largest absolute value",
            0,
            np.abs(data.remaining - exact).max(),
            1e-6,
        )
    )
    first = 1 - data.remaining
    text = f"{first[0]:.3f}, {first[len(first) // 10]:.3f}, {first[len(first) // 2]:.3f}, {first[-1]:.3f}"
    lines.append(reported("share of components 1, N/10, N/2, N learned at the best time", text, "falls with λ"))
    return lines


def caption(data: Stopping) -> str:
    return (
        f"Training of an infinitely wide network on {len(data.eigenvalues)} labels of f*(x) = x1 + x2 x3, x from "
        f"N(0, 1), with noise of standard deviation {data.noise_std:g}. Left: the losses (validation labels have no "
        "noise). Right: how much of each component is learned at the best time to stop."
    )


EXPERIMENT = Experiment(
    name="early_stopping",
    figure="theory",
    title="Section 5: early stopping",
    result=Stopping,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"n": 1000, "n_validation": 4000},
    network=PAPER,
)
