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
        φ, or its name.
    q1, q2, c : array_like
        Variances and covariance; broadcast against each other. q1, q2 >= 0 and abs(c) <= √(q1 q2).

    Returns
    -------
    ndarray of float64, or float
        E[φ(u)φ(v)], of the shape to which q1, q2 and c broadcast; a float if all are numbers.

    Raises
    ------
    ValueError
        A variance is negative, a covariance too large, a number not finite, or the result out of float64's range.
    PrecisionError
        See `Activation.from_function`.

    See Also
    --------
    dual_derivative : E[φ'(u)φ'(v)].
    Activation.hermite_coefficients : The coefficients of its series in the correlation.
    nngp : What the recursion over the layers makes of it.

    References
    ----------
    Daniely, Frostig and Singer (2016), "Toward deeper understanding of neural networks: the power of initialization and
    a dual view on expressivity", section 4, where the dual is defined.

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
    """E[φ'(u)φ'(v)], the derivative of `dual` with respect to c.

    Where φ jumps, its derivative is taken without the delta function there.

    Parameters
    ----------
    activation, q1, q2, c
        As in `dual`.

    Returns
    -------
    ndarray of float64, or float
        E[φ'(u)φ'(v)], of the shape to which q1, q2 and c broadcast.

    Raises
    ------
    ValueError, PrecisionError
        As in `dual`.

    See Also
    --------
    dual : E[φ(u)φ(v)].
    phase : Whether w² E[φ'(u)φ'(v)] at equal points is below, equal to or above 1.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.dual_derivative("relu", 1.0, 1.0, 1.0)
    0.5
    """
    return duals(get(activation), q1, q2, c)[1]
