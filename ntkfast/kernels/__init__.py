"""Kernels of infinitely wide networks."""

from ntkfast.kernels.limit import diagonal, kernels, nngp, ntk

__all__ = ["diagonal", "kernels", "nngp", "ntk"]
