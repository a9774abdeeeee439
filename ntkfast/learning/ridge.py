"""Kernel ridge regression stopped at any time: dual coefficients, and leave-one-out residuals for many ridges at once.

Gradient flow of (1/2N) (‖K a - y‖² + α aᵀ K a) from a = 0 has, with K = V diag(μ) Vᵀ,

    a_t = V diag((1 - e^{-t(μ+α)/N}) / (μ+α)) Vᵀ y

which at t = ∞ is (K + αI)⁻¹ y, and at α = 0 the flow of `LeastSquaresFlow`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ntkfast.learning import checks
from ntkfast.learning.decay import Continuous
from ntkfast.learning.factor import Eigen, cholesky
from ntkfast.learning.propagator import Propagator
from ntkfast.support import arrays
from ntkfast.support.typing import Array


class Residuals(NamedTuple):
    """y_i - f_i, (..., N, q), and 1 - H_ii, (..., N), where f = H y on the data."""

    values: Array
    kept: Array

    def left_out(self, share: Array | None = None) -> Array:
        """y_i minus its prediction without the point i, or without this share of its weight, (..., N, q).

        (y_i - f_i)/(1 - H_ii) (Rasmussen and Williams 2006, equation 5.12). This is exact at t = ∞; before it, where
        the flow of the other points alone has other eigenvectors, it is an approximation.
        """
        kept = self.kept if share is None else 1 - share * (1 - self.kept)
        result: Array = self.values / kept[..., None]
        return result


def dual_coefficients(
    K: Array, y: Array, alpha: float, t: float, n_points: float, residuals: bool = False
) -> tuple[Array, Residuals | None]:
    """a_t, (N, q), and on request its residuals. K is overwritten.

    By a Cholesky factor at t = ∞ if K + αI is positive definite beyond rounding, else by the eigendecomposition, which
    at α = 0 gives the solution of least norm.
    """
    eps = float(np.finfo(K.dtype).eps)
    tiny = eps * K.diagonal().mean()
    K[np.diag_indices_from(K)] += K.dtype.type(alpha)
    with checks.overflow("dual_coefficients") as fits:
        # the ridge makes an ill-conditioned K harmless: only a matrix that is singular to rounding is decomposed
        found = cholesky(K, overwrite=True, rcond=eps if alpha else None) if np.isinf(t) else None
        if found:
            dual = fits(found.solve(y))
            if not residuals:
                return dual, None
            ridge = K.dtype.type(max(alpha, tiny))  # without a ridge, the ratio of residuals that are all 0
            return dual, Residuals(ridge * dual, ridge * found.inverse().diagonal())
        propagator = Propagator(K, "the kernel", True, n_points)
        e = propagator.eigen()
        dual = fits(propagator.spread(e.vectors, propagator.learned(Continuous(np.array([t]))), e.vectors.T @ y)[0])
        if not residuals:
            return dual, None
        kernel = Eigen(np.maximum(e.values - alpha, 0), e.vectors, e.floor, e.error)
        found_errors = residuals_of(kernel, y, np.array([alpha]), t, n_points)
        return dual, Residuals(found_errors.values[0], found_errors.kept[0])


def from_eigen(e: Eigen, y: Array, alpha: float, t: float, n_points: float) -> Array:
    """a_t, (N, q), for α > 0 from the eigendecomposition of K."""
    rates = e.values + alpha
    weights = -np.expm1(-t / n_points * rates) / rates
    dual: Array = e.vectors @ (weights.astype(y.dtype)[:, None] * (e.vectors.T @ y))
    return dual


def residuals_of(e: Eigen, y: Array, alphas: Array, t: float, n_points: float) -> Residuals:
    """The residuals for every α, with a first axis (A,), from the eigendecomposition of K."""
    floor = float(np.finfo(y.dtype).eps) * float(e.values[-1]) or 1.0
    ridges = np.maximum(alphas, floor)[:, None]
    rates = e.values + ridges  # (A, n)
    left = ((ridges + e.values * np.exp(-t / n_points * rates)) / rates).astype(y.dtype)  # of the error
    coefficients = (left.T[:, :, None] * (e.vectors.T @ y)[:, None, :]).reshape(len(y), -1)  # (n, A q)
    values, kept = np.empty((len(alphas), *y.shape), y.dtype), np.empty((len(alphas), len(y)), y.dtype)
    for rows in arrays.blocks(len(y)):
        V = e.vectors[rows]
        values[:, rows] = (V @ coefficients).reshape(len(V), len(alphas), -1).transpose(1, 0, 2)
        kept[:, rows] = left @ np.square(V).T
    return Residuals(values, kept)
