"""The dual of an activation: the map that a layer applies to the covariance of a pair of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.engine.duals import duals
from ntkfast.networks import Activation
from ntkfast.networks.activations import get

__all__ = ["dual", "dual_derivative"]


def dual(activation: str | Activation, q1: ArrayLike, q2: ArrayLike, c: ArrayLike) -> NDArray[np.float64] | float:
    """E[φ(u)φ(v)] for Gaussian u, v of variances q1, q2 and covariance c.

    Parameters
    ----------
    activation : Activation or str
    q1, q2, c : array_like
        Broadcast against each other; q1, q2 >= 0 and |c| <= √(q1 q2).

    Returns
    -------
    ndarray of float64, or float

    Raises
    ------
    ValueError
        A variance is negative, a covariance too large, a number not finite, or the result out of float64's range.
    PrecisionError
        See `Activation.from_function`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.dual("relu", 1.0, 1.0, 1.0)
    0.5
    """
    return duals(get(activation), q1, q2, c)[0]


def dual_derivative(
    activation: str | Activation, q1: ArrayLike, q2: ArrayLike, c: ArrayLike
) -> NDArray[np.float64] | float:
    """E[φ'(u)φ'(v)], the derivative of `dual` with respect to c; arguments, result and errors as there.

    Where φ jumps, its derivative is taken without the delta function there.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.dual_derivative("relu", 1.0, 1.0, 1.0)
    0.5
    """
    return duals(get(activation), q1, q2, c)[1]
