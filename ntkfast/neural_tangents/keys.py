"""Random keys: JAX's, with its own generator and hence its numbers, or integers, NumPy's generators and None."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ntkfast.neural_tangents.arrays import origin

__all__ = ["bernoulli", "key_of", "normal", "split"]


def key_of(rng: Any) -> Any:
    """A key from what users pass as one: a JAX key, an integer, a generator (which is advanced), or None."""
    if isinstance(rng, np.random.SeedSequence) or origin(rng) == "jax":
        return rng
    if isinstance(rng, np.random.Generator):
        return np.random.SeedSequence(int(rng.integers(2**63)))
    if rng is None or (isinstance(rng, numbers.Integral) and not isinstance(rng, bool)):
        return np.random.SeedSequence(None if rng is None else int(rng))
    if isinstance(rng, np.ndarray) and rng.dtype.kind == "u":  # a JAX key that was converted
        return np.random.SeedSequence(rng.ravel().tolist())
    raise TypeError(f"rng: expected a JAX key, an integer, a numpy.random.Generator or None, got {type(rng).__name__}")


def split(key: Any, n: int = 2) -> Sequence[Any]:
    """n independent keys."""
    if origin(key) == "jax":
        return list(sys.modules["jax"].random.split(key, n))
    state = key.generate_state(4).tolist()  # not spawn(): it changes the key, and spawned keys grow with each split
    return [np.random.SeedSequence([*state, k]) for k in range(n)]


def normal(key: Any, shape: tuple[int, ...]) -> Any:
    """Numbers from N(0, 1)."""
    if origin(key) == "jax":
        return sys.modules["jax"].random.normal(key, shape)
    return np.random.default_rng(key).standard_normal(shape)


def bernoulli(key: Any, p: float, shape: tuple[int, ...]) -> Any:
    """True with probability p."""
    if origin(key) == "jax":
        return sys.modules["jax"].random.bernoulli(key, p, shape)
    return np.random.default_rng(key).random(shape) < p
