"""The Jacobian of a network of finite width, and vectors of parameters as lists of arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast.finite import blas, passes
from ntkfast.support import arrays, memory

if TYPE_CHECKING:  # which imports this module
    from ntkfast.finite.network import FiniteNetwork

AT_ONCE = 2**21  # numbers of a block of points: Ctrl-C waits for the memory of one
Parts: TypeAlias = list[NDArray[np.floating] | None]  # one for each Dense; None where it has no bias


def jacobian(f: FiniteNetwork, X: NDArray[np.floating]) -> NDArray[np.floating]:
    """∂f_k(x_i)/∂θ_p, shape (N, n_outputs, n_parameters): see `FiniteNetwork.jacobian`; X suits f."""
    shape = (len(X), f.n_outputs, f.n_parameters)
    what = f"X: the Jacobian, {' x '.join(map(str, shape))},"
    memory.require(math.prod(shape) * f.dtype.itemsize, what, "; jvp and vjp multiply by it without the matrix")
    result = np.empty(shape, f.dtype)
    weights, biases = split(f, result)
    tape = []
    passes.forward(f, X, tape)
    factors = [
        (layer, f.weight_scales[layer] * inputs, np.broadcast_to(np.swapaxes(g, 0, 1), (len(X), *g.shape[::2])))
        for layer, inputs, g in passes.backward(f, tape, passes.identity(f), [True] * len(f.weights))
    ]
    for some in arrays.blocks(len(X), max(1, AT_ONCE // math.prod(shape[1:]))):
        for layer, inputs, g in factors:
            np.multiply(g[some, ..., None], inputs[some, None, None, :], out=weights[layer][some])
            if biases[layer] is not None:
                np.multiply(f.bias_scales[layer], g[some], out=biases[layer][some])
    return result


def split(f: FiniteNetwork, flat: NDArray[np.floating]) -> tuple[Parts, Parts]:
    """Views of (..., n_parameters) as lists of weights (..., n_out, n_in) and biases (..., n_out) or None."""
    weights, biases, start = [], [], 0
    for weight, bias in zip(f.weights, f.biases, strict=True):
        for parts, array in ((weights, weight), (biases, bias)):
            if array is None:
                parts.append(None)
                continue
            parts.append(flat[..., start : start + array.size].reshape(*flat.shape[:-1], *array.shape))
            start += array.size
    return weights, biases


def pull_back(f, tape, cotangent, weights, biases, with_rates=True):
    """Add diag(lr) Jᵀ u, or Jᵀ u, to the lists of arrays."""
    wanted = passes.trained(f) if with_rates else [True] * len(f.weights)
    for layer, inputs, g in passes.backward(f, tape, cotangent[None], wanted):
        weight_lr, bias_lr = (f.weight_lrs[layer], f.bias_lrs[layer]) if with_rates else (1.0, 1.0)
        blas.product(g[0].T, inputs, weight_lr * f.weight_scales[layer], 1.0, weights[layer])
        if biases[layer] is not None:
            biases[layer] += bias_lr * f.bias_scales[layer] * g[0].sum(axis=0)


def vector(values: ArrayLike, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.floating]:
    values = arrays.real(values, name)
    if values.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
    return arrays.finite_array(values, name, dtype)
