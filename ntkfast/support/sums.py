"""Sums in an order that only the number of terms determines: they are added up in groups, then the groups.

One machine and any number of workers thus get the same bits, and workers add up the groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice, pairwise
from typing import TypeAlias

import numpy as np

from ntkfast.support.typing import Array

Arrays: TypeAlias = tuple[Array, ...]

PARTS = 64  # at most
GROUP = 8  # terms


def parts(size: int, least: int = 1) -> list[slice]:
    """`size` things in equal ranges: 64, or a smaller power of two, so that each has at least `least` if possible."""
    count = min(PARTS, 1 << max(0, (size // least).bit_length() - 1))
    return [slice(*ends) for ends in pairwise(size * k // count for k in range(count + 1))]


def in_groups(terms: Iterable[Arrays]) -> Arrays:
    """The sum of all terms, group by group."""
    rest = iter(terms)
    return total(total(chain([first], islice(rest, GROUP - 1))) for first in rest)


def total(terms: Iterable[Arrays]) -> Arrays:
    """The sum of one term or more, from left to right, in the memory of the first."""
    rest = iter(terms)
    result = tuple(np.require(array, requirements="W") for array in next(rest))
    for term in rest:
        for sum_, array in zip(result, term, strict=True):
            sum_ += array
    return result
