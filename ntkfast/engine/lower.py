"""Lowering: a network becomes the code of a kernel program, once per network and number of inputs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ntkfast.engine import _core, series
from ntkfast.networks import Activation, Dense, Dropout, LayerNorm, Network

NO_LAYER = (1, 0, 0, 0)


@dataclass(frozen=True)
class Code:
    """Instructions of a program, and which of them sum a series whose data depends on the variances it will meet."""

    instructions: tuple
    dot: int  # index of the instruction whose derivative is the output nngp_dot, -1 if there is none
    series: tuple[tuple[int, Activation], ...]
    dense: tuple[tuple[int, Dense], ...]  # every Dense layer, and the instruction whose layer it is

    def program(self) -> _core.Program:
        return _core.Program(self.instructions, self.dot)


@lru_cache(maxsize=256)
def lower(net: Network, n_inputs: int) -> Code:
    """The code of this network for points with n_inputs features.

    A Dense layer is Θ ← w²Θ + (weight_lr w²)Σ + (bias_lr β²), then Σ ← w²Σ + β²; the first one divides by the number
    of inputs. It belongs to the instruction before it, if that has no layer yet. Everything in long double, so that
    the diagonal knows w² beyond double precision.
    """
    instructions, activations, dense = [], [], []
    _emit(net.layers, instructions, activations, dense, np.longdouble(n_inputs))
    outer = [k for k, _, nested in activations if not nested and instructions[k][2]]
    return Code(
        tuple((name, parameters, layer or NO_LAYER) for name, parameters, layer in instructions),
        outer[-1] if outer and outer[-1] == max(k for k, _, _ in activations) else -1,
        tuple((k, layer) for k, layer, _ in activations if series.varies(layer)),
        tuple(dense),
    )


def _emit(layers, code, activations, dense, fan_in, nested=False):
    for layer in layers:
        if isinstance(layer, Dense):
            weight = np.longdouble(layer.weight_std) ** 2 / fan_in
            bias = np.longdouble(layer.bias_std) ** 2
            numbers = (weight, bias, layer.weight_lr * weight, layer.bias_lr * bias)
            if not code or code[-1][2]:
                code.append(("affine", (), None))
            code[-1] = (*code[-1][:2], numbers)
            dense.append((len(code) - 1, layer))
            fan_in = np.longdouble(1)
        elif isinstance(layer, Activation):
            activations.append((len(code), layer, nested))
            code.append((layer.instruction[0], () if series.varies(layer) else layer.instruction[1], None))
        elif isinstance(layer, LayerNorm):
            code.append(("layer_norm", (), None))
        elif isinstance(layer, Dropout):
            code.append(("dropout", (1 / (1 - np.longdouble(layer.rate)),), None))
        else:
            code.append(("push", (), None))
            _emit(layer.layers, code, activations, dense, fan_in, nested=True)
            code.append(("add", (np.longdouble(layer.scale) ** 2,), None))
