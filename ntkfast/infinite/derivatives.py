"""Weighted sums of the limit kernels' derivatives with respect to the hyperparameters, without their matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import parameters
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.support.typing import Array, KernelName, Progress

__all__ = ["kernel_vjp"]


def kernel_vjp(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    weights: ArrayLike,
    kernel: KernelName = "ntk",
    activations: bool = False,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array:
    """Σ_ij weights[i, j] ∂K(x_i, y_j)/∂p for every weight_std and bias_std p of the network.

    The vector-Jacobian product of the kernel: the gradient of any function of the matrix K whose derivative with
    respect to its entries is `weights`. Each pair goes forwards and backwards through the layers once, whatever the
    number of hyperparameters; apart from `weights`, nothing of size n×m is read or kept.

    Parameters
    ----------
    net, X, Y, dtype, n_threads, progress
        As in `ntk`.
    weights : array_like, shape (n, m)
    kernel : {"ntk", "nngp"}
        Which kernel.
    activations : bool
        Also for the parameters of the activations, such as gamma of rbf. These derivatives are central differences of
        sixth order, accurate to about 1e-11, and cost six kernels for each parameter, in float64 and as matrices.

    Returns
    -------
    ndarray, shape (2L,), or longer with `activations`
        In the order of `hyperparameters`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or an activation that jumps has only its Hermite series.
    PrecisionError
        As in `ntk`.

    Notes
    -----
    At ρ = ±1 the derivative with respect to ρ of a kinked activation's Σ̇ is infinite, but multiplies a change of ρ that
    is 0. Pairs near it (1 - |ρ| = δ) are accurate to about ε/√δ; those with |ρ| = 1 to within rounding count as being
    there. Kernels are even in bias_std: where it is 0, so is that derivative.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> nf.kernel_vjp(nf.MLP(depth=2, bias_std=0.1), X, weights=np.eye(2), kernel="nngp").round(3)
    array([1.  , 0.2 , 1.02, 0.4 ])
    """
    problem = Problem(net, X, Y, derivatives=True, dtype=dtype, n_threads=n_threads)
    found = problem.gradient(weights, kernel, progress)
    if not activations:
        return found
    return np.concatenate([found, parameters.gradient(problem, weights, kernel)]).astype(found.dtype)
