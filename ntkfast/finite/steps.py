"""What a network of finite width does with each layer: one step class per layer, forwards, backwards, and its width.

`steps_of` makes the steps of a sequence of layers; passes.py runs them. A step is an immutable value that holds no
arrays: f, the FiniteNetwork, has the weights, and what a step must keep for the backward pass goes on the tape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.finite import blas
from ntkfast.networks import Activation, Dense, Dropout, LayerNorm, Parallel, Residual, Scale
from ntkfast.networks.activations import NormalizedExponential

BLOCK = 2**16  # entries passed to an activation at once, so that its temporaries stay in cache

_MAKERS = {}  # layer class -> a function (layer, numbers of the Dense layers) ↦ step


def step_of(kind):
    """Decorator: `make` of this class makes the step of a layer of this kind."""

    def register(cls):
        _MAKERS[kind] = cls.make
        return cls

    return register


def steps_of(layers, numbers) -> tuple[Step, ...]:
    """The steps of a sequence of layers. numbers: an iterator over the numbers of its Dense layers."""
    steps = []
    for layer in layers:
        make = _MAKERS.get(type(layer))
        if make is None:
            raise TypeError(f"net: expected layers that finite networks have a step for, got {layer!r}")
        steps.append(make(layer, numbers))
    return tuple(steps)


class Step:
    """Base class of the steps."""

    overwrites = False  # whether `pull` and `push` write into the array that they are given

    @classmethod
    def make(cls, layer, numbers) -> Step:
        """The step of a layer; a Dense takes its number from the iterator `numbers`."""
        return cls()

    def width(self, current, widths):
        """The place after the step, from the one before it; `widths` is a `Widths` of widths.py."""
        return current

    def trains(self, wanted) -> bool:
        """Whether there is a Dense in it with wanted[its number]."""
        return False

    def forward(self, f, x, rng):
        """The step's outputs for x (N, n), and what it must keep. rng: draws dropout masks; None leaves dropout out."""
        raise NotImplementedError

    def backward(self, f, kept, g, wanted, below):
        """Generator: yield (number, inputs, g) of each Dense with wanted[number]; return the derivatives with respect
        to the step's inputs if `below`, else None.

        g (m, N, n), or (m, 1, n) if it is the same at all points: m derivatives with respect to the step's outputs.
        """
        yield from ()
        return self.pull(kept, g) if below else None

    def pull(self, kept, g):
        """The derivatives with respect to the inputs, for a step without parameters."""
        raise NotImplementedError

    def tangent(self, f, kept, t, weights, biases):
        """How the outputs move, (N, n), as the inputs move along t (None: they do not) and the parameters along weights
        and biases, lists like f's with None for zero.
        """
        return None if t is None else self.push(kept, t)

    def push(self, kept, t):
        """The tangent of a step without parameters. Most have symmetric derivatives."""
        return self.pull(kept, t[None])[0]


@step_of(Dense)
@dataclass(frozen=True)
class DenseStep(Step):
    """s W x + β b; keeps x."""

    number: int

    @classmethod
    def make(cls, layer, numbers):
        return cls(next(numbers))

    def width(self, current, widths):
        return widths.dense(current)

    def trains(self, wanted):
        return wanted[self.number]

    def forward(self, f, x, rng):
        return affine(f, self.number, x), x

    def backward(self, f, kept, g, wanted, below):
        here = g
        if below:  # before the layer is yielded: training changes its weights there
            flat = np.ascontiguousarray(g).reshape(-1, g.shape[2])
            g = blas.product(flat, f.weights[self.number], f.weight_scales[self.number])
            g = g.reshape(*here.shape[:2], -1)
        if wanted[self.number]:
            yield self.number, kept, here
        return g if below else None

    def tangent(self, f, kept, t, weights, biases):
        k = self.number
        s, result = f.weight_scales[k], np.zeros((len(kept), len(f.weights[k])), kept.dtype)
        if t is not None:
            blas.product(t, f.weights[k].T, s, 0.0, result)
        if weights[k] is not None:
            blas.product(kept, weights[k].T, s, 1.0, result)
        if biases[k] is not None:
            result += f.bias_scales[k] * biases[k]
        return result


def affine(f, number, x):
    """The pre-activations s W x + β b of a Dense."""
    z, bias = blas.product(x, f.weights[number].T, f.weight_scales[number]), f.biases[number]
    if bias is not None:  # afterwards: BLAS would take longer to accumulate
        z += x.dtype.type(f.bias_scales[number]) * bias
    return z


