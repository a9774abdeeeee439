"""A network of finite width: a Network value with the arrays of its parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast.finite import jacobian, passes
from ntkfast.finite.steps import steps_of
from ntkfast.finite.widths import shapes_of
from ntkfast.networks import Network
from ntkfast.networks.network import check_network
from ntkfast.support import memory
from ntkfast.support.arrays import DTYPES, as_points, contiguous, require, require_finite, working_dtype
from ntkfast.support.saved import Saved, checked
from ntkfast.support.scalars import generator, positive_integer
from ntkfast.support.typing import Seed

__all__ = ["FiniteNetwork"]

PARAMETRIZATIONS = ("ntk", "standard")
Parametrization: TypeAlias = Literal["ntk", "standard"]


class FiniteNetwork(Saved):
    """A network of finite width.

    A `Dense` of n inputs is, in NTK parametrisation (Jacot, Gabriel and Hongler 2018, section 2) and in the standard
    one,

        z = (w/√n) W x + β b,   entries of W and b from N(0, 1);
        z = W x + b,            entries of W from N(0, w²/n), of b from N(0, β²).

    The function at initialisation is the same; gradient descent is not. With β = 0 there is no b. `LayerNorm`
    subtracts the mean over the features and divides by the standard deviation; `Dropout` acts in training only.

    Parameters
    ----------
    net : Network
        Its own parametrisation is that of its limit. If that is the standard one for certain widths, a network in NTK
        parametrisation has learning rates with which it is trained as in standard parametrisation at those widths.
    weights : list of ndarray, shapes (n_out, n_in)
        One for each `Dense` in order of appearance, those in branches included. C-contiguous float32 or float64,
        all finite; used directly, not copied.
    biases : list of ndarray, shapes (n_out,), or None
        None where bias_std is 0.
    parametrization : {"ntk", "standard"}
        Which of the two forms above.

    Attributes
    ----------
    net, weights, biases, parametrization
        As given.
    n_inputs, n_outputs, n_parameters : int
        Sizes.
    dtype : numpy.dtype
        Of the parameters and of all results.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.

    See Also
    --------
    FiniteNetwork.init : A network with random parameters.
    empirical_ntk : Its tangent kernel.
    train : Gradient descent.
    linearize : The network linearised in its parameters.
    ntk : The limit of infinite width.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork(nf.MLP(depth=1), weights=[np.array([[1.0, 3.0]])], biases=[None])
    >>> f([[2.0, 0.0]]).round(6)
    array([[1.414214]])
    """

    def __init__(
        self,
        net: Network,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike | None],
        *,
        parametrization: Parametrization = "ntk",
    ) -> None:
        self.steps, denses = _compiled(net)
        _check_parametrization(parametrization)
        self.net, self.parametrization = net, parametrization
        self.weights, self.biases = _listed(weights, "weights"), _listed(biases, "biases")
        _check_parameters(self.weights, self.biases, denses)
        self.dtype = self.weights[0].dtype
        self.n_inputs, self.n_outputs = self.weights[0].shape[1], len(self.weights[-1])
        widths = [len(weight) for weight in self.weights[:-1]]
        _check_shapes(self.weights, shapes_of(self.steps, self.n_inputs, widths, self.n_outputs))
        ntk = parametrization == "ntk"
        self.weight_scales = [
            d.weight_std / math.sqrt(weight.shape[1]) if ntk else 1.0
            for d, weight in zip(denses, self.weights, strict=True)
        ]
        self.bias_scales = [(d.bias_std if ntk else 1.0) if d.bias_std else 0.0 for d in denses]
        rates = [d.learning_rates(self.n_inputs) if ntk else (d.weight_lr, d.bias_lr) for d in denses]
        self.weight_lrs = [weight_lr for weight_lr, _ in rates]
        self.bias_lrs = [bias_lr if d.bias_std else 0.0 for d, (_, bias_lr) in zip(denses, rates, strict=True)]

    @classmethod
    def init(
        cls,
        net: Network,
        n_inputs: int,
        widths: int | Sequence[int] | None = None,
        n_outputs: int = 1,
        *,
        parametrization: Parametrization = "ntk",
        rng: Seed = None,
        dtype: DTypeLike | None = None,
    ) -> FiniteNetwork:
        """A network with random parameters.

        Parameters
        ----------
        net : Network
            The layers.
        n_inputs : int
            Number of features of X.
        widths : int or sequence of int
            Number of units of the hidden layers: one number for all, or one for each `Dense` except the last, in order
            of appearance, those in branches included. Branches that are added or multiplied have the same width, which
            is n_outputs if they form the outputs. Of a concatenation each branch has its share; with one number for all
            layers, that is the width of the whole concatenation. May be left out if no width is free.
        n_outputs : int
            Of the last `Dense`.
        parametrization : {"ntk", "standard"}
            How the network is trained; the functions at initialisation are the same.
        rng : None, int or numpy.random.Generator
            A number makes it reproducible.
        dtype : {float32, float64}
            Default: float64.

        Returns
        -------
        FiniteNetwork
            With parameters iid N(0, 1) in NTK parametrisation.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described, or the widths do not suit the branches.
        MemoryError
            The parameters do not fit.

        See Also
        --------
        FiniteNetwork : A network with given parameters.
        width_for : How wide is wide enough.

        Examples
        --------
        >>> import ntkfast as nf
        >>> net = nf.MLP(depth=3, activation="relu", bias_std=0.1)
        >>> f = nf.FiniteNetwork.init(net, n_inputs=2, widths=[64, 32], rng=0)
        >>> [weight.shape for weight in f.weights]
        [(64, 2), (32, 64), (1, 32)]
        >>> f([[1.0, 0.0], [0.0, 1.0]]).shape
        (2, 1)
        """
        steps, denses = _compiled(net)
        _check_parametrization(parametrization)
        n_inputs, n_outputs = positive_integer(n_inputs, "n_inputs"), positive_integer(n_outputs, "n_outputs")
        shapes = shapes_of(steps, n_inputs, widths, n_outputs)
        dtype = DTYPES[1] if dtype is None else working_dtype(dtype)
        rng = generator(rng)
        n_parameters = sum(n_out * (n_in + 1) for n_out, n_in in shapes)
        what = f"widths: a network of {n_parameters} parameters"
        memory.require(n_parameters * dtype.itemsize, what, "; a narrower one needs less")
        weights, biases = [], []
        for dense, (n_out, n_in) in zip(denses, shapes, strict=True):
            weights.append(rng.standard_normal((n_out, n_in), dtype=dtype))
            biases.append(rng.standard_normal(n_out, dtype=dtype) if dense.bias_std else None)
            if parametrization == "standard":
                weights[-1] *= dense.weight_std / math.sqrt(n_in)
                if dense.bias_std:
                    biases[-1] *= dense.bias_std
        return cls(net, weights, biases, parametrization=parametrization)

    @property
    def n_parameters(self) -> int:
        """Number of all weights and biases.

        See Also
        --------
        FiniteNetwork.jacobian : The order in which they are counted.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.FiniteNetwork.init(nf.MLP(depth=2, bias_std=0.1), n_inputs=3, widths=10, rng=0).n_parameters
        51
        """
        return sum(array.size for array in (*self.weights, *self.biases) if array is not None)

    def __call__(self, X: ArrayLike) -> NDArray[np.floating]:
        """The outputs at the points X.

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
            Points, one per row.

        Returns
        -------
        ndarray, shape (N, n_outputs), of the network's dtype
            f(X), without dropout.

        Raises
        ------
        TypeError, ValueError
            X does not suit the network.

        See Also
        --------
        LinearizedNetwork.__call__ : The outputs of the linearised network.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=3, widths=10, n_outputs=4, rng=0)([[1.0, 2.0, 3.0]]).shape
        (1, 4)
        """
        X = self.points(X)
        outputs = np.empty((len(X), self.n_outputs), self.dtype)
        for rows in passes.blocks(self, len(X)):
            outputs[rows] = passes.forward(self, X[rows])
        return outputs

    def jacobian(self, X: ArrayLike) -> NDArray[np.floating]:
        """∂f_k(x_i)/∂θ_p, for small networks: tangent kernels and products with the Jacobian do not need it.

        The parameters are in the order weights (by rows), biases of each `Dense` in turn. It is the plain derivative:
        the tangent kernel is Θ̂_kk'(x_i, x_j) = Σ_p lr_p J[i, k, p] J[j, k', p], where lr_p is the weight_lr or bias_lr
        of the parameter's layer, 1 by default; for layers with `fan_in` see `Dense.learning_rates`.

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
            Points, one per row.

        Returns
        -------
        ndarray, shape (N, n_outputs, n_parameters)
            Of the network's dtype.

        Raises
        ------
        MemoryError
            It does not fit.
        ValueError, TypeError
            X does not suit the network.

        See Also
        --------
        jvp : J v without J.
        vjp : Jᵀ u without J.
        empirical_ntk : The tangent kernel without J.

        Examples
        --------
        >>> import ntkfast as nf
        >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1, bias_std=0.1), n_inputs=1, rng=0)
        >>> f.jacobian([[3.0]])
        array([[[3. , 0.1]]])
        """
        return jacobian.jacobian(self, self.points(X))

    def copy(self) -> FiniteNetwork:
        """A network with the same parameters in arrays of its own.

        Returns
        -------
        FiniteNetwork
            Equal to this one, and independent of it.

        See Also
        --------
        train : Leaves the network that it starts from unchanged.

        Examples
        --------
        >>> import ntkfast as nf
        >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1), n_inputs=2, rng=0)
        >>> g = f.copy()
        >>> g.weights[0][:] = 0
        >>> bool((f([[1.0, 0.0]]) == g([[1.0, 0.0]])).all())
        False
        """
        biases = [None if bias is None else bias.copy() for bias in self.biases]
        weights = [weight.copy() for weight in self.weights]
        return FiniteNetwork(self.net, weights, biases, parametrization=self.parametrization)

    def described(self) -> dict[str, Any]:
        return {
            "net": self.net,
            "weights": self.weights,
            "biases": self.biases,
            "parametrization": self.parametrization,
        }

    @classmethod
    def rebuilt(cls, net: Any, **described: Any) -> FiniteNetwork:
        return cls(checked(net, Network, "net"), **described)

    def points(self, X: ArrayLike, name: str = "X") -> NDArray[np.floating]:
        """X as a C-contiguous array of the network's dtype; raises if it does not suit the network.

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
            Points, one per row.
        name : str
            What messages call them.

        Returns
        -------
        ndarray, shape (N, n_inputs), C-contiguous, of the network's dtype
            X itself if it is such an array.

        Raises
        ------
        TypeError, ValueError
            X does not suit the network.

        See Also
        --------
        FiniteNetwork.__call__ : Does this with its points.

        Examples
        --------
        >>> import ntkfast as nf
        >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1), n_inputs=2, rng=0, dtype="float32")
        >>> f.points([[1, 2]]).dtype
        dtype('float32')
        """
        array = as_points(X, name)
        if array.shape[1] != self.n_inputs:
            raise ValueError(f"{name}: expected {self.n_inputs} features as in the network, got shape {array.shape}")
        with np.errstate(over="ignore"):  # float64 beyond float32's range: reported as not finite
            array = contiguous(array, self.dtype)
            require_finite(array, np.einsum("ij,ij->i", array, array), name)
        return array

    def __repr__(self) -> str:
        widths = [self.n_inputs, *map(len, self.weights)]
        return (
            f"FiniteNetwork({self.net!r}, widths {'-'.join(map(str, widths))}, {self.dtype}, "
            f"parametrization={self.parametrization!r})"
        )


def _check_parametrization(parametrization):
    if not (isinstance(parametrization, str) and parametrization in PARAMETRIZATIONS):
        raise ValueError(f"parametrization: expected 'ntk' or 'standard', got {parametrization!r}")


def _listed(arrays, name):
    if not isinstance(arrays, list | tuple):
        raise TypeError(f"{name}: expected a list of arrays, got {type(arrays).__name__}")
    return list(arrays)


def _check_parameters(weights, biases, denses):
    """Raise unless these are finite arrays of one dtype with biases where the layers have them."""
    for name, arrays in (("weights", weights), ("biases", biases)):
        if len(arrays) != len(denses):
            raise ValueError(f"{name}: expected {len(denses)}, one per Dense, got {len(arrays)}")
    for k, (weight, bias, dense) in enumerate(zip(weights, biases, denses, strict=True)):
        if (bias is None) != (dense.bias_std == 0):
            what = "None" if bias is None else "an array"
            raise ValueError(f"biases[{k}]: expected None exactly where bias_std is 0, got {what} for {dense!r}")
        for name, array, n_axes in (("weights", weight, 2), ("biases", bias, 1)):
            if name == "biases" and bias is None:
                continue
            if np.ma.isMaskedArray(array):
                raise TypeError(f"{name}[{k}]: expected an array without mask, got a masked array")
            if not isinstance(array, np.ndarray) or array.ndim != n_axes or not array.flags.c_contiguous:
                got = f"shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"{name}[{k}]: expected a C-contiguous {n_axes}-D array, got {got}")
            if array.dtype not in DTYPES or array.dtype != weights[0].dtype:
                raise TypeError(f"{name}[{k}]: expected float32 or float64, one for all, got {array.dtype}")
            if not array.size:
                raise ValueError(f"{name}[{k}]: expected at least one unit and one input, got shape {array.shape}")
            if not (np.isfinite(array.min()) and np.isfinite(array.max())):  # nothing of the size of the weights
                require(np.isfinite(array), array, f"{name}[{k}]", "finite numbers")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"biases[{k}]: expected shape {weight.shape[:1]}, got {bias.shape}")


def _check_shapes(weights, shapes):
    for k, (weight, shape) in enumerate(zip(weights, shapes, strict=True)):
        if weight.shape != shape:
            raise ValueError(f"weights[{k}]: expected shape {shape}, got {weight.shape}")


def check_finite_network(f: FiniteNetwork) -> None:
    """Raise unless f is a FiniteNetwork."""
    if not isinstance(f, FiniteNetwork):
        of_torch = any(base.__module__.startswith("torch.nn.") for base in type(f).__mro__)
        hint = "; the kernel of a PyTorch module: nf.torch.empirical_ntk" if of_torch else ""
        raise TypeError(f"f: expected a FiniteNetwork, got {type(f).__name__}{hint}")


def _compiled(net):
    """The steps of a network, and its Dense layers."""
    return steps_of(check_network(net).layers, itertools.count()), net.dense_layers
