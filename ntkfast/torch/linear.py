"""Linear layers of a module whose part of the tangent kernel comes from Gram matrices, as for `nf.Dense`."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any, NamedTuple

from ntkfast.finite.factors import LayerFactors
from ntkfast.torch.function import gradients


class Linear(NamedTuple):
    """A torch.nn.Linear, and which of its parameters' derivatives follow from its inputs and sensitivities."""

    layer: Any
    weight: bool
    bias: bool


class Pass(NamedTuple):
    """One pass of n points through a module: what came out, and what linear layers that see one row did.

    Attributes
    ----------
    outputs : torch.Tensor, shape (n, k), with the graph behind them
    zeros : dict of str to torch.Tensor, shape (n, n_out)
        Added to the layers' results, so that the derivatives with respect to them are the sensitivities.
    inputs, results : dict of str to torch.Tensor, shape (n, n_in) and (n, n_out)
    calls : Counter
        How often each layer was called.
    """

    outputs: Any
    zeros: dict
    inputs: dict
    results: dict
    calls: Counter


def candidates(module):
    """{name: layer} of the torch.nn.Linear in it."""
    import torch

    return {
        name: layer
        for name, layer in module.named_modules()
        if type(layer) is torch.nn.Linear
        and isinstance(layer.weight, torch.nn.Parameter)  # not computed before each call, as by pruning
        and "forward" not in vars(layer)
    }


def run(f, layers, parameters, points, keep_results=False):
    """The Pass of the points, by torch.func.vmap, with a graph for the parameters {name: tensor} that are given."""
    import torch

    zeros = {name: torch.zeros(len(points), layer.out_features, dtype=f.dtype) for name, layer in layers.items()}
    zeros = {name: zero.requires_grad_() for name, zero in zeros.items()}
    calls = Counter()

    def pushed(parameters, zeros, point):
        inputs, results = {}, {}

        def push(name, x, z):
            calls[name] += 1
            if x.shape != (1, layers[name].in_features) or z.dtype != f.dtype:
                return None
            inputs[name] = x[0].detach()
            if keep_results:
                results[name] = z[0].detach()
            return z + zeros[name]

        with _hooked(layers, push):
            return f(parameters, point), inputs, results

    with torch.enable_grad():
        outputs, inputs, results = torch.func.vmap(pushed, (None, 0, 0))(parameters, zeros, points)
    return Pass(outputs, zeros, inputs, results, calls)


@contextlib.contextmanager
def _hooked(layers, hook):
    """While it lasts, hook(name, input, result) sees every call of the layers, and may replace the result.

    The input is a copy, which may be kept: the module may change its own in place later, as by x += layer(x).
    """

    def copied(layer, args, kwargs):
        return tuple(x.clone() for x in args), {name: x.clone() for name, x in kwargs.items()}

    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():

            def call(layer, args, kwargs, output, name=name):
                return hook(name, (*args, *kwargs.values())[0], output)

            stack.callback(layer.register_forward_pre_hook(copied, with_kwargs=True).remove)
            # before the layer's own hooks, to see W x + b itself
            stack.callback(layer.register_forward_hook(call, prepend=True, with_kwargs=True).remove)
        yield


def parameters(linears):
    """The parameters whose derivatives the factors of these layers represent, by identity."""
    return {
        id(parameter)
        for layer, weight, bias in linears.values()
        for parameter, counts in ((layer.weight, weight), (layer.bias, bias))
        if counts
    }


def numbers_per_point(linears, k):
    """How many numbers the factors of one point take: inputs, pre-activations, sensitivities."""
    return sum(layer.in_features + layer.out_features * (2 + k) for layer, _, _ in linears.values())


def factors(f, linears, points):
    """The LayerFactors of these layers at the points."""
    import torch

    once = run(f, {name: linear.layer for name, linear in linears.items()}, {}, points)
    units = torch.eye(f.k, dtype=f.dtype)
    rows = [gradients(once.outputs, once.zeros, unit.expand_as(once.outputs)) for unit in units]
    return [
        LayerFactors(
            once.inputs[name].contiguous().numpy() if linear.weight else None,
            torch.stack([row[name] for row in rows]).numpy(),
            float(linear.weight),
            float(linear.bias),
        )
        for name, linear in linears.items()
    ]
