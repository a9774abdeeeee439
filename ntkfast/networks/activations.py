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

    Returns
    -------
    tuple of str
        All of them are functions of this module; those whose parameters all have defaults may be given by name.

    See Also
    --------
    get : The activation of a name.

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

    Parameters
    ----------
    activation : str or Activation
        A name, or an activation, which is returned unchanged.

    Returns
    -------
    Activation
        With its default parameters.

    Raises
    ------
    TypeError, ValueError
        There is no such name (the message has similar ones), it has parameters without default, or it is no name.

    See Also
    --------
    names : The names.
    Activation.from_function : An activation of your own.

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
    """max(x, 0). Dual: the arc-cosine kernel of order 1 (Cho and Saul, 2009).

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    leaky_relu : A slope below 0 as well.
    rectified_monomial : Powers of it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.relu()([-1.0, 0.25, 2.0]).round(4)
    array([0.  , 0.25, 2.  ])
    """
    return _two_slopes("relu", (), 0.0, 1.0)


@registered
def leaky_relu(alpha: float = 0.01) -> Activation:
    """max(x, 0) + alpha min(x, 0).

    Parameters
    ----------
    alpha : float
        Slope below 0.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    relu : alpha = 0.
    abrelu : Both slopes.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.leaky_relu()([-1.0, 0.25, 2.0]).round(4)
    array([-0.01,  0.25,  2.  ])
    """
    pairs, p = _numbers(alpha=alpha)
    return _two_slopes("leaky_relu", pairs, p["alpha"], 1.0)


@registered
def abrelu(a: float, b: float) -> Activation:
    """a min(x, 0) + b max(x, 0): a leaky ReLU with both slopes.

    Parameters
    ----------
    a : float
        Slope below 0.
    b : float
        Slope above 0.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    leaky_relu : b = 1.
    abs : a = -1, b = 1.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.abrelu(0.1, 2.0)([-1.0, 0.25, 2.0]).round(4)
    array([-0.1,  0.5,  4. ])
    """
    pairs, p = _numbers(a=a, b=b)
    return _two_slopes("abrelu", pairs, p["a"], p["b"])


@registered
def abs() -> Activation:
    """|x|.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    abrelu : Any two slopes.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.abs()([-1.0, 0.25, 2.0]).round(4)
    array([1.  , 0.25, 2.  ])
    """
    return _two_slopes("abs", (), -1.0, 1.0)


@registered
def identity() -> Activation:
    """x: a deep linear network.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    monomial : Powers of it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.identity()([-1.0, 0.25, 2.0]).round(4)
    array([-1.  ,  0.25,  2.  ])
    """
    return _two_slopes("identity", (), 1.0, 1.0)


def _erf(name, pairs, a, b, c):
    def function(x):
        return a * scipy.special.erf(b * x) + c

    def derivative(x):
        return 2 * a * b / np.sqrt(np.pi) * np.exp(-((b * x) ** 2))

    return Activation(name, pairs, function, derivative, Instruction("erf", (a, b, c)))


@registered
def erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Activation:
    """a erf(b x) + c. Dual: the arcsine kernel (Williams, 1997).

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Steepness.
    c : float
        Offset.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    tanh : Another sigmoid.
    sigmoid_like : One in the shape of the logistic function.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.erf()([-1.0, 0.25, 2.0]).round(4)
    array([-0.8427,  0.2763,  0.9953])
    """
    pairs, p = _numbers(a=a, b=b, c=c)
    return _erf("erf", pairs, **p)


@registered
def sigmoid_like() -> Activation:
    """(erf(x/2.4020563531719796) + 1)/2: an erf in the shape of the sigmoid.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    sigmoid : The logistic function itself.
    erf : Any amplitude, steepness and offset.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.sigmoid_like()([-1.0, 0.25, 2.0]).round(4)
    array([0.278 , 0.5585, 0.8805])
    """
    return _erf("sigmoid_like", (), 0.5, 1 / 2.4020563531719796, 0.5)


@registered
def gelu() -> Activation:
    """x Φ(x), Φ the standard normal distribution function (Hendrycks and Gimpel, 2016).

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    gelu_tanh : Its approximation by tanh.
    silu : x times the logistic function.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.gelu()([-1.0, 0.25, 2.0]).round(4)
    array([-0.1587,  0.1497,  1.9545])
    """

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
    """a sin(b x + k).

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Frequency.
    k : float
        Phase, in radians.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    cos : A quarter of a period later.
    rbf : Random Fourier features.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.sin()([-1.0, 0.25, 2.0]).round(4)
    array([-0.8415,  0.2474,  0.9093])
    """
    pairs, p = _numbers(a=a, b=b, k=k)
    return _sine("sin", pairs, p["a"], p["b"], p["k"], math.cos(2 * p["k"]))


