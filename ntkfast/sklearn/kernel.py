"""The kernel of an infinitely wide network for scikit-learn's Gaussian processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from ntkfast.infinite.kernels import diagonal, kernels
from ntkfast.networks import MLP, Activation, Network
from ntkfast.networks.hyperparameters import NAMES, with_hyperparameters
from ntkfast.support.typing import Array, KernelName

__all__ = ["NTKKernel"]


class NTKKernel(Kernel):
    """The NTK or NNGP kernel of a fully connected network as a scikit-learn kernel, with exact derivatives.

    `GaussianProcessRegressor` fits its hyperparameters, alone or in sums, products and powers with other kernels. Where
    scikit-learn takes a kernel function of whole matrices (`SVC`, `KernelRidge`, `KernelPCA`, `Nystroem`,
    `pairwise_kernels`), it may be passed as `kernel=`. Each matrix is one call of the engine.

    Parameters
    ----------
    depth : int
        Number of affine layers L, as in `ntkfast.MLP`.
    activation : str or Activation
    weight_std, bias_std : float or sequence of L floats
        One for all layers, or one per layer.
    kernel : {"ntk", "nngp"}
        For Bayesian inference with the network: "nngp".
    weight_std_bounds, bias_std_bounds : pair of float > 0, or "fixed"
        Where a fit may move them; a bias_std of 0 must be fixed, as hyperparameters are fitted as logarithms.
    n_threads : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from sklearn.gaussian_process import GaussianProcessRegressor
    >>> from sklearn.gaussian_process.kernels import WhiteKernel
    >>> X = np.linspace(-2, 2, 20)[:, None]
    >>> kernel = nf.sklearn.NTKKernel(depth=3, activation="erf", kernel="nngp") + WhiteKernel(0.1)
    >>> gp = GaussianProcessRegressor(kernel).fit(X, np.sin(X[:, 0]))
    >>> gp.score(X, np.sin(X[:, 0])) > 0.99
    True
    """

    def __init__(
        self,
        *,
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_std: float | ArrayLike = 2**0.5,
        bias_std: float | ArrayLike = 0.1,
        kernel: KernelName = "ntk",
        weight_std_bounds: ArrayLike | str = (1e-2, 1e2),
        bias_std_bounds: ArrayLike | str = (1e-3, 1e2),
        n_threads: int | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_std = weight_std
        self.bias_std = bias_std
        self.kernel = kernel
        self.weight_std_bounds = weight_std_bounds
        self.bias_std_bounds = bias_std_bounds
        self.n_threads = n_threads

    def _hyperparameter(self, name: str) -> Hyperparameter:
        bounds, value = getattr(self, f"{name}_bounds"), getattr(self, name)
        return Hyperparameter(name, "numeric", bounds, np.size(value) if np.ndim(value) else 1)

    @property
    def hyperparameter_weight_std(self) -> Any:
        """As scikit-learn describes it."""
        return self._hyperparameter("weight_std")

    @property
    def hyperparameter_bias_std(self) -> Any:
        """As scikit-learn describes it."""
        return self._hyperparameter("bias_std")

    def _layers(self, name: str) -> Array:
        """The values of all layers, (L,)."""
        values = np.asarray(getattr(self, name), dtype=np.float64)
        if values.ndim and values.shape != (self.depth,):
            raise ValueError(f"{name}: expected a number or {self.depth}, one per layer, got shape {values.shape}")
        return np.broadcast_to(values, self.depth)

    def _network(self) -> Network:
        values = np.stack([self._layers(name) for name in NAMES], axis=1)  # in the order of `hyperparameters`
        return with_hyperparameters(MLP(self.depth, self.activation), values.ravel().tolist())

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """The kernel matrix, and its derivatives with respect to the logarithms of the hyperparameters (`theta`).

        Parameters
        ----------
        X : array_like, shape (n, d)
        Y : array_like, shape (m, d), optional
        eval_gradient : bool
            Only without Y.

        Returns
        -------
        ndarray, shape (n, m)
            With eval_gradient a tuple of it and the derivatives, (n, n, n_dims), those of bias_std first.
        """
        if not eval_gradient:
            return kernels(self._network(), X, Y, get=self.kernel, n_threads=self.n_threads)
        if Y is not None:
            raise ValueError("Y: expected None with eval_gradient=True, got an array")
        free = [part for part in self.hyperparameters if not part.fixed]
        if not free:
            K = self(X)
            return K, np.empty((*K.shape, 0), K.dtype)
        K, slopes = kernels(self._network(), X, get=self.kernel, gradient=True, n_threads=self.n_threads)
        result = []
        for part in free:
            of_layers = slopes[NAMES.index(part.name) :: len(NAMES)]  # (L, n, n)
            values = self._layers(part.name).astype(K.dtype)
            each = values[:, None, None] * of_layers if part.n_elements > 1 else [np.tensordot(values, of_layers, 1)]
            result.extend(each)
        return K, np.stack(result, axis=-1)

    def diag(self, X: ArrayLike) -> Array:
        """The diagonal of the matrix of X with itself, (n,).

        Parameters
        ----------
        X : array_like, shape (n, d)

        Returns
        -------
        ndarray, shape (n,)
        """
        result: Array = diagonal(self._network(), X, self.kernel, n_threads=self.n_threads)
        return result

    def is_stationary(self) -> bool:
        """False: it depends on more than X - Y."""
        return False

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={np.round(getattr(self, name), 3)}" for name in NAMES)
        return f"NTKKernel(depth={self.depth}, activation={self.activation!r}, {values}, kernel={self.kernel!r})"
