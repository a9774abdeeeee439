"""Networks of finite width: their passes, products with their Jacobian, gradient descent."""

from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.passes import layer_factors
from ntkfast.finite.products import jvp, linearize, ntk_vector_product, vjp
from ntkfast.finite.training import DivergenceError, Record, Run, max_learning_rate, train

__all__ = [
    "DivergenceError",
    "FiniteNetwork",
    "Record",
    "Run",
    "jvp",
    "layer_factors",
    "linearize",
    "max_learning_rate",
    "ntk_vector_product",
    "train",
    "vjp",
]
