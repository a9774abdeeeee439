"""Figure 2 of the paper: trained networks on the circle and the limit Gaussian at t = ∞."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, legend_above, new_figure
from ntkfast.experiments.networks import check_widths, circle, described, network, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.training import trained
from ntkfast.experiments.verdicts import SQUARES, Finding, below, mean_near, reported, within
from ntkfast.experiments.work import Progress, working
from ntkfast.finite.empirical import empirical_nngp, empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.infinite.corrections import FiniteWidth, where_known
from ntkfast.infinite.kernels import kernels
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.networks import Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Figure2", "caption", "findings", "plot", "run"]

PAPER = relu_network(4)
GRID, DRAWS = 101, 4000
LEVELS = (10, 50, 90)
ORDER_TWO = 20.0  # allowance for terms of order 1/n²: this over n, relative to those of order 1/n


@dataclass(frozen=True)
class Figure2:
    """The result of `run`: W widths, S networks of each, G angles, 4 training points.

    Attributes
    ----------
    net : Network
    steps : int
        T, the number of training steps.
    widths : ndarray, shape (W,)
    gamma : ndarray, shape (G,)
        Angles in [-π, π].
    outputs : ndarray, shape (W, S, G)
        f_θ(T) after T steps.
    data_gamma, targets : ndarray, shape (4,)
        Angles of the training points, and f* there.
    errors : ndarray, shape (W, S, 4)
        f_θ(T) - f* there.
    initial : ndarray, shape (W, I, 2, 4, 4)
        Θ̂ and Σ̂ there at t = 0, of I networks of each width.
    percentiles : ndarray, shape (3, G)
        The 10th, 50th and 90th percentile of the limit Gaussian at t = ∞.
    covariance : ndarray, shape (G, G)
        Its covariance.
    wide : int
        Width of the network that represents the limit, as in the paper.
    wide_percentiles : ndarray, shape (3, G)
        The same from the kernels of that network.
    """

    net: Network
    steps: int
    widths: np.ndarray
    gamma: np.ndarray
    outputs: np.ndarray
    data_gamma: np.ndarray
    targets: np.ndarray
    errors: np.ndarray
    initial: np.ndarray
    percentiles: np.ndarray
    covariance: np.ndarray
    wide: int
    wide_percentiles: np.ndarray

    __repr__ = short

    def kernels_of(self, width: int) -> FiniteWidth | None:
        """Both kernels at t = 0 on the training points followed by the grid, to order 1/n; None if they are unknown."""
        every = np.concatenate([circle(self.data_gamma), circle(self.gamma)])
        return where_known(self.net, every, width=width)

    def percentiles_of(self, width: int) -> np.ndarray | None:
        """The percentiles of the Gaussian whose kernels are the mean ones of this width at t = 0, to order 1/n, (3, G).

        None if these are unknown, or not positive definite.
        """
        theory = self.kernels_of(width)
        try:
            return None if theory is None else _limit(theory.nngp_mean, theory.ntk_mean, self.targets)[0]
        except ValueError:
            return None


def run(
    widths: Sequence[int] = (50, 1000),
    n_seeds: int = 10,
    n_initial: int = 100,
    wide: int = 4000,
    data_gamma: ArrayLike = (-1.6, -0.5, 0.6, 2.0),
    targets: ArrayLike | None = None,
    steps: int = 1000,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Figure2:
    """Networks trained on a few points of the circle with learning rate 1, and the Gaussian of infinite width.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width.
    n_initial : int
        Networks of each width whose kernels are observed at initialisation.
    wide : int
        Width of the network whose kernels represent the limit, alongside the exact ones; 10000 in the paper.
    data_gamma : sequence of float
        Angles of the training points; the paper does not give them.
    targets : sequence of float, optional
        f* there. Default: x1 x2, as in figure 1 (the paper does not give it).
    steps : int
        Number of training steps; 1000 in the paper.
    net, seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Figure2

    Examples
    --------
    >>> from ntkfast.experiments import fig2
    >>> data = fig2.run(widths=(10, 20), n_seeds=2, n_initial=2, wide=50, steps=3)
    >>> data.outputs.shape
    (2, 2, 101)
    """
    widths, n_seeds = check_widths(widths), positive_integer(n_seeds, "n_seeds")
    n_initial = positive_integer(n_initial, "n_initial")
    gamma = np.linspace(-np.pi, np.pi, GRID)
    points, X = circle(gamma), circle(np.asarray(data_gamma))
    y = X[:, 0] * X[:, 1] if targets is None else np.asarray(targets, dtype=float)
    every = np.concatenate([X, points])

    def wide_kernels() -> Values:
        f = network(net, 2, wide, seed, 0)
        with blas_threads(wide, len(every)):
            return {"ntk": empirical_ntk(f, every, progress=False), "nngp": empirical_nngp(f, every, progress=False)}

    def initially(width: int) -> Values:
        with blas_threads(width, len(X)):
            networks = [network(net, 2, width, seed, k) for k in range(n_initial)]
            each = [[kernel(f, X, progress=False) for kernel in (empirical_ntk, empirical_nngp)] for f in networks]
        return {"kernels": np.array(each, dtype=float)}

    outputs = np.empty((len(widths), n_seeds, GRID))
    initial = np.empty((len(widths), n_initial, 2, len(X), len(X)))
    errors = np.empty((len(widths), n_seeds, len(X)))

    def observe(f: FiniteNetwork) -> Values:
        return {"f": f(points)[:, 0], "error": f(X)[:, 0] - y}

    # the cost of a step of a small network is mostly call overhead
    costs = [n_seeds * steps * (width**2 + 10000) for width in widths]
    starting = [4 * n_initial * (width**2 + 10000) for width in widths]
    with working(progress, "figure 2", sum(costs) + sum(starting) + 40 * wide**2) as work:
        for i, (width, cost) in enumerate(zip(widths, costs, strict=True)):
            for k in range(n_seeds):
                seen = trained(
                    network(net, 2, width, seed, k), X, y, (steps,), observe, parts=parts,
                    name=f"n{width}-{k}", report=work.part(cost / n_seeds),
                )  # fmt: skip
                outputs[i, k], errors[i, k] = seen["f"][0], seen["error"][0]
            report = work.part(starting[i])
            initial[i] = parts.get(f"start-n{width}", functools.partial(initially, width))["kernels"]
            report(1, 1)
        found = parts.get("wide", wide_kernels)
    exact = kernels(net, every, progress=False)
    percentiles, covariance = _limit(exact.nngp, exact.ntk, y)
    wide_percentiles, _ = _limit(found["nngp"].astype(float), found["ntk"].astype(float), y)
    return Figure2(
        net, steps, np.array(widths), gamma, outputs, np.asarray(data_gamma, dtype=float), y, errors, initial,
        percentiles, covariance, wide, wide_percentiles,
    )  # fmt: skip


def _limit(nngp: np.ndarray, ntk: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles and covariance at t = ∞ from the kernels on the training points followed by the grid."""
    n = len(y)
    flow = LeastSquaresFlow(ntk[:n, :n], y, nngp_xx=nngp[:n, :n])
    cross = {"ntk_tx": ntk[n:, :n], "nngp_tx": nngp[n:, :n]}
    return (
        flow.percentiles(np.inf, levels=LEVELS, **cross, nngp_t=nngp.diagonal()[n:]),
        flow.covariance(np.inf, **cross, nngp_tt=nngp[n:, n:]),
    )


