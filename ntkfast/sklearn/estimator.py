"""What the estimators share: the network and, for two of them, the fit of columns of targets."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkfast.engine import threads
from ntkfast.infinite.kernels import kernels
from ntkfast.infinite.operator import KernelOperator
from ntkfast.learning import ridge
from ntkfast.learning.factor import eigen
from ntkfast.networks import MLP, Activation, Network
from ntkfast.support import memory, reprs
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.typing import Array, KernelName

DTYPES = [np.float64, np.float32]
N_TIMES = 50  # of "loo"
CHOICES = ("alphas_", "times_", "loo_scores_", "validation_scores_")
OPTIONAL = {*CHOICES, "feature_names_in_"}  # what not every fit leaves
MANY = "; NTKFeatures of ntkfast.sklearn, with a linear model after it, takes any number"
VALIDATION = 0.1  # of early_stopping=True


class NetworkEstimator(Saved, BaseEstimator):
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
    _fitted: ClassVar[tuple[str, ...]]  # the attributes that `fit` leaves behind, and scikit-learn

    def _network(self) -> Network:
        if self.network is not None:
            return self.network
        return MLP(self.depth, self.activation, self.weight_std, self.bias_std)

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
        """Raise unless the attributes that come from a file are as `fit` leaves them."""
        raise NotImplementedError

    def _check_features(self, d: int) -> None:
        names = getattr(self, "feature_names_in_", None)
        if self.n_features_in_ != d:
            raise ValueError(f"n_features_in_: expected {d} features, got {self.n_features_in_}")
        if names is not None and np.shape(names) != (d,):
            raise ValueError(f"feature_names_in_: expected the names of {d} features, got {reprs.brief(names)}")


class NTKEstimator(NetworkEstimator):
    """Kernel ridge regression with the kernel of a network, on targets that subclasses provide."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NetworkEstimator._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"loo"}), "array-like"],
        "t": [Interval(Real, 0, np.inf, closed="both"), StrOptions({"loo"}), "array-like"],
        "early_stopping": ["boolean", Interval(Real, 0, 1, closed="neither")],
        "solver": [StrOptions({"auto", "cholesky", "eigh"})],
        "random_state": ["random_state"],
    }

    # of `_fit_columns`; subclasses add to it
    _fitted: ClassVar[tuple[str, ...]] = (
        *("X_fit_", "_root", "_dual", "dual_coef_", "alpha_", "t_", *CHOICES),
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
        t: float | str | ArrayLike = np.inf,
        early_stopping: bool | float = False,
        solver: str = "auto",
        random_state: Any = None,
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
        self.early_stopping = early_stopping
        self.solver = solver
        self.random_state = random_state
        self.n_threads = n_threads

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_process", None)  # N² numbers, which are computed again when they are needed
        return state

    def _check_fitted(self) -> None:
        X = checked_array(self.X_fit_, (None, None), "X_fit_")
        dual = checked_array(self._dual, (len(X), None), "_dual", X.dtype)
        checked_array(self.dual_coef_, dual.shape[: np.ndim(self.dual_coef_)], "dual_coef_", X.dtype)
        for name in ("alpha_", "t_"):
            checked(getattr(self, name), float, name)
        if self._root is not None:
            checked_array(self._root, (len(X), 1), "_root", X.dtype)
        if hasattr(self, "alphas_"):
            alphas, times = (checked_array(getattr(self, name), (None,), name) for name in ("alphas_", "times_"))
            name = "loo_scores_" if hasattr(self, "loo_scores_") else "validation_scores_"
            scores = getattr(self, name)
            checked_array(scores, (len(times), len(alphas))[-np.ndim(scores) :], name)
        self._check_features(X.shape[1])

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
        in_place = self.solver != "eigh" and not self.early_stopping and not residuals
        in_place = in_place and isinstance(self.alpha, Real) and isinstance(self.t, Real) and np.isinf(self.t)
        matrices = 1 if in_place else 2  # the kernel, and its eigenvectors or inverse
        memory.require(matrices * len(X) ** 2 * X.itemsize, f"X: learning from the kernel of {len(X)} points", MANY)
        for name in ("_process", *CHOICES):
            self.__dict__.pop(name, None)
        self.X_fit_ = X.copy()  # the caller may go on to change its array
        self._root = None if weights is None else np.sqrt(weights).astype(X.dtype)[:, None]
        n_points = float(len(X) if weights is None else weights.sum())
        K, y = self._weighted_matrix(), Y.astype(X.dtype)
        if self._root is not None:
            y = self._root * y
        alphas, times, found = self._alphas(K), self._times(K, n_points), None
        chosen = bool(self.early_stopping or np.ndim(alphas) or np.ndim(times))
        if self.solver == "cholesky" and (np.ndim(alphas) or not np.isinf(times).all()):
            raise ValueError("solver: expected 'auto' or 'eigh' where alpha or t is chosen or t < inf, got 'cholesky'")
        with threads.blas(self.n_threads, float(len(X)) ** 3):
            if not chosen:
                self.alpha_, self.t_ = float(alphas), float(times)
            elif self.early_stopping:
                self._choose(alphas, times, "validation_scores_", self._validation_scores(K, y, weights, alphas, times))
            else:
                found = ridge.Spectral(eigen(K, "the kernel", overwrite=True), y, n_points)
                errors = found.left_out_errors(np.atleast_1d(alphas), np.atleast_1d(times))
                self._choose(alphas, times, "loo_scores_", -errors / n_points)
            if found:
                dual = found.dual_coefficients(self.alpha_, self.t_)
                left = found.residuals(self.alpha_, self.t_) if residuals else None
            else:
                dual, left = ridge.dual_coefficients(K, y, self.alpha_, self.t_, n_points, self.solver, residuals)
        self._dual = dual if self._root is None else self._root * dual
        if left is None:
            return None
        if weights is None:
            return left.left_out()
        some = weights > 0
        share = np.divide(np.minimum(weights, 1), weights, out=np.ones_like(weights), where=some)
        values = left.left_out(share.astype(y.dtype))
        return np.divide(values, self._root, out=np.zeros_like(values), where=some[:, None])

    # --- the choice of the ridge and the time

    def _alphas(self, K: Array) -> Array:
        """The ridge, or those to choose from."""
        if isinstance(self.alpha, str):
            return ridge.candidates(K)
        alphas = np.asarray(self.alpha, dtype=np.float64)
        if alphas.ndim and (alphas.ndim > 1 or not alphas.size or not (np.isfinite(alphas) & (alphas > 0)).all()):
            raise ValueError(f"alpha: expected a number, 'loo' or a sequence of numbers > 0, got {self.alpha!r}")
        return alphas

    def _times(self, K: Array, n_points: float) -> Array:
        """The time, or those to choose from: from a tenth of what the first component takes until the end."""
        if isinstance(self.t, str) or (self.early_stopping and np.ndim(self.t) == 0 and np.isinf(self.t)):
            mean = ridge.diagonal_mean(K)
            ends = 0.1 * n_points / (len(K) * mean), n_points / (np.sqrt(np.finfo(K.dtype).eps) * mean)
            return np.append(np.geomspace(*ends, N_TIMES - 1), np.inf)
        times = np.asarray(self.t, dtype=np.float64)
        if times.ndim > 1 or not times.size or not (times >= 0).all():
            raise ValueError(f"t: expected a number, 'loo' or a sequence of numbers >= 0, got {self.t!r}")
        return times

    def _choose(self, alphas: Array, times: Array, name: str, scores: Array) -> None:
        """Take the ridge and the time of the largest score, (T, A)."""
        setattr(self, name, scores if np.ndim(times) else scores[0])
        self.alphas_, self.times_ = np.atleast_1d(alphas), np.atleast_1d(times)
        k, j = np.unravel_index(scores.argmax(), scores.shape)
        if not np.isfinite(scores[k, j]):  # argmax would be the first of them all
            raise ValueError("y: expected targets of which squared errors are finite, got an overflow; scale them")
        self.t_, self.alpha_ = float(self.times_[k]), float(self.alphas_[j])
        warning = ridge.at_end(self.alphas_, -scores[k])
        if warning:
            warnings.warn(warning, ConvergenceWarning, stacklevel=6)  # where `fit` was called

    def _validation_scores(self, K: Array, y: Array, weights: Array | None, alphas: Array, times: Array) -> Array:
        """Minus the mean squared errors at points that are kept apart, (T, A)."""
        some = np.arange(len(y)) if weights is None else np.flatnonzero(weights > 0)
        fraction = VALIDATION if self.early_stopping is True else float(self.early_stopping)
        n = max(1, round(fraction * len(some)))
        if n >= len(some):
            raise ValueError(
                f"early_stopping: expected to leave samples to learn from, got {self.early_stopping!r} of {len(some)}"
            )
        apart, rest = np.split(check_random_state(self.random_state).permutation(some), [n])
        each = np.ones(len(y)) if weights is None else weights
        part = eigen(K[np.ix_(rest, rest)], "the kernel", overwrite=True)
        errors = ridge.Spectral(part, y[rest], float(each[rest].sum())).errors_at(
            K[np.ix_(apart, rest)], y[apart], np.atleast_1d(alphas), np.atleast_1d(times)
        )
        return -errors / float(each[apart].sum())

    # --- predictions

    def _predict_columns(self, X: Any) -> tuple[Array, Array]:
        """X checked, and the learned function there, (m, q); the kernel is not stored."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=DTYPES, reset=False)
        operator = KernelOperator(self._network(), X, self.X_fit_, kernel=self.kernel, n_threads=self.n_threads)
        return X, operator @ self._dual
