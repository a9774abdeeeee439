"""Neural tangent kernels at the speed of the hardware.

>>> import ntkfast as nf
>>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
>>> nf.ntk(net, [[1.0, 0.0], [0.0, 1.0]]).shape
(2, 2)
"""

from importlib.metadata import version as _version

from ntkfast.engine.config import show_config
from ntkfast.engine.series import PrecisionError
from ntkfast.kernels import diagonal, kernels, nngp, ntk
from ntkfast.kernels.phase import phase
from ntkfast.networks import MLP, Activation, Dense, Dropout, LayerNorm, Network, Residual, activations
from ntkfast.networks.activations import ActivationError

__version__ = _version("ntkfast")

__all__ = [
    "MLP",
    "Activation",
    "ActivationError",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Network",
    "PrecisionError",
    "Residual",
    "activations",
    "diagonal",
    "kernels",
    "nngp",
    "ntk",
    "phase",
    "show_config",
]
