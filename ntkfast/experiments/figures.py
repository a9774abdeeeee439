"""The appearance of the experiments' figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ntkfast.plotting.axes import COLOURS, name_widths, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "legend_above", "name_widths", "new_figure"]


def legend_above(figure: Figure, ax: Axes, n_columns: int) -> None:
    """One legend for all axes, with the labels of `ax`, above them, where it covers no data."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", frameon=False, ncols=n_columns)
