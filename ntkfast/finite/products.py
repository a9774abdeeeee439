"""Products with the Jacobian and with the tangent kernel of a network of finite width."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.finite import passes
from ntkfast.finite.jacobian import pull_back, split, vector
from ntkfast.finite.network import FiniteNetwork, check_finite_network
from ntkfast.support import arrays

__all__ = ["jvp", "ntk_vector_product", "vjp"]


def jvp(f: FiniteNetwork, X: ArrayLike, tangent: ArrayLike) -> NDArray[np.floating]:
    """J v: how the outputs at X move as the parameters move along v.

    Parameters
    ----------
    f : FiniteNetwork
        The network.
    X : array_like, shape (N, n_inputs)
        Points, one per row.
    tangent : array_like, shape (n_parameters,)
        v, in the order of `FiniteNetwork.jacobian`.

    Returns
    -------
    ndarray, shape (N, n_outputs)
        J v.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    See Also
    --------
    vjp : Jᵀ u.
    ntk_vector_product : J diag(lr) Jᵀ v.
    FiniteNetwork.jacobian : J itself.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1), n_inputs=1, rng=0)
    >>> nf.jvp(f, [[3.0]], [10.0])
    array([[30.]])
    """
    check_finite_network(f)
    X = f.points(X)
    weights, biases = split(f, vector(tangent, "tangent", (f.n_parameters,), f.dtype))
    result = np.empty((len(X), f.n_outputs), f.dtype)
    for rows, _, tape in passes.taped(f, X):
        result[rows] = passes.tangent(f, tape, weights, biases)
    return result


def vjp(f: FiniteNetwork, X: ArrayLike, cotangent: ArrayLike) -> NDArray[np.floating]:
    """Jᵀ u = Σ_ik u_ik ∂f_k(x_i)/∂θ.

    Parameters
    ----------
    f : FiniteNetwork
        The network.
    X : array_like, shape (N, n_inputs)
        Points, one per row.
    cotangent : array_like, shape (N, n_outputs); (N,) if there is one output
        u.

    Returns
    -------
    ndarray, shape (n_parameters,)
        In the order of `FiniteNetwork.jacobian`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    See Also
    --------
    jvp : J v.
    ntk_vector_product : J diag(lr) Jᵀ v.
    FiniteNetwork.jacobian : J itself.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1), n_inputs=1, rng=0)
    >>> nf.vjp(f, [[3.0], [4.0]], [1.0, 10.0])
    array([43.])
    """
    check_finite_network(f)
    X = f.points(X)
    cotangent = _per_output(f, X, cotangent, "cotangent")
    result = np.zeros(f.n_parameters, f.dtype)
    for rows, _, tape in passes.taped(f, X):
        pull_back(f, tape, cotangent[rows], *split(f, result), with_rates=False)
    return result


def ntk_vector_product(f: FiniteNetwork, X: ArrayLike, v: ArrayLike) -> NDArray[np.floating]:
    """Θ̂ v, the empirical tangent kernel of X times a vector, as J (Jᵀ v): neither Θ̂ nor J is formed.

        (Θ̂ v)_k(x_i) = Σ_jk' Θ̂_kk'(x_i, x_j) v_jk',    Θ̂ = J diag(lr) Jᵀ

    with the learning rates of the layers.

    Parameters
    ----------
    f : FiniteNetwork
        The network.
    X : array_like, shape (N, n_inputs)
        Points, one per row.
    v : array_like, shape (N, n_outputs); (N,) if there is one output
        The vector: a number for each point and output.

    Returns
    -------
    ndarray, of the shape of v
        Θ̂ v.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    See Also
    --------
    empirical_ntk : Θ̂ itself.
    KernelOperator : Products with the limit kernel.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1), n_inputs=1, rng=0)
    >>> nf.ntk_vector_product(f, [[3.0], [1.0]], [1.0, 0.0])
    array([9., 3.])
    """
    check_finite_network(f)
    X = f.points(X)
    cotangent = _per_output(f, X, v, "v")
    weights, biases = split(f, np.zeros(f.n_parameters, f.dtype))
    kept = []  # where one block is all of X, so that its pass serves twice
    for rows, outputs, tape in passes.taped(f, X):
        if len(outputs) == len(X):
            kept = [(rows, outputs, list(tape))]
        pull_back(f, tape, cotangent[rows], weights, biases)
    result = np.empty((len(X), f.n_outputs), f.dtype)
    for rows, _, tape in kept or passes.taped(f, X):
        result[rows] = passes.tangent(f, tape, weights, biases)
    return result.reshape(np.shape(v))


def _per_output(f, X, values, name):
    shape = (len(X), f.n_outputs)
    values = arrays.real(values, name)
    if f.n_outputs == 1 and values.ndim == 1:
        return vector(values, name, shape[:1], f.dtype).reshape(shape)
    return vector(values, name, shape, f.dtype)
