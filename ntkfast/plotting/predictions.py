"""Predictions with their intervals, and the leave-one-out errors that chose their ridge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.learning import checks
from ntkfast.plotting.axes import COLOURS, axes
from ntkfast.support.arrays import finite_array
from ntkfast.support.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_loo_path", "plot_predictions"]

WIDE = 1.96  # deviations on both sides of the mean that hold 95 % of a normal distribution


def plot_predictions(
    mean: ArrayLike,
    std: ArrayLike | None = None,
    *,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    data: tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Predictions with 95 % intervals, mean ± 1.96 std: a function of one variable, or predicted against true values.

    Parameters
    ----------
    mean : array_like, shape (m,)
        As the `predict` of an estimator or the `mean` of a Gaussian process returns it.
    std : array_like, shape (m,), optional
        Standard deviations >= 0.
    x : array_like, shape (m,), optional
        Where the points are on a line, in any order: draws the function over them.
    y : array_like, shape (m,), optional
        Instead of x, the true values: draws the predictions against them, and reports R² and the root of the mean
        squared error.
    data : (x, y), optional
        The points that the function was fitted to, with x.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    TypeError, ValueError
        The shapes are not as described, or not exactly one of x and y is given.

    See Also
    --------
    GaussianProcess.predict : Mean and deviation.
    plot_percentiles : Bands of percentiles.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> x = np.linspace(-1, 1, 50)
    >>> ax = nf.plotting.plot_predictions(np.sin(3 * x), 0.1 + x**2, x=x, data=([0.0], [0.0]))
    >>> ax.get_ylabel()
    '$f(x)$'
    """
    if (x is None) == (y is None):
        raise TypeError(f"x: expected one of x and y, got {'neither' if x is None else 'both'}")
    if data is not None and x is None:
        raise TypeError("data: expected only together with x, got it with y")
    predicted = _vector(mean, "mean")
    deviation = None if std is None else _vector(std, "std", len(predicted))
    if deviation is not None and (deviation < 0).any():
        raise ValueError(f"std: expected numbers >= 0, got {deviation.min()}")
    if x is not None:
        points = None if data is None else (_vector(data[0], "data[0]"), _vector(data[1], "data[1]", np.size(data[0])))
        return _function(axes(ax), _vector(x, "x", len(predicted)), predicted, deviation, points)
    assert y is not None  # as checked above
    return _against_true(axes(ax), _vector(y, "y", len(predicted)), predicted, deviation)


def _vector(values: ArrayLike, name: str, n: int | None = None) -> Array:
    array = finite_array(values, name, np.float64)
    if array.ndim != 1 or not array.size or n not in (None, len(array)):
        raise ValueError(f"{name}: expected shape ({'n' if n is None else n},), got {array.shape}")
    return array


def _function(ax: Axes, x: Array, mean: Array, std: Array | None, data: tuple[Array, Array] | None) -> Axes:
    order = np.argsort(x)
    x, mean = x[order], mean[order]
    if std is not None:
        width = WIDE * std[order]
        ax.fill_between(x, mean - width, mean + width, color=COLOURS[0], alpha=0.2, linewidth=0, label="95 %")
    ax.plot(x, mean, color=COLOURS[0], linewidth=1.8, label="mean")
    if data is not None:
        ax.plot(*data, ".", color="black", markersize=5, label="data", zorder=3)
    ax.set(xlabel="$x$", ylabel="$f(x)$", title="Predictions")
    ax.grid(True, alpha=0.3)
    ax.legend()
    return ax


def _against_true(ax: Axes, y: Array, mean: Array, std: Array | None) -> Axes:
    few = len(y) <= 300
    if std is not None:
        inside = np.mean(np.abs(y - mean) <= WIDE * std)
        label = f"95 % intervals, which hold {inside:.0%}"
        faint = 0.35 if few else 0.12
        ax.errorbar(y, mean, WIDE * std, fmt="none", elinewidth=0.7, alpha=faint, color=COLOURS[0], label=label)
    ax.plot(y, mean, ".", markersize=5 if few else 2.5, color=COLOURS[0], alpha=0.9 if few else 0.5, label="a row")
    ends = min(y.min(), mean.min()), max(y.max(), mean.max())
    ax.plot(ends, ends, color="0.3", linewidth=1, linestyle="--", label="predicted = true", zorder=3)
    spread, error = float(np.var(y)), float(np.mean((y - mean) ** 2))
    fit = f"$R^2$ = {1 - error / spread:.3f}, " if spread > 0 else ""
    ax.set(xlabel="true", ylabel="predicted", title=f"Predictions: {fit}RMSE {np.sqrt(error):.3g}")
    ax.grid(True, alpha=0.3)
    ax.legend(fontsize="small", loc="upper left")
    return ax


