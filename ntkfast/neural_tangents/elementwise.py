"""Activations. Each has its formula for NumPy and JAX, the activation of ntkfast whose dual it has, and derivatives of
any order, for Taylor series.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import hermite, hermite_e
from numpy.polynomial import polynomial as power_series

from ntkfast.networks import Activation, activations
from ntkfast.neural_tangents import arrays
from ntkfast.neural_tangents.arrays import in_float64
from ntkfast.neural_tangents.blocks import Block, activated, then
from ntkfast.neural_tangents.triples import Triple, triple

__all__ = [
    "ABRelu",
    "Abs",
    "Cos",
    "Elementwise",
    "ElementwiseNumerical",
    "Erf",
    "Exp",
    "ExpNormalized",
    "Gabor",
    "Gaussian",
    "Gelu",
    "Hermite",
    "LeakyRelu",
    "Monomial",
    "Polynomial",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid_like",
    "Sign",
    "Sin",
]

Formula = Callable[[Any, Any, Any], Any]
Derivatives = Callable[[Any, int], list[Any]]


@dataclass(frozen=True, eq=False)
class _Elementwise(Block):
    """An activation.

    value : function (x, array library, its erf) ↦ φ(x); None if there is none
    activation : of ntkfast, with φ's dual; None if there is none
    derivatives : function (x, n) ↦ φ(x), φ'(x), ... up to order n, of NumPy arrays; None: up to order 1
    finite : the activation that apply_fn has, if it is another one
    """

    name: str
    activation: Activation | None
    value: Formula | None
    derivatives: Derivatives | None = None
    finite: Activation | None = None

    def __str__(self):
        return self.name

    def apply(self, params, x, ops, key):
        if self.value is None:
            raise NotImplementedError(f"{self.name}: expected a function fn for networks of finite width, got None")
        return ops.elementwise(self, x)

    def kernel(self, k):
        if not k.is_gaussian:
            raise ValueError(
                f"{self.name}: expected Gaussian values: a random affine layer, such as Dense, before the activation"
            )
        return self._dual(k).replace(is_gaussian=False)

    def _dual(self, k):
        if self.activation is None:
            raise NotImplementedError(f"{self.name}: expected a function nngp_fn or fn for limits, got None")
        return activated(then(k, self.activation), self.activation)

    def unrolled(self, params, k, parts):
        activation = self.finite or self.activation
        return then(k, activation).replace(is_gaussian=False)

    def series(self, x, n):
        """φ and its first n derivatives at x."""
        if self.derivatives is not None:
            return self.derivatives(x, n)
        if n > 1 or self.activation is None:
            raise NotImplementedError(
                f"{self.name}: expected at most degree 1, as derivatives of φ' are not known here"
            )
        return [self.activation.function(x), self.activation.derivative(x)]


def _numbers(**parameters: Any) -> list[float]:
    return [arrays.number(value, name) for name, value in parameters.items()]


# ---- piecewise linear ---------------------------------------------------------------------------------------------


def _two_slopes(name: str, a: float, b: float, activation: Activation) -> Triple:
    def derivatives(x, n):
        slope = np.where(x > 0, b, np.where(x < 0, a, (a + b) / 2))
        return [a * np.minimum(x, 0) + b * np.maximum(x, 0), slope, *[np.zeros_like(x)] * (n - 1)][: n + 1]

    def value(x, xp, erf):
        return a * xp.minimum(x, 0) + b * xp.maximum(x, 0)

    return triple(_Elementwise(name, activation, value, derivatives), name)


def ABRelu(a: float, b: float, do_stabilize: bool = False) -> Triple:
    """a min(x, 0) + b max(x, 0). do_stabilize is accepted: the engine normalises by itself."""
    a, b = _numbers(a=a, b=b)
    return _two_slopes("ABRelu", a, b, activations.abrelu(a, b))


def Relu(do_stabilize: bool = False) -> Triple:
    """max(x, 0).

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Relu())
    >>> kernel_fn([[1.0]], None, ("nngp", "ntk"))
    AnalyticKernel(nngp=array([[0.5]]), ntk=array([[0.5]]))
    """
    return _two_slopes("Relu", 0.0, 1.0, activations.relu())


def LeakyRelu(alpha: float, do_stabilize: bool = False) -> Triple:
    """alpha min(x, 0) + max(x, 0)."""
    return _two_slopes("LeakyRelu", float(alpha), 1.0, activations.leaky_relu(float(alpha)))


def Abs(do_stabilize: bool = False) -> Triple:
    """|x|."""
    return _two_slopes("Abs", -1.0, 1.0, activations.abs())


def Sign() -> Triple:
    """The sign of x."""

    def derivatives(x, n):
        return [np.sign(x), *[np.zeros_like(x)] * n]

    block = _Elementwise("Sign", activations.sign(), lambda x, xp, erf: xp.sign(x), derivatives)
    return triple(block, "Sign")


# ---- error function, exponentials, sines ----------------------------------------------------------------------------


def _erf_series(x, n):
    """erf and its derivatives."""
    import scipy.special

    found = [scipy.special.erf(x)]
    density = 2 / math.sqrt(math.pi) * np.exp(-x * x)
    found += [(-1) ** k * hermite.hermval(x, [0] * k + [1]) * density for k in range(n)]
    return found


def _erf_layer(name: str, a: float, b: float, c: float, activation: Activation) -> Triple:
    def derivatives(x, n):
        found = [a * b**k * term for k, term in enumerate(_erf_series(b * x, n))]
        return [found[0] + c, *found[1:]]

    return triple(_Elementwise(name, activation, lambda x, xp, erf: a * erf(b * x) + c, derivatives), name)


def Erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """a erf(b x) + c."""
    a, b, c = _numbers(a=a, b=b, c=c)
    return _erf_layer("Erf", a, b, c, activations.erf(a, b, c))


def Sigmoid_like() -> Triple:
    """(erf(x/2.4020563531719796) + 1)/2."""
    return _erf_layer("Sigmoid_like", 0.5, 1 / 2.4020563531719796, 0.5, activations.sigmoid_like())


def Gelu(approximate: bool = False) -> Triple:
    """x Φ(x). approximate: networks of finite width have the approximation by tanh; limits do not change."""

    def value(x, xp, erf):
        return x * (1 + erf(x / math.sqrt(2))) / 2

    def derivatives(x, n):  # of x Φ: x Φ⁽ᵏ⁾ + k Φ⁽ᵏ⁻¹⁾
        phi = [term * 2 ** (-k / 2) / 2 for k, term in enumerate(_erf_series(x / math.sqrt(2), n))]
        phi[0] = phi[0] + 0.5
        return [x * phi[k] + (k * phi[k - 1] if k else 0) for k in range(n + 1)]

    def approximation(x, xp, erf):
        return x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2

    exact = _Elementwise("Gelu", activations.gelu(), value, derivatives)
    rough = _Elementwise("Gelu", activations.gelu(), approximation, None, activations.gelu_tanh())
    return triple(rough if approximate else exact, "Gelu")


def _sine(name: str, a: float, b: float, c: float, activation: Activation) -> Triple:
    """a sin(b x + c)."""

    def derivatives(x, n):
        return [a * b**k * np.sin(b * x + c + k * math.pi / 2) for k in range(n + 1)]

    return triple(_Elementwise(name, activation, lambda x, xp, erf: a * xp.sin(b * x + c), derivatives), name)


def Sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """a sin(b x + c)."""
    a, b, c = _numbers(a=a, b=b, c=c)
    return _sine("Sin", a, b, c, activations.sin(a, b, c))


def Cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """a cos(b x + c)."""
    a, b, c = _numbers(a=a, b=b, c=c)
    return _sine("Cos", a, b, c + math.pi / 2, activations.cos(a, b, c))


def Rbf(gamma: float = 1.0) -> Triple:
    """√2 sin(√(2γ) x + π/4), whose dual is exp(-γ E[(u - v)²])."""
    return _sine("Rbf", math.sqrt(2), math.sqrt(2 * gamma), math.pi / 4, activations.rbf(float(gamma)))


def Exp(a: float = 1, b: float = 1) -> Triple:
    """a exp(b x)."""
    a, b = _numbers(a=a, b=b)

    def derivatives(x, n):
        value = a * np.exp(b * x)
        return [b**k * value for k in range(n + 1)]

    return triple(_Elementwise("Exp", activations.exp(a, b), lambda x, xp, erf: a * xp.exp(b * x), derivatives), "Exp")


def Gaussian(a: float = 1, b: float = -1) -> Triple:
    """a exp(b x²), b < 0."""
    a, b = _numbers(a=a, b=b)

    def derivatives(x, n):
        return _gaussian_series(x, a, b, n)

    block = _Elementwise("Gaussian", activations.gaussian(a, b), lambda x, xp, erf: a * xp.exp(b * x**2), derivatives)
    return triple(block, "Gaussian")


def _gaussian_series(x, a, b, n):
    """a exp(b x²) and its derivatives, by y' = 2 b x y."""
    found = [a * np.exp(b * x * x)]
    for k in range(n):
        found.append(2 * b * (x * found[k] + (k * found[k - 1] if k else 0)))
    return found


