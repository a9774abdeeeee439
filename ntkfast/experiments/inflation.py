"""Beyond the paper: how training inflates the tangent kernel of finite networks, against the theory of order 1/n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import name_widths, new_figure
from ntkfast.experiments.networks import check_widths, circle, described, network, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.training import trained
from ntkfast.experiments.verdicts import Finding, PowerLaw, exponent, near, reported
from ntkfast.experiments.work import Progress, working
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.infinite.in_training import MOST_POINTS, kernel_change
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP, Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Inflation", "caption", "findings", "plot", "run"]

SMOOTH = MLP(4, "erf", 1.0, 0.1)  # figure 1's network, but for the kink
KINKED = relu_network(4)
START = 0.3  # angle of the first point
ORDER_TWO = 15.0  # allowance for terms of order 1/n²: this over n, relative to the coefficient


@dataclass(frozen=True)
class Inflation:
    """What `run` finds, of S networks of `net` and as many with ReLU, each trained on y and on -y.

    Attributes
    ----------
    net : Network
    steps : int
    n_points : int
    widths : ndarray, shape (S,)
        Of each network, ascending.
    inflation : ndarray, shape (S,)
        (tr Θ̂ after training - tr Θ̂ before) / tr Θ, the mean over both signs of the targets.
    kinked : ndarray, shape (S,)
        The same of ReLU networks.
    predicted, predicted_error : float
        The coefficient of 1/n according to theory, and the standard error of its numerical integration.
    in_the_end : float
        This coefficient after infinitely many steps.
    """

    net: Network
    steps: int
    n_points: int
    widths: np.ndarray
    inflation: np.ndarray
    kinked: np.ndarray
    predicted: float
    predicted_error: float
    in_the_end: float

    __repr__ = short

    @property
    def coefficient(self) -> tuple[float, float]:
        """c of a fit of c/n + e/n² to the inflation of smooth networks, and its standard error."""
        return _fit(self.widths, self.inflation, -1.0)

    @property
    def root(self) -> tuple[float, float]:
        """r of a fit of r/√n + c/n to the inflation of ReLU networks, and its standard error."""
        return _fit(self.widths, self.kinked, 0.5)

    @property
    def z_score(self) -> float:
        """The measured coefficient minus the predicted one, over the standard error of the difference."""
        found, error = self.coefficient
        return (found - self.predicted) / math.hypot(error, self.predicted_error)


def _fit(widths: np.ndarray, values: np.ndarray, power: float) -> tuple[float, float]:
    """Least squares for n times the values, which scatters alike at all widths, by a constant and n^power: the leading
    coefficient and its standard error.
    """
    design = np.stack([np.ones(len(widths)), widths**power], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    fit = inverse @ design.T @ (widths * values)
    spread = np.sum((widths * values - design @ fit) ** 2) / (len(values) - 2)
    leading = int(power > 0)
    return float(fit[leading]), float(math.sqrt(spread * inverse[leading, leading]))


def run(
    widths: Sequence[int] = (100, 200, 500, 1000, 2000),
    n_networks: Sequence[int] = (100, 50, 20, 6, 2),
    n_points: int = 5,
    steps: int = 200,
    *,
    net: Network = SMOOTH,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Inflation:
    """Networks trained on f*(x) = x1 x2 at points of the circle, learning rate 1 as in figure 1.

    Parameters
    ----------
    widths : sequence of int
        At least two different ones, each >= 2.
    n_networks : sequence of int
        Of each width, at least 3 together.
    n_points : int
        At most 30, at equal distances.
    steps : int
    net : Network
        Its activations are smooth. Default: figure 1's with erf instead of ReLU.
    seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Inflation

    Raises
    ------
    TypeError, ValueError, ActivationError
        As in `ntkfast.kernel_change`, or the widths are fewer than two, or not as many as n_networks.

    Examples
    --------
    >>> from ntkfast.experiments import inflation
    >>> inflation.run(widths=(20, 40), n_networks=(3, 2), n_points=3, steps=10).inflation.shape
    (5,)
    """
    widths, steps = check_widths(widths), positive_integer(steps, "steps")
    if not np.iterable(n_networks):
        raise TypeError(f"n_networks: expected a number for each width, got {type(n_networks).__name__}")
    counts = [positive_integer(count, f"n_networks[{k}]") for k, count in enumerate(n_networks)]
    if len(set(widths)) < 2 or len(counts) != len(widths):
        raise ValueError(
            f"n_networks: expected a number for each of at least two different widths, got {counts} for {widths}"
        )
    if sum(counts) < 3:
        raise ValueError(f"n_networks: expected at least 3 together, as errors come from their scatter, got {counts}")
    n_points = positive_integer(n_points, "n_points")
    if n_points > MOST_POINTS:
        raise ValueError(f"n_points: expected at most {MOST_POINTS}, for which the theory is computed, got {n_points}")
    points = circle(START + 2 * np.pi * np.arange(n_points) / n_points)
    y = points[:, 0] * points[:, 1]
    narrowest = min(widths)
    theory = kernel_change(net, points, y, width=narrowest, steps=steps, rng=seed, progress=False)
    end = kernel_change(net, points, y, width=narrowest, steps=math.inf, rng=seed, progress=False)

    def observe(f: FiniteNetwork) -> Values:
        return {"trace": np.trace(empirical_ntk(f, points, progress=False))}

    pairs = sorted(zip(widths, counts, strict=True))
    found = {kind: np.empty(sum(counts)) for kind in ("smooth", "kinked")}
    every = [(width, k) for width, count in pairs for k in range(count)]
    with working(progress, "inflation", 4 * sum(width**2 + 30000 for width, _ in every)) as work:
        for kind, used in (("smooth", net), ("kinked", KINKED)):
            size = np.trace(ntk(used, points, progress=False))
            for s, (width, k) in enumerate(every):
                changes = []
                for sign in (1, -1):  # f and -f with the same kernel: what is linear in y cancels
                    seen = trained(
                        network(used, 2, width, seed, k), points, sign * y, (0, steps), observe, parts=parts,
                        name=f"{kind}-n{width}-{k}{'+' if sign > 0 else '-'}", report=work.part(width**2 + 30000),
                    )["trace"]  # fmt: skip
                    changes.append((seen[1] - seen[0]) / size)
                found[kind][s] = np.mean(changes)
    return Inflation(
        net, steps, n_points, np.array([width for width, _ in every]), found["smooth"], found["kinked"],
        narrowest * theory.inflation, narrowest * theory.inflation_error, narrowest * end.inflation,
    )  # fmt: skip


def _means(widths: np.ndarray, values: np.ndarray) -> list[tuple[int, float, float, int]]:
    """Each width with the mean, its standard error from the spread over all widths, and the number of networks.

    n times the inflation scatters by about as much at every width.
    """
    every = [int(width) for width in np.unique(widths)]
    parts = [width * values[widths == width] for width in every]
    freedom = sum(len(part) - 1 for part in parts)
    squares = sum(np.sum((part - part.mean()) ** 2) for part in parts)
    spread = math.sqrt(squares / freedom) if freedom else math.nan
    return [
        (width, float(part.mean()), spread / math.sqrt(len(part)), len(part))
        for width, part in zip(every, parts, strict=True)
    ]


def _law(data: Inflation) -> PowerLaw:
    """The exponent of the inflation of smooth networks, weighted by the relative errors of the means."""
    widths, means, errors, counts = map(np.array, zip(*_means(data.widths, data.inflation), strict=True))
    if np.ptp(np.sign(means)) or not np.all(means):
        return PowerLaw(math.nan, math.nan, 0)
    weight, x = (means / errors) ** 2, np.log(widths)
    x = x - np.average(x, weights=weight)
    total = np.sum(weight * x * x)
    slope = np.sum(weight * x * np.log(np.abs(means / widths))) / total
    return PowerLaw(float(slope), float(1 / math.sqrt(total)), int(counts.sum()) - len(widths))


def plot(data: Inflation) -> Figure:
    """Inflation against 1/n with theory's line, and n times the inflation, in which the terms of order 1/n are flat."""
    figure = new_figure(9, 4.2)
    left, right = figure.subplots(1, 2)
    kinds = ((data.inflation, "C0", "o", described(data.net)), (data.kinked, "C1", "s", described(KINKED)))
    for values, colour, marker, name in kinds:
        n, means, errors, _ = map(np.array, zip(*_means(data.widths, values), strict=True))
        look = {"fmt": marker, "color": colour, "capsize": 3, "label": name}
        left.errorbar(1 / n, means / n, errors / n, **look)
        right.errorbar(n, means, errors, **look)
    ends = np.array([0, 1.1 / data.widths.min()])
    left.plot(ends, data.predicted * ends, color="C0", label="theory to order $1/n$")
    right.axhline(data.predicted, color="C0")
    root, leading = data.root[0], np.mean(data.widths * data.kinked - data.root[0] * data.widths**0.5)
    n = np.geomspace(data.widths.min(), data.widths.max())
    right.plot(n, root * n**0.5 + leading, "--", color="C1", label=r"fit of $r/\sqrt{n} + c/n$")
    left.plot(1 / n, root / n**0.5 + leading / n, "--", color="C1", label=r"fit of $r/\sqrt{n} + c/n$")
    for ax in (left, right):
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    left.set(xlabel="$1/n$", ylabel=r"inflation: change of tr $\hat\Theta$ over tr $\Theta$")
    right.set(xlabel="width $n$", ylabel="$n$ times the inflation", xscale="log")
    name_widths(right, np.unique(data.widths))
    left.legend(fontsize="small")
    return figure


