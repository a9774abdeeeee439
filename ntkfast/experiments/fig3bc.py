"""Figures 3(b) and 3(c) of the paper: networks of several widths trained along a kernel principal component."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from ntkfast.experiments.fig3a import PAPER, POINTS, batch
from ntkfast.experiments.figures import COLOURS, legend_above, new_figure
from ntkfast.experiments.running import NO_PARTS, check_widths, described, network, trained, working
from ntkfast.experiments.verdicts import exponent, less, near, power_law, told
from ntkfast.finite.products import ntk_vector_product
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.spectrum import kernel_pca
from ntkfast.networks import Network
from ntkfast.support.reprs import short
from ntkfast.support.scalars import positive_integer, positive_number

__all__ = ["Figure3bc", "findings", "plot", "run"]

FULL = {"widths": (100, 1000, 10000), "learning_rates": (1.0, 1.0, 1.0)}
AMPLITUDE = 0.5


@dataclass(frozen=True)
class Figure3bc:
    """What `run` finds; W widths, T trials of each, R times.

    Attributes
    ----------
    net : Network
    widths : ndarray, shape (W,)
    t : ndarray, shape (R,)
    along : ndarray, shape (W, T, R)
        ‖g_t‖, g_t the part of f_t - f* along f^(2), in ‖·‖_pin.
    deviation : ndarray, shape (W, T, R)
        ‖h_t‖, the rest.
    rates : ndarray, shape (W, T, R)
        ⟨f^(2), Θ̂_t f^(2)⟩/N: what takes the place of λ2 in a network.
    eigenvalue : float
        λ2 of the limit kernel.
    learning_rates : ndarray, shape (W,)
    """

    net: Network
    widths: np.ndarray
    t: np.ndarray
    along: np.ndarray
    deviation: np.ndarray
    rates: np.ndarray
    eigenvalue: float
    learning_rates: np.ndarray

    __repr__ = short


def run(
    data, widths=(100, 300, 1000), learning_rates=(4.0, 10.0, 20.0), n=POINTS, n_trials=2, time=4000, n_times=40,
    *, net=PAPER, seed=0, parts=NO_PARTS, progress=None,
) -> Figure3bc:  # fmt: skip
    """Networks trained on f* = f_0 + 0.5 f^(2), f^(2) the 2nd kernel principal component of the batch of figure 3(a).

    Parameters
    ----------
    data : ntkfast.datasets.MNIST
    widths : sequence of int
        Ascending.
    learning_rates : sequence of float
        Of each width, a divisor of time/n_times; 1 in the paper. Gradient descent follows the flow for rates well below
        2/λ1, 44 at the start and the less the more the kernel inflates, so that in wide networks fewer steps do.
    n : int
        Number of digits.
    n_trials : int
        Networks of each width, at least 2 for `findings`.
    time : float
        How long.
    n_times : int
        How often to look.
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
    >>> fig3bc.run(noise, widths=(20, 40), learning_rates=(2, 4), n=30, n_trials=1, time=40, n_times=2).t
    array([ 0., 20., 40.])
    """
    widths, n_trials = check_widths(widths), positive_integer(n_trials, "n_trials")
    X = batch(data, n, seed)[0]
    pca = kernel_pca(ntk(net, X, progress=False), 2)
    component = pca.eigenfunctions[:, 1]
    t = np.linspace(0, time, n_times + 1)
    if (np.diff(widths) <= 0).any():
        raise ValueError(f"widths: expected ascending ones, got {widths}")
    if len(learning_rates) != len(widths):
        raise ValueError(f"learning_rates: expected one for each of {len(widths)} widths, got {learning_rates}")
    rates_of = np.array([positive_number(rate, "learning_rates") for rate in learning_rates])[:, None]
    steps = np.round(t / rates_of).astype(int)
    if not np.allclose(steps * rates_of, t):
        raise ValueError(f"learning_rates: expected divisors of the {t[1]:g} between two times, got {learning_rates}")
    shape = (len(widths), n_trials, len(t))
    along, deviation, rates = np.empty(shape), np.empty(shape), np.empty(shape)

    def observer(target):
        def observe(f):
            error = f(X)[:, 0].astype(float) - target
            g = np.mean(error * component)
            h = error - g * component
            pushed = ntk_vector_product(f, X, component[:, None])[:, 0]
            return {"g": abs(g), "h": np.sqrt(np.mean(h**2)), "rate": np.mean(component * pushed) / n}

        return observe

    sizes = np.array(widths, dtype=float)
    costs = ((net.depth - 2) * sizes**2 + X.shape[1] * sizes) * steps[:, -1]
    with working(progress, "figure 3bc", n_trials * costs.sum()) as work:
        for i, k in np.ndindex(shape[:2]):
            f = network(net, X.shape[1], widths[i], seed, k)
            rate = learning_rates[i]
            target = f(X)[:, 0] + AMPLITUDE * component
            seen = trained(
                f, X, target, steps[i], observer(target), learning_rate=rate, parts=parts, name=f"n{widths[i]}-{k}",
                report=work.part(costs[i]),
            )  # fmt: skip
            along[i, k], deviation[i, k], rates[i, k] = seen["g"], seen["h"], seen["rate"]
    return Figure3bc(
        net, np.array(widths), t, along, deviation, rates, float(pca.eigenvalues[1]), np.array(learning_rates)
    )


def plot(data: Figure3bc):
    """The deviation ‖h_t‖ and the decay ‖g_t‖ against t. Returns a matplotlib Figure."""
    figure = new_figure(11, 4.6)
    axes = figure.subplots(1, 2)
    limit = (np.zeros_like(data.t), AMPLITUDE * np.exp(-data.eigenvalue * data.t))
    for ax, curves, exact in zip(axes, (data.deviation, data.along), limit, strict=True):
        for width, trials, colour in zip(data.widths, curves, cycle(COLOURS[1:]), strict=False):
            for k, curve in enumerate(trials):
                ax.plot(data.t, curve, color=colour, linewidth=1.3, label=f"$n = {width}$" if k == 0 else None)
        ax.plot(data.t, exact, color=COLOURS[0], linewidth=2.2, label=r"$n = \infty$")
        ax.set(xlim=(0, data.t[-1]), xlabel="$t$")
    legend_above(figure, axes[0], 4)
    axes[0].set(ylabel=r"deviation $\|h_t\|_{p^{in}}$", ylim=(-0.03 * data.deviation.max(), None))
    axes[1].set(ylabel=r"$\|g_t\|_{p^{in}}$ along the 2nd component", ylim=(-0.01, 0.52))
    return figure


def findings(data: Figure3bc):
    """How the networks approach the straight line as they get wider: a list of Finding."""
    limit = AMPLITUDE * np.exp(-data.eigenvalue * data.t)
    largest = data.deviation.max(axis=2)
    apart = np.abs(data.along - limit).max(axis=2)
    lines = [near("‖g_0‖", AMPLITUDE, data.along[:, :, 0].mean(), 1e-5)]
    for width, h, g in zip(data.widths, largest, apart, strict=True):
        lines.append(told(f"n = {width}: largest ‖h_t‖, both trials", _listed(h), "0 as n → ∞"))
        lines.append(told(f"n = {width}: largest distance of ‖g_t‖ from 0.5 exp(-λ2 t)", _listed(g), "0 as n → ∞"))
    # Θ̂ differs from Θ by O(1/√n), and with it the path
    lines.append(exponent("largest ‖h_t‖ ∝ n^s: s", -0.5, power_law(data.widths, largest), 0.15, 0.15))
    lines.append(exponent("distance of ‖g_t‖ from the limit ∝ n^s: s", -0.5, power_law(data.widths, apart), 0.15, 0.15))
    lines.append(less("distance of ‖g_t‖ from the limit, widest over narrowest", apart[::-1]))
    half = np.array([[_first_below(data.t, g, AMPLITUDE / 2) for g in trials] for trials in data.along])
    exact = np.log(2) / data.eigenvalue
    inflation = data.rates[:, :, -1] / data.rates[:, :, 0]
    for width, times, rates, inflated in zip(data.widths, half, data.rates, inflation, strict=True):
        lines += [
            told(f"n = {width}: half-life of ‖g_t‖ over ln 2/λ2", times.mean() / exact, "→ 1"),
            told(f"n = {width}: ⟨f^(2), Θ̂_0 f^(2)⟩/N over λ2", rates[:, 0].mean() / data.eigenvalue, "→ 1"),
            told(f"n = {width}: inflation, the same at the end over that at t = 0", inflated.mean(), "→ 1"),
        ]
    lines.append(less("narrow networks converge faster: half-life, narrowest over widest", half))
    lines.append(less("their kernel inflates more: inflation, widest over narrowest", inflation[::-1]))
    return lines


def _listed(values):
    return ", ".join(f"{value:.3g}" for value in values)


def _first_below(t, values, level):
    """When the values first reach the level, between two times by a straight line; inf if they do not."""
    k = int(np.argmax(values <= level))
    if values[k] > level:
        return np.inf
    return np.interp(level, [values[k], values[k - 1]], [t[k], t[k - 1]])


def caption(data: Figure3bc):
    rates = ", ".join(f"{rate:g}" for rate in data.learning_rates)
    return (
        "Deviation h_t from the straight line, and decay g_t along the 2nd component, for networks of width n = "
        f"{', '.join(map(str, data.widths))} (100, 1000, 10000 in the paper), {described(data.net)}, "
        f"{data.along.shape[1]} trials each, "
        f"learning rates {rates} (1 in the paper; the time t is steps times learning rate)."
    )
