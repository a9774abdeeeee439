"""The catalogue of activations.

To add one, write one function here, decorated with `registered`. If its dual has a closed form, the function names the
instruction, one C function in src_c/duals.h; otherwise the instruction is "series", which needs only φ and φ'. See
docs/adding.md.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy
from numpy.polynomial import hermite_e
from numpy.polynomial import polynomial as power_series
from numpy.typing import NDArray

from ntkfast.networks.activation import FACTORIES, Activation, has_defaults, registered
from ntkfast.networks.instruction import Instruction
from ntkfast.support.scalars import finite_number, non_negative_integer, positive_integer, positive_number

__all__ = [
    "abrelu",
    "abs",
    "arctan",
    "celu",
    "cos",
    "cosh",
    "elu",
    "erf",
    "exp",
    "exp_normalized",
    "gaussian",
    "gelu",
    "gelu_tanh",
    "get",
    "hard_swish",
    "hardshrink",
    "hardsigmoid",
    "hardtanh",
    "hermite",
    "identity",
    "leaky_relu",
    "log_cosh",
    "mish",
    "monomial",
    "names",
    "polynomial",
    "rbf",
    "rectified_monomial",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "sigmoid_like",
    "sign",
    "silu",
    "sin",
    "sinh",
    "smelu",
    "softplus",
    "softshrink",
    "softsign",
    "squared_relu",
    "step",
    "swish",
    "tanh",
    "threshold",
]


def names() -> tuple[str, ...]:
    """Names of all activations that `get` and `MLP` know.

    Examples
    --------
    >>> import ntkfast as nf
    >>> "gelu" in nf.activations.names()
    True
    """
    return tuple(FACTORIES)


def get(activation: str | Activation) -> Activation:
    """The activation of this name, with its default parameters; an `Activation` is returned unchanged.

    Capitals, underscores and hyphens do not matter.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.get("LeakyReLU")
    leaky_relu(alpha=0.01)
    """
    if isinstance(activation, Activation):
        return activation
    if any(activation is factory for factory in FACTORIES.values()):
        raise TypeError(
            f"activation: expected a name or an Activation, got a function; is {activation.__name__}() meant?"
        )
    if callable(activation):
        raise TypeError(
            "activation: expected a name or an Activation, got a function; Activation.from_function makes one of it"
        )
    if not isinstance(activation, str):
        raise TypeError(f"activation: expected a name or an Activation, got {type(activation).__name__}")
    known = {_letters(name): name for name in FACTORIES}
    name = known.get(_letters(activation))
    if name is None:
        close = [known[found] for found in difflib.get_close_matches(_letters(activation), known, 2)]
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"activation: {activation!r} is unknown{hint}; known are {', '.join(FACTORIES)}")
    if not has_defaults(name):
        raise ValueError(f"activation: {name!r} has parameters without default, use activations.{name}(…)")
    return FACTORIES[name]()


def _letters(name):
    """A name as users may write it, ReLU or leaky-relu, without what does not matter."""
    return "".join(filter(str.isalnum, name)).lower()


def _numbers(**parameters):
    """The parameters as (name, float) pairs, and as a dict."""
    pairs = tuple((name, finite_number(value, name)) for name, value in parameters.items())
    return pairs, dict(pairs)


# ---- closed forms --------------------------------------------------------------------------------------------


def _two_slopes(name, parameters, below, above):
    def function(x):  # with as few passes over x as possible: networks of finite width depend on its speed
        value = np.maximum(x, 0.0)
        if above != 1:
            value *= above
        if below != 0:
            value += below * np.minimum(x, 0.0)
        return value

    def derivative(x):
        x = np.asarray(x)
        slope = (x > 0).astype(np.result_type(x, 0.0))
        at_kink = x == 0
        if at_kink.any():
            slope = np.where(at_kink, slope.dtype.type(0.5), slope)
        if above - below != 1:
            slope = slope * slope.dtype.type(above - below)
        if below != 0:
            slope = slope + slope.dtype.type(below)
        return slope

    kinks = () if below == above else (0.0,)
    return Activation(name, parameters, function, derivative, Instruction("piecewise_linear", (below, above)), kinks)


@registered
def relu() -> Activation:
    """max(x, 0). Dual: the arc-cosine kernel of order 1 (Cho and Saul, 2009)."""
    return _two_slopes("relu", (), 0.0, 1.0)


@registered
def leaky_relu(alpha: float = 0.01) -> Activation:
    """max(x, 0) + alpha min(x, 0)."""
    pairs, p = _numbers(alpha=alpha)
    return _two_slopes("leaky_relu", pairs, p["alpha"], 1.0)


@registered
def abrelu(a: float, b: float) -> Activation:
    """a min(x, 0) + b max(x, 0): a leaky ReLU with both slopes."""
    pairs, p = _numbers(a=a, b=b)
    return _two_slopes("abrelu", pairs, p["a"], p["b"])


@registered
def abs() -> Activation:
    """|x|."""
    return _two_slopes("abs", (), -1.0, 1.0)


@registered
def identity() -> Activation:
    """x: a deep linear network."""
    return _two_slopes("identity", (), 1.0, 1.0)


def _erf(name, pairs, a, b, c):
    def function(x):
        return a * scipy.special.erf(b * x) + c

    def derivative(x):
        return 2 * a * b / np.sqrt(np.pi) * np.exp(-((b * x) ** 2))

    return Activation(name, pairs, function, derivative, Instruction("erf", (a, b, c)))


@registered
def erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Activation:
    """a erf(b x) + c. Dual: the arcsine kernel (Williams, 1997)."""
    pairs, p = _numbers(a=a, b=b, c=c)
    return _erf("erf", pairs, **p)


@registered
def sigmoid_like() -> Activation:
    """(erf(x/2.4020563531719796) + 1)/2: an erf in the shape of the sigmoid."""
    return _erf("sigmoid_like", (), 0.5, 1 / 2.4020563531719796, 0.5)


@registered
def gelu() -> Activation:
    """x Φ(x), Φ the standard normal distribution function (Hendrycks and Gimpel, 2016)."""

    def derivative(x):
        return scipy.special.ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)

    return Activation("gelu", (), lambda x: x * scipy.special.ndtr(x), derivative, Instruction("gelu"))


def _sine(name, pairs, a, b, phase, cosine_of_two_phases):
    def function(x):
        return a * np.sin(b * x + phase)

    def derivative(x):
        return a * b * np.cos(b * x + phase)

    return Activation(name, pairs, function, derivative, Instruction("sine", (a, b, cosine_of_two_phases)))


@registered
def sin(a: float = 1.0, b: float = 1.0, k: float = 0.0) -> Activation:
    """a sin(b x + k)."""
    pairs, p = _numbers(a=a, b=b, k=k)
    return _sine("sin", pairs, p["a"], p["b"], p["k"], math.cos(2 * p["k"]))


@registered
def cos(a: float = 1.0, b: float = 1.0, k: float = 0.0) -> Activation:
    """a cos(b x + k)."""
    pairs, p = _numbers(a=a, b=b, k=k)
    return _sine("cos", pairs, p["a"], p["b"], p["k"] + math.pi / 2, -math.cos(2 * p["k"]))


@registered
def rbf(gamma: float = 1.0) -> Activation:
    """√2 sin(√(2γ) x + π/4): random Fourier features, whose dual is exp(-γ E[(u-v)²]).

    γ scales what flows in: to fit weight_std and bias_std of the `Dense` before it is to fit γ, and with those of that
    layer, ∂K/∂γ = (weight_std ∂K/∂weight_std + bias_std ∂K/∂bias_std)/(2γ).
    """
    gamma = positive_number(gamma, "gamma")
    return _sine("rbf", (("gamma", gamma),), math.sqrt(2), math.sqrt(2 * gamma), math.pi / 4, 0.0)


@registered
def exp(a: float = 1.0, b: float = 1.0) -> Activation:
    """a exp(b x)."""
    pairs, p = _numbers(a=a, b=b)
    a, b = p.values()
    return Activation(
        "exp", pairs, lambda x: a * np.exp(b * x), lambda x: a * b * np.exp(b * x), Instruction("exponential", (a, b))
    )


@registered
def cosh(a: float = 1.0, b: float = 1.0) -> Activation:
    """a cosh(b x)."""
    pairs, p = _numbers(a=a, b=b)
    a, b = p.values()
    return Activation(
        "cosh",
        pairs,
        lambda x: a * np.cosh(b * x),
        lambda x: a * b * np.sinh(b * x),
        Instruction("hyperbolic", (a, 0.0, b)),
    )


@registered
def sinh(a: float = 1.0, b: float = 1.0) -> Activation:
    """a sinh(b x)."""
    pairs, p = _numbers(a=a, b=b)
    a, b = p.values()
    return Activation(
        "sinh",
        pairs,
        lambda x: a * np.sinh(b * x),
        lambda x: a * b * np.cosh(b * x),
        Instruction("hyperbolic", (0.0, a, b)),
    )


@registered
def gaussian(a: float = 1.0, b: float = -1.0) -> Activation:
    """a exp(b x²), b < 0."""
    pairs, p = _numbers(a=a, b=b)
    a, b = p.values()
    if b >= 0:
        raise ValueError(f"b: expected a number < 0, got {b!r}")

    def derivative(x):
        return 2 * a * b * x * np.exp(b * x * x)

    return Activation("gaussian", pairs, lambda x: a * np.exp(b * x * x), derivative, Instruction("gaussian", (a, b)))


def _polynomial(name, parameters, coefficients):
    derivative = power_series.polyder(coefficients)
    return Activation(
        name,
        parameters,
        lambda x: power_series.polyval(np.asarray(x, dtype=float), coefficients),
        lambda x: power_series.polyval(np.asarray(x, dtype=float), derivative),
        Instruction("polynomial", tuple(coefficients)),
    )


@registered
def polynomial(coefficients: Sequence[float]) -> Activation:
    """Σ_k coefficients[k] x^k, of any degree."""
    if isinstance(coefficients, str) or not np.iterable(coefficients):
        raise TypeError(f"coefficients: expected a sequence of numbers, got {type(coefficients).__name__}")
    values = tuple(finite_number(value, f"coefficients[{k}]") for k, value in enumerate(coefficients))
    if not values:
        raise ValueError("coefficients: expected at least one number, got none")
    return _polynomial("polynomial", (("coefficients", values),), values)


@registered
def monomial(degree: int) -> Activation:
    """x^degree."""
    degree = non_negative_integer(degree, "degree")
    return _polynomial("monomial", (("degree", degree),), (0.0,) * degree + (1.0,))


@registered
def hermite(degree: int) -> Activation:
    """The Hermite polynomial h_degree, orthonormal under N(0, 1): at variance 1 its dual is ρ^degree."""
    degree = non_negative_integer(degree, "degree")
    if degree > 150:
        raise ValueError(f"degree: expected at most 150, where its coefficients leave float64, got {degree}")
    scale = math.sqrt(math.factorial(degree))
    coefficients = hermite_e.herme2poly([0.0] * degree + [1.0]) / scale
    return _polynomial("hermite", (("degree", degree),), tuple(coefficients.tolist()))


def _arc_cosine(name, parameters, order, scale, offset, function, derivative):
    return Activation(name, parameters, function, derivative, Instruction("arc_cosine", (order, scale, offset)), (0.0,))


@registered
def rectified_monomial(order: int) -> Activation:
    """max(x, 0)^order for order 0 to 5. Dual: the arc-cosine kernel of that order (Cho and Saul, 2009)."""
    order = non_negative_integer(order, "order")
    if order > 5:
        raise ValueError(f"order: expected 0 to 5, got {order}")

    def power(x, n):
        return np.where(x > 0, np.maximum(x, 0) ** n, 0.0) if n else np.heaviside(x, 0.5)

    def derivative(x):
        return order * power(x, order - 1) if order else np.zeros_like(x, dtype=float)

    return _arc_cosine(
        "rectified_monomial", (("order", order),), order, 1.0, 0.0, lambda x: power(x, order), derivative
    )


@registered
def step() -> Activation:
    """1 for x > 0, 0 for x < 0. Its derivative counts as 0, without the delta."""
    return _arc_cosine("step", (), 0, 1.0, 0.0, lambda x: np.heaviside(x, 0.5), lambda x: 0.0 * x)


@registered
def sign() -> Activation:
    """The sign of x. Its derivative counts as 0, without the delta."""
    return _arc_cosine("sign", (), 0, 4.0, -1.0, np.sign, lambda x: 0.0 * x)


class NormalizedExponential(Activation):
    """√q exp(√γ x/√q + γ (shift - 1)/2), with q the mean of x² over the features of a layer: not a function of one x.

    `function` and `derivative` act along the last axis; the latter leaves out how q depends on x.
    """

    @property
    def is_elementwise(self) -> bool:
        return False

    def hermite_coefficients(self, q: float, n: int) -> NDArray[np.float64]:
        q, k = positive_number(q, "q"), np.arange(positive_integer(n, "n"))
        gamma, shift = (float(value) for _, value in self.parameters)  # type: ignore[arg-type]
        return np.sqrt(q * np.exp(scipy.special.xlogy(k, gamma) + gamma * shift - scipy.special.gammaln(k + 1)))


@registered
def exp_normalized(gamma: float = 1.0, shift: float = -1.0) -> Activation:
    """Dual √(q1 q2) exp(gamma (ρ + shift)): a Gaussian kernel of the normalised inputs (Shankar et al., 2020).

    φ(x) = √q exp(√gamma x/√q + gamma (shift - 1)/2), q the variance of the layer, its mean square at finite width.
    """
    gamma, shift = positive_number(gamma, "gamma"), finite_number(shift, "shift")
    root, offset = math.sqrt(gamma), gamma * (shift - 1) / 2

    def normalized(x):
        std = np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True))
        return std, x / np.where(std > 0, std, 1)

    def function(x):
        std, z = normalized(x)
        return std * np.exp(root * z + offset)

    def derivative(x):
        return root * np.exp(root * normalized(x)[1] + offset)

    parameters = (("gamma", gamma), ("shift", shift))
    return NormalizedExponential(
        "exp_normalized", parameters, function, derivative, Instruction("exp_normalized", (gamma, shift))
    )


# ---- piecewise linear ----------------------------------------------------------------------------------------


def piecewise(name, parameters, offset, slope, kinks, source=None):
    """offset + slope x + Σ jump max(x - at, 0) over kinks, a sequence of (at, jump) sorted by `at`."""

    def function(x):
        return offset + slope * x + sum(jump * np.maximum(x - at, 0) for at, jump in kinks)

    def derivative(x):
        return slope + sum(jump * np.heaviside(x - at, 0.5) for at, jump in kinks)

    places = tuple(at for at, _ in kinks)
    return Activation(
        name, parameters, function, derivative, Instruction("kinks", (offset, slope, tuple(kinks))), places, source
    )


def _clipped(name, parameters, low, high, slope, at_zero):
    """at_zero + slope x, held between low and high."""
    kinks = ((low - at_zero) / slope, slope), ((high - at_zero) / slope, -slope)
    return replace(
        piecewise(name, parameters, low, 0.0, kinks), function=lambda x: np.clip(slope * x + at_zero, low, high)
    )


@registered
def hardtanh(low: float = -1.0, high: float = 1.0) -> Activation:
    """x, held between low and high."""
    pairs, p = _numbers(low=low, high=high)
    if p["low"] >= p["high"]:
        raise ValueError(f"high: expected a number above low={p['low']!r}, got {p['high']!r}")
    return _clipped("hardtanh", pairs, p["low"], p["high"], 1.0, 0.0)


@registered
def hardsigmoid() -> Activation:
    """x/6 + 1/2, held between 0 and 1."""
    return _clipped("hardsigmoid", (), 0.0, 1.0, 1 / 6, 0.5)


@registered
def relu6() -> Activation:
    """x, held between 0 and 6."""
    return _clipped("relu6", (), 0.0, 6.0, 1.0, 0.0)


@registered
def softshrink(threshold: float = 0.5) -> Activation:
    """sign(x) max(|x| - threshold, 0)."""
    threshold = positive_number(threshold, "threshold")
    kinks = (-threshold, -1.0), (threshold, 1.0)
    return replace(
        piecewise("softshrink", (("threshold", threshold),), threshold, 1.0, kinks),
        function=lambda x: x - np.clip(x, -threshold, threshold),
    )


# ---- with a Hermite series -----------------------------------------------------------------------------------


def _series(name, function, derivative, kinks=(), parameters=()):
    return Activation(name, parameters, function, derivative, Instruction("series"), kinks)


@registered
def tanh() -> Activation:
    """tanh(x)."""
    return _series("tanh", np.tanh, lambda x: _sech_squared(x))


def _sech_squared(x):
    small = np.exp(-2 * np.abs(x))
    return 4 * small / (1 + small) ** 2


@registered
def sigmoid() -> Activation:
    """1/(1 + exp(-x))."""
    return _series("sigmoid", scipy.special.expit, lambda x: scipy.special.expit(x) * scipy.special.expit(-x))


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@registered
def softplus() -> Activation:
    """log(1 + exp(x))."""
    return _series("softplus", _softplus, scipy.special.expit)


def _silu_slope(x):
    s = scipy.special.expit(x)
    return s * (1 + x * scipy.special.expit(-x))


@registered
def silu() -> Activation:
    """x/(1 + exp(-x)), also known as swish."""
    return _series("silu", lambda x: x * scipy.special.expit(x), _silu_slope)


@registered
def swish() -> Activation:
    """x/(1 + exp(-x)): another name for silu."""
    return _series("swish", lambda x: x * scipy.special.expit(x), _silu_slope)


def _exponential_unit(name, parameters, scale, alpha, width):
    """scale x for x > 0, scale alpha (exp(x/width) - 1) below."""

    def function(x):
        return np.where(x > 0, scale * x, scale * alpha * np.expm1(np.minimum(x, 0) / width))

    def derivative(x):
        below = scale * alpha / width * np.exp(np.minimum(x, 0) / width)
        return np.where(x > 0, scale, np.where(x < 0, below, (scale + below) / 2))

    return _series(name, function, derivative, (0.0,), parameters)


@registered
def elu(alpha: float = 1.0) -> Activation:
    """x for x > 0, alpha (exp(x) - 1) below (Clevert et al., 2015)."""
    pairs, p = _numbers(alpha=alpha)
    return _exponential_unit("elu", pairs, 1.0, p["alpha"], 1.0)


@registered
def selu() -> Activation:
    """The self-normalising unit: 1.0507 x for x > 0, 1.0507 * 1.6733 (exp(x) - 1) below (Klambauer et al., 2017)."""
    return _exponential_unit("selu", (), 1.0507009873554804934, 1.6732632423543772848, 1.0)


@registered
def celu(alpha: float = 1.0) -> Activation:
    """x for x > 0, alpha (exp(x/alpha) - 1) below (Barron, 2017)."""
    alpha = positive_number(alpha, "alpha")
    return _exponential_unit("celu", (("alpha", alpha),), 1.0, alpha, alpha)


@registered
def mish() -> Activation:
    """x tanh(log(1 + exp(x))) (Misra, 2019)."""

    def derivative(x):
        inner = np.tanh(_softplus(x))
        return inner + x * scipy.special.expit(x) * _sech_squared(_softplus(x))

    return _series("mish", lambda x: x * np.tanh(_softplus(x)), derivative)


@registered
def gelu_tanh() -> Activation:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³)))/2, the approximation of `gelu` (Hendrycks and Gimpel, 2016)."""
    scale, cubic = 2 * math.sqrt(2 / math.pi), 0.044715  # (1 + tanh(y))/2 = expit(2 y)

    def derivative(x):
        y = scale * (x + cubic * x**3)
        s = scipy.special.expit(y)
        return s * (1 + x * scipy.special.expit(-y) * scale * (1 + 3 * cubic * x * x))

    return _series("gelu_tanh", lambda x: x * scipy.special.expit(scale * (x + cubic * x**3)), derivative)


