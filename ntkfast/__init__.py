"""Neural tangent kernels at the speed of the hardware.

>>> import ntkfast as nf
>>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
>>> nf.ntk(net, [[1.0, 0.0], [0.0, 1.0]]).shape
(2, 2)
"""

from importlib.metadata import version as _version

from ntkfast.engine.config import show_config
from ntkfast.kernels import diagonal, kernels, nngp, ntk
from ntkfast.networks import MLP, Activation, Dense, Network, activations

__version__ = _version("ntkfast")

__all__ = [
    "MLP",
    "Activation",
    "Dense",
    "Network",
    "activations",
    "diagonal",
    "kernels",
    "nngp",
    "ntk",
    "show_config",
]