@step_of(Activation)
@dataclass(frozen=True)
class ActivationStep(Step):
    """σ, a block of entries at a time; keeps its inputs."""

    activation: Activation
    overwrites = True

    @classmethod
    def make(cls, layer, numbers):
        return cls(layer)

    def forward(self, f, x, rng):
        out = np.empty_like(x)
        entries, results = x.reshape(-1), out.reshape(-1)
        for start in range(0, x.size, BLOCK):
            results[start : start + BLOCK] = self.activation.function(entries[start : start + BLOCK])
        return out, x

    def pull(self, kept, g):
        if g.shape[1] != len(kept):
            g = np.repeat(g, len(kept), axis=1)
        entries, results = kept.reshape(-1), g.reshape(len(g), -1)
        for start in range(0, kept.size, BLOCK):
            results[:, start : start + BLOCK] *= self.activation.derivative(entries[start : start + BLOCK])
        return g


@step_of(NormalizedExponential)
@dataclass(frozen=True)
class NormalizedExponentialStep(Step):
    """y = s e(x/s), e an exponential s the root mean square of the features x; keeps what its derivative needs:

    ∂y_j/∂x_i = δ_ij e'_j + (x_i/s) (y_j/s - e'_j x_j/s)/n.
    """

    activation: Activation

    @classmethod
    def make(cls, layer, numbers):
        return cls(layer)

    def forward(self, f, x, rng):
        y, slope = self.activation.function(x), self.activation.derivative(x)
        std = np.sqrt(np.mean(np.square(x), axis=1, keepdims=True))
        z, ratio = (np.divide(a, std, out=np.zeros_like(a), where=std > 0) for a in (x, y))
        return y, (slope, z, (ratio - slope * z) / x.shape[1])

    def pull(self, kept, g):
        slope, z, mean = kept
        return g * slope + (g * mean).sum(axis=2, keepdims=True) * z

    def push(self, kept, t):
        slope, z, mean = kept
        return t * slope + (t * z).sum(axis=1, keepdims=True) * mean


@step_of(Scale)
@dataclass(frozen=True)
class ScaleStep(Step):
    """factor x."""

    factor: float

    @classmethod
    def make(cls, layer, numbers):
        return cls(layer.factor)

    def forward(self, f, x, rng):
        return x.dtype.type(self.factor) * x, None

    def pull(self, kept, g):
        return g.dtype.type(self.factor) * g


@step_of(LayerNorm)
@dataclass(frozen=True)
class LayerNormStep(Step):
    """scale (x - mean)/std over the features; keeps (x - mean)/std and scale/std. A point whose features are constant
    to rounding becomes 0.

    The features are first scaled so that the largest is 1: no square leaves the range of the dtype, and constant
    features become exactly 0. So do those whose std is below the smallest normal number, so that 1/std is finite.
    """

    scale: float

    @classmethod
    def make(cls, layer, numbers):
        return cls(layer.scale)

    def width(self, current, widths):
        return widths.normed(current)

    def forward(self, f, x, rng):
        limits = np.finfo(x.dtype)
        size = np.abs(x).max(axis=1, keepdims=True)
        y = x / np.where(size == 0, 1, size)
        y -= y.mean(axis=1, keepdims=True)
        std = np.sqrt(np.einsum("ij,ij->i", y, y) / x.shape[1])[:, None]
        varies = (std > limits.eps) & (std * size >= limits.tiny)
        inverse = np.divide(1, std, out=np.zeros_like(std), where=varies)
        y *= inverse
        inverse = np.divide(inverse, size, out=inverse, where=varies)
        if self.scale == 1:
            return y, (y, inverse)
        scale = x.dtype.type(self.scale)
        return scale * y, (y, scale * inverse)

    def pull(self, kept, g):
        """By a symmetric matrix: (g - mean(g) - y mean(g y)) scale/std."""
        y, inverse = kept
        product = g * y
        g = g - g.mean(axis=2, keepdims=True)
        g = g - y * product.mean(axis=2, keepdims=True)
        g *= inverse
        return g


@step_of(Dropout)
@dataclass(frozen=True)
class DropoutStep(Step):
    """x times a mask, which it keeps: None where dropout is left out."""

    rate: float
    overwrites = True  # without a mask it passes on the array it is given, to a step that may

    @classmethod
    def make(cls, layer, numbers):
        return cls(layer.rate)

    def forward(self, f, x, rng):
        if rng is None:
            return x, None
        mask = (rng.random(x.shape, dtype=x.dtype) >= self.rate) * x.dtype.type(1 / (1 - self.rate))
        return x * mask, mask

    def pull(self, kept, g):
        return g if kept is None else g * kept


# ---- branches --------------------------------------------------------------------------------------------------


