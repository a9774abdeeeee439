"""Classification by least squares with the kernel of an infinitely wide network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from ntkfast.learning import classes
from ntkfast.sklearn.dispatch import dispatched
from ntkfast.sklearn.estimator import DTYPES, NTKEstimator
from ntkfast.support import reprs
from ntkfast.support.saved import checked
from ntkfast.support.typing import Array

__all__ = ["NTKClassifier"]

LOG_SCALES = (-5.0, 5.0)  # bounds of the logarithm of the factor between decision values and log-probabilities


class NTKClassifier(ClassifierMixin, NTKEstimator):
    """Least-squares classification with the kernel of an infinitely wide network.

    `NTKRegressor` on one-hot targets minus 1/k for k classes (the values of two classes are ±1, in one column): the
    class is that of the largest output. Probabilities are those outputs, calibrated:

        p(c | x) = softmax(s f(x))_c

    with the one number s under which the leave-one-out predictions of the data have the largest likelihood, so that
    they do not become overconfident where the data are learned exactly.

    Parameters
    ----------
    depth, activation, weight_std, bias_std, network, kernel, alpha, t, early_stopping, solver, random_state, n_threads
        As in `NTKRegressor`, and as there features are to be standardised in a pipeline. Squared errors are those of
        the targets.

    Attributes
    ----------
    classes_ : ndarray, shape (k,)
    alpha_, t_, alphas_, times_, loo_scores_, validation_scores_, X_fit_, n_features_in_, feature_names_in_
        As in `NTKRegressor`.
    dual_coef_ : ndarray, shape (N,) for two classes, else (N, k)
    scale_ : float
        s.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    MemoryError
        The kernel of the data does not fit into memory.

    Warns
    -----
    ConvergenceWarning
        The ridge that was chosen is the smallest or the largest one, and the error still falls there.

    See Also
    --------
    ntkfast.sklearn.NTKRegressor : Numbers instead of classes.
    ntkfast.sklearn.NTKFeatures : For more points than a kernel matrix allows.
    GaussianProcess : The algebra without scikit-learn.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), nf.sklearn.NTKClassifier(alpha="loo"))
    >>> model.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.95
    True
    """

    _fitted = (*NTKEstimator._fitted, "classes_", "scale_")

    @dispatched
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> NTKClassifier:
        """Fit to the data.

        Parameters
        ----------
        X : array_like, shape (N, d)
            float32 gives float32 results, everything else float64. With scikit-learn's array_api_dispatch, tensors give
            tensors in `predict`; attributes are NumPy arrays.
        y : array_like, shape (N,)
            Classes.
        sample_weight : array_like, shape (N,), optional
            Of the squared errors. Time is in units of their sum.

        Returns
        -------
        NTKClassifier
            Itself, fitted.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As for the class; there are fewer than two classes.

        See Also
        --------
        NTKClassifier.predict : Classes of new points.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.sklearn.NTKClassifier(depth=2).fit([[-2.0], [-1.0], [1.0], [2.0]], ["a", "a", "b", "b"])
        >>> model.classes_
        array(['a', 'b'], dtype='<U1')
        """
        X, y = validate_data(self, X, y, dtype=DTYPES)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        k = len(self.classes_)
        if k < 2:
            raise ValueError(f"y: expected at least two classes, got one class, {self.classes_[0]!r}")
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        targets = classes.targets(codes, k)
        errors = self._fit_columns(X, targets, weights, residuals=True)
        self.scale_ = calibrated(classes.scores(targets - errors), codes, weights)
        self.dual_coef_ = self._dual[:, 0] if k == 2 else self._dual
        return self

    def _check_fitted(self) -> None:
        super()._check_fitted()
        checked(self.scale_, float, "scale_")
        k = self._dual.shape[1]
        if np.shape(self.classes_) != (max(k, 2),) or not isinstance(self.classes_, np.ndarray):
            raise ValueError(f"classes_: expected {max(k, 2)} classes, got {reprs.brief(self.classes_)}")

    @dispatched
    def decision_function(self, X: ArrayLike) -> Array:
        """The learned function.

        Parameters
        ----------
        X : array_like, shape (m, d)
            Points, one per row.

        Returns
        -------
        ndarray, shape (m,) for two classes, positive for the second; else (m, k)
            f(x), before calibration.

        Raises
        ------
        ValueError
            X has other features than the data.

        See Also
        --------
        NTKClassifier.predict_proba : Calibrated probabilities.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.sklearn.NTKClassifier(depth=2).fit([[-2.0], [-1.0], [1.0], [2.0]], ["a", "a", "b", "b"])
        >>> model.decision_function([[-3.0], [3.0]]) > 0
        array([False,  True])
        """
        columns = self._predict_columns(X)[1]
        return columns[:, 0] if columns.shape[1] == 1 else columns

    @dispatched
    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of the largest output.

        Parameters
        ----------
        X : array_like, shape (m, d)
            Points, one per row.

        Returns
        -------
        ndarray, shape (m,)
            Of the dtype of the classes.

        Raises
        ------
        ValueError
            X has other features than the data.

        See Also
        --------
        NTKClassifier.decision_function : The outputs.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.sklearn.NTKClassifier(depth=2).fit([[-2.0], [-1.0], [1.0], [2.0]], ["a", "a", "b", "b"])
        >>> model.predict([[-3.0], [3.0]])
        array(['a', 'b'], dtype='<U1')
        """
        scores = classes.scores(self._predict_columns(X)[1])
        predicted: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return predicted

    @dispatched
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, calibrated on leave-one-out predictions of the data.

        Parameters
        ----------
        X : array_like, shape (m, d)
            Points, one per row.

        Returns
        -------
        ndarray, shape (m, k), whose rows sum to 1
            In the order of `classes_`.

        Raises
        ------
        ValueError
            X has other features than the data.

        See Also
        --------
        NTKClassifier.decision_function : The outputs before calibration.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.sklearn.NTKClassifier(depth=2).fit([[-2.0], [-1.0], [1.0], [2.0]], ["a", "a", "b", "b"])
        >>> model.predict_proba([[3.0]]).shape
        (1, 2)
        """
        from scipy.special import softmax

        scores = classes.scores(self._predict_columns(X)[1])
        probabilities: Array = softmax(scores * scores.dtype.type(self.scale_), axis=1)
        return probabilities


def calibrated(scores: Array, codes: NDArray[np.integer[Any]], weights: Array | None) -> float:
    """The factor s of largest likelihood for classes of probabilities softmax(s f), f (N, k)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    own = scores[np.arange(len(scores)), codes]

    def cost(log_scale: float) -> float:
        s = np.exp(log_scale)
        return float(np.average(logsumexp(s * scores, axis=1) - s * own, weights=weights))

    return float(np.exp(minimize_scalar(cost, bounds=LOG_SCALES, method="bounded").x))
