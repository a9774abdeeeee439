"""Plots. Every function draws into the given Axes (or a new figure's) and returns it."""

import numpy as np

__all__ = ["plot_plane", "plot_spectrum"]


def _axes(ax):
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'ntkfast[plot]'") from None
    return Figure(figsize=(6, 4.5), layout="constrained").subplots()


def plot_spectrum(eigenvalues, ax=None):
    """Eigenvalues λ_i of K/N against their rank, both logarithmic.

    Parameters
    ----------
    eigenvalues : array_like, shape (n,)
        Largest first; those that are not positive are left out.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    eigenvalues = np.asarray(eigenvalues)
    positive = eigenvalues > 0
    ax.loglog(np.arange(1, len(eigenvalues) + 1)[positive], eigenvalues[positive], ".", markersize=3, color="#0072b2")
    ax.set(xlabel="rank $i$", ylabel=r"eigenvalue $\lambda_i$ of $K/N$", title="Spectrum")
    ax.grid(True, which="major", alpha=0.3)
    return ax


def plot_plane(components, labels, ax=None):
    """Points in the plane of the 2nd and 3rd kernel principal component, coloured by their label.

    The 1st is left out as in the paper: it is nearly constant over the points.

    Parameters
    ----------
    components : array_like, shape (n, 2)
        Values of the 2nd and 3rd principal component at the points.
    labels : array_like, shape (n,)
        Up to ten different labels.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    components, labels = np.asarray(components), np.asarray(labels)
    for k, label in enumerate(np.unique(labels)):
        x, y = components[labels == label].T
        ax.plot(x, y, linestyle="none", marker=f"${label}$", markersize=5, color=f"C{k}", alpha=0.7, label=f"{label}")
    ax.set(xlabel="2nd kernel principal component $f^{(2)}$", ylabel="3rd kernel principal component $f^{(3)}$")
    ax.set_title("Principal components")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    return ax
