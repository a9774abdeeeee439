"""How the figures of the experiments look."""

from ntkfast.plotting import COLOURS

__all__ = ["COLOURS", "legend_above", "new_figure"]


def new_figure(width, height):
    """A matplotlib Figure that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'ntkfast[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def legend_above(figure, ax, n_columns):
    """One legend for all axes, of what is drawn in ax, above them: there it covers no data."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=n_columns)
