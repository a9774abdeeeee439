"""When to stop: the time at which the validation loss of a flow is smallest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from ntkfast.support import reprs
from ntkfast.support.typing import Array

__all__ = ["EarlyStopping"]

N_TIMES = 200  # of the grid


@dataclass(frozen=True)
class EarlyStopping:
    """What `LeastSquaresFlow.early_stopping` finds.

    Attributes
    ----------
    t, loss : float
        The time of the smallest validation loss, and that loss. If the loss at t = 0 equals the smallest to rounding, t
        is 0; otherwise, if the loss at t = inf does, t is inf, as for a loss that keeps falling.
    times : ndarray, shape (T,)
        The times examined, ascending.
    training_loss, validation_loss : ndarray, shape (T,)
        At these times.

    See Also
    --------
    LeastSquaresFlow.early_stopping : Makes it.
    ntkfast.plotting.plot_early_stopping : Draws it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> flow = nf.LeastSquaresFlow([[1.0]], [1.0])
    >>> found = flow.early_stopping([[1.0]], [0.5], t=[0.0, 1.0, 10.0])
    >>> found.t, found.validation_loss.shape
    (1.0, (3,))
    """

    t: float
    loss: float
    times: Array
    training_loss: Array
    validation_loss: Array

    __repr__ = reprs.short


def grid(rates: Array) -> Array:
    """0, inf and times in geometric progression from 0.01/λ_1 to 100/λ_n, for the positive λ, in any order."""
    positive = rates[rates > 0]
    span = np.geomspace(0.01 / positive.max(), 100 / positive.min(), N_TIMES) if len(positive) else np.empty(0)
    return np.concatenate([[0.0], span, [np.inf]])


def best(
    validation: Callable[[Array], Array], times: Array, losses: Array, eps: float, refine: bool
) -> tuple[float, float]:
    """The time of the smallest loss, and that loss: of `losses` at these ascending times, or between them (refine).

    eps: the rounding error of √loss, relative to its largest.
    """
    roots = np.sqrt(losses)
    rounding = eps * roots.max()
    equal, k = roots <= roots.min() + rounding, int(losses.argmin())
    if equal[-1] and np.isinf(times[-1]):
        k = len(times) - 1
    if equal[0] and times[0] == 0:
        k = 0
    if not refine or len(times) <= 2 or np.isinf(times[k]):
        return float(times[k]), float(losses[k])
    low, high = times[max(k - 1, 0)], min(times[k + 1], 100 * times[-2])

    def at(s: float) -> float:
        """A time between low and high, for s from 0 to 1: geometric like the grid, or linear if low is 0."""
        return float(low * (high / low) ** s if low > 0 else high * s)

    found = scipy.optimize.minimize_scalar(
        lambda s: validation(np.array([at(s)]))[0], bounds=(0, 1), method="bounded", options={"xatol": 1e-8}
    )
    if np.sqrt(found.fun) < roots[k] - (rounding if k == 0 else 0):
        return at(found.x), float(found.fun)
    return float(times[k]), float(losses[k])