@registered
def softsign() -> Activation:
    """x/(1 + |x|)."""
    return _series("softsign", lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2, (0.0,))


@registered
def arctan() -> Activation:
    """arctan(x)."""
    return _series("arctan", np.arctan, lambda x: 1 / (1 + x * x))


@registered
def log_cosh() -> Activation:
    """log(cosh(x))."""
    return _series("log_cosh", lambda x: np.abs(x) + np.log1p(np.expm1(-2 * np.abs(x)) / 2), np.tanh)


# ---- polynomials between kinks -------------------------------------------------------------------------------


@registered
def squared_relu(threshold: float = 0.0) -> Activation:
    """max(x - threshold, 0)² (So et al., 2021)."""
    pairs, p = _numbers(threshold=threshold)
    t = p["threshold"]
    return _series("squared_relu", lambda x: np.maximum(x - t, 0) ** 2, lambda x: 2 * np.maximum(x - t, 0), (t,), pairs)


@registered
def hard_swish() -> Activation:
    """x min(max(x + 3, 0), 6)/6 (Howard et al., 2019)."""

    def derivative(x):
        x = np.asarray(x)
        slope = np.where(x > 3, 1.0, np.where(x < -3, 0.0, x / 3 + 0.5))
        return slope - np.where(x == 3, 0.25, 0.0) + np.where(x == -3, 0.25, 0.0)

    return _series("hard_swish", lambda x: x * np.clip(x + 3, 0, 6) / 6, derivative, (-3.0, 3.0))