def plot(data: Figure2) -> Figure:
    """Every network's function against γ, and the percentiles of both limits."""
    figure = new_figure(4.8 * len(data.widths), 5)
    axes = np.atleast_1d(figure.subplots(1, len(data.widths), sharey=True))
    limits = {
        "$n = \\infty$": (data.percentiles, "black", "-"),
        f"by a network of $n = {data.wide}$": (data.wide_percentiles, COLOURS[1], "--"),
    }
    for ax, width, outputs in zip(axes, data.widths, data.outputs, strict=True):
        for k, curve in enumerate(outputs):
            ax.plot(data.gamma, curve, color=COLOURS[5], linewidth=1, label=None if k else "trained networks")
        for name, (percentiles, colour, style) in limits.items():
            for level, curve in zip(LEVELS, percentiles, strict=True):
                wide = 2 if level == 50 else 1.2
                label = f"10th, 50th, 90th percentile, {name}" if level == 50 else None
                ax.plot(data.gamma, curve, style, color=colour, linewidth=wide, label=label)
        if (percentiles := data.percentiles_of(int(width))) is not None:
            for level, curve in zip(LEVELS, percentiles, strict=True):
                label = "the same from the mean kernels at this $n$, to order $1/n$" if level == 50 else None
                ax.plot(data.gamma, curve, ":", color=COLOURS[2], linewidth=1.8, label=label)
        ax.plot(data.data_gamma, data.targets, "o", color="black", markersize=6, label="training points", zorder=4)
        ax.set(xlim=(-np.pi, np.pi), xlabel=r"$\gamma$", title=f"$n = {width}$")
    axes[0].set_ylabel(r"$f_\theta(\cos\gamma, \sin\gamma)$")
    legend_above(figure, axes[0], 2)
    return figure


