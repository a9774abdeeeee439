"""Figure 2 of the paper: trained networks on the circle beside the limit Gaussian at t = ∞."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from ntkfast.experiments.figures import COLOURS, legend_above, new_figure
from ntkfast.experiments.running import (
    NO_PARTS,
    below,
    blas_threads,
    circle,
    near,
    network,
    relu_network,
    told,
    trained,
    working,
)
from ntkfast.kernels import kernels
from ntkfast.kernels.empirical import empirical_nngp, empirical_ntk
from ntkfast.learning import LeastSquaresFlow

__all__ = ["Figure2", "findings", "plot", "run"]

FULL = {"wide": 10000}
DEPTH, STEPS, GRID = 4, 1000, 101
LEVELS = (10, 50, 90)


@dataclass(frozen=True)
class Figure2:
    """What `run` finds; W widths, S networks of each, G angles, 4 training points.

    Attributes
    ----------
    widths : ndarray, shape (W,)
    gamma : ndarray, shape (G,)
        Angles in [-π, π].
    outputs : ndarray, shape (W, S, G)
        f_θ(T) after T = 1000 steps.
    data_gamma, targets : ndarray, shape (4,)
        Angles of the training points, and f* there.
    errors : ndarray, shape (W, S, 4)
        f_θ(T) - f* there.
    percentiles : ndarray, shape (3, G)
        The 10th, 50th and 90th of the limit Gaussian at t = ∞.
    wide : int
        Width of the network that stands for the limit, as in the paper.
    wide_percentiles : ndarray, shape (3, G)
        The same from the kernels of that network.
    """

    widths: np.ndarray
    gamma: np.ndarray
    outputs: np.ndarray
    data_gamma: np.ndarray
    targets: np.ndarray
    errors: np.ndarray
    percentiles: np.ndarray
    wide: int
    wide_percentiles: np.ndarray


def run(
    widths=(50, 1000),
    n_seeds=10,
    wide=4000,
    data_gamma=(-1.6, -0.5, 0.6, 2.0),
    targets=None,
    steps=STEPS,
    *,
    seed=0,
    parts=NO_PARTS,
    progress=None,
) -> Figure2:
    """Networks of depth 4 trained on 4 points of the circle, learning rate 1, and the Gaussian of infinite width.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width.
    wide : int
        Width of the network whose kernels stand for the limit, beside the exact ones; the paper has 10000.
    data_gamma : sequence of float
        Angles of the training points; the paper does not give them.
    targets : sequence of float, optional
        f* there; default: x1 x2, as in figure 1 (the paper does not give it).
    steps : int
    seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Figure2

    Examples
    --------
    >>> from ntkfast.experiments import fig2
    >>> data = fig2.run(widths=(10, 20), n_seeds=2, wide=50, steps=3)
    >>> data.outputs.shape
    (2, 2, 101)
    """
    net = relu_network(DEPTH)
    gamma = np.linspace(-np.pi, np.pi, GRID)
    points, X = circle(gamma), circle(np.asarray(data_gamma))
    y = X[:, 0] * X[:, 1] if targets is None else np.asarray(targets, dtype=float)
    every = np.concatenate([X, points])

    def wide_kernels():
        f = network(net, 2, wide, seed, 0)
        with blas_threads(wide):
            return {"ntk": empirical_ntk(f, every, progress=False), "nngp": empirical_nngp(f, every, progress=False)}

    outputs = np.empty((len(widths), n_seeds, GRID))
    errors = np.empty((len(widths), n_seeds, len(X)))

    def observe(f):
        return {"f": f(points)[:, 0], "error": f(X)[:, 0] - y}

    costs = [n_seeds * steps * (width**2 + 10000) for width in widths]  # a step of a small network costs calls
    with working(progress, "figure 2", sum(costs) + 40 * wide**2) as work:
        for i, (width, cost) in enumerate(zip(widths, costs, strict=True)):
            for k in range(n_seeds):
                seen = trained(
                    network(net, 2, width, seed, k), X, y, (steps,), observe, parts=parts,
                    name=f"n{width}-{k}", report=work.part(cost / n_seeds),
                )  # fmt: skip
                outputs[i, k], errors[i, k] = seen["f"][0], seen["error"][0]
        found = parts.get("wide", wide_kernels)
    return Figure2(
        np.array(widths), gamma, outputs, np.asarray(data_gamma, dtype=float), y, errors,
        _limit(*kernels(net, every, progress=False), y), wide,
        _limit(found["nngp"].astype(float), found["ntk"].astype(float), y),
    )  # fmt: skip


def _limit(nngp, ntk, y):
    """Percentiles at t = ∞ from the kernels on the training points and, after them, the grid."""
    n = len(y)
    flow = LeastSquaresFlow(ntk[:n, :n], y, nngp[:n, :n])
    return flow.percentiles(np.inf, LEVELS, ntk[n:, :n], nngp[n:, :n], nngp.diagonal()[n:])


def plot(data: Figure2):
    """Every network's function against γ, and the percentiles of both limits. Returns a matplotlib Figure."""
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
        ax.plot(data.data_gamma, data.targets, "o", color="black", markersize=6, label="training points", zorder=4)
        ax.set(xlim=(-np.pi, np.pi), xlabel=r"$\gamma$", title=f"$n = {width}$")
    axes[0].set_ylabel(r"$f_\theta(\cos\gamma, \sin\gamma)$")
    legend_above(figure, axes[0], 2)
    return figure


