"""Arrays of other libraries: JAX and PyTorch arrays become NumPy arrays of the same memory, results theirs again.

JAX is never imported here unless one of its arrays has come in. `operations(...)` has the functions that finite
networks are written in: NumPy's, or JAX's, so that `jit` and `grad` can trace them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import scipy

__all__ = [
    "as_numpy",
    "foremost",
    "in_float64",
    "is_array",
    "is_traced",
    "leaves",
    "listed",
    "mapped",
    "number",
    "operations",
    "origin",
    "restored",
]


def origin(value: object) -> str:
    """ "jax" or "torch" for their arrays, "numpy" for everything else."""
    root = type(value).__module__.partition(".")[0]
    return {"jax": "jax", "jaxlib": "jax", "torch": "torch"}.get(root, "numpy")


def is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or origin(value) != "numpy"


def is_traced(value: object) -> bool:
    """Whether JAX is tracing a function, so that there are no numbers."""
    return origin(value) == "jax" and isinstance(value, sys.modules["jax"].core.Tracer)


def as_numpy(value: Any) -> Any:
    """An array as a NumPy array, without a copy where there need be none."""
    if origin(value) == "torch":
        if value.device.type != "cpu":
            raise ValueError(f"x: expected an array on the CPU, got a tensor on {value.device}; .cpu() copies it")
        return np.from_dlpack(value.detach())
    return np.asarray(value)


def restored(result: Any, example: object) -> Any:
    """A NumPy array as an array of the library that `example` comes from."""
    kind = origin(example)
    if kind == "torch":
        return sys.modules["torch"].from_dlpack(np.ascontiguousarray(result))
    if kind == "jax":
        return sys.modules["jax"].numpy.asarray(result)
    return result


def number(value: Any, name: str) -> float:
    """A parameter of a layer."""
    if is_traced(value):
        raise TypeError(
            f"{name}: expected a number, got a value that JAX is tracing: kernels are differentiated with respect to "
            "points only here. nf.kernel_vjp has the derivatives with respect to standard deviations"
        )
    return float(value)


def leaves(tree: Any) -> list[Any]:
    """The leaves of nested lists and tuples, without None."""
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [] if tree is None else [tree]


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """function(leaf, *leaves of the others) for every leaf, in the same nested lists and tuples."""
    if isinstance(tree, list | tuple):
        branches = [mapped(function, *parts) for parts in zip(tree, *others, strict=True)]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return None if tree is None else function(tree, *others)


def listed(inputs: Any) -> Any:
    """Nested lists of numbers as an array; lists of arrays, the inputs of several branches, as they are."""
    return inputs if all(map(is_array, leaves(inputs))) else np.asarray(inputs)


def foremost(values: Sequence[object]) -> object:
    """An array of the library that results should have: the first that is not NumPy's, if there is one."""
    return next((value for value in values if origin(value) != "numpy"), None)


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy arrays from one of JAX's, which would round them to float32."""

    def of_numpy(*values: Any) -> Any:
        jax = sys.modules.get("jax")
        if jax is None:
            return function(*values)
        with jax.enable_x64() if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
            result = function(*values)
            return np.asarray(result) if origin(result) == "jax" else result

    of_numpy.__name__ = getattr(function, "__name__", type(function).__name__)
    return of_numpy


class NumPy:
    """What finite networks need of an array library, and the duals of truncated series in taylor.py."""

    concatenate = staticmethod(np.concatenate)
    reshape = staticmethod(np.reshape)
    sqrt = staticmethod(np.sqrt)
    space: Any = np
    erf: Any = staticmethod(scipy.special.erf)

    @staticmethod
    def mean(x: Any) -> Any:
        """Over the features."""
        return x.mean(axis=-1, keepdims=True)

    def elementwise(self, function: Any, x: Any) -> Any:
        return function.value(x, self.space, self.erf)


class JAX(NumPy):
    """The same of JAX."""

    def __init__(self) -> None:
        import jax

        import_module("jax.scipy.special")
        self.space, self.erf = jax.numpy, jax.scipy.special.erf
        self.concatenate, self.reshape, self.sqrt = jax.numpy.concatenate, jax.numpy.reshape, jax.numpy.sqrt


def operations(*values: object) -> NumPy:
    """The functions that suit these arrays."""
    return JAX() if any(origin(value) == "jax" for value in values) else NumPy()