def compared(outputs: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of networks, shape (..., S, G), compared with the limit: what `findings` judges.

    Returns
    -------
    dict of str: ndarray, shape (...)
    """
    z = (outputs - mean) / deviation
    found = {}
    for level in LEVELS:
        apart = np.quantile(z, level / 100, axis=-2, method="normal_unbiased") - ndtri(level / 100)
        name = f"{level}th percentile of the networks minus the limit's, in its standard deviations (RMS over γ)"
        found[name] = np.sqrt(np.mean(apart**2, axis=-1))
    found["share of the curves between the limit's 10th and 90th percentile"] = (np.abs(z) < ndtri(0.9)).mean(
        axis=(-2, -1)
    )
    found["spread about the limit's mean, over the limit's own"] = np.sqrt(np.mean(z**2, axis=(-2, -1)))
    return found


def findings(data: Figure2) -> list[Finding]:
    """The numbers of the figure.

    The widest networks are judged against DRAWS random draws of as many functions from the limit Gaussian.
    """
    lines = []
    mean, deviation = data.percentiles[1], np.sqrt(data.covariance.diagonal().clip(0))
    seen = deviation > 0.1 * deviation.max()  # away from the training points, where it is 0
    shape = DRAWS, data.outputs.shape[1]
    draws = np.random.default_rng(0).multivariate_normal(
        mean[seen], data.covariance[np.ix_(seen, seen)], shape, check_valid="ignore", method="eigh"
    )
    expected = compared(draws, mean[seen], deviation[seen])
    for width, outputs, errors in zip(data.widths, data.outputs, data.errors, strict=True):
        for what, values in compared(outputs[:, seen], mean[seen], deviation[seen]).items():
            value = float(values)
            low, usual, high = np.quantile(expected[what], (0.001, 0.5, 0.999))
            if width == data.widths.max():
                lines.append(within(f"n = {width}: {what}", low, high, value, f"{usual:.2f}"))
            else:
                lines.append(reported(f"n = {width}: {what}", value, f"→ {usual:.2f}"))
        lines.append(below(f"n = {width}: largest |f - f*| on the training points", 1e-3, np.abs(errors).max(), "0"))
    lines += _against_theory(data)
    for level, apart in zip(LEVELS, data.wide_percentiles - data.percentiles, strict=True):
        lines.append(
            below(  # 32 seeds gave 1/√n to 2.5/√n
                f"limit's {level}th percentile, exact and from a network of width {data.wide}: largest difference",
                4 / np.sqrt(data.wide),
                np.abs(apart).max(),
                "O(1/√n)",
            )
        )
    return lines


def _against_theory(data: Figure2) -> list[Finding]:
    """The kernels on the training points at t = 0 against their mean and standard deviation to order 1/n."""
    lines, n = [], len(data.targets)
    for width, samples in zip(data.widths, data.initial, strict=True):
        theory = data.kernels_of(int(width))
        if theory is None:
            continue
        what = f"n = {width}, {len(samples)} networks at t = 0"
        for name, values, mean, std in (
            ("Θ̂", samples[:, 0], theory.ntk_mean, theory.ntk_std),
            ("Σ̂", samples[:, 1], theory.nngp_mean, theory.nngp_std),
        ):
            z = (values - mean[:n, :n]) / std[:n, :n]
            higher = ORDER_TWO / width
            deviation = f"{name} on the training points minus theory's mean, in theory's standard deviations"
            lines += [
                mean_near(f"{what}: {deviation}", 0.0, z.mean(axis=(1, 2)), higher / np.sqrt(width)),
                mean_near(f"{what}: the square of that, {name}", 1.0, np.square(z).mean(axis=(1, 2)), higher, SQUARES),
            ]
        if (percentiles := data.percentiles_of(int(width))) is not None:
            apart = np.abs(percentiles - data.percentiles).max()
            shift = f"n = {width}: largest shift of a percentile by the mean kernels at t = 0"
            lines.append(reported(shift, apart, "→ 0"))
    return lines


def caption(data: Figure2) -> str:
    x1, x2 = np.cos(data.data_gamma), np.sin(data.data_gamma)
    target = ", f*(x) = x1 x2" if np.allclose(data.targets, x1 * x2) else ""
    widths = ", ".join(map(str, data.widths))
    return (
        f"{data.outputs.shape[1]} networks of each width n = {widths}, {described(data.net)}, after "
        f"{data.steps} steps on {len(data.targets)} points of the circle{target}, and the percentiles of the "
        f"limit Gaussian, from the exact kernels and from a network of width {data.wide}. Networks are compared with "
        "it by unbiased quantiles, where its standard deviation is more than a tenth of the largest. Dotted: the "
        "Gaussian of the mean kernels of this width at t = 0, to order 1/n; it has neither the scatter of the kernels "
        "from network to network, nor their change in training, both of order 1/n too (docs/beyond.md). The paper has "
        "1000 steps on 4 points and a network of width 10000, and gives neither the points nor f*."
    )


EXPERIMENT = Experiment(
    name="fig2",
    figure="fig2",
    title="Figure 2: kernel regression",
    result=Figure2,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"wide": 10000},
    network=PAPER,
    resumable=True,
)
