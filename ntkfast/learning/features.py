"""The linear model of random features with which the paper begins (section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.engine import threads
from ntkfast.infinite.kernels import ntk
from ntkfast.learning import checks, pieces
from ntkfast.learning.factor import Factor, factor
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.networks import Network
from ntkfast.support import memory, reprs
from ntkfast.support import progress as progress_bar
from ntkfast.support.saved import Saved, checked_array
from ntkfast.support.scalars import generator
from ntkfast.support.typing import Array, Progress, Seed

__all__ = ["FeatureConvergence", "RandomFeatureModel", "random_feature_convergence", "random_feature_model"]

WITHOUT_MEMORY = "; sklearn.NTKFeatures has features without a matrix"  # ends the error about a factor


@dataclass(frozen=True)
class RandomFeatureModel(Saved):
    """F_θ = (1/√P) Σ_p θ_p f^(p) on N points.

    Attributes
    ----------
    features : ndarray, shape (N, P)
        The functions f^(p) on the points.
    theta : ndarray, shape (P,)
        The parameters at initialisation, iid N(0, 1). Both are float32 if K is, else float64.

    See Also
    --------
    random_feature_model : Makes it.
    ntkfast.sklearn.NTKFeatures : Features for linear models.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), section 3.1.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.random_feature_model([[1.0]], n_features=3, rng=0).theta.shape
    (3,)
    """

    features: Array
    theta: Array

    __repr__ = reprs.short

    @classmethod
    def rebuilt(cls, features: Any, theta: Any) -> RandomFeatureModel:
        theta = checked_array(theta, (None,), "theta")
        return cls(checked_array(features, (None, len(theta)), "features", theta.dtype), theta)

    def __call__(self, theta: ArrayLike | None = None) -> Array:
        """F_θ on the points.

        Parameters
        ----------
        theta : array_like, shape (P,), optional
            Parameters. Default: those at initialisation.

        Returns
        -------
        ndarray, shape (N,)
            (1/√P) Σ_p θ_p f^(p).

        Raises
        ------
        ValueError
            theta has another shape.

        See Also
        --------
        RandomFeatureModel.flow : Where gradient descent leads it.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.random_feature_model([[1.0]], n_features=4, rng=0)([0.0, 0.0, 0.0, 0.0])
        array([0.])
        """
        shape, dtype = (1, len(self.theta)), self.theta.dtype
        parameters = self.theta if theta is None else checks.matrix([theta], "theta", shape, dtype)[0]
        values: Array = self.features @ parameters / np.sqrt(dtype.type(len(parameters)))
        return values

    def kernel(self) -> Array:
        """The tangent kernel K̃ = (1/P) Σ_p f^(p) ⊗ f^(p) on the points, which does not depend on θ.

        Returns
        -------
        ndarray, shape (N, N)
            Close to K, with an error of order P^{-1/2}.

        See Also
        --------
        random_feature_convergence : How close.

        Examples
        --------
        >>> import ntkfast as nf
        >>> model = nf.random_feature_model([[1.0]], n_features=10000, rng=0)
        >>> bool(abs(model.kernel()[0, 0] - 1) < 0.05)
        True
        """
        return pieces.square(self.features) / self.features.shape[1]

    def flow(self, y: ArrayLike) -> LeastSquaresFlow:
        """Gradient descent on θ for the least-squares cost, as the flow of the tangent kernel.

        Its methods start from 0 by default, and from the model itself with mean(t, f0=model()).

        Parameters
        ----------
        y : array_like, shape (N,) or (N, outputs)
            Targets.

        Returns
        -------
        LeastSquaresFlow
            Of the kernel K̃.

        See Also
        --------
        LeastSquaresFlow : Its methods.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> nf.random_feature_model([[1.0]], n_features=3, rng=0).flow([2.0]).mean(np.inf)
        array([2.])
        """
        return LeastSquaresFlow(self.kernel(), y)


def random_feature_model(
    K_xx: ArrayLike | Network,
    X: ArrayLike | None = None,
    *,
    n_features: int,
    rng: Seed = None,
    n_threads: int | None = None,
) -> RandomFeatureModel:
    """A linear model of P random functions whose tangent kernel is close to K.

    The f^(p) are independent with covariance K, here Gaussian, so that (1/P) Σ f^(p) ⊗ f^(p) tends to K by the law of
    large numbers, with an error of order P^{-1/2} (Jacot, Gabriel and Hongler 2018, section 3.1).

    Parameters
    ----------
    K_xx : array_like, shape (N, N), or Network
        K on the points; or a network, for its tangent kernel Θ^L on X.
    X : array_like, shape (N, d), optional
        The points, with a network.
    n_features : int
        P.
    rng : None, int or numpy.random.Generator
        For the features and the parameters.
    n_threads : int, optional
        Of the kernel, and of BLAS: by default one for small work, else its own number.

    Returns
    -------
    RandomFeatureModel
        The features on the points, and θ.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or K is not positive semi-definite.
    MemoryError
        The features do not fit into memory.

    See Also
    --------
    random_feature_convergence : How fast its kernel tends to K.
    ntkfast.sklearn.NTKFeatures : Features for new points.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> model = nf.random_feature_model(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 1.0]], n_features=1000, rng=0)
    >>> model.features.shape
    (2, 1000)
    >>> model.flow([1.0, 2.0]).mean(np.inf, f0=model())
    array([1., 2.])
    """
    P, rng = checks.count(n_features, "n_features"), generator(rng)
    if isinstance(K_xx, Network):
        if X is None:
            raise TypeError("X: expected points together with a network, got None")
        K_xx = ntk(K_xx, X, n_threads=n_threads)
    elif X is not None:
        raise TypeError("X: expected points only together with a network, got them with a matrix")
    given = checks.square(K_xx, "K_xx")
    checks.require_factor(given, "K_xx", WITHOUT_MEMORY)
    memory.require(2 * 8 * len(given) * P, "n_features: random features", "; fewer need less")
    K = checks.symmetric(given, "K_xx")
    with threads.blas(n_threads, _flops(len(K), P)):
        features = _draw(factor(K, "K_xx"), P, rng)
    return RandomFeatureModel(features, rng.standard_normal(P).astype(features.dtype))


def _flops(n: int, P: int) -> float:
    """Of factoring K, or of a product with P vectors."""
    return float(n) ** 2 * max(n / 3, 2 * P)


def _draw(root: Factor, P: int, rng: np.random.Generator) -> Array:
    memory.require(2 * 8 * len(root.half) * P, "n_features: random features", "; fewer need less")
    return pieces.product(root.half, rng.standard_normal((root.half.shape[1], P)).astype(root.half.dtype))


@dataclass(frozen=True)
class FeatureConvergence:
    """How fast the tangent kernel of random features tends to K.

    Attributes
    ----------
    P : ndarray, shape (n,)
        Numbers of features.
    errors : ndarray, shape (n, n_seeds)
        ‖K̃ - K‖/‖K‖ in the Frobenius norm, of every model.
    rate : float
        Slope of log(root mean square error) over log P; -1/2 in expectation.
    expected : ndarray, shape (n,)
        The root mean square for Gaussian features: √((‖K‖² + (tr K)²)/P)/‖K‖.

    See Also
    --------
    random_feature_convergence : Makes it.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> nf.random_feature_convergence(np.eye(2), n_features=(10, 100), n_seeds=3, rng=0).errors.shape
    (2, 3)
    """

    P: NDArray[np.int_]
    errors: Array
    rate: float
    expected: Array

    __repr__ = reprs.short


def random_feature_convergence(
    K_xx: ArrayLike,
    *,
    n_features: Iterable[int] = (100, 1000, 10000),
    n_seeds: int = 10,
    rng: Seed = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> FeatureConvergence:
    """Measure the rate at which tangent kernels of random features tend to K.

    Parameters
    ----------
    K_xx : array_like, shape (N, N)
        K on the points, symmetric, positive semi-definite and not 0.
    n_features : sequence of int
        Numbers P of features, at least two of them different.
    n_seeds : int
        Models for each number.
    rng : None, int or numpy.random.Generator
        For the features.
    n_threads : int, optional
        Of BLAS. Default: one for small work, else its own number.
    progress : bool or callable, optional
        As in `ntkfast.ntk`; counts the features.

    Returns
    -------
    FeatureConvergence
        The errors of all models, their rate, and what to expect.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or K is 0 or not positive semi-definite.
    MemoryError
        The features do not fit into memory.

    See Also
    --------
    random_feature_model : One model.
    convergence : The same for networks.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> round(nf.random_feature_convergence(np.eye(3), rng=0).rate, 1)
    -0.5
    """
    given = checks.square(K_xx, "K_xx")
    progress_bar.check(progress)
    P = [checks.count(p, f"n_features[{k}]") for k, p in enumerate(n_features)]
    if len(set(P)) < 2:
        raise ValueError(f"n_features: expected at least two different numbers, got {P}")
    checks.require_factor(given, "K_xx", WITHOUT_MEMORY, 3)
    K = checks.symmetric(given, "K_xx")
    size = max(K.max(), -K.min())
    if size == 0:
        raise ValueError("K_xx: expected a kernel that is not 0 everywhere, got zeros")
    K = K / size  # everything measured is relative
    n_seeds, rng = checks.count(n_seeds, "n_seeds"), generator(rng)
    norm, trace = np.linalg.norm(K), np.trace(K)
    memory.require(8 * len(P) * n_seeds, "n_seeds: the errors", "; fewer need less")
    errors, done = np.empty((len(P), n_seeds)), 0
    with (
        threads.blas(n_threads, _flops(len(K), max(P))),
        progress_bar.reporter(progress, "random features") as report,
    ):
        root = factor(K, "K_xx")
        for k, p in enumerate(P):
            for seed in range(n_seeds):
                features = _draw(root, p, rng)
                errors[k, seed] = np.linalg.norm(pieces.square(features) / p - K) / norm
                done += p
                if report is not None:
                    report(done, sum(P) * n_seeds)
    rms = np.sqrt((errors**2).mean(axis=1))
    rate = float(np.polyfit(np.log(P), np.log(rms), 1)[0])
    return FeatureConvergence(np.array(P), errors, rate, np.sqrt((norm**2 + trace**2) / P) / norm)
