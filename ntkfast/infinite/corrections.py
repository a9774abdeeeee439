"""What a finite width changes: mean and standard deviation of the kernels of random networks, to order 1/n.

docs/beyond.md derives the recursions. They close on pairs of points, so that whole Gram matrices take O(N²).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.engine import outputs, series, series_statistics, statistics
from ntkfast.engine.problem import Problem
from ntkfast.infinite.kernels import listed, named
from ntkfast.networks import Activation, Dense, Network, Scale
from ntkfast.networks.network import check_network
from ntkfast.support.errors import ActivationError, PrecisionError
from ntkfast.support.scalars import positive_integer, positive_number
from ntkfast.support.typing import Array, Progress

__all__ = ["FiniteWidth", "finite_width", "width_for"]

Statistic: TypeAlias = Literal["ntk_mean", "ntk_std", "ntk_cross_std", "nngp_mean", "nngp_std"]
Statistics: TypeAlias = tuple[Statistic, ...] | list[Statistic]
USUAL: Statistics = ("ntk_mean", "ntk_std", "nngp_mean", "nngp_std")
MOST_WIDTH = 1e15  # counted without rounding
PROBES = 16  # points whose own kernels tell whether the first order means anything


class FiniteWidth(tuple[Array, ...]):
    """A named tuple of the requested statistics, with those fields only.

    Attributes
    ----------
    ntk_mean, ntk_std : ndarray, shape (n, m)
        Of Θ̂(x, y), the mean over the outputs.
    ntk_cross_std : ndarray, shape (n, m)
        Standard deviation of Θ̂_kk'(x, y) for two outputs k ≠ k', whose mean is 0.
    nngp_mean, nngp_std : ndarray, shape (n, m)
        Of Σ̂(x, y), the covariance of the outputs given the hidden layers.

    See Also
    --------
    finite_width : Makes it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.finite_width(nf.MLP(depth=3), [[1.0, 0.0]], width=100, get=("ntk_mean", "ntk_std"))
    >>> found._fields
    ('ntk_mean', 'ntk_std')
    """

    ntk_mean: Array
    ntk_std: Array
    ntk_cross_std: Array
    nngp_mean: Array
    nngp_std: Array
    _fields: tuple[str, ...]


@overload
def finite_width(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    n_outputs: int = 1,
    get: Statistic,
    out: Array | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Array: ...


@overload
def finite_width(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    n_outputs: int = 1,
    get: Statistics = USUAL,
    out: Sequence[Array | None] | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> FiniteWidth: ...


def finite_width(
    net: Network,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    n_outputs: int = 1,
    get: Statistic | Statistics = USUAL,
    out: Any = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Any:
    """Mean and standard deviation of the kernels of random networks of finite width, to order 1/n.

    The networks are those of `FiniteNetwork.init(net, n_inputs, widths, n_outputs)`, their kernels those of
    `empirical_ntk` and `empirical_nngp`. With hidden widths n_l

        E Θ̂(x, y) = Θ(x, y) + Σ_l h_l(x, y)/n_l + O(1/n²),    Var Θ̂(x, y) = Σ_l v_l(x, y)/n_l + O(1/n²),

    and likewise for Σ̂, with coefficients from recursions over the layers (Roberts, Yaida and Hanin 2022, chapters 4 and
    8; docs/beyond.md).

    Parameters
    ----------
    net : Network
        A chain of `Dense`, continuous activations and `Scale`, with any weight_std, bias_std and learning rates.
    X : array_like, shape (n, d)
        Points, one per row.
    Y : array_like, shape (m, d), optional
        As in `ntk`. Points are converted to float64, and results are float64.
    width : int
        The number of units of each hidden layer, >= 2.
    widths : sequence of int
        Instead: one for each `Dense` except the last. A network in standard parametrisation has widths of its own, and
        both may be left out.
    n_outputs : int
        "ntk_std" is that of the mean over so many outputs, as empirical_ntk(…, outputs="mean") has it; 1: that of
        one output, as outputs="diagonal" has it.
    get : str or tuple of str
        Out of "ntk_mean", "ntk_std", "ntk_cross_std", "nngp_mean" and "nngp_std"; see `FiniteWidth`.
    out : sequence of ndarray or None, optional
        One float64 array for each entry of `get`, as in `kernels`; a single array if that is a string.
    n_threads, progress
        As in `ntk`.

    Returns
    -------
    FiniteWidth, a named tuple of ndarray, each of shape (n, m), with the fields of `get`; one array if that is a string
        Means include the correction of order 1/n; standard deviations are the roots of variances of order 1/n.

    Raises
    ------
    ValueError
        The network has layers for which this is not derived (LayerNorm, Dropout, Residual, Parallel), or a width is
        less than 2.
    ActivationError
        An activation jumps: the message names the moment that diverges.
    PrecisionError
        An activation's Hermite series does not converge at the variances and correlations that occur, or a variance is
        below 1e-3.
    TypeError, MemoryError
        As in `ntk`.

    Warns
    -----
    RuntimeWarning
        The standard deviation of some Θ̂(x, x) exceeds Θ(x, x): at this depth over width the first order says nothing.

    See Also
    --------
    width_for : The width for a given accuracy.
    ntk : The limit n → ∞.
    empirical_ntk : The kernel of one such network.
    Phase.fluctuations : How they grow with depth.
    convergence : The same by sampling networks.

    Notes
    -----
    If all activations are relu, leaky_relu, abs, abrelu or identity, all moments are closed: a pair takes about as long
    as 20 pairs of `ntk`. Near pairs keep their digits, as covariances of differences are carried along. On the diagonal
    there E Θ̂ = Θ and E Σ̂ = Σ. Others need sums of Hermite series for 21 moments, 1 to 10 µs for a pair and layer. With
    kinks (elu, hardtanh, or relu beside erf) these converge up to correlations of about 0.988 between different points,
    and take up to 50 µs; each variance that occurs takes another 0.1 s.

    This is the kernel at initialisation. Training changes it by order 1/n too: see `kernel_change`.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=4, activation="relu", weight_std=2**0.5)
    >>> X = [[1.0, 0.0], [0.6, 0.8]]
    >>> theory = nf.finite_width(net, X, width=128)
    >>> theory.ntk_std.round(3)
    array([[1.118, 0.657],
           [0.657, 1.118]])
    >>> networks = [nf.FiniteNetwork.init(net, 2, 128, rng=seed) for seed in range(400)]
    >>> measured = np.array([nf.empirical_ntk(f, X) for f in networks])
    >>> bool((abs(measured.mean(axis=0) - theory.ntk_mean) < 4 * theory.ntk_std / 20).all())
    True
    """
    names = outputs.names(get, statistics.NAMES)
    hidden = hidden_widths(net, width, widths)
    n_outputs = positive_integer(n_outputs, "n_outputs")
    problem = Problem(net, X, Y, dtype=np.float64, n_threads=n_threads)
    results = problem.results(names, listed(get, out))
    problem.load()
    inverse = [1 / n for n in hidden]
    _warn_if_too_narrow(problem, inverse)
    _run(problem, inverse, n_outputs, names, results, progress)
    return named(FiniteWidth, get, names, results)


def width_for(
    net: Network,
    X: ArrayLike,
    tolerance: float,
    *,
    kernel: Literal["ntk", "nngp"] = "ntk",
    n_threads: int | None = None,
    progress: Progress = None,
) -> int:
    """How wide is wide enough: the width at which the kernel of random networks is the limit up to a tolerance.

    It is the smallest width n, the same for all hidden layers, with

        √(E ‖Θ̂ - Θ‖²) <= tolerance ‖Θ‖

    in Frobenius norm on these points and to order 1/n, by which n = Σ_ij v_ij/(tolerance ‖Θ‖)² for Var Θ̂ = v/n.

    Parameters
    ----------
    net : Network
        As in `finite_width`.
    X : array_like, shape (N, d)
        The data; a sample of a few thousand points does.
    tolerance : float
        Relative, > 0.
    kernel : {"ntk", "nngp"}
        Which kernel.
    n_threads, progress
        As in `finite_width`.

    Returns
    -------
    int
        At least 2. Where it is not much larger than the depth, the first order in 1/n is not enough.

    Raises
    ------
    TypeError, ValueError, ActivationError, MemoryError
        As in `finite_width`; also if the kernel is 0 on all points, or the network in standard parametrisation, whose
        kernel grows with the width.

    See Also
    --------
    finite_width : The standard deviations that enter.
    convergence : The same by sampling networks.

    Examples
    --------
    >>> import ntkfast as nf
    >>> X = [[1.0, 0.0], [0.6, 0.8]]
    >>> [nf.width_for(nf.MLP(depth), X, 0.1) for depth in (2, 4, 8)]
    [332, 1087, 2622]
    """
    check_chain(net)
    name, tolerance = outputs.kernel(kernel), positive_number(tolerance, "tolerance")
    if any(dense.fan_in is not None for dense in net.dense_layers):
        raise ValueError("net: expected NTK parametrisation, as in standard parametrisation Θ depends on the width")
    problem = Problem(net, X, dtype=np.float64, n_threads=n_threads)
    problem.load()
    std = problem.results((f"{name}_std",), hint="; a sample of a few thousand points does")
    _run(problem, [1.0] * (net.depth - 1), 1, (f"{name}_std",), std, progress)
    size = np.linalg.norm(problem.matrices((name,), show=False)[0])
    if size == 0:
        raise ValueError("X: expected points whose limit kernel is not 0")
    root = float(np.linalg.norm(std[0]) / size) / tolerance  # of the width
    if root > MOST_WIDTH**0.5:
        raise ValueError(f"tolerance: expected one that widths up to {MOST_WIDTH:.0e} reach, got {tolerance}")
    return max(2, math.ceil(root**2))


def coefficient(net: Network, X: ArrayLike, statistic: Statistic, n_threads: int | None = 1) -> Array:
    """A statistic in float64 for hidden widths of 1: what a standard deviation is times √n."""
    check_chain(net)
    problem = Problem(net, X, dtype=np.float64, n_threads=n_threads)
    (result,) = problem.results((statistic,))
    _run(problem, [1.0] * (net.depth - 1), 1, (statistic,), [result], False)
    return result


def is_known(net: Network) -> bool:
    """Whether the corrections of this network are known."""
    try:
        check_chain(net)
    except (ValueError, ActivationError):
        return False
    return True


def where_known(net: Network, X: ArrayLike, Y: ArrayLike | None = None, **options: Any) -> FiniteWidth | None:
    """What `finite_width` returns for a tuple `get`; None for networks and points for which it is not known."""
    if not is_known(net):
        return None
    try:
        found: FiniteWidth = finite_width(net, X, Y, progress=False, **options)
    except PrecisionError:
        return None
    return found


def check_chain(net: Network) -> None:
    """Raise unless the corrections of this network are known."""
    for k, layer in enumerate(check_network(net).layers):
        elementwise = isinstance(layer, Activation) and layer.is_elementwise
        if not (elementwise or isinstance(layer, Dense | Scale)):
            raise ValueError(
                f"net: expected a chain of Dense, elementwise activations and Scale, whose corrections of order 1/n "
                f"are known, got {layer!r} at layers[{k}]"
            )
    for activation in _activations(net):
        if not activation.instruction.is_two_slopes and activation.kinks and series.jumps(activation):
            raise ActivationError(
                f"net: expected continuous activations, got {activation!r}, for which E[φ'(u)φ'(v)] diverges as u and "
                "v become equal"
            )


def _activations(net):
    return [layer for layer in net.layers if isinstance(layer, Activation)]


def _run(problem, *arguments):
    """Closed forms where all activations have two slopes, else series."""
    closed = all(activation.instruction.is_two_slopes for activation in _activations(problem.net))
    (statistics if closed else series_statistics).run(problem, *arguments)


def hidden_widths(net: Network, width: int | None, widths: Sequence[int] | None) -> list[int]:
    """The widths of the hidden layers, one for each Dense except the last; raises if the arguments do not suit."""
    check_chain(net)
    count = net.depth - 1
    if width is not None and widths is not None:
        raise TypeError("width: expected either width or widths, got both")
    if width is not None:
        found, places = [positive_integer(width, "width")] * count, ["width"] * count
    elif widths is not None:
        if isinstance(widths, str) or not isinstance(widths, Iterable):
            raise TypeError(f"widths: expected one number per hidden Dense, got {type(widths).__name__}")
        found = [positive_integer(n, f"widths[{k}]") for k, n in enumerate(widths)]
        places = [f"widths[{k}]" for k in range(len(found))]
    else:
        own = [dense.fan_in for dense in net.dense_layers[1:]]
        if not all(isinstance(n, int) for n in own):
            raise TypeError("width: expected a number of units of the hidden layers, or widths, got neither")
        found, places = own, [f"widths[{k}] of the network" for k in range(count)]
    if len(found) != count:
        raise ValueError(f"widths: expected {count}, one per hidden Dense, got {len(found)}")
    for n, place in zip(found, places, strict=True):
        if n < 2:
            raise ValueError(f"{place}: expected at least 2 units, as the first order in 1/n means nothing, got {n}")
    return found


def _warn_if_too_narrow(problem, inverse):
    x = problem.given[0][0][:PROBES]
    some = Problem(problem.net, x, dtype=np.float64, n_threads=1)
    std = some.results(("ntk_std",))
    _run(some, inverse, 1, ("ntk_std",), std, False)
    ratio = np.max(std[0].diagonal() / np.maximum(some.diagonals("ntk", show=False)[0], np.finfo(float).tiny))
    if ratio > 1:
        warnings.warn(
            f"the standard deviation of the tangent kernel is {ratio:.2g} times the kernel: at this ratio of depth to "
            "width the first order in 1/n says nothing",
            RuntimeWarning,
            stacklevel=3,
        )
