"""Costs and their derivatives with respect to the outputs, for gradient descent on networks and along kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.support import arrays, gradients
from ntkfast.support.arrays import finite_array, require
from ntkfast.support.typing import Array

__all__ = ["NAMES", "Cost", "Direction", "Loss", "get", "is_by_points", "n_outputs"]

NAMES = ("mse", "logistic", "softmax", "huber")

Loss: TypeAlias = str | Callable[[Array, Any], Any]  # the user's: a name, or (f, y) ↦ (C, d) or C
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
        A callable gets (f, y), y as given here, but (N, 1) if it is (N,) and f has one output. It returns (C, d), a
        number and an array (N, k); or C alone; or the costs of the points, (N,), of which C is the mean. In the last
        two cases d is found numerically, by complex steps where they work, else by differences of fourth order: see
        `gradients.gradient`.
    y : array_like, shape (N, k); (N,) if k = 1
        Targets. For "softmax" class labels of shape (N,), integers from 0 to k-1 or k different strings, whose outputs
        are in sorted order (np.unique), or the probabilities of the classes.
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
        return _Own(loss, y, shape, dtype)
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


class _Own:
    """A user's cost."""

    def __init__(self, loss: Callable[[Array, Any], Any], y: Any, shape: tuple[int, int], dtype: DTypeLike) -> None:
        # as f has it: f - y of shapes (N, 1) and (N,) would be (N, N), and a scalar cost of it silently wrong
        self.y = np.asarray(y)[:, None] if shape[1] == 1 and np.shape(y) == shape[:1] else y
        self.loss, self.shape, self.dtype = loss, shape, dtype
        self.by_points = False

    def __call__(self, f: Array) -> tuple[float, Array]:
        result = self.loss(f, self.y)
        if isinstance(result, tuple) and len(result) == 2:
            value, d = arrays.real(result[0], "loss: C"), arrays.real(result[1], "loss: d")
            if value.shape != () or d.shape != self.shape:
                raise ValueError(
                    f"loss: expected the function to return a number and an array of shape {self.shape}, "
                    f"got shapes {value.shape} and {d.shape}"
                )
        else:
            value, d = self._differentiated(f, result)
        return float(value.mean()), np.ascontiguousarray(d, dtype=self.dtype)

    def _differentiated(self, f: Array, result: Any) -> tuple[Array, Array]:
        if isinstance(result, tuple | list | str) or result is None:
            raise TypeError(f"loss: expected the function to return C or (C, d), got {type(result).__name__}")
        value = arrays.real(result, "loss: C")
        if value.shape not in ((), self.shape[:1]):
            raise ValueError(
                f"loss: expected the function to return a number or the {self.shape[0]} costs of the points, got "
                f"shape {value.shape}"
            )

        def cost(moved: Array) -> Any:
            return self.loss(moved, self.y)

        if value.ndim and not self.by_points:
            gradients.require_separate(cost, f)
            self.by_points = True
        return value, gradients.gradient(cost, f, value)


def is_by_points(cost: Cost, f: Array) -> bool:
    """Whether row i of d depends on row i of f only, as far as is known; a user's cost is evaluated at f to see."""
    if not isinstance(cost, _Own):
        return True
    cost(f)
    return cost.by_points


def _mean(terms: Array) -> float:
    return float(terms.sum(dtype=np.float64)) / len(terms)


def _targets(y: ArrayLike, shape: tuple[int, int], dtype: DTypeLike) -> Array:
    targets = arrays.real(y, "y")
    if targets.shape != shape and not (shape[1] == 1 and targets.shape == shape[:1]):
        also = f" or {shape[:1]}" if shape[1] == 1 else ""
        raise ValueError(f"y: expected shape {shape}{also}, got {targets.shape}")
    return finite_array(targets, "y", dtype).reshape(shape)


def n_outputs(loss: Loss, y: ArrayLike) -> int | None:
    """The number of outputs that class labels y (N,) for "softmax" stand for; None for other losses and targets."""
    if not (isinstance(loss, str) and loss == "softmax" and np.ndim(y) == 1 and np.size(y)):
        return None
    return int(_labels(y).max()) + 1


def _labels(y: ArrayLike) -> Array:
    """Class labels (N,) as the numbers of their columns; names in the order of np.unique."""
    given = np.asarray(y)
    if given.dtype.kind in "US" or (given.dtype.kind == "O" and all(isinstance(label, str) for label in given)):
        columns: Array = np.unique(given.astype(str), return_inverse=True)[1]
        return columns
    labels = arrays.real(y, "y")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"y: expected integers or strings as class labels, got dtype {labels.dtype}")
    return labels


def _probabilities(y: ArrayLike, shape: tuple[int, int], dtype: DTypeLike) -> Array:
    """Class labels (N,) or probabilities (N, k), as probabilities."""
    n, k = shape
    if k < 2:
        raise ValueError(f"loss: expected at least 2 outputs for softmax, got {k}; 'logistic' is for one")
    if np.ndim(y) == 1:
        labels = _labels(y)
        if labels.shape != (n,):
            raise ValueError(f"y: expected {n} class labels, or shape {shape}, got shape {labels.shape}")
        if np.asarray(y).dtype.kind not in "iu" and labels.max() + 1 != k:
            raise ValueError(f"y: expected {k} different names, one for each output, got {labels.max() + 1}")
        require((labels >= 0) & (labels < k), labels, "y", f"class labels from 0 to {k - 1}")
        one_hot: Array = np.eye(k, dtype=dtype)[labels]
        return one_hot
    p = _targets(y, shape, dtype)
    require(p >= 0, p, "y", "probabilities >= 0")
    total = p.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(np.abs(total - 1) > 1e-5)
    if len(off):
        raise ValueError(f"y: expected probabilities that add to 1, got {total[off[0]]} in row {off[0]}")
    return p
