"""A path in time as a solver of differential equations finds it: a polynomial on each of its steps."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.support.saved import Saved, checked_array
from ntkfast.support.typing import Array

HIGHEST = 12  # the highest degree of SciPy's interpolants, LSODA's


@functools.cache
def nodes(degree: int) -> NDArray[np.float64]:
    """Chebyshev points of the second kind in [-1, 1], ascending, both ends exact."""
    points: NDArray[np.float64] = np.sin(np.pi / 2 * (2 * np.arange(degree + 1) - degree) / degree)
    return points


@dataclass(frozen=True)
class Path(Saved):
    """Polynomials as their values at the `nodes` of each step, which are interpolated by the barycentric formula.

    SciPy's own interpolants are private classes, one for each method, which do not belong in files.
    """

    times: Array  # (S + 1,), the ends of the steps
    first: NDArray[np.int64]  # (S + 1,), where the values of each step begin
    values: Array  # (first[-1], n)

    @classmethod
    def constant(cls, value: Array) -> Path:
        """The path that stays at this value, (n,)."""
        return cls(np.array([0.0, 1.0]), np.array([0, 2], np.int64), np.stack([value, value]))

    @classmethod
    def of(cls, solution: Any, n: int) -> Path:
        """The first n unknowns of SciPy's `OdeSolution`."""
        ends = zip(solution.ts[:-1], solution.ts[1:], solution.interpolants, strict=True)
        parts = [_sampled(piece, float(start), float(end), n) for start, end, piece in ends]
        return cls(np.array(solution.ts), np.cumsum([0, *map(len, parts)], dtype=np.int64), np.concatenate(parts))

    @classmethod
    def rebuilt(cls, times: Any, first: Any, values: Any) -> Path:
        times = checked_array(times, (None,), "times", np.dtype(np.float64))
        first = checked_array(first, times.shape, "first", np.dtype(np.int64))
        values = checked_array(values, (None, None), "values", np.dtype(np.float64))
        if len(first) < 2 or first[0] != 0 or first[-1] != len(values) or (np.diff(first) < 2).any():
            raise ValueError("first: expected where the values of each step begin")
        return cls(times, first, values)

    def __call__(self, time: float) -> Array:
        """(n,)."""
        k = int(np.searchsorted(self.times, time, side="right").clip(1, len(self.times) - 1)) - 1
        start, end = self.times[k], self.times[k + 1]
        values = self.values[self.first[k] : self.first[k + 1]]
        x = nodes(len(values) - 1)
        distance = ((time - start) - (end - time)) / (end - start) - x
        hit = np.flatnonzero(distance == 0)
        if len(hit):
            return values[hit[0]].copy()
        weights = np.where(np.arange(len(x)) % 2, -1.0, 1.0) / distance
        weights[[0, -1]] /= 2
        return (weights @ values) / weights.sum()


@functools.cache
def _transform() -> Array:
    """From values at the nodes of the highest degree to Chebyshev coefficients."""
    inverse: Array = np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes(HIGHEST), HIGHEST))
    return inverse


def _sampled(piece: Any, start: float, end: float, n: int) -> Array:
    """A piece's values at as many nodes as its degree needs, (degree + 1, n)."""

    def at(degree: int) -> Array:
        x = nodes(degree)
        values: Array = piece((start * (1 - x) + end * (1 + x)) / 2)[:n].T
        return values

    values = at(HIGHEST)
    coefficients = _transform() @ values
    rounding = 16 * np.finfo(np.float64).eps * np.abs(values).max(axis=0)
    matter = np.flatnonzero((np.abs(coefficients) > rounding).any(axis=1))
    degree = int(matter.max(initial=1))
    return np.ascontiguousarray(values if degree == HIGHEST else at(degree))
