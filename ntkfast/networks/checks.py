"""Checks of scalar arguments, for the constructors of networks."""

import math
import numbers


def finite_number(value, name):
    """value as a float; TypeError or ValueError name the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        value = float(value)
    except OverflowError:  # an integer beyond float64
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return value


def positive_number(value, name):
    value = finite_number(value, name)
    if value <= 0:
        raise ValueError(f"{name}: expected a number > 0, got {value!r}")
    return value


def non_negative_number(value, name):
    value = finite_number(value, name)
    if value < 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value!r}")
    return value


def positive_integer(value, name):
    return _integer(value, name, 1)


def non_negative_integer(value, name):
    return _integer(value, name, 0)


def _integer(value, name, least):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")
    return int(value)


def rate_below_one(value, name):
    value = finite_number(value, name)
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value!r}")
    return value
