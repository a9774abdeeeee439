"""What the estimators share: the network and, for two of them, the fit of columns of targets."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkfast.engine import threads
from ntkfast.infinite.kernels import kernels
from ntkfast.infinite.operator import KernelOperator
from ntkfast.learning import ridge
from ntkfast.learning.factor import eigen
from ntkfast.networks import MLP, Activation, Network
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.typing import Array, KernelName

DTYPES = [np.float64, np.float32]
N_ALPHAS = 50  # of alpha="loo"
OPTIONAL = {"alphas_", "loo_scores_", "feature_names_in_"}  # what not every fit leaves


class NetworkEstimator(BaseEstimator):
    """The parameters that describe a network and its kernel."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "depth": [Interval(Integral, 1, None, closed="left")],
        "activation": [str, Activation],
        "weight_std": [Interval(Real, 0, None, closed="left")],
        "bias_std": [Interval(Real, 0, None, closed="left")],
        "network": [Network, None],
        "kernel": [StrOptions({"ntk", "nngp"})],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }
    depth: int
    activation: str | Activation
    weight_std: float
    bias_std: float
    network: Network | None
    kernel: KernelName
    n_threads: int | None

    def _network(self) -> Network:
        if self.network is not None:
            return self.network
        return MLP(self.depth, self.activation, self.weight_std, self.bias_std)


class NTKEstimator(Saved, NetworkEstimator):
    """Kernel ridge regression with the kernel of a network, on targets that subclasses provide."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NetworkEstimator._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"loo"}), "array-like"],
        "t": [Interval(Real, 0, np.inf, closed="both")],
    }

    # what `_fit_columns` and scikit-learn leave behind; subclasses add to it
    _fitted: ClassVar[tuple[str, ...]] = (
        *("X_fit_", "_root", "_dual", "dual_coef_", "alpha_", "alphas_", "loo_scores_"),
        *("n_features_in_", "feature_names_in_"),
    )

    def __init__(
        self,
        *,
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_std: float = 2**0.5,
        bias_std: float = 0.1,
        network: Network | None = None,
        kernel: KernelName = "ntk",
        alpha: float | str | ArrayLike = 1.0,
        t: float = np.inf,
        n_threads: int | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_std = weight_std
        self.bias_std = bias_std
        self.network = network
        self.kernel = kernel
        self.alpha = alpha
        self.t = t
        self.n_threads = n_threads

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_process", None)  # N² numbers, which are computed again when they are needed
        return state

    # --- files

    def described(self) -> dict[str, Any]:
        fitted = {name: getattr(self, name) for name in self._fitted if hasattr(self, name)}
        return {"parameters": self.get_params(deep=False), "fitted": fitted}

    @classmethod
    def rebuilt(cls, parameters: Any, fitted: Any) -> Self:
        estimator = cls(**checked(parameters, dict, "parameters"))
        estimator._validate_params()
        if checked(fitted, dict, "fitted"):
            missing, other = set(cls._fitted) - fitted.keys() - OPTIONAL, fitted.keys() - set(cls._fitted)
            if missing or other:
                raise ValueError(f"fitted: missing names {sorted(missing)}, unknown names {sorted(other)}")
            vars(estimator).update(fitted)
            estimator._check_fitted()
        return estimator

    def _check_fitted(self) -> None:
        """Raise unless what comes from a file is as `fit` leaves it."""
        X = checked_array(self.X_fit_, (None, None), "X_fit_")
        dual = checked_array(self._dual, (len(X), None), "_dual", X.dtype)
        checked_array(self.dual_coef_, dual.shape[: np.ndim(self.dual_coef_)], "dual_coef_", X.dtype)
        checked(self.alpha_, float, "alpha_")
        if self._root is not None:
            checked_array(self._root, (len(X), 1), "_root", X.dtype)
        if hasattr(self, "alphas_"):
            alphas = checked_array(self.alphas_, (None,), "alphas_")
            checked_array(self.loo_scores_, alphas.shape, "loo_scores_")
        names = getattr(self, "feature_names_in_", None)
        if self.n_features_in_ != X.shape[1] or (names is not None and np.shape(names) != X.shape[1:]):
            raise ValueError(f"n_features_in_, feature_names_in_: expected {X.shape[1]} features as in X_fit_")

    # --- the kernel

    def _matrix(self, X: Array, Y: Array | None = None) -> Array:
        return kernels(self._network(), X, Y, get=self.kernel, n_threads=self.n_threads)

    def _weighted_matrix(self) -> Array:
        """√w K √w of the data, where w are the sample weights."""
        K = self._matrix(self.X_fit_)
        if self._root is not None:
            K *= self._root
            K *= self._root.T
        return K

    # --- fit and predict

    def _fit_columns(self, X: Array, Y: Array, weights: Array | None, residuals: bool = False) -> Array | None:
        """Learn the targets Y, (N, q); on request their leave-one-out residuals, (N, q).

        For the latter a weight w counts as w equal points, of which one is left out.
        """
        if weights is not None and not weights.any():
            raise ValueError("sample_weight: expected at least one weight > 0, got 0 for every point")
        self.__dict__.pop("_process", None)
        self.X_fit_ = X
        self._root = None if weights is None else np.sqrt(weights).astype(X.dtype)[:, None]
        n_points = float(len(X) if weights is None else weights.sum())
        K, y = self._weighted_matrix(), Y.astype(X.dtype)
        if self._root is not None:
            y = self._root * y
        with threads.blas(self.n_threads, float(len(X)) ** 3):
            if isinstance(self.alpha, Real):
                self.alpha_ = float(self.alpha)
                dual, errors = ridge.dual_coefficients(K, y, self.alpha_, self.t, n_points, residuals)
            else:
                self.alphas_ = self._grid(K)
                e = eigen(K, "the kernel", overwrite=True)
                found = ridge.residuals_of(e, y, self.alphas_, self.t, n_points)
                self.loo_scores_ = -np.square(found.left_out(), dtype=np.float64).sum(axis=1).mean(axis=1) / n_points
                best = int(self.loo_scores_.argmax())
                self.alpha_, errors = float(self.alphas_[best]), ridge.Residuals(*(part[best] for part in found))
                dual = ridge.from_eigen(e, y, self.alpha_, self.t, n_points)
        self._dual = dual if self._root is None else self._root * dual
        if not residuals:
            return None
        if weights is None:
            return errors.left_out()
        some = weights > 0
        share = np.divide(np.minimum(weights, 1), weights, out=np.ones_like(weights), where=some)
        values = errors.left_out(share.astype(y.dtype))
        return np.divide(values, self._root, out=np.zeros_like(values), where=some[:, None])

    def _grid(self, K: Array) -> Array:
        """The ridges to choose from."""
        if isinstance(self.alpha, str):
            scale = float(K.diagonal().mean(dtype=np.float64)) or 1.0
            return scale * np.geomspace(np.sqrt(np.finfo(K.dtype).eps), 100, N_ALPHAS)
        alphas = np.asarray(self.alpha, dtype=np.float64)
        if alphas.ndim != 1 or not alphas.size or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise ValueError(f"alpha: expected a number, 'loo' or a sequence of numbers > 0, got {self.alpha!r}")
        return alphas

    def _predict_columns(self, X: Any) -> tuple[Array, Array]:
        """X checked, and the learned function there, (m, q); the kernel is not stored."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=DTYPES, reset=False)
        operator = KernelOperator(self._network(), X, self.X_fit_, kernel=self.kernel, n_threads=self.n_threads)
        return X, operator @ self._dual
