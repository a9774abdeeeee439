"""The (init_fn, apply_fn, kernel_fn) that users get of a block, and the way back from such a function to its block."""

from __future__ import annotations

import functools
import sys
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from ntkfast.neural_tangents import arrays, keys
from ntkfast.neural_tangents.blocks import Block
from ntkfast.neural_tangents.kernel import Kernel, register_with_jax
from ntkfast.neural_tangents.points import of_kernels, of_points
from ntkfast.neural_tangents.traced import traced

__all__ = ["Triple", "block_of", "finite_block", "selected", "triple", "wanted"]

Triple: TypeAlias = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]

_BLOCKS: WeakKeyDictionary[Any, Block] = WeakKeyDictionary()


def block_of(function: Any) -> Block | None:
    """The block whose function this is, also after `jax.jit`."""
    while type(function).__module__.partition(".")[0] in ("jax", "jaxlib") and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    try:
        return _BLOCKS.get(function)
    except TypeError:  # what cannot be referred to weakly is not ours
        return None


def finite_block(function: Any) -> Block:
    """The block of an apply_fn; raises for other functions."""
    block = block_of(function)
    if block is None:
        is_module = any(base.__module__.startswith("torch.nn") for base in type(function).__mro__)
        hint = "; of a PyTorch module: nf.torch.empirical_ntk" if is_module else ""
        raise TypeError(f"f: expected an apply_fn of ntkfast.neural_tangents.stax, got {function!r}{hint}")
    return block


def triple(block: Block, name: str) -> Triple:
    """init_fn, apply_fn and kernel_fn of a block."""

    def init_fn(rng: Any, input_shape: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The shape of the outputs, and random parameters as nested lists and tuples.

        rng: a JAX key, which gives JAX arrays and neural-tangents' numbers, an integer, a NumPy generator or None.
        """
        return block.init(keys.key_of(rng), _plain_shape(input_shape))

    def apply_fn(params: Any, inputs: Any, *, rng: Any = None, mask_constant: Any = None, **kwargs: Any) -> Any:
        """The outputs of a finite network; rng: for Dropout."""
        given = arrays.leaves([params, inputs])
        foreign = arrays.foremost(given)
        key = None if rng is None else keys.key_of(rng)
        _refuse_masks(inputs, mask_constant)
        if arrays.origin(foreign) == "jax":
            return block.apply(params, inputs, arrays.operations(foreign), key)
        params, inputs = arrays.mapped(arrays.as_numpy, params), arrays.mapped(arrays.as_numpy, arrays.listed(inputs))
        result = block.apply(params, inputs, arrays.operations(), key)
        return arrays.mapped(lambda array: arrays.restored(array, foreign), result)

    def kernel_fn(
        x1_or_kernel: Any,
        x2: Any = None,
        get: str | Sequence[str] | None = None,
        *,
        pattern: Any = None,
        mask_constant: float | None = None,
        diagonal_batch: bool | None = None,
        diagonal_spatial: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The kernels of infinite width at points, or those of a Kernel after this layer.

        get: "nngp", "ntk" or another field of Kernel; a tuple of them for a named tuple; None for a Kernel.
        """
        single, names = wanted(get)
        if "jax" in sys.modules:
            register_with_jax()
        if pattern is not None:
            raise NotImplementedError("pattern: expected None, as there is no Aggregate layer")
        first = arrays.leaves(x1_or_kernel)
        if first and all(isinstance(leaf, Kernel) for leaf in first) and x2 is None:
            result = of_kernels(block, x1_or_kernel)
        else:
            _refuse_masks(x1_or_kernel, mask_constant)
            _refuse_masks(x2, mask_constant)
            full = diagonal_batch is False
            if any(map(arrays.is_traced, arrays.leaves([x1_or_kernel, x2]))):
                result = traced(block, x1_or_kernel, x2, names, full)
            else:
                result = of_points(block, x1_or_kernel, x2, names, full)
        return arrays.mapped(lambda k: selected(k, "AnalyticKernel", single, names), result)

    for function in (init_fn, apply_fn, kernel_fn):
        function.__name__ = function.__qualname__ = name
        _BLOCKS[function] = block
    return init_fn, apply_fn, kernel_fn


def _plain_shape(shape: Any) -> Any:
    """A shape, or nested lists of shapes, with tuples of int."""
    if all(not isinstance(n, list | tuple) for n in shape):
        return tuple(int(n) for n in shape)
    return type(shape)(_plain_shape(part) for part in shape)


def _refuse_masks(inputs: Any, mask_constant: Any) -> None:
    """Raise if the inputs contain the constant that stands for a masked entry."""
    if mask_constant is None:
        return
    for x in arrays.leaves(inputs):
        if arrays.is_traced(x):
            raise NotImplementedError("mask_constant: expected None inside jax.jit, where inputs cannot be looked at")
        x = arrays.as_numpy(x)
        if (np.isnan(x) if np.isnan(mask_constant) else x == mask_constant).any():
            raise NotImplementedError(
                f"mask_constant: expected inputs without {mask_constant!r}: fully connected networks have no masks"
            )


# ---- get ----------------------------------------------------------------------------------------------------------


def wanted(get: Any) -> tuple[bool, tuple[str, ...] | None]:
    """Whether `get` is a single name, and the names in lower case, None for everything."""
    if get is None:
        return False, None
    if not get:
        raise ValueError('"get": expected at least one name, got none')
    names = tuple(name.lower() for name in ((get,) if isinstance(get, str) else get))
    if len(set(names)) < len(names):
        raise ValueError(f'"get": expected different names, got {names}')
    return isinstance(get, str), names


@functools.lru_cache
def _named(kind: str, names: tuple[str, ...]) -> Any:
    """The named tuple class of these fields."""
    return namedtuple(kind, names)  # type: ignore[misc]


def selected(k: Any, kind: str, single: bool, names: tuple[str, ...] | None) -> Any:
    """What get asks for."""
    if names is None:
        return k
    found = k if isinstance(k, dict) else k.asdict()
    for name in names:
        if name not in found:
            raise ValueError(f'"get": expected names out of {", ".join(found)}, got {name!r}')
    values = [found[name] for name in names]
    return values[0] if single else _named(kind, names)(*values)
