"""What plots share: figures and axes, and colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: distinguishable with colour blindness too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def new_figure(width: float, height: float) -> Figure:
    """A matplotlib Figure that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'ntkfast[plot]'") from None
    except ValueError as error:  # from its settings, such as an unknown MPLBACKEND
        raise ImportError(f"matplotlib cannot be imported: {error}") from None
    return Figure(figsize=(width, height), layout="constrained")


def axes(ax: Axes | None) -> Axes:
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
