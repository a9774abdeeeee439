"""Neural tangent kernels at the speed of the hardware.

>>> import ntkfast as nf
>>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
>>> nf.ntk(net, [[1.0, 0.0], [0.0, 1.0]]).shape
(2, 2)
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

import ntkfast.support.starting as _starting  # noqa: F401  # before those that take time
from ntkfast.engine.config import show_config
from ntkfast.finite.empirical import empirical_nngp, empirical_ntk, gram_from_jacobian
from ntkfast.finite.linearized import LinearizedNetwork, linearize
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import jvp, ntk_vector_product, vjp
from ntkfast.finite.training import Record, Run, train
from ntkfast.infinite.corrections import FiniteWidth, finite_width, width_for
from ntkfast.infinite.derivatives import KernelVJP, kernel_vjp
from ntkfast.infinite.dual import dual, dual_derivative
from ntkfast.infinite.in_training import KernelChange, kernel_change
from ntkfast.infinite.kernels import Kernels, KernelsAndGradients, diagonal, kernels, nngp, ntk
from ntkfast.infinite.phase import Phase, PhaseDiagram, phase, phase_diagram
from ntkfast.learning.convergence import Convergence, convergence
from ntkfast.learning.early_stopping import EarlyStopping
from ntkfast.learning.features import (
    FeatureConvergence,
    RandomFeatureModel,
    random_feature_convergence,
    random_feature_model,
)
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.learning.gaussian import GaussianProcess, LeaveOneOut, MarginalLikelihood, log_marginal_likelihood
from ntkfast.learning.kernel_flow import KernelFlow, kernel_flow
from ntkfast.learning.learning_rate import max_learning_rate
from ntkfast.learning.likelihood import FittedHyperparameters, fit_hyperparameters, network_likelihood
from ntkfast.learning.positivity import (
    HermiteCertificate,
    SmallestEigenvalue,
    hermite_certificate,
    smallest_eigenvalue,
)
from ntkfast.learning.solvers.nystrom import NystromRegression
from ntkfast.learning.solvers.solution import Solution
from ntkfast.learning.solvers.solve import solve
from ntkfast.learning.spectrum import KernelPCA, kernel_pca
from ntkfast.networks import (
    MLP,
    Activation,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    Parallel,
    Residual,
    Scale,
    activations,
)
from ntkfast.networks.hyperparameters import hyperparameters, with_hyperparameters
from ntkfast.saving import load, save
from ntkfast.support.errors import ActivationError, DivergenceError, Error, PrecisionError, StoreError

if _TYPE_CHECKING:
    from ntkfast import datasets, distributed, experiments, gpytorch, neural_tangents, plotting, sklearn, store, torch
    from ntkfast.infinite.operator import KernelOperator

__version__: str

__all__ = [
    "MLP",
    "Activation",
    "ActivationError",
    "Convergence",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Error",
    "FeatureConvergence",
    "FiniteNetwork",
    "FiniteWidth",
    "FittedHyperparameters",
    "GaussianProcess",
    "HermiteCertificate",
    "KernelChange",
    "KernelFlow",
    "KernelOperator",
    "KernelPCA",
    "KernelVJP",
    "Kernels",
    "KernelsAndGradients",
    "LayerNorm",
    "LeastSquaresFlow",
    "LeaveOneOut",
    "LinearizedNetwork",
    "MarginalLikelihood",
    "Network",
    "NystromRegression",
    "Parallel",
    "Phase",
    "PhaseDiagram",
    "PrecisionError",
    "RandomFeatureModel",
    "Record",
    "Residual",
    "Run",
    "Scale",
    "SmallestEigenvalue",
    "Solution",
    "StoreError",
    "activations",
    "convergence",
    "datasets",
    "diagonal",
    "distributed",
    "dual",
    "dual_derivative",
    "empirical_nngp",
    "empirical_ntk",
    "experiments",
    "finite_width",
    "fit_hyperparameters",
    "gpytorch",
    "gram_from_jacobian",
    "hermite_certificate",
    "hyperparameters",
    "jvp",
    "kernel_change",
    "kernel_flow",
    "kernel_pca",
    "kernel_vjp",
    "kernels",
    "linearize",
    "load",
    "log_marginal_likelihood",
    "max_learning_rate",
    "network_likelihood",
    "neural_tangents",
    "nngp",
    "ntk",
    "ntk_vector_product",
    "phase",
    "phase_diagram",
    "plotting",
    "random_feature_convergence",
    "random_feature_model",
    "save",
    "show_config",
    "sklearn",
    "smallest_eigenvalue",
    "solve",
    "store",
    "torch",
    "train",
    "vjp",
    "width_for",
    "with_hyperparameters",
]

_LAZY_NAMES = {"KernelOperator": "ntkfast.infinite.operator"}  # which need SciPy's sparse matrices


# Modules that need more than the engine does, all names above that are not imported at the top, are imported on first
# use (PEP 562). So is __version__, since importlib.metadata alone takes a third as long as everything else here.
def __getattr__(name: str) -> object:
    if name in _LAZY_NAMES:
        return getattr(_import_module(_LAZY_NAMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("ntkfast")
    if name in __all__:
        return _import_module(f"ntkfast.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__all__", "__doc__", "__version__"})  # what users complete to, no rooms
