"""What a layer of stax is made of.

A Block knows its parameters, its values at finite width and what it does to a Kernel. `kernel` is written once and
walked in two ways. A `Draft`, a Kernel without points, collects layers of ntkfast: if the whole network can be written
in them, the engine computes its kernels in one pass. If not, or if a Kernel was passed in, the same walk runs over
matrices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ntkfast.engine.duals import dual_matrices, duals
from ntkfast.networks import Network, Parallel, Scale
from ntkfast.neural_tangents import arrays
from ntkfast.neural_tangents.kernel import Kernel

__all__ = [
    "Block",
    "Draft",
    "NotInLayers",
    "activated",
    "drafted",
    "flags",
    "forked",
    "has_dropout",
    "joined",
    "then",
    "too_many_axes",
]


class NotInLayers(Exception):
    """A block that ntkfast has no layer for: the walk is repeated over matrices."""


@dataclass(frozen=True)
class Program:
    """Layers of ntkfast since the fork that they begin at, None for the inputs."""

    layers: tuple[Any, ...] = ()
    fork: Program | None = None


@dataclass(frozen=True, eq=False)
class Draft(Kernel):
    """The kernel of no points at all, with the layers that they would have gone through."""

    program: Program = field(default_factory=Program)


class Block:
    """Base class of the blocks, which are immutable. x, k and shape may be lists of such, as FanOut makes them."""

    def init(self, key: Any, shape: Any) -> tuple[Any, Any]:
        """The shape of the outputs, and random parameters."""
        return shape, ()

    def apply(self, params: Any, x: Any, ops: arrays.NumPy, key: Any) -> Any:
        """The outputs of a finite network. key: draws the masks of Dropout."""
        return x

    def kernel(self, k: Any) -> Any:
        """The Kernel of the outputs."""
        return k

    def unrolled(self, params: Any, k: Any, parts: list[Any]) -> Any:
        """The Draft after the block at finite width; the (weights, biases) of each Dense are added to parts."""
        return self.kernel(k)


def then(k: Any, layer: Any) -> Any:
    """A Draft after one more layer of ntkfast, which is None if there is none; other kernels as they are."""
    if not isinstance(k, Draft):
        return k
    if layer is None:
        raise NotInLayers
    return k.replace(program=Program((*k.program.layers, layer), k.program.fork))


def forked(k: Any) -> Any:
    """A Draft at the beginning of a branch."""
    return k.replace(program=Program((), k.program)) if isinstance(k, Draft) else k


def joined(k: Kernel, ks: Sequence[Any], how: str, shares: Any = None) -> Kernel:
    """k, made of the arrays of the branches ks, with their layers if they are Drafts."""
    if not all(isinstance(branch, Draft) for branch in ks):
        if len(ks) > 1:
            warnings.warn("branches of a Kernel are taken to be independent: all but one need a Dense", stacklevel=4)
        return k
    programs = [branch.program for branch in ks]
    fork = programs[0].fork
    if fork is None or any(program.fork is not fork for program in programs):
        raise NotInLayers  # branches of several inputs
    layers = programs[0].layers
    if not any(program.layers for program in programs):  # copies of one input
        if how == "product":
            raise ValueError("FanInProd: expected independent branches of the product, got copies of one input")
        layers = (Scale(len(programs)),) if how == "sum" else ()
    elif len(programs) > 1:
        layers = (Parallel(*[list(program.layers) for program in programs], how=how, shares=shares),)
    return k.replace(program=Program((*fork.layers, *layers), fork.fork))


def activated(k: Kernel, activation: Any) -> Kernel:
    """E[φφ] of all covariances, and ntk times E[φ'φ']."""
    q1, q2 = k.variances()
    value, slope = dual_matrices(activation, q1, q2, k.nngp)
    covariances = {}
    for name, q in (("cov1", q1), ("cov2", q2)):
        cov = getattr(k, name)
        if cov is not None:
            own, own_slope = duals(activation, q, q, q)
            covariances[name] = own
            if not k.diagonal_batch:
                covariances[name] = dual_matrices(activation, q, q, cov)[0]
                np.fill_diagonal(covariances[name], own)
            if name == "cov1" and k.cov2 is None:  # the points themselves, where rounding of ρ = 1 would tell
                np.fill_diagonal(value, own)
                np.fill_diagonal(slope, own_slope)
    return k.replace(nngp=value, ntk=None if k.ntk is None else k.ntk * slope, **covariances)


def drafted(
    walk: Callable[[Any], Any],
    shape1: tuple[int, ...],
    shape2: tuple[int, ...] | None = None,
    with_ntk: bool = True,
    full: bool = False,
) -> Draft:
    """What a walk makes of the Draft of points of these shapes; NotInLayers if its outputs are several."""
    empty = np.zeros((0, 0))
    cov = empty if full else np.zeros(0)
    found = flags(shape1, shape2 or shape1, full)
    end = walk(Draft(empty, empty if with_ntk else None, cov, None if shape2 is None else cov, **found))
    if not isinstance(end, Draft) or end.program.fork is not None:
        raise NotInLayers
    return end


def flags(shape1: tuple[int, ...], shape2: tuple[int, ...], full: bool) -> dict[str, Any]:
    """The fields of the Kernel of inputs that are not arrays."""
    return {
        "x1_is_x2": False,
        "is_gaussian": False,
        "is_reversed": False,
        "is_input": False,
        "diagonal_batch": not full,
        "diagonal_spatial": False,
        "shape1": shape1,
        "shape2": shape2,
        "batch_axis": 0,
        "channel_axis": 1,
    }


def has_dropout(net: Network) -> bool:
    """Whether there is Dropout anywhere in it."""
    return any(hasattr(layer, "rate") for layer in net.walk())


def too_many_axes(name: str, shape: Any) -> NotImplementedError:
    return NotImplementedError(
        f"{name}: expected values of two axes, of points and of features, got shape {shape}; put Flatten() before it. "
        "There are no convolutions and no spatial axes here"
    )
