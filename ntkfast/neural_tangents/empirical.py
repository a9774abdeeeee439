"""Kernels and Taylor expansions of networks of finite width.

A network of stax with its parameters is a FiniteNetwork, of which ntkfast computes the tangent kernel without a
Jacobian. Other functions are differentiated by JAX, if they are written in it.
"""

from __future__ import annotations

import enum
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import jvp, vjp
from ntkfast.networks import Dense, Network
from ntkfast.neural_tangents import arrays, keys
from ntkfast.neural_tangents.axes import Axes, positive
from ntkfast.neural_tangents.blocks import Block, NotInLayers, drafted, has_dropout
from ntkfast.neural_tangents.taylor import Series, SeriesOperations
from ntkfast.neural_tangents.triples import block_of, finite_block, selected, wanted
from ntkfast.support.scalars import non_negative_integer

__all__ = [
    "NtkImplementation",
    "empirical_kernel_fn",
    "empirical_nngp_fn",
    "empirical_ntk_fn",
    "empirical_ntk_vp_fn",
    "linearize",
    "taylor_expand",
]

ROWS = 256  # points at a time where only pairs of a point with itself are asked for


class NtkImplementation(enum.IntEnum):
    """How neural-tangents computes an empirical kernel; accepted and without meaning here, as there is one way."""

    AUTO = 0
    JACOBIAN_CONTRACTION = 1
    NTK_VECTOR_PRODUCTS = 2
    STRUCTURED_DERIVATIVES = 3


# ---- Taylor expansions --------------------------------------------------------------------------------------------


def linearize(f: Callable[..., Any], params: Any) -> Callable[..., Any]:
    """f_lin(params, x): the first-order Taylor expansion of an apply_fn in its parameters, around `params`.

    Examples
    --------
    >>> from ntkfast import neural_tangents as nt
    >>> init_fn, apply_fn, _ = nt.stax.Dense(1)
    >>> _, params = init_fn(0, (-1, 2))
    >>> f_lin = nt.linearize(apply_fn, params)
    >>> bool((f_lin(params, [[1.0, 2.0]]) == apply_fn(params, [[1.0, 2.0]])).all())
    True
    """
    return taylor_expand(f, params, 1)


def taylor_expand(f: Callable[..., Any], params: Any, degree: int) -> Callable[..., Any]:
    """f_tayl(params, x): the Taylor expansion of an apply_fn in its parameters up to a degree, around `params`.

    Activations given as functions have degree 1 only, unless JAX differentiates them. Other functions than an apply_fn
    are differentiated by JAX.
    """
    degree = non_negative_integer(degree, "degree")

    def f_tayl(p: Any, *args: Any, **kwargs: Any) -> Any:
        given = arrays.leaves([p, params, *args])
        foreign = arrays.foremost(given)
        if arrays.origin(foreign) == "jax":
            return _jax_taylor(f, params, p, degree, args, kwargs)
        block = finite_block(f)
        at, new = arrays.mapped(arrays.as_numpy, params), arrays.mapped(arrays.as_numpy, p)
        x = arrays.mapped(arrays.as_numpy, arrays.listed(args[0]))

        def line(a: Any, b: Any) -> Series:
            return Series((a, b - a, *[np.zeros_like(a)] * (degree - 1))[: degree + 1])

        result = block.apply(arrays.mapped(line, at, new), x, SeriesOperations(), None)
        return arrays.restored(sum(result.terms), foreign)

    return f_tayl


def _jax_taylor(f: Callable[..., Any], params: Any, p: Any, degree: int, args: Any, kwargs: Any) -> Any:
    """By nested derivatives along the line."""
    import jax

    direction = jax.tree_util.tree_map(lambda a, b: b - a, params, p)

    def term(function: Callable[[Any], Any], k: int) -> Any:
        if k == degree:
            return function(params)

        def derivative(at: Any) -> Any:
            return jax.jvp(function, (at,), (direction,))[1]

        rest = term(derivative, k + 1)
        return jax.tree_util.tree_map(lambda a, b: a + b / (k + 1), function(params), rest)

    return term(lambda at: f(at, *args, **kwargs), 0)


# ---- kernels ------------------------------------------------------------------------------------------------------


