"""Networks as values: no numerics beyond the activations themselves."""

from ntkfast.networks import activations
from ntkfast.networks.activation import Activation
from ntkfast.networks.network import MLP, Dense, Dropout, LayerNorm, Network, Residual

__all__ = [
    "MLP",
    "Activation",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Network",
    "Residual",
    "activations",
]
