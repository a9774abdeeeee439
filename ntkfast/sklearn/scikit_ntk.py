"""The kernel of the package scikit-ntk, with its interface and its numbers, computed by the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from ntkfast.infinite.kernels import diagonal, ntk
from ntkfast.networks import Dense, Network
from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Array

__all__ = ["NeuralTangentKernel"]


# Standard deviation of the biases: its square is lost in Σ, and still a normal float32, which equal points at the
# origin need. In standard parametrisation (`fan_in`) the tangent kernel has the term bias_lr however small it is.
ALMOST_ZERO = 1e-18


class NeuralTangentKernel(Kernel):
    """The kernel of scikit-ntk 1.2.1 (Lencevičius 2022): code written for that package runs faster with this class.

    From Σ⁰ = x·y and Θ⁰ = Σ⁰ + β² each of `depth` hidden layers of ReLU gives

        Σ ← 2 E[σ(u)σ(v)],    Θ ← Θ · 2 E[σ'(u)σ'(v)] + Σ + β²,    (u, v) of covariance Σ,

    and the kernel is Θ/((depth + 1)(β² + 1)). This differs from `NTKKernel`: `depth` counts hidden layers, the bias is
    trained but is 0 at initialisation, and inner products are not divided by the number of features.

    Parameters
    ----------
    depth : int
        Number of hidden layers, >= 1.
    bias : float
        β >= 0.
    bias_bounds : pair of float > 0, or "fixed"
        Where a fit may move it.

    See Also
    --------
    ntkfast.sklearn.NTKKernel : The library's own, for any network.

    Notes
    -----
    scikit-ntk forms arccos of rounded cosines, which costs it half of the digits near equal points, and replaces
    products of norms below 1e-10: at the origin, where Θ has no limit, its values are others, and those of equal points
    are not the same. Elsewhere the numbers agree to rounding.

    Examples
    --------
    >>> import ntkfast as nf
    >>> kernel = nf.sklearn.scikit_ntk.NeuralTangentKernel(2, bias=0.1, bias_bounds="fixed")
    >>> kernel([[3.0, 4.0]], [[3.0, 4.0]]) * (2 + 1) * (0.1**2 + 1)
    array([[75.03]])
    """

    def __init__(self, depth: int, bias: float = 0.1, bias_bounds: ArrayLike | str = (1e-5, 1e5)) -> None:
        self.depth = depth
        self.bias = bias
        self.bias_bounds = bias_bounds

    @property
    def hyperparameter_bias(self) -> Any:
        """β as scikit-learn describes a hyperparameter: its name and bounds.

        See Also
        --------
        NTKKernel.hyperparameter_bias_std : That of the library's own kernel.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.scikit_ntk.NeuralTangentKernel(2, bias=0.1)
        >>> kernel.hyperparameter_bias.name
        'bias'
        """
        return Hyperparameter("bias", "numeric", self.bias_bounds)

    def _network(self, n_inputs: int, bias_lr: float, weights: float = 1.0) -> Network:
        """Θ ← Θ · 2 E[σ'σ'] + weights Σ + bias_lr."""
        bias = {"bias_std": ALMOST_ZERO, "bias_lr": bias_lr}
        first = Dense(weight_std=n_inputs**0.5, weight_lr=weights, fan_in="inputs", **bias)
        later = Dense(weight_std=2**0.5, weight_lr=2 * weights, fan_in=1, **bias)
        return Network([first, *["relu", later] * positive_integer(self.depth, "depth")])

    def __call__(self, X: ArrayLike, Z: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """The kernel matrix, and its derivative with respect to log β (`theta`).

        Parameters
        ----------
        X : array_like, shape (n, d)
            Points, one per row.
        Z : array_like, shape (m, d), optional
            The points on the other side.
        eval_gradient : bool
            Only without Z.

        Returns
        -------
        ndarray, shape (n, m)
            With eval_gradient a tuple of it and the derivative, (n, n, 1), or (n, n, 0) if β is fixed.

        Raises
        ------
        ValueError
            Z is given with eval_gradient.

        See Also
        --------
        NeuralTangentKernel.diag : The diagonal alone.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.scikit_ntk.NeuralTangentKernel(2, bias=0.1)
        >>> kernel([[1.0, 0.0], [0.0, 1.0]]).shape
        (2, 2)
        """
        if eval_gradient and Z is not None:
            raise ValueError("Z: expected None with eval_gradient=True, got an array")
        X = np.asarray(X)
        L, b, d = self.depth + 1, float(self.bias) ** 2, X.shape[-1]
        K = ntk(self._network(d, b), X, Z)
        K /= L * (b + 1)
        if not eval_gradient:
            return K
        if self.hyperparameter_bias.fixed:
            return K, np.empty((*K.shape, 0), K.dtype)
        slope = ntk(self._network(d, 1.0, weights=0.0), X)  # ∂Θ/∂β², on which β has no influence
        slope /= L
        slope -= K
        slope *= 2 * b / (b + 1)
        return K, slope[..., None]

    def diag(self, X: ArrayLike) -> Array:
        """The diagonal of the matrix of X with itself.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Points, one per row.

        Returns
        -------
        ndarray, shape (n,)
            K(x_i, x_i).

        See Also
        --------
        NeuralTangentKernel.__call__ : The matrix.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.scikit_ntk.NeuralTangentKernel(2, bias=0.1)
        >>> kernel.diag([[3.0, 4.0]]).round(3)
        array([24.762])
        """
        X, b = np.asarray(X), float(self.bias) ** 2
        result: Array = diagonal(self._network(X.shape[-1], b), X) / ((self.depth + 1) * (b + 1))
        return result

    def is_stationary(self) -> bool:
        """Whether it depends on X - Z alone, which it does not.

        Returns
        -------
        bool
            False.

        See Also
        --------
        NeuralTangentKernel.diag : What depends on the point.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.scikit_ntk.NeuralTangentKernel(2, bias=0.1)
        >>> kernel.is_stationary()
        False
        """
        return False

    def __repr__(self) -> str:
        return f"NeuralTangentKernel(depth={self.depth}, bias={self.bias:.3f})"
