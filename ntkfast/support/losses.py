"""Costs and their derivatives with respect to the outputs, for gradient descent on networks and along kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.support import arrays
from ntkfast.support.arrays import finite_array, require
from ntkfast.support.typing import Array

__all__ = ["NAMES", "Cost", "Direction", "Loss", "get"]

NAMES = ("mse", "logistic", "softmax", "huber")

Loss: TypeAlias = str | Callable[[Array, Any], tuple[Any, ArrayLike]]  # the user's: a name, or (f, y) ↦ (C, d)
Cost: TypeAlias = Callable[[Array], tuple[float, Array]]  # the result of `get`: f ↦ (C, d)
Direction: TypeAlias = Callable[[float, Array], ArrayLike]  # (t, f) ↦ d, in place of a cost


def get(loss: Loss, y: ArrayLike | None, shape: tuple[int, int], dtype: DTypeLike = np.float64) -> Cost:
    """The cost as a function f ↦ (C, d) of the outputs, d = N ∂C/∂f, so that ∂_t f = -(1/N) K d along kernel K.

    (Jacot, Gabriel and Hongler 2018, section 3.)

        "mse"       C = 1/(2N) Σ_i ‖f_i - y_i‖²,                d = f - y
        "logistic"  C = 1/N Σ_i Σ_k log(1 + exp(-y_ik f_ik)),   d = -y/(1 + exp(y f)),   y in {-1, +1}
        "softmax"   C = -1/N Σ_i Σ_k y_ik log softmax(f_i)_k,   d = softmax(f) - y
        "huber"     C = 1/N Σ_i Σ_k h(f_ik - y_ik),             d = f - y held between -1 and 1,
                    h(r) = r²/2 for |r| <= 1, else |r| - 1/2

    Parameters
    ----------
    loss : {"mse", "logistic", "softmax", "huber"} or callable
        A callable gets (f, y), y as given here, and returns (C, d): a number and an array (N, k).
    y : array_like, shape (N, k); (N,) if k = 1
        Targets. For "softmax" integer class labels from 0 to k-1 of shape (N,), or the probabilities of the classes.
    shape : (N, k)
        Of the outputs.
    dtype : {float32, float64}
        That of f and d. C is a float, summed in float64.

    Returns
    -------
    callable

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.support import losses
    >>> mse = losses.get("mse", [1.0, 0.0], shape=(2, 1))
    >>> value, d = mse(np.array([[3.0], [0.0]]))
    >>> value, d.ravel()
    (1.0, array([2., 0.]))
    """
    if callable(loss):
        return _own(loss, y, shape, dtype)
    if not isinstance(loss, str):
        raise TypeError(f"loss: expected a name or a function, got {type(loss).__name__}")
    if loss not in NAMES:
        raise ValueError(f"loss: {loss!r} is unknown; the known ones are {', '.join(NAMES)}")
    if y is None:
        raise TypeError(f"y: expected targets, as y is needed for loss {loss!r}, got None")
    if loss == "softmax":
        return _softmax(_probabilities(y, shape, dtype))
    y = _targets(y, shape, dtype)
    if loss == "logistic":
        require(np.abs(y) == 1, y, "y", "-1 or +1 for the logistic loss")
    return {"mse": _mse, "logistic": _logistic, "huber": _huber}[loss](y)


def _mse(y: Array) -> Cost:
    def cost(f: Array) -> tuple[float, Array]:
        d = f - y
        return 0.5 * _mean(d * d), d

    return cost


def _logistic(y: Array) -> Cost:
    def cost(f: Array) -> tuple[float, Array]:
        margin = y * f
        return _mean(np.logaddexp(0, -margin)), -y * scipy.special.expit(-margin)

    return cost


def _softmax(y: Array) -> Cost:
    def cost(f: Array) -> tuple[float, Array]:
        log_p = scipy.special.log_softmax(f, axis=1)
        # xlogy's convention, 0 · -inf = 0: a class of probability 0 costs nothing however certain the network is
        return _mean(np.where(y > 0, -y * log_p, 0)), np.exp(log_p) - y

    return cost


def _huber(y: Array) -> Cost:
    def cost(f: Array) -> tuple[float, Array]:
        d = f - y
        r = np.abs(d)
        return _mean(np.where(r <= 1, 0.5 * r * r, r - 0.5)), np.clip(d, -1, 1)

    return cost


def _own(loss: Callable[[Array, Any], Any], y: Any, shape: tuple[int, int], dtype: DTypeLike) -> Cost:
    def cost(f: Array) -> tuple[float, Array]:
        result = loss(f, y)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"loss: expected the function to return (C, d), got {type(result).__name__}")
        value, d = arrays.real(result[0], "loss: C"), arrays.real(result[1], "loss: d")
        if value.shape != () or d.shape != shape:
            raise ValueError(
                f"loss: expected the function to return a number and an array of shape {shape}, "
                f"got shapes {value.shape} and {d.shape}"
            )
        return float(value), np.ascontiguousarray(d, dtype=dtype)

    return cost


def _mean(terms: Array) -> float:
    return float(terms.sum(dtype=np.float64)) / len(terms)


def _targets(y: ArrayLike, shape: tuple[int, int], dtype: DTypeLike) -> Array:
    targets = arrays.real(y, "y")
    if targets.shape != shape and not (shape[1] == 1 and targets.shape == shape[:1]):
        also = f" or {shape[:1]}" if shape[1] == 1 else ""
        raise ValueError(f"y: expected shape {shape}{also}, got {targets.shape}")
    return finite_array(targets, "y", dtype).reshape(shape)


def _probabilities(y: ArrayLike, shape: tuple[int, int], dtype: DTypeLike) -> Array:
    """Class labels (N,) or probabilities (N, k), as probabilities."""
    n, k = shape
    if k < 2:
        raise ValueError(f"loss: expected at least 2 outputs for softmax, got {k}; 'logistic' is for one")
    labels = arrays.real(y, "y")
    if labels.ndim == 1:
        if labels.shape != (n,):
            raise ValueError(f"y: expected {n} class labels, or shape {shape}, got shape {labels.shape}")
        if labels.dtype.kind not in "iu":
            raise TypeError(f"y: expected integers as class labels, got dtype {labels.dtype}")
        require((labels >= 0) & (labels < k), labels, "y", f"class labels from 0 to {k - 1}")
        one_hot: Array = np.eye(k, dtype=dtype)[labels]
        return one_hot
    p = _targets(labels, shape, dtype)
    require(p >= 0, p, "y", "probabilities >= 0")
    total = p.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(np.abs(total - 1) > 1e-5)
    if len(off):
        raise ValueError(f"y: expected probabilities that add to 1, got {total[off[0]]} in row {off[0]}")
    return p
