"""The slow plain twin of the engine: the recursion of the limit kernels, straight from the formulas.

One recursion, two arithmetics: NumPy arrays in float64 (`kernels`), or one pair at 50 digits (`pair`, `point`), where
the inputs are the exact values of the floats given. Jacot, Gabriel and Hongler (2018), Proposition 1 and Theorem 1.
"""

from collections import namedtuple

import mpmath
import numpy as np

from ntkfast import Dense
from ntkfast.accuracy import pair_expectation  # noqa: F401  (the oracle of the accuracy table)

mp = mpmath.mp.clone()
mp.dps = 50

Arithmetic = namedtuple("Arithmetic", "number sqrt atan2 maximum where pi")
FLOAT = Arithmetic(float, np.sqrt, np.arctan2, np.maximum, np.where, np.pi)
DIGITS = Arithmetic(mp.mpf, mp.sqrt, mp.atan2, max, lambda condition, a, b: a if condition else b, mp.pi)

# Σ, Θ and Σ̇ of a pair (xy) after an affine layer, with those of both of its points; activation: the one before it
State = namedtuple("State", "activation dense xx yy xy ntk_xx ntk_yy ntk_xy dot_xy")


def dual(activation, q1, q2, c, m):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] for variances q1, q2 and covariance c, in the arithmetic m."""
    if activation is None:
        return c, 1 + 0 * c
    name, parameters = activation.instruction.name, activation.instruction.parameters
    p = q1 * q2
    rest = m.maximum(p - c * c, 0 * p)
    if name == "piecewise_linear":
        a, b = map(m.number, parameters)
        sine, jump = m.sqrt(rest), (a - b) ** 2 / (2 * m.pi)
        # A point of variance 0 is the constant 0, where φ' is the mean of both slopes: that is θ = π/2.
        theta = m.where(p > 0, m.atan2(sine, c), m.pi / 2)
        slope = (a * a + b * b) / 2 - jump * theta
        return jump * sine + c * slope, slope
    if name == "erf":
        a, b, k = map(m.number, parameters)
        s = 2 * b * b
        root = m.sqrt(1 + s * (q1 + q2) + s * s * rest)  # √D, its product multiplied out
        return 2 * a * a / m.pi * m.atan2(s * c, root) + k * k, 2 * a * a * s / (m.pi * root)
    if m is DIGITS:
        return closed_form(activation, q1, q2, c)
    raise NotImplementedError(name)


def recursion(net, n_inputs, xx, yy, xy, m):
    """Yield the State after every affine layer, from the inner products xx, yy and xy of the inputs."""
    sigma, theta = [xx, yy, xy], [0 * xx, 0 * yy, 0 * xy]
    activation, dot, divisor = None, None, n_inputs
    for layer in net.layers:
        if not isinstance(layer, Dense):
            activation = layer
            continue
        fields = (layer.weight_std, layer.bias_std, layer.weight_lr, layer.bias_lr)
        w, beta, weight_lr, bias_lr = map(m.number, fields)
        w2 = w * w / divisor
        q1, q2, c = sigma
        for k, (left, right, both) in enumerate([(q1, q1, q1), (q2, q2, q2), (q1, q2, c)]):
            value, slope = dual(activation, left, right, both, m)
            theta[k] = w2 * theta[k] * slope + weight_lr * w2 * value + bias_lr * beta**2
            sigma[k] = w2 * value + beta**2
        dot = dot if activation is None else w2 * slope
        yield State(activation, layer, *sigma, *theta, dot)
        activation, divisor = None, 1


def products(X, Y=None):
    """Inner products of float64 rows: squared norms (n, 1) and (1, m), and X·Yᵀ (n, m)."""
    X = np.asarray(X, np.float64)
    Z = X if Y is None else np.asarray(Y, np.float64)
    xx, yy, xy = np.sum(X * X, axis=1), np.sum(Z * Z, axis=1), X @ Z.T
    if Y is None:
        np.fill_diagonal(xy, xx)  # a point has correlation 1 with itself, to the last bit
    return xx[:, None], yy[None, :], xy


def kernels(net, X, Y=None):
    """Dict of the kernels "nngp", "ntk" and "nngp_dot" (None without an activation), each (n, m), in float64."""
    *_, last = recursion(net, np.shape(X)[1], *products(X, Y), FLOAT)
    return {"nngp": last.xy, "ntk": last.ntk_xy, "nngp_dot": last.dot_xy}


def exact_products(x, y):
    """x·x, y·y and x·y of two points at 50 digits."""
    x, y = [mp.mpf(float(value)) for value in x], [mp.mpf(float(value)) for value in y]
    return mp.fdot(x, x), mp.fdot(y, y), mp.fdot(x, y)


def pair(net, x, y):
    """The final State of one pair at 50 digits: xy (Σ), ntk_xy (Θ), dot_xy, and the values of both points."""
    *_, last = recursion(net, len(x), *exact_products(x, y), DIGITS)
    return last


def point(net, x):
    """The final State of the pair (x, x) at 50 digits."""
    return pair(net, x, x)


def points(net, x):
    """The State of the pair (x, x) after every affine layer."""
    return list(recursion(net, len(x), *exact_products(x, x), DIGITS))


# ---- duals of single activations -----------------------------------------------------------------------------


def closed_form(activation, q1, q2, c):
    """E[φφ] and E[φ'φ'] at 50 digits, from the table in the literature (MATH section 4), for exact q1, q2, c."""
    q1, q2, c = mp.mpf(q1), mp.mpf(q2), mp.mpf(c)
    name, parameters = activation.instruction.name, activation.instruction.parameters
    with mp.workdps(80):
        p = q1 * q2
        if c * c > p * (1 - mp.mpf(2) ** -52):  # at the ends
            c = mp.sign(c) * mp.sqrt(p)
        return FORMULAS[name](q1, q2, c, p, *parameters)


def _two_slopes(q1, q2, c, p, a, b):
    theta = mp.acos(c / mp.sqrt(p))
    slope = (mp.mpf(a) ** 2 + mp.mpf(b) ** 2) / 2 - (mp.mpf(a) - b) ** 2 * theta / (2 * mp.pi)
    return (mp.mpf(a) - b) ** 2 * mp.sqrt(p - c * c) / (2 * mp.pi) + c * slope, slope


def _erf(q1, q2, c, p, a, b, k):
    a, b, k = map(mp.mpf, (a, b, k))
    root = mp.sqrt((1 + 2 * b * b * q1) * (1 + 2 * b * b * q2) - 4 * b**4 * c * c)
    return 2 * a * a / mp.pi * mp.atan2(2 * b * b * c, root) + k * k, 4 * a * a * b * b / (mp.pi * root)


def _gelu(q1, q2, c, p):
    P = (1 + q1) * (1 + q2)
    D = P - c * c
    A = mp.atan2(c, mp.sqrt(D))
    value = c / 4 + (c * A + (c * c + p * D) / (P * mp.sqrt(D))) / (2 * mp.pi)
    return value, mp.mpf(1) / 4 + (A + (c / mp.sqrt(D)) * (1 / D + (1 - p) / P + 1)) / (2 * mp.pi)


def _sine(q1, q2, c, p, a, b, cosine):
    a, b, cosine = map(mp.mpf, (a, b, cosine))
    minus, plus = (mp.exp(-b * b * ((q1 + q2) / 2 + sign * c)) for sign in (-1, 1))
    return a * a / 2 * (minus - cosine * plus), a * a * b * b / 2 * (minus + cosine * plus)


def _exponential(q1, q2, c, p, a, b):
    value = mp.mpf(a) ** 2 * mp.exp(mp.mpf(b) ** 2 * ((q1 + q2) / 2 + c))
    return value, mp.mpf(b) ** 2 * value


def _gaussian(q1, q2, c, p, a, b):
    a, b = mp.mpf(a), mp.mpf(b)
    D = (1 - 2 * b * q1) * (1 - 2 * b * q2) - 4 * b * b * c * c
    return a * a / mp.sqrt(D), 4 * a * a * b * b * c / mp.sqrt(D) ** 3


def _polynomial(q1, q2, c, p, *coefficients):
    """Moments of a Gaussian pair by Isserlis: E[u^i v^j] = Σ_m m! C(i,m) C(j,m) c^m E[u^(i-m)] E[v^(j-m)]."""

    def dual(b):
        return mp.fsum(
            b[i] * b[j] * _mixed(i, j, m) * c**m * (q1 ** ((i - m) // 2)) * (q2 ** ((j - m) // 2))
            for i in range(len(b))
            for j in range(len(b))
            for m in range(i % 2, min(i, j) + 1, 2)
            if (i - j) % 2 == 0
        )

    b = [mp.mpf(value) for value in coefficients]
    return dual(b), dual([k * b[k] for k in range(1, len(b))])


def _mixed(i, j, m):
    """m! C(i,m) C(j,m) (i-m-1)!! (j-m-1)!!"""
    return mp.fac(m) * mp.binomial(i, m) * mp.binomial(j, m) * mp.fac2(i - m - 1) * mp.fac2(j - m - 1)


def _arc_cosine(q1, q2, c, p, n, a, k):
    theta = mp.acos(c / mp.sqrt(p))

    def angular(order):
        """(-1)^n sin^(2n+1) (1/sin d/dθ)^n ((π-θ)/sin θ), by its integral: no division by sin θ."""
        if theta == mp.pi:
            return mp.mpf(0)
        f = lambda t: mp.cos(t) ** order / (1 - mp.cos(t) * mp.cos(theta)) ** (order + 1)  # noqa: E731
        if theta == 0:
            return mp.pi * mp.fac2(2 * order - 1)
        with mp.workdps(30):
            return mp.fac(order) * mp.sin(theta) ** (2 * order + 1) * mp.quad(f, [0, mp.pi / 2])

    value = a * mp.sqrt(p) ** n * angular(n) / (2 * mp.pi) + k
    return value, a * n * n * mp.sqrt(p) ** (n - 1) * angular(n - 1) / (2 * mp.pi) if n else mp.mpf(0)


FORMULAS = {
    "piecewise_linear": _two_slopes,
    "erf": _erf,
    "gelu": _gelu,
    "sine": _sine,
    "exponential": _exponential,
    "gaussian": _gaussian,
    "polynomial": _polynomial,
    "arc_cosine": _arc_cosine,
}
