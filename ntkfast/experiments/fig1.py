"""Figure 1 of the paper: the empirical tangent kernel on the circle, before and after training, at two widths."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, legend_above, new_figure
from ntkfast.experiments.networks import check_widths, circle, described, network, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.training import trained
from ntkfast.experiments.verdicts import Finding, below, exponent, near, power_law, reported
from ntkfast.experiments.work import Progress, working
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.infinite.corrections import FiniteWidth, where_known
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Figure1", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)
GRID = 101


@dataclass(frozen=True)
class Figure1:
    """The result of `run`: W widths, S trained networks of each, I at initialisation, G angles, times 0 and T.

    Attributes
    ----------
    net : Network
    steps : int
        T, the number of training steps.
    widths : ndarray, shape (W,)
    gamma : ndarray, shape (G,)
        Angles in [-π, π]; the middle one is 0.
    limit : ndarray, shape (G,)
        Θ(x0, x) of infinite width.
    kernels : ndarray, shape (W, S, 2, G)
        Θ̂(x0, x) at t = 0 and t = T.
    initial : ndarray, shape (W, I, G)
        Θ̂(x0, x) at t = 0 of more networks, for the variance, about which 10 say little.
    traces : ndarray, shape (W, S, 2)
        Mean of Θ̂(x, x) over the circle.
    n_train : int
        Number of random training inputs.
    """

    net: Network
    steps: int
    widths: np.ndarray
    gamma: np.ndarray
    limit: np.ndarray
    kernels: np.ndarray
    initial: np.ndarray
    traces: np.ndarray
    n_train: int

    __repr__ = short

    @property
    def inflation(self) -> np.ndarray:
        """tr Θ̂ at t = T over that at t = 0, shape (W, S)."""
        return np.asarray(self.traces[:, :, 1] / self.traces[:, :, 0])

    @property
    def variance(self) -> np.ndarray:
        """Each network's contribution to the variance of Θ̂(x0, ·) at t = 0, averaged over the circle, shape (W, I)."""
        n = self.initial.shape[1]
        squares = np.square(self.initial - self.initial.mean(axis=1, keepdims=True)).mean(axis=2)
        return np.asarray(squares * n / (n - 1))

    def theory(self, width: int) -> FiniteWidth | None:
        """Mean and standard deviation of Θ̂(x0, ·) at t = 0 to order 1/n, shape (1, G); None if they are unknown."""
        points = circle(self.gamma)
        middle = len(points) // 2
        return where_known(self.net, points[middle : middle + 1], points, width=width, get=("ntk_mean", "ntk_std"))


