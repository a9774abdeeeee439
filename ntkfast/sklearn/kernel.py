"""The kernel of an infinitely wide network for scikit-learn's Gaussian processes."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from ntkfast.engine.pair import pair
from ntkfast.engine.problem import Problem
from ntkfast.infinite.kernels import diagonal, kernels
from ntkfast.networks import MLP, Activation, Network
from ntkfast.networks.hyperparameters import NAMES, with_hyperparameters
from ntkfast.support.typing import Array, KernelName

__all__ = ["NTKKernel"]


@lru_cache(maxsize=32)
def _built(network: Network | None, depth: int, activation: str | Activation, *values: tuple[float, ...]) -> Network:
    """The network with these values, one or one per layer for each of NAMES: calls with single points repeat it."""
    network = MLP(depth, activation) if network is None else network
    layers = [np.broadcast_to(each, network.depth) for each in values]
    return with_hyperparameters(network, np.stack(layers, axis=1).ravel().tolist())


class NTKKernel(Kernel):
    """The NTK or NNGP kernel of a fully connected network as a scikit-learn kernel, with exact derivatives.

    `GaussianProcessRegressor` fits its hyperparameters, alone or in sums, products and powers with other kernels. Where
    scikit-learn takes a kernel function (`SVC`, `KernelRidge`, `KernelPCA`, `Nystroem`, `SpectralClustering`,
    `pairwise_kernels(metric=)`), it may be passed instead: each matrix is then one call of the engine. Other functions,
    a lambda around it included, are mostly called once per pair of rows, N²/2 times, at some 30 µs each (100 µs with
    Hermite series): there, kernel="precomputed" with matrices of `ntkfast.kernels` is the fast way.

    Parameters
    ----------
    depth : int
        Number of affine layers L, as in `ntkfast.MLP`.
    activation : str or Activation
        φ, or its name.
    weight_std, bias_std : float or sequence of L floats
        One for all layers, or one per layer.
    kernel : {"ntk", "nngp"}
        For Bayesian inference with the network: "nngp".
    weight_std_bounds, bias_std_bounds : pair of float > 0, or "fixed"
        Where a fit may move them. Their logarithms are fitted (`theta`): those that are 0 remain so.
    network : Network, optional
        Instead of depth, activation, weight_std and bias_std: any network. The hyperparameters are then those of its
        `Dense` layers, one by one.
    n_threads : int, optional
        As in `ntkfast.ntk`.

    See Also
    --------
    fit_hyperparameters : A fit without scikit-learn, which also judges it.
    ntkfast.sklearn.NTKRegressor : Kernel ridge regression.
    kernels : Matrices for kernel="precomputed".

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from sklearn.gaussian_process import GaussianProcessRegressor
    >>> from sklearn.gaussian_process.kernels import WhiteKernel
    >>> X = np.linspace(-2, 2, 20)[:, None]
    >>> kernel = nf.sklearn.NTKKernel(depth=3, activation="erf", kernel="nngp") + WhiteKernel(0.1)
    >>> y = np.sin(X[:, 0]) + 0.1 * np.random.default_rng(0).standard_normal(20)
    >>> gp = GaussianProcessRegressor(kernel).fit(X, y)
    >>> gp.score(X, np.sin(X[:, 0])) > 0.98
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
        network: Network | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_std = weight_std
        self.bias_std = bias_std
        self.kernel = kernel
        self.weight_std_bounds = weight_std_bounds
        self.bias_std_bounds = bias_std_bounds
        self.network = network
        self.n_threads = n_threads

    # --- hyperparameters

    def _values(self, name: str) -> Array:
        """One value for all layers, (), or one per layer, (L,)."""
        if self.network is not None:
            return np.array([getattr(dense, name) for dense in self.network.dense_layers])
        values = np.asarray(getattr(self, name), dtype=np.float64)
        if values.ndim and values.shape != (self.depth,):
            raise ValueError(f"{name}: expected a number or {self.depth}, one per layer, got shape {values.shape}")
        return values

    def _hyperparameter(self, name: str) -> Hyperparameter:
        n = np.count_nonzero(self._values(name))
        return Hyperparameter(name, "numeric", getattr(self, f"{name}_bounds") if n else "fixed", max(n, 1))

    @property
    def hyperparameter_weight_std(self) -> Any:
        """weight_std as scikit-learn describes a hyperparameter: its name, bounds, and number of entries.

        See Also
        --------
        NTKKernel.theta : Its logarithm.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.NTKKernel(depth=2)
        >>> kernel.hyperparameter_weight_std.name
        'weight_std'
        """
        return self._hyperparameter("weight_std")

    @property
    def hyperparameter_bias_std(self) -> Any:
        """bias_std as scikit-learn describes a hyperparameter (name, bounds, number of entries); fixed if it is 0.

        See Also
        --------
        NTKKernel.theta : Its logarithm.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.NTKKernel(depth=2)
        >>> kernel.hyperparameter_bias_std.fixed
        False
        """
        return self._hyperparameter("bias_std")

    def _free(self) -> list[str]:
        return [part.name for part in self.hyperparameters if not part.fixed]

    @property
    def theta(self) -> Array:
        """The logarithms of the hyperparameters that are not fixed, (n_dims,), those of bias_std first.

        See Also
        --------
        hyperparameters : The values of any network.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.NTKKernel(depth=2)
        >>> kernel.theta.round(3)
        array([-2.303,  0.347])
        """
        free = [self._values(name) for name in self._free()]
        return np.log(np.concatenate([values[values != 0] for values in free])) if free else np.empty(0)

    @theta.setter
    def theta(self, theta: ArrayLike) -> None:
        rest, changed = np.exp(np.asarray(theta, dtype=np.float64)), {}
        for name in self._free():
            values = self._values(name)
            n = np.count_nonzero(values)
            values[values != 0], rest = rest[:n], rest[n:]
            changed[name] = values
        if self.network is not None:
            self.network = self._network(**changed)
        else:
            self.set_params(**{name: values if values.ndim else float(values) for name, values in changed.items()})

    def _network(self, **values: Array) -> Network:
        """The network, on request with other values."""
        each = [tuple(values.get(name, self._values(name)).ravel().tolist()) for name in NAMES]
        build = _built if isinstance(self.activation, Hashable) else _built.__wrapped__  # which refuses it
        return build(self.network, self.depth, self.activation, *each)

    def _directions(self) -> Array:
        """What every entry of theta changes: the rates of all layers' values, (n_dims, 2L)."""
        directions, depth = [], self._network().depth
        for name in self._free():
            values = self._values(name)
            for each in np.diag(values)[values != 0] if values.ndim else [values]:
                rates = np.zeros((depth, len(NAMES)))
                rates[:, NAMES.index(name)] = each
                directions.append(rates.ravel())
        return np.array(directions)

    # --- the kernel

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """The kernel matrix, and its derivatives with respect to the logarithms of the hyperparameters (`theta`).

        Parameters
        ----------
        X : array_like, shape (n, d)
            Points, one per row.
        Y : array_like, shape (m, d), optional
            Or two points X and Y of shape (d,).
        eval_gradient : bool
            Only without Y.

        Returns
        -------
        ndarray, shape (n, m); of two points, float
            With eval_gradient a tuple of it and the derivatives, (n, n, n_dims), those of bias_std first.

        Raises
        ------
        TypeError, ValueError
            Points are not as described, or Y is given with eval_gradient.

        See Also
        --------
        NTKKernel.diag : The diagonal alone.
        kernels : The same without scikit-learn.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.NTKKernel(depth=2)
        >>> kernel([[1.0, 0.0]], [[0.0, 1.0]]).shape
        (1, 1)
        """
        if Y is not None and np.ndim(X) == np.ndim(Y) == 1 and not eval_gradient:
            return pair(self._network(), X, Y, self.kernel)
        if not eval_gradient:
            return kernels(self._network(), X, Y, get=self.kernel, n_threads=self.n_threads)
        if Y is not None:
            raise ValueError("Y: expected None with eval_gradient=True, got an array")
        if not self._free():
            K = self(X)
            return K, np.empty((*K.shape, 0), K.dtype)
        problem = Problem(self._network(), X, derivatives=True, n_threads=self.n_threads)
        (slopes,) = problem.gradients(self.kernel, directions=self._directions())
        return problem.matrices(self.kernel)[0], slopes.T  # symmetric; its order is the one that scikit-learn reads

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
        diagonal : The same without scikit-learn.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.NTKKernel(depth=2)
        >>> kernel.diag([[1.0, 0.0], [0.0, 2.0]]).shape
        (2,)
        """
        result: Array = diagonal(self._network(), X, self.kernel, n_threads=self.n_threads)
        return result

    def is_stationary(self) -> bool:
        """Whether it depends on X - Y alone, which it does not.

        Returns
        -------
        bool
            False.

        See Also
        --------
        NTKKernel.diag : What depends on the point.

        Examples
        --------
        >>> import ntkfast as nf
        >>> kernel = nf.sklearn.NTKKernel(depth=2)
        >>> kernel.is_stationary()
        False
        """
        return False

    def __repr__(self) -> str:
        if self.network is not None:
            return f"NTKKernel(network={self.network!r}, kernel={self.kernel!r})"
        values = ", ".join(f"{name}={np.round(getattr(self, name), 3)}" for name in NAMES)
        return f"NTKKernel(depth={self.depth}, activation={self.activation!r}, {values}, kernel={self.kernel!r})"
