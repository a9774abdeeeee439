"""Figure 1 of the paper: the empirical tangent kernel on the circle, before and after training, for two widths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.experiments.figures import COLOURS, new_figure, outside_legend
from ntkfast.experiments.running import Parts, circle, near, network, power_law, relu_network, told, trained, working
from ntkfast.kernels import ntk
from ntkfast.kernels.empirical import empirical_ntk

__all__ = ["Figure1", "findings", "plot", "run"]

QUICK = {"widths": (500, 2000), "n_seeds": 8, "n_train": 40}
FULL = {"widths": (500, 10000), "n_seeds": 10, "n_train": 100}
DEPTH, STEPS, GRID = 4, 200, 101


@dataclass(frozen=True)
class Figure1:
    """What `run` finds; W widths, S networks of each, G angles, times 0 and 200.

    Attributes
    ----------
    widths : ndarray, shape (W,)
    gamma : ndarray, shape (G,)
        Angles in [-π, π]; the one in the middle is 0.
    limit : ndarray, shape (G,)
        Θ⁴(x0, x) of infinite width.
    kernels : ndarray, shape (W, S, 2, G)
        Θ̂⁴(x0, x) at t = 0 and t = 200.
    traces : ndarray, shape (W, S, 2)
        Mean of Θ̂⁴(x, x) over the circle.
    n_train : int
        Number of random inputs the networks were trained on.
    """

    widths: np.ndarray
    gamma: np.ndarray
    limit: np.ndarray
    kernels: np.ndarray
    traces: np.ndarray
    n_train: int

    @property
    def inflation(self):
        """tr Θ̂ at t = 200 over that at t = 0, (W, S)."""
        return self.traces[:, :, 1] / self.traces[:, :, 0]

    @property
    def variance(self):
        """The share of each network in the variance of Θ̂(x0, ·), the mean over the circle, (W, S, 2)."""
        n_seeds = self.kernels.shape[1]
        squares = np.square(self.kernels - self.kernels.mean(axis=1, keepdims=True)).mean(axis=3)
        return squares * n_seeds / (n_seeds - 1)


def run(widths=(500, 2000), n_seeds=8, n_train=40, steps=STEPS, *, seed=0, parts=None, progress=None) -> Figure1:
    """Networks of depth 4 trained on f*(x) = x1 x2 at inputs from N(0, 1), learning rate 1.

    Parameters
    ----------
    widths : sequence of int
    n_seeds : int
        Networks of each width, at least 2.
    n_train : int
        Number of inputs; the paper does not give it.
    steps : int
        Of training; 200 in the paper.
    seed : int
    parts : Parts, optional
        Where to keep networks that are done.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.

    Returns
    -------
    Figure1

    Examples
    --------
    >>> from ntkfast.experiments import fig1
    >>> data = fig1.run(widths=(20, 40), n_seeds=2, n_train=5, steps=3)
    >>> data.kernels.shape
    (2, 2, 2, 101)
    """
    parts = Parts() if parts is None else parts
    net = relu_network(DEPTH)
    gamma = np.linspace(-np.pi, np.pi, GRID)
    points, middle = circle(gamma), GRID // 2
    X = np.random.default_rng([seed, 1]).standard_normal((n_train, 2))
    y = X[:, 0] * X[:, 1]

    def observe(f):
        K = empirical_ntk(f, points, progress=False)
        return {"kernel": K[middle], "trace": np.trace(K) / GRID}

    kernels = np.empty((len(widths), n_seeds, 2, GRID))
    traces = np.empty((len(widths), n_seeds, 2))
    with working(progress, "figure 1", n_seeds * sum(width**2 for width in widths)) as work:
        for (i, width), k in ((pair, k) for pair in enumerate(widths) for k in range(n_seeds)):
            f = network(net, 2, width, seed, k)
            seen = trained(
                f, X, y, (0, steps), observe, parts=parts, name=f"n{width}-{k}", report=work.part(width**2)
            )
            kernels[i, k], traces[i, k] = seen["kernel"], seen["trace"]
    limit = ntk(net, points[middle : middle + 1], points, progress=False)[0]
    limit[middle] = ntk(net, points[middle : middle + 1], progress=False)[0, 0]  # on the cusp: by the exact diagonal
    return Figure1(np.array(widths), gamma, limit, kernels, traces, n_train)


def plot(data: Figure1):
    """Every network's Θ̂⁴(x0, x) against γ, at both times, and the limit. Returns a matplotlib Figure."""
    figure = new_figure(7.5, 5.2)
    ax = figure.subplots()
    colours = iter(COLOURS)
    for i, width in enumerate(data.widths):
        for j, t in enumerate((0, STEPS)):
            colour = next(colours)
            for k, curve in enumerate(data.kernels[i, :, j]):
                label = f"$n = {width}$, $t = {t}$" if k == 0 else None
                ax.plot(data.gamma, curve, color=colour, linewidth=0.9, alpha=0.6, label=label, linestyle="--" if j == 0 else "-")
    ax.plot(data.gamma, data.limit, color="black", linewidth=2, label=r"$n = \infty$")
    ax.set(xlim=(-np.pi, np.pi), ylim=(0.05, 0.40), xlabel=r"$\gamma$")
    ax.set(ylabel=r"$\Theta^{(4)}(x_0, x)$,  $x = (\cos\gamma, \sin\gamma)$")
    outside_legend(ax, ncols=3)
    return figure


