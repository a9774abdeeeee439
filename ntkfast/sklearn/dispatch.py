"""Arrays of other libraries in, arrays of the same library out, where scikit-learn dispatches on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._array_api import _convert_to_numpy, get_namespace, get_namespace_and_device

_Method = TypeVar("_Method", bound=Callable[..., Any])


def dispatched(method: _Method) -> _Method:
    """A method (self, X, ...) that computes with NumPy arrays and returns what X is: a tensor for a tensor.

    Only under `sklearn.set_config(array_api_dispatch=True)`; else scikit-learn converts to NumPy, as it always does.
    """

    @wraps(method)
    def wrapped(self: Any, X: Any, *others: Any, **named: Any) -> Any:
        xp, _, device = get_namespace_and_device(X)
        given = [_as_numpy(array) for array in (X, *others)]
        result = method(self, *given, **{name: _as_numpy(array) for name, array in named.items()})
        if device is None or given[0] is X:
            return result
        if isinstance(result, tuple):
            return tuple(xp.asarray(part, device=device) for part in result)
        is_number = isinstance(result, np.ndarray) and result.dtype.kind in "biuf"  # not self, nor names of classes
        return xp.asarray(result, device=device) if is_number else result

    return wrapped  # type: ignore[return-value]


def _as_numpy(array: Any) -> Any:
    """NumPy's array of the same numbers; anything that is no array of another library as it is."""
    if not hasattr(array, "__dlpack__") or isinstance(array, np.ndarray):
        return array
    xp, is_dispatched = get_namespace(array)
    return _convert_to_numpy(array, xp) if is_dispatched else array