def Gabor() -> Triple:
    """exp(-x²) sin(x)."""
    return triple(
        _Elementwise("Gabor", _gabor(), lambda x, xp, erf: xp.exp(-(x**2)) * xp.sin(x), _gabor_series), "Gabor"
    )


def _gabor_series(x, n):
    """Leibniz's rule."""
    bell = _gaussian_series(x, 1.0, -1.0, n)
    sine = [np.sin(x + k * math.pi / 2) for k in range(n + 1)]
    return [sum(math.comb(k, j) * bell[j] * sine[k - j] for j in range(k + 1)) for k in range(n + 1)]


@functools.lru_cache
def _gabor():
    return Activation.from_function(
        lambda x: np.exp(-x * x) * np.sin(x),
        name="gabor",
        derivative=lambda x: np.exp(-x * x) * (np.cos(x) - 2 * x * np.sin(x)),
    )


def ExpNormalized(gamma: float = 1, shift: float = -1, do_clip: bool = False) -> Triple:
    """Dual √(q1 q2) exp(gamma (ρ + shift)). do_clip is accepted: |ρ| <= 1 here."""
    activation = activations.exp_normalized(float(gamma), float(shift))
    gamma, shift = _numbers(gamma=gamma, shift=shift)
    root, offset = math.sqrt(gamma), gamma * (shift - 1) / 2

    def value(x, xp, erf):
        std = xp.sqrt((x**2).mean(axis=-1, keepdims=True))
        return std * xp.exp(root * x / xp.where(std > 0, std, 1) + offset)

    def derivatives(x, n):
        if n:
            raise NotImplementedError("ExpNormalized: expected no Taylor series, as it acts on all features together")
        return [activation.function(x)]

    return triple(_Elementwise("ExpNormalized", activation, value, derivatives), "ExpNormalized")


