"""serial, parallel and repeat, the fans that go with parallel, and layers that users make."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.neural_tangents import arrays, keys
from ntkfast.neural_tangents.blocks import Block, forked, joined, then
from ntkfast.neural_tangents.kernel import ARRAYS
from ntkfast.neural_tangents.triples import Triple, block_of, triple

__all__ = ["FanInConcat", "FanInProd", "FanInSum", "FanOut", "layer", "parallel", "repeat", "serial"]


@dataclass(frozen=True, eq=False)
class _Custom(Block):
    """A layer from three functions that are not ours."""

    functions: Triple

    def init(self, key, shape):
        return self.functions[0](key, shape)

    def apply(self, params, x, ops, key):
        return self.functions[1](params, x, rng=key)

    def kernel(self, k):
        for leaf in arrays.leaves(k):
            then(leaf, None)
        return self.functions[2](k)


def _block(layer: Triple) -> Block:
    """The block of a layer."""
    if not isinstance(layer, tuple | list) or len(layer) != 3 or not all(map(callable, layer)):
        raise TypeError(f"layers: expected triples (init_fn, apply_fn, kernel_fn), got {layer!r}")
    blocks = [block_of(function) for function in layer]
    if blocks[0] is not None and blocks[0] is blocks[1] is blocks[2]:
        return blocks[0]
    return _Custom(tuple(layer))  # type: ignore[arg-type]


def layer(layer_fn: Callable[..., Triple]) -> Callable[..., Triple]:
    """Decorator: a function that returns (init_fn, apply_fn, kernel_fn), kernel_fn from Kernel to Kernel, makes layers.

    Their kernels can be asked for at points, like those of all others.
    """

    @functools.wraps(layer_fn)
    def make(*args: Any, **kwargs: Any) -> Triple:
        return triple(_block(layer_fn(*args, **kwargs)), layer_fn.__name__)

    return make


@dataclass(frozen=True, eq=False)
class _Serial(Block):
    blocks: tuple[Block, ...]

    def init(self, key, shape):
        params = []
        for block in self.blocks:
            key, own = keys.split(key)
            shape, param = block.init(own, shape)
            params.append(param)
        return shape, params

    def apply(self, params, x, ops, key):
        own = [None] * len(self.blocks) if key is None else keys.split(key, len(self.blocks))
        for block, param, part in zip(self.blocks, params, own, strict=True):
            x = block.apply(param, x, ops, part)
        return x

    def kernel(self, k):
        for block in self.blocks:
            k = block.kernel(k)
        return k

    def unrolled(self, params, k, parts):
        for block, param in zip(self.blocks, params, strict=True):
            k = block.unrolled(param, k, parts)
        return k


def serial(*layers: Triple) -> Triple:
    """Layers one after the other.

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(512, 2**0.5), stax.Relu(), stax.Dense(1))
    >>> kernel_fn([[1.0, 0.0]], [[0.0, 1.0]], ("nngp", "ntk")).ntk.round(4)
    array([[0.1592]])
    """
    if not layers:
        raise ValueError("layers: expected at least one layer, got none")
    return triple(_Serial(tuple(map(_block, layers))), "serial")


@dataclass(frozen=True, eq=False)
class _Parallel(Block):
    blocks: tuple[Block, ...]

    def init(self, key, shape):
        own = keys.split(key, len(self.blocks))
        found = [block.init(k, part) for block, k, part in zip(self.blocks, own, shape, strict=True)]
        shapes, params = zip(*found, strict=True)
        return shapes, params

    def apply(self, params, x, ops, key):
        own = [None] * len(self.blocks) if key is None else keys.split(key, len(self.blocks))
        parts = zip(self.blocks, params, x, own, strict=True)
        return type(x)(block.apply(param, part, ops, k) for block, param, part, k in parts)

    def kernel(self, k):
        return type(k)(block.kernel(part) for block, part in zip(self.blocks, k, strict=True))

    def unrolled(self, params, k, parts):
        branches = zip(self.blocks, params, k, strict=True)
        return [block.unrolled(param, part, parts) for block, param, part in branches]


def parallel(*layers: Triple) -> Triple:
    """Layers side by side: each takes one of a list of inputs, as FanOut makes it, or as given to kernel_fn.

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> block = stax.serial(
    ...     stax.FanOut(2), stax.parallel(stax.serial(stax.Relu(), stax.Dense(8)), stax.Identity()), stax.FanInSum()
    ... )
    >>> _, _, kernel_fn = stax.serial(stax.Dense(8), block, stax.Dense(1))
    >>> kernel_fn([[2.0]], None, "nngp")
    array([[6.]])
    """
    if not layers:
        raise ValueError("layers: expected at least one layer, got none")
    return triple(_Parallel(tuple(map(_block, layers))), "parallel")


@dataclass(frozen=True, eq=False)
class _Repeat(Block):
    """Parameters have one more axis, the first, as those of a compiled loop."""

    block: Block
    n: int

    def init(self, key, shape):
        params = []
        for _ in range(self.n):
            key, own = keys.split(key)
            out, param = self.block.init(own, shape)
            if out != shape:
                raise ValueError(
                    f"layer: expected outputs of the shape of its inputs, {shape}, got {out}; "
                    "serial(*([layer] * n)) takes any"
                )
            params.append(param)
        first = arrays.leaves(params)
        stack = arrays.operations(*first).space.stack
        return shape, arrays.mapped(lambda *leaves: stack(leaves), *params) if params else ()

    def _each(self, params):
        return [arrays.mapped(operator.itemgetter(i), params) for i in range(self.n)]

    def apply(self, params, x, ops, key):
        for param in self._each(params):
            x = self.block.apply(param, x, ops, key)
        return x

    def kernel(self, k):
        for _ in range(self.n):
            k = self.block.kernel(k)
        return k

    def unrolled(self, params, k, parts):
        for param in self._each(params):
            k = self.block.unrolled(param, k, parts)
        return k


def repeat(layer: Triple, n: int) -> Triple:
    """The layer n times, each with parameters of its own, stacked along a first axis."""
    return triple(_Repeat(_block(layer), int(n)), "repeat")


# ---- fans ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _FanOut(Block):
    n: int

    def init(self, key, shape):
        return [shape] * self.n, ()

    def apply(self, params, x, ops, key):
        return [x] * self.n

    def kernel(self, k):
        return [arrays.mapped(forked, k)] * self.n


def FanOut(num: int) -> Triple:
    """num copies of the input, as a list."""
    return triple(_FanOut(int(num)), "FanOut")


class _FanIn(Block):
    """Base class of the layers that join branches."""

    name = ""

    def init(self, key, shape):
        return shape[0], ()

    def _require_equal(self, ks):
        if any((k.shape1, k.shape2) != (ks[0].shape1, ks[0].shape2) for k in ks):
            raise ValueError(f"{self.name}: expected branches of equal shapes, got {[k.shape1 for k in ks]}")


def _each(ks, name, function):
    """function of one array of all branches, None if they have it not."""
    found = [getattr(k, name) for k in ks]
    return None if found[0] is None else function(found)


class _FanInSum(_FanIn):
    name = "FanInSum"

    def apply(self, params, x, ops, key):
        return functools.reduce(operator.add, x)

    def kernel(self, ks):
        self._require_equal(ks)
        if len(ks) > 1 and not all(k.is_gaussian for k in ks):
            raise NotImplementedError(
                "FanInSum: expected branches that are all Gaussian with mean 0, as after a Dense, got is_gaussian "
                f"{[k.is_gaussian for k in ks]}"
            )
        sums = {name: _each(ks, name, functools.partial(functools.reduce, operator.add)) for name in ARRAYS}
        return joined(ks[0].replace(**sums), ks, "sum")


def FanInSum() -> Triple:
    """The sum of branches."""
    return triple(_FanInSum(), "FanInSum")


class _FanInProd(_FanIn):
    name = "FanInProd"

    def apply(self, params, x, ops, key):
        return functools.reduce(operator.mul, x)

    def kernel(self, ks):
        self._require_equal(ks)
        products = {
            name: _each(ks, name, functools.partial(functools.reduce, operator.mul))
            for name in ("nngp", "cov1", "cov2")
        }
        nngp, ntk = ks[0].nngp, ks[0].ntk
        for k in ks[1:]:
            ntk = None if ntk is None else ntk * k.nngp + nngp * k.ntk
            nngp = nngp * k.nngp
        is_gaussian = len(ks) == 1 and ks[0].is_gaussian
        return joined(ks[0].replace(**products, ntk=ntk, is_gaussian=is_gaussian), ks, "product")


def FanInProd() -> Triple:
    """The product of branches, feature by feature."""
    return triple(_FanInProd(), "FanInProd")


class _FanInConcat(_FanIn):
    name = "FanInConcat"

    def init(self, key, shape):
        return (*shape[0][:-1], sum(part[-1] for part in shape)), ()

    def apply(self, params, x, ops, key):
        return ops.concatenate(x, axis=-1)

    def kernel(self, ks):
        if any(k.shape1[:-1] != ks[0].shape1[:-1] or k.shape2[:-1] != ks[0].shape2[:-1] for k in ks):
            raise ValueError(f"FanInConcat: expected as many points in all branches, got {[k.shape1 for k in ks]}")
        widths = [k.shape1[-1] for k in ks]
        shares = np.array(widths) / sum(widths)

        def mean(found):
            return sum(share * array for share, array in zip(shares, found, strict=True))

        k = ks[0].replace(
            **{name: _each(ks, name, mean) for name in ARRAYS},
            is_gaussian=False,
            shape1=(*ks[0].shape1[:-1], sum(widths)),
            shape2=(*ks[0].shape2[:-1], sum(widths)),
        )
        return joined(k, ks, "concat", widths if len(ks) > 1 else None)


def FanInConcat(axis: int = -1) -> Triple:
    """Branches side by side, along the features."""
    if axis not in (-1, 1):
        raise NotImplementedError(f"FanInConcat: expected axis=-1, along the features, got {axis!r}")
    return triple(_FanInConcat(), "FanInConcat")
