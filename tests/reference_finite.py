"""The slow, plain twin of networks of finite width: a forward pass over the layers in `f.net.layers`.

Everything else comes from that pass: Jacobians by complex steps, Im f(θ + ih)/h, which are exact to rounding, and the
tangent kernel as the product of Jacobians. θ is a list of arrays, the weights and, if there are any, biases of each
Dense in turn; leading axes before (n_out, n_in) and (n_out,) stand for many networks at once.
"""

import math

import formulas
import numpy as np

import ntkfast as nf

STEP = 1e-30
AT_ONCE = 256  # networks of one forward pass


def parameters(f):
    """θ of this network."""
    return [array for pair in zip(f.weights, f.biases, strict=True) for array in pair if array is not None]


def learning_rates(f):
    """Relative learning rates of all entries of θ, in one vector."""
    rates = []
    for layer, weight, bias in zip(denses(f.net.layers), f.weights, f.biases, strict=True):
        rates += [np.full(weight.size, layer.weight_lr), np.full(0 if bias is None else bias.size, layer.bias_lr)]
    return np.concatenate(rates)


def denses(layers):
    for layer in layers:
        if isinstance(layer, nf.Dense):
            yield layer
        for branch in layer.branches:
            yield from denses(branch)


def outputs(net, theta, X, parametrization="ntk"):
    """The outputs (..., N, k)."""
    remaining = iter(theta)

    def dense(layer, x):
        weight = next(remaining)
        ntk = parametrization == "ntk"
        z = x @ np.swapaxes(weight, -1, -2) * (layer.weight_std / math.sqrt(weight.shape[-1]) if ntk else 1)
        if layer.bias_std == 0:
            return z
        return z + next(remaining)[..., None, :] * (layer.bias_std if ntk else 1)

    def layer_norm(layer, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return layer.scale * centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True))

    joins = {"sum": sum, "product": math.prod, "concat": lambda parts: np.concatenate(parts, axis=-1)}

    steps = {
        nf.Dense: dense,
        nf.Activation: lambda layer, x: formulas.phi(layer)(x),
        nf.LayerNorm: layer_norm,
        nf.Dropout: lambda layer, x: x,  # acts in training only
        nf.Residual: lambda layer, x: x + layer.scale * walk(layer.layers, x),
        nf.Scale: lambda layer, x: layer.factor * x,
        nf.Parallel: lambda layer, x: joins[layer.how]([walk(branch, x) for branch in layer.branches]),
    }

    def walk(layers, x):
        for layer in layers:
            x = steps[type(layer)](layer, x)
        return x

    return walk(net.layers, np.asarray(X))


def gradient(function, theta):
    """The derivative of function(theta) of shape (..., *S) with respect to all entries of θ: shape (P, *S)."""
    flat = np.concatenate([array.ravel() for array in theta]).astype(complex)
    ends = np.cumsum([array.size for array in theta])[:-1]
    rows = []
    for start in range(0, flat.size, AT_ONCE):
        moved = flat + 1j * STEP * np.eye(min(AT_ONCE, flat.size - start), flat.size, start)
        pieces = np.split(moved, ends, axis=1)
        many = [piece.reshape(-1, *array.shape) for piece, array in zip(pieces, theta, strict=True)]
        rows.append(function(many).imag / STEP)
    return np.concatenate(rows)


def jacobian(f, X):
    """(N, k, P)."""
    rows = gradient(lambda theta: outputs(f.net, theta, X, f.parametrization), parameters(f))
    return np.moveaxis(rows, 0, 2)


def ntk(f, X, Y=None, outputs="mean"):
    """The empirical tangent kernel J diag(learning rates) Jᵀ: (N, M, k, k), (N, M, k) or (N, M)."""
    left = jacobian(f, X)
    right = left if Y is None else jacobian(f, Y)
    return reduced(np.einsum("ikp,p,jlp->ijkl", left, learning_rates(f), right, optimize=True), outputs)


def reduced(full, outputs):
    """The kernel (N, M, k, k) reduced according to `outputs`."""
    diagonal = np.einsum("ijkk->ijk", full)
    return {"full": full, "diagonal": diagonal, "mean": diagonal.mean(axis=2)}[outputs]
