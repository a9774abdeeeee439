"""Duals of φ with no kink but at 0, without a closed form, by Gaussian quadrature in polar coordinates.

The integrals are sums in long double (18 digits where that is 80 bits wide); what goes in and out has mpmath's digits.
A pair that is nearly equal keeps its digits, because E[φφ] comes from E[(φ(u) - φ(v))²], with φ(u) - φ(v) written as a
function of u, v and u - v.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ntkfast.accuracy.formulas import mp

LONG = np.longdouble
REACH = 10  # of a standard Gaussian: exp(-REACH²/2) = 2e-22
NODES = 12
FIRST = 0.5  # the scale of φ near 0


class Phi(NamedTuple):
    """φ, φ', and φ(u) - φ(v) for d = u - v; the sign of φ(-x)/φ(x), or 0."""

    value: object
    slope: object
    difference: object
    parity: int = 0


def expm1(x):
    return np.expm1(np.minimum(x, 1000))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x > 0, 1, small) / (1 + small)


def sech2(x):
    small = np.exp(-2 * np.abs(x))
    return 4 * small / (1 + small) ** 2


def tanh_difference(u, v, d):
    return np.tanh(d) * (1 - np.tanh(u) * np.tanh(v))


def sigmoid_difference(u, v, d):
    return tanh_difference(u / 2, v / 2, d / 2) / 2


def softplus_difference(u, v, d):
    return np.log1p(sigmoid(v) * expm1(d))


def silu():
    return Phi(
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
        lambda u, v, d: d * sigmoid(u) + v * sigmoid_difference(u, v, d),
    )


def gelu_tanh():
    """x sigmoid(2 y) for y = √(2/π) (x + 0.044715 x³)."""
    scale, cubic = 2 * np.sqrt(2 / long(mp.pi)), LONG("0.044715")

    def inner(x):
        return scale * (x + cubic * x**3)

    def difference(u, v, d):
        between = scale * d * (1 + cubic * (u * u + u * v + v * v))
        return d * sigmoid(inner(u)) + v * sigmoid_difference(inner(u), inner(v), between)

    return Phi(
        lambda x: x * sigmoid(inner(x)),
        lambda x: sigmoid(inner(x)) * (1 + x * sigmoid(-inner(x)) * scale * (1 + 3 * cubic * x * x)),
        difference,
    )


def mish():
    def difference(u, v, d):
        inner = softplus(u), softplus(v), softplus_difference(u, v, d)
        return d * np.tanh(inner[0]) + v * tanh_difference(*inner)

    return Phi(
        lambda x: x * np.tanh(softplus(x)),
        lambda x: np.tanh(softplus(x)) + x * sigmoid(x) * sech2(softplus(x)),
        difference,
    )


def exponential_unit(scale, alpha, width):
    """scale x above 0, scale alpha (exp(x/width) - 1) below."""
    scale, alpha, width = LONG(scale), LONG(alpha), LONG(width)

    def below(x):
        return alpha * np.exp(np.minimum(x, 0) / width)

    def value(x):
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / width))

    def difference(u, v, d):
        mixed = np.where((u > 0) & (v > 0), scale * d, value(u) - value(v))
        return np.where((u <= 0) & (v <= 0), scale * below(v) * expm1(d / width), mixed)

    return Phi(value, lambda x: scale * np.where(x > 0, 1, below(x) / width), difference)


def softsign():
    def value(x):
        return x / (1 + np.abs(x))

    def difference(u, v, d):
        return np.where(u * v > 0, d / ((1 + np.abs(u)) * (1 + np.abs(v))), value(u) - value(v))

    return Phi(value, lambda x: 1 / (1 + np.abs(x)) ** 2, difference, -1)


PHI = {
    "tanh": lambda: Phi(np.tanh, sech2, tanh_difference, -1),
    "sigmoid": lambda: Phi(sigmoid, lambda x: sigmoid(x) * sigmoid(-x), sigmoid_difference),
    "softplus": lambda: Phi(softplus, sigmoid, softplus_difference),
    "silu": silu,
    "swish": silu,
    "mish": mish,
    "gelu_tanh": gelu_tanh,
    "arctan": lambda: Phi(np.arctan, lambda x: 1 / (1 + x * x), lambda u, v, d: np.arctan2(d, 1 + u * v), -1),
    "log_cosh": lambda: Phi(
        lambda x: np.abs(x) + np.log1p(np.expm1(-2 * np.abs(x)) / 2),
        np.tanh,
        lambda u, v, d: softplus_difference(2 * u, 2 * v, 2 * d) - d,
        1,
    ),
    "elu": lambda alpha: exponential_unit(1, alpha, 1),
    "selu": lambda: exponential_unit("1.0507009873554804934193349852946", "1.6732632423543772848170429916717", 1),
    "celu": lambda alpha: exponential_unit(1, alpha, alpha),
    "softsign": softsign,
}


