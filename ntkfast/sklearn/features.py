"""Features whose inner products approximate the kernel of an infinitely wide network."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkfast.engine import threads
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import jvp
from ntkfast.infinite.kernels import kernels
from ntkfast.learning.factor import factor
from ntkfast.learning.sketch import ReluSketch
from ntkfast.networks import Activation, Network
from ntkfast.networks.network import refuse_dropout
from ntkfast.sklearn.estimator import DTYPES, NetworkEstimator
from ntkfast.support import memory
from ntkfast.support.arrays import blocks
from ntkfast.support.typing import Array, KernelName

__all__ = ["NTKFeatures"]

CANDIDATES = 100  # points for each centre out of which it is chosen, so that choosing does not depend on N
WIDTH = 2  # of random networks, for each feature
ROWS = 1024


class NTKFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NetworkEstimator):
    """Features φ with φ(x)·φ(y) ≈ K(x, y), for linear models on data too many for a kernel matrix.

    Parameters
    ----------
    n_components : int
        Number of features. There are fewer if fewer serve: as many as distinct centres, or as a linear kernel has.
    method : {"nystroem", "random", "sketch"}
        - "nystroem": φ(x) = L⁻¹ K(C, x) with K(C, C) = L Lᵀ for n_components points C of the data, exact for pairs of
          them. They are chosen as k-means++ does, out of at most 100 n_components; in our measurements the error was
          below that of randomly pivoted Cholesky and of uniform sampling. By far the most accurate for data like those
          of `fit`.
        - "random": φ(x) = J(x) v/√n_components, v ~ N(0, I), with the Jacobian J of a random network of n_components
          outputs and hidden layers twice as wide; for kernel="nngp" its outputs instead of J v. For every network.
        - "sketch": arc-cosine random features and a TensorSketch, layer by layer (Zandieh, Han, Avron, Shoham, Kim and
          Shin 2021), for `Dense` layers with relu between them.

        The last two do not depend on the data; their error falls as n_components^(-1/2).
    depth, activation, weight_std, bias_std, network, kernel
        As in `NTKRegressor`, and as there features of the data are to be standardised in a pipeline.
    random_state : int, RandomState instance or None
        Of the centres, of the network or of the sketch.
    n_threads : int, optional
        Default: what OpenMP, BLAS and joblib allow.

    Attributes
    ----------
    centers_ : ndarray, shape (n_components, d)
        C, for "nystroem".
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (d,)
        If X has names.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    MemoryError
        The features do not fit into memory.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> X, y = load_digits(return_X_y=True)
    >>> features = nf.sklearn.NTKFeatures(n_components=200, random_state=0)
    >>> model = make_pipeline(features, RidgeClassifier(alpha=0.01)).fit(X[::2] / 16, y[::2])
    >>> model.score(X[1::2] / 16, y[1::2]) > 0.96
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"nystroem", "random", "sketch"})],
        **NetworkEstimator._parameter_constraints,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_components: int = 100,
        method: str = "nystroem",
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_std: float = 2**0.5,
        bias_std: float = 0.1,
        network: Network | None = None,
        kernel: KernelName = "ntk",
        random_state: int | np.random.RandomState | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.depth = depth
        self.activation = activation
        self.weight_std = weight_std
        self.bias_std = bias_std
        self.network = network
        self.kernel = kernel
        self.random_state = random_state
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: object = None) -> NTKFeatures:
        """Choose the centres, or draw the random numbers.

        Parameters
        ----------
        X : array_like, shape (N, d)
            float32 gives float32 features, everything else float64.
        y : ignored

        Returns
        -------
        self
        """
        X = validate_data(self, X, dtype=DTYPES)
        self._dtype = X.dtype
        self.__dict__.pop("centers_", None)
        with threads.blas(self.n_threads, float(self.n_components) ** 3):
            self._features = METHODS[self.method](self, X, check_random_state(self.random_state))
        self._n_features_out = self._features.n_features
        return self

    def transform(self, X: ArrayLike) -> Array:
        """φ at points.

        Parameters
        ----------
        X : array_like, shape (m, d)

        Returns
        -------
        ndarray, shape (m, n_components)
            Of the dtype of the data of `fit`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self._dtype, reset=False)
        memory.require(len(X) * self._n_features_out * X.itemsize, "features")
        with threads.blas(self.n_threads, float(min(len(X), ROWS)) * float(self.n_components) ** 2):
            return self._features(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class _Nystroem:
    """L⁻¹ K(C, x)."""

    def __init__(self, model: NTKFeatures, X: Array, random: np.random.RandomState) -> None:
        n = min(model.n_components, len(X))
        some = X
        if len(X) > CANDIDATES * n:
            some = X[np.sort(random.choice(len(X), CANDIDATES * n, replace=False))]
        self._model, self._net = model, model._network()
        with threads.single_threaded_blas():  # thousands of small products
            centers = kmeans_plusplus(some, n, random_state=random)[0]
        model.centers_ = np.unique(centers, axis=0)  # data that are repeated may be chosen again
        K = kernels(self._net, model.centers_, get=model.kernel, dtype=np.float64, n_threads=model.n_threads)
        if X.dtype == np.float32:  # K(C, x) has its errors, which L⁻¹ must not blow up
            K[np.diag_indices_from(K)] += np.finfo(np.float32).eps * K.diagonal().max()
        self._root = factor(K, "the kernel of the centres").half_solve(np.eye(len(K))).T.astype(X.dtype)
        self.n_features = self._root.shape[1]

    def __call__(self, X: Array) -> Array:
        model, features = self._model, np.empty((len(X), self.n_features), X.dtype)
        for rows in blocks(len(X), ROWS):  # faster than a KernelOperator for as many vectors as centres
            K = kernels(self._net, X[rows], model.centers_, get=model.kernel, n_threads=model.n_threads)
            np.matmul(K, self._root, out=features[rows])
        return features


class _Random:
    """J(x) v/√n of a random network with n outputs, or its outputs."""

    def __init__(self, model: NTKFeatures, X: Array, random: np.random.RandomState) -> None:
        self.n_features = n = model.n_components
        rng, net = _generator(random), model._network()
        refuse_dropout(net)
        self._f = f = FiniteNetwork.init(net, X.shape[1], WIDTH * n, n, rng=rng, dtype=X.dtype)
        self._tangent = None
        if model.kernel == "ntk":
            parts = []
            for weight, bias, weight_lr, bias_lr in zip(f.weights, f.biases, f.weight_lrs, f.bias_lrs, strict=True):
                parts.append(weight_lr**0.5 * rng.standard_normal(weight.size, dtype=X.dtype))
                if bias is not None:
                    parts.append(bias_lr**0.5 * rng.standard_normal(bias.size, dtype=X.dtype))
            self._tangent = np.concatenate(parts)

    def __call__(self, X: Array) -> Array:
        features = self._f(X) if self._tangent is None else jvp(self._f, X, self._tangent)
        features *= self.n_features**-0.5
        return features


class _Sketch:
    """`ReluSketch`, some rows at a time."""

    def __init__(self, model: NTKFeatures, X: Array, random: np.random.RandomState) -> None:
        rng, net = _generator(random), model._network()
        self._sketch = ReluSketch(net, X.shape[1], model.n_components, model.kernel, rng, X.dtype)
        self.n_features = self._sketch.n_features

    def __call__(self, X: Array) -> Array:
        features = np.empty((len(X), self.n_features), X.dtype)
        for rows in blocks(len(X), ROWS):
            features[rows] = self._sketch(X[rows])
        return features


def _generator(random: np.random.RandomState) -> np.random.Generator:
    return np.random.default_rng(random.randint(2**31))


METHODS: dict[str, Callable[[NTKFeatures, Array, np.random.RandomState], Any]] = {
    "nystroem": _Nystroem,
    "random": _Random,
    "sketch": _Sketch,
}
