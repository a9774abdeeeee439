"""Kernels with a pair of axes for each axis of the outputs, (n, m, a, b, ...), as matrices, and values as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Axes: TypeAlias = int | Sequence[int]

__all__ = ["Axes", "Layout", "as_matrix", "positive", "zipped"]


def positive(axes: Axes, n: int, name: str = "trace_axes") -> tuple[int, ...]:
    """Axes as numbers from 0 in ascending order."""
    listed = [axes] if isinstance(axes, int | np.integer) else list(axes)
    if any(not -n <= axis < n for axis in listed):
        raise ValueError(f"{name}: expected axes of outputs of {n} axes, got {axes!r}")
    return tuple(sorted({axis % n for axis in listed}))


def as_matrix(K: Any) -> Any:
    """(n, m, a, b, ...) as (n a ..., m b ...)."""
    if K.ndim % 2:
        raise ValueError(f"k: expected a kernel with pairs of axes, got shape {K.shape}")
    rows, columns = K.shape[::2], K.shape[1::2]
    order = (*range(0, K.ndim, 2), *range(1, K.ndim, 2))
    return K.transpose(order).reshape(math.prod(rows), math.prod(columns))


def zipped(matrix: Any, rows: Sequence[int], columns: Sequence[int]) -> Any:
    """The reverse of `as_matrix`; leading axes are kept."""
    lead, k = matrix.shape[:-2], len(rows)
    n = len(lead)
    order = [n + i + side * k for i in range(k) for side in (0, 1)]
    return matrix.reshape(*lead, *rows, *columns).transpose(*range(n), *order)


@dataclass(frozen=True)
class Layout:
    """Outputs of a shape, of which the kernel lacks the trace axes, so that these are independent of one another."""

    shape: tuple[int, ...]
    trace_axes: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes that the kernel has."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.trace_axes)

    def columns(self, values: Any, points: Sequence[int] | None = None) -> Any:
        """Values (..., of this shape) as (rows of the kernel's matrix, outputs). points: sizes of the kept axes."""
        shape = self.full(points)
        values = np.broadcast_to(values, shape)
        n = math.prod(shape[axis] for axis in self.kept)
        return values.transpose(*self.kept, *self.trace_axes).reshape(n, -1)

    def full(self, points: Sequence[int] | None = None) -> tuple[int, ...]:
        """The shape of outputs whose kept axes have these sizes."""
        if points is None:
            return self.shape
        sizes = dict(zip(self.kept, points, strict=True))
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape))

    def values(self, columns: Any, points: Sequence[int] | None = None) -> Any:
        """The reverse of `columns`; leading axes are kept."""
        shape, lead = self.full(points), columns.shape[:-2]
        order = (*self.kept, *self.trace_axes)
        moved = columns.reshape(*lead, *[shape[axis] for axis in order])
        n = len(lead)
        return moved.transpose(*range(n), *[n + order.index(axis) for axis in range(len(shape))])
