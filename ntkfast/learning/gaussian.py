"""Gaussian-process inference with a given kernel matrix; its mean is kernel ridge regression with the noise as ridge.

Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", chapters 2 and 5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from ntkfast.learning import checks
from ntkfast.learning.factor import cholesky, fortran, smallest_eigenvalue
from ntkfast.support import arrays, reprs
from ntkfast.support.scalars import non_negative_number

__all__ = ["GaussianProcess", "LeaveOneOut", "MarginalLikelihood", "log_marginal_likelihood"]


class LeaveOneOut(NamedTuple):
    """Each target predicted from all others: mean, the shape of y, and variance, (N,), that of the noise included."""

    mean: np.ndarray
    variance: np.ndarray

    __repr__ = reprs.short


class MarginalLikelihood(NamedTuple):
    """log p(y), its derivative by each parameter of the kernel, shape (p,), and by the noise variance."""

    value: float
    gradient: np.ndarray
    noise: float

    __repr__ = reprs.short


class GaussianProcess:
    """f ~ GP(0, K) seen at N points through independent noise: y = f(X) + ε, ε ~ N(0, σ²).

    With K_σ = K + σ² I = L Lᵀ and α = K_σ⁻¹ y,

        E f(x) = K(x, X) α,    cov = K(x, x') - K(x, X) K_σ⁻¹ K(X, x')

    (Rasmussen and Williams 2006, equations 2.23 and 2.24). The mean is kernel ridge regression: it minimises
    Σ_i (f(x_i) - y_i)² + σ² ‖f‖²_K.

    Which kernel: the NNGP kernel Σ (`ntkfast.nngp`), the prior of an infinitely wide network, for Bayesian inference
    with it; at σ² = 0 training its last layer alone from random parameters samples from that. With the NTK Θ
    (`ntkfast.ntk`) the mean is that of training all layers, with early stopping replaced by the ridge, but the variance
    is not: for that `LeastSquaresFlow` pairs Θ with Σ. K_xx, K_tx, K_tt and K_t must be of one kernel.

    Parameters
    ----------
    K_xx : array_like, shape (N, N)
        Kept only as its Cholesky factor. float32 gives float32 results, everything else float64.
    y : array_like, shape (N,) or (N, outputs)
        Outputs are independent and share the kernel.
    noise : float
        σ² >= 0, the variance: the ridge.
    overwrite : bool
        Work in the memory of K_xx; its contents are lost.

    Attributes
    ----------
    alpha : ndarray, the shape of y

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    numpy.linalg.LinAlgError
        K + σ² I is not positive definite beyond rounding; the message says what its smallest eigenvalue is.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from ntkfast.learning.gaussian import GaussianProcess
    >>> net = nf.MLP(depth=3, activation="erf", bias_std=0.1)
    >>> X, T = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([[0.6, 0.8]])
    >>> gp = GaussianProcess(nf.nngp(net, X), [1.0, 0.0, 2.0], noise=0.01)
    >>> gp.mean(nf.nngp(net, T, X)).round(3)
    array([0.035])
    >>> gp.variance(nf.nngp(net, T, X), nf.diagonal(net, T, "nngp")).round(4)
    array([0.0261])
    >>> ridge = GaussianProcess(nf.ntk(net, X), [1.0, 0.0, 2.0], noise=0.01)
    >>> ridge.mean(nf.ntk(net, T, X)).round(3)
    array([0.086])
    """

    def __init__(self, K_xx, y, noise=0.0, *, overwrite=False):
        K = checks.symmetric(K_xx, "K_xx")
        if overwrite:
            checks.in_place(K_xx, "K_xx")
        K = fortran(K, overwrite, "a Cholesky factor")
        self._n = len(K)
        self._y, self._flat = checks.columns(y, self._n, "y", K.dtype)
        self._noise = non_negative_number(noise, "noise")
        with np.errstate(over="ignore"):
            diagonal = K.diagonal() + np.array(self._noise, K.dtype)
        np.fill_diagonal(K, checks.finite(diagonal, "K_xx + noise I"))
        # noise is there to make an ill-conditioned K harmless: only what rounding cannot tell from singular is refused
        self._factor = cholesky(K, overwrite=True, rcond=np.finfo(K.dtype).eps)
        if self._factor is None:
            name = "K_xx + noise I" if self._noise else "K_xx"
            rounding = self._n * np.finfo(K.dtype).eps * np.abs(K.diagonal()).max()
            raise np.linalg.LinAlgError(checks.not_definite(name, smallest_eigenvalue(K), "definite", rounding))
        with checks.overflow("alpha") as fits:
            self._alpha = fits(self._factor.solve(self._y))

    def __repr__(self):
        outputs = "" if self._flat else f", outputs={self._y.shape[1]}"
        return f"GaussianProcess(N={self._n}{outputs}, noise={self._noise:.6g}, {self._y.dtype})"

    @property
    def alpha(self):
        return self._shaped(self._alpha)

    def _shaped(self, columns):
        return columns[:, 0] if self._flat else columns

    def _cross(self, K_tx):
        return checks.matrix(K_tx, "K_tx", (None, self._n), self._y.dtype)

    def mean(self, K_tx):
        """The posterior mean at new points, from K(x, X) of shape (m, N): (m,) or (m, outputs)."""
        K_tx = self._cross(K_tx)
        with checks.overflow("mean") as fits:
            return self._shaped(fits(K_tx @ self._alpha))

    def covariance(self, K_tx, K_tt):
        """The posterior covariance of f (noise not included) at new points, (m, m), the same for every output.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
        K_tt : array_like, shape (m, m)

        Returns
        -------
        ndarray, shape (m, m), symmetric
        """
        W = self._factor.half_solve(self._cross(K_tx).T)
        prior = checks.symmetric(K_tt, "K_tt", W.shape[1]).astype(W.dtype, copy=False)
        return checks.unexplained(prior, W, "K_tt", "K_xx")

    def variance(self, K_tx, K_t):
        """The diagonal of `covariance`, from K(x, x) of shape (m,).

        K_t is `ntkfast.diagonal` of the same kernel as K_xx: diagonal(net, X, "nngp") for an NNGP, as its default is Θ.
        """
        W = self._factor.half_solve(self._cross(K_tx).T)
        prior = checks.variances(K_t, "K_t", W.shape[1]).astype(W.dtype, copy=False)
        return checks.unexplained(prior, W, "K_t", "K_xx")

    def percentiles(self, K_tx, K_t, levels=(10, 50, 90)):
        """Percentiles of f (noise not included) at new points: mean plus quantiles of N(0, 1) times the deviation.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
        K_t : array_like, shape (m,)
            As in `variance`.
        levels : sequence of float
            In (0, 100).

        Returns
        -------
        ndarray, shape (levels, m) or (levels, m, outputs)
            Of one output it is what `ntkfast.plotting.plot_percentiles` draws.

        Examples
        --------
        >>> from ntkfast.learning.gaussian import GaussianProcess
        >>> GaussianProcess([[1.0]], [1.0]).percentiles([[0.6]], [1.0]).round(3)
        array([[-0.425],
               [ 0.6  ],
               [ 1.625]])
        """
        levels = quantiles(levels)
        mean, spread = self.mean(K_tx), np.sqrt(self.variance(K_tx, K_t))
        spread = spread if self._flat else spread[:, None]
        return np.stack([mean + q * spread for q in levels]).astype(mean.dtype)

    def leave_one_out(self):
        """Each target predicted from the N - 1 others, without a loop: mean y - α/d and variance 1/d, d = diag K_σ⁻¹.

        (Rasmussen and Williams 2006, equation 5.12.)

        Returns
        -------
        LeaveOneOut

        Examples
        --------
        >>> from ntkfast.learning.gaussian import GaussianProcess
        >>> GaussianProcess([[1.0, 0.5], [0.5, 1.0]], [1.0, 2.0]).leave_one_out().mean
        array([1. , 0.5])
        """
        with checks.overflow("leave_one_out") as fits:
            d = fits(self._factor.inverse().diagonal())
            return LeaveOneOut(self._shaped(fits(self._y - self._alpha / d[:, None])), 1 / d)

    def log_marginal_likelihood(self):
        """log p(y) = -½ yᵀα - ½ log det K_σ - N/2 log 2π, summed over outputs."""
        k = self._y.shape[1]
        with checks.overflow("log_marginal_likelihood") as fits:
            fit = fits(np.einsum("ij,ij->", self._y, self._alpha, dtype=np.float64))
        return float(-(fit + k * (self._factor.log_determinant() + self._n * np.log(2 * np.pi))) / 2)

    def likelihood_gradient(self):
        """∂ log p(y)/∂K = ½ (α αᵀ - K_σ⁻¹), summed over outputs: (N, N), symmetric.

        The derivative by any parameter p is the sum over all entries of this times ∂K/∂p; that by the noise variance is
        its trace.

        Returns
        -------
        ndarray, shape (N, N)

        Examples
        --------
        >>> from ntkfast.learning.gaussian import GaussianProcess
        >>> GaussianProcess([[1.0, 0.0], [0.0, 2.0]], [1.0, 2.0]).likelihood_gradient()
        array([[0.  , 0.5 ],
               [0.5 , 0.25]])
        """
        W = self._factor.inverse()
        with checks.overflow("likelihood_gradient") as fits:
            W *= -0.5 * self._y.shape[1]
            for rows in arrays.blocks(self._n):
                W[rows] += self._alpha[rows] @ (0.5 * self._alpha.T)
                fits(W[rows])
        return W

    def _gradient(self, derivatives):
        W, result = self.likelihood_gradient(), []
        for p, dK in enumerate(derivatives):
            dK = checks.symmetric(dK, f"gradients[{p}]", self._n).astype(W.dtype, copy=False)
            with checks.overflow(f"gradient[{p}]") as fits:
                parts = [np.einsum("ij,ij->", W[rows], dK[rows], dtype=np.float64) for rows in arrays.blocks(self._n)]
                result.append(fits(sum(parts)))
        return np.array(result), float(W.diagonal().sum(dtype=np.float64))


def quantiles(levels):
    """Φ⁻¹(p/100) for each p of levels."""
    p = arrays.real(levels, "levels").astype(np.float64)
    if p.ndim != 1 or not p.size or not ((p > 0) & (p < 100)).all():
        raise ValueError(f"levels: expected a list of numbers in (0, 100), got {p.tolist()}")
    return scipy.special.ndtri(p / 100)


def log_marginal_likelihood(K_xx, y, noise=0.0, gradients=None, *, overwrite=False):
    """The log marginal likelihood of a Gaussian process, and its derivatives.

        ∂ log p(y)/∂p = ½ tr((α αᵀ - K_σ⁻¹) ∂K/∂p)

    (Rasmussen and Williams 2006, equations 5.8 and 5.9). One Cholesky factor serves the value and all derivatives.

    Parameters
    ----------
    K_xx, y, noise, overwrite
        As in `GaussianProcess`.
    gradients : sequence of array_like, shape (N, N), optional
        ∂K/∂p for each parameter p of the kernel; may be empty.

    Returns
    -------
    float, or with gradients a MarginalLikelihood

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.learning.gaussian import log_marginal_likelihood
    >>> round(log_marginal_likelihood(np.eye(2), [0.0, 0.0]), 4)
    -1.8379
    >>> log_marginal_likelihood(np.eye(2), [0.0, 4.0], noise=1.0, gradients=[np.eye(2)]).gradient.round(4)
    array([1.5])
    """
    process = GaussianProcess(K_xx, y, noise, overwrite=overwrite)
    value = process.log_marginal_likelihood()
    return value if gradients is None else MarginalLikelihood(value, *process._gradient(gradients))
