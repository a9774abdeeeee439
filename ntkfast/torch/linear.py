"""Linear layers of a module whose part of the tangent kernel comes from Gram matrices, as for `nf.Dense`."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
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

    zeros, calls = _zeros(f, layers, len(points)), Counter()

    def pushed(parameters, zeros, point):
        inputs, results = {}, {}
        with _hooked(layers, _push(f, layers, zeros, calls, inputs, results if keep_results else None)):
            return f(parameters, point), inputs, results

    with torch.enable_grad():
        outputs, *of_layers = torch.func.vmap(pushed, (None, 0, 0))(parameters, zeros, points)
    return Pass(outputs, zeros, *of_layers, calls)


def run_alone(f, layers, point):
    """The Pass of one point, by autograd on the module's own parameters."""
    import torch

    zeros, calls, inputs, results = _zeros(f, layers, 1), Counter(), {}, {}
    with torch.enable_grad(), _hooked(layers, _push(f, layers, zeros, calls, inputs, results)):
        outputs = f.alone(point)[None]
    return Pass(outputs, zeros, *({name: x[None] for name, x in found.items()} for found in (inputs, results)), calls)


def _zeros(f, layers, n):
    import torch

    return {
        name: torch.zeros(n, layer.out_features, dtype=f.dtype, requires_grad=True) for name, layer in layers.items()
    }


def _push(f, layers, zeros, calls, inputs, results):
    """A hook that counts the calls of layers, keeps what those with one row do, and adds the zeros."""

    def push(name, x, z):
        calls[name] += 1
        if x.shape != (1, layers[name].in_features) or z.dtype != f.dtype:
            return None
        inputs[name] = x[0].detach()
        if results is not None:
            results[name] = z[0].detach()
        return z + zeros[name]

    return push


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

    layers = {name: linear.layer for name, linear in linears.items()}
    units = torch.eye(f.k, dtype=f.dtype)
    inputs, sensitivities = defaultdict(list), defaultdict(list)
    blocks = [points] if f.vectorised else points.split(1)
    for points in blocks:
        once = run(f, layers, {}, points) if f.vectorised else run_alone(f, layers, points[0])
        rows = [gradients(once.outputs, once.zeros, unit.expand_as(once.outputs)) for unit in units]
        for name, layer in layers.items():
            # a layer that a point does not reach has sensitivities 0
            x = once.inputs.get(name)
            inputs[name].append(torch.zeros(len(points), layer.in_features, dtype=f.dtype) if x is None else x)
            sensitivities[name].append(torch.stack([row[name] for row in rows]))
    return [
        LayerFactors(
            torch.cat(inputs[name]).numpy() if linear.weight else None,
            torch.cat(sensitivities[name], 1).numpy(),
            float(linear.weight),
            float(linear.bias),
        )
        for name, linear in linears.items()
    ]
