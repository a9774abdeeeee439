"""Linear layers of a module whose part of the tangent kernel comes from Gram matrices, as for `nf.Dense`."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from typing import NamedTuple

from ntkfast.finite.factors import LayerFactors


class Linear(NamedTuple):
    """A torch.nn.Linear, and which of its parameters' derivatives follow from its inputs and sensitivities."""

    layer: object
    weight: bool
    bias: bool


@contextlib.contextmanager
def hooked(layers, hook):
    """While it lasts, hook(name, input, output) sees every call of the layers {name: layer}, and may replace output."""
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():

            def call(layer, args, kwargs, output, name=name):
                return hook(name, (*args, *kwargs.values())[0], output)

            # before the layer's own hooks, to see W x + b itself
            handle = layer.register_forward_hook(call, prepend=True, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def probe(f, point):
    """{name: Linear} of the layers that `factors` can handle, from a pass of one point (1, …).

    Such a layer is called once, with one row, and the outputs depend on its result. Its parameters count if they are
    used once, in this layer: in autograd's graph, one edge leads to them.
    """
    import torch

    candidates = {
        name: layer
        for name, layer in f.module.named_modules()
        if type(layer) is torch.nn.Linear and "forward" not in vars(layer)
    }
    calls = defaultdict(list)
    names = {id(parameter): name for name, parameter in f.own.items()}
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in f.trained.items()}
    with torch.enable_grad(), hooked(candidates, lambda name, x, z: calls[name].append((x.shape, z.grad_fn))):
        nodes, uses = _graph(f.call(leaves, point))

    def used_once(parameter):
        return id(parameter) in names and uses[id(leaves[names[id(parameter)]])] == 1

    found = {}
    for name, layer in candidates.items():
        if len(calls[name]) == 1:
            ((shape, node),) = calls[name]
            linear = Linear(layer, used_once(layer.weight), used_once(layer.bias))
            if shape == (1, layer.in_features) and node in nodes and (linear.weight or linear.bias):
                found[name] = linear
    return found


def _graph(outputs):
    """The nodes of the graph behind the outputs, and {id of a leaf: number of edges that lead to it}."""
    nodes, uses, todo = set(), Counter(), [outputs.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in nodes:
            continue
        nodes.add(node)
        for child, _ in node.next_functions:
            if hasattr(child, "variable"):
                uses[id(child.variable)] += 1
            todo.append(child)
    return nodes, uses


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
    """The LayerFactors of these layers at the points.

    A zero is added to each layer's outputs: the derivatives with respect to it are the sensitivities.
    """
    layers = {name: linear.layer for name, linear in linears.items()}
    zeros = {name: points.new_zeros(layer.out_features, dtype=f.dtype) for name, layer in layers.items()}

    def pushed(added, x):
        inputs = {}

        def push(name, x, z):
            inputs[name] = x[0].clone()  # it may be changed in place later, as by x += layer(x)
            return z + added[name]

        with hooked(layers, push):
            return f({}, x), inputs

    sensitivities, inputs = f.jacobians(pushed, zeros, points)
    return [
        LayerFactors(
            inputs[name].contiguous().numpy() if linear.weight else None,
            sensitivities[name].movedim(1, 0).contiguous().numpy(),
            float(linear.weight),
            float(linear.bias),
        )
        for name, linear in linears.items()
    ]