def findings(data: Figure1):
    """The numbers of the figure beside the theory's: a list of Finding."""
    middle = len(data.gamma) // 2
    lines = [near("Θ⁴(x0, x0), limit kernel at γ = 0", 0.2825, data.limit[middle], 1e-12)]
    n_seeds = data.kernels.shape[1]
    for width, kernels, inflation in zip(data.widths, data.kernels, data.inflation, strict=True):
        at_start = kernels[:, 0, middle]
        spread = at_start.std(ddof=1)
        tolerance = 3 * spread / np.sqrt(n_seeds) + 1 / width
        lines += [
            near(f"n = {width}: mean of Θ̂⁴(x0, x0) at t = 0", data.limit[middle], at_start.mean(), tolerance),
            told(f"n = {width}: standard deviation of Θ̂⁴(x0, x0) at t = 0", spread),
            told(f"n = {width}: mean of Θ̂⁴(x0, x0) at t = {STEPS}", kernels[:, 1, middle].mean()),
            told(f"n = {width}: standard deviation of Θ̂⁴(x0, x0) at t = {STEPS}", kernels[:, 1, middle].std(ddof=1)),
            told(
                f"n = {width}: inflation, tr Θ̂ at t = {STEPS} over t = 0",
                f"{inflation.mean():.4f} (standard deviation {inflation.std(ddof=1):.4f})",
                "> 1, more for narrow networks",
            ),
        ]
    means, errors = data.kernels[:, :, 0].mean(axis=1), data.kernels[:, :, 0].std(axis=1, ddof=1) / np.sqrt(n_seeds)
    apart = np.abs(means[0] - means[-1]) / np.hypot(errors[0], errors[-1])
    lines.append(near("means of both widths at t = 0: distance in standard errors, over the circle", 0, apart.mean(), 3))
    # of order 1/n: the variance of an average over n units, and the drift of the kernel (the bound of Theorem 2 is 1/√n)
    for what, samples in (
        ("variance at t = 0", data.variance[:, :, 0]),
        ("inflation - 1", data.inflation - 1),
    ):
        if samples.mean(axis=1).min() <= 0:
            continue
        slope, error = power_law(data.widths, samples)
        lines.append(near(f"{what} ∝ n^s: s", -1, slope, 3 * error + 0.1))
    return lines


def caption(data: Figure1):
    return (
        f"Θ̂⁴(x0, x) of {data.kernels.shape[1]} networks of each width n = {', '.join(map(str, data.widths))}, before "
        f"and after {STEPS} steps on f*(x) = x1 x2 at {data.n_train} inputs from N(0, 1); the paper has "
        "n = 500 and 10000, 10 networks of each, and does not give the number of inputs."
    )
