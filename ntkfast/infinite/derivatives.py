"""Weighted sums of the limit kernels' derivatives with respect to hyperparameters and points, without matrices."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import parameters
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.support.typing import Array, KernelName, Progress

__all__ = ["KernelVJP", "kernel_vjp"]


class KernelVJP(NamedTuple):
    """What `kernel_vjp` returns with inputs=True: the derivatives of Σ_ij weights[i, j] K(x_i, y_j).

    Attributes
    ----------
    hyperparameters : ndarray, shape (2L,), or longer with `activations`
        With respect to the hyperparameters, as without `inputs`.
    X : ndarray, shape (n, d)
        With respect to the points; of a symmetric kernel, as points of both sides.
    Y : ndarray, shape (m, d), or None
        With respect to the points on the other side; None if the kernel is symmetric.

    See Also
    --------
    kernel_vjp : Makes it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.kernel_vjp(nf.MLP(depth=2), [[1.0, 0.0]], [[0.0, 1.0]], weights=[[1.0]], inputs=True)
    >>> found.X.shape, found.Y.shape
    ((1, 2), (1, 2))
    """

    hyperparameters: Array
    X: Array
    Y: Array | None


@overload
def kernel_vjp(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = ...,
    *,
    weights: ArrayLike,
    kernel: KernelName = ...,
    inputs: Literal[False] = ...,
    activations: bool = ...,
    dtype: DTypeLike | None = ...,
    n_threads: int | None = ...,
    progress: Progress = ...,
) -> Array: ...


@overload
def kernel_vjp(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = ...,
    *,
    weights: ArrayLike,
    kernel: KernelName = ...,
    inputs: Literal[True],
    activations: bool = ...,
    dtype: DTypeLike | None = ...,
    n_threads: int | None = ...,
    progress: Progress = ...,
) -> KernelVJP: ...


def kernel_vjp(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    weights: ArrayLike,
    kernel: KernelName = "ntk",
    inputs: bool = False,
    activations: bool = False,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array | KernelVJP:
    """Σ_ij weights[i, j] ∂K(x_i, y_j)/∂p for every weight_std and bias_std p of the network.

    The vector-Jacobian product of the kernel: the gradient of any function of the matrix K whose derivative with
    respect to its entries is `weights`. Each pair goes forwards and backwards through the layers once, whatever the
    number of hyperparameters; apart from `weights`, nothing of size n×m is read or kept. With `inputs`, the gradient
    with respect to the points comes from the same pass.

    Parameters
    ----------
    net, X, Y, dtype, n_threads, progress
        As in `ntk`.
    weights : array_like, shape (n, m)
        ∂L/∂K(x_i, y_j) of the function L that is differentiated.
    kernel : {"ntk", "nngp"}
        Which kernel.
    inputs : bool
        Also with respect to the points,

            X̄_i = Σ_j weights[i, j] (∂K/∂c_ij y_j + 2 ∂K/∂q_i x_i),    c_ij = x_i·y_j,  q_i = |x_i|²,

        and likewise Ȳ. All of it takes 2 to 3 times as long as the kernel.
    activations : bool
        Also for the parameters of the activations, such as gamma of rbf. These derivatives are central differences of
        sixth order, accurate to about 1e-11, and cost six kernels for each parameter, in float64 and as matrices.

    Returns
    -------
    ndarray, shape (2L,), or longer with `activations`
        In the order of `hyperparameters`. With `inputs`, a `KernelVJP`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or an activation that jumps has only its Hermite series.
    PrecisionError
        As in `ntk`.

    See Also
    --------
    kernels : With gradient=True, the matrices of derivatives themselves.
    network_likelihood : The gradient of a marginal likelihood, from this.
    hyperparameters : The order of the derivatives.
    ntkfast.torch.ntk : The same for autograd.

    Notes
    -----
    At ρ = ±1 the derivative with respect to ρ of a kinked activation's Σ̇ is infinite, but multiplies a change of ρ that
    is 0. Pairs near it (1 - |ρ| = δ) are accurate to about ε/√δ; those with |ρ| = 1 to within rounding count as being
    there. Kernels are even in bias_std: where it is 0, so is that derivative.

    Near x = y, Θ(x, y) of an activation with kinks behaves like a smooth function minus |x - y|, and so does Σ(x, y) of
    one that jumps, with √|x - y|. Where x and y coincide this term has no part in the derivatives, which are the mean
    of the two one-sided ones along any direction. On the diagonal of a symmetric kernel, where both points move
    together, there is no such term. Near it, derivatives with respect to the points are accurate to about ε/δ: pass
    dtype=float64 if points in float32 are close.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> nf.kernel_vjp(nf.MLP(depth=2, bias_std=0.1), X, weights=np.eye(2), kernel="nngp").round(3)
    array([1.  , 0.2 , 1.02, 0.4 ])
    >>> nf.kernel_vjp(nf.MLP(depth=2, bias_std=0.1), X, weights=np.eye(2), inputs=True).X.round(3)
    array([[1., 0.],
           [0., 1.]])
    """
    problem = Problem(net, X, Y, derivatives=True, dtype=dtype, n_threads=n_threads)
    found, of_points = problem.vjp(weights, kernel, inputs=inputs, show=progress)
    if activations:
        found = np.concatenate([found, parameters.gradient(problem, weights, kernel)]).astype(found.dtype)
    return KernelVJP(found, *of_points, *[None] * problem.symmetric) if inputs else found
