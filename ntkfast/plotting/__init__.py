"""Plots. Every function draws into the given Axes (or those of a new figure) and returns it."""

from ntkfast.plotting.depth import plot_correlation_map, plot_fluctuations, plot_phase_diagram
from ntkfast.plotting.predictions import plot_loo_path, plot_predictions
from ntkfast.plotting.spectra import plot_plane, plot_spectrum
from ntkfast.plotting.training import plot_components, plot_convergence, plot_early_stopping, plot_percentiles

__all__ = [
    "plot_components",
    "plot_convergence",
    "plot_correlation_map",
    "plot_early_stopping",
    "plot_fluctuations",
    "plot_loo_path",
    "plot_percentiles",
    "plot_phase_diagram",
    "plot_plane",
    "plot_predictions",
    "plot_spectrum",
]


def __dir__() -> list[str]:
    return sorted(__all__)
