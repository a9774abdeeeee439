"""Empirical tangent kernels of PyTorch modules. Importing this does not import PyTorch, calling it does."""

from ntkfast.torch.empirical import empirical_ntk

__all__ = ["empirical_ntk"]
