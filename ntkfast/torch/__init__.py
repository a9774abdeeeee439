"""Kernels for PyTorch: empirical ones of modules, and limit kernels that autograd differentiates.

Importing this does not import PyTorch, calling it does.
"""

from ntkfast.torch.empirical import empirical_ntk
from ntkfast.torch.limit import nngp, ntk

__all__ = ["empirical_ntk", "nngp", "ntk"]
