"""A kernel for GPyTorch and BoTorch. Importing this imports GPyTorch."""

try:
    import gpytorch as _gpytorch  # noqa: F401
except ImportError as _error:
    raise ImportError("ntkfast.gpytorch needs GPyTorch: pip install 'ntkfast[gpytorch]'") from _error

from ntkfast.gpytorch.kernel import NTKKernel

__all__ = ["NTKKernel"]
