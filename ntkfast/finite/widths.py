"""How many units each Dense has, and the shapes of its weights."""

from __future__ import annotations

import numbers

import numpy as np

from ntkfast.support.scalars import positive_integer


def _same_width(steps):
    """For each Dense the first one that has its width: residual blocks add layers to one another."""
    first, stack, current = [], [], None
    for kind, argument in steps:
        if kind == "dense":
            first.append(argument)
            current = argument
        elif kind == "push":
            stack.append(current)
        elif kind == "add":
            one, other = sorted((first[stack.pop()], first[current]))
            first = [one if k == other else k for k in first]
    return first


def widths_of(steps, widths, n_outputs):
    """The number of units of each Dense."""
    first = _same_width(steps)
    depth = len(first)
    is_output = [k == first[-1] for k in first]
    if widths is None:
        if not all(is_output):
            raise TypeError("widths: expected a number, or one per hidden Dense, got None")
        widths = n_outputs
    if isinstance(widths, numbers.Integral) and not isinstance(widths, bool):
        width = positive_integer(widths, "widths")
        return [n_outputs if out else width for out in is_output]
    if isinstance(widths, str | set | frozenset | dict) or not np.iterable(widths):
        raise TypeError(f"widths: expected a number, or one per hidden Dense, got {type(widths).__name__}")
    widths = [positive_integer(width, f"widths[{k}]") for k, width in enumerate(widths)]
    if len(widths) != depth - 1:
        raise ValueError(f"widths: expected a number, or {depth - 1}, one per hidden Dense, got {len(widths)}")
    for k, width in enumerate(widths):
        if is_output[k] and width != n_outputs:
            raise ValueError(
                f"widths[{k}]: expected n_outputs={n_outputs}, as a residual block adds this layer to the outputs, "
                f"got {width}"
            )
        if width != widths[first[k]]:
            raise ValueError(
                f"widths[{k}]: expected {widths[first[k]]} as in widths[{first[k]}], as a residual block adds the two "
                f"layers, got {width}"
            )
    return [*widths, n_outputs]


def shapes_of(steps, n_inputs, widths):
    """The shapes (n_out, n_in) of the weights."""
    shapes, current, stack = [], n_inputs, []
    for kind, argument in steps:
        if kind == "dense":
            shapes.append((widths[argument], current))
            current = widths[argument]
        elif kind == "norm" and current < 2:
            raise ValueError("widths: expected at least 2 units before a LayerNorm, got 1")
        elif kind == "push":
            stack.append(current)
        elif kind == "add":
            current = stack.pop()
    return shapes
