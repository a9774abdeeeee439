"""Proof that torch.func differentiates a module rightly, and which linear layers' factors give their derivatives.

Under torch.func.vmap Python code cannot see the values of the points, so that all points take the same path through
forward, and what holds for the graph of one such pass holds for every point. In this graph

- no path leads to the module's own parameters instead of those passed in, as from a tensor that a closure holds;
- the derivative with respect to a parameter of a linear layer comes from factors if it enters by one path only, up to
  the layer's result.

Values and derivatives at a few points are compared with autograd's, in case an operation is not what it seems. Where
torch.func fails, autograd takes one point at a time, and the second condition is looked into at each of them.
"""

from __future__ import annotations

import operator
from collections import defaultdict

from ntkfast.torch import linear
from ntkfast.torch.function import gradients


def tolerance(dtype):
    """What rounding may change, relative to the largest number: two thirds of the digits are left to conditioning."""
    import torch

    return torch.finfo(dtype).eps ** (1 / 3)


def agree(got, expected, tolerance):
    """Whether tensors, {name: tensor}, are equal up to this part of their largest number.

    If that is less than the same part of the largest number of all, it counts as rounding.
    """
    sizes = {name: tensor.abs().max().item() for name, tensor in expected.items()}
    least = tolerance * max(sizes.values(), default=0)
    return all(
        (got[name] - tensor).abs().max().item() <= tolerance * max(sizes[name], least)
        for name, tensor in expected.items()
    )


def linears(f, sample, outputs):
    """{name: Linear} of the layers for which factors suffice, or None if torch.func cannot differentiate the module.

    outputs: those of the sample, (n, k), by autograd on the module's own parameters.
    """
    try:
        return _linears(f, sample, outputs)
    except Exception:  # whatever torch.func cannot do, or the module does not do under it
        return None


def _linears(f, sample, outputs):
    close = tolerance(f.dtype)
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in f.trained.items()}
    layers = linear.candidates(f.module)
    once = linear.run(f, layers, leaves, sample, keep_results=True)
    graph = _Graph(once.outputs)
    if any(map(graph.has, f.own.values())) or not agree({"": once.outputs}, {"": outputs}, close):
        return None
    leaf = {id(parameter): leaves[name] for name, parameter in f.own.items()}
    found = _linear(f, layers, once, graph, leaf)
    linears = {name: linear.Linear(layers[name], *counts) for name, counts in found.items() if any(counts)}
    return linears if _derivatives_agree(f, leaves, once.outputs, sample, outputs, linears) else None


def linears_alone(f, sets):
    """{name: Linear} of the layers for which factors suffice at each of the points, by autograd."""
    try:
        return _linears_alone(f, sets)
    except Exception:  # without the hooks it may work, or say what is wrong
        return {}


def _linears_alone(f, sets):
    layers, leaf = linear.candidates(f.module), {id(parameter): parameter for parameter in f.own.values()}
    found = dict.fromkeys(layers, (True, True))
    for points in sets:
        for point in points:
            once = linear.run_alone(f, {name: layers[name] for name in found}, point)
            gradients(once.outputs[0, 0], once.zeros)
            here = _linear(f, layers, once, _Graph(once.outputs), leaf)
            both = {name: tuple(map(operator.and_, counts, here[name])) for name, counts in found.items()}
            found = {name: counts for name, counts in both.items() if any(counts)}
            if not found:
                return {}
    return {name: linear.Linear(layers[name], *counts) for name, counts in found.items()}


def _linear(f, layers, once, graph, leaf):
    """{name: (weight, bias)}: whether factors give the derivatives with respect to these parameters, in one Pass.

    leaf: {id of a parameter: what stands for it in the graph}.
    """
    import torch

    def called_once(name, layer):
        if once.calls[name] != 1 or name not in once.inputs:
            return False
        result = torch.nn.functional.linear(once.inputs[name], layer.weight, layer.bias)
        return agree({"": once.results[name]}, {"": result}, tolerance(f.dtype))

    def counts(parameter, zero, called):
        if id(parameter) not in leaf:
            return False
        entry = leaf[id(parameter)]
        # if neither enters, both derivatives are zero
        return (called and graph.meet(entry, zero)) or not (graph.has(entry) or graph.has(zero))

    found = {}
    for name, zero in once.zeros.items():
        layer, called = layers[name], called_once(name, layers[name])
        found[name] = tuple(counts(parameter, zero, called) for parameter in (layer.weight, layer.bias))
    return found


def _derivatives_agree(f, leaves, got, sample, expected, found):
    """Whether torch.func's outputs `got` have the derivatives of the outputs `expected` by autograd alone."""
    import torch

    close = tolerance(f.dtype)
    cotangents = torch.randn(expected.shape, dtype=f.dtype, generator=torch.Generator().manual_seed(0))
    # no weight of a layer with a bias: the bias tells of the sensitivities, and the layer's inputs are known
    weights = {id(layer.weight) for layer, weight, bias in found.values() if weight and bias}
    names = [name for name, parameter in f.own.items() if id(parameter) not in weights]
    derivatives = gradients(got, {name: leaves[name] for name in names}, cotangents)
    try:
        by_autograd = gradients(expected, {name: f.own[name] for name in names}, cotangents)
    except RuntimeError:  # the input of a layer was changed in place; torch.func's pass has a copy
        return True
    treated = linear.parameters(found)
    rest = {name: parameter for name, parameter in f.own.items() if id(parameter) not in treated}
    if rest:  # once as `jacobian` will do it
        row = {name: rows[0, 0] for name, rows in f.vmapped_jacobians(list(rest), sample[:1], slice(1)).items()}
        if not agree(row, gradients(expected[0, 0], rest), close):
            return False
    return agree(derivatives, by_autograd, close)


class _Graph:
    """The graph behind some outputs, from its leaves up."""

    def __init__(self, outputs):
        self._users, self._leaves = defaultdict(list), {}
        seen, todo = set(), [outputs.grad_fn]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if hasattr(node, "variable"):
                self._leaves[id(node.variable)] = node
            for child, _ in node.next_functions:
                self._users[child].append(node)
                todo.append(child)

    def has(self, leaf):
        return id(leaf) in self._leaves

    def meet(self, one, other):
        """Whether two leaves enter by one path each, up to a node that is on both."""
        return self.has(one) and self.has(other) and not self._path(one).isdisjoint(self._path(other))

    def _path(self, leaf):
        """The nodes through which all paths from the leaf to the outputs lead, as far as nothing branches off."""
        node = self._leaves[id(leaf)]
        nodes = {node}
        while len(self._users[node]) == 1:
            (node,) = self._users[node]
            nodes.add(node)
        return nodes
