"""A kernel for GPyTorch and BoTorch. Importing this does not import GPyTorch, using it does."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from ntkfast.gpytorch.kernel import NTKKernel

__all__ = ["NTKKernel"]


def __getattr__(name: str) -> object:  # PEP 562: the class derives from one of GPyTorch
    if name != "NTKKernel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import gpytorch as _gpytorch  # noqa: F401
    except ImportError as error:
        raise ImportError("ntkfast.gpytorch needs GPyTorch: pip install 'ntkfast[gpytorch]'") from error
    from ntkfast.gpytorch.kernel import NTKKernel

    return NTKKernel
