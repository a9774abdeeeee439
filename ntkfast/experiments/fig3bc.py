"""Figures 3(b) and 3(c) of the paper: networks of several widths trained along a kernel principal component."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.datasets import MNIST
from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.fig3a import PAPER, POINTS, batch
from ntkfast.experiments.figures import COLOURS, legend_above, new_figure
from ntkfast.experiments.networks import check_widths, described, network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.training import trained
from ntkfast.experiments.verdicts import Finding, exponent, less, mean_near, near, power_law, reported
from ntkfast.experiments.work import Progress, working
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import ntk_vector_product
from ntkfast.infinite.corrections import where_known
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.spectrum import kernel_pca
from ntkfast.networks import Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer, positive_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Figure3bc", "caption", "findings", "plot", "run"]

AMPLITUDE = 0.5
ORDER_TWO = 20.0  # allowance for terms of order 1/n², relative to λ2: this over n²


@dataclass(frozen=True)
class Figure3bc:
    """The result of `run`: W widths, T trials of each, R times.

    Attributes
    ----------
    net : Network
    widths : ndarray, shape (W,)
    t : ndarray, shape (R,)
    along : ndarray, shape (W, T, R)
        ‖g_t‖ in ‖·‖_pin, where g_t is the part of f_t - f* along f^(2).
    deviation : ndarray, shape (W, T, R)
        ‖h_t‖, where h_t is the rest.
    rates : ndarray, shape (W, T, R)
        ⟨f^(2), Θ̂_t f^(2)⟩/N, the counterpart of λ2 in a network.
    eigenvalue : float
        λ2 of the limit kernel.
    learning_rates : ndarray, shape (W,)
    initial_rates : ndarray, shape (W, I)
        ⟨f^(2), Θ̂_0 f^(2)⟩/N of more networks, at t = 0.
    theory_rates : ndarray, shape (W,)
        Its mean to order 1/n; nan where that is not known.
    """

    net: Network
    widths: np.ndarray
    t: np.ndarray
    along: np.ndarray
    deviation: np.ndarray
    rates: np.ndarray
    eigenvalue: float
    learning_rates: np.ndarray
    initial_rates: np.ndarray
    theory_rates: np.ndarray

    __repr__ = short


def run(
    data: MNIST,
    widths: Sequence[int] = (100, 300, 1000),
    learning_rates: Sequence[float] = (4.0, 10.0, 20.0),
    n: int = POINTS,
    n_trials: int = 2,
    n_initial: int = 24,
    time: float = 4000,
    n_times: int = 40,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Figure3bc:
    """Networks trained on f* = f_0 + 0.5 f^(2), f^(2) the 2nd kernel principal component of the batch of figure 3(a).

    Parameters
    ----------
    data : ntkfast.datasets.MNIST
    widths : sequence of int
        Ascending.
    learning_rates : sequence of float
        One for each width, a divisor of time/n_times; 1 in the paper. Gradient descent follows the flow at rates well
        below 2/λ1, which is 44 at first and falls as the kernel inflates, so that wide networks need fewer steps.
    n : int
        Number of digits.
    n_trials : int
        Networks of each width, at least 2 for `findings`.
    n_initial : int
        Networks of each width whose kernel is observed at initialisation only, at least 2.
    time : float
        Length of the training, in steps times learning rate.
    n_times : int
        Number of observations after t = 0.
    net : Network, optional
        Default: L = 5, ReLU, β = 0.1.
    seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Figure3bc

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.datasets import MNIST
    >>> from ntkfast.experiments import fig3bc
    >>> rng = np.random.default_rng(0)
    >>> noise = MNIST(rng.integers(0, 256, (90, 784), dtype=np.uint8), rng.integers(0, 10, 90, dtype=np.uint8))
    >>> fig3bc.run(noise, widths=(20, 40), learning_rates=(2, 4), n=30, n_trials=1, n_initial=2, time=40, n_times=2).t
    array([ 0., 20., 40.])
    """
    widths, n_trials = check_widths(widths), positive_integer(n_trials, "n_trials")
    n_initial = positive_integer(n_initial, "n_initial")
    X = batch(data, n, seed)[0]
    pca = kernel_pca(ntk(net, X, progress=False), 2)
    component = pca.eigenfunctions[:, 1]
    t = np.linspace(0, time, n_times + 1)
    if (np.diff(widths) <= 0).any():
        raise ValueError(f"widths: expected ascending widths, got {widths}")
    if len(learning_rates) != len(widths):
        raise ValueError(f"learning_rates: expected one for each of the {len(widths)} widths, got {learning_rates}")
    rates_of = np.array([positive_number(rate, "learning_rates") for rate in learning_rates])[:, None]
    steps = np.round(t / rates_of).astype(int)
    if not np.allclose(steps * rates_of, t):
        raise ValueError(
            f"learning_rates: expected divisors of the {t[1]:g} between two observations, got {learning_rates}"
        )
    shape = (len(widths), n_trials, len(t))
    along, deviation, rates = np.empty(shape), np.empty(shape), np.empty(shape)

    def rate_of(f: FiniteNetwork) -> float:
        return float(np.mean(component * ntk_vector_product(f, X, component[:, None])[:, 0]) / n)

    def initially(width: int) -> Values:
        with blas_threads(width, n):
            found = [rate_of(network(net, X.shape[1], width, seed, 1, k)) for k in range(n_initial)]
        return {"rates": np.array(found)}

    def observer(target: np.ndarray) -> Callable[[FiniteNetwork], Values]:
        def observe(f: FiniteNetwork) -> Values:
            error = f(X)[:, 0].astype(float) - target
            g = np.mean(error * component)
            h = error - g * component
            return {"g": abs(g), "h": np.sqrt(np.mean(h**2)), "rate": rate_of(f)}

        return observe

    sizes = np.array(widths, dtype=float)
    passes = (net.depth - 2) * sizes**2 + X.shape[1] * sizes
    costs, starting = passes * steps[:, -1], passes * n_initial
    initial_rates = np.empty((len(widths), n_initial))
    with working(progress, "figure 3bc", n_trials * costs.sum() + starting.sum()) as work:
        for i, width in enumerate(widths):
            report = work.part(starting[i])
            initial_rates[i] = parts.get(f"start-n{width}", functools.partial(initially, width))["rates"]
            report(1, 1)
        for i, k in np.ndindex(shape[:2]):
            f = network(net, X.shape[1], widths[i], seed, k)
            rate = learning_rates[i]
            target = f(X)[:, 0] + AMPLITUDE * component
            seen = trained(
                f, X, target, steps[i], observer(target), learning_rate=rate, parts=parts, name=f"n{widths[i]}-{k}",
                report=work.part(costs[i]),
            )  # fmt: skip
            along[i, k], deviation[i, k], rates[i, k] = seen["g"], seen["h"], seen["rate"]
    theory_rates = np.full(len(widths), np.nan)
    for i, width in enumerate(widths):
        if (theory := where_known(net, X, width=width, get=("ntk_mean",))) is not None:
            theory_rates[i] = component @ theory.ntk_mean @ component / n**2
    return Figure3bc(
        net, np.array(widths), t, along, deviation, rates, float(pca.eigenvalues[1]), np.array(learning_rates),
        initial_rates, theory_rates,
    )  # fmt: skip


def plot(data: Figure3bc) -> Figure:
    """The deviation ‖h_t‖ and the decay ‖g_t‖ against t."""
    figure = new_figure(11, 4.6)
    axes = figure.subplots(1, 2)
    limit = (np.zeros_like(data.t), AMPLITUDE * np.exp(-data.eigenvalue * data.t))
    for ax, curves, exact in zip(axes, (data.deviation, data.along), limit, strict=True):
        for width, trials, colour in zip(data.widths, curves, cycle(COLOURS[1:]), strict=False):
            for k, curve in enumerate(trials):
                ax.plot(data.t, curve, color=colour, linewidth=1.3, label=f"$n = {width}$" if k == 0 else None)
        ax.plot(data.t, exact, color=COLOURS[0], linewidth=2.2, label=r"$n = \infty$")
        ax.set(xlim=(0, data.t[-1]), xlabel="$t$")
    mean, std = data.theory_rates, data.initial_rates.std(axis=1, ddof=1)
    for rate, deviation, colour in zip(mean, std, cycle(COLOURS[1:]), strict=False):
        low, high = (AMPLITUDE * np.exp(-data.t * (rate + sign * 2 * deviation)) for sign in (1, -1))
        if np.isfinite(rate):
            axes[1].fill_between(data.t, low, high, color=colour, alpha=0.15, linewidth=0)
    legend_above(figure, axes[0], 4)
    axes[0].set(ylabel=r"deviation $\|h_t\|_{p^{in}}$", ylim=(-0.03 * data.deviation.max(), None))
    axes[1].set(ylabel=r"$\|g_t\|_{p^{in}}$ along the 2nd component", ylim=(-0.01, 0.52))
    return figure


def findings(data: Figure3bc) -> list[Finding]:
    """How the networks approach the straight line as they get wider."""
    limit = AMPLITUDE * np.exp(-data.eigenvalue * data.t)
    largest = data.deviation.max(axis=2)
    apart = np.abs(data.along - limit).max(axis=2)
    lines = [near("‖g_0‖", AMPLITUDE, data.along[:, :, 0].mean(), 1e-5)]
    for width, h, g in zip(data.widths, largest, apart, strict=True):
        lines.append(reported(f"n = {width}: largest ‖h_t‖, each trial", _listed(h), "0 as n → ∞"))
        lines.append(
            reported(
                f"n = {width}: largest distance of ‖g_t‖ from 0.5 exp(-λ2 t), each trial", _listed(g), "0 as n → ∞"
            )
        )
    # Θ̂ differs from Θ by O(1/√n), and so does the path
    lines.append(exponent("largest ‖h_t‖ ∝ n^s: s", -0.5, power_law(data.widths, largest), 0.15, 0.15))
    lines.append(exponent("distance of ‖g_t‖ from the limit ∝ n^s: s", -0.5, power_law(data.widths, apart), 0.15, 0.15))
    lines.append(less("distance of ‖g_t‖ from the limit: widest over narrowest", apart[::-1]))
    half = np.array([[_first_below(data.t, g, AMPLITUDE / 2) for g in trials] for trials in data.along])
    exact = np.log(2) / data.eigenvalue
    inflation = data.rates[:, :, -1] / data.rates[:, :, 0]
    for width, times, rates, inflated in zip(data.widths, half, data.rates, inflation, strict=True):
        lines += [
            reported(f"n = {width}: half-life of ‖g_t‖ over ln 2/λ2", times.mean() / exact, "→ 1"),
            reported(f"n = {width}: ⟨f^(2), Θ̂_0 f^(2)⟩/N over λ2", rates[:, 0].mean() / data.eigenvalue, "→ 1"),
            *_against_theory(data, int(width)),
            reported(f"n = {width}: inflation, the same at the end over its value at t = 0", inflated.mean(), "→ 1"),
        ]
    lines.append(less("narrow networks converge faster: half-life, narrowest over widest", half))
    lines.append(less("their kernel inflates more: inflation, widest over narrowest", inflation[::-1]))
    return lines


def _against_theory(data: Figure3bc, width: int) -> list[Finding]:
    """The mean of ⟨f^(2), Θ̂_0 f^(2)⟩/N over λ2 against that to order 1/n."""
    i = int(np.flatnonzero(data.widths == width)[0])
    if np.isnan(data.theory_rates[i]):
        return []
    samples = data.initial_rates[i] / data.eigenvalue
    what = f"n = {width}, {len(samples)} networks at t = 0: mean of ⟨f^(2), Θ̂_0 f^(2)⟩/N over λ2, against order 1/n"
    return [mean_near(what, data.theory_rates[i] / data.eigenvalue, samples, ORDER_TWO / width**2)]


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _first_below(t: np.ndarray, values: np.ndarray, level: float) -> float:
    """When the values first reach the level, linearly interpolated between two times; inf if they never do."""
    k = int(np.argmax(values <= level))
    if values[k] > level:
        return np.inf
    return float(np.interp(level, [values[k], values[k - 1]], [t[k], t[k - 1]]))


def caption(data: Figure3bc) -> str:
    rates = ", ".join(f"{rate:g}" for rate in data.learning_rates)
    return (
        "Deviation h_t from the straight line, and decay g_t along the 2nd component, for networks of width n = "
        f"{', '.join(map(str, data.widths))} (100, 1000, 10000 in the paper), {described(data.net)}, "
        f"{data.along.shape[1]} trials each, learning rates {rates} (1 in the paper; the time t is the number of steps "
        "times the learning rate). Shaded: decay at the rate that the kernel has at t = 0, its mean to order 1/n ± 2 "
        f"standard deviations over {data.initial_rates.shape[1]} networks. Networks that leave it do so because their "
        "kernel changes in training, which is of order 1/n too and not part of this theory."
    )


EXPERIMENT = Experiment(
    name="fig3bc",
    figure="fig3",
    title="Figures 3(b), 3(c): convergence along a principal component",
    result=Figure3bc,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"widths": (100, 1000, 10000), "learning_rates": (1.0, 1.0, 1.0)},
    network=PAPER,
    needs_mnist=True,
    resumable=True,
)
