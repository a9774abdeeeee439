"""Kernel ridge regression stopped at any time: dual coefficients, and leave-one-out residuals for many ridges at once.

Gradient flow of (1/2N) (‖K a - y‖² + α aᵀ K a) from a = 0 has, with K = V diag(μ) Vᵀ,

    a_t = V diag((1 - e^{-t(μ+α)/N}) / (μ+α)) Vᵀ y

which at t = ∞ is (K + αI)⁻¹ y, and at α = 0 the flow of `LeastSquaresFlow`.
"""

from __future__ import annotations

import numpy as np

from ntkfast.learning import checks
from ntkfast.learning.decay import Continuous
from ntkfast.learning.factor import Eigen
from ntkfast.learning.propagator import Propagator
from ntkfast.support import arrays
from ntkfast.support.typing import Array


def dual_coefficients(
    K: Array, y: Array, alpha: float, t: float, n_points: float, residuals: bool = False
) -> tuple[Array, Array | None]:
    """a_t, (N, q), and on request the leave-one-out residuals, (N, q). K is overwritten.

    By a Cholesky factor at t = ∞ if K + αI is positive definite beyond rounding, else by the eigendecomposition, which
    at α = 0 gives the solution of least norm.
    """
    K[np.diag_indices_from(K)] += K.dtype.type(alpha)
    with checks.overflow("dual_coefficients") as fits:
        time, propagator = Continuous(np.array([t])), Propagator(K, "the kernel", True, n_points)
        found = propagator.cholesky(time)
        if found:
            dual = fits(found.solve(y))
            return dual, dual / found.inverse().diagonal()[:, None] if residuals else None
        e = propagator.eigen()
        dual = fits(propagator.spread(e.vectors, propagator.learned(time), e.vectors.T @ y)[0])
        if not residuals:
            return dual, None
        kernel = Eigen(np.maximum(e.values - alpha, 0), e.vectors, e.floor, e.error)
        return dual, leave_one_out(kernel, y, np.array([alpha]), t, n_points)[0]


def from_eigen(e: Eigen, y: Array, alpha: float, t: float, n_points: float) -> Array:
    """a_t, (N, q), for α > 0 from the eigendecomposition of K."""
    rates = e.values + alpha
    weights = -np.expm1(-t / n_points * rates) / rates
    dual: Array = e.vectors @ (weights.astype(y.dtype)[:, None] * (e.vectors.T @ y))
    return dual


def leave_one_out(e: Eigen, y: Array, alphas: Array, t: float, n_points: float) -> Array:
    """y_i minus its prediction from the other points, (A, N, q), for every α, from the eigendecomposition of K.

    With f = H y on the data they are (y_i - f_i)/(1 - H_ii) (Rasmussen and Williams 2006, equation 5.12). This is exact
    at t = ∞; before it, where the flow of the other points alone has other eigenvectors, it is an approximation.
    """
    floor = np.finfo(y.dtype).eps * max(float(e.values[-1]), np.finfo(y.dtype).tiny)
    ridges = np.maximum(alphas, floor)[:, None]
    rates = e.values + ridges  # (A, n)
    left = ((ridges + e.values * np.exp(-t / n_points * rates)) / rates).astype(y.dtype)  # of the error
    coefficients = (left.T[:, :, None] * (e.vectors.T @ y)[:, None, :]).reshape(len(y), -1)  # (n, A q)
    result = np.empty((len(alphas), *y.shape), y.dtype)
    for rows in arrays.blocks(len(y)):
        V = e.vectors[rows]
        errors = (V @ coefficients).reshape(len(V), len(alphas), -1)
        result[:, rows] = (errors / (np.square(V) @ left.T)[:, :, None]).transpose(1, 0, 2)
    return result
