"""Spectra and principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.plotting.axes import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_plane", "plot_spectrum"]


def plot_spectrum(eigenvalues: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Eigenvalues λ_i of K/N against their rank, both logarithmic.

    Parameters
    ----------
    eigenvalues : array_like, shape (n,)
        In any order; those that are not positive are left out.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    ValueError
        The eigenvalues are not a vector.

    See Also
    --------
    LeastSquaresFlow.eigenvalues : All of them.
    kernel_pca : The largest.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.plotting.plot_spectrum([1.0, 0.1, 0.01]).get_title()
    'Spectrum'
    """
    values = np.asarray(eigenvalues)
    if values.ndim != 1:
        raise ValueError(f"eigenvalues: expected shape (n,), got {values.shape}")
    ax = axes(ax)
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
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    ValueError
        The shapes are not as described.

    See Also
    --------
    kernel_pca : Makes components.
    KernelPCA.transform : Those of new points.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), figure 3(a).

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.plotting.plot_plane([[0.0, 1.0], [1.0, 0.0]], ["cat", "dog"]).get_title()
    'Principal components'
    """
    values, of = np.asarray(components), np.asarray(labels)
    if of.ndim != 1 or values.shape != (len(of), 2):
        raise ValueError(f"components: expected shape (n, 2) for n labels, got {values.shape} and {of.shape}")
    ax = axes(ax)
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
