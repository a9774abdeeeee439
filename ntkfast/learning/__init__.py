"""Learning with kernels: gradient descent in function space, Gaussian processes, spectra."""

from ntkfast.learning.descent import KernelFlow, kernel_flow
from ntkfast.learning.flow import EarlyStopping, LeastSquaresFlow
from ntkfast.learning.gaussian import GaussianProcess, LeaveOneOut, MarginalLikelihood, log_marginal_likelihood
from ntkfast.learning.spectrum import KernelPCA, kernel_pca

__all__ = [
    "EarlyStopping",
    "GaussianProcess",
    "KernelFlow",
    "KernelPCA",
    "LeastSquaresFlow",
    "LeaveOneOut",
    "MarginalLikelihood",
    "kernel_flow",
    "kernel_pca",
    "log_marginal_likelihood",
]