@registered
def cos(a: float = 1.0, b: float = 1.0, k: float = 0.0) -> Activation:
    """a cos(b x + k).

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Frequency.
    k : float
        Phase, in radians.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    sin : A quarter of a period earlier.
    rbf : Random Fourier features.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.cos()([-1.0, 0.25, 2.0]).round(4)
    array([ 0.5403,  0.9689, -0.4161])
    """
    pairs, p = _numbers(a=a, b=b, k=k)
    return _sine("cos", pairs, p["a"], p["b"], p["k"] + math.pi / 2, -math.cos(2 * p["k"]))


@registered
def rbf(gamma: float = 1.0) -> Activation:
    """√2 sin(√(2γ) x + π/4): random Fourier features, whose dual is exp(-γ E[(u-v)²]).

    γ scales what flows in: to fit weight_std and bias_std of the `Dense` before it is to fit γ, and with those of that
    layer, ∂K/∂γ = (weight_std ∂K/∂weight_std + bias_std ∂K/∂bias_std)/(2γ).

    Parameters
    ----------
    gamma : float
        γ > 0.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    exp_normalized : A Gaussian kernel of normalised inputs.
    sin : Any amplitude, frequency and phase.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.rbf()([-1.0, 0.25, 2.0]).round(4)
    array([-0.8318,  1.2844, -0.6433])
    """
    gamma = positive_number(gamma, "gamma")
    return _sine("rbf", (("gamma", gamma),), math.sqrt(2), math.sqrt(2 * gamma), math.pi / 4, 0.0)


@registered
def exp(a: float = 1.0, b: float = 1.0) -> Activation:
    """a exp(b x).

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Rate.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    sinh : Its odd part.
    cosh : Its even part.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.exp()([-1.0, 0.25, 2.0]).round(4)
    array([0.3679, 1.284 , 7.3891])
    """
    pairs, p = _numbers(a=a, b=b)
    a, b = p.values()
    return Activation(
        "exp", pairs, lambda x: a * np.exp(b * x), lambda x: a * b * np.exp(b * x), Instruction("exponential", (a, b))
    )


@registered
def cosh(a: float = 1.0, b: float = 1.0) -> Activation:
    """a cosh(b x).

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Rate.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    sinh : The odd part of the exponential.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.cosh()([-1.0, 0.25, 2.0]).round(4)
    array([1.5431, 1.0314, 3.7622])
    """
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
    """a sinh(b x).

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Rate.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    cosh : The even part of the exponential.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.sinh()([-1.0, 0.25, 2.0]).round(4)
    array([-1.1752,  0.2526,  3.6269])
    """
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
    """a exp(b x²), b < 0.

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Coefficient of x², < 0, for which the expectation exists at every variance.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    rbf : An activation whose dual is Gaussian.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.gaussian()([-1.0, 0.25, 2.0]).round(4)
    array([0.3679, 0.9394, 0.0183])
    """
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
    """Σ_k coefficients[k] x^k, of any degree.

    Parameters
    ----------
    coefficients : sequence of float
        c_0, c_1, …; the last need not be other than 0.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    monomial : One power.
    hermite : Hermite polynomials.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.polynomial([1.0, 0.0, 0.5])([-1.0, 0.25, 2.0]).round(4)
    array([1.5   , 1.0312, 3.    ])
    """
    if isinstance(coefficients, str) or not np.iterable(coefficients):
        raise TypeError(f"coefficients: expected a sequence of numbers, got {type(coefficients).__name__}")
    values = tuple(finite_number(value, f"coefficients[{k}]") for k, value in enumerate(coefficients))
    if not values:
        raise ValueError("coefficients: expected at least one number, got none")
    return _polynomial("polynomial", (("coefficients", values),), values)


@registered
def monomial(degree: int) -> Activation:
    """x^degree.

    Parameters
    ----------
    degree : int
        >= 0.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    polynomial : Sums of powers.
    rectified_monomial : Powers of max(x, 0).

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.monomial(3)([-1.0, 0.25, 2.0]).round(4)
    array([-1.    ,  0.0156,  8.    ])
    """
    degree = non_negative_integer(degree, "degree")
    return _polynomial("monomial", (("degree", degree),), (0.0,) * degree + (1.0,))


