"""The kernels of networks of finite width: the empirical NTK and NNGP, from Gram matrices of layer factors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.engine import tangent, threads
from ntkfast.finite import passes
from ntkfast.finite.factors import LayerFactors, covariance_factors, layer_factors
from ntkfast.finite.network import FiniteNetwork, check_finite_network
from ntkfast.support import arrays, memory
from ntkfast.support.memory import amount
from ntkfast.support.progress import check as check_progress
from ntkfast.support.progress import reporter
from ntkfast.support.typing import Memory, Progress

__all__ = ["empirical_nngp", "empirical_ntk", "gram_from_jacobian", "kernel_of_factors", "require_finite"]

OUTPUTS = ("mean", "diagonal", "full")
LAYOUTS = ("pairs", "matrix")
Outputs: TypeAlias = Literal["mean", "diagonal", "full"]
Layout: TypeAlias = Literal["pairs", "matrix"]
BUDGET = 2**31  # bytes of layer factors, or of a Jacobian, that are held at once, unless memory= says otherwise


def _check_apart(out, f):
    parameters = [array for array in (*f.weights, *f.biases) if array is not None]
    if isinstance(out, np.ndarray) and any(np.may_share_memory(out, array) for array in parameters):
        raise ValueError("out: expected memory apart from the parameters of f, got an overlap")


def check_outputs(outputs: str) -> None:
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs: expected 'mean', 'diagonal' or 'full', got {outputs!r}")


def _result(shape, k, outputs, dtype, out, inputs):
    """The array of the result, (n, m), (n, m, k) or (n, m, k, k)."""
    shape = (*shape, *{"mean": (), "diagonal": (k,), "full": (k, k)}[outputs])
    if out is not None:
        arrays.check_out(out, shape, dtype, inputs)
        return out
    smaller = {
        "mean": "",
        "diagonal": "; outputs='mean' is smaller",
        "full": "; outputs='mean' or 'diagonal' is smaller",
    }
    without = "; ntk_vector_product multiplies by the kernel without the matrix, and out= can be a numpy.memmap"
    what = f"X: the result of {' x '.join(map(str, shape))} {dtype} with outputs={outputs!r}"
    memory.require(math.prod(shape) * dtype.itemsize, what, smaller[outputs] + without)
    return np.empty(shape, dtype)


def _check_layout(layout: str, outputs: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected 'pairs' or 'matrix', got {layout!r}")
    if layout == "matrix" and outputs != "full":
        raise ValueError(f"layout: 'matrix' is for outputs='full', got outputs={outputs!r}")


def _pairs(matrix, k):
    """A view (…, n, m, k, k) of matrices (…, n k, m k) whose row i k + a is output a of point i."""
    *before, rows, columns = matrix.shape
    return np.swapaxes(matrix.reshape(*before, rows // k, k, columns // k, k), -3, -2)


def _planes(k, outputs, symmetric):
    """(index of the output's plane, output on the left, output on the right, whether the plane is symmetric)."""
    if outputs == "diagonal":
        return [((a,), a, a, symmetric) for a in range(k)]
    return [((a, b), a, b, symmetric and a == b) for a in range(k) for b in range(k) if not symmetric or a <= b]


def _terms(left, right, k, a=None, b=None):
    """The terms of the tile driver; a, b: the outputs on both sides, None for the mean over them."""
    terms = []
    for x, y in zip(left, right, strict=True):
        if x.sensitivities is None:  # the outputs themselves: B_k·B_k' is 1 for k = k', else 0
            if a == b:
                terms.append((x.inputs, y.inputs, None, None, x.weight, x.bias))
            continue
        one, other = x.sensitivities, y.sensitivities
        share = 1 / k if a is None else 1
        if a is not None:
            one, other = one[a : a + 1], other[b : b + 1]
        terms.append((x.inputs, y.inputs, one, other, share * x.weight, share * x.bias))
    return terms


def _fill(left, right, k, outputs, symmetric, out, n_threads, report):
    """One rectangle of the result from the factors of its rows and columns."""
    if outputs == "mean":
        _sum_up(_terms(left, right, k), out, symmetric, n_threads, report)
        return
    for place, a, b, of_plane in _planes(k, outputs, symmetric):
        plane = out[(..., *place)]
        _sum_up(_terms(left, right, k, a, b), plane, of_plane, n_threads, report)
        if symmetric and a != b:
            out[(..., *place[::-1])] = plane.T


def _sum_up(terms, out, symmetric, n_threads, report):
    if terms:
        tangent.hadamard_sum(terms, out, symmetric, n_threads, report)
    else:  # nothing is trained, or only a layer that these outputs do not share
        out[...] = 0


def _by_blocks(X, Y, factors, size, fill, out, report, full):
    """fill every rectangle of out from the factors of blocks of X and Y (None: of X again), each block `size` points.

    The outer loop is over rows of blocks, so that the factors of at most two blocks are held. full: whether the last
    two axes of out are outputs.
    """
    columns = X if Y is None else Y
    rectangles = [
        (i, j)
        for i in arrays.blocks(len(X), size)
        for j in arrays.blocks(len(columns), size)
        if Y is not None or i.start <= j.start
    ]
    for i, group in itertools.groupby(rectangles, key=lambda rectangle: rectangle[0]):
        left = factors(X[i])
        for _, j in group:
            symmetric = Y is None and i == j
            right = left if symmetric else factors(columns[j])
            fill(left, right, symmetric, out[i, j], report.part(i, j))
            report.finish_part()
            right = None  # before the factors of the next block are computed
            if Y is None and i != j:
                out[j, i] = _swapped(out[i, j], full)
        left = None


def _swapped(block, full):
    """Θ_kk'(x, x') = Θ_k'k(x', x): points exchanged, and outputs too where there are two axes of them."""
    block = np.swapaxes(block, 0, 1)
    return np.swapaxes(block, -1, -2) if full else block


class _Report:
    """Finished entries of the whole matrix, from the finished tiles of one rectangle."""

    def __init__(self, report, symmetric, shape):
        self.report, self.done, self.total = report, 0, math.prod(shape)
        self.symmetric = symmetric

    def part(self, i, j):
        size = (i.stop - i.start) * (j.stop - j.start) * (2 if self.symmetric and i != j else 1)
        before, self.done = self.done, self.done + size
        if self.report is None:
            return None
        return lambda done, total: self.report(before + size * done // total, self.total)

    def finish_part(self):
        if self.report is not None:
            self.report(self.done, self.total)


def empirical_ntk(
    f: FiniteNetwork,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    outputs: Outputs = "mean",
    *,
    layout: Layout = "pairs",
    per_layer: bool = False,
    out: NDArray[np.floating] | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
) -> NDArray[np.floating]:
    """The tangent kernel of a network at its present parameters, Θ̂(x_i, y_j).

        Θ̂_kk'(x, x') = Σ_p lr_p ∂f_k(x)/∂θ_p ∂f_k'(x')/∂θ_p

    with the learning rates of the layers (Jacot, Gabriel and Hongler 2018, section 4). With the inputs α^l and the
    sensitivities B^l_k(x) = ∂f_k(x)/∂(pre-activations) of every `Dense`, in NTK parametrisation

        Θ̂_kk'(x, x') = Σ_l (w² α^l(x)·α^l(x')/n_l + β²) (B^l_k(x)·B^l_k'(x')),

    two Gram matrices per layer; no Jacobian is formed.

    Parameters
    ----------
    f : FiniteNetwork
        The network, at whose parameters the kernel is taken.
    X : array_like, shape (n, n_inputs)
        Points, one per row.
    Y : array_like, shape (m, n_inputs), optional
        Default: X; each pair is then computed once.
    outputs : {"mean", "diagonal", "full"}
        "mean": Σ_k Θ̂_kk/k, which is Θ̂ of one output in the limit; "diagonal": all Θ̂_kk; "full": all Θ̂_kk'.
    layout : {"pairs", "matrix"}
        Of "full": (n, m, k, k), or one matrix (n k, m k) whose row i k + a is output a of point i, without a copy.
        `LeastSquaresFlow`, `GaussianProcess` and `kernel_flow` take either.
    per_layer : bool
        Return what the parameters of each `Dense` contribute, in order of appearance: one more axis, the first. The sum
        over it is the kernel.
    out : ndarray, optional
        Where to write: an array of the result's shape and dtype.
    n_threads : int, optional
        Of the Gram matrices; the passes through the network use BLAS's own threads.
    progress : bool or callable, optional
        As in `ntk`.
    memory : int or str, optional
        Bytes that the layer factors may take (default: 2 GiB). If all points need more, they are processed in blocks,
        and the passes through the network are repeated.

    Returns
    -------
    ndarray of the network's dtype, shape (n, m), (n, m, k), (n, m, k, k) or (n k, m k) for k outputs
        With per_layer, (L, …).

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or the kernel is not finite.
    MemoryError
        The result is larger than the memory that is available. Nothing has been allocated then.

    See Also
    --------
    ntk : Its limit as the width grows.
    empirical_nngp : The covariance of the outputs given the hidden layers.
    ntk_vector_product : Θ̂ v without Θ̂.
    ntkfast.torch.empirical_ntk : The kernel of a PyTorch module.
    gram_from_jacobian : J Jᵀ of any Jacobian.
    finite_width : Mean and deviation over random networks.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    >>> f = nf.FiniteNetwork.init(net, n_inputs=2, widths=2000, rng=0)
    >>> X = [[1.0, 0.0], [0.0, 1.0]]
    >>> bool(abs(nf.empirical_ntk(f, X) - nf.ntk(net, X)).max() < 0.03)
    True
    """
    check_finite_network(f)
    _check_apart(out, f)
    check_outputs(outputs)
    _check_layout(layout, outputs)
    units = sum(map(len, f.weights))
    trained = [layer for layer, is_trained in enumerate(passes.trained(f)) if is_trained]
    return kernel_of_factors(
        *_points(f, X, Y),
        lambda points: layer_factors(f, points),
        f.n_inputs + units * (2 + f.n_outputs),  # the tape, the sensitivities
        f.n_outputs,
        outputs,
        f.dtype,
        layout=layout,
        layers=(f.net.depth, trained[::-1]) if per_layer else None,
        out=out,
        n_threads=n_threads,
        progress=progress,
        memory=memory,
    )


def kernel_of_factors(
    X,
    Y,
    factors,
    per_point,
    k,
    outputs,
    dtype,
    *,
    layout="pairs",
    layers=None,
    out=None,
    n_threads=None,
    progress=None,
    memory=None,
):
    """The kernel of k outputs from a function that returns the layer factors of a block of points.

    X, Y: checked points that suit the function `factors`; Y None: X again. per_point: how many numbers the factors of a
    point take. layers: None, or a number of layers and the layer of each of the factors, for a kernel per layer. The
    rest as in `empirical_ntk`.
    """
    check_progress(progress)
    n_threads = threads.resolve(n_threads)
    shape = (len(X), len(X) if Y is None else len(Y))
    size = max(1, bytes_allowed(memory) // (2 * per_point * dtype.itemsize))
    n_layers, layer_of = (1, None) if layers is None else layers
    whole = () if layers is None else (n_layers,)
    inputs = [(X, "X"), (X if Y is None else Y, "Y")]
    if layout == "matrix":
        result = _result((*whole, *(k * n for n in shape)), 1, "mean", dtype, out, inputs)
        planes = _pairs(result, k)
    else:
        planes = result = _result((*whole, *shape), k, outputs, dtype, out, inputs)
    planes = planes[None] if layers is None else planes

    def fill(left, right, symmetric, rectangle, report):
        for layer in range(n_layers):
            chosen = [n for n in range(len(left)) if layer_of is None or layer_of[n] == layer]
            sides = ([side[n] for n in chosen] for side in (left, right))
            _fill(*sides, k, outputs, symmetric, rectangle[:, :, layer], n_threads, _share(report, layer, n_layers))

    with reporter(progress, "empirical kernel") as report:
        by_points, counted = np.moveaxis(planes, 0, 2), _Report(report, Y is None, shape)
        _by_blocks(X, Y, factors, size, fill, by_points, counted, outputs == "full")
    for plane in planes:
        require_finite(plane)
    return result


def _share(report, part, count):
    """A report on one of `count` equal parts of what `report` is about."""
    return report and (lambda done, total: report(part * total + done, count * total))


def _points(f, X, Y):
    """Both sets of points as arrays that suit the network; the second is None if it is the first."""
    Y = None if Y is X else Y
    return f.points(X), None if Y is None else f.points(Y, "Y")


def bytes_allowed(memory: Memory) -> int:
    """The argument memory=, checked."""
    return amount(memory) or BUDGET


def require_finite(result: NDArray[np.floating]) -> None:
    """Raise ValueError for the first row of a kernel that is not finite."""
    for start in range(0, len(result), 64):
        finite = np.isfinite(result[start : start + 64]).reshape(-1, math.prod(result.shape[1:])).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            hint = " or use a float64 network" if result.dtype == np.float32 else ""
            raise ValueError(
                f"X: the kernel of row {row} leaves {result.dtype}, or f is not finite; scale the data{hint}"
            )


def empirical_nngp(
    f: FiniteNetwork,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    out: NDArray[np.floating] | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
) -> NDArray[np.floating]:
    """The covariance of the outputs over the parameters of the last layer, given all others.

        Σ̂(x, x') = w² α(x)·α(x')/n + β²

    with the n units α of the last hidden layer; it converges to the kernel Σ^L of `nngp`. If the network ends with
    branches, the parameters are those of the last `Dense` of the last branch; what the branches add to its outputs
    enters as its mean over the outputs.

    Parameters
    ----------
    f, X, Y, out, n_threads, progress, memory
        As in `empirical_ntk`.

    Returns
    -------
    ndarray of the network's dtype, shape (n, m)
        Σ̂(x_i, y_j); symmetric if Y is left out.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As in `empirical_ntk`.

    See Also
    --------
    nngp : Its limit as the width grows.
    empirical_ntk : The tangent kernel.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), Proposition 1.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=1, bias_std=0.5), n_inputs=2, rng=0)
    >>> nf.empirical_nngp(f, [[1.0, 1.0]])
    array([[1.25]])
    """
    check_finite_network(f)
    _check_apart(out, f)
    return kernel_of_factors(
        *_points(f, X, Y),
        lambda points: covariance_factors(f, points),
        f.n_inputs + 2 * sum(map(len, f.weights)),
        1,
        "mean",
        f.dtype,
        out=out,
        n_threads=n_threads,
        progress=progress,
        memory=memory,
    )


def gram_from_jacobian(
    blocks: Iterable[ArrayLike | tuple[ArrayLike, ArrayLike]],
    outputs: Outputs = "mean",
    *,
    n_threads: int | None = None,
) -> NDArray[np.floating]:
    """J Jᵀ from blocks of columns of a Jacobian computed by any other program.

    Parameters
    ----------
    blocks : iterable
        Arrays (n, k, p): the derivatives of k outputs at n points with respect to some of the parameters, any number
        of these, which may differ from block to block. Or tuples of two such arrays, (n, k, p) and (m, k, p), for the
        kernel of two sets of points. An array (n, p) counts as (n, 1, p). If the first is float32, so is the result,
        else float64. They are taken one after the other, so that a generator keeps one block in memory.
    outputs : {"mean", "diagonal", "full"}
        As in `empirical_ntk`.
    n_threads : int, optional
        As in `ntk`.

    Returns
    -------
    ndarray, shape (n, m), (n, m, k) or (n, m, k, k)
        J Jᵀ: the mean over the outputs, each of them, or all pairs.

    Raises
    ------
    TypeError, ValueError
        A block is not as described, or does not suit the ones before; the message gives its number.

    See Also
    --------
    FiniteNetwork.jacobian : A Jacobian.
    empirical_ntk : The same of a network, without one.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> jacobian = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
    >>> nf.gram_from_jacobian([jacobian[:, :2], jacobian[:, 2:]])
    array([[ 5.,  2.],
           [ 2., 10.]])
    """
    check_outputs(outputs)
    n_threads = threads.resolve(n_threads)
    if isinstance(blocks, np.ndarray):
        raise TypeError(
            f"blocks: expected an iterable of arrays, got one of shape {blocks.shape}; did you mean [blocks]?"
        )
    result = None
    for number, given in enumerate(blocks):
        x, y = _jacobian_blocks(given, f"blocks[{number}]", None if result is None else result.dtype)
        shape = (len(x), len(x if y is None else y), x.shape[1], y is None)
        if result is None:
            first_shape = shape
            result = to = _result(shape[:2], shape[2], outputs, x.dtype, None, [])
        elif shape == first_shape:
            to = np.empty_like(result) if to is result else to
        else:
            raise ValueError(
                f"blocks[{number}]: expected {first_shape[0]} x {first_shape[1]} points and {first_shape[2]} outputs "
                f"as in blocks[0], got {shape[0]} x {shape[1]} and {shape[2]}"
            )
        sides = [[LayerFactors(None, np.moveaxis(block, 1, 0), 0, 1)] for block in (x, x if y is None else y)]
        _fill(*sides, shape[2], outputs, y is None, to, n_threads, None)
        if to is not result:
            result += to
    if result is None:
        raise ValueError("blocks: expected at least one block, got none")
    return result


def _jacobian_blocks(given, name, dtype):
    """One block as arrays (n, k, p) and (m, k, p) of one dtype, the second None if there is one array only."""
    if isinstance(given, list) and any(np.ndim(block) > 1 for block in given):
        raise TypeError(f"{name}: expected an array or a tuple of two arrays, got a list")
    pair = [np.asarray(block) for block in (given if isinstance(given, tuple) else (given,))]
    if len(pair) not in (1, 2):
        raise ValueError(f"{name}: expected an array or a pair of arrays, got {len(pair)} of them")
    for block in pair:
        if block.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected real numbers, got dtype {block.dtype}")
        if block.ndim not in (2, 3) or 0 in block.shape:
            raise ValueError(f"{name}: expected shape (n, p) or (n, k, p) without zeros, got {block.shape}")
    pair = [block[:, None] if block.ndim == 2 else block for block in pair]
    if pair[0].shape[1:] != pair[-1].shape[1:]:
        raise ValueError(f"{name}: expected the same (k, p) on both sides, got {pair[0].shape} and {pair[1].shape}")
    dtype = arrays.working_dtype(dtype, *pair)
    pair = [arrays.contiguous(block, dtype) for block in pair]
    return pair[0], (pair[1] if len(pair) == 2 else None)
