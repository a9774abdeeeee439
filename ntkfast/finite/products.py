"""Products with the Jacobian and with the tangent kernel of a network of finite width, and the network linearised."""

from __future__ import annotations

import math

import numpy as np

from ntkfast.engine import arrays, memory
from ntkfast.finite import blas, losses, passes
from ntkfast.finite.checks import finite_array
from ntkfast.finite.divergence import Watch
from ntkfast.finite.network import FiniteNetwork
from ntkfast.networks.checks import non_negative_integer, non_negative_number, positive_number

__all__ = ["LinearizedNetwork", "jacobian", "jvp", "linearize", "ntk_vector_product", "vjp"]


def jacobian(f: FiniteNetwork, X) -> np.ndarray:
    """∂f_k(x_i)/∂θ_p, shape (N, n_outputs, n_parameters): see `FiniteNetwork.jacobian`, which is this function."""
    passes.require_derivatives(f)
    X = f.points(X)
    shape = (len(X), f.n_outputs, f.n_parameters)
    memory.require(2 * math.prod(shape) * f.dtype.itemsize, f"the Jacobian, {' x '.join(map(str, shape))},")
    result = np.empty(shape, f.dtype)
    weights, biases = _split(f, result)
    tape = []
    passes.forward(f, X, tape)
    for layer, inputs, g in passes.backward(f, tape, passes.identity(f), [True] * len(f.weights)):
        g = np.swapaxes(g, 0, 1)
        weights[layer][:] = g[..., None] * (f.weight_scales[layer] * inputs)[:, None, None, :]
        if biases[layer] is not None:
            biases[layer][:] = f.bias_scales[layer] * g
    return result


def jvp(f: FiniteNetwork, X, tangent) -> np.ndarray:
    """J v: how the outputs at X move as the parameters move along v.

    Parameters
    ----------
    f : FiniteNetwork
    X : array_like, shape (N, n_inputs)
    tangent : array_like, shape (n_parameters,)
        v, in the order of `FiniteNetwork.jacobian`.

    Returns
    -------
    ndarray, shape (N, n_outputs)

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or an activation has no derivative.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.finite.network import FiniteNetwork
    >>> from ntkfast.finite.products import jvp
    >>> f = FiniteNetwork.init(nf.MLP(depth=1), n_inputs=1, rng=0)
    >>> jvp(f, [[3.0]], [10.0])
    array([[30.]])
    """
    passes.require_derivatives(f)
    X = f.points(X)
    weights, biases = _split(f, _vector(tangent, "tangent", (f.n_parameters,), f.dtype))
    result = np.empty((len(X), f.n_outputs), f.dtype)
    for rows in passes.blocks(f, len(X)):
        tape = []
        passes.forward(f, X[rows], tape)
        result[rows] = passes.tangent(f, tape, weights, biases)
    return result


def vjp(f: FiniteNetwork, X, cotangent) -> np.ndarray:
    """Jᵀ u = Σ_ik u_ik ∂f_k(x_i)/∂θ.

    Parameters
    ----------
    f : FiniteNetwork
    X : array_like, shape (N, n_inputs)
    cotangent : array_like, shape (N, n_outputs); (N,) if there is one output
        u.

    Returns
    -------
    ndarray, shape (n_parameters,)
        In the order of `FiniteNetwork.jacobian`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or an activation has no derivative.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.finite.network import FiniteNetwork
    >>> from ntkfast.finite.products import vjp
    >>> f = FiniteNetwork.init(nf.MLP(depth=1), n_inputs=1, rng=0)
    >>> vjp(f, [[3.0], [4.0]], [1.0, 10.0])
    array([43.])
    """
    passes.require_derivatives(f)
    X = f.points(X)
    cotangent = _per_output(f, X, cotangent, "cotangent")
    result = np.zeros(f.n_parameters, f.dtype)
    for rows in passes.blocks(f, len(X)):
        tape = []
        passes.forward(f, X[rows], tape)
        _pull_back(f, tape, cotangent[rows], *_split(f, result), with_rates=False)
    return result