@registered
def hermite(degree: int) -> Activation:
    """The Hermite polynomial h_degree, orthonormal under N(0, 1): at variance 1 its dual is ρ^degree.

    Parameters
    ----------
    degree : int
        0 to 150.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    polynomial : Any coefficients.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.hermite(2)([-1.0, 0.25, 2.0]).round(4)
    array([ 0.    , -0.6629,  2.1213])
    """
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
    """max(x, 0)^order for order 0 to 5. Dual: the arc-cosine kernel of that order (Cho and Saul, 2009).

    Parameters
    ----------
    order : int
        0 to 5; 0 is the step, 1 is relu.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    relu : Order 1.
    squared_relu : Order 2, with a threshold.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.rectified_monomial(2)([-1.0, 0.25, 2.0]).round(4)
    array([0.    , 0.0625, 4.    ])
    """
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
    """1 for x > 0, 0 for x < 0. Its derivative counts as 0, without the delta.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    sign : 2 step - 1.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.step()([-1.0, 0.25, 2.0]).round(4)
    array([0., 1., 1.])
    """
    return _arc_cosine("step", (), 0, 1.0, 0.0, lambda x: np.heaviside(x, 0.5), lambda x: 0.0 * x)


@registered
def sign() -> Activation:
    """The sign of x. Its derivative counts as 0, without the delta.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    step : (sign + 1)/2.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.sign()([-1.0, 0.25, 2.0]).round(4)
    array([-1.,  1.,  1.])
    """
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

    Parameters
    ----------
    gamma : float
        γ > 0.
    shift : float
        What is added to ρ.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    rbf : A Gaussian kernel of inputs that are not normalised.
    LayerNorm : Normalisation as a layer.

    Examples
    --------
    >>> import ntkfast as nf
    >>> round(nf.dual(nf.activations.exp_normalized(), 1.0, 1.0, 0.0), 4)
    0.3679
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
    """x, held between low and high.

    Parameters
    ----------
    low : float
        The least value.
    high : float
        The largest value, above `low`.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    tanh : Without corners.
    relu6 : Held between 0 and 6.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.hardtanh()([-1.0, 0.25, 2.0]).round(4)
    array([-1.  ,  0.25,  1.  ])
    """
    pairs, p = _numbers(low=low, high=high)
    if p["low"] >= p["high"]:
        raise ValueError(f"high: expected a number above low={p['low']!r}, got {p['high']!r}")
    return _clipped("hardtanh", pairs, p["low"], p["high"], 1.0, 0.0)


@registered
def hardsigmoid() -> Activation:
    """x/6 + 1/2, held between 0 and 1.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    sigmoid : Without corners.
    hardtanh : Held between any two numbers.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.hardsigmoid()([-1.0, 0.25, 2.0]).round(4)
    array([0.3333, 0.5417, 0.8333])
    """
    return _clipped("hardsigmoid", (), 0.0, 1.0, 1 / 6, 0.5)


@registered
def relu6() -> Activation:
    """x, held between 0 and 6.

    Returns
    -------
    Activation
        Its dual has a closed form.

    See Also
    --------
    relu : Not held below 6.
    hardtanh : Held between any two numbers.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.relu6()([-1.0, 0.25, 2.0]).round(4)
    array([0.  , 0.25, 2.  ])
    """
    return _clipped("relu6", (), 0.0, 6.0, 1.0, 0.0)


@registered
def softshrink(threshold: float = 0.5) -> Activation:
    """sign(x) max(|x| - threshold, 0).

    Parameters
    ----------
    threshold : float
        > 0.

    Returns
    -------
    Activation
        Its dual has a closed form.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    hardshrink : With jumps instead of kinks.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.softshrink()([-1.0, 0.25, 2.0]).round(4)
    array([-0.5,  0. ,  1.5])
    """
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
    """tanh(x).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    erf : A sigmoid with a closed form.
    hardtanh : Piecewise linear.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.tanh()([-1.0, 0.25, 2.0]).round(4)
    array([-0.7616,  0.2449,  0.964 ])
    """
    return _series("tanh", np.tanh, lambda x: _sech_squared(x))


def _sech_squared(x):
    small = np.exp(-2 * np.abs(x))
    return 4 * small / (1 + small) ** 2


@registered
def sigmoid() -> Activation:
    """1/(1 + exp(-x)).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    sigmoid_like : With a closed form.
    hardsigmoid : Piecewise linear.
    silu : x times it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.sigmoid()([-1.0, 0.25, 2.0]).round(4)
    array([0.2689, 0.5622, 0.8808])
    """
    return _series("sigmoid", scipy.special.expit, lambda x: scipy.special.expit(x) * scipy.special.expit(-x))


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@registered
def softplus() -> Activation:
    """log(1 + exp(x)).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    relu : Its limit far from 0.
    log_cosh : Its even relative.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.softplus()([-1.0, 0.25, 2.0]).round(4)
    array([0.3133, 0.8259, 2.1269])
    """
    return _series("softplus", _softplus, scipy.special.expit)