def run(
    widths: Sequence[int] = (500, 1500),
    n_seeds: int = 5,
    n_initial: int = 48,
    n_train: int = 40,
    steps: int = 200,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Figure1:
    """Networks trained on f*(x) = x1 x2 at inputs from N(0, 1), learning rate 1.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Trained networks of each width, at least 2.
    n_initial : int
        Networks of each width observed at initialisation, at least 2.
    n_train : int
        Number of training inputs; the paper does not give it.
    steps : int
        Number of training steps; 200 in the paper.
    net : Network, optional
        The network whose finite versions are drawn. Default: the paper's, L = 4, ReLU, β = 0.1.
    seed : int
    parts : Parts, optional
        Where to keep finished networks, for this seed and these arguments only.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.

    Returns
    -------
    Figure1

    Examples
    --------
    >>> from ntkfast.experiments import fig1
    >>> data = fig1.run(widths=(20, 40), n_seeds=2, n_initial=2, n_train=5, steps=3)
    >>> data.kernels.shape
    (2, 2, 2, 101)
    """
    widths, n_seeds = check_widths(widths), positive_integer(n_seeds, "n_seeds")
    n_initial = positive_integer(n_initial, "n_initial")
    gamma = np.linspace(-np.pi, np.pi, GRID)
    points, middle = circle(gamma), GRID // 2
    X = np.random.default_rng([seed, 1]).standard_normal((n_train, 2))
    y = X[:, 0] * X[:, 1]

    def observe(f: FiniteNetwork) -> Values:
        K = empirical_ntk(f, points, progress=False)
        return {"kernel": K[middle], "trace": np.trace(K) / GRID}

    def initially(width: int, k: int) -> Values:
        with blas_threads(width, GRID):
            f = network(net, 2, width, seed, k)
            return {"kernel": empirical_ntk(f, points[middle : middle + 1], points, progress=False)[0]}

    kernels = np.empty((len(widths), n_seeds, 2, GRID))
    initial = np.empty((len(widths), n_initial, GRID))
    traces = np.empty((len(widths), n_seeds, 2))
    # a training step takes three passes over the inputs, a kernel two over the circle
    costs = np.array([3 * steps * n_train * n_seeds, 2 * GRID * n_initial])
    with working(progress, "figure 1", costs.sum() * np.square(widths).sum()) as work:
        for i, width in enumerate(widths):
            for k in range(n_seeds):
                seen = trained(
                    network(net, 2, width, seed, k), X, y, (0, steps), observe, parts=parts, name=f"n{width}-{k}",
                    report=work.part(costs[0] / n_seeds * width**2),
                )  # fmt: skip
                kernels[i, k], traces[i, k] = seen["kernel"], seen["trace"]
            for k in range(n_initial):
                report = work.part(costs[1] / n_initial * width**2)
                initial[i, k] = parts.get(f"start-n{width}-{k}", functools.partial(initially, width, k))["kernel"]
                report(1, 1)
    limit = ntk(net, points[middle : middle + 1], points, progress=False)[0]
    limit[middle] = ntk(net, points[middle : middle + 1], progress=False)[0, 0]  # at the cusp: from the exact diagonal
    return Figure1(net, steps, np.array(widths), gamma, limit, kernels, initial, traces, n_train)


def plot(data: Figure1) -> Figure:
    """Every network's Θ̂(x0, x) against γ, at both times, and the limit."""
    figure = new_figure(7.5, 5.2)
    ax = figure.subplots()
    for width, kernels, colour in zip(data.widths, data.kernels, itertools.cycle(COLOURS), strict=False):
        for t, style, curves in zip((0, data.steps), ("--", "-"), kernels.transpose(1, 0, 2), strict=True):
            line: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 0.9, "alpha": 0.6}
            ax.plot(data.gamma, curves[0], label=f"$n = {width}$, $t = {t}$", **line)
            ax.plot(data.gamma, curves[1:].T, **line)
        if (theory := data.theory(int(width))) is not None:
            low, high = theory.ntk_mean[0] - 2 * theory.ntk_std[0], theory.ntk_mean[0] + 2 * theory.ntk_std[0]
            label = f"$n = {width}$, $t = 0$: theory $\\pm 2$ std"
            ax.fill_between(data.gamma, low, high, color=colour, alpha=0.15, linewidth=0, label=label)
    ax.plot(data.gamma, data.limit, color="black", linewidth=2, label=r"$n = \infty$")
    # the paper's limits, if they suffice
    low, high = min(0.05, data.kernels.min() - 0.01), max(0.40, data.kernels.max() + 0.01)
    ax.set(xlim=(-np.pi, np.pi), ylim=(low, high), xlabel=r"$\gamma$")
    ax.set(ylabel=rf"$\Theta^{{({data.net.depth})}}(x_0, x)$,  $x = (\cos\gamma, \sin\gamma)$")
    legend_above(figure, ax, 3)
    return figure


