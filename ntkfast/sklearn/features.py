"""Features whose inner products approximate the kernel of an infinitely wide network."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkfast.engine import outputs, threads
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import jvp
from ntkfast.infinite.kernels import kernels
from ntkfast.learning.factor import factor
from ntkfast.learning.sketch import ReluSketch
from ntkfast.networks import Activation, Network
from ntkfast.networks.network import refuse_dropout
from ntkfast.sklearn.dispatch import dispatched
from ntkfast.sklearn.estimator import DTYPES, NetworkEstimator
from ntkfast.support import memory, reprs
from ntkfast.support.arrays import blocks
from ntkfast.support.saved import Saved, checked, checked_array
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

    See Also
    --------
    NystromRegression : Ridge regression on centres in one pass.
    ntkfast.sklearn.NTKRegressor : The kernel itself.
    random_feature_model : The paper's random features.

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

    _fitted = ("_features", "_dtype", "n_features_in_", "feature_names_in_")

    def _check_fitted(self) -> None:
        features = self._features
        if not isinstance(features, tuple(METHODS.values())):
            raise TypeError(f"_features: expected those of {', '.join(METHODS)}, got {reprs.brief(features)}")
        if self._dtype not in ("float64", "float32"):
            raise ValueError(f"_dtype: expected float64 or float32, got {self._dtype!r}")
        self._check_features(features.n_inputs)

    @property
    def centers_(self) -> Array:
        """C, the points of the data that "nystroem" chose, (n_components, d); the other methods have none.

        See Also
        --------
        NTKFeatures.fit : Chooses them.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.random.default_rng(0).standard_normal((50, 3))
        >>> features = nf.sklearn.NTKFeatures(n_components=10, random_state=0).fit(X)
        >>> features.centers_.shape
        (10, 3)
        """
        if not isinstance(self._features, NystroemFeatures):
            raise AttributeError(f"centers_: expected a fit by method 'nystroem', got {self.method!r}")
        return self._features.centers

    @property
    def _n_features_out(self) -> int:  # the name that scikit-learn looks up
        return self._features.n_features

    @dispatched
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: object = None) -> NTKFeatures:
        """Choose the centres, or draw the random numbers.

        Parameters
        ----------
        X : array_like, shape (N, d)
            float32 gives float32 features, everything else float64. With scikit-learn's array_api_dispatch, tensors
            give tensors in `transform`; attributes are NumPy arrays.
        y : ignored
            For scikit-learn only.

        Returns
        -------
        NTKFeatures
            Itself, fitted.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As for the class; or the method is not for this network.

        See Also
        --------
        NTKFeatures.transform : The features.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.random.default_rng(0).standard_normal((50, 3))
        >>> features = nf.sklearn.NTKFeatures(n_components=10, random_state=0).fit(X)
        >>> features.n_features_in_
        3
        """
        X = validate_data(self, X, dtype=DTYPES)
        self._dtype = X.dtype.name
        net, random = self._network(), check_random_state(self.random_state)
        with threads.blas(self.n_threads, float(self.n_components) ** 3):
            make = METHODS[self.method].made
            self._features: Features = make(net, X, self.n_components, self.kernel, random, self.n_threads)
        return self

    @dispatched
    def transform(self, X: ArrayLike) -> Array:
        """φ at points.

        Parameters
        ----------
        X : array_like, shape (m, d)
            Points, one per row.

        Returns
        -------
        ndarray, shape (m, n_components)
            Of the dtype of the data of `fit`.

        Raises
        ------
        ValueError
            X has other features than the data.

        See Also
        --------
        NTKFeatures.fit : Chooses the centres.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.random.default_rng(0).standard_normal((50, 3))
        >>> features = nf.sklearn.NTKFeatures(n_components=10, random_state=0).fit(X)
        >>> features.transform(X[:2]).shape
        (2, 10)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self._dtype, reset=False)
        n_bytes = len(X) * self._n_features_out * X.itemsize
        memory.require(n_bytes, f"X: the features of {len(X)} points", "; fewer at a time need less")
        with threads.blas(self.n_threads, float(min(len(X), ROWS)) * float(self.n_components) ** 2):
            return self._features(X, self.n_threads)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class Features(Protocol):
    """What the methods have in common: features of rows of an array."""

    @property
    def n_inputs(self) -> int: ...

    @property
    def n_features(self) -> int: ...

    @classmethod
    def made(
        cls, net: Network, X: Array, n: int, kernel: KernelName, random: np.random.RandomState, n_threads: int | None
    ) -> Self:
        """At most n features, for points like X."""

    def __call__(self, X: Array, n_threads: int | None) -> Array: ...


