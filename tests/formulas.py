"""Every named activation as a formula under its public name: φ, and the dual where the literature has a closed form.

Written from the definitions and papers, using only the name and the parameters of ntkfast's activations, so that a
wrong φ, a wrong instruction or a wrong lowering is detected.
"""

import math
from collections import namedtuple

import mpmath
import numpy as np
from scipy import special

mp = mpmath.mp.clone()
mp.dps = 50

Arithmetic = namedtuple("Arithmetic", "number sqrt exp atan2 maximum where pi")
FLOAT = Arithmetic(float, np.sqrt, np.exp, np.arctan2, np.maximum, np.where, np.pi)
DIGITS = Arithmetic(mp.mpf, mp.sqrt, mp.exp, mp.atan2, max, lambda condition, a, b: a if condition else b, mp.pi)


# ---- φ -------------------------------------------------------------------------------------------------------
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


def hermite_coefficients(degree):
    """Of He_n/√n!, with He_n = n! Σ_m (-1)^m x^(n-2m) / (m! (n-2m)! 2^m)."""
    coefficients = [0.0] * (degree + 1)
    for m in range(degree // 2 + 1):
        size = math.factorial(degree) // (math.factorial(m) * math.factorial(degree - 2 * m) * 2**m)
        coefficients[degree - 2 * m] = (-1) ** m * size / math.sqrt(math.factorial(degree))
    return coefficients


def clipped(x, low, high):
    return np.where(x.real <= low, low, np.where(x.real >= high, high, x))


def integrated(x):
    """The integral of (1 + clipped(x, -1, 1))/2 from -1."""
    return sides(x + 1, 0, sides(x - 1, (x + 1) ** 2 / 4, x))


def expm1_below(x, scale=1.0):
    """exp(x/scale) - 1 for x <= 0, without overflow for x > 0."""
    return np.expm1(sides(x, x, 0) / scale)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
SIGMOID_LIKE = 2.4020563531719796

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


# ---- duals ---------------------------------------------------------------------------------------------------
# E[φ(u)φ(v)] and E[φ'(u)φ'(v)] for variances q1, q2 and covariance c, in the arithmetic m.


def dual(activation, q1, q2, c, m=DIGITS):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] from the closed form of this activation."""
    parameters = {key: numbers(value, m) for key, value in activation.parameters}
    return DUALS[activation.name](q1, q2, c, m, **parameters)


def numbers(value, m):
    """A parameter in the arithmetic m; orders and degrees, which are integers, are unchanged."""
    if isinstance(value, tuple):
        return [m.number(entry) for entry in value]
    return value if isinstance(value, int) else m.number(value)


def angle(q1, q2, c, m):
    """θ and √(q1 q2) sin θ. A point of variance 0 is the constant 0, where φ' is the mean of both slopes: θ = π/2."""
    p = q1 * q2
    sine = m.sqrt(m.maximum(p - c * c, 0 * p))
    return m.where(p > 0, m.atan2(sine, c), m.pi / 2), sine


def two_slopes(q1, q2, c, m, below, above):
    """Cho and Saul (2009), order 1, with a linear part."""
    theta, sine = angle(q1, q2, c, m)
    jump = (above - below) ** 2 / (2 * m.pi)
    slope = (below**2 + above**2) / m.number(2) - jump * theta
    return jump * sine + c * slope, slope


def arcsine(q1, q2, c, m, a, b, offset):
    """Williams (1997). D = (1 + 2b²q1)(1 + 2b²q2) - (2b²c)², its product multiplied out."""
    s = 2 * b * b
    p = q1 * q2
    root = m.sqrt(1 + s * (q1 + q2) + s * s * m.maximum(p - c * c, 0 * p))
    return 2 * a * a / m.pi * m.atan2(s * c, root) + offset**2, 2 * a * a * s / (m.pi * root)


def gelu(q1, q2, c, m):
    p, P = q1 * q2, (1 + q1) * (1 + q2)
    D = P - c * c
    angle = m.atan2(c, m.sqrt(D))
    value = c / 4 + (c * angle + (c * c + p * D) / (P * m.sqrt(D))) / (2 * m.pi)
    return value, 1 / m.number(4) + (angle + c / m.sqrt(D) * (1 / D + (1 - p) / P + 1)) / (2 * m.pi)


def sine(q1, q2, c, m, a, b, cosine):
    """a sin(bx + k), with cosine = cos 2k."""
    minus, plus = (m.exp(-b * b * ((q1 + q2) / 2 + sign * c)) for sign in (-1, 1))
    return a * a / 2 * (minus - cosine * plus), a * a * b * b / 2 * (minus + cosine * plus)


def exponential(q1, q2, c, m, a, b):
    value = a * a * m.exp(b * b * ((q1 + q2) / 2 + c))
    return value, b * b * value


def hyperbolic(q1, q2, c, m, a, b):
    """The duals of a cosh(bx) and of a sinh(bx), by 2 cosh(bu) cosh(bv) = cosh(b(u + v)) + cosh(b(u - v))."""
    plus, minus = (m.exp(b * b * ((q1 + q2) / 2 + sign * c)) for sign in (1, -1))
    even, odd = a * a / 2 * (plus + minus), a * a / 2 * (plus - minus)
    return (even, b * b * odd), (odd, b * b * even)


