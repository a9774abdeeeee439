"""Short reprs: objects that hold arrays show their shapes, not pages of numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


def short(self: Any) -> str:
    """A __repr__ for dataclasses and named tuples: arrays by dtype and shape, long lists by their length."""
    if dataclasses.is_dataclass(self):
        names = [field.name for field in dataclasses.fields(self) if field.repr]
    else:
        names = self._fields
    return f"{type(self).__name__}({', '.join(f'{name}={_shown(getattr(self, name))}' for name in names)})"


def brief(value: object) -> str:
    """Of a wrong argument, for messages: an array passed by mistake must not fill the screen."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}"
    if hasattr(value, "_brief"):  # values with a short form of their own
        return str(value._brief())
    if isinstance(value, list) and len(value) > 3:
        return f"list of {len(value)}"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
