"""Neural tangent kernels at the speed of the hardware.

>>> import ntkfast as nf
>>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
>>> nf.ntk(net, [[1.0, 0.0], [0.0, 1.0]]).shape
(2, 2)
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version

from ntkfast.engine.config import show_config
from ntkfast.engine.series import PrecisionError
from ntkfast.finite import (
    DivergenceError,
    FiniteNetwork,
    Record,
    jvp,
    linearize,
    max_learning_rate,
    ntk_vector_product,
    train,
    vjp,
)
from ntkfast.finite.convergence import convergence
from ntkfast.kernels import diagonal, kernels, nngp, ntk
from ntkfast.kernels.empirical import empirical_nngp, empirical_ntk, gram_from_jacobian
from ntkfast.kernels.gradient import kernel_vjp
from ntkfast.kernels.phase import phase
from ntkfast.learning import GaussianProcess, LeastSquaresFlow, kernel_flow, kernel_pca
from ntkfast.networks import (
    MLP,
    Activation,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    Residual,
    activations,
    hyperparameters,
    with_hyperparameters,
)
from ntkfast.networks.activations import ActivationError

__version__ = _version("ntkfast")

__all__ = [
    "MLP",
    "Activation",
    "ActivationError",
    "Dense",
    "DivergenceError",
    "Dropout",
    "FiniteNetwork",
    "GaussianProcess",
    "LayerNorm",
    "LeastSquaresFlow",
    "Network",
    "PrecisionError",
    "Record",
    "Residual",
    "activations",
    "convergence",
    "diagonal",
    "empirical_nngp",
    "empirical_ntk",
    "gram_from_jacobian",
    "hyperparameters",
    "jvp",
    "kernel_flow",
    "kernel_pca",
    "kernel_vjp",
    "kernels",
    "linearize",
    "max_learning_rate",
    "nngp",
    "ntk",
    "ntk_vector_product",
    "phase",
    "show_config",
    "train",
    "vjp",
    "with_hyperparameters",
]


def __getattr__(name):
    if name == "torch":
        return _import_module("ntkfast.torch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "torch"})
