"""The slow plain twin of the engine: the recursion of the limit kernels, straight from the formulas.

One recursion, two arithmetics: NumPy arrays in float64 (`kernels`), or one pair at 50 digits (`pair`, `point`), where
the inputs are the exact values of the floats given. Jacot, Gabriel and Hongler (2018), Proposition 1 and Theorem 1.
"""

from collections import namedtuple

import mpmath
import numpy as np

from ntkfast import Dense

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
    name, parameters = activation.instruction
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
