"""Points that coincide, are opposite, proportional, zero or a rounding apart, of any scale and at any depth, give
finite symmetric kernels whose smallest eigenvalue is not below zero by more than rounding in each layer (where duals
are series, 1e-10 of the diagonal), and finite derivatives, but for activations that jump and have none.
"""

import itertools

import catalogue
import numpy as np

import ntkfast as nf
from ntkfast.support.errors import Error

ROW = 12
SLACK = {"float32": 32, "float64": 4e5}  # times depth N ε λ_max: duals by series are accurate to 1e-10 of the diagonal
DEPTHS = {"small": (3,), "full": (1, 2, 3, 10, 30, 100)}
FACTORS = {"float32": (2.0**16, 2.0**-30), "float64": (2.0**30, 2.0**-30)}  # of the points, at full scale
# activations that are homogeneous, so that points may have nearly any size, and factors of the points at both scales
HOMOGENEOUS = ("relu", "leaky_relu", "abs", "identity")
POWERS = {"float32": (2.0**80, 2.0**-80), "float64": (2.0**600, 2.0**-600)}


def run(scale):
    worst, kernels, refused, underivable = dict.fromkeys(FACTORS, 0.0), 0, 0, 0
    for activation, factor, depth, dtype in _cases(scale):
        kernels += 1
        try:
            found, has_derivatives = _check(activation, factor, depth, dtype)
        except LeavesDtype:
            refused += 1
        else:
            underivable += not has_derivatives
            worst[dtype] = max(worst[dtype], found)
    found = {"kernels": kernels, "refused, since the numbers leave the dtype": refused}
    found["without derivatives, since the activation jumps"] = underivable
    return found | {f"-λ_min/(depth N ε λ_max), {dtype}": round(float(value), 2) for dtype, value in worst.items()}


def _cases(scale):
    activations = catalogue.ALL[:: 5 if scale == "small" else 1]
    for activation, depth, (dtype, factors) in itertools.product(activations, DEPTHS[scale], FACTORS.items()):
        for factor in (1, *factors) if scale == "full" else (1,):
            yield activation, factor, depth, dtype
    for name, depth, (dtype, factors) in itertools.product(HOMOGENEOUS, DEPTHS[scale], POWERS.items()):
        for factor in factors:
            yield nf.activations.get(name), factor, depth, dtype


def points(dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 4))
    near = [X + power * rng.normal(size=X.shape) for power in (1e-3, 1e-6, 1e-9, 1e-12)]
    return np.concatenate([X, X, -X, 0.5 * X, *near, np.zeros((2, 4))]).astype(dtype)


class LeavesDtype(Exception):
    pass


def _check(activation, factor, depth, dtype):
    """-λ_min/(depth N ε λ_max), and whether there are derivatives."""
    net = nf.MLP(depth + 1, activation, weight_std=1.0, bias_std=0.0 if factor in POWERS[dtype] else 0.1)
    X = (points(dtype) * np.asarray(factor, dtype)).astype(dtype)
    what = f"{activation!r}, points times {factor:g}, depth {depth}, {dtype}"
    worst, slopes = 0.0, ()
    try:
        kernels = nf.kernels(net, X)
        slopes = nf.kernel_vjp(net, X, weights=np.full((len(X), len(X)), 1 / len(X) ** 2, dtype), inputs=True)
    except (Error, ValueError) as error:
        if any(word in str(error) for word in ("float", "scale", "accurate")):
            raise LeavesDtype from None
        if "jumps and has only its Hermite series" not in str(error):
            raise AssertionError(what) from error
    for K in kernels:
        assert np.isfinite(K).all(), f"{what}: the kernel is not finite"
        assert np.array_equal(K, K.T), f"{what}: the kernel is not symmetric"
        scale = np.abs(K).max() or 1
        values = np.linalg.eigvalsh(K.astype(float) / scale)
        worst = max(worst, -values[0] / (depth * len(K) * np.finfo(dtype).eps * values[-1] or 1))
    assert all(np.isfinite(slope).all() for slope in slopes[:2]), f"{what}: derivatives are not finite"
    assert worst <= SLACK[dtype], f"{what}: λ_min is {-worst:.3g} depth N ε λ_max"
    return worst, bool(slopes)
