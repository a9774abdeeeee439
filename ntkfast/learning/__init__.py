"""Learning with kernels: gradient descent in function space, Gaussian processes, spectra."""

from ntkfast.learning.descent import KernelFlow, kernel_flow
from ntkfast.learning.features import (
    FeatureConvergence,
    RandomFeatureModel,
    random_feature_convergence,
    random_feature_model,
)
from ntkfast.learning.flow import EarlyStopping, LeastSquaresFlow
from ntkfast.learning.gaussian import GaussianProcess, LeaveOneOut, MarginalLikelihood, log_marginal_likelihood
from ntkfast.learning.hyperparameters import FittedHyperparameters, fit_hyperparameters, network_likelihood
from ntkfast.learning.positivity import (
    HermiteCertificate,
    SmallestEigenvalue,
    hermite_certificate,
    smallest_eigenvalue,
)
from ntkfast.learning.spectrum import KernelPCA, kernel_pca

__all__ = [
    "EarlyStopping",
    "FeatureConvergence",
    "FittedHyperparameters",
    "GaussianProcess",
    "HermiteCertificate",
    "KernelFlow",
    "KernelPCA",
    "LeastSquaresFlow",
    "LeaveOneOut",
    "MarginalLikelihood",
    "RandomFeatureModel",
    "SmallestEigenvalue",
    "fit_hyperparameters",
    "hermite_certificate",
    "kernel_flow",
    "kernel_pca",
    "log_marginal_likelihood",
    "network_likelihood",
    "random_feature_convergence",
    "random_feature_model",
    "smallest_eigenvalue",
]