# ---- polynomials --------------------------------------------------------------------------------------------------


def _polynomial(name: str, coefficients: Sequence[float], activation: Activation) -> Triple:
    powers = np.asarray(coefficients, float)

    def value(x, xp, erf):
        total = 0 * x + powers[-1]
        for coefficient in powers[-2::-1]:
            total = total * x + coefficient
        return total

    def derivatives(x, n):
        return [power_series.polyval(x, power_series.polyder(powers, k)) + 0 * x for k in range(n + 1)]

    return triple(_Elementwise(name, activation, value, derivatives), name)


def Hermite(degree: int) -> Triple:
    """The Hermite polynomial of this degree, of norm 1 under N(0, 1). Limits are exact for any variance."""
    if degree < 0:
        raise NotImplementedError(f"degree: expected an integer >= 0, got {degree}")
    coefficients = hermite_e.herme2poly([0] * degree + [1]) / math.sqrt(math.factorial(degree))
    return _polynomial("Hermite", coefficients, activations.hermite(degree))


def Monomial(degree: int) -> Triple:
    """x^degree."""
    if not isinstance(degree, int | np.integer) or degree < 0:
        raise NotImplementedError(f"degree: expected an integer >= 0, got {degree!r}")
    return _polynomial("Monomial", [0] * degree + [1], activations.monomial(int(degree)))


def Polynomial(coef: Sequence[float]) -> Triple:
    """coef[0] + coef[1] x + ..."""
    coefficients = [float(c) for c in coef] or [0.0]
    return _polynomial("Polynomial", coefficients, activations.polynomial(coefficients))


def RectifiedMonomial(degree: int) -> Triple:
    """x^degree for x >= 0, else 0."""
    if not 0 <= degree <= 5:
        raise NotImplementedError(f"degree: expected an integer from 0 to 5, got {degree}")

    def derivatives(x, n):
        return [
            math.perm(degree, k) * np.where(x >= 0, x ** max(degree - k, 0), 0.0) if k <= degree else 0 * x
            for k in range(n + 1)
        ]

    block = _Elementwise(
        "RectifiedMonomial",
        activations.rectified_monomial(degree),
        lambda x, xp, erf: (x >= 0) * x**degree,
        derivatives,
    )
    return triple(block, "RectifiedMonomial")