def findings(data: Inflation) -> list[Finding]:
    """The coefficient of 1/n and the exponent against theory; of ReLU networks no coefficient exists."""
    found, error = data.coefficient
    tolerance = 3.5 * math.hypot(error, data.predicted_error)
    lines = [
        near("coefficient of 1/n in the inflation", data.predicted, found, tolerance),
        reported("its standard error", error),
        reported("its z-score", f"{data.z_score:.2f}"),
        exponent("exponent of the inflation as a power of n", -1.0, _law(data)),
    ]
    for width, mean, spread, count in _means(data.widths, data.inflation):
        tolerance = 3.5 * spread + ORDER_TWO * abs(data.predicted) / width
        lines.append(near(f"n = {width}, {count} networks: n times the inflation", data.predicted, mean, tolerance))
    lines.append(reported("theory: coefficient after infinitely many steps", data.in_the_end))
    for width, mean, spread, count in _means(data.widths, data.kinked):
        what = f"ReLU, n = {width}, {count} networks: n times the inflation"
        lines.append(reported(what, f"{mean:.3g}, standard error {spread:.2g}", "no constant"))
    root, error = data.root
    lines.append(reported("ReLU: r of a fit of r/√n + c/n to the inflation", f"{root:.3g}, standard error {error:.2g}"))
    return lines


def caption(data: Inflation) -> str:
    return (
        f"How {data.steps} steps of gradient descent at learning rate 1 on f*(x) = x1 x2 at {data.n_points} points of "
        f"the circle change the trace of the tangent kernel, {described(data.net)}: networks of {len(data.widths)} "
        "draws, each trained on f* and -f*, and theory to order 1/n (docs/beyond.md). Squares: figure 1's network, for "
        "which no coefficient of 1/n exists, as units that cross their kink change the kernel by order 1/√n."
    )


EXPERIMENT = Experiment(
    name="inflation",
    figure="beyond",
    title="Beyond the limit: inflation in training",
    result=Inflation,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"n_networks": (2000, 1000, 400, 150, 60)},
    network=SMOOTH,
    resumable=True,
)
