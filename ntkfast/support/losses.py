"""Costs and their derivatives by the outputs, for gradient descent on networks and along kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from ntkfast.support import arrays
from ntkfast.support.arrays import finite_array, require

__all__ = ["NAMES", "get"]

NAMES = ("mse", "logistic", "softmax", "huber")


def get(loss: str | Callable, y, shape: tuple[int, int], dtype=np.float64) -> Callable:
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
        A callable gets (f, y), y as it was given here, and returns (C, d): a number and an array (N, k).
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


def _mse(y):
    def cost(f):
        d = f - y
        return 0.5 * _mean(d * d), d

    return cost


def _logistic(y):
    def cost(f):
        margin = y * f
        return _mean(np.logaddexp(0, -margin)), -y * scipy.special.expit(-margin)

    return cost


def _softmax(y):
    def cost(f):
        log_p = scipy.special.log_softmax(f, axis=1)
        # xlogy's convention, 0 · -inf = 0: a class of probability 0 costs nothing however sure the network is
        return _mean(np.where(y > 0, -y * log_p, 0)), np.exp(log_p) - y

    return cost


def _huber(y):
    def cost(f):
        d = f - y
        r = np.abs(d)
        return _mean(np.where(r <= 1, 0.5 * r * r, r - 0.5)), np.clip(d, -1, 1)

    return cost


def _own(loss, y, shape, dtype):
    def cost(f):
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


def _mean(terms):
    return float(terms.sum(dtype=np.float64)) / len(terms)


def _targets(y, shape, dtype):
    y = arrays.real(y, "y")
    if y.shape != shape and not (shape[1] == 1 and y.shape == shape[:1]):
        also = f" or {shape[:1]}" if shape[1] == 1 else ""
        raise ValueError(f"y: expected shape {shape}{also}, got {y.shape}")
    return finite_array(y, "y", dtype).reshape(shape)


def _probabilities(y, shape, dtype):
    """Class labels (N,) or probabilities (N, k), as probabilities."""
    n, k = shape
    if k < 2:
        raise ValueError(f"loss: expected at least 2 outputs for softmax, got {k}; 'logistic' is for one")
    y = arrays.real(y, "y")
    if y.ndim == 1:
        if y.shape != (n,):
            raise ValueError(f"y: expected {n} class labels, or shape {shape}, got shape {y.shape}")
        if y.dtype.kind not in "iu":
            raise TypeError(f"y: expected integers as class labels, got dtype {y.dtype}")
        require((y >= 0) & (y < k), y, "y", f"class labels from 0 to {k - 1}")
        return np.eye(k, dtype=dtype)[y]
    y = _targets(y, shape, dtype)
    require(y >= 0, y, "y", "probabilities >= 0")
    total = y.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(np.abs(total - 1) > 1e-5)
    if len(off):
        raise ValueError(f"y: expected probabilities that add to 1, got {total[off[0]]} in row {off[0]}")
    return y