# ---- functions of users -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _GivenDual(_Elementwise):
    """An activation with the dual that a user gives: functions (cov12, var1, var2) of numbers."""

    fn: Callable[..., Any] | None = None
    nngp_fn: Callable[..., Any] | None = None
    d_nngp_fn: Callable[..., Any] | None = None

    def _dual(self, k):
        k = then(k, None)
        dual, (q1, q2) = _vectorized(self.nngp_fn), k.variances()
        own = {}
        for name, q in (("cov1", q1), ("cov2", q2)):
            cov = getattr(k, name)
            if cov is not None:
                own[name] = dual(q, q, q) if k.diagonal_batch else dual(cov, q[:, None], q[None])
        ntk = None if k.ntk is None else k.ntk * self._slope(k)
        return k.replace(nngp=dual(k.nngp, q1[:, None], q2[None]), ntk=ntk, **own)

    def _slope(self, k):
        """E[φ'φ'] of nngp."""
        q1, q2 = k.variances()
        if self.d_nngp_fn is not None:
            return _vectorized(self.d_nngp_fn)(k.nngp, q1[:, None], q2[None])
        if self.fn is not None:  # the same function, without the NaN that differentiating nngp_fn has at |ρ| = 1
            return activated(k.replace(ntk=np.ones_like(k.nngp)), _found(self.fn, None)).ntk
        try:
            import jax
        except ImportError:
            raise NotImplementedError(f"{self.name}: expected d_nngp_fn or fn for the NTK, got neither") from None
        return in_float64(jax.numpy.vectorize(jax.grad(self.nngp_fn)))(k.nngp, q1[:, None], q2[None])

    def unrolled(self, params, k, parts):
        return then(k, _found(self.fn, None)).replace(is_gaussian=False)


def _vectorized(function):
    """A function of numbers, for arrays; tried on arrays first, as most are written in terms of array functions."""

    def of_arrays(*given):
        shape = np.broadcast_shapes(*map(np.shape, given))
        try:
            result = np.asarray(in_float64(function)(*given), float)
            if result.shape == shape:
                return result
        except (TypeError, ValueError):
            pass
        return np.vectorize(in_float64(function), otypes=[float])(*given)

    return of_arrays


def Elementwise(
    fn: Callable[..., Any] | None = None,
    nngp_fn: Callable[..., Any] | None = None,
    d_nngp_fn: Callable[..., Any] | None = None,
) -> Triple:
    """An activation fn, and its dual nngp_fn(cov12, var1, var2) with the derivative d_nngp_fn by cov12.

    Without nngp_fn the dual is computed from fn. Without d_nngp_fn the slope is that of fn's dual, or, if there is no
    fn either, the derivative of nngp_fn that JAX finds.
    """
    if fn is None and nngp_fn is None:
        raise ValueError("fn: expected a function, or nngp_fn, got None for both")
    name = getattr(fn or nngp_fn, "__name__", "Elementwise")
    if nngp_fn is None:
        return triple(_of_function(name, fn, None), "Elementwise")
    block = _GivenDual(name, None, None if fn is None else _applied(fn), None, None, fn, nngp_fn, d_nngp_fn)
    return triple(block, "Elementwise")


def ElementwiseNumerical(fn: Callable[..., Any], deg: int, df: Callable[..., Any] | None = None) -> Triple:
    """An activation fn whose dual is computed numerically, to 1e-10 whatever deg is. df: its derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.ElementwiseNumerical(np.tanh, deg=25))
    >>> kernel_fn([[1.0]], None, "nngp").round(6)
    array([[0.394294]])
    """
    if deg < 1:
        raise ValueError(f"deg: expected an integer >= 1, got {deg}")
    return triple(_of_function(getattr(fn, "__name__", "fn"), fn, df), "ElementwiseNumerical")


def _of_function(name, fn, df):
    return _Elementwise(name, _found(fn, df), _applied(fn))


def _applied(fn):
    return lambda x, xp, erf: fn(x)


@functools.lru_cache(maxsize=64)
def _found(fn, df):
    """The activation of a function; of the libraries' own ones by their names."""
    if fn is None:
        return None
    known = {"tanh", "sigmoid", "relu", "softplus", "silu", "swish", "selu", "arctan", "sin", "cos", "exp", "cosh"}
    known |= {"sinh", "erf", "sign", "expit", "relu6", "log_cosh"}
    inner = getattr(fn, "__wrapped__", fn)
    name = getattr(fn, "__name__", "")
    origin = (getattr(inner, "__module__", None) or "numpy").partition(".")[0]
    if name in known and (origin in ("jax", "jaxlib", "numpy", "scipy") or isinstance(fn, np.ufunc)):
        return activations.get({"expit": "sigmoid"}.get(name, name))
    return Activation.from_function(
        in_float64(fn), name=name or None, derivative=None if df is None else in_float64(df)
    )