@step_of(Parallel)
@dataclass(frozen=True)
class ParallelStep(Step):
    """Branches and what joins them; keeps the tape of each branch, and what `join` keeps."""

    branches: tuple[tuple[Step, ...], ...]
    join: Join

    @classmethod
    def make(cls, layer, numbers):
        branches = tuple(steps_of(branch, numbers) for branch in layer.branches)
        return cls(branches, JOINS[layer.how](layer.shares))

    def width(self, current, widths):
        return self.join.width([widths.through(branch, current) for branch in self.branches], widths)

    def trains(self, wanted):
        return any(step.trains(wanted) for branch in self.branches for step in branch)

    def forward(self, f, x, rng):
        tapes = [[] for _ in self.branches]
        outputs = [run(branch, f, x, tape, rng) for branch, tape in zip(self.branches, tapes, strict=True)]
        joined, kept = self.join.forward(outputs)
        return joined, (tapes, kept)

    def backward(self, f, kept, g, wanted, below):
        tapes, kept = kept
        parts = self.join.pull(kept, g, len(self.branches))
        total = None
        for branch, tape, part in reversed(list(zip(self.branches, tapes, parts, strict=True))):
            if part is g and branch and branch[-1].overwrites:
                part = part.copy()
            part = yield from run_back(branch, f, list(tape), part, wanted, below)
            if part is not None:
                total = part if total is None else total + part
        return total

    def tangent(self, f, kept, t, weights, biases):
        tapes, kept = kept
        parts = []
        for branch, tape in zip(self.branches, tapes, strict=True):
            start = t.copy() if t is not None and branch and branch[0].overwrites else t
            parts.append(run_tangent(branch, f, tape, start, weights, biases))
        return self.join.push(kept, parts)


@step_of(Residual)
class ResidualStep(ParallelStep):
    """The step of the Parallel that the block is."""

    @classmethod
    def make(cls, layer, numbers):
        return ParallelStep.make(layer.parallel, numbers)


@dataclass(frozen=True)
class Join:
    """How branches are joined. parts: one array per branch, outputs or tangents (N, n)."""

    shares: tuple[float, ...] | None

    def width(self, widths_of_branches, widths):
        return widths.same(widths_of_branches)


class Sum(Join):
    def forward(self, parts):
        return _total(parts), None

    def pull(self, kept, g, count):
        return [g] * count

    def push(self, kept, parts):
        return _total(parts)


class Product(Join):
    """Keeps the factors."""

    def forward(self, parts):
        return _product(parts), parts

    def pull(self, kept, g, count):
        return [g * _product(_others(kept, k)) for k in range(count)]

    def push(self, kept, parts):
        return _total([part * _product(_others(kept, k)) for k, part in enumerate(parts)])


class Concat(Join):
    """Keeps the features at which the branches begin, except the first."""

    def width(self, widths_of_branches, widths):
        return widths.concatenated(widths_of_branches, self.shares)

    def forward(self, parts):
        return np.concatenate(parts, axis=1), np.cumsum([part.shape[1] for part in parts])[:-1]

    def pull(self, kept, g, count):
        return [np.ascontiguousarray(part) for part in np.split(g, kept, axis=2)]

    def push(self, kept, parts):
        return np.concatenate(parts, axis=1)


JOINS = {"sum": Sum, "product": Product, "concat": Concat}


def _total(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _product(parts):
    product = parts[0]
    for part in parts[1:]:
        product = product * part
    return product


def _others(parts, k):
    return [*parts[:k], *parts[k + 1 :]]


# ---- sequences of steps ----------------------------------------------------------------------------------------


def run(steps, f, x, tape, rng):
    """Run x through the steps; tape: None, or a list that gets what each step keeps."""
    for step in steps:
        x, kept = step.forward(f, x, rng)
        if tape is not None:
            tape.append(kept)
    return x


def run_back(steps, f, tape, g, wanted, below):
    """Generator, as `Step.backward` for all steps. The tape is consumed, which frees its arrays."""
    needed = [below]  # whether derivatives with respect to the inputs of each step are
    for step in steps:
        needed.append(needed[-1] or step.trains(wanted))
    if not needed[-1]:
        return None
    for step, here in zip(reversed(steps), needed[-2::-1], strict=True):
        g = yield from step.backward(f, tape.pop(), g, wanted, here)
        if not here:
            return None
    return g


def run_tangent(steps, f, tape, t, weights, biases):
    """Push t through the steps, as `Step.tangent`."""
    for step, kept in zip(steps, tape, strict=True):
        t = step.tangent(f, kept, t, weights, biases)
    return t
