"""Lowering: a network becomes a kernel program, once per network and number of inputs."""

from functools import lru_cache

import numpy as np

from ntkfast.engine import _core
from ntkfast.networks import Dense, Network


@lru_cache(maxsize=256)
def lower(net: Network, n_inputs: int) -> _core.Program:
    """The program of this network for points with n_inputs features.

    A Dense layer is Θ ← w²Θ + (weight_lr w²)Σ + (bias_lr β²), then Σ ← w²Σ + β²; the first one divides by the number
    of inputs. It belongs to the instruction of the activation before it. Everything in long double, so that the
    diagonal knows w² beyond double precision.
    """
    code, before, fan_in = [], ("affine", ()), np.longdouble(n_inputs)
    for layer in net.layers:
        if isinstance(layer, Dense):
            weight = np.longdouble(layer.weight_std) ** 2 / fan_in
            bias = np.longdouble(layer.bias_std) ** 2
            code.append((*before, (weight, bias, layer.weight_lr * weight, layer.bias_lr * bias)))
            before, fan_in = ("affine", ()), np.longdouble(1)
        else:
            before = layer.instruction
    return _core.Program(code)
