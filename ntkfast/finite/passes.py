"""Forward and backward passes of networks of finite width.

A network's layers are compiled to steps once (steps.py). `forward` walks them and may keep a tape, `backward` walks the
tape in reverse, for any number of outputs at once; Jacobian products, tangent kernels and training all use these two.
`tangent` is the forward derivative.
"""

from __future__ import annotations

import numpy as np

from ntkfast.finite import steps
from ntkfast.support import arrays

PASS_BYTES = 2**27  # for the activations of one block of points, where points are processed in blocks


def forward(f, X, tape=None, rng=None):
    """The outputs (N, k) at X, which is a C-contiguous array of f's dtype.

    tape: a list that gets, for every step, what `backward` and `tangent` need. rng: draws dropout masks; None leaves
    dropout out.
    """
    return steps.run(f.steps, f, X, tape, rng)


def backward(f, tape, g, wanted):
    """Walk back from g = ∂(something)/∂f; yield (layer, its inputs, its g) for every Dense with wanted[layer].

    g, of shape (m, N, k), or (m, 1, k) if it is the same at all points, holds m derivatives at once; so do the yielded
    arrays, (m, N, n_out) or (m, 1, n_out): derivatives with respect to the pre-activations s W x + β b. Once a layer
    has been yielded, its weights are no longer needed: training changes them there. The tape is consumed, which frees
    its arrays.
    """
    yield from steps.run_back(f.steps, f, tape, g, wanted, below=False)


def tangent(f, tape, weights, biases):
    """J v at the points of the tape, (N, k), for a direction v in the space of parameters.

    weights, biases: lists like f's, with None for zero.
    """
    return steps.run_tangent(f.steps, f, tape, None, weights, biases)


def taped(f, X):
    """Yield (rows, outputs, tape) of forward passes that keep their tapes, for blocks of the points X.

    A tape is emptied before the next one is made.
    """
    for rows in blocks(f, len(X)):
        tape = []
        yield rows, forward(f, X[rows], tape), tape
        tape.clear()


# ---- helpers -------------------------------------------------------------------------------------------------


def trained(f):
    """For each Dense, whether gradient descent moves any of its parameters."""
    return [weight_lr > 0 or bias_lr > 0 for weight_lr, bias_lr in zip(f.weight_lrs, f.bias_lrs, strict=True)]


def identity(f):
    """The g from which `backward` computes the derivatives of each output."""
    return np.eye(f.n_outputs, dtype=f.dtype)[:, None]


def blocks(f, n):
    """Slices of n points whose passes take about PASS_BYTES each."""
    per_point = f.weights[0].itemsize * 3 * sum(map(len, f.weights))
    return arrays.blocks(n, max(1, PASS_BYTES // per_point))
