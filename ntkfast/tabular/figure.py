"""The figures of the commands `fit` and `spectrum`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast import plotting
from ntkfast.plotting.axes import COLOURS, new_figure
from ntkfast.support.files import replacing
from ntkfast.tabular.fit import Fit
from ntkfast.tabular.matrix import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 12  # classes whose names and counts fit into a confusion matrix


def save(figure: Figure, path: str | Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:].lower(), dpi=130)


def of_fit(fit: Fit) -> Figure:
    """Predicted against true values, or the confusion matrix; the course of training; the choice of the ridge."""
    figure = new_figure(15, 4.6)
    first, second, third = figure.subplots(1, 3)
    target, predicted = fit.target, fit.predictions[0].held_out
    if target.classes is None:
        assert fit.deviations is not None  # which every regression has
        plotting.plot_predictions(
            target.decode(predicted), target.scale * fit.deviations, y=target.decode(fit.y), ax=first
        )
        first.set(xlabel=f"true {target.name}", ylabel=f"predicted {target.name}")
    else:
        confusion(first, fit.y, predicted, target.classes)
    curves(second, fit)
    plotting.plot_loo_path(fit.selection.alphas, -fit.selection.errors, ax=third)
    third.set_title(f"Choice of the ridge, {fit.selection.n} rows")
    if target.classes is None:
        third.set_ylabel(f"mean squared error / variance of {target.name}")
    return figure


def confusion(ax: Axes, y: Any, predicted: Any, classes: tuple[str, ...]) -> None:
    """How often each class was taken for each."""
    k = len(classes)
    counts = np.zeros((k, k), dtype=int)
    np.add.at(counts, (y, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if k <= MOST_NAMED:
        ax.set_xticks(range(k), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        ax.set_yticks(range(k), classes)
        for i, j in np.argwhere(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize="small")
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.set_title(f"Rows held out: {np.mean(y == predicted):.1%} correct")


def curves(ax: Axes, fit: Fit) -> None:
    """The score over the time of training."""
    name = "$R^2$" if fit.target.classes is None else "accuracy"
    known, new = fit.curves
    ax.semilogx(fit.times, known, color=COLOURS[0], linewidth=1.8, label=f"{fit.selection.n} rows trained on")
    ax.semilogx(fit.times, new, color=COLOURS[1], linewidth=1.8, label=f"{len(fit.y)} rows held out")
    best = int(new.argmax())
    at = f"largest, at t = {fit.times[best]:.3g}"
    ax.plot(fit.times[best], new[best], "o", color="black", label=at, zorder=3)
    ax.set(xlabel="time $t$", ylabel=name, ylim=(max(-0.1, float(min(known.min(), new.min())) - 0.05), 1.02))
    ax.set_title(rf"Course of training, $\alpha$ = {fit.alpha:.3g}")
    ax.grid(True, which="major", alpha=0.3)
    ax.legend(loc="lower right", fontsize="small")


def of_spectrum(found: Spectrum) -> Figure:
    """The eigenvalues by rank, with the times of learning on the other side."""
    figure = new_figure(6.5, 4.8)
    ax = figure.subplots()
    plotting.plot_spectrum(found.eigenvalues, ax=ax)
    ax.set_title(f"Spectrum of the kernel of {found.n} rows")
    times = ax.secondary_yaxis("right", functions=(_inverse, _inverse))
    times.set_ylabel(r"time $1/\lambda_i$ at which it is learned")
    return figure


def _inverse(values: Any) -> Any:
    with np.errstate(divide="ignore"):
        return 1 / np.asarray(values, dtype=np.float64)
