"""Checks of array arguments other than points. Every message names the argument, what was expected and what came."""

import numpy as np

from ntkfast.engine import arrays


def finite_array(values, name, dtype):
    """values as a C-contiguous array of finite numbers of this dtype."""
    array = arrays.real(values, name)
    require(np.isfinite(array), array, name, "finite numbers")
    with np.errstate(over="ignore"):
        converted = np.asarray(array, dtype, order="C")
    if converted is not array:
        require(np.isfinite(converted), array, name, f"numbers within {np.dtype(dtype)}")
    return converted


def require(good, array, name, what):
    """Raise for the first entry that is not good."""
    bad = np.argwhere(~good)
    if len(bad):
        place = ", ".join(f"{axis} {k}" for axis, k in zip(("row", "column"), bad[0], strict=False))
        raise ValueError(f"{name}: expected {what}, got {array[tuple(bad[0])]} in {place}")