def gaussian(q1, q2, c, m, a, b):
    D = (1 - 2 * b * q1) * (1 - 2 * b * q2) - 4 * b * b * c * c
    return a * a / m.sqrt(D), 4 * a * a * b * b * c / m.sqrt(D) ** 3


def double_factorial(n):
    return math.prod(range(n, 0, -2))


def polynomial(q1, q2, c, m, coefficients):
    """Moments of a Gaussian pair by Isserlis' theorem: E[u^i v^j] = Σ_n n! C(i,n) C(j,n) c^n E[u^(i-n)] E[v^(j-n)]."""

    def moment(i, j):
        return sum(
            (math.factorial(n) * math.comb(i, n) * math.comb(j, n))
            * (double_factorial(i - n - 1) * double_factorial(j - n - 1))
            * (c**n * q1 ** ((i - n) // 2) * q2 ** ((j - n) // 2))
            for n in range(i % 2, min(i, j) + 1, 2)
        )

    def expectation(b):
        places = [(i, j) for i in range(len(b)) for j in range(len(b)) if b[i] and b[j] and (i - j) % 2 == 0]
        return sum((b[i] * b[j] * moment(i, j) for i, j in places), 0 * c)

    return expectation(coefficients), expectation([k * b for k, b in enumerate(coefficients)][1:])


def arc_cosine(q1, q2, c, m, order):
    """√(q1 q2)^n J_n(θ)/2π (Cho and Saul, 2009), and n² times that of order n - 1."""
    theta, _ = angle(q1, q2, c, m)
    size = m.sqrt(q1 * q2)
    cosine = c / size
    sine = m.sqrt(m.maximum(1 - cosine * cosine, 0 * cosine))

    def J(n):
        """sin^(2n+1) θ dⁿ/d(cos θ)ⁿ ((π-θ)/sin θ) = A_n sin θ + B_n (π-θ): A, B by the quotient rule."""
        A, B = [0], [1]  # coefficients of powers of cos θ
        for k in range(n):
            A, B = added(raised(A, 2 * k), B), raised(B, 2 * k + 1)
        evaluate = lambda b: sum(value * cosine**j for j, value in enumerate(b))  # noqa: E731
        return evaluate(A) * sine + evaluate(B) * (m.pi - theta)

    return tuple(
        factor * size**n * J(n) / (2 * m.pi) if n >= 0 else 0 * c for n, factor in ((order, 1), (order - 1, order**2))
    )


def raised(b, k):
    """(1 - x²) b' + k x b."""
    slope = [j * value for j, value in enumerate(b)][1:]
    return added(added(slope, [0, 0, *(-value for value in slope)]), [0, *(k * value for value in b)])


def added(a, b):
    size = max(len(a), len(b))
    a, b = ([*values, *[0] * (size - len(values))] for values in (a, b))
    return [x + y for x, y in zip(a, b, strict=True)]


def sign(q1, q2, c, m):
    """4 E[step step] - 1."""
    value, slope = arc_cosine(q1, q2, c, m, 0)
    return 4 * value - 1, slope


DUALS = {
    "relu": lambda *pair: two_slopes(*pair, 0, 1),
    "leaky_relu": lambda *pair, alpha: two_slopes(*pair, alpha, 1),
    "abrelu": lambda *pair, a, b: two_slopes(*pair, a, b),
    "abs": lambda *pair: two_slopes(*pair, -1, 1),
    "identity": lambda *pair: two_slopes(*pair, 1, 1),
    "erf": lambda *pair, a, b, c: arcsine(*pair, a, b, c),
    "sigmoid_like": lambda q1, q2, c, m: arcsine(q1, q2, c, m, 1 / m.number(2), 1 / m.number(SIGMOID_LIKE), 0.5),
    "gelu": gelu,
    "sin": lambda *pair, a, b, k: sine(*pair, a, b, cosine_of(2 * k, pair[-1])),
    "cos": lambda *pair, a, b, k: sine(*pair, a, b, -cosine_of(2 * k, pair[-1])),
    "rbf": lambda q1, q2, c, m, gamma: sine(q1, q2, c, m, m.sqrt(m.number(2)), m.sqrt(2 * gamma), 0),
    "exp": exponential,
    "cosh": lambda *pair, a, b: hyperbolic(*pair, a, b)[0],
    "sinh": lambda *pair, a, b: hyperbolic(*pair, a, b)[1],
    "gaussian": gaussian,
    "monomial": lambda *pair, degree: polynomial(*pair, [0] * degree + [1]),
    "polynomial": polynomial,
    "hermite": lambda q1, q2, c, m, degree: polynomial(q1, q2, c, m, numbers(tuple(hermite_coefficients(degree)), m)),
    "rectified_monomial": arc_cosine,
    "step": lambda *pair: arc_cosine(*pair, 0),
    "sign": sign,
}


def cosine_of(x, m):
    return mp.cos(x) if m is DIGITS else math.cos(x)
