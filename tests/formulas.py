"""Every named activation as a formula under its public name: φ, and the dual where the literature has a closed form.

Written from the definitions and papers, using only the name and the parameters of ntkfast's activations, so that a
wrong φ, a wrong instruction or a wrong lowering is detected. The duals are those of `ntkfast accuracy`.
"""

import math

import numpy as np
from scipy import special

from ntkfast.accuracy.formulas import DIGITS, DUALS, FLOAT, SIGMOID_LIKE, dual, hermite_coefficients, mp

__all__ = ["DIGITS", "DUALS", "FLOAT", "PHI", "dual", "mp", "phi", "slope"]


# NumPy arrays in, real or complex: analytic on each side of a kink, so that `slope` can take a complex step.


def phi(activation):
    """φ of this activation as a function of an array."""
    formula, parameters = PHI[activation.name], dict(activation.parameters)
    return lambda x: formula(np.asarray(x), **parameters)


def slope(activation):
    """φ' by a complex step: Im φ(x + ih)/h, free of the rounding error of a difference. Not valid at kinks."""
    function = phi(activation)
    return lambda x: np.imag(function(x + 1e-30j)) / 1e-30


def sides(x, below, above):
    return np.where(x.real > 0, above, below)


def power_sum(x, coefficients):
    return sum(c * x**k for k, c in enumerate(coefficients))


def softplus(x):
    size = sides(x, -x, x)
    return (x + size) / 2 + np.log1p(np.exp(-size))


def sigmoid(x):
    return np.exp(x - softplus(x))


def clipped(x, low, high):
    return np.where(x.real <= low, low, np.where(x.real >= high, high, x))


def integrated(x):
    """The integral of (1 + clipped(x, -1, 1))/2 from -1."""
    return sides(x + 1, 0, sides(x - 1, (x + 1) ** 2 / 4, x))


def expm1_below(x, scale=1.0):
    """exp(x/scale) - 1 for x <= 0, without overflow for x > 0."""
    return np.expm1(sides(x, x, 0) / scale)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

PHI = {
    "relu": lambda x: sides(x, 0, x),
    "leaky_relu": lambda x, alpha: sides(x, alpha * x, x),
    "abrelu": lambda x, a, b: sides(x, a * x, b * x),
    "abs": lambda x: sides(x, -x, x),
    "identity": lambda x: x,
    "erf": lambda x, a, b, c: a * special.erf(b * x) + c,
    "sigmoid_like": lambda x: (special.erf(x / SIGMOID_LIKE) + 1) / 2,
    "gelu": lambda x: x * special.erfc(-x / math.sqrt(2)) / 2,
    "sin": lambda x, a, b, k: a * np.sin(b * x + k),
    "cos": lambda x, a, b, k: a * np.cos(b * x + k),
    "rbf": lambda x, gamma: math.sqrt(2) * np.sin(math.sqrt(2 * gamma) * x + math.pi / 4),
    "exp": lambda x, a, b: a * np.exp(b * x),
    "cosh": lambda x, a, b: a * np.cosh(b * x),
    "sinh": lambda x, a, b: a * np.sinh(b * x),
    "gaussian": lambda x, a, b: a * np.exp(b * x * x),
    "monomial": lambda x, degree: x**degree,
    "polynomial": lambda x, coefficients: power_sum(x, coefficients),
    "hermite": lambda x, degree: power_sum(x, hermite_coefficients(degree)),
    "rectified_monomial": lambda x, order: sides(x, 0, x**order) if order else (1 + np.sign(x.real)) / 2,
    "sign": lambda x: np.sign(x.real),
    "step": lambda x: (1 + np.sign(x.real)) / 2,
    "hardtanh": lambda x, low, high: clipped(x, low, high),
    "hardsigmoid": lambda x: clipped(x / 6 + 0.5, 0, 1),
    "relu6": lambda x: clipped(x, 0, 6),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "arctan": np.arctan,
    "log_cosh": lambda x: softplus(2 * x) - x - math.log(2),
    "elu": lambda x, alpha: sides(x, alpha * expm1_below(x), x),
    "selu": lambda x: SELU_SCALE * sides(x, SELU_ALPHA * expm1_below(x), x),
    "celu": lambda x, alpha: sides(x, alpha * expm1_below(x, alpha), x),
    "softsign": lambda x: x / (1 + sides(x, -x, x)),
    "gelu_tanh": lambda x: x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
    "softshrink": lambda x, threshold: x - clipped(x, -threshold, threshold),
    "hardshrink": lambda x, threshold: x * (sides(x - threshold, 0, 1) + sides(x + threshold, 1, 0)),
    "threshold": lambda x, threshold, value: sides(x - threshold, value, x),
    "squared_relu": lambda x, threshold: sides(x - threshold, 0, x - threshold) ** 2,
    "hard_swish": lambda x: x * clipped(x / 6 + 0.5, 0, 1),
    "smelu": lambda x, beta: beta * integrated(x / beta),
}