def _silu_slope(x):
    s = scipy.special.expit(x)
    return s * (1 + x * scipy.special.expit(-x))


@registered
def silu() -> Activation:
    """x/(1 + exp(-x)), also known as swish.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    gelu : x times the normal distribution function.
    hard_swish : Its piecewise polynomial relative.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.silu()([-1.0, 0.25, 2.0]).round(4)
    array([-0.2689,  0.1405,  1.7616])
    """
    return _series("silu", lambda x: x * scipy.special.expit(x), _silu_slope)


@registered
def swish() -> Activation:
    """x/(1 + exp(-x)): another name for silu.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    silu : The same.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.swish()([-1.0, 0.25, 2.0]).round(4)
    array([-0.2689,  0.1405,  1.7616])
    """
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
    """x for x > 0, alpha (exp(x) - 1) below (Clevert et al., 2015).

    Parameters
    ----------
    alpha : float
        Minus its limit at -∞; at 1 the slope does not jump at 0.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    celu : Its slope jumps for no alpha.
    selu : The self-normalising one.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.elu()([-1.0, 0.25, 2.0]).round(4)
    array([-0.6321,  0.25  ,  2.    ])
    """
    pairs, p = _numbers(alpha=alpha)
    return _exponential_unit("elu", pairs, 1.0, p["alpha"], 1.0)


@registered
def selu() -> Activation:
    """The self-normalising unit: 1.0507 x for x > 0, 1.0507 * 1.6733 (exp(x) - 1) below (Klambauer et al., 2017).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    elu : Any alpha, without the scale.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.selu()([-1.0, 0.25, 2.0]).round(4)
    array([-1.1113,  0.2627,  2.1014])
    """
    return _exponential_unit("selu", (), 1.0507009873554804934, 1.6732632423543772848, 1.0)


@registered
def celu(alpha: float = 1.0) -> Activation:
    """x for x > 0, alpha (exp(x/alpha) - 1) below (Barron, 2017).

    Parameters
    ----------
    alpha : float
        > 0: minus its limit at -∞, and the scale of x below 0.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    elu : The scale of x left out.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.celu()([-1.0, 0.25, 2.0]).round(4)
    array([-0.6321,  0.25  ,  2.    ])
    """
    alpha = positive_number(alpha, "alpha")
    return _exponential_unit("celu", (("alpha", alpha),), 1.0, alpha, alpha)


@registered
def mish() -> Activation:
    """x tanh(log(1 + exp(x))) (Misra, 2019).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    silu : A relative of it.
    softplus : A part of it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.mish()([-1.0, 0.25, 2.0]).round(4)
    array([-0.3034,  0.1696,  1.944 ])
    """

    def derivative(x):
        inner = np.tanh(_softplus(x))
        return inner + x * scipy.special.expit(x) * _sech_squared(_softplus(x))

    return _series("mish", lambda x: x * np.tanh(_softplus(x)), derivative)


