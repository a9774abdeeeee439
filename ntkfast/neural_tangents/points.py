"""The kernels of points: by the engine if a network can be written in its layers, else by matrices."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ntkfast.infinite.kernels import diagonal, kernels
from ntkfast.networks import Dense, Network
from ntkfast.neural_tangents import arrays
from ntkfast.neural_tangents.blocks import Block, NotInLayers, drafted, flags, has_dropout, too_many_axes
from ntkfast.neural_tangents.kernel import ARRAYS, Kernel

__all__ = ["compiled", "of_kernels", "of_points"]

SAME = 1e-12  # as in neural-tangents: largest difference of equal points


def of_kernels(block: Block, ks: Any) -> Any:
    """The kernels after a block of kernels before it."""
    foreign = arrays.foremost([k.nngp for k in arrays.leaves(ks)])
    plain = arrays.mapped(lambda k: k._arrays(lambda array: np.asarray(arrays.as_numpy(array), float)), ks)
    return arrays.mapped(lambda k: k._arrays(lambda a: arrays.restored(a, foreign)), block.kernel(plain))


def of_points(block: Block, x1: Any, x2: Any, names: tuple[str, ...] | None, full: bool) -> Any:
    """The Kernel of points of any library, as arrays of theirs; of its arrays those in names, None for all."""
    foreign = arrays.foremost(arrays.leaves([x1, x2]))
    x1 = arrays.mapped(arrays.as_numpy, arrays.listed(x1))
    x2 = None if x2 is None else arrays.mapped(arrays.as_numpy, arrays.listed(x2))
    result = _kernels(block, x1, x2, names, full)
    if foreign is None:
        return result
    return arrays.mapped(lambda k: k._arrays(lambda array: arrays.restored(array, foreign)), result)


def _kernels(block: Block, x1: Any, x2: Any, names: tuple[str, ...] | None, full: bool) -> Any:
    """The Kernel of NumPy arrays, of whose arrays only those in names need be there."""
    with_ntk = names is None or "ntk" in names
    if isinstance(x1, list | tuple):
        seconds = arrays.mapped(lambda x: None, x1) if x2 is None else x2
        return block.kernel(arrays.mapped(lambda a, b: _inputs(a, b, with_ntk, full), x1, seconds))
    _check_points(x1, x2)
    try:
        draft, net = compiled(block, x1.shape, None if x2 is None else x2.shape, with_ntk, full)
    except NotInLayers:
        return block.kernel(_inputs(x1, x2, with_ntk, full))
    same = True if x2 is None else None
    if names is None or "x1_is_x2" in names or has_dropout(net):
        same = x2 is None or _same(x1, x2)
    X = x1.reshape(len(x1), -1)
    Y = None if x2 is None or same else x2.reshape(len(x2), -1)
    get = tuple(name for name in ("nngp", "ntk") if names is None or name in names)
    found = dict(zip(get, kernels(net, X, Y, get=get), strict=True)) if get else {}
    for name, points in (("cov1", X), ("cov2", None if x2 is None else x2.reshape(len(x2), -1))):
        if points is None or not (names is None or name in names):
            continue
        if Y is None and not full and "nngp" in found:
            found[name] = found["nngp"].diagonal().copy()  # to the last bit what follows
        else:
            found[name] = kernels(net, points, get="nngp") if full else diagonal(net, points, "nngp")
    fields = {name: value for name, value in draft.asdict().items() if name not in ARRAYS}
    fields["x1_is_x2"] = bool(same)
    return Kernel(**{name: found.get(name) for name in ARRAYS}, **fields)


@functools.lru_cache(maxsize=64)
def compiled(
    block: Block, shape1: tuple[int, ...], shape2: tuple[int, ...] | None, with_ntk: bool, full: bool
) -> tuple[Kernel, Network]:
    """What the walk finds out without points, and the network."""
    end = drafted(block.kernel, shape1, shape2, with_ntk, full)
    if len(end.shape1 or (0, 0)) != 2:
        raise too_many_axes("kernel_fn", end.shape1)
    layers = end.program.layers
    if not (layers and isinstance(layers[-1], Dense)):
        layers = (*layers, Dense(weight_lr=0))  # Σ and Θ of what is not a sum over weights, such as an activation
    return end, Network(layers)


def _inputs(x1: Any, x2: Any, with_ntk: bool, full: bool) -> Kernel:
    """The Kernel of points."""
    _check_points(x1, x2)
    X = np.asarray(x1, float).reshape(len(x1), -1)
    Y = X if x2 is None else np.asarray(x2, float).reshape(len(x2), -1)
    d = X.shape[1]
    nngp = X @ Y.T / d

    def own(x: Any) -> Any:
        return x @ x.T / d if full else np.einsum("ij,ij->i", x, x) / d

    cov1 = own(X)
    if x2 is None:
        np.fill_diagonal(nngp, cov1.diagonal() if full else cov1)
    shape2 = x1.shape if x2 is None else x2.shape
    return Kernel(
        nngp,
        np.zeros_like(nngp) if with_ntk else None,
        cov1,
        None if x2 is None else own(Y),
        **{**flags(x1.shape, shape2, full), "x1_is_x2": x2 is None or _same(x1, x2)},
    )


def _check_points(x1: Any, x2: Any) -> None:
    for name, x in (("x1", x1), ("x2", x2)):
        if x is None:
            continue
        if x.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected an array of real numbers, got dtype {x.dtype}")
        if x.ndim < 2:
            raise ValueError(f"{name}: expected at least two axes, of points and of features, got shape {x.shape}")
    if x2 is not None and x1.shape[1:] != x2.shape[1:]:
        raise ValueError(f"x2: expected points of shape {x1.shape[1:]} as in x1, got shape {x2.shape}")


def _same(x1: Any, x2: Any) -> bool:
    """Whether both are the same points, as neural-tangents decides it."""
    if x1 is x2:
        return True
    if x1.shape != x2.shape or (np.abs(x1[:1] - x2[:1]) >= SAME).any():  # usually the first point tells
        return False
    return bool((np.abs(x1 - x2) < SAME).all())
