"""Estimators, features and kernels for scikit-learn. Importing this imports scikit-learn."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise ImportError("ntkfast.sklearn needs scikit-learn: pip install 'ntkfast[sklearn]'") from None

from ntkfast.sklearn import scikit_ntk
from ntkfast.sklearn.classifier import NTKClassifier
from ntkfast.sklearn.features import NTKFeatures
from ntkfast.sklearn.kernel import NTKKernel
from ntkfast.sklearn.regressor import NTKRegressor

__all__ = ["NTKClassifier", "NTKFeatures", "NTKKernel", "NTKRegressor", "scikit_ntk"]
