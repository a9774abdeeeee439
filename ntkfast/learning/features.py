"""The linear model of random features that the paper takes as its first step (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.infinite.kernels import ntk
from ntkfast.learning import checks
from ntkfast.learning.factor import factor
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.networks import Network
from ntkfast.support import memory, reprs
from ntkfast.support import progress as progress_bar
from ntkfast.support.scalars import generator

__all__ = ["FeatureConvergence", "RandomFeatureModel", "random_feature_convergence", "random_feature_model"]


@dataclass(frozen=True)
class RandomFeatureModel:
    """F_θ = (1/√P) Σ_p θ_p f^(p) on N points.

    Attributes
    ----------
    features : ndarray, shape (N, P)
        The functions f^(p) on the points.
    theta : ndarray, shape (P,)
        The parameters at initialisation, iid N(0, 1). float32 as all else if K is so, else float64.
    """

    features: np.ndarray
    theta: np.ndarray

    __repr__ = reprs.short

    def __call__(self, theta=None):
        """F_θ on the points, (N,), at initialisation by default."""
        shape, dtype = (1, len(self.theta)), self.theta.dtype
        theta = self.theta if theta is None else checks.matrix([theta], "theta", shape, dtype)[0]
        return self.features @ theta / np.sqrt(self.features.dtype.type(len(theta)))

    def kernel(self):
        """The tangent kernel K̃ = (1/P) Σ_p f^(p) ⊗ f^(p) on the points, (N, N): it does not depend on θ."""
        return self.features @ self.features.T / self.features.shape[1]

    def flow(self, y):
        """Gradient descent on θ for the least-squares cost, as the flow of the tangent kernel.

        It starts where it is told to: at F with mean(t, f0=model()), else at 0.

        Parameters
        ----------
        y : array_like, shape (N,) or (N, outputs)

        Returns
        -------
        LeastSquaresFlow
        """
        return LeastSquaresFlow(self.kernel(), y)


def random_feature_model(K, P, X=None, rng=None) -> RandomFeatureModel:
    """A linear model of P random functions whose tangent kernel is near K.

    The f^(p) are independent with covariance K, here Gaussian, so that (1/P) Σ f^(p) ⊗ f^(p) tends to K by the law of
    large numbers, with an error like P^{-1/2} (Jacot, Gabriel and Hongler 2018, section 3.1).

    Parameters
    ----------
    K : array_like, shape (N, N), or Network
        A kernel on the points, or a network: its tangent kernel Θ^L on X is taken.
    P : int
        Number of features.
    X : array_like, shape (N, d), optional
        Points, with a network.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    RandomFeatureModel

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; K is not positive semi-definite.
    MemoryError
        The features do not fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from ntkfast.learning.features import random_feature_model
    >>> model = random_feature_model(nf.MLP(depth=2), P=1000, X=[[1.0, 0.0], [0.0, 1.0]], rng=0)
    >>> model.features.shape
    (2, 1000)
    >>> model.flow([1.0, 2.0]).mean(np.inf, f0=model())
    array([1., 2.])
    """
    if isinstance(K, Network):
        if X is None:
            raise TypeError("X: expected points together with a network, got None")
        K = ntk(K, X)
    elif X is not None:
        raise TypeError("X: expected points only together with a network, got them with a matrix")
    P, rng = checks.count(P, "P"), generator(rng)
    root = factor(checks.symmetric(K, "K"), "K")
    features = _draw(root, P, rng)
    return RandomFeatureModel(features, rng.standard_normal(P).astype(features.dtype))


def _draw(root, P, rng):
    memory.require(2 * 8 * len(root.half) * P, "random features")
    return root.half @ rng.standard_normal((root.half.shape[1], P)).astype(root.half.dtype)


@dataclass(frozen=True)
class FeatureConvergence:
    """How fast the tangent kernel of random features tends to K.

    Attributes
    ----------
    P : ndarray, shape (n,)
        Numbers of features.
    errors : ndarray, shape (n, repeats)
        ‖K̃ - K‖/‖K‖ in the Frobenius norm, of every model.
    rate : float
        Slope of log(root mean square error) over log P; -1/2 in expectation.
    expected : ndarray, shape (n,)
        The root mean square that Gaussian features have: √((‖K‖² + (tr K)²)/P)/‖K‖.
    """

    P: np.ndarray
    errors: np.ndarray
    rate: float
    expected: np.ndarray

    __repr__ = reprs.short


def random_feature_convergence(K, P=(100, 1000, 10000), repeats=10, rng=None, progress=None) -> FeatureConvergence:
    """Measure the rate at which tangent kernels of random features tend to K.

    Parameters
    ----------
    K : array_like, shape (N, N)
    P : sequence of int
        Numbers of features, two at least.
    repeats : int
        Models for each.
    rng : None, int or numpy.random.Generator
    progress : bool or callable, optional
        As in `ntkfast.ntk`; counts the features.

    Returns
    -------
    FeatureConvergence

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; K is 0 or not positive semi-definite.
    MemoryError
        The features do not fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.learning.features import random_feature_convergence
    >>> round(random_feature_convergence(np.eye(3), rng=0).rate, 1)
    -0.5
    """
    K = checks.symmetric(K, "K")
    progress_bar.check(progress)
    P = [checks.count(p, f"P[{k}]") for k, p in enumerate(P)]
    if len(set(P)) < 2:
        raise ValueError(f"P: expected two different numbers at least, got {P}")
    size = np.abs(K).max()
    if size == 0:
        raise ValueError("K: expected a kernel that is not 0 everywhere, got zeros")
    K = K / size  # all that is measured is relative
    repeats, rng, root = checks.count(repeats, "repeats"), generator(rng), factor(K, "K")
    norm, trace = np.linalg.norm(K), np.trace(K)
    memory.require(8 * len(P) * repeats, "errors")
    errors, done = np.empty((len(P), repeats)), 0
    with progress_bar.reporter(progress, "random features") as report:
        for k, p in enumerate(P):
            for repeat in range(repeats):
                features = _draw(root, p, rng)
                errors[k, repeat] = np.linalg.norm(features @ features.T / p - K) / norm
                done += p
                if report is not None:
                    report(done, sum(P) * repeats)
    rms = np.sqrt((errors**2).mean(axis=1))
    rate = float(np.polyfit(np.log(P), np.log(rms), 1)[0])
    return FeatureConvergence(np.array(P), errors, rate, np.sqrt((norm**2 + trace**2) / P) / norm)
