"""Estimators for scikit-learn, and a kernel for its Gaussian processes. Importing this imports scikit-learn."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise ImportError("ntkfast.sklearn needs scikit-learn: pip install 'ntkfast[sklearn]'") from None

from ntkfast.sklearn import scikit_ntk
from ntkfast.sklearn.classifier import NTKClassifier
from ntkfast.sklearn.kernel import NTKKernel
from ntkfast.sklearn.regressor import NTKRegressor

__all__ = ["NTKClassifier", "NTKKernel", "NTKRegressor", "scikit_ntk"]
