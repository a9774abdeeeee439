"""The slow, plain twin of the limit kernels: their recursion over the layers in `net.layers`.

One recursion, two arithmetics: NumPy arrays in float64 (`kernels`), or one pair at 50 digits (`pair`, `point`), where
the inputs are the exact values of the floats given. Jacot, Gabriel and Hongler (2018), Proposition 1 and Theorem 1.
Activations come from formulas.py, by name; those without a closed form use a plain sum in place of the integral, in
float64 only.
"""

from collections import namedtuple

import formulas
import numpy as np
from expectation import pair_expectation  # noqa: F401  (tests take it from here)
from formulas import DIGITS, FLOAT, dual, mp

import ntkfast as nf

# Σ and Θ of a pair (xy) and of both of its points. fan_in: the divisor of the next Dense. slope_xy: E[φ'φ'] of the
# activation just passed; dot_xy: Σ̇, that of the last activation after its Dense; both None if there is none.
State = namedtuple("State", "xx yy xy ntk_xx ntk_yy ntk_xy fan_in slope_xy dot_xy")
KERNELS = {"nngp": "xy", "ntk": "ntk_xy", "nngp_dot": "dot_xy"}


def dense(layer, s, same, m):
    w2, b2 = m.number(layer.weight_std) ** 2 / s.fan_in, m.number(layer.bias_std) ** 2
    weight_lr, bias_lr = m.number(layer.weight_lr), m.number(layer.bias_lr)
    sigma = [w2 * value + b2 for value in s[:3]]
    theta = [w2 * t + weight_lr * w2 * value + bias_lr * b2 for t, value in zip(s[3:6], s[:3], strict=True)]
    dot = s.dot_xy if s.slope_xy is None else w2 * s.slope_xy
    return State(*sigma, *theta, 1, None, dot)


def activate(activation, s, same, m):
    pairs = (s.xx, s.xx, s.xx), (s.yy, s.yy, s.yy), (s.xx, s.yy, s.xy)
    has_formula = activation.name in formulas.DUALS
    duals = [dual(activation, *pair, m) if has_formula else by_sums(activation, *pair) for pair in pairs]
    theta = [t * slope for t, (_, slope) in zip(s[3:6], duals, strict=True)]
    return State(*(value for value, _ in duals), *theta, s.fan_in, duals[2][1], s.dot_xy)


def layer_norm(layer, s, same, m):
    scale = m.sqrt(s.xx) * m.sqrt(s.yy)
    return s._replace(xx=s.xx / s.xx, yy=s.yy / s.yy, xy=s.xy / scale,
                      ntk_xx=s.ntk_xx / s.xx, ntk_yy=s.ntk_yy / s.yy, ntk_xy=s.ntk_xy / scale)  # fmt: skip


def dropout(layer, s, same, m):
    """Masks of different points are independent; `same` is 1 for a point with itself."""
    grown = 1 / (1 - m.number(layer.rate))
    grown_xy = 1 + same * (grown - 1)
    return s._replace(xx=s.xx * grown, yy=s.yy * grown, xy=s.xy * grown_xy,
                      ntk_xx=s.ntk_xx * grown, ntk_yy=s.ntk_yy * grown, ntk_xy=s.ntk_xy * grown_xy)  # fmt: skip


def residual(layer, s, same, m):
    *_, body = walk(layer.layers, s, same, m)
    scale = m.number(layer.scale) ** 2
    sums = (a + scale * b for a, b in zip(s[:6], body[:6], strict=True))
    return State(*sums, s.fan_in, None, s.dot_xy)


STEPS = {
    nf.Dense: dense,
    nf.Activation: activate,
    nf.LayerNorm: layer_norm,
    nf.Dropout: dropout,
    nf.Residual: residual,
}


def walk(layers, state, same, m):
    """Yield the State after every layer. A point has correlation 1 with itself, to the last bit."""
    for layer in layers:
        state = STEPS[type(layer)](layer, state, same, m)
        state = state._replace(xy=m.where(same, state.xx, state.xy), ntk_xy=m.where(same, state.ntk_xx, state.ntk_xy))
        yield state


def recursion(net, n_inputs, products, m, same=0):
    """Yield every layer with the State after it, from the inner products (xx, yy, xy) of the inputs."""
    start = State(*products, *(0 * value for value in products), n_inputs, None, None)
    yield from zip(net.layers, walk(net.layers, start, same, m), strict=True)


def by_sums(activation, q1, q2, c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] of a smooth φ by the trapezoidal rule, which converges geometrically.

    u = √q1 z and v = √q2 (ρ z + √(1-ρ²) w). For a φ without poles within |Im x| < d the error is e^(-2πd/(h√q)): for
    tanh, d = π/2, and q = 20, that is 3e-10.
    """
    h = 0.1
    z = np.arange(-8.5, 8.5 + h, h)
    weights = h * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    q1, q2, c = (array[..., None, None] for array in np.broadcast_arrays(q1, q2, c))
    rho = np.clip(c / np.sqrt(q1 * q2), -1, 1)
    u, v = np.sqrt(q1) * z[:, None], np.sqrt(q2) * (rho * z[:, None] + np.sqrt(1 - rho * rho) * z)
    step = 1e-30
    left, right = (formulas.phi(activation)(x + 1j * step) for x in (u, v))
    return tuple(
        np.einsum("...zo,...zw,z,w->...", a, b, weights, weights, optimize=True)
        for a, b in ((left.real, right.real), (left.imag / step, right.imag / step))
    )


def products(X, Y=None):
    """Inner products of float64 rows: squared norms (n, 1) and (1, m), and X·Yᵀ (n, m)."""
    X = np.asarray(X, np.float64)
    Z = X if Y is None else np.asarray(Y, np.float64)
    xx, yy, xy = np.sum(X * X, axis=1), np.sum(Z * Z, axis=1), X @ Z.T
    if Y is None:
        np.fill_diagonal(xy, xx)
    return xx[:, None], yy[None, :], xy


def kernels(net, X, Y=None):
    """Dict of the kernels "nngp", "ntk" and "nngp_dot" (None without an activation), each (n, m), in float64."""
    same = np.eye(len(X)) if Y is None else 0
    *_, (_, last) = recursion(net, np.shape(X)[1], products(X, Y), FLOAT, same)
    return {name: getattr(last, field) for name, field in KERNELS.items()}


def exact_products(x, y):
    """x·x, y·y and x·y of two points at 50 digits."""
    x, y = [mp.mpf(float(value)) for value in x], [mp.mpf(float(value)) for value in y]
    return mp.fdot(x, x), mp.fdot(y, y), mp.fdot(x, y)


def pair(net, x, y):
    """The final State of one pair of different points at 50 digits: xy (Σ), ntk_xy (Θ), dot_xy, and both points'."""
    *_, (_, last) = recursion(net, len(x), exact_products(x, y), DIGITS)
    return last


def points(net, x):
    """The State of the pair (x, x) at 50 digits after every Dense of a network without blocks."""
    states = recursion(net, len(x), exact_products(x, x), DIGITS, same=1)
    return [state for layer, state in states if isinstance(layer, nf.Dense)]