def ntk_vector_product(f: FiniteNetwork, X, v) -> np.ndarray:
    """Θ̂ v, the empirical tangent kernel of X times a vector, by Jᵀ and then J: neither Θ̂ nor J is formed.

        (Θ̂ v)_k(x_i) = Σ_jk' Θ̂_kk'(x_i, x_j) v_jk',    Θ̂ = J diag(lr) Jᵀ

    with the learning rates of the layers.

    Parameters
    ----------
    f : FiniteNetwork
    X : array_like, shape (N, n_inputs)
    v : array_like, shape (N, n_outputs); (N,) if there is one output

    Returns
    -------
    ndarray, of the shape of v

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or an activation has no derivative.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.finite.network import FiniteNetwork
    >>> from ntkfast.finite.products import ntk_vector_product
    >>> f = FiniteNetwork.init(nf.MLP(depth=1), n_inputs=1, rng=0)
    >>> ntk_vector_product(f, [[3.0], [1.0]], [1.0, 0.0])
    array([9., 3.])
    """
    passes.require_derivatives(f)
    X = f.points(X)
    cotangent = _per_output(f, X, v, "v")
    rows_of_blocks = passes.blocks(f, len(X))
    weights, biases = _split(f, np.zeros(f.n_parameters, f.dtype))
    for rows in rows_of_blocks:
        tape = []
        passes.forward(f, X[rows], tape)
        _pull_back(f, list(tape), cotangent[rows], weights, biases)
    result = np.empty((len(X), f.n_outputs), f.dtype)
    for rows in rows_of_blocks:
        if len(rows_of_blocks) > 1:  # else the tape is still there
            tape = []
            passes.forward(f, X[rows], tape)
        result[rows] = passes.tangent(f, tape, weights, biases)
    return result.reshape(np.shape(v))


class LinearizedNetwork:
    """A network linearised in its parameters around θ0: f_lin(x) = f(x; θ0) + J(x) (θ - θ0).

    Its gradient descent is kernel gradient descent with the fixed kernel Θ̂ of θ0. Made by `linearize`.

    Attributes
    ----------
    network : FiniteNetwork
        With the parameters θ0.
    displacement : ndarray, shape (n_parameters,)
        θ - θ0, in the order of `FiniteNetwork.jacobian`.
    """

    def __init__(self, network: FiniteNetwork, displacement=None):
        passes.require_derivatives(network)
        self.network = network
        if displacement is None:
            self.displacement = np.zeros(network.n_parameters, network.dtype)
        else:
            self.displacement = _vector(displacement, "displacement", (network.n_parameters,), network.dtype).copy()

    def __call__(self, X) -> np.ndarray:
        """The outputs at X (N, n_inputs), shape (N, n_outputs)."""
        f, X = self.network, self.network.points(X)
        weights, biases = _split(f, self.displacement)
        result = np.empty((len(X), f.n_outputs), f.dtype)
        for rows in passes.blocks(f, len(X)):
            tape = []
            result[rows] = passes.forward(f, X[rows], tape)
            result[rows] += passes.tangent(f, tape, weights, biases)
        return result

    def train(self, X, y, steps: int = 1000, learning_rate: float = 1.0, loss="mse") -> LinearizedNetwork:
        """Full-batch gradient descent on the parameters, as `train` does it for networks.

        On least squares, with Π = Θ̂/N on the data, the outputs after m steps are y + (1 - ηΠ)^m (f - y).

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
        y : array_like
            Targets, as the loss has them.
        steps : int
        learning_rate : float
            η: the outputs move by -η (1/N) Θ̂ d a step.
        loss : {"mse", "logistic", "softmax", "huber"} or callable
            As in `ntkfast.finite.losses.get`.

        Returns
        -------
        LinearizedNetwork
            A new one.

        Raises
        ------
        DivergenceError
            As in `train`.
        TypeError, ValueError
            An argument is not as described.

        Examples
        --------
        >>> import ntkfast as nf
        >>> from ntkfast.finite.network import FiniteNetwork
        >>> from ntkfast.finite.products import linearize
        >>> f = FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
        >>> linearize(f).train([[1.0], [-1.0]], [2.0, 3.0], steps=200)([[1.0], [-1.0]]).round(3)
        array([[2.],
               [3.]])
        """
        f, X = self.network, self.network.points(X)
        steps, rate = non_negative_integer(steps, "steps"), positive_number(learning_rate, "learning_rate")
        cost = losses.get(loss, y, (len(X), f.n_outputs), f.dtype)
        displacement = self.displacement.copy()
        weights, biases = _split(f, displacement)
        tape = []
        start = passes.forward(f, X, tape)
        watch = Watch(f, X, rate, cost if isinstance(loss, str) else None)
        with np.errstate(over="ignore", invalid="ignore"):
            for step in range(steps + 1):
                outputs = start + passes.tangent(f, tape, weights, biases)
                with watch.step(step):
                    value, d = cost(outputs)
                    watch.check(step, value, outputs)
                if step == steps:
                    break
                _pull_back(f, list(tape), (-rate / len(X)) * d, weights, biases)
        return LinearizedNetwork(f, displacement)

    def flow(self, X, y, t: float) -> LinearizedNetwork:
        """Gradient flow on least squares for time t, by the eigenvectors of Θ̂.

        With Π = Θ̂/N on the data, its outputs are y + exp(-tΠ) (f - y) there, and elsewhere those of the displacement
        -diag(lr) Jᵀ (1/N) Π⁻¹ (1 - exp(-tΠ)) (f - y) (Jacot, Gabriel and Hongler 2018, section 5).

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
        y : array_like, shape (N, n_outputs); (N,) if there is one output
        t : float
            >= 0; inf for the end of training.

        Returns
        -------
        LinearizedNetwork
            A new one.
        """
        from ntkfast.kernels.empirical import empirical_ntk

        f, X = self.network, self.network.points(X)
        t = math.inf if t == math.inf else non_negative_number(t, "t")
        n, shape = len(X), (len(X), f.n_outputs)
        _, d = losses.get("mse", y, shape, f.dtype)(self(X))
        kernel = np.swapaxes(empirical_ntk(f, X, outputs="full"), 1, 2).reshape(2 * [n * f.n_outputs])
        rates, modes = np.linalg.eigh(kernel / n)
        moves = rates > len(rates) * np.finfo(f.dtype).eps * rates[-1]  # the rest is the null space, as rounding has it
        with np.errstate(invalid="ignore", divide="ignore"):
            passed = np.where(moves, -np.expm1(-t * rates) / rates, 0.0 if t == math.inf else t)
        pull = (modes @ (passed * (modes.T @ d.reshape(-1)))).reshape(shape) / n
        step = np.zeros(f.n_parameters, f.dtype)
        weights, biases = _split(f, step)
        tape = []
        passes.forward(f, X, tape)
        _pull_back(f, tape, pull.astype(f.dtype), weights, biases)
        return LinearizedNetwork(f, self.displacement - step)


