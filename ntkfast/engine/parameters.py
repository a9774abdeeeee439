"""Derivatives of the limit kernels with respect to the parameters of activations, by differences.

An activation is rebuilt with other values and the kernel computed anew, which works for all of them alike and costs six
kernels per parameter.
"""

import math

import numpy as np

from ntkfast.engine.problem import Problem
from ntkfast.networks.hyperparameters import hyperparameters, signs_kept, with_hyperparameters

# The error is h⁶/140 of the seventh derivative, and 2 ε/h from rounding: both are some 4e-14 of a function that varies
# on the scale 1.
STEP = 6e-3
WEIGHTS = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}  # of f(x + k h) - f(x - k h), for h f'


def gradient(problem: Problem, weights: np.ndarray, kernel: str) -> np.ndarray:
    """Σ_ij weights[i, j] ∂K[i, j]/∂p for every p that `hyperparameters(net, activations=True)` adds, in float64."""
    net, n_dense = problem.net, 2 * problem.net.depth
    values = list(hyperparameters(net, activations=True).values())
    found = np.empty(len(values) - n_dense)
    if len(found) == 0:
        return found
    wide, weights = problem.in_float64(), np.asarray(weights, np.float64)

    def weighted(at, value):
        moved = with_hyperparameters(net, [*values[:at], value, *values[at + 1 :]])
        return np.vdot(weights, wide.with_network(moved).matrices((kernel,), show=False)[0])

    for at, is_scale in enumerate(signs_kept(net), start=n_dense):
        value = values[at]
        step = STEP if is_scale else STEP * max(abs(value), 1.0)  # of log |p|, or of p

        def weighted_at(k, at=at, value=value, step=step, is_scale=is_scale):
            return weighted(at, value * math.exp(k * step) if is_scale else value + k * step)

        total = sum(weight * (weighted_at(k) - weighted_at(-k)) for k, weight in WEIGHTS.items())
        found[at - n_dense] = total / (step * value if is_scale else step)
    return found
