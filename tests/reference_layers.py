"""The plain twin of networks of all layers: a recursion over matrices, in float64, with duals tested elsewhere.

What flows is a sum of independent fields, each times a number per point: {field: (numbers (n,), Σ (n, n), Θ (n, n))}.
A sum of branches adds the numbers of fields that they share, so that cross terms arise automatically.
"""

import numpy as np

import ntkfast as nf


def total(flow):
    parts = [(np.outer(c, c) * sigma, np.outer(c, c) * theta) for c, sigma, theta in flow.values()]
    return sum(sigma for sigma, _ in parts), sum(theta for _, theta in parts)


def field(sigma, theta):
    return {object(): (np.ones(len(sigma)), sigma, theta)}


def multiplied(flow, numbers):
    return {key: (numbers * c, sigma, theta) for key, (c, sigma, theta) in flow.items()}


def through_dense(layer, flow, fan_in):
    sigma, theta = total(flow)
    w2, b2 = layer.weight_std**2 / fan_in, layer.bias_std**2
    return field(w2 * sigma + b2, w2 * theta + layer.weight_lr * w2 * sigma + layer.bias_lr * b2)


def through_activation(layer, flow, fan_in):
    sigma, theta = total(flow)
    q = np.diagonal(sigma)
    most = np.sqrt(np.outer(q, q))
    c = np.clip(sigma, -most, most)
    arguments = q[:, None] + 0 * c, q[None] + 0 * c, c
    return field(nf.dual(layer, *arguments), theta * nf.dual_derivative(layer, *arguments))


def through_norm(layer, flow, fan_in):
    return multiplied(flow, layer.scale / np.sqrt(np.diagonal(total(flow)[0])))


def through_dropout(layer, flow, fan_in):
    sigma, theta = total(flow)
    mask = 1 + np.eye(len(sigma)) * layer.rate / (1 - layer.rate)
    return field(sigma * mask, theta * mask)


def added(flows, shares):
    result = {}
    for flow in flows:
        for key, (c, sigma, theta) in flow.items():
            before = result[key][0] if key in result else 0
            result[key] = (before + c, sigma, theta)
    return result


def product(flows, shares):
    sigma, theta = total(flows[0])
    for flow in flows[1:]:
        s, t = total(flow)
        sigma, theta = sigma * s, theta * s + sigma * t
    return field(sigma, theta)


def concatenated(flows, shares):
    parts = [total(flow) for flow in flows]
    return field(*(sum(share * part[k] for share, part in zip(shares, parts, strict=True)) for k in (0, 1)))


JOINS = {"sum": added, "product": product, "concat": concatenated}


def through_branches(layer, flow, fan_in):
    return JOINS[layer.how]([twin(branch, flow, fan_in) for branch in layer.branches], layer.shares)


def through_residual(layer, flow, fan_in):
    return added([flow, multiplied(twin(layer.layers, flow, fan_in), layer.scale)], None)


THROUGH = {
    nf.Dense: through_dense,
    nf.Activation: through_activation,
    nf.LayerNorm: through_norm,
    nf.Dropout: through_dropout,
    nf.Scale: lambda layer, flow, fan_in: multiplied(flow, layer.factor),
    nf.Parallel: through_branches,
    nf.Residual: through_residual,
}


def twin(layers, flow, fan_in):
    for layer in layers:
        flow = THROUGH[type(layer)](layer, flow, fan_in)
        if any(isinstance(part, nf.Dense) for part in nf.networks.layer.walk([layer])):
            fan_in = 1
    return flow


def exact(net, X):
    products = X.astype(float) @ X.astype(float).T
    return total(twin(net.layers, field(products, np.zeros_like(products)), X.shape[1]))
