"""Networks as values: no numerics beyond the activations themselves."""

from ntkfast.networks import activations
from ntkfast.networks.activation import Activation
from ntkfast.networks.layers import Dense, Dropout, LayerNorm, Parallel, Residual, Scale
from ntkfast.networks.network import MLP, Network

__all__ = [
    "MLP",
    "Activation",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Network",
    "Parallel",
    "Residual",
    "Scale",
    "activations",
]