@registered
def smelu(beta: float = 1.0) -> Activation:
    """(x + beta)²/(4 beta) for |x| <= beta, max(x, 0) elsewhere: a ReLU without a corner (Shamir et al., 2020)."""
    beta = positive_number(beta, "beta")

    def function(x):
        return np.clip(x + beta, 0, 2 * beta) ** 2 / (4 * beta) + np.maximum(x - beta, 0)

    def derivative(x):
        return np.clip(x + beta, 0, 2 * beta) / (2 * beta)

    return _series("smelu", function, derivative, (-beta, beta), (("beta", beta),))


@registered
def hardshrink(threshold: float = 0.5) -> Activation:
    """x for |x| > threshold, 0 elsewhere. Its derivative has no deltas at the jumps."""
    t = positive_number(threshold, "threshold")

    def outside(x):
        return np.heaviside(np.abs(x) - t, 0.5)

    return _series("hardshrink", lambda x: x * outside(x), outside, (-t, t), (("threshold", t),))


@registered
def threshold(threshold: float = 1.0, value: float = 0.0) -> Activation:
    """x for x > threshold, value elsewhere. Its derivative has no delta at a jump."""
    pairs, p = _numbers(threshold=threshold, value=value)
    t, below = p.values()

    def function(x):
        return np.where(x > t, x, np.where(x < t, below, (t + below) / 2))

    return _series("threshold", function, lambda x: np.heaviside(x - t, 0.5), (t,), pairs)


def __dir__() -> list[str]:
    return sorted(__all__)