def empirical_nngp_fn(f: Callable[..., Any], trace_axes: Axes = (-1,), diagonal_axes: Axes = ()) -> Callable[..., Any]:
    """nngp_fn(x1, x2, params): products f(x1) f(x2) of outputs, averaged over trace_axes.

    diagonal_axes: only pairs of equal index along these axes, once in the result.
    """

    def nngp_fn(x1: Any, x2: Any, params: Any, **apply_fn_kwargs: Any) -> Any:
        """The kernel of the outputs; x2=None: of x1 with itself."""
        one, two = _keywords(apply_fn_kwargs, x1, x2)
        left = f(params, x1, **one)
        right = left if x2 is None else f(params, x2, **two)

        def kernel(a: Any, b: Any) -> Any:
            if arrays.origin(a) == "jax":
                return _outer(sys.modules["jax"].numpy.einsum, a, b, trace_axes, diagonal_axes)
            found = _outer(np.einsum, arrays.as_numpy(a), arrays.as_numpy(b), trace_axes, diagonal_axes)
            return arrays.restored(found, arrays.foremost([a]))

        return arrays.mapped(kernel, left, right)

    return nngp_fn


def _outer(einsum: Any, a: Any, b: Any, trace_axes: Axes, diagonal_axes: Axes) -> Any:
    """The product of two arrays of outputs, with pairs of axes."""
    n = a.ndim
    traced, diagonal = positive(trace_axes, n), positive(diagonal_axes, n, "diagonal_axes")
    right = [axis if axis in (*traced, *diagonal) else n + axis for axis in range(n)]
    out = [side for axis in range(n) if axis not in traced for side in dict.fromkeys((axis, right[axis]))]
    size = math.prod(a.shape[axis] for axis in traced)
    return einsum(a, list(range(n)), b, right, out, optimize=True) / size


def empirical_ntk_fn(
    f: Callable[..., Any],
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    implementation: int | NtkImplementation = NtkImplementation.JACOBIAN_CONTRACTION,
    _j_rules: bool = True,
    _s_rules: bool = True,
    _fwd: bool | None = None,
) -> Callable[..., Any]:
    """ntk_fn(x1, x2, params): the tangent kernel of a network at its parameters.

    Parameters
    ----------
    f : callable
        An apply_fn of stax, or a function (params, x, **kwargs) written in JAX. Of PyTorch modules:
        `ntkfast.torch.empirical_ntk`.
    trace_axes : int or sequence of int
        Axes of outputs over which the diagonal is averaged.
    diagonal_axes : int or sequence of int
        Axes of outputs of which the kernel has the diagonal only, once.
    vmap_axes, implementation
        Accepted: there is one way, without a Jacobian.

    Returns
    -------
    ntk_fn

    Examples
    --------
    >>> from ntkfast import neural_tangents as nt
    >>> init_fn, apply_fn, _ = nt.stax.Dense(2)
    >>> _, params = init_fn(0, (-1, 2))
    >>> nt.empirical_ntk_fn(apply_fn)([[2.0, 0.0]], None, params)
    array([[2.]])
    >>> nt.empirical_ntk_fn(apply_fn, trace_axes=())([[2.0, 0.0]], None, params).shape
    (1, 1, 2, 2)
    """
    NtkImplementation(implementation)

    def ntk_fn(x1: Any, x2: Any, params: Any, **apply_fn_kwargs: Any) -> Any:
        """The kernel; x2=None: of x1 with itself."""
        return _ntk(f, x1, x2, params, trace_axes, diagonal_axes, apply_fn_kwargs)

    return ntk_fn


def empirical_kernel_fn(
    f: Callable[..., Any],
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    implementation: int | NtkImplementation = NtkImplementation.JACOBIAN_CONTRACTION,
    _j_rules: bool = True,
    _s_rules: bool = True,
    _fwd: bool | None = None,
) -> Callable[..., Any]:
    """kernel_fn(x1, x2, get, params): both kernels of a network, arguments as in `empirical_ntk_fn`.

    get: "nngp", "ntk", a tuple of them for a named tuple, or None for both.
    """
    functions = {
        "nngp": empirical_nngp_fn(f, trace_axes, diagonal_axes),
        "ntk": empirical_ntk_fn(f, trace_axes, diagonal_axes, vmap_axes, implementation),
    }

    def kernel_fn(x1: Any, x2: Any, get: Any, params: Any, **apply_fn_kwargs: Any) -> Any:
        """The kernels that get asks for."""
        single, names = wanted(get)
        names = names or ("nngp", "ntk")
        for name in names:
            if name not in functions:
                raise ValueError(f'get: expected "nngp" or "ntk", got {name!r}')
        found = {name: functions[name](x1, x2, params, **apply_fn_kwargs) for name in names}

        def kernel(*parts: Any) -> Any:
            return selected(dict(zip(names, parts, strict=True)), "EmpiricalKernel", single, names)

        return arrays.mapped(kernel, *found.values())  # for each array that f returns

    return kernel_fn


