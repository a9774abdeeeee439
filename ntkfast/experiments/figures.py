"""How the figures of the experiments look."""

from ntkfast.plotting import COLOURS, name_widths, new_figure

__all__ = ["COLOURS", "legend_above", "name_widths", "new_figure"]


def legend_above(figure, ax, n_columns):
    """One legend for all axes, of what is drawn in ax, above them: there it covers no data."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=n_columns)
