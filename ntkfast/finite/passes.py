"""Forward and backward passes of networks of finite width.

A network's nested layers are compiled once to a flat list of steps. `forward` walks it and may keep a tape, `backward`
walks the tape in reverse, for any number of outputs at once; Jacobian products, tangent kernels and training are all
made of these two. `tangent` is the forward derivative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ntkfast.finite import blas
from ntkfast.networks import Activation, Dense, Dropout, LayerNorm
from ntkfast.support import arrays

BLOCK = 2**16  # entries that an activation sees at once, so that its temporaries stay in cache
PASS_BYTES = 2**27  # what the activations of one block of points may take where points are treated in blocks


class Step(NamedTuple):
    """One of "dense" (argument: its number), "activation", "norm", "dropout" (rate), "push" and "add" (scale).

    A residual block x + scale body(x) is push, body, add: push keeps x on a stack, add takes it from there.
    """

    kind: str
    argument: object = None


def steps_of(layers) -> tuple[Step, ...]:
    """The layers of a network as one flat list."""
    steps, n_dense = [], 0

    def walk(layers):
        nonlocal n_dense
        for layer in layers:
            if isinstance(layer, Dense):
                steps.append(Step("dense", n_dense))
                n_dense += 1
            elif isinstance(layer, Activation):
                steps.append(Step("activation", layer))
            elif isinstance(layer, LayerNorm):
                steps.append(Step("norm"))
            elif isinstance(layer, Dropout):
                steps.append(Step("dropout", layer.rate))
            else:
                steps.append(Step("push"))
                walk(layer.layers)
                steps.append(Step("add", layer.scale))

    walk(layers)
    return tuple(steps)


# ---- one step, forward ---------------------------------------------------------------------------------------


def affine(f, layer, x):
    """The pre-activations s W x + β b of a Dense."""
    weight, bias = f.weights[layer], f.biases[layer]
    z = np.empty((len(x), len(weight)), x.dtype)
    if bias is not None:
        z[:] = f.bias_scales[layer] * bias
    return blas.product(x, weight.T, f.weight_scales[layer], 0.0 if bias is None else 1.0, z)


def _activate(activation, z):
    out = np.empty_like(z)
    entries, results = z.reshape(-1), out.reshape(-1)
    for start in range(0, z.size, BLOCK):
        results[start : start + BLOCK] = activation.function(entries[start : start + BLOCK])
    return out


def _normalise(x):
    """(x - mean)/std over the features, and 1/std of every point; a point that is constant to rounding becomes 0.

    The largest feature is made 1 first: no square leaves the range of the dtype, constant features become exactly 0. So
    do those whose std is below the smallest normal number: 1/std is finite.
    """
    limits = np.finfo(x.dtype)
    size = np.abs(x).max(axis=1, keepdims=True)
    y = x / np.where(size == 0, 1, size)
    y -= y.mean(axis=1, keepdims=True)
    std = np.sqrt(np.einsum("ij,ij->i", y, y) / x.shape[1])[:, None]
    varies = (std > limits.eps) & (std * size >= limits.tiny)
    inverse = np.divide(1, std, out=np.zeros_like(std), where=varies)
    y *= inverse
    return y, np.divide(inverse, size, out=inverse, where=varies)


# ---- passes --------------------------------------------------------------------------------------------------


def forward(f, X, tape=None, rng=None):
    """The outputs (N, k) at X, which is a C-contiguous array of f's dtype.

    tape: a list that gets, for every step, what `backward` and `tangent` need. rng: draws dropout masks; None leaves
    dropout out.
    """
    x, stack = X, []
    for kind, argument in f.steps:
        kept = None
        if kind == "dense":
            kept, x = x, affine(f, argument, x)
        elif kind == "activation":
            kept, x = x, _activate(argument, x)
        elif kind == "norm":
            x, inverse = _normalise(x)
            kept = x, inverse
        elif kind == "dropout":
            if rng is not None:
                kept = (rng.random(x.shape, dtype=x.dtype) >= argument) * x.dtype.type(1 / (1 - argument))
                x = x * kept
        elif kind == "push":
            stack.append(x)
        else:
            x = stack.pop() + x if argument == 1 else stack.pop() + x.dtype.type(argument) * x
        if tape is not None:
            tape.append(kept)
    return x


def backward(f, tape, g, wanted):
    """Walk back from g = ∂(something)/∂f; yield (layer, its inputs, its g) for every Dense with wanted[layer].

    g, of shape (m, N, k), or (m, 1, k) if it is the same at all points, are m derivatives at once; so are those that
    are yielded, (m, N, n_out) or (m, 1, n_out): derivatives by the pre-activations s W x + β b. A layer's weights are
    not needed any more once it is yielded: training changes them there. The tape is used up, which frees its arrays.
    """
    first = min((step for step, (kind, k) in enumerate(f.steps) if kind == "dense" and wanted[k]), default=len(f.steps))
    stack = []
    for step, (kind, argument) in reversed(tuple(enumerate(f.steps))):
        kept = tape.pop()
        if kind == "dense":
            here, weight = g, f.weights[argument]
            if step > first:
                flat = np.ascontiguousarray(g).reshape(-1, g.shape[2])
                g = blas.product(flat, weight, f.weight_scales[argument]).reshape(*g.shape[:2], -1)
            if wanted[argument]:
                yield argument, kept, here
            if step <= first:
                return
        elif kind == "activation":
            if g.shape[1] != len(kept):
                g = np.repeat(g, len(kept), axis=1)
            _multiply_by_slope(argument, kept, g)
        elif kind == "norm":
            g = _through_norm(*kept, g)
        elif kind == "dropout":
            g = g if kept is None else g * kept
        elif kind == "add":
            stack.append(g)
            g = g if argument == 1 else g.dtype.type(argument) * g
        else:
            g = g + stack.pop()


def tangent(f, tape, weights, biases):
    """J v at the points of the tape, (N, k), for a direction v in the space of parameters.

    weights, biases: lists like f's, with None for zero.
    """
    t, stack = None, []  # None: zero so far
    for (kind, argument), kept in zip(f.steps, tape, strict=True):
        if kind == "dense":
            s, dense = f.weight_scales[argument], weights[argument]
            x, t = t, np.zeros((len(kept), len(f.weights[argument])), kept.dtype)
            if x is not None:
                blas.product(x, f.weights[argument].T, s, 0.0, t)
            if dense is not None:
                blas.product(kept, dense.T, s, 1.0, t)
            if biases[argument] is not None:
                t += f.bias_scales[argument] * biases[argument]
        elif kind == "activation":
            _multiply_by_slope(argument, kept, t[None])
        elif kind == "norm":
            t = _through_norm(*kept, t[None])[0]
        elif kind == "dropout":
            t = t if kept is None or t is None else t * kept
        elif kind == "push":
            stack.append(t.copy())
        else:
            t = stack.pop() + t.dtype.type(argument) * t
    return t


def _multiply_by_slope(activation, z, g):
    """g (m, N, n) ← g σ'(z), in place."""
    entries, results = z.reshape(-1), g.reshape(len(g), -1)
    for start in range(0, z.size, BLOCK):
        results[:, start : start + BLOCK] *= activation.derivative(entries[start : start + BLOCK])


def _through_norm(y, inverse, g):
    """The derivative of (x - mean)/std, a symmetric matrix: (g - mean(g) - y mean(g y))/std."""
    product = g * y
    g = g - g.mean(axis=2, keepdims=True)
    g = g - y * product.mean(axis=2, keepdims=True)
    g *= inverse
    return g


# ---- what is made of them ------------------------------------------------------------------------------------


def trained(f):
    """For each Dense whether gradient descent moves any of its parameters."""
    return [weight_lr > 0 or bias_lr > 0 for weight_lr, bias_lr in zip(f.weight_lrs, f.bias_lrs, strict=True)]


def identity(f):
    """What `backward` starts from to get the derivatives of each output."""
    return np.eye(f.n_outputs, dtype=f.dtype)[:, None]


def blocks(f, n):
    """Slices of n points whose passes take about PASS_BYTES each."""
    per_point = f.weights[0].itemsize * 3 * sum(map(len, f.weights))
    return arrays.blocks(n, max(1, PASS_BYTES // per_point))
