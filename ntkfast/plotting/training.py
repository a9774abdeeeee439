"""Training: functions over time, their components, losses, and the convergence of wide networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.learning import checks
from ntkfast.learning.convergence import Convergence
from ntkfast.learning.early_stopping import EarlyStopping
from ntkfast.learning.percentiles import quantiles
from ntkfast.plotting.axes import COLOURS, axes, name_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_components", "plot_convergence", "plot_early_stopping", "plot_percentiles"]


def plot_convergence(result: Convergence, *, ax: Axes | None = None) -> Axes:
    """The distance of the empirical tangent kernel from its limit against the width, and the fitted power law.

    Where the theory of order 1/n is known, the root mean square of the distance in Frobenius norm, with two standard
    errors, is drawn beside its line.

    Parameters
    ----------
    result : Convergence
        As `convergence` returns it.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    See Also
    --------
    convergence : Makes the result.
    finite_width : What theory expects.

    Examples
    --------
    >>> import ntkfast as nf
    >>> result = nf.convergence(nf.MLP(depth=2), [[1.0, 0.0]], widths=[20, 80], n_seeds=3, rng=0)
    >>> nf.plotting.plot_convergence(result).get_xlabel()
    'width'
    """
    ax = axes(ax)
    widths = np.repeat(result.widths, result.errors.shape[1])
    ax.loglog(widths, result.errors.reshape(-1), ".", markersize=4, color="#0072b2", alpha=0.5, label="one network")
    ax.loglog(result.widths, result.median, "o-", color="#d55e00", label="median")
    if np.isfinite(result.slope):
        centre = np.exp(np.log(result.widths).mean())
        height = np.exp(np.log(result.errors).mean())
        label = rf"slope ${result.slope:.2f} \pm {result.slope_error:.2f}$"
        line = height * (result.widths / centre) ** result.slope
        ax.loglog(result.widths, line, "--", color="0.4", linewidth=1, label=label)
    if (result.theory > 0).all():
        ax.loglog(
            result.widths,
            result.theory,
            color=COLOURS[2],
            linewidth=1.5,
            label="root mean square in Frobenius norm, theory",
        )
        squares = result.frobenius**2
        mean, error = squares.mean(axis=1), 2 * squares.std(axis=1) / np.sqrt(squares.shape[1])
        low, high = np.sqrt(mean) - np.sqrt(np.maximum(mean - error, mean / 4)), np.sqrt(mean + error) - np.sqrt(mean)
        style = {"fmt": "s", "markersize": 5, "markerfacecolor": "none", "color": COLOURS[2], "elinewidth": 1}
        label = r"the same, measured, $\pm 2$ standard errors"
        ax.errorbar(result.widths, np.sqrt(mean), [low, high], label=label, **style)
    ax.set(xlabel="width", ylabel=r"$\|\hat\Theta - \Theta\| \,/\, \|\Theta\|$")
    ax.set_title("Convergence to the limit kernel")
    name_widths(ax, result.widths)
    ax.grid(True, which="major", alpha=0.3)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend above the networks
    ax.legend(fontsize="small", loc="upper right")
    return ax


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
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    TypeError, ValueError
        The shapes are not as described, or the levels are not in ascending order.

    See Also
    --------
    LeastSquaresFlow.percentiles : Those of training.
    GaussianProcess.percentiles : Those of a posterior.
    plot_predictions : Mean and standard deviation.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), figure 2.

    Examples
    --------
    >>> import ntkfast as nf
    >>> ax = nf.plotting.plot_percentiles([0.0, 1.0], [[-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]], levels=(10, 50, 90))
    >>> ax.get_ylabel()
    '$f(x)$'
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
    ax, middle = axes(ax), len(bands) // 2
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
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    TypeError, ValueError
        The shapes are not as described.

    See Also
    --------
    LeastSquaresFlow.components : What is drawn.
    plot_early_stopping : Losses instead.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), figure 3(c).

    Examples
    --------
    >>> import ntkfast as nf
    >>> flow, t = nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), [1.0, 2.0, 4.0]
    >>> nf.plotting.plot_components(t, flow.components(t), flow.eigenvalues).get_xlabel()
    'time $t$'
    """
    times, errors = checks.times(t)[0], np.abs(np.asarray(components))
    if errors.ndim != 2 or len(errors) != times.size or errors.shape[1] > len(COLOURS):
        raise ValueError(
            f"components: expected {times.size} times and at most {len(COLOURS)} components, got shape {errors.shape}"
        )
    rates = None if eigenvalues is None else np.asarray(eigenvalues)
    if rates is not None and (rates.ndim != 1 or len(rates) < errors.shape[1]):
        raise ValueError(f"eigenvalues: expected one for each of {errors.shape[1]} components, got shape {rates.shape}")
    ax = axes(ax)
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
        As `LeastSquaresFlow.early_stopping` returns it.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    See Also
    --------
    LeastSquaresFlow.early_stopping : Makes it.
    plot_loo_path : Leave-one-out errors instead.

    Examples
    --------
    >>> import ntkfast as nf
    >>> stopping = nf.LeastSquaresFlow([[1.0]], [1.0]).early_stopping([[1.0]], [0.5])
    >>> nf.plotting.plot_early_stopping(stopping).get_title()
    'Early stopping'
    """
    ax = axes(ax)
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
