"""The networks of the experiments: the paper's, random ones at finite width, and their names in captions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.finite.network import FiniteNetwork
from ntkfast.networks import MLP, Activation, Dense, Network
from ntkfast.networks.network import refuse_dropout
from ntkfast.support.scalars import positive_integer

__all__ = ["as_mlp", "check_widths", "circle", "described", "network", "relu_network"]


def relu_network(depth: int, bias_std: float = 0.1) -> Network:
    """The paper's network: ReLU, w = 1, β = 0.1."""
    return MLP(depth, "relu", 1.0, bias_std)


def as_mlp(net: Network) -> tuple[Activation | None, float, float] | None:
    """The activation (None at depth 1), w and β of a network that `MLP` could have made; None for any other network."""
    first, *rest = net.layers
    activation = rest[0] if rest else None
    if not isinstance(first, Dense) or not isinstance(activation, Activation | None):
        return None
    w, b = first.weight_std, first.bias_std
    return (activation, w, b) if net == MLP(net.depth, activation or "relu", w, b) else None


def described(net: Network) -> str:
    """A network in the paper's notation, for captions."""
    found = as_mlp(net)
    if found is None:
        return f"L = {net.depth}"
    activation, w, b = found
    name = "" if activation is None else {"relu": "ReLU"}.get(activation.name, activation.name) + ", "
    return f"{name}L = {net.depth}, " + ("" if w == 1 else f"w = {w:g}, ") + f"β = {b:g}"


def circle(gamma: ArrayLike) -> np.ndarray:
    """The points (cos γ, sin γ), shape (n, 2)."""
    return np.stack([np.cos(gamma), np.sin(gamma)], axis=1)


def check_widths(widths: Iterable[int]) -> list[int]:
    """The widths as a list of Python integers; the error names the argument."""
    widths = [positive_integer(width, "widths") for width in widths]
    if not widths:
        raise ValueError("widths: expected at least one, got none")
    return widths


def network(net: Network, n_inputs: int, width: int, *key: int) -> FiniteNetwork:
    """A random network in float32; the same key of integers and width give the same network."""
    refuse_dropout(net)
    return FiniteNetwork.init(net, n_inputs, width, rng=np.random.default_rng([*key, width]), dtype=np.float32)
