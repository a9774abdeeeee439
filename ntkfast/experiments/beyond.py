"""Beyond the paper: mean and variance of the tangent kernel of finite networks against the theory of order 1/n."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import name_widths, new_figure
from ntkfast.experiments.networks import check_widths, described
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.verdicts import Finding, near
from ntkfast.experiments.work import Progress, Report, working
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.infinite.corrections import FiniteWidth, finite_width
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP, Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Beyond", "caption", "findings", "plot", "run"]

CRITICAL = MLP(4, "relu", weight_std=2**0.5)
POINTS = np.array([[-0.98952293396, -0.59924918413], [-0.17877477490, 2.25368285179]])  # of a published check
ENTRIES = ((0, 0), (0, 1), (1, 1))
PUBLISHED = {20: (6.421, 6.035), 80: (1.344, 1.509)}  # width: shift of Θ̂(x, y) in %, by Monte Carlo and to first order
ORDER_TWO = 15.0  # allowance for terms of order 1/n²: this over n, relative to a term of order 1/n


@dataclass(frozen=True)
class Beyond:
    """What `run` finds.

    Attributes
    ----------
    net : Network
    widths : ndarray, shape (W,)
    samples : ndarray, shape (W, S, 3)
        Θ̂ of each network at (x, x), (x, y) and (y, y).
    shifts : ndarray, shape (2,)
        1 - E Θ̂(x, y)/Θ(x, y) to order 1/n in percent, at the widths of PUBLISHED.
    """

    net: Network
    widths: np.ndarray
    samples: np.ndarray
    shifts: np.ndarray

    __repr__ = short

    def theory(self, width: int) -> FiniteWidth:
        """Mean and standard deviation to order 1/n."""
        return finite_width(self.net, POINTS, width=width, get=("ntk_mean", "ntk_std"), progress=False)


def run(
    widths: Sequence[int] = (64, 128, 256),
    n_networks: int = 2000,
    *,
    net: Network = CRITICAL,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Beyond:
    """Θ̂ of random networks on two points.

    Parameters
    ----------
    widths : sequence of int
    n_networks : int
        Of each width.
    net, seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Beyond

    Examples
    --------
    >>> from ntkfast.experiments import beyond
    >>> beyond.run(widths=(10, 20), n_networks=3).samples.shape
    (2, 3, 3)
    """
    widths, n_networks = check_widths(widths), positive_integer(n_networks, "n_networks")

    def of_width(width: int, report: Report) -> Values:
        rng, found = np.random.default_rng([seed, width]), np.empty((n_networks, 3))
        with blas_threads(width, 2):
            for k in range(n_networks):
                kernel = empirical_ntk(FiniteNetwork.init(net, 2, width, rng=rng), POINTS, progress=False)
                found[k] = [kernel[entry] for entry in ENTRIES]
                report(k + 1, n_networks)
        return {"samples": found}

    samples = []
    with working(progress, "beyond", sum(width**2 + 10000 for width in widths)) as work:
        for width in widths:
            compute = functools.partial(of_width, width, work.part(width**2 + 10000))
            samples.append(parts.get(f"n{width}", compute)["samples"])
    limit = ntk(net, POINTS)
    means = [finite_width(net, POINTS, width=width, get="ntk_mean", progress=False) for width in PUBLISHED]
    shifts = [100 * (1 - mean / limit)[0, 1] for mean in means]
    return Beyond(net, np.array(widths), np.array(samples), np.array(shifts))


def plot(data: Beyond) -> Figure:
    """Standard deviation relative to the limit against the width, with theory's lines."""
    figure = new_figure(6, 4.5)
    ax = figure.subplots()
    limit = ntk(data.net, POINTS)
    theories = [data.theory(int(width)) for width in data.widths]
    for k, (entry, name) in enumerate(zip(ENTRIES, ("x, x", "x, y", "y, y"), strict=True)):
        measured = data.samples[:, :, k].std(axis=1, ddof=1) / limit[entry]
        ax.loglog(data.widths, measured, "o", color=f"C{k}", label=rf"$\hat\Theta({name})$, measured")
        line = [theory.ntk_std[entry] / limit[entry] for theory in theories]
        ax.loglog(data.widths, line, "-", color=f"C{k}", label="theory to order $1/n$")
    ax.set(xlabel="width $n$", ylabel="standard deviation over the limit")
    name_widths(ax, data.widths)
    ax.legend()
    return figure


def findings(data: Beyond) -> list[Finding]:
    """Means and variances against theory."""
    lines, limit = [], ntk(data.net, POINTS)
    if data.net == CRITICAL:
        for (width, (measured, first)), shift in zip(PUBLISHED.items(), data.shifts, strict=True):
            what = f"n = {width}: by how much of Θ(x, y) the mean of Θ̂(x, y) is below it, to order 1/n, in %"
            lines.append(near(f"{what}, against the published first order", first, shift, 6e-4))
            second = 100 * ORDER_TWO / width**2
            lines.append(near(f"{what}, against published Monte Carlo of all orders", measured, shift, second))
    for width, samples in zip(data.widths, data.samples, strict=True):
        theory, count = data.theory(int(width)), len(samples)
        for k, (entry, name) in enumerate(zip(ENTRIES, ("x, x", "x, y", "y, y"), strict=True)):
            mean, std = theory.ntk_mean[entry], theory.ntk_std[entry]
            error = 3.5 * std / np.sqrt(count) + ORDER_TWO * abs(limit[entry]) / width**2
            what = f"n = {width}, {count} networks"
            lines.append(near(f"{what}: mean of Θ̂({name})", mean, samples[:, k].mean(), error))
            squares = (samples[:, k] - samples[:, k].mean()) ** 2
            spread = 3.5 * squares.std() / (np.sqrt(count) * std**2) + ORDER_TWO / width
            lines.append(near(f"{what}: variance of Θ̂({name}) over theory", 1.0, squares.mean() / std**2, spread))
    return lines


def caption(data: Beyond) -> str:
    return (
        f"Tangent kernels of {data.samples.shape[1]} networks of each width at initialisation on two points, "
        f"{described(data.net)}, and mean and variance to order 1/n (docs/beyond.md)."
    )


EXPERIMENT = Experiment(
    name="beyond",
    figure="beyond",
    title="Beyond the limit: order 1/n",
    result=Beyond,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"widths": (64, 128, 256, 512), "n_networks": 20000},
    network=CRITICAL,
    resumable=True,
)
