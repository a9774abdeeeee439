"""How many units each Dense has, and the shapes of its weights.

Branches that are added or multiplied have the same width; those that are concatenated have shares of one. So the places
of a network fall into groups in which all widths are fixed multiples of one another: each group has one free number.
"""

from __future__ import annotations

import numbers
from fractions import Fraction

import numpy as np

from ntkfast.support.scalars import positive_integer

LARGEST_DENOMINATOR = 10**6  # of a share, which is a float


class Widths:
    """The places of a network, as its steps find them; see `Step.width`. A place is a number; 0 is the inputs.

    Each place refers to another one of its group, and has its width relative to that; the root refers to itself.
    """

    def __init__(self, steps):
        self._link = [(0, Fraction(1))]
        self.denses, self.inputs, self.norms = [], [], []  # places after and before each Dense, before each LayerNorm
        self.outputs = self.through(steps, 0)

    def through(self, steps, place):
        """The place after a sequence of steps."""
        for step in steps:
            place = step.width(place, self)
        return place

    def dense(self, place):
        """The place after the next Dense."""
        self.inputs.append(place)
        self.denses.append(self._new())
        return self.denses[-1]

    def normed(self, place):
        """The place after a LayerNorm."""
        self.norms.append(place)
        return place

    def same(self, places):
        """The place after branches of equal width."""
        for place in places[1:]:
            self._tie(place, places[0], Fraction(1))
        return places[0]

    def concatenated(self, places, shares):
        """The place after branches that have these shares of its width."""
        shares = [Fraction(share).limit_denominator(LARGEST_DENOMINATOR) for share in shares]
        total = self._new()
        for place, share in zip(places, shares, strict=True):
            self._tie(place, total, share / sum(shares))
        return total

    def root(self, place):
        """The root of the place's group, and the place's width relative to it."""
        ratio = Fraction(1)
        while self._link[place][0] != place:
            place, step = self._link[place]
            ratio *= step
        return place, ratio

    def widest(self, root):
        """The largest width in a group, relative to its root."""
        found = [self.root(place) for place in range(len(self._link))]
        return max(ratio for of, ratio in found if of == root)

    def _new(self):
        self._link.append((len(self._link), Fraction(1)))
        return len(self._link) - 1

    def _tie(self, place, other, ratio):
        """width(place) = ratio width(other)"""
        (root, one), (other_root, two) = self.root(place), self.root(other)
        if root != other_root:
            self._link[root] = other_root, ratio * two / one
        elif one != ratio * two:
            raise ValueError(
                "net: expected branches that can have equal widths, but the shares of concatenations make one of them "
                f"{one / (ratio * two)} times as wide as it must be"
            )


def shapes_of(steps, n_inputs, widths, n_outputs):
    """The shapes (n_out, n_in) of the weights. widths: as in `FiniteNetwork.init`."""
    places = Widths(steps)
    out, out_ratio = places.root(places.outputs)
    groups = [places.root(place) for place in places.denses]
    units = {places.root(0)[0]: Fraction(n_inputs), out: n_outputs / out_ratio}  # of the roots
    if widths is None:
        if any(root != out for root, _ in groups):
            raise TypeError("widths: expected a number, or one per hidden Dense, got None")
    elif isinstance(widths, numbers.Integral) and not isinstance(widths, bool):
        width = positive_integer(widths, "widths")
        for root, _ in groups:
            units.setdefault(root, width / places.widest(root))
    else:
        _take(_listed(widths, len(groups)), groups, units, out, n_outputs)

    def width(place):
        root, ratio = places.root(place)
        return ratio * units[root]

    shapes = [(width(place), width(before)) for place, before in zip(places.denses, places.inputs, strict=True)]
    for n_out, _ in shapes:
        if n_out.denominator != 1:
            raise ValueError(
                f"widths: expected numbers that the shares of concatenated branches divide into whole units, got "
                f"{n_out} units from {n_outputs if widths is None else widths!r}"
            )
    for place in places.norms:
        if width(place) < 2:
            raise ValueError(f"widths: expected at least 2 units before a LayerNorm, got {width(place)}")
    return [(int(n_out), int(n_in)) for n_out, n_in in shapes]


def _listed(widths, depth):
    """One number for each Dense except the last."""
    if isinstance(widths, str | set | frozenset | dict) or not np.iterable(widths):
        raise TypeError(f"widths: expected a number, or one per hidden Dense, got {type(widths).__name__}")
    widths = [positive_integer(width, f"widths[{k}]") for k, width in enumerate(widths)]
    if len(widths) != depth - 1:
        raise ValueError(f"widths: expected a number, or {depth - 1}, one per hidden Dense, got {len(widths)}")
    return widths


def _take(widths, groups, units, out, n_outputs):
    """Put the widths of the groups' roots that follow from `widths` into units; raise if two of them contradict."""
    first = {out: f"n_outputs={n_outputs}"}  # what fixed each group
    for k, (width, (root, ratio)) in enumerate(zip(widths, groups, strict=False)):
        expected = ratio * units.setdefault(root, width / ratio)
        if width != expected:
            raise ValueError(
                f"widths[{k}]: expected {expected} to go with {first[root]}, as branches join the two, got {width}"
            )
        first.setdefault(root, f"widths[{k}]={width}")