def findings(data: Figure1) -> list[Finding]:
    """The numbers of the figure compared with theory."""
    middle, T = len(data.gamma) // 2, data.steps
    exact = data.limit[middle]
    what = "Θ(x0, x0), limit kernel at γ = 0"
    lines = [near(what, 0.2825, exact, 1e-12) if data.net == PAPER else reported(what, exact)]
    for width, kernels, at_start, inflation in zip(
        data.widths, data.kernels, data.initial, data.inflation, strict=True
    ):
        mean, spread = at_start.mean(axis=0), at_start.std(axis=0, ddof=1)
        tolerance = spread / np.sqrt(len(at_start)) + exact / width  # the mean has a bias of O(1/n)
        many, few = f"n = {width}, {len(at_start)} networks at t = 0", f"n = {width}, {len(kernels)} trained networks"
        lines += [
            near(f"{many}: mean of Θ̂(x0, x0)", exact, mean[middle], 3 * tolerance[middle]),
            # 48 networks exceed it by chance once in 20000 times at one angle; few of the 101 angles are independent
            below(
                f"{many}: mean of Θ̂(x0, ·) minus Θ, largest over the circle, in standard errors",
                4.5,
                np.max(np.abs(mean - data.limit) / tolerance),
                "about 1",
            ),
            *_against_theory(data, int(width), at_start, many),
        ]
        for t, values in ((0, kernels[:, 0, middle]), (T, kernels[:, 1, middle])):
            found = f"{values.mean():.4g}, {values.std(ddof=1):.4g}"
            lines.append(reported(f"{few}: mean and standard deviation of Θ̂(x0, x0) at t = {t}", found))
        lines.append(
            reported(
                f"{few}: inflation, tr Θ̂ at t = {T} over t = 0",
                f"{inflation.mean():.4f} (standard deviation {inflation.std(ddof=1):.4f})",
                "> 1, more for narrow networks",
            )
        )
    # all of order 1/n: variances of averages over n units, and a drift for which Theorem 2 proves only O(1/√n)
    roughness = np.square(np.diff(data.initial - data.limit, 2, axis=2)).mean(axis=2)  # wider is smoother
    for what, samples in (
        ("variance of Θ̂(x0, ·) at t = 0", data.variance),
        ("roughness: square of second differences of Θ̂(x0, ·) - Θ at t = 0", roughness),
        ("inflation - 1", data.inflation - 1),
    ):
        lines.append(exponent(f"{what} ∝ n^s: s", -1, power_law(data.widths, samples)))
    return lines


def _against_theory(data, width, at_start, many):
    """Mean and standard deviation of Θ̂(x0, ·) at t = 0 compared with those to order 1/n."""
    theory, count, middle = data.theory(width), len(at_start), len(data.gamma) // 2
    spread = at_start[:, middle].std(ddof=1)
    if theory is None:
        return [reported(f"{many}: standard deviation of Θ̂(x0, x0)", spread)]
    mean, std = theory.ntk_mean[0], theory.ntk_std[0]
    if count < 20:  # a variance from fewer says little
        return [reported(f"{many}: standard deviation of Θ̂(x0, x0)", spread, f"{std[middle]:.4g}")]
    far = np.max(np.abs(at_start.mean(axis=0) - mean) / (std / np.sqrt(count) + mean[middle] / width**2))
    return [
        below(f"{many}: mean of Θ̂(x0, ·) against theory, largest z-score over the circle", 4.5, far, "about 1"),
        near(
            f"{many}: standard deviation of Θ̂(x0, x0) over theory",
            1.0,
            spread / std[middle],
            3.5 / np.sqrt(2 * count) + 20 / width,  # of a nearly normal variable, and the order 1/n²
        ),
    ]


def caption(data: Figure1) -> str:
    return (
        f"Θ̂(x0, x) of {data.kernels.shape[1]} networks of each width n = {', '.join(map(str, data.widths))}, "
        f"{described(data.net)}, before and after {data.steps} steps on f*(x) = x1 x2 at {data.n_train} inputs from "
        f"N(0, 1), the same for all; mean and variance at t = 0 are over {data.initial.shape[1]} networks, including "
        "these. The paper has n = 500 and 10000, 10 of each, 200 steps, and does not give the number of inputs."
    )


EXPERIMENT = Experiment(
    name="fig1",
    figure="fig1",
    title="Figure 1: convergence of the NTK",
    result=Figure1,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"widths": (500, 10000), "n_seeds": 10, "n_initial": 48, "n_train": 100},
    network=PAPER,
    resumable=True,
)
