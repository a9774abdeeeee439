"""Short reprs: objects that hold arrays show their shapes, not pages of numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np


def listed(items: Iterable[Any]) -> str:
    """The reprs of the items, separated by commas; a run of three or more equal parts as *[part] * count."""
    texts, parts, start = [*map(repr, items)], [], 0
    while start < len(texts):
        part, count = _run(texts, start)
        parts.append(f"*[{', '.join(part)}] * {count}" if count > 1 else texts[start])
        start += len(part) * count
    return ", ".join(parts)


def _run(texts: list[str], start: int) -> tuple[list[str], int]:
    """The part from `start` on whose repetitions go furthest, and their number: 1 if there are fewer than three."""
    best = texts[start : start + 1], 1
    for size in range(1, (len(texts) - start) // 3 + 1):
        part, count = texts[start : start + size], 1
        while texts[start + count * size : start + (count + 1) * size] == part:
            count += 1
        if count >= 3 and count * size > best[1] * len(best[0]):
            best = part, count
    return best


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
