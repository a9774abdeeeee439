"""Activations as values: a name, its parameters, φ and φ' for NumPy arrays, and the instruction that is their dual.

Adding one is one function here, decorated with `registered`, and one C function in src_c/duals.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from ntkfast.networks.checks import finite_number

__all__ = ["Activation", "abs", "erf", "get", "identity", "leaky_relu", "names", "relu"]


@dataclass(frozen=True)
class Activation:
    """A nonlinearity σ = φ, with the dual that the limit kernels need.

    Activations compare equal when their names and parameters do, and can be called on arrays.

    Attributes
    ----------
    name : str
    parameters : tuple of (str, float)
    function, derivative : callable
        φ and φ', elementwise on NumPy arrays of any shape. At a kink φ' is the mean of both sides.
    instruction : tuple
        Name and parameters of the kernel program's instruction that maps Σ to E[φ(u)φ(v)].

    Examples
    --------
    >>> import ntkfast as nf
    >>> act = nf.activations.leaky_relu(0.1)
    >>> act([-2.0, 3.0])
    array([-0.2,  3. ])
    >>> act
    leaky_relu(alpha=0.1)
    """

    name: str
    parameters: tuple[tuple[str, float], ...]
    function: Callable = field(compare=False, repr=False)
    derivative: Callable = field(compare=False, repr=False)
    instruction: tuple[str, tuple[float, ...]] = field(repr=False)

    def __call__(self, x):
        """φ(x), elementwise."""
        return self.function(np.asarray(x))

    def __reduce__(self):  # pickled as name and parameters: φ is a closure
        return _build, (self.name, self.parameters)

    def __repr__(self):
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.parameters)})"


_FACTORIES: dict[str, Callable[..., Activation]] = {}


def _build(name, parameters):
    return _FACTORIES[name](**dict(parameters))


def registered(factory):
    _FACTORIES[factory.__name__] = factory
    return factory


def names() -> tuple[str, ...]:
    """Names of all activations that `get` and `MLP` know."""
    return tuple(_FACTORIES)


def get(activation: str | Activation) -> Activation:
    """The activation of this name, with its default parameters; an `Activation` is returned as it is.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.activations.get("relu")
    relu()
    """
    if isinstance(activation, Activation):
        return activation
    if any(activation is factory for factory in _FACTORIES.values()):
        raise TypeError(
            f"activation: expected a name or an Activation, got a function; is {activation.__name__}() meant?"
        )
    if not isinstance(activation, str):
        raise TypeError(f"activation: expected a name or an Activation, got {type(activation).__name__}")
    if activation not in _FACTORIES:
        raise ValueError(f"activation: {activation!r} is unknown; the known ones are {', '.join(_FACTORIES)}")
    return _FACTORIES[activation]()


def _two_slopes(name, parameters, below, above):
    def function(x):
        return np.where(x > 0, above * x, below * x)

    def derivative(x):
        return below + (above - below) * np.heaviside(x, 0.5)

    return Activation(name, parameters, function, derivative, ("piecewise_linear", (below, above)))


@registered
def relu() -> Activation:
    """max(x, 0). Dual: the arc-cosine kernel of order 1 (Cho and Saul, 2009)."""
    return _two_slopes("relu", (), 0.0, 1.0)


@registered
def leaky_relu(alpha: float = 0.01) -> Activation:
    """max(x, 0) + alpha min(x, 0)."""
    alpha = finite_number(alpha, "alpha")
    return _two_slopes("leaky_relu", (("alpha", alpha),), alpha, 1.0)


@registered
def abs() -> Activation:
    """|x|."""
    return _two_slopes("abs", (), -1.0, 1.0)


@registered
def identity() -> Activation:
    """x: a deep linear network."""
    return _two_slopes("identity", (), 1.0, 1.0)


@registered
def erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Activation:
    """a erf(b x) + c. Dual: the arcsine kernel (Williams, 1997)."""
    a, b, c = finite_number(a, "a"), finite_number(b, "b"), finite_number(c, "c")

    def function(x):
        return a * special.erf(b * x) + c

    def derivative(x):
        return 2 * a * b / np.sqrt(np.pi) * np.exp(-((b * x) ** 2))

    return Activation("erf", (("a", a), ("b", b), ("c", c)), function, derivative, ("erf", (a, b, c)))
