"""Checks of scalar arguments and of rng."""

from __future__ import annotations

import math
import numbers

import numpy as np

from ntkfast.support.typing import Seed


def finite_number(value: object, name: str) -> float:
    """value as a float; errors name the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        value = float(value)
    except OverflowError:  # an integer beyond float64
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return value


def positive_number(value: object, name: str) -> float:
    value = finite_number(value, name)
    if value <= 0:
        raise ValueError(f"{name}: expected a number > 0, got {value!r}")
    return value


def non_negative_number(value: object, name: str) -> float:
    value = finite_number(value, name)
    if value < 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value!r}")
    return value


def positive_integer(value: object, name: str) -> int:
    return _integer(value, name, 1)


def non_negative_integer(value: object, name: str) -> int:
    return _integer(value, name, 0)


def _integer(value: object, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")
    return int(value)


def rate_below_one(value: object, name: str) -> float:
    value = finite_number(value, name)
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value!r}")
    return value


def generator(rng: Seed) -> np.random.Generator:
    """The numpy.random.Generator for an argument rng."""
    if not (rng is None or isinstance(rng, numbers.Integral | np.random.Generator)) or isinstance(rng, bool):
        raise TypeError(f"rng: expected None, an integer or a numpy.random.Generator, got {type(rng).__name__}")
    if isinstance(rng, numbers.Integral) and rng < 0:
        raise ValueError(f"rng: expected an integer >= 0, got {rng}")
    return np.random.default_rng(rng)
