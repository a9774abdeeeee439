"""Plots. Every function draws into the given Axes (or those of a new figure) and returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.infinite.phase import Phase, PhaseDiagram
from ntkfast.learning import checks
from ntkfast.learning.convergence import Convergence
from ntkfast.learning.early_stopping import EarlyStopping
from ntkfast.learning.percentiles import quantiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_components",
    "plot_convergence",
    "plot_correlation_map",
    "plot_early_stopping",
    "plot_percentiles",
    "plot_phase_diagram",
    "plot_plane",
    "plot_spectrum",
]


def new_figure(width: float, height: float) -> Figure:
    """A matplotlib Figure that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'ntkfast[plot]'") from None
    except ValueError as error:  # from its settings, such as an unknown MPLBACKEND
        raise ImportError(f"matplotlib cannot be imported: {error}") from None
    return Figure(figsize=(width, height), layout="constrained")


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    new: Axes = new_figure(6, 4.5).subplots()
    return new


def name_widths(ax: Axes, widths: ArrayLike) -> None:
    """Label a logarithmic axis with the widths themselves, as far as there is room for the labels."""
    named: list[int] = []
    ordered = np.unique(widths)
    apart = (ordered[-1] / ordered[0]) ** (1 / 7)  # a label takes less than a seventh of the axis
    for width in ordered:
        if not named or width >= apart * named[-1]:
            named.append(width)
    ax.set_xticks(named, [f"{width}" for width in named])
    ax.xaxis.minorticks_off()