@registered
def gelu_tanh() -> Activation:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³)))/2, the approximation of `gelu` (Hendrycks and Gimpel, 2016).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    gelu : What it approximates, with a closed form.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.gelu_tanh()([-1.0, 0.25, 2.0]).round(4)
    array([-0.1588,  0.1497,  1.9546])
    """
    scale, cubic = 2 * math.sqrt(2 / math.pi), 0.044715  # (1 + tanh(y))/2 = expit(2 y)

    def derivative(x):
        y = scale * (x + cubic * x**3)
        s = scipy.special.expit(y)
        return s * (1 + x * scipy.special.expit(-y) * scale * (1 + 3 * cubic * x * x))

    return _series("gelu_tanh", lambda x: x * scipy.special.expit(scale * (x + cubic * x**3)), derivative)


@registered
def softsign() -> Activation:
    """x/(1 + |x|).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    tanh : Approaches ±1 faster.
    arctan : Smooth at 0.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.softsign()([-1.0, 0.25, 2.0]).round(4)
    array([-0.5   ,  0.2   ,  0.6667])
    """
    return _series("softsign", lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2, (0.0,))


@registered
def arctan() -> Activation:
    """arctan(x).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    tanh : Approaches its limits faster.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.arctan()([-1.0, 0.25, 2.0]).round(4)
    array([-0.7854,  0.245 ,  1.1071])
    """
    return _series("arctan", np.arctan, lambda x: 1 / (1 + x * x))


@registered
def log_cosh() -> Activation:
    """log(cosh(x)).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    tanh : Its derivative.
    abs : Its limit far from 0, up to log 2.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.log_cosh()([-1.0, 0.25, 2.0]).round(4)
    array([0.4338, 0.0309, 1.325 ])
    """
    return _series("log_cosh", lambda x: np.abs(x) + np.log1p(np.expm1(-2 * np.abs(x)) / 2), np.tanh)


# ---- polynomials between kinks -------------------------------------------------------------------------------


@registered
def squared_relu(threshold: float = 0.0) -> Activation:
    """max(x - threshold, 0)² (So et al., 2021).

    Parameters
    ----------
    threshold : float
        Where it begins.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    rectified_monomial : Any order, from 0.
    relu : Not squared.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.squared_relu()([-1.0, 0.25, 2.0]).round(4)
    array([0.    , 0.0625, 4.    ])
    """
    pairs, p = _numbers(threshold=threshold)
    t = p["threshold"]
    return _series("squared_relu", lambda x: np.maximum(x - t, 0) ** 2, lambda x: 2 * np.maximum(x - t, 0), (t,), pairs)


@registered
def hard_swish() -> Activation:
    """x min(max(x + 3, 0), 6)/6 (Howard et al., 2019).

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    See Also
    --------
    silu : What it imitates.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.hard_swish()([-1.0, 0.25, 2.0]).round(4)
    array([-0.3333,  0.1354,  1.6667])
    """

    def derivative(x):
        x = np.asarray(x)
        slope = np.where(x > 3, 1.0, np.where(x < -3, 0.0, x / 3 + 0.5))
        return slope - np.where(x == 3, 0.25, 0.0) + np.where(x == -3, 0.25, 0.0)

    return _series("hard_swish", lambda x: x * np.clip(x + 3, 0, 6) / 6, derivative, (-3.0, 3.0))


@registered
def smelu(beta: float = 1.0) -> Activation:
    """(x + beta)²/(4 beta) for |x| <= beta, max(x, 0) elsewhere: a ReLU without a corner (Shamir et al., 2020).

    Parameters
    ----------
    beta : float
        > 0: half the width of the parabola.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    relu : With its corner.
    softplus : Smooth everywhere.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.smelu()([-1.0, 0.25, 2.0]).round(4)
    array([0.    , 0.3906, 2.    ])
    """
    beta = positive_number(beta, "beta")

    def function(x):
        return np.clip(x + beta, 0, 2 * beta) ** 2 / (4 * beta) + np.maximum(x - beta, 0)

    def derivative(x):
        return np.clip(x + beta, 0, 2 * beta) / (2 * beta)

    return _series("smelu", function, derivative, (-beta, beta), (("beta", beta),))


@registered
def hardshrink(threshold: float = 0.5) -> Activation:
    """x for |x| > threshold, 0 elsewhere. Its derivative has no deltas at the jumps.

    Parameters
    ----------
    threshold : float
        > 0.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    Raises
    ------
    TypeError, ValueError
        A parameter is not as described.

    See Also
    --------
    softshrink : Without jumps.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.hardshrink()([-1.0, 0.25, 2.0]).round(4)
    array([-1.,  0.,  2.])
    """
    t = positive_number(threshold, "threshold")

    def outside(x):
        return np.heaviside(np.abs(x) - t, 0.5)

    return _series("hardshrink", lambda x: x * outside(x), outside, (-t, t), (("threshold", t),))


@registered
def threshold(threshold: float = 1.0, value: float = 0.0) -> Activation:
    """x for x > threshold, value elsewhere. Its derivative has no delta at a jump.

    Parameters
    ----------
    threshold : float
        Where it jumps.
    value : float
        Its value below.

    Returns
    -------
    Activation
        Its dual is computed from its Hermite series.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a finite number.

    See Also
    --------
    hardshrink : On both sides.
    relu : Without a jump.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.threshold()([-1.0, 0.25, 2.0]).round(4)
    array([0., 0., 2.])
    """
    pairs, p = _numbers(threshold=threshold, value=value)
    t, below = p.values()

    def function(x):
        return np.where(x > t, x, np.where(x < t, below, (t + below) / 2))

    return _series("threshold", function, lambda x: np.heaviside(x - t, 0.5), (t,), pairs)


def __dir__() -> list[str]:
    return sorted(__all__)
