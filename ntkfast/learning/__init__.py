"""Learning with kernels: gradient descent in function space, Gaussian processes, spectra."""

from ntkfast.learning.flow import EarlyStopping, LeastSquaresFlow

__all__ = ["EarlyStopping", "LeastSquaresFlow"]