@dataclass(frozen=True)
class NystroemFeatures(Saved):
    """L⁻¹ K(C, x)."""

    net: Network
    kernel: KernelName
    centers: Array  # (m, d)
    root: Array  # (m, m): L⁻ᵀ

    @property
    def n_inputs(self) -> int:
        return self.centers.shape[1]

    @property
    def n_features(self) -> int:
        return self.root.shape[1]

    @classmethod
    def made(
        cls, net: Network, X: Array, n: int, kernel: KernelName, random: np.random.RandomState, n_threads: int | None
    ) -> NystroemFeatures:
        n, some = min(n, len(X)), X
        if len(X) > CANDIDATES * n:
            some = X[np.sort(random.choice(len(X), CANDIDATES * n, replace=False))]
        with threads.single_threaded_blas():  # thousands of small products
            centers = kmeans_plusplus(some, n, random_state=random)[0]
        centers = np.unique(centers, axis=0)  # data that are repeated may be chosen again
        K = kernels(net, centers, get=kernel, dtype=np.float64, n_threads=n_threads)
        if X.dtype == np.float32:  # K(C, x) has its errors, which L⁻¹ must not blow up
            K[np.diag_indices_from(K)] += np.finfo(np.float32).eps * K.diagonal().max()
        root = factor(K, "the kernel of the centres").half_solve(np.eye(len(K))).T.astype(X.dtype)
        return cls(net, kernel, centers, root)

    @classmethod
    def rebuilt(cls, net: Any, kernel: Any, centers: Any, root: Any) -> NystroemFeatures:
        centers = checked_array(centers, (None, None), "centers")
        root = checked_array(root, (len(centers), None), "root", centers.dtype)
        return cls(checked(net, Network, "net"), outputs.kernel(kernel), centers, root)

    def __call__(self, X: Array, n_threads: int | None) -> Array:
        features = np.empty((len(X), self.n_features), X.dtype)
        for rows in blocks(len(X), ROWS):  # faster than a KernelOperator for as many vectors as centres
            K = kernels(self.net, X[rows], self.centers, get=self.kernel, n_threads=n_threads)
            np.matmul(K, self.root, out=features[rows])
        return features


@dataclass(frozen=True)
class RandomFeatures(Saved):
    """J(x) v/√n of a random network with n outputs, or its outputs."""

    network: FiniteNetwork
    tangent: Array | None  # (n_parameters,): v

    @property
    def n_inputs(self) -> int:
        return self.network.n_inputs

    @property
    def n_features(self) -> int:
        return self.network.n_outputs

    @classmethod
    def made(
        cls, net: Network, X: Array, n: int, kernel: KernelName, random: np.random.RandomState, n_threads: int | None
    ) -> RandomFeatures:
        rng = _generator(random)
        refuse_dropout(net)
        f = FiniteNetwork.init(net, X.shape[1], WIDTH * n, n, rng=rng, dtype=X.dtype)
        if kernel == "nngp":
            return cls(f, None)
        parts = []
        for weight, bias, weight_lr, bias_lr in zip(f.weights, f.biases, f.weight_lrs, f.bias_lrs, strict=True):
            parts.append(weight_lr**0.5 * rng.standard_normal(weight.size, dtype=X.dtype))
            if bias is not None:
                parts.append(bias_lr**0.5 * rng.standard_normal(bias.size, dtype=X.dtype))
        return cls(f, np.concatenate(parts))

    @classmethod
    def rebuilt(cls, network: Any, tangent: Any) -> RandomFeatures:
        f = checked(network, FiniteNetwork, "network")
        return cls(f, None if tangent is None else checked_array(tangent, (f.n_parameters,), "tangent", f.dtype))

    def __call__(self, X: Array, n_threads: int | None) -> Array:
        features = self.network(X) if self.tangent is None else jvp(self.network, X, self.tangent)
        features *= self.n_features**-0.5
        return features


@dataclass(frozen=True)
class SketchFeatures(Saved):
    """`ReluSketch`, some rows at a time."""

    sketch: ReluSketch
    n_inputs: int

    @property
    def n_features(self) -> int:
        return self.sketch.n_features

    @classmethod
    def made(
        cls, net: Network, X: Array, n: int, kernel: KernelName, random: np.random.RandomState, n_threads: int | None
    ) -> SketchFeatures:
        d = X.shape[1]
        return cls(ReluSketch.made(net, d, n, kernel, _generator(random), X.dtype), d)

    @classmethod
    def rebuilt(cls, sketch: Any, n_inputs: Any) -> SketchFeatures:
        sketch, n_inputs = checked(sketch, ReluSketch, "sketch"), checked(n_inputs, int, "n_inputs")
        sizes = [size for layer in sketch.layers for size in layer.sizes]
        try:  # sizes depend on one another throughout the layers
            memory.require(32 * max(n_inputs, sketch.n_features, *sizes), "one point")
            found = sketch(np.zeros((1, n_inputs))).shape
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found != (1, sketch.n_features):
            raise ValueError(
                f"sketch: expected {sketch.n_features} features of {n_inputs} inputs, shape (1, {sketch.n_features}) "
                f"for one point, got {found}"
            )
        return cls(sketch, n_inputs)

    def __call__(self, X: Array, n_threads: int | None) -> Array:
        features = np.empty((len(X), self.n_features), X.dtype)
        for rows in blocks(len(X), ROWS):
            features[rows] = self.sketch(X[rows])
        return features


def _generator(random: np.random.RandomState) -> np.random.Generator:
    return np.random.default_rng(random.randint(2**31))


METHODS: dict[str, type[Features]] = {
    "nystroem": NystroemFeatures,
    "random": RandomFeatures,
    "sketch": SketchFeatures,
}
