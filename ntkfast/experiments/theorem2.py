"""Theorem 2 of the paper: in training, the tangent kernel of a wide network stays close to its initial value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, legend_above, name_widths, new_figure
from ntkfast.experiments.networks import check_widths, circle, described, network, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.training import trained
from ntkfast.experiments.verdicts import Finding, exponent, power_law, reported
from ntkfast.experiments.work import Progress, working
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.networks import Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Theorem2", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)
TIMES = 9


@dataclass(frozen=True)
class Theorem2:
    """The result of `run`: W widths, S networks of each, R times.

    Attributes
    ----------
    net : Network
    widths : ndarray, shape (W,)
    t : ndarray, shape (R,)
    drift : ndarray, shape (W, S, R)
        ‖Θ̂_t - Θ̂_0‖/‖Θ̂_0‖ in operator norm.
    movement : ndarray, shape (W, S)
        ‖θ_t - θ_0‖/‖θ_0‖ at the end, for all weights and biases together.
    """

    net: Network
    widths: np.ndarray
    t: np.ndarray
    drift: np.ndarray
    movement: np.ndarray

    __repr__ = short


def run(
    widths: Sequence[int] = (64, 128, 256, 512),
    n_seeds: int = 10,
    n: int = 20,
    time: int = 400,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Theorem2:
    """Networks trained on f*(x) = x1 x2 at n points of the circle with learning rate 1.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width, at least 2.
    n : int
        Number of points.
    time : int
        Number of steps.
    net, seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Theorem2

    Examples
    --------
    >>> from ntkfast.experiments import theorem2
    >>> theorem2.run(widths=(10, 20), n_seeds=2, n=4, time=8).drift.shape
    (2, 2, 9)
    """
    widths, n_seeds = check_widths(widths), positive_integer(n_seeds, "n_seeds")
    X = circle(2 * np.pi * np.arange(n) / n)
    y = X[:, 0] * X[:, 1]
    steps = np.round(np.linspace(0, time, TIMES)).astype(int)
    drift, movement = np.empty((len(widths), n_seeds, TIMES)), np.empty((len(widths), n_seeds))

    def observer(start: FiniteNetwork) -> Callable[[FiniteNetwork], Values]:
        size = _distance(start)

        def observe(f: FiniteNetwork) -> Values:
            return {"ntk": empirical_ntk(f, X, progress=False), "movement": _distance(f, start) / size}

        return observe

    with working(progress, "theorem 2", n_seeds * sum(width**2 + 10000 for width in widths)) as work:
        for i, k in np.ndindex(movement.shape):
            f = network(net, 2, widths[i], seed, k)
            seen = trained(
                f, X, y, steps, observer(f), parts=parts, name=f"n{widths[i]}-{k}",
                report=work.part(widths[i] ** 2 + 10000),
            )  # fmt: skip
            K = seen["ntk"].astype(float)
            drift[i, k] = np.linalg.norm(K - K[0], 2, axis=(1, 2)) / np.linalg.norm(K[0], 2)
            movement[i, k] = seen["movement"][-1]
    return Theorem2(net, np.array(widths), steps.astype(float), drift, movement)


def _distance(f: FiniteNetwork, other: FiniteNetwork | None = None) -> float:
    """‖θ - θ'‖ of two networks of the same shape, or ‖θ‖."""
    arrays = [array for array in (*f.weights, *f.biases) if array is not None]
    others = [0.0] * len(arrays) if other is None else [a for a in (*other.weights, *other.biases) if a is not None]
    return float(np.sqrt(sum(np.sum(np.square(a - b, dtype=float)) for a, b in zip(arrays, others, strict=True))))


def plot(data: Theorem2) -> Figure:
    """The drift against time, and its largest value against the width."""
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    for width, drift, colour in zip(data.widths, data.drift, cycle(COLOURS), strict=False):
        left.plot(data.t, drift.mean(axis=0), "o-", markersize=3, color=colour, label=f"$n = {width}$")
    left.set(xlabel="$t$", ylabel=r"$\|\hat\Theta_t - \hat\Theta_0\| \,/\, \|\hat\Theta_0\|$, mean over networks")
    left.set(xlim=(0, data.t[-1]), ylim=(0, None))
    largest = data.drift.max(axis=2)
    for k, values in enumerate(largest.T):
        right.loglog(data.widths, values, ".", color=COLOURS[0], alpha=0.6, label=None if k else "one network")
    slope, error, _ = power_law(data.widths, largest)
    mean = largest.mean(axis=1)
    centre = np.exp(np.log(mean).mean()) * (data.widths / np.exp(np.log(data.widths).mean())) ** slope
    right.loglog(data.widths, mean, "o", color=COLOURS[1], label="mean")
    right.loglog(data.widths, centre, "--", color="0.4", label=rf"slope ${slope:.2f} \pm {error:.2f}$")
    right.set(xlabel="width $n$", ylabel=r"$\sup_t \|\hat\Theta_t - \hat\Theta_0\| \,/\, \|\hat\Theta_0\|$")
    name_widths(right, data.widths)
    right.grid(True, which="major", alpha=0.3)
    right.legend()
    legend_above(figure, left, 7)
    return figure


def findings(data: Theorem2) -> list[Finding]:
    """The exponent of the drift, and how far the kernel and the parameters moved."""
    largest = data.drift.max(axis=2)
    # the proof bounds the drift by O(1/√n); for smooth σ and least squares it is known to be of order 1/n
    what = "sup_t ‖Θ̂_t - Θ̂_0‖ ∝ n^s: s (-1/2 or less in the appendix's proof, -1 to first order)"
    lines = [exponent(what, -1, power_law(data.widths, largest))]
    for width, values, moved in zip(data.widths, largest, data.movement, strict=True):
        lines.append(reported(f"n = {width}: sup_t ‖Θ̂_t - Θ̂_0‖/‖Θ̂_0‖, mean", values.mean(), "→ 0"))
        lines.append(reported(f"n = {width}: ‖θ_t - θ_0‖/‖θ_0‖, mean", moved.mean(), "→ 0"))
    # ‖θ_t - θ_0‖ = O(1) and ‖θ_0‖ = O(n)
    lines.append(exponent("‖θ_t - θ_0‖/‖θ_0‖ ∝ n^s: s", -1, power_law(data.widths, data.movement)))
    return lines


def caption(data: Theorem2) -> str:
    smooth = (
        " The theorem requires a twice differentiable σ with bounded second derivative; the paper's experiments, like "
        "these, use ReLU; `theorem2.run(net=...)` takes any network."
    )
    return (
        f"Drift of the tangent kernel in training, {described(data.net)}, f*(x) = x1 x2 on points of the circle, "
        f"{data.drift.shape[1]} networks of each width, to t = {data.t[-1]:g}." + (smooth if data.net == PAPER else "")
    )


EXPERIMENT = Experiment(
    name="theorem2",
    figure="theory",
    title="Theorem 2: the NTK during training",
    result=Theorem2,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"widths": (64, 128, 256, 512, 1024, 2048, 4096), "n_seeds": 20},
    network=PAPER,
    resumable=True,
)
