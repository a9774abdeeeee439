"""How the figures of the experiments look."""

from ntkfast.plotting import COLOURS

__all__ = ["COLOURS", "new_figure", "outside_legend"]


def new_figure(width, height):
    """A matplotlib Figure that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'ntkfast[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def outside_legend(ax, **options):
    """A legend above the axes, where it covers no data."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, handlelength=2.2, **options)
