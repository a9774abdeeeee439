"""Regression with the kernel of an infinitely wide network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, validate_data

from ntkfast.infinite.kernels import diagonal
from ntkfast.learning.gaussian import GaussianProcess
from ntkfast.sklearn.dispatch import dispatched
from ntkfast.sklearn.estimator import DTYPES, NTKEstimator
from ntkfast.support.saved import checked
from ntkfast.support.typing import Array

__all__ = ["NTKRegressor"]


class NTKRegressor(RegressorMixin, NTKEstimator):
    """Kernel ridge regression with the kernel of an infinitely wide network, a drop-in for scikit-learn's KernelRidge.

    With f(x) = K(x, X) a it minimises Σ_i (f(x_i) - y_i)² + α aᵀ K a, or follows gradient flow towards this minimum
    until time t, from f = 0:

        a = V diag((1 - e^{-t(μ+α)/N}) / (μ+α)) Vᵀ y,    K = V diag(μ) Vᵀ

    At t = ∞ this is (K + αI)⁻¹ y; at α = 0 it is the training of a wide network (Jacot, Gabriel and Hongler 2018,
    section 5), in the units of `ntkfast.LeastSquaresFlow`.

    The kernel depends on the scale of the features, and the prior mean is 0: standardisation is the job of a pipeline,
    as in the example (targets: `sklearn.compose.TransformedTargetRegressor`).

    Parameters
    ----------
    depth : int
        Number of affine layers, as in `ntkfast.MLP`.
    activation : str or Activation
        φ, or its name.
    weight_std, bias_std : float
        Of all layers. √2 preserves the variance from layer to layer for relu.
    network : Network, optional
        Instead of the four above.
    kernel : {"ntk", "nngp"}
        All layers are trained, or the last one only.
    alpha : float, sequence of float or "loo"
        The ridge α >= 0. Out of a sequence, or out of 50 ridges from √eps to 100 times the mean of the kernel's
        diagonal for "loo", the one with the smallest squared leave-one-out error is taken. The error is exact at t = ∞,
        else the usual approximation (y_i - f_i)/(1 - H_ii).
    t : float, sequence of float or "loo"
        The time at which training stops. Out of a sequence, or out of 50 times up to ∞ for "loo", it is chosen together
        with α: one eigendecomposition serves all pairs.
    early_stopping : bool or float
        Choose by the squared error on a validation set instead, which is this fraction of the data (True: a tenth),
        drawn at random; then the function is learned from all of the data. At t = ∞ the times are those of "loo".
    solver : {"auto", "cholesky", "eigh"}
        "auto": a Cholesky factor where there is nothing to choose and t = ∞, if the matrix is positive definite, else
        the eigendecomposition.
    random_state : int, RandomState or None
        Of early_stopping.
    n_threads : int, optional
        Default: what OpenMP, BLAS and joblib allow.

    Attributes
    ----------
    alpha_, t_ : float
        The ridge and the time used.
    dual_coef_ : ndarray, shape (N,) or (N, outputs)
        a.
    X_fit_ : ndarray, shape (N, d)
    alphas_, times_ : ndarray, shapes (A,) and (T,)
        If there was a choice: the ridges and times.
    loo_scores_, or validation_scores_ with early_stopping : ndarray, shape (A,), or (T, A) if t was chosen
        Minus the mean squared error of each.
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (d,)
        If X has names.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    MemoryError
        The kernel of the data does not fit into memory; nothing has been computed then.
    numpy.linalg.LinAlgError
        With solver="cholesky": the matrix is singular to rounding.

    Warns
    -----
    ConvergenceWarning
        The ridge that was chosen is the smallest or the largest one, and the error still falls there.

    See Also
    --------
    ntkfast.sklearn.NTKClassifier : Classes.
    ntkfast.sklearn.NTKKernel : A kernel for scikit-learn's own Gaussian processes.
    ntkfast.sklearn.NTKFeatures : For more points than a kernel matrix allows.
    LeastSquaresFlow : The algebra, with the uncertainty of training.
    ntkfast.plotting.plot_loo_path : Draws `loo_scores_`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), nf.sklearn.NTKRegressor(depth=2, alpha="loo"))
    >>> model.fit(X[:300], y[:300] - 150).score(X[300:], y[300:] - 150) > 0.5
    True
    """

    _fitted = (*NTKEstimator._fitted, "_flat")

    @dispatched
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> NTKRegressor:
        """Fit to the data.

        Parameters
        ----------
        X : array_like, shape (N, d)
            float32 gives float32 results, everything else float64. With scikit-learn's array_api_dispatch, tensors give
            tensors in `predict`; attributes are NumPy arrays.
        y : array_like, shape (N,) or (N, outputs)
            Targets; outputs share the kernel and the ridge.
        sample_weight : array_like, shape (N,), optional
            Of the squared errors. Time is in units of their sum.

        Returns
        -------
        NTKRegressor
            Itself, fitted.

        Raises
        ------
        TypeError, ValueError, MemoryError, numpy.linalg.LinAlgError
            As for the class.

        See Also
        --------
        NTKRegressor.predict : Values at new points.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.sklearn.NTKRegressor(depth=2, alpha=1e-3).fit([[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0])
        >>> model.dual_coef_.shape
        (3,)
        """
        X, y = validate_data(self, X, y, dtype=DTYPES, multi_output=True, y_numeric=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        self._fit_columns(X, y.reshape(len(X), -1), sample_weight)
        self._flat = y.ndim == 1
        self.dual_coef_ = self._dual[:, 0] if self._flat else self._dual
        return self

    def _check_fitted(self) -> None:
        super()._check_fitted()
        checked(self._flat, bool, "_flat")

    @dispatched
    def predict(self, X: ArrayLike, *, return_std: bool = False, return_cov: bool = False) -> Any:
        """The learned function at new points, and its uncertainty as the posterior mean of a Gaussian process.

        The process has the same kernel as prior covariance and α as the variance of the noise (`GaussianProcess`).
        That is the uncertainty of an infinitely wide network for kernel="nngp"; for that of a network with all layers
        trained, see `LeastSquaresFlow`.

        Parameters
        ----------
        X : array_like, shape (m, d)
            Points, one per row.
        return_std, return_cov : bool
            Also return the standard deviation or the covariance of f, without the noise; one of them, at t = ∞.

        Returns
        -------
        ndarray, shape (m,) or (m, outputs)
            With return_std a tuple of it and the deviations, (m,), with return_cov of it and the covariance, (m, m).
            Both are the same for all outputs.

        Raises
        ------
        ValueError
            X has other features than the data, both uncertainties are asked for, or training stopped at a finite time.

        See Also
        --------
        GaussianProcess.predict : The same of kernel matrices.
        ntkfast.plotting.plot_predictions : Draws the result.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.sklearn.NTKRegressor(depth=2, alpha=1e-3).fit([[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0])
        >>> mean, std = model.predict([[0.5]], return_std=True)
        >>> mean.shape, std.shape
        ((1,), (1,))
        """
        if return_std and return_cov:
            raise ValueError("return_cov: expected one of return_std and return_cov, got both")
        points, columns = self._predict_columns(X)
        mean = columns[:, 0] if self._flat else columns
        if return_std:
            prior = diagonal(self._network(), points, self.kernel, n_threads=self.n_threads)
            return mean, np.sqrt(self._posterior(points, prior, "variance"))
        if return_cov:
            return mean, self._posterior(points, self._matrix(points), "covariance")
        return mean

    def _posterior(self, X: Array, prior: Array, what: str) -> Array:
        if not np.isinf(self.t_):
            raise ValueError(f"t: expected inf for uncertainties, got {self.t_}; LeastSquaresFlow has them at any time")
        if not hasattr(self, "_process"):
            K = self._weighted_matrix()
            self._process = GaussianProcess(K, self._dual, noise=self.alpha_, overwrite=True, n_threads=self.n_threads)
        K_tx = self._matrix(X, self.X_fit_)
        if self._root is not None:
            K_tx *= self._root.T
        result: Array = getattr(self._process, what)(K_tx, prior)
        return result

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