def linearize(f: FiniteNetwork, displacement=None) -> LinearizedNetwork:
    """The network linearised in its parameters.

    Parameters
    ----------
    f : FiniteNetwork
    displacement : array_like, shape (n_parameters,), optional
        θ - θ0, which is copied. Default: 0.

    Returns
    -------
    LinearizedNetwork

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or an activation has no derivative.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.finite.network import FiniteNetwork
    >>> from ntkfast.finite.products import linearize
    >>> f = FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
    >>> bool((linearize(f)([[2.0]]) == f([[2.0]])).all())
    True
    """
    return LinearizedNetwork(f, displacement)


def _split(f, flat):
    """Views of (..., n_parameters) as lists of weights (..., n_out, n_in) and biases (..., n_out) or None."""
    weights, biases, start = [], [], 0
    for weight, bias in zip(f.weights, f.biases, strict=True):
        for parts, array in ((weights, weight), (biases, bias)):
            if array is None:
                parts.append(None)
                continue
            parts.append(flat[..., start : start + array.size].reshape(*flat.shape[:-1], *array.shape))
            start += array.size
    return weights, biases


def _pull_back(f, tape, cotangent, weights, biases, with_rates=True):
    """Add diag(lr) Jᵀ u, or Jᵀ u, to the lists of arrays."""
    wanted = passes.trained(f) if with_rates else [True] * len(f.weights)
    for layer, inputs, g in passes.backward(f, tape, cotangent[None], wanted):
        weight_lr, bias_lr = (f.weight_lrs[layer], f.bias_lrs[layer]) if with_rates else (1.0, 1.0)
        blas.product(g[0].T, inputs, weight_lr * f.weight_scales[layer], 1.0, weights[layer])
        if biases[layer] is not None:
            biases[layer] += bias_lr * f.bias_scales[layer] * g[0].sum(axis=0)


def _per_output(f, X, values, name):
    shape = (len(X), f.n_outputs)
    values = arrays.real(values, name)
    if f.n_outputs == 1 and values.ndim == 1:
        return _vector(values, name, shape[:1], f.dtype).reshape(shape)
    return _vector(values, name, shape, f.dtype)


def _vector(values, name, shape, dtype):
    values = arrays.real(values, name)
    if values.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
    return finite_array(values, name, dtype)
