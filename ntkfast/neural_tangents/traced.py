"""Kernels inside functions that JAX transforms: callbacks to the host, and derivatives with respect to the points.

JAX is imported when its tracers come in, never before.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np

from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.neural_tangents.blocks import Block, NotInLayers, has_dropout
from ntkfast.neural_tangents.kernel import ARRAYS, Kernel
from ntkfast.neural_tangents.points import compiled, of_points

__all__ = ["traced"]

SECOND = "kernel_fn: kernels have first derivatives only; jax.lax.stop_gradient holds these constant"
OTHER = (
    "kernel_fn: expected a network whose layers the engine has, for derivatives: no Dropout, no Elementwise with an "
    "nngp_fn and no layers of your own"
)


def traced(block: Block, x1: Any, x2: Any, names: tuple[str, ...] | None, full: bool) -> Any:
    """The kernels of points that JAX is tracing: a dictionary of those in names, None for a Kernel."""
    import jax

    if isinstance(x1, list | tuple):
        raise NotImplementedError(f"x1: expected one array inside functions that JAX transforms, got {len(x1)}")
    if names is not None and not set(names) <= set(ARRAYS):
        raise NotImplementedError(
            f"get: expected names out of {', '.join(ARRAYS)} inside functions that JAX transforms, got {names}"
        )
    points = tuple(map(jax.numpy.asarray, (x1,) if x2 is None else (x1, x2)))
    made = tuple(name for name in ARRAYS if names is None or name in names)
    made = tuple(name for name in made if name != "cov2" or x2 is not None)
    found = dict.fromkeys(ARRAYS) | dict(zip(made, _kernels(block, made, full)(points), strict=True))
    if names is not None:
        return found
    try:
        draft, _ = compiled(block, *_shapes(points), True, full)
    except NotInLayers:
        raise NotImplementedError(
            f"get: expected names out of {', '.join(ARRAYS)} inside functions that JAX transforms, got None"
        ) from None
    fields = {name: value for name, value in draft.asdict().items() if name not in ARRAYS}
    return Kernel(**{**fields, **found, "x1_is_x2": x2 is None})


def _shapes(points: Any) -> tuple[Any, Any]:
    return points[0].shape, points[1].shape if len(points) > 1 else None


@functools.lru_cache(maxsize=64)
def _kernels(block: Block, made: tuple[str, ...], full: bool) -> Any:
    """A function of a tuple of points, x1 or x1 and x2, to the arrays in `made`; JAX differentiates it once."""
    import jax

    known = inspect.signature(jax.pure_callback).parameters
    options: Any = {"vmap_method": "sequential"} if "vmap_method" in known else {}

    def on_host(function: Any, shapes: Any, dtypes: Any, *given: Any) -> Any:
        results = tuple(map(jax.ShapeDtypeStruct, shapes, dtypes))

        def call(*numbers: Any) -> Any:
            found = function(block, made, full, *jax.tree_util.tree_map(np.asarray, numbers))
            return tuple(map(np.asarray, found, dtypes))

        return jax.pure_callback(call, results, *given, **options)

    @jax.custom_vjp
    def kernels(points: Any) -> Any:
        n1, n2 = len(points[0]), len(points[-1])
        sizes = {"nngp": (n1, n2), "ntk": (n1, n2), "cov1": (n1, n1) if full else (n1,)}
        sizes["cov2"] = (n2, n2) if full else (n2,)
        dtype = jax.numpy.result_type(*points, float)
        return on_host(_values, [sizes[name] for name in made], [dtype] * len(made), points)

    @jax.custom_vjp
    def derivatives(points: Any, weights: Any) -> Any:
        return on_host(_derivatives, [x.shape for x in points], [x.dtype for x in points], points, weights)

    def refused(*_: Any) -> Any:
        raise NotImplementedError(SECOND)

    def forwards(points: Any) -> Any:
        _network(block, points)  # raises here, not in the callback
        return kernels(points), points

    kernels.defvjp(forwards, lambda points, weights: (derivatives(points, weights),))
    derivatives.defvjp(refused, refused)
    return kernels


def _values(block: Block, made: tuple[str, ...], full: bool, points: Any) -> Any:
    k = of_points(block, points[0], points[1] if len(points) > 1 else None, made, full)
    return [getattr(k, name) for name in made]


def _network(block: Block, points: Any) -> Network:
    try:
        _, net = compiled(block, *_shapes(points), True, False)
    except NotInLayers:
        raise NotImplementedError(OTHER) from None
    if has_dropout(net):
        raise NotImplementedError(OTHER)
    return net


def _derivatives(block: Block, made: tuple[str, ...], full: bool, points: Any, weights: Any) -> Any:
    """Of Σ weights · kernels, with respect to the points."""
    net = _network(block, points)
    if not all(np.isfinite(weight).all() for weight in weights):
        return [np.full_like(x, np.nan) for x in points]
    flat = [x.reshape(len(x), -1) for x in points]
    if len(flat) > 1 and np.may_share_memory(*flat):
        flat[1] = flat[1].copy()  # or the problem would be symmetric
    totals = [np.zeros(x.shape) for x in flat]
    for name, weight in zip(made, weights, strict=True):
        if not weight.any():  # of what the user's function does not depend on
            continue
        sides = {"cov1": [0], "cov2": [1]}.get(name, range(len(flat)))
        problem = Problem(net, *(flat[side] for side in sides), derivatives=True)
        if weight.ndim == 1:
            found = [problem.diagonal_vjp(weight, "nngp")[1]]
        else:
            found = problem.vjp(weight, "ntk" if name == "ntk" else "nngp", inputs=True, show=False)[1]
        for side, of_side in zip(sides, found, strict=True):
            totals[side] += of_side
    return [total.reshape(x.shape) for total, x in zip(totals, points, strict=True)]
