"""The limit kernels of Proposition 1 and Theorem 1 of Jacot, Gabriel and Hongler (2018), for any depth."""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ntkfast.engine import gradient as engine_gradient
from ntkfast.engine import limit as engine
from ntkfast.networks import Network
from ntkfast.networks.network import check_network

__all__ = ["KernelsAndGradients", "diagonal", "kernels", "nngp", "ntk"]


def ntk(net: Network, X, Y=None, *, out=None, dtype=None, n_threads=None, progress=None) -> np.ndarray:
    """The limit neural tangent kernel Θ^L(x_i, y_j).

    With Σ¹ = w² x·y/n₀ + β² and Θ¹ = Σ¹, every activation σ followed by an affine layer gives, for Gaussian (u, v) of
    covariance Σ^l on {x, y},

        Σ^{l+1} = w² E[σ(u)σ(v)] + β²,    Θ^{l+1} = Θ^l · w² E[σ'(u)σ'(v)] + Σ^{l+1}

    (Jacot, Gabriel and Hongler 2018, Theorem 1, there with w = 1).

    Parameters
    ----------
    net : Network
    X : array_like, shape (n, d)
        Points, one a row. float32 gives float32 results, everything else float64.
    Y : array_like, shape (m, d), optional
        The points on the other side. Left out (or X itself), the matrix is that of X with itself: each pair is
        computed once, the result is exactly symmetric, and its diagonal comes from the recursion at x = y.
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
    ndarray, shape (n, m)

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.
    MemoryError
        The result is larger than the memory that is available. Nothing has been allocated then.
    KeyboardInterrupt
        Ctrl-C; what was written to `out` so far stays there.

    Notes
    -----
    Off the diagonal the correlation ρ of two points is known to about ε (1e-16 in float64), and Θ has a cusp at ρ = 1
    for kinked activations: near-duplicates are accurate to about √(2ε)/π of √(Θ(x,x)Θ(y,y)).

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    >>> nf.ntk(net, [[1.0, 0.0], [0.0, 1.0]]).round(4)
    array([[0.2825, 0.0927],
           [0.0927, 0.2825]])
    """
    return kernels(net, X, Y, "ntk", out=out, dtype=dtype, n_threads=n_threads, progress=progress)


def nngp(net: Network, X, Y=None, *, out=None, dtype=None, n_threads=None, progress=None) -> np.ndarray:
    """The limit covariance Σ^L(x_i, y_j) of the network's outputs at initialisation (Proposition 1 of the paper).

    Parameters, result and errors are those of `ntk`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.nngp(nf.MLP(depth=1), [[2.0, 0.0]], [[1.0, 5.0]])
    array([[1.]])
    """
    return kernels(net, X, Y, "nngp", out=out, dtype=dtype, n_threads=n_threads, progress=progress)


@lru_cache
def _tuple_type(get):
    kind = namedtuple("Kernels", get)
    kind.__reduce__ = lambda self: (_rebuild, (self._fields, tuple(self)))
    return kind


def _rebuild(fields, values):
    return _tuple_type(fields)(*values)


def _listed(get, out):
    """out with one entry per output: for a single name, out is that entry."""
    return (out,) if out is not None and (isinstance(get, str) or not isinstance(out, list | tuple)) else out


def _named(get, results):
    return results[0] if isinstance(get, str) else _tuple_type(tuple(get))(*results)


class KernelsAndGradients(NamedTuple):
    """What `kernels` returns with gradient=True.

    values : as without it, arrays of shape (n, m)
    gradients : the same names, arrays of shape (2L, n, m): ∂/∂p in the order of `hyperparameters`
    """

    values: tuple | np.ndarray
    gradients: tuple | np.ndarray


def kernels(
    net: Network,
    X,
    Y=None,
    get=("nngp", "ntk"),
    *,
    out=None,
    gradient=False,
    dtype=None,
    n_threads=None,
    progress=None,
):
    """Several limit kernels in one pass, and their derivatives by every layer's weight_std and bias_std.

    Parameters
    ----------
    net, X, Y, dtype, n_threads, progress
        As in `ntk`.
    get : tuple of str, or str
        Out of "nngp" (Σ^L), "ntk" (Θ^L) and "nngp_dot" (Σ̇^L = w² E[σ'(u)σ'(v)] of the last activation).
    out : sequence of ndarray or None, optional
        One entry per output, in the order of `get`; a single array if `get` is a string.
    gradient : bool
        Also return ∂K/∂p for each of the 2L hyperparameters p ("nngp" and "ntk" only). These are 2L matrices an output:
        where only Σ_ij W_ij ∂K_ij/∂p is wanted, as in the gradient of a likelihood, `kernel_vjp` is far cheaper; which
        activations have derivatives, and how accurate they are, is written there.

    Returns
    -------
    named tuple of ndarray, each of shape (n, m), with the fields of `get`; one array if `get` is a string
        With gradient=True: a `KernelsAndGradients` of two such, (values, gradients), the latter of shape (2L, n, m).

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
    check_network(net)
    if gradient:
        for name in (get,) if isinstance(get, str) else get:
            if name in engine.OUTPUTS and name not in engine_gradient.OUTPUTS:
                raise ValueError(
                    f"get: with gradient=True expected {' or '.join(engine_gradient.OUTPUTS)}, got {name!r}"
                )
        values = engine.matrices(net, X, Y, get, _listed(get, out), dtype, n_threads, progress)
        names = (get,) if isinstance(get, str) else tuple(get)
        derivatives = engine_gradient.matrices(net, X, Y, names, dtype, n_threads, progress)
        return KernelsAndGradients(_named(get, values), _named(get, derivatives))
    return _named(get, engine.matrices(net, X, Y, get, _listed(get, out), dtype, n_threads, progress))


def diagonal(net: Network, X, get="ntk", *, out=None, dtype=None, n_threads=None, progress=None):
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

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.diagonal(nf.MLP(depth=3), [[1.0, 1.0], [0.0, 2.0]], get="nngp")
    array([0.25, 0.5 ])
    """
    check_network(net)
    return _named(get, engine.diagonals(net, X, get, _listed(get, out), dtype, n_threads, progress))
