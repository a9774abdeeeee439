"""Plain twins of networks of finite width: outputs by torch straight from the nested layers, kernels by einsum."""

import math

import numpy as np

import ntkfast as nf
from ntkfast.finite.factors import layer_factors


def plain_ntk(f, X, Y=None, outputs="mean"):
    """The empirical tangent kernel as a sum over layers, whole arrays at a time."""
    left = layer_factors(f, X)
    right = left if Y is None else layer_factors(f, Y)
    k = f.n_outputs
    kernel = np.zeros((len(X), len(X if Y is None else Y), k, k), f.dtype)
    for a, b in zip(left, right, strict=True):
        inputs = a.weight * (a.inputs @ b.inputs.T) + a.bias
        if a.sensitivities is None:
            kernel += inputs[..., None, None] * np.eye(k)
        else:
            kernel += inputs[..., None, None] * np.einsum("kin,ljn->ijkl", a.sensitivities, b.sensitivities)
    return kernel if outputs == "full" else np.einsum("ijkk->ij", kernel) / k


def torch_activation(activation, x):
    import torch
    from torch.nn import functional

    p = dict(activation.parameters)
    name = activation.name
    simple = {
        "relu": torch.relu,
        "abs": torch.abs,
        "gelu": functional.gelu,
        "sign": torch.sign,
        "hardsigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),  # torch's own has 1/6 in float32
        "relu6": functional.relu6,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softplus": functional.softplus,
        "silu": functional.silu,
        "swish": functional.silu,
        "mish": functional.mish,
        "arctan": torch.arctan,
        "selu": functional.selu,
        "softsign": functional.softsign,
    }
    if name in simple:
        return simple[name](x)
    if name in ("monomial", "polynomial", "hermite"):
        return sum(c * x**k for k, c in enumerate(activation.instruction.parameters))
    return {
        "identity": lambda: x,
        "leaky_relu": lambda: functional.leaky_relu(x, p["alpha"]),
        "erf": lambda: p["a"] * torch.erf(p["b"] * x) + p["c"],
        "sigmoid_like": lambda: (torch.erf(x / 2.4020563531719796) + 1) / 2,
        "sin": lambda: p["a"] * torch.sin(p["b"] * x + p["k"]),
        "cos": lambda: p["a"] * torch.cos(p["b"] * x + p["k"]),
        "rbf": lambda: math.sqrt(2) * torch.sin(math.sqrt(2 * p["gamma"]) * x + math.pi / 4),
        "exp": lambda: p["a"] * torch.exp(p["b"] * x),
        "gaussian": lambda: p["a"] * torch.exp(p["b"] * x * x),
        "rectified_monomial": lambda: torch.relu(x) ** p["order"] if p["order"] else (torch.sign(x) + 1) / 2,
        "step": lambda: (torch.sign(x) + 1) / 2,
        "hardtanh": lambda: functional.hardtanh(x, p["low"], p["high"]),
        "log_cosh": lambda: torch.log(torch.cosh(x)),
        "elu": lambda: functional.elu(x, p["alpha"]),
        "celu": lambda: torch.where(x > 0, x, p["alpha"] * torch.expm1(x / p["alpha"])),  # likewise
    }[name]()


JOINS = {
    "sum": sum,
    "product": math.prod,
    "concat": lambda parts: __import__("torch").cat(parts, dim=1),
}


def torch_outputs(f, parameters, x):
    """The outputs (N, k) from a list of tensors: weights and biases of each Dense in turn."""
    import torch

    remaining = iter(parameters)

    def walk(layers, x):
        for layer in layers:
            if isinstance(layer, nf.Dense):
                weight = next(remaining)
                ntk = f.parametrization == "ntk"
                x = x @ weight.T * (layer.weight_std / math.sqrt(weight.shape[1]) if ntk else 1)
                if layer.bias_std:
                    x = x + next(remaining) * (layer.bias_std if ntk else 1)
            elif isinstance(layer, nf.Residual):
                x = x + layer.scale * walk(layer.layers, x)
            elif isinstance(layer, nf.LayerNorm):
                x = layer.scale * torch.nn.functional.layer_norm(x, x.shape[1:], eps=0.0)
            elif isinstance(layer, nf.Scale):
                x = layer.factor * x
            elif isinstance(layer, nf.Parallel):
                x = JOINS[layer.how]([walk(branch, x) for branch in layer.branches])
            elif isinstance(layer, nf.Activation):
                x = torch_activation(layer, x)
        return x

    return walk(f.net.layers, x)


def torch_parameters(f):
    """Weights and biases of each Dense in turn, as leaves that want gradients."""
    import torch

    arrays = [array for pair in zip(f.weights, f.biases, strict=True) for array in pair if array is not None]
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def torch_jacobian(f, X):
    """(N, k, P) by autograd, one output of one point at a time."""
    import torch

    parameters = torch_parameters(f)
    outputs = torch_outputs(f, parameters, torch.tensor(X))
    rows = []
    for value in outputs.reshape(-1):
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        rows.append(
            np.concatenate(
                [
                    (torch.zeros_like(p) if g is None else g).numpy().reshape(-1)
                    for p, g in zip(parameters, gradients, strict=True)
                ]
            )
        )
    return np.array(rows).reshape(*outputs.shape, -1), outputs.detach().numpy()
