"""Targets as columns of least squares, and how well predictions of them do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.learning import classes
from ntkfast.support.typing import Array
from ntkfast.tabular.target import Target


@dataclass(frozen=True)
class Predictions:
    """What one model predicts on one split.

    Attributes
    ----------
    name : str
    left_out : ndarray, shape (n,), or None
        Of training rows, each without itself: standardised numbers, or numbers of classes.
    held_out : ndarray, shape (m,)
        Of rows held out.
    seconds : float
    note : str
        How its parameters were found.
    """

    name: str
    left_out: Any
    held_out: Any
    seconds: float
    note: str


def as_columns(target: Target, y: Any) -> Array:
    """The targets of least squares, (n, q): numbers as they are, classes as in `learning.classes`."""
    if target.classes is None:
        return np.asarray(y, dtype=np.float64)[:, None]
    return classes.targets(y, len(target.classes))


def decided(target: Target, values: Array) -> Any:
    """The inverse of `as_columns`, for predicted columns, (n,)."""
    return values[:, 0] if target.classes is None else classes.scores(values).argmax(axis=1)


def score(target: Target, y: Any, predicted: Any) -> float:
    """R² (NaN if y does not vary), or the accuracy."""
    if target.classes is not None:
        return float(np.mean(y == predicted))
    variance = float(np.var(y))
    return 1 - float(np.mean((y - predicted) ** 2)) / variance if variance > 0 else float("nan")


def error(target: Target, y: Any, predicted: Any) -> float:
    """The root of the mean squared error in the units of the target."""
    return target.scale * float(np.sqrt(np.mean((y - predicted) ** 2)))
