"""Learning with kernels: gradient descent in function space, Gaussian processes, spectra."""

from ntkfast.learning.descent import KernelFlow, kernel_flow
from ntkfast.learning.flow import EarlyStopping, LeastSquaresFlow

__all__ = ["EarlyStopping", "KernelFlow", "LeastSquaresFlow", "kernel_flow"]