@lru_cache(maxsize=4096)
def dual(name, parameters, q1, q2, c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] of an activation in PHI; `parameters` as in Activation."""
    phi = PHI[name](**dict(parameters))
    if q1 == q2 == c:
        return point(phi, q1)
    sign = -1 if c < 0 else 1
    spread = q1 + q2 - 2 * abs(c)  # E[(u - w)²] for w = sign v
    near = spread < (q1 + q2) / 100 and (c > 0 or phi.parity)
    x, y, d, weights = rule(q1, q2, abs(c))
    slope = total(phi.slope(x) * phi.slope(sign * y) * weights)
    if not near:
        return total(phi.value(x) * phi.value(sign * y) * weights), slope
    difference = np.where(np.abs(d) < 1, phi.difference(x, y, d), phi.value(x) - phi.value(y))
    value = (dual(name, parameters, q1, q1, q1)[0] + dual(name, parameters, q2, q2, q2)[0]) / 2
    value -= total(difference**2 * weights) / 2
    return (value if c > 0 else phi.parity * value), slope


def point(phi, q):
    root = long(mp.sqrt(q))
    z, weights = panels(breaks(root))
    weights = weights * np.exp(-z * z / 2) / np.sqrt(2 * long(mp.pi))
    both = np.concatenate([root * z, -root * z])
    weights = np.concatenate([weights, weights])
    return total(phi.value(both) ** 2 * weights), total(phi.slope(both) ** 2 * weights)


def rule(q1, q2, c):
    """Nodes u, v, u - v and weights for a pair with covariance c >= 0.

    u + v = √S x and u - v = e x + f y for S = E[(u + v)²] and independent x, y: (-r sin β, r cos β) is (y, x), so that
    the rays u = 0 and v = 0 are near β = 0 where u and v are nearly equal.
    """
    S = q1 + q2 + 2 * c
    root, e = mp.sqrt(S), (q1 - q2) / mp.sqrt(S)
    f = 2 * mp.sqrt(max(q1 * q2 - c * c, 0) / S)
    pi, rays = long(mp.pi), [long(mp.atan2(f, root + e)), -long(mp.atan2(f, root - e))]  # where u = 0, and v = 0
    largest = long(mp.sqrt(max(q1, q2)))
    graded = [FIRST / (REACH * largest) * LONG(2) ** k for k in range(60)]
    graded = [0, *(step for step in graded if step < pi)]
    rays = [angle + turn for angle in rays for turn in (-pi, 0, pi)]
    edges = {angle + side * step for angle in rays for step in graded for side in (1, -1)}
    edges = sorted({-pi / 2, pi / 2, *(edge for edge in edges if abs(edge) < pi / 2)})
    beta, w = panels(np.array(edges))
    r, radial = panels(breaks(largest))
    radial = radial * r * np.exp(-r * r / 2) / (2 * pi)
    sine, cosine = np.sin(beta)[:, None], np.cos(beta)[:, None]
    root, e, f = long(root), long(e), long(f)
    s, d = -root * sine * r, (f * cosine - e * sine) * r
    weights = w[:, None] * radial
    u, v = (s + d) / 2, (s - d) / 2
    return tuple(np.concatenate([a, b]) for a, b in ((u, -u), (v, -v), (d, -d), (weights, weights)))


def breaks(root):
    """Of the distance from 0 in standard deviations: fine where φ varies, on the scale 1/root."""
    fine = [FIRST / root * LONG(2) ** k for k in range(60)]
    return np.array(sorted({LONG(0), *(edge for edge in fine if edge < 1), *map(LONG, range(1, REACH + 1))}))


def panels(edges):
    x, w = legendre()
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * x).ravel(), (half * w).ravel()


@lru_cache(maxsize=1)
def legendre():
    """Gauss-Legendre nodes and weights in long double: NumPy's, and one step of Newton's iteration in 50 digits."""
    nodes = []
    for start in np.polynomial.legendre.leggauss(NODES)[0]:
        x = mp.mpf(float(start))
        for _ in range(3):
            p, before = mp.legendre(NODES, x), mp.legendre(NODES - 1, x)
            slope = NODES * (x * p - before) / (x * x - 1)
            x -= p / slope
        nodes.append((long(x), long(2 / ((1 - x * x) * slope**2))))
    return np.array(nodes).T


def long(x):
    """An mpmath number in long double."""
    high = float(x)
    return LONG(high) + LONG(float(x - high))


def total(terms):
    """A sum, as an mpmath number."""
    value = np.sum(terms, dtype=LONG)
    high = float(value)
    return mp.mpf(high) + mp.mpf(float(value - high))