def empirical_ntk_vp_fn(
    f: Callable[..., Any], x1: Any, x2: Any, params: Any, **apply_fn_kwargs: Any
) -> Callable[[Any], Any]:
    """ntk_vp_fn(cotangents): the tangent kernel of x1 and x2 times cotangents of the shape of f(params, x2)."""

    def ntk_vp_fn(cotangents: Any) -> Any:
        """The product, of the shape of f(params, x1)."""
        foreign = arrays.foremost(arrays.leaves([x1, x2, params, cotangents]))
        traced = any(map(arrays.is_traced, arrays.leaves([x2, cotangents])))
        network = None if traced else _network(f, params, x1)
        if network is None:
            return _jax_product(f, x1, x2, params, cotangents, apply_fn_kwargs)
        net, X, Y = network.net, _points(x1), None if x2 is None else _points(x2)
        pulled = vjp(network, X if Y is None else Y, arrays.as_numpy(cotangents))
        if _frozen_outputs(net):
            pulled[-network.weights[-1].size :] = 0
        return arrays.restored(jvp(network, X, pulled), foreign)

    return ntk_vp_fn


# ---- how ----------------------------------------------------------------------------------------------------------


def _keywords(given: dict[str, Any], x1: Any, x2: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of f for both sets of points: pairs are one for each."""
    sides: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for key, value in given.items():
        pair = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
        if key == "rng" and value is not None and pair[0] is pair[1] and x2 is not None:
            pair = keys.split(keys.key_of(value))  # masks of different points are independent
        for side, part in zip(sides, pair, strict=True):
            side[key] = part
    return sides


def _points(x: Any) -> Any:
    x = arrays.as_numpy(x)
    return x.reshape(len(x), -1)


def _ntk(
    f: Callable[..., Any], x1: Any, x2: Any, params: Any, trace_axes: Axes, diagonal_axes: Axes, kwargs: dict[str, Any]
) -> Any:
    foreign = arrays.foremost(arrays.leaves([x1, x2, params]))
    network = None if any(map(arrays.is_traced, arrays.leaves(x2))) else _network(f, params, x1)
    if network is None:
        return _jax_ntk(f, x1, x2, params, trace_axes, diagonal_axes, kwargs)
    traced, diagonal = positive(trace_axes, 2), positive(diagonal_axes, 2, "diagonal_axes")
    if set(traced) & set(diagonal):
        raise ValueError(f"diagonal_axes: expected axes apart from trace_axes, got {diagonal_axes} and {trace_axes}")
    outputs = "mean" if 1 in traced else "diagonal" if 1 in diagonal else "full"
    X, Y = _points(x1), None if x2 is None else _points(x2)
    by_points = 0 in (*traced, *diagonal)
    if by_points:  # pairs of equal index only
        kernel = _equal_pairs(network, X, X if Y is None else Y, outputs)
        if 0 in traced:
            kernel = kernel.mean(axis=0)
    else:
        kernel = empirical_ntk(network, X, Y, outputs)
    return arrays.restored(kernel, foreign)


def _equal_pairs(network: FiniteNetwork, X: Any, Y: Any, outputs: Any) -> Any:
    """Θ̂(x_i, y_i)."""
    if len(X) != len(Y):
        raise ValueError(f"x2: expected {len(X)} points as in x1 for pairs of equal index, got {len(Y)}")
    found = []
    for start in range(0, len(X), ROWS):
        rows = slice(start, start + ROWS)
        block = empirical_ntk(network, X[rows], None if Y is X else Y[rows], outputs)
        index = np.arange(len(block))
        found.append(block[index, index])
    return np.concatenate(found)


def _network(f: Callable[..., Any], params: Any, x: Any) -> FiniteNetwork | None:
    """f with these parameters as a FiniteNetwork; None if JAX has to differentiate it."""
    if any(map(arrays.is_traced, arrays.leaves([params, x]))):
        return None
    block = block_of(f)
    if block is None:
        if "jax" not in sys.modules or arrays.origin(arrays.foremost(arrays.leaves([params, x]))) != "jax":
            finite_block(f)  # which raises
        return None
    try:
        if isinstance(x, list | tuple) and any(map(arrays.is_array, arrays.leaves(x))):
            raise NotInLayers  # branches of several inputs
        network = finite_network(block, arrays.mapped(arrays.as_numpy, params), arrays.as_numpy(x).shape)
        if has_dropout(network.net):
            raise NotInLayers
        return network
    except (NotInLayers, NotImplementedError):
        if arrays.origin(arrays.foremost(arrays.leaves([params, x]))) == "jax":
            return None
        raise NotImplementedError(
            "f: expected one input and output, activations only after a Dense, and no Dropout; or JAX arrays, as JAX "
            f"differentiates everything; got {f}"
        ) from None


def finite_network(block: Block, params: Any, shape: tuple[int, ...]) -> FiniteNetwork:
    """A network of stax with its parameters, whose tangent kernel is that with respect to these."""
    parts: list[Any] = []
    end = drafted(lambda draft: block.unrolled(params, draft, parts), shape)
    if len(end.shape1) != 2:
        raise NotImplementedError(f"f: expected outputs of two axes, got {end.shape1}")
    layers = list(end.program.layers)
    weights, biases = [weight for weight, _ in parts], [bias for _, bias in parts]
    if not isinstance(layers[-1], Dense):  # outputs that are not sums over weights pass through a frozen identity
        k = end.shape1[-1]
        layers.append(Dense(weight_std=math.sqrt(k), weight_lr=0))
        weights.append(np.eye(k, dtype=weights[0].dtype))
        biases.append(None)
    return FiniteNetwork(Network(layers), weights, biases)


def _frozen_outputs(net: Network) -> bool:
    last = net.layers[-1]
    return isinstance(last, Dense) and last.weight_lr == 0


# ---- by JAX -------------------------------------------------------------------------------------------------------


def _jacobians(f: Callable[..., Any], x: Any, params: Any, kwargs: dict[str, Any]) -> Any:
    """The Jacobian (*outputs, parameters) of each array that f returns, in the same tree."""
    import jax

    f_of = functools.partial(_called, f, x=x, kwargs=kwargs)
    shapes, tree = jax.tree_util.tree_flatten(jax.eval_shape(f_of, params))
    found = jax.jacobian(lambda p: jax.tree_util.tree_leaves(f_of(p)))(params)

    def joined(shape: Any, blocks: Any) -> Any:
        parts = [block.reshape(*shape, -1) for block in jax.tree_util.tree_leaves(blocks)]
        return jax.numpy.concatenate(parts, axis=-1)

    return jax.tree_util.tree_unflatten(tree, [joined(s.shape, jac) for s, jac in zip(shapes, found, strict=True)])


def _called(f: Callable[..., Any], params: Any, x: Any, kwargs: dict[str, Any]) -> Any:
    return f(params, x, **kwargs)


def _jax_ntk(
    f: Callable[..., Any], x1: Any, x2: Any, params: Any, trace_axes: Axes, diagonal_axes: Axes, kwargs: dict[str, Any]
) -> Any:
    """From Jacobians, of each array that f returns with itself."""
    import jax

    one, two = _keywords(kwargs, x1, x2)
    left = _jacobians(f, x1, params, one)
    right = left if x2 is None else _jacobians(f, x2, params, two)

    def contracted(a: Any, b: Any) -> Any:
        n = a.ndim - 1
        traced, diagonal = positive(trace_axes, n), positive(diagonal_axes, n, "diagonal_axes")
        second = [axis if axis in (*traced, *diagonal) else n + axis for axis in range(n)]
        out = [side for axis in range(n) if axis not in traced for side in dict.fromkeys((axis, second[axis]))]
        found = jax.numpy.einsum(a, [*range(n), 2 * n], b, [*second, 2 * n], out)
        return found / math.prod(a.shape[axis] for axis in traced)

    return jax.tree_util.tree_map(contracted, left, right)


def _jax_product(f: Callable[..., Any], x1: Any, x2: Any, params: Any, cotangents: Any, kwargs: dict[str, Any]) -> Any:
    import jax

    one, two = _keywords(kwargs, x1, x2)
    pulled = jax.vjp(functools.partial(_called, f, x=x1 if x2 is None else x2, kwargs=two), params)[1](cotangents)
    return jax.jvp(functools.partial(_called, f, x=x1, kwargs=one), (params,), pulled)[1]
