"""Networks as values: no numerics beyond the activations themselves."""

from ntkfast.networks import activations
from ntkfast.networks.activations import Activation
from ntkfast.networks.network import MLP, Dense, Network

__all__ = ["MLP", "Activation", "Dense", "Network", "activations"]
