"""Taylor series of networks along a line of parameters, for linearize and taylor_expand.

A Series is a polynomial in one variable, cut off at a degree, whose coefficients are arrays. Networks are evaluated on
them as on arrays, with `operations` of the same names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.neural_tangents.arrays import NumPy

__all__ = ["Series", "SeriesOperations"]


@dataclass(frozen=True, eq=False)
class Series:
    """Σ_k terms[k] ε^k up to the degree len(terms) - 1."""

    terms: tuple[Any, ...]

    __array_ufunc__ = None  # so that arrays leave operations with a Series to it

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.terms[0].shape
        return shape

    @property
    def dtype(self) -> Any:
        return self.terms[0].dtype

    @property
    def degree(self) -> int:
        return len(self.terms) - 1

    def each(self, function: Any) -> Series:
        """A linear function of all terms."""
        return Series(tuple(function(term) for term in self.terms))

    def _other(self, other: Any) -> tuple[Any, ...]:
        return other.terms if isinstance(other, Series) else (other, *[None] * self.degree)

    def __add__(self, other: Any) -> Series:
        pairs = zip(self.terms, self._other(other), strict=True)
        return Series(tuple(a if b is None else a + b for a, b in pairs))

    __radd__ = __add__

    def __neg__(self) -> Series:
        return self.each(np.negative)

    def __sub__(self, other: Any) -> Series:
        return self + (-other)

    def _product(self, other: Any, product: Any) -> Series:
        terms = self._other(other)
        return Series(
            tuple(
                sum(product(self.terms[j], terms[k - j]) for j in range(k + 1) if terms[k - j] is not None)
                for k in range(len(self.terms))
            )
        )

    def __mul__(self, other: Any) -> Series:
        return self._product(other, np.multiply)

    __rmul__ = __mul__

    def __matmul__(self, other: Any) -> Series:
        return self._product(other, np.matmul)

    def __rmatmul__(self, other: Any) -> Series:
        return self.each(lambda term: other @ term)

    def __truediv__(self, other: Any) -> Series:
        if not isinstance(other, Series):
            return self.each(lambda term: term / other)
        found: list[Any] = []  # self = quotient * other, term by term
        for k in range(len(self.terms)):
            rest = self.terms[k] - sum(found[j] * other.terms[k - j] for j in range(k))
            found.append(rest / other.terms[0])
        return Series(tuple(found))

    def composed(self, derivatives: list[Any]) -> Series:
        """φ of the series, from φ and its derivatives at the first term: Σ_k φ⁽ᵏ⁾/k! h^k by Horner's rule."""
        moved = Series((np.zeros_like(self.terms[0]), *self.terms[1:]))
        result = Series((derivatives[-1] / math.factorial(self.degree), *[0.0 * self.terms[0]] * self.degree))
        for k in range(self.degree - 1, -1, -1):
            result = result * moved + derivatives[k] / math.factorial(k)
        return result


class SeriesOperations(NumPy):
    """What networks need, of Series."""

    @staticmethod
    def concatenate(parts: Any, axis: int) -> Any:
        if not isinstance(parts[0], Series):
            return np.concatenate(parts, axis)
        columns = zip(*(part.terms for part in parts), strict=True)
        return Series(tuple(np.concatenate(column, axis) for column in columns))

    @staticmethod
    def reshape(x: Any, shape: Any) -> Any:
        return x.each(lambda term: term.reshape(shape)) if isinstance(x, Series) else x.reshape(shape)

    @staticmethod
    def mean(x: Any) -> Any:
        return x.each(NumPy.mean) if isinstance(x, Series) else NumPy.mean(x)

    @staticmethod
    def sqrt(x: Any) -> Any:
        if not isinstance(x, Series):
            return np.sqrt(x)
        found = [np.sqrt(x.terms[0])]  # from the square of the root
        for k in range(1, len(x.terms)):
            rest = x.terms[k] - sum(found[j] * found[k - j] for j in range(1, k))
            found.append(rest / (2 * found[0]))
        return Series(tuple(found))

    def elementwise(self, function: Any, x: Any) -> Any:
        if not isinstance(x, Series):
            return super().elementwise(function, x)
        return x.composed(function.series(x.terms[0], x.degree))
