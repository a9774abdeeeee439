"""Kernel ridge regression stopped at any time: dual coefficients, and errors for many ridges and times at once.

Gradient flow of (1/2N) (‖K a - y‖² + α aᵀ K a) from a = 0 has, with K = V diag(μ) Vᵀ,

    a_t = V diag((1 - e^{-t(μ+α)/N}) / (μ+α)) Vᵀ y

which at t = ∞ is (K + αI)⁻¹ y, and at α = 0 the flow of `LeastSquaresFlow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ntkfast.learning import checks, pieces
from ntkfast.learning.decay import Continuous
from ntkfast.learning.factor import Eigen, cholesky
from ntkfast.learning.propagator import Propagator, dual_weights
from ntkfast.support import arrays
from ntkfast.support.forks import cached_property
from ntkfast.support.typing import Array

MOST_COLUMNS = 256  # pairs of ridges and times that are computed at once, times outputs
N_ALPHAS = 50
FLAT = 1e-3  # relative differences of errors that do not matter


def diagonal_mean(K: Array) -> float:
    """Of a kernel, the scale of ridges and rates; 1 if it is 0."""
    return float(K.diagonal().mean(dtype=np.float64)) or 1.0


def candidates(K: Array) -> Array:
    """The ridges to choose from, (A,): from what rounding tells from 0 to far above the kernel."""
    return diagonal_mean(K) * np.geomspace(np.sqrt(np.finfo(K.dtype).eps), 100, N_ALPHAS)


def at_end(alphas: Array, errors: Array) -> str | None:
    """A warning if the best of the ridges is the first or the last one, and the error still falls there; or None."""
    order = np.argsort(alphas)
    alphas, errors = alphas[order], errors[order]
    best, last = int(errors.argmin()), len(errors) - 1
    if 0 < best < last or last == 0 or errors[best] >= (1 - FLAT) * errors[1 if best == 0 else -2]:
        return None
    end, beyond = ("smallest", "smaller") if best == 0 else ("largest", "larger")
    return f"alpha: the {end} of the ridges tried, {alphas[best]:.3g}, is the best; {beyond} ones may be better still"


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
    K: Array, y: Array, alpha: float, t: float, n_points: float, solver: str = "auto", residuals: bool = False
) -> tuple[Array, Residuals | None]:
    """a_t, (N, q), and on request its residuals. K is overwritten.

    solver: "auto" takes a Cholesky factor at t = ∞ if K + αI is positive definite beyond rounding, else the
    eigendecomposition ("eigh"), which at α = 0 gives the solution of least norm; "cholesky" raises then.
    """
    eps = float(np.finfo(K.dtype).eps)
    tiny = eps * K.diagonal().mean()
    K[np.diag_indices_from(K)] += K.dtype.type(alpha)
    with checks.overflow("dual_coefficients") as fits:
        # the ridge makes an ill-conditioned K harmless: only a matrix that is singular to rounding is decomposed
        direct = np.isinf(t) and solver != "eigh"
        found = cholesky(K, overwrite=True, rcond=eps if alpha else None) if direct else None
        if found:
            dual = fits(found.solve(y))
            if not residuals:
                return dual, None
            ridge = K.dtype.type(max(alpha, tiny))  # without a ridge, the ratio of residuals that are all 0
            return dual, Residuals(ridge * dual, ridge * found.inverse_blocks(1)[:, 0, 0])
        if solver == "cholesky":
            raise np.linalg.LinAlgError(
                f"alpha: the kernel plus {alpha:g} on its diagonal is singular to rounding; expected a larger ridge, "
                "or solver='eigh', for the solution of least norm"
            )
        propagator = Propagator(K, "the kernel", True, n_points)
        e = propagator.eigen()
        dual = fits(propagator.spread(e.vectors, propagator.learned(Continuous(np.array([t]))), e.vectors.T @ y)[0])
        if not residuals:
            return dual, None
        kernel = Eigen(np.maximum(e.values - alpha, 0), e.vectors, e.floor, e.error)
        return dual, Spectral(kernel, y, n_points).residuals(alpha, t)


@dataclass(frozen=True)
class Spectral:
    """Solutions for any ridge and time from the eigendecomposition of K and the targets y, (N, q)."""

    e: Eigen
    y: Array
    n_points: float

    @cached_property
    def _coefficients(self) -> Array:
        return self.e.vectors.T @ self.y

    def _dual_weights(self, alphas: Array, t: Array) -> Array:
        """What the coefficients are multiplied by for pairs of ridges and times (P,), (P, n)."""
        each = [
            dual_weights(
                replace(self.e, values=self.e.values + float(alpha)), Continuous(np.array([time])), self.n_points
            )
            for alpha, time in zip(alphas, t, strict=True)
        ]
        return np.concatenate(each).astype(self.y.dtype)

    def dual_coefficients(self, alpha: float, t: float) -> Array:
        """a_t, (N, q)."""
        weights = self._dual_weights(np.array([alpha]), np.array([t]))
        dual: Array = self.e.vectors @ (weights.T * self._coefficients)
        return dual

    def residuals(self, alpha: float, t: float) -> Residuals:
        """Those of one ridge and time."""
        found = self._residuals(np.array([alpha]), np.array([t]))
        return Residuals(found.values[0], found.kept[0])

    def _residuals(self, alphas: Array, t: Array) -> Residuals:
        """The residuals for pairs of ridges and times (P,), with a first axis (P,)."""
        e, y = self.e, self.y
        floor = float(np.finfo(y.dtype).eps) * float(e.values[-1]) or 1.0
        ridges = np.maximum(alphas, floor)[:, None]
        rates = e.values + ridges  # (P, n)
        left = ((ridges + e.values * np.exp(-t[:, None] / self.n_points * rates)) / rates).astype(
            y.dtype
        )  # of the error
        values, kept = np.empty((len(alphas), *y.shape), y.dtype), np.empty((len(alphas), len(y)), y.dtype)
        for rows in arrays.blocks(len(y)):
            V = e.vectors[rows]
            values[:, rows] = _products(V, left, self._coefficients)
            kept[:, rows] = left @ np.square(V).T
        return Residuals(values, kept)

    def left_out_errors(self, alphas: Array, t: Array) -> Array:
        """Σ_i of squared leave-one-out errors, averaged over outputs, (T, A)."""
        return self._over_pairs(alphas, t, lambda *pairs: self._residuals(*pairs).left_out())

    def predicted(self, alpha: float, t: Array, K_tx: Array | None = None) -> Array:
        """The function at these times, at new points or at those of the data, (T, m, q)."""
        cross = self.e.vectors * self.e.values if K_tx is None else pieces.product(K_tx, self.e.vectors)
        return _products(cross, self._dual_weights(np.full(len(t), alpha), t), self._coefficients)

    def errors_at(self, K_tx: Array, y_t: Array, alphas: Array, t: Array) -> Array:
        """Σ_i of squared errors at new points, averaged over outputs, (T, A)."""
        cross = pieces.product(K_tx, self.e.vectors)
        return self._over_pairs(
            alphas, t, lambda *pairs: y_t - _products(cross, self._dual_weights(*pairs), self._coefficients)
        )

    def _over_pairs(self, alphas: Array, t: Array, errors: Callable[[Array, Array], Array]) -> Array:
        """Sums of squares of errors (P, points, q) of all pairs, some of them at once."""
        pairs = [part.ravel() for part in np.meshgrid(alphas, t)]
        sums = np.empty(pairs[0].shape)
        for some in arrays.blocks(len(sums), max(1, MOST_COLUMNS // self.y.shape[1])):
            found = errors(pairs[0][some], pairs[1][some])
            with np.errstate(over="ignore"):  # to inf, which is never the smallest
                sums[some] = np.square(found, dtype=np.float64).sum(axis=1).mean(axis=1)
        return sums.reshape(len(t), len(alphas))


def _products(left: Array, weights: Array, coefficients: Array) -> Array:
    """left diag(w_p) coefficients for all p: left (m, n), weights (P, n), coefficients (n, q) → (P, m, q)."""
    each = (weights.T[:, :, None] * coefficients[:, None, :]).reshape(len(coefficients), -1)
    return pieces.product(left, each).reshape(len(left), len(weights), -1).transpose(1, 0, 2)
