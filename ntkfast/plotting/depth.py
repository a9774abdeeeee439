"""Order and chaos in depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.infinite.phase import Phase, PhaseDiagram
from ntkfast.plotting.axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_correlation_map", "plot_fluctuations", "plot_phase_diagram"]


def plot_phase_diagram(diagram: PhaseDiagram, *, ax: Axes | None = None) -> Axes:
    """χ₁ in the plane of σ_w and σ_b: the ordered phase, the chaotic phase and the critical line χ₁ = 1 between them.

    The diagram of Poole et al. (2016), figure 1, and Schoenholz et al. (2017), figure 1. The plane is grey where the
    variance diverges.

    Parameters
    ----------
    diagram : PhaseDiagram
        Of at least 2 weight_stds and 2 bias_stds, both ascending.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    ValueError
        The grid is smaller.

    See Also
    --------
    phase_diagram : Makes the diagram.
    plot_correlation_map : One network.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> ax = nf.plotting.plot_phase_diagram(nf.phase_diagram("tanh", np.linspace(0.5, 3, 6), np.linspace(0, 1, 4)))
    >>> ax.get_title()
    'Order and chaos: tanh'
    """
    if min(diagram.chi_1.shape) < 2:
        raise ValueError(f"diagram: expected a grid of at least 2 by 2, got {diagram.chi_1.shape}")
    ax = axes(ax)
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
        As `phase` returns it.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    ValueError
        The variance diverges, and φ has no asymptotes.

    See Also
    --------
    Phase.correlation_map : R(c).
    plot_phase_diagram : Many networks.

    Examples
    --------
    >>> import ntkfast as nf
    >>> ax = nf.plotting.plot_correlation_map(nf.phase(nf.MLP(2, "erf", weight_std=1.5, bias_std=0.1)))
    >>> ax.get_xlabel()
    'correlation $c$'
    """
    ax = axes(ax)
    c = np.linspace(0, 1, 101)
    ax.plot(c, c, color="0.6", linewidth=1, label="$R(c) = c$")
    ax.plot(c, phase.correlation_map(c), color="#0072b2", linewidth=2, label="$R(c)$")
    ax.plot(phase.c_star, phase.c_star, "o", color="#d55e00", label=f"$c^* = {phase.c_star:.3f}$", clip_on=False)
    ax.set(xlabel="correlation $c$", ylabel="correlation one layer later $R(c)$", aspect="equal")
    ax.set_title(rf"{phase.activation.name}, {phase.phase}: $\chi_1 = {phase.chi_1:.3f}$")
    ax.grid(True, alpha=0.3)
    ax.legend()
    return ax


def plot_fluctuations(
    phase: Phase, *, widths: Sequence[int] = (64, 256, 1024), most: int = 64, ax: Axes | None = None
) -> Axes:
    """How much Θ̂(x, x) scatters over random networks against their depth, at several widths, to first order in 1/n.

    Parameters
    ----------
    phase : Phase
        As `phase` returns it.
    widths : sequence of int
        One curve each.
    most : int
        The largest depth.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    ActivationError, PrecisionError, ValueError
        As from `Phase.fluctuations`.

    See Also
    --------
    Phase.fluctuations : What is drawn.
    plot_convergence : Networks of one depth and several widths.

    Examples
    --------
    >>> import ntkfast as nf
    >>> ax = nf.plotting.plot_fluctuations(nf.phase(nf.MLP(2, "relu", weight_std=2**0.5)), most=4)
    >>> len(ax.get_lines())
    4
    """
    ax = axes(ax)
    depths = np.unique(np.geomspace(2, most, 16).round().astype(int))
    relative = phase.fluctuations(depths)
    for k, width in enumerate(widths):
        colour = COLOURS[k % len(COLOURS)]
        ax.loglog(depths, np.sqrt(relative / width), "o-", markersize=3, color=colour, label=f"$n = {width}$")
    ax.axhline(0.1, color="0.4", linewidth=1, linestyle="--", label="10 %")
    ax.set(xlabel="depth $L$", ylabel=r"standard deviation of $\hat\Theta(x, x)$ over $\Theta(x, x)$")
    ratio = phase.depth_to_width()
    title = f"{phase.activation.name}, {phase.phase}"
    ax.set_title(title if np.isnan(ratio) else f"{title}: 10 % at $L/n = {ratio:.2g}$")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()
    return ax