def plot_loo_path(alphas: ArrayLike, scores: ArrayLike, t: ArrayLike | None = None, *, ax: Axes | None = None) -> Axes:
    """Leave-one-out errors against the ridge α, against the time t, or in the plane of both; the smallest is marked.

    Parameters
    ----------
    alphas : array_like, shape (A,)
        Ridges > 0 (a single one may be 0), in any order, as in the `alphas_` of an estimator.
    scores : array_like, shape (A,), or (T, A) with t
        Minus the mean squared leave-one-out errors, as in its `loo_scores_`.
    t : array_like, shape (T,), optional
        Times at which training stops, as in its `times_`: 0 is not drawn, inf beyond the others.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        ax, or the axes of the new figure, which is their `figure`.

    Raises
    ------
    TypeError, ValueError
        The shapes are not as described, a ridge among several is not positive, or an error is negative.

    See Also
    --------
    ntkfast.sklearn.NTKRegressor : Has such scores after a fit with alpha="loo".
    plot_early_stopping : Losses against time.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.random.default_rng(0).standard_normal((60, 3))
    >>> model = nf.sklearn.NTKRegressor(alpha="loo").fit(X, X[:, 0])
    >>> nf.plotting.plot_loo_path(model.alphas_, model.loo_scores_).get_ylabel()
    'mean squared error'
    >>> model = nf.sklearn.NTKRegressor(alpha="loo", t="loo").fit(X, X[:, 0])
    >>> nf.plotting.plot_loo_path(model.alphas_, model.loo_scores_, model.times_).get_ylabel()
    'time $t$'
    """
    ridges = _vector(alphas, "alphas")
    if len(ridges) > 1 and (ridges <= 0).any():
        raise ValueError(f"alphas: expected numbers > 0, got {ridges.min()}")
    times = np.array([np.inf]) if t is None else checks.times(t)[0]
    shape, errors = (len(times), len(ridges)), -finite_array(scores, "scores", np.float64)
    if errors.shape != shape and (errors.shape != ridges.shape or len(times) > 1):
        raise ValueError(f"scores: expected shape {ridges.shape if t is None else shape}, got {errors.shape}")
    if errors.min() < 0:
        raise ValueError(f"scores: expected minus mean squared errors, got {-errors.min()}")
    errors = errors.reshape(shape)
    if len(times) > 1:
        errors, times = errors[times > 0], times[times > 0]
    ax = axes(ax)
    if len(times) == 1:
        _line(ax, ridges, errors[0], r"ridge $\alpha$", r"\alpha")
    elif len(ridges) == 1:
        _line(ax, _finite(times), errors[:, 0], "time $t$", "t", np.isinf(times))
    else:
        _plane(ax, ridges, times, errors)
    ax.set_title("Leave-one-out errors")
    return ax


def _finite(times: Array) -> Array:
    """Times with a place for inf: ten times the last of the others."""
    finite = times[np.isfinite(times)]
    return np.where(np.isfinite(times), times, 10 * finite.max() if len(finite) else 1.0)


def _line(
    ax: Axes, values: Array, errors: Array, label: str, symbol: str, infinite: NDArray[np.bool_] | None = None
) -> None:
    order, best = np.argsort(values), int(errors.argmin())
    endless = np.zeros(len(values), dtype=bool) if infinite is None else infinite
    finite = order[~endless[order]]
    ax.semilogx(values[finite], errors[finite], color=COLOURS[0], linewidth=1.8)
    if endless.any():
        ax.plot(values[endless], errors[endless], "s", color=COLOURS[0], label=rf"${symbol} = \infty$")
    at = r"$\infty$" if endless[best] else f"{values[best]:.3g}"
    ax.plot(values[best], errors[best], "o", color=COLOURS[1], label=f"smallest, ${symbol}$ = {at}", zorder=3)
    if errors.min() > 0 and errors.max() > 10 * errors.min():
        ax.set_yscale("log")
    ax.set(xlabel=label, ylabel="mean squared error")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend()


def _plane(ax: Axes, ridges: Array, times: Array, errors: Array) -> None:
    columns, rows = np.argsort(ridges), np.argsort(times)
    ridges, errors = ridges[columns], errors[rows][:, columns]
    infinite, places = np.isinf(times[rows]), _finite(times)[rows]
    most = min(float(errors.max()), 4 * float(errors.min()) or np.inf)  # what is worse need not be told apart
    image = ax.pcolormesh(ridges, places, errors, cmap="viridis_r", shading="nearest", vmax=most)
    ax.set(xscale="log", yscale="log", xlabel=r"ridge $\alpha$", ylabel="time $t$")
    row, column = np.unravel_index(errors.argmin(), errors.shape)
    at = r"$\infty$" if infinite[row] else f"{places[row]:.3g}"
    smallest = rf"smallest, $\alpha$ = {ridges[column]:.3g}, $t$ = {at}"
    ax.plot(ridges[column], places[row], "o", color=COLOURS[1], markeredgecolor="white", label=smallest, clip_on=False)
    if infinite.any():
        ax.set_ylim(top=3 * places[-1])
        ax.axhline(np.sqrt(places[-1] * places[~infinite][-1]), color="white", linewidth=1.5)
        ticks = 10.0 ** np.arange(np.ceil(np.log10(places[0])), np.log10(places[~infinite][-1]) + 1e-9)
        ax.set_yticks([*ticks, places[-1]], [*(f"$10^{{{int(np.round(np.log10(k)))}}}$" for k in ticks), r"$\infty$"])
        ax.yaxis.minorticks_off()
    extend = "max" if errors.max() > most else "neither"
    ax.figure.colorbar(image, ax=ax, label="mean squared error", extend=extend)
    ax.legend(loc="lower right", fontsize="small")
