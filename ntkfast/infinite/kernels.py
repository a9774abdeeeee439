"""The limit kernels of Proposition 1 and Theorem 1 of Jacot, Gabriel and Hongler (2018), for any depth."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, overload

from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import outputs
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.networks.hyperparameters import with_one_layer_trained
from ntkfast.support import arrays
from ntkfast.support.typing import Array, Progress

__all__ = ["Kernels", "KernelsAndGradients", "diagonal", "kernels", "nngp", "ntk"]

Name: TypeAlias = Literal["nngp", "ntk", "nngp_dot"]
Names: TypeAlias = tuple[Name, ...] | list[Name]


class Kernels(tuple[Array, ...]):
    """A named tuple of the requested kernels or diagonals, with those fields only.

    Attributes
    ----------
    nngp, ntk, nngp_dot : ndarray, shape (n, m), or (n,) from `diagonal`
        Σ, Θ and Σ̇; those that `get` asked for, in its order.

    See Also
    --------
    kernels : Makes it.
    diagonal : Makes it of diagonals.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.kernels(nf.MLP(depth=2), [[1.0, 1.0]])
    >>> found._fields
    ('nngp', 'ntk')
    >>> nngp, ntk = found
    """

    nngp: Array
    ntk: Array
    nngp_dot: Array
    _fields: tuple[str, ...]


_T_co = TypeVar("_T_co", bound=Array | Kernels, covariant=True)


class KernelsAndGradients(NamedTuple, Generic[_T_co]):
    """What `kernels` returns with gradient=True.

    Attributes
    ----------
    values : ndarray or Kernels
        What it returns without: arrays of shape (n, m).
    gradients : ndarray or Kernels
        The same names, arrays of shape (2L, n, m): ∂/∂p in the order of `hyperparameters`.

    See Also
    --------
    kernels : Makes it.
    hyperparameters : The order of the derivatives.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.kernels(nf.MLP(depth=2), [[1.0, 1.0]], get="ntk", gradient=True)
    >>> found.values.shape, found.gradients.shape
    ((1, 1), (4, 1, 1))
    """

    values: _T_co
    gradients: _T_co


@lru_cache
def _kind(base: type, fields: tuple[str, ...]) -> Any:
    kind = type(base.__name__, (namedtuple(base.__name__, fields), base), {})
    kind.__reduce__ = lambda self: (_rebuild, (base, self._fields, tuple(self)))  # type: ignore[attr-defined]
    return kind


def _rebuild(base: type, fields: tuple[str, ...], values: Sequence[Array]) -> Any:
    return _kind(base, fields)(*values)


def named(base: type, get: object, names: tuple[str, ...], results: Sequence[Array]) -> Any:
    """What a user gets: an array if one name was given, else a tuple of this base with the names as fields."""
    return results[0] if isinstance(get, str) else _kind(base, names)(*results)


def listed(get: object, out: Any) -> Any:
    """out with one entry per output: for a single name, out is that entry."""
    return (out,) if out is not None and (isinstance(get, str) or not isinstance(out, list | tuple)) else out


def ntk(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    per_layer: bool = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array:
    """The limit neural tangent kernel Θ^L(x_i, y_j).

    With Σ¹ = w² x·y/n₀ + β² and Θ¹ = Σ¹, every activation σ followed by an affine layer gives, for Gaussian (u, v) of
    covariance Σ^l on {x, y},

        Σ^{l+1} = w² E[σ(u)σ(v)] + β²,    Θ^{l+1} = Θ^l · w² E[σ'(u)σ'(v)] + Σ^{l+1}

    (Jacot, Gabriel and Hongler 2018, Theorem 1, there with w = 1).

    Parameters
    ----------
    net : Network
        The network, of infinite width.
    X : array_like, shape (n, d)
        Points, one per row. float32 gives float32 results, everything else float64.
    Y : array_like, shape (m, d), optional
        The points on the other side. If left out (or X itself), the matrix is that of X with itself: each pair is
        computed once, the result is exactly symmetric, and its diagonal comes from the recursion at x = y.
    per_layer : bool
        Return what the parameters of each `Dense` contribute, Θ with all others frozen, in order of appearance. The sum
        over them is Θ. Each takes about as long as Θ itself.
    out : ndarray, shape (n, m), optional
        Where to write: an array of the result's dtype with any strides, a `numpy.memmap` included.
    dtype : {float32, float64}, optional
        Precision of computation and result.
    n_threads : int, optional
        Default: what OpenMP, the CPU affinity and the container allow. Results do not depend on it.
    progress : bool or callable, optional
        Default: a bar on a terminal if the call lasts more than a second. True or False: always or never. A callable
        gets (done, total) now and then.

    Returns
    -------
    ndarray, shape (n, m); with per_layer, (L, n, m)
        Θ^L(x_i, y_j), not divided by the width or the number of points.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.
    MemoryError
        The result is larger than the memory that is available. Nothing has been allocated then.
    KeyboardInterrupt
        Ctrl-C; what has been written to `out` remains there.

    See Also
    --------
    nngp : The covariance of the network at initialisation.
    kernels : Both kernels in one pass, and their derivatives.
    diagonal : Θ(x, x) of every point without a matrix.
    KernelOperator : Products with the kernel, without a matrix.
    empirical_ntk : The kernel of one network of finite width.

    Notes
    -----
    Off the diagonal each layer rounds the correlation ρ of two points by some ε (1e-16 in float64), and Θ has a cusp at
    ρ = 1 for kinked activations: an error of ε/(π √(2(1 - ρ))) relative to √(Θ(x,x)Θ(y,y)). Pairs for which that would
    count are computed from the difference of the points instead.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    >>> nf.ntk(net, [[1.0, 0.0], [0.0, 1.0]]).round(4)
    array([[0.2825, 0.0927],
           [0.0927, 0.2825]])
    """
    problem = Problem(net, X, Y, dtype=dtype, n_threads=n_threads)
    if not per_layer:
        return problem.matrices("ntk", listed("ntk", out), progress)[0]
    shape = (net.depth, *problem.shape)
    if out is not None:
        arrays.check_out(out, shape, problem.dtype, problem.given)
    (result,) = arrays.fill_up([out], shape, problem.dtype, "; out= can be a numpy.memmap")
    for layer, plane in enumerate(result):
        problem.with_network(with_one_layer_trained(net, layer)).matrices("ntk", (plane,), progress)
    return result


def nngp(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array:
    """The limit covariance Σ^L(x_i, y_j) of the network's outputs at initialisation (Proposition 1 of the paper).

        Σ¹ = w² x·y/n₀ + β²,    Σ^{l+1} = w² E[σ(u)σ(v)] + β²

    for Gaussian (u, v) of covariance Σ^l on {x, y} (Jacot, Gabriel and Hongler 2018, Proposition 1, there with w = 1).

    Parameters
    ----------
    net, X, Y, out, dtype, n_threads, progress
        As in `ntk`.

    Returns
    -------
    ndarray, shape (n, m)
        Σ^L(x_i, y_j); exactly symmetric if Y is left out.

    Raises
    ------
    TypeError, ValueError, MemoryError, KeyboardInterrupt
        As in `ntk`.

    See Also
    --------
    ntk : The tangent kernel, which governs training.
    kernels : Both in one pass.
    GaussianProcess : Bayesian inference with this kernel.
    empirical_nngp : The same for one network of finite width.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.nngp(nf.MLP(depth=1), [[2.0, 0.0]], [[1.0, 5.0]])
    array([[1.]])
    """
    return Problem(net, X, Y, dtype=dtype, n_threads=n_threads).matrices("nngp", listed("nngp", out), progress)[0]


@overload
def kernels(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    get: Name,
    gradient: Literal[False] = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array: ...


@overload
def kernels(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    get: Names = ("nngp", "ntk"),
    gradient: Literal[False] = False,
    out: Sequence[Array | None] | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Kernels: ...


@overload
def kernels(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    get: Name,
    gradient: Literal[True],
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> KernelsAndGradients[Array]: ...


@overload
def kernels(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    get: Names = ("nngp", "ntk"),
    gradient: Literal[True],
    out: Sequence[Array | None] | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> KernelsAndGradients[Kernels]: ...


def kernels(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    get: Name | Names = ("nngp", "ntk"),
    gradient: bool = False,
    out: Any = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Any:
    """Several limit kernels in one pass, and their derivatives with respect to every layer's weight_std and bias_std.

    Parameters
    ----------
    net, X, Y, dtype, n_threads, progress
        As in `ntk`.
    get : tuple of str, or str
        Out of "nngp" (Σ^L), "ntk" (Θ^L) and "nngp_dot" (Σ̇^L = w² E[σ'(u)σ'(v)] of the last activation).
    out : sequence of ndarray or None, optional
        One entry per output, in the order of `get`; a single array if `get` is a string.
    gradient : bool
        Also return ∂K/∂p for each of the 2L hyperparameters p ("nngp" and "ntk" only). These are 2L matrices per
        output: where only Σ_ij W_ij ∂K_ij/∂p is needed, as in the gradient of a likelihood, `kernel_vjp` is far
        cheaper. Its documentation says which activations have derivatives, and how accurate they are.

    Returns
    -------
    Kernels, a named tuple of ndarray, each of shape (n, m), with the fields of `get`; one array if `get` is a string
        With gradient=True: a `KernelsAndGradients` of two such, (values, gradients), the latter of shape (2L, n, m).

    Raises
    ------
    TypeError, ValueError, MemoryError, KeyboardInterrupt
        As in `ntk`.

    See Also
    --------
    ntk : Θ alone.
    nngp : Σ alone.
    kernel_vjp : Weighted sums of the derivatives, far cheaper than `gradient=True`.
    diagonal : Only the entries of points with themselves.
    hyperparameters : The order of the derivatives.

    Examples
    --------
    >>> import ntkfast as nf
    >>> both = nf.kernels(nf.MLP(depth=2), [[1.0, 1.0]], get=("nngp", "ntk"))
    >>> both.ntk - both.nngp
    array([[0.5]])
    >>> values, gradients = nf.kernels(nf.MLP(depth=2), [[1.0, 1.0]], get="nngp", gradient=True)
    >>> list(zip(nf.hyperparameters(nf.MLP(depth=2)), gradients[:, 0, 0].tolist()))
    [((0, 'weight_std'), 1.0), ((0, 'bias_std'), 0.0), ((1, 'weight_std'), 1.0), ((1, 'bias_std'), 0.0)]
    """
    problem = Problem(net, X, Y, derivatives=gradient, dtype=dtype, n_threads=n_threads)
    names = outputs.names(get)
    if gradient and "nngp_dot" in names:
        raise ValueError("get: with gradient=True expected nngp or ntk, got 'nngp_dot'")
    gradients = (
        named(Kernels, get, names, problem.gradients(names, progress)) if gradient else None
    )  # first: they are larger
    values = named(Kernels, get, names, problem.matrices(names, listed(get, out), progress))
    return KernelsAndGradients(values, gradients) if gradient else values


@overload
def diagonal(
    net: Network,
    X: ArrayLike,
    get: Name = "ntk",
    *,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array: ...


@overload
def diagonal(
    net: Network,
    X: ArrayLike,
    get: Names,
    *,
    out: Sequence[Array | None] | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Kernels: ...


def diagonal(
    net: Network,
    X: ArrayLike,
    get: Name | Names = "ntk",
    *,
    out: Any = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Any:
    """Θ^L(x_i, x_i) (or Σ^L, Σ̇^L) for every point, without a matrix.

    Parameters
    ----------
    net, X, dtype, n_threads, progress
        As in `ntk`.
    get : str or tuple of str
        As in `kernels`.
    out : ndarray, shape (n,), or sequence of such, optional
        As in `kernels`.

    Returns
    -------
    ndarray, shape (n,); a named tuple of such if `get` is a tuple
        What the diagonal of the matrix of X with itself would be, to the last bit.

    Raises
    ------
    TypeError, ValueError
        As in `ntk`.

    See Also
    --------
    kernels : The matrices.
    LeastSquaresFlow.variance : Takes the diagonal of Σ at new points.
    GaussianProcess.variance : Likewise.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.diagonal(nf.MLP(depth=3), [[1.0, 1.0], [0.0, 2.0]], get="nngp")
    array([0.25, 0.5 ])
    """
    problem = Problem(net, X, dtype=dtype, n_threads=n_threads)
    names = outputs.names(get)
    return named(Kernels, get, names, problem.diagonals(names, listed(get, out), progress))