def plot_spectrum(eigenvalues: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Eigenvalues λ_i of K/N against their rank, both logarithmic.

    Parameters
    ----------
    eigenvalues : array_like, shape (n,)
        In any order; those that are not positive are left out.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    values = np.asarray(eigenvalues)
    if values.ndim != 1:
        raise ValueError(f"eigenvalues: expected shape (n,), got {values.shape}")
    ax = _axes(ax)
    positive = np.sort(values[values > 0])[::-1]
    ax.loglog(np.arange(1, len(positive) + 1), positive, ".", markersize=3, color="#0072b2")
    ax.set(xlabel="rank $i$", ylabel=r"eigenvalue $\lambda_i$ of $K/N$", title="Spectrum")
    ax.grid(True, which="major", alpha=0.3)
    return ax


def plot_plane(components: ArrayLike, labels: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Points in the plane of the 2nd and 3rd kernel principal components, coloured by label.

    The 1st is left out as in the paper: it is nearly constant over the points. Labels of one character are drawn as
    such, others as dots that a legend explains.

    Parameters
    ----------
    components : array_like, shape (n, 2)
        Values of the 2nd and 3rd principal components at the points.
    labels : array_like, shape (n,)
        At most ten different labels.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    values, of = np.asarray(components), np.asarray(labels)
    if of.ndim != 1 or values.shape != (len(of), 2):
        raise ValueError(f"components: expected shape (n, 2) for n labels, got {values.shape} and {of.shape}")
    ax = _axes(ax)
    different = np.unique(of)
    short = max(len(str(label)) for label in different) == 1
    for k, label in enumerate(different):
        x, y = values[of == label].T
        marker = f"${label}$" if short else "o"
        ax.plot(x, y, linestyle="none", marker=marker, markersize=5, color=f"C{k}", alpha=0.7, label=f"{label}")
    if not short:
        ax.legend()
    ax.set(xlabel="2nd kernel principal component $f^{(2)}$", ylabel="3rd kernel principal component $f^{(3)}$")
    ax.set_title("Principal components")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    return ax


def plot_phase_diagram(diagram: PhaseDiagram, *, ax: Axes | None = None) -> Axes:
    """χ₁ in the plane of σ_w and σ_b: the ordered phase, the chaotic phase and the critical line χ₁ = 1 between them.

    The diagram of Poole et al. (2016), figure 1, and Schoenholz et al. (2017), figure 1. The plane is grey where the
    variance diverges.

    Parameters
    ----------
    diagram : PhaseDiagram
        Of at least 2 weight_stds and 2 bias_stds, both ascending.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        The grid is smaller.
    """
    if min(diagram.chi_1.shape) < 2:
        raise ValueError(f"diagram: expected a grid of at least 2 by 2, got {diagram.chi_1.shape}")
    ax = _axes(ax)
    w, b, diverges = diagram.weight_stds, diagram.bias_stds, np.isinf(diagram.q_star)
    chi = np.ma.masked_where(diverges, diagram.chi_1)
    known = chi.compressed()[chi.compressed() > 0]
    widest = float(np.exp(np.quantile(np.abs(np.log(known)), 0.95))) if known.size else 1.0
    widest = max(widest, 1.1)  # a diagram that is critical everywhere still needs a scale
    image = ax.pcolormesh(w, b, chi, norm="log", cmap="PuOr_r", shading="gouraud")
    image.set_clim(1 / widest, widest)
    ax.set_facecolor("0.85")
    for name, region in (("ordered", chi < 1), ("chaotic", chi > 1), ("divergent", diverges)):
        places = np.argwhere(np.ma.filled(region, False))
        if len(places):
            row, column = places[np.abs(places - np.median(places, axis=0)).sum(axis=1).argmin()]
            behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 2}
            ax.text(w[column], b[row], name, ha="center", va="center", fontsize=13, bbox=behind)
    if known.size and known.min() < 1 < known.max():
        line = ax.contour(w, b, chi, levels=[1.0], colors="black", linewidths=1.8)
        ax.clabel(line, fmt=r"$\chi_1 = 1$", fontsize=10)
    octaves = np.arange(-np.floor(np.log2(widest)), np.floor(np.log2(widest)) + 1)
    bar = ax.figure.colorbar(image, ax=ax, label=r"$\chi_1$", extend="both", ticks=2.0**octaves, format="%g")
    bar.minorticks_off()
    ax.set(xlabel=r"$\sigma_w$ (weight_std)", ylabel=r"$\sigma_b$ (bias_std)")
    ax.set_title(f"Order and chaos: {diagram.activation.name}")
    return ax


def plot_correlation_map(phase: Phase, *, ax: Axes | None = None) -> Axes:
    """The correlation R(c) of two inputs one layer later, against the diagonal, and the fixed point c*.

    Parameters
    ----------
    phase : Phase
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    c = np.linspace(0, 1, 101)
    ax.plot(c, c, color="0.6", linewidth=1, label="$R(c) = c$")
    ax.plot(c, phase.correlation_map(c), color="#0072b2", linewidth=2, label="$R(c)$")
    ax.plot(phase.c_star, phase.c_star, "o", color="#d55e00", label=f"$c^* = {phase.c_star:.3f}$", clip_on=False)
    ax.set(xlabel="correlation $c$", ylabel="correlation one layer later $R(c)$", aspect="equal")
    ax.set_title(rf"{phase.activation.name}, {phase.phase}: $\chi_1 = {phase.chi_1:.3f}$")
    ax.grid(True, alpha=0.3)
    ax.legend()
    return ax


def plot_convergence(result: Convergence, *, ax: Axes | None = None) -> Axes:
    """The distance of the empirical tangent kernel from its limit against the width, and the fitted power law.

    Parameters
    ----------
    result : Convergence
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    widths = np.repeat(result.widths, result.errors.shape[1])
    ax.loglog(widths, result.errors.reshape(-1), ".", markersize=4, color="#0072b2", alpha=0.5, label="one network")
    ax.loglog(result.widths, result.median, "o-", color="#d55e00", label="median")
    if np.isfinite(result.slope):
        centre = np.exp(np.log(result.widths).mean())
        height = np.exp(np.log(result.errors).mean())
        label = rf"slope ${result.slope:.2f} \pm {result.slope_error:.2f}$"
        line = height * (result.widths / centre) ** result.slope
        ax.loglog(result.widths, line, "--", color="0.4", linewidth=1, label=label)
    ax.set(xlabel="width", ylabel=r"$\|\hat\Theta - \Theta\| \,/\, \|\Theta\|$")
    ax.set_title("Convergence to the limit kernel")
    name_widths(ax, result.widths)
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return ax


# Okabe and Ito: distinguishable with colour blindness too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def plot_percentiles(
    x: ArrayLike,
    percentiles: ArrayLike,
    t: ArrayLike | None = None,
    *,
    levels: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A random function along a line of points: its median, and a band of percentiles around it.

    The paper's figure 2 shows f_t(x) of random networks in this way: the 10th, 50th and 90th percentiles at t = inf.
    The posterior of a Gaussian process is drawn the same way.

    Parameters
    ----------
    x : array_like, shape (m,)
        Where the points are on the line, ascending: an angle, say.
    percentiles : array_like, shape (levels, m) or (levels, T, m)
        As `LeastSquaresFlow.percentiles` and `GaussianProcess.percentiles` return them for one output, levels ascending
        and odd in number.
    t : float or array_like, shape (T,), optional
        The times, for the legend.
    levels : sequence of float, optional
        Which percentiles these are, in per cent, for the legend.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        The shapes are not as described, or the levels are not in ascending order.
    """
    x, bands = np.asarray(x), np.asarray(percentiles)
    bands = bands[:, None] if bands.ndim == 2 else bands
    if bands.ndim != 3 or bands.shape[2:] != x.shape or len(bands) % 2 == 0:
        raise ValueError(
            f"percentiles: expected an odd number of levels for {x.size} points, got shape {np.shape(percentiles)}"
        )
    if (np.diff(bands, axis=0) < 0).any():
        raise ValueError("percentiles: expected levels in ascending order, got some above the next")
    times = [None] * bands.shape[1] if t is None else [float(time) for time in checks.times(t)[0]]
    if len(times) != bands.shape[1]:
        raise ValueError(f"t: expected {bands.shape[1]} times as in percentiles, got {len(times)}")
    if levels is not None and (len(quantiles(levels)) != len(bands) or (np.diff(levels) <= 0).any()):
        raise ValueError(f"levels: expected {len(bands)} as in percentiles, ascending, got {levels}")
    ax, middle = _axes(ax), len(bands) // 2
    for k, time in enumerate(times):
        colour = COLOURS[k % len(COLOURS)]
        name = "median" if time is None else r"$t = \infty$" if np.isinf(time) else f"$t = {time:g}$"
        ax.plot(x, bands[middle, k], color=colour, linewidth=1.8, label=name)
        for level in range(middle):
            if levels is None:
                band = "band of percentiles" if level == 0 else None
            else:
                band = f"{_ordinal(levels[level])} to {_ordinal(levels[-1 - level])} percentile"
            low, high, shade = bands[level, k], bands[-1 - level, k], 0.2 + 0.15 * level
            ax.fill_between(
                x, low, high, color=colour, alpha=shade, linewidth=0, label=band if k == len(times) - 1 else None
            )
    ax.set(xlabel="$x$", ylabel="$f(x)$", title="Percentiles of the function")
    ax.grid(True, alpha=0.3)
    if t is not None:
        ax.set(ylabel="$f_t(x)$", title="Random initial functions during training")
    ax.legend()
    return ax


def _ordinal(level: float) -> str:
    last = f"{level:g}"[-1]
    ending = {"1": "st", "2": "nd", "3": "rd"}.get(last, "th") if level % 1 == 0 and level // 10 != 1 else "th"
    return f"{level:g}{ending}"


def plot_components(
    t: ArrayLike, components: ArrayLike, eigenvalues: ArrayLike | None = None, *, ax: Axes | None = None
) -> Axes:
    """How the error decays along the kernel principal components: |⟨f_t - f*, f^(i)⟩| over t, on a logarithmic axis.

    Parameters
    ----------
    t : array_like, shape (T,)
        If their logarithms are more evenly spaced than they are, as after `numpy.geomspace`, this axis is logarithmic
        too; t = 0 then has a place of its own.
    components : array_like, shape (T, n)
        As `LeastSquaresFlow.components` returns them, for one output; at most 6.
    eigenvalues : array_like, shape (n,) or longer, optional
        λ_i, for the legend.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        The shapes are not as described.
    """
    times, errors = checks.times(t)[0], np.abs(np.asarray(components))
    if errors.ndim != 2 or len(errors) != times.size or errors.shape[1] > len(COLOURS):
        raise ValueError(
            f"components: expected {times.size} times and at most {len(COLOURS)} components, got shape {errors.shape}"
        )
    rates = None if eigenvalues is None else np.asarray(eigenvalues)
    if rates is not None and (rates.ndim != 1 or len(rates) < errors.shape[1]):
        raise ValueError(f"eigenvalues: expected one for each of {errors.shape[1]} components, got shape {rates.shape}")
    ax = _axes(ax)
    for i, values in enumerate(errors.T):
        name = f"$i = {i + 1}$" + ("" if rates is None else rf", $\lambda_{i + 1}$ = {rates[i]:.3g}")
        ax.plot(times, values, color=COLOURS[i], linewidth=1.8, label=name)
    if errors.any():  # else there is nothing that a logarithmic axis could show
        ax.set_yscale("log")
        largest = errors.max()
        ax.set_ylim(max(errors[errors > 0].min() / 2, 1e-16 * largest), 2 * largest)  # anything less is rounding
    later = np.unique(times[(times > 0) & np.isfinite(times)])
    if len(later) > 2 and _widest_gap(np.log(later)) < _widest_gap(later):
        if times.min() > 0:
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=later[0])
            ax.set_xlim(left=0)
    ax.set(xlabel="time $t$", ylabel=r"$|\langle f_t - f^*, f^{(i)} \rangle_{p^{in}}|$")
    ax.set_title("Convergence along the principal components")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return ax


def _widest_gap(sorted_values: NDArray[np.float64]) -> float:
    return float(np.diff(sorted_values).max() / (sorted_values[-1] - sorted_values[0]))


def plot_early_stopping(stopping: EarlyStopping, *, ax: Axes | None = None) -> Axes:
    """Training and validation loss over t, and the time at which the validation loss is smallest.

    Parameters
    ----------
    stopping : EarlyStopping
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    drawn = (stopping.times > 0) & np.isfinite(stopping.times)
    t = stopping.times[drawn]
    losses = stopping.training_loss[drawn], stopping.validation_loss[drawn]
    for k, name in enumerate(("training points", "validation points")):
        ax.semilogx(t, losses[k], color=COLOURS[k], linewidth=1.8, label=name)
    if np.any(losses):  # else there is nothing that a logarithmic axis could show
        ax.set_yscale("log")
    if t.size and t[0] <= stopping.t <= t[-1]:
        ax.axvline(stopping.t, color="0.5", linewidth=1, linestyle="--")
        ax.plot(stopping.t, stopping.loss, "o", color="black", label=f"smallest, at t = {stopping.t:.3g}", zorder=3)
    elif np.isinf(stopping.t):
        ax.axhline(stopping.loss, color="0.5", linewidth=1, linestyle="--", label=r"smallest, at $t = \infty$")
    low, high = stopping.validation_loss.min(), max(stopping.validation_loss.max(), stopping.training_loss.max())
    if low > 0:
        ax.set_ylim(low / 100, 2 * high)  # the training loss continues to 0
    ax.set(xlabel="time $t$", ylabel=r"cost $C(f_t) = \frac{1}{2}\|f_t - f^*\|^2$", title="Early stopping")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return ax


def __dir__() -> list[str]:
    return sorted(__all__)