def findings(data: Figure2):
    """The numbers of the figure: a list of Finding."""
    lines = []
    low, mean, high = data.percentiles
    deviation = (high - low) / (ndtri(LEVELS[2] / 100) - ndtri(LEVELS[0] / 100))
    seen = deviation > 0.1 * deviation.max()  # away from the training points, where all is 0
    n_seeds = data.outputs.shape[1]
    for width, outputs, errors in zip(data.widths, data.outputs, data.errors, strict=True):
        z = (outputs[:, seen] - mean[seen]) / deviation[seen]
        for level in LEVELS:
            quantile = ndtri(level / 100)
            # of the empirical quantile of independent samples: √(p(1-p)/S)/φ(z_p)
            error = np.sqrt(level / 100 * (1 - level / 100) / n_seeds) / norm.pdf(quantile)
            apart = np.quantile(z, level / 100, axis=0, method="normal_unbiased") - quantile
            lines.append(
                below(
                    f"n = {width}: {level}th percentile of {n_seeds} networks minus the limit's, in sampling errors "
                    "(root mean square over γ)",
                    2.5,
                    np.sqrt(np.mean(apart**2)) / error,
                    "about 1",
                )
            )
        inside = (np.abs(z) < ndtri(0.9)).mean(axis=1)
        error = inside.std(ddof=1) / np.sqrt(n_seeds)
        lines.append(
            near(f"n = {width}: share of the curves between the limit's 10th and 90th", 0.8, inside.mean(), 3 * error)
        )
        spread = np.sqrt(np.mean(z**2))
        what = f"n = {width}: spread around the limit's mean over the limit's"
        # its sampling error is about 0.1 for 10 networks; narrow networks are wider spread
        lines.append(near(what, 1, spread, 0.3) if width == data.widths.max() else told(what, spread, "→ 1"))
        lines.append(below(f"n = {width}: largest |f - f*| on the training points", 0.02, np.abs(errors).max(), "0"))
    for level, apart in zip(LEVELS, data.wide_percentiles - data.percentiles, strict=True):
        lines.append(
            below(
                f"limit's {level}th percentile by a network of n = {data.wide} and exact: largest difference",
                5 / np.sqrt(data.wide),
                np.abs(apart).max(),
                "O(1/√n)",
            )
        )
    return lines


def caption(data: Figure2):
    return (
        f"{data.outputs.shape[1]} networks of each width n = {', '.join(map(str, data.widths))} after {STEPS} steps "
        "on 4 points of the circle, f*(x) = x1 x2 (the paper does not give points and f*), and the percentiles of the "
        f"limit Gaussian, from the exact kernels and from a network of width {data.wide} (10000 in the paper)."
    )
