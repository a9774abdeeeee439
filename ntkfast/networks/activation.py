"""An activation as a value: φ and φ' for NumPy arrays, and the instruction that is its dual."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.networks.instruction import Instruction
from ntkfast.networks.layer import FEATURES, Flow, Layer, require_gaussian
from ntkfast.support.saved import Given, GivenError
from ntkfast.support.scalars import finite_number, positive_integer, positive_number

__all__ = ["Activation"]

MOST_COEFFICIENTS = 2048
PROBES = (-2.1, -0.9, -0.3, 0.1, 0.6, 1.7)  # where a function that is given again is compared with the one saved


@dataclass(frozen=True)
class Activation(Layer):
    """A nonlinearity σ = φ, with the dual that the limit kernels need.

    The dual of φ is E[φ(u)φ(v)] for a Gaussian pair (u, v). Activations compare equal when their names and parameters
    (and, made by `from_function`, their functions) do, and can be called on arrays.

    Parameters
    ----------
    name : str
        How it is called in messages, files and `repr`.
    parameters : tuple of (str, value)
        Its parameters, which with the name make it what it is.
    function, derivative : callable
        φ and φ', elementwise on NumPy arrays of any shape. At a kink φ' is the mean of both sides.
    instruction : Instruction
        The kernel program's instruction that maps Σ to E[φ(u)φ(v)].
    kinks : tuple of float
        Where φ or a derivative of it jumps.
    source : tuple, optional
        φ and φ' as they were given to `from_function`.

    See Also
    --------
    activations : The library's own.
    Activation.from_function : One of a function of your own.
    dual : E[φ(u)φ(v)].

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
    parameters: tuple[tuple[str, object], ...]
    function: Callable[..., Any] = field(compare=False, repr=False)
    derivative: Callable[..., Any] = field(compare=False, repr=False)
    instruction: Instruction = field(repr=False)
    kinks: tuple[float, ...] = field(default=(), repr=False)
    source: tuple[Callable[..., Any] | None, ...] | None = field(default=None, repr=False)  # φ and φ' as given

    @classmethod
    def from_function(
        cls,
        phi: Callable[..., Any],
        *,
        name: str | None = None,
        derivative: Callable[..., Any] | None = None,
        kinks: Sequence[float] = (),
    ) -> Activation:
        """An activation from a function of your own, whose dual comes from its Hermite expansion.

        With a_k(q) = E[φ(√q z) h_k(z)] for z ~ N(0, 1) and the normalised Hermite polynomials h_k,
        E[φ(u)φ(v)] = Σ_k a_k(q1) a_k(q2) ρ^k, and E[φ'(u)φ'(v)] is its derivative with respect to the covariance
        (Price's theorem). Where the series converges slowly (kinks, large variances, |ρ| near 1), tables and closed
        forms replace it.

        Parameters
        ----------
        phi : callable
            A Lipschitz (or piecewise Lipschitz) function of a float64 array, or of one float, which numba then
            compiles. A function already jitted by numba is used directly.
        name : str, optional
            Default: the function's own.
        derivative : callable, optional
            φ', checked against φ. Where it is not given, polynomials that interpolate φ between its kinks are
            differentiated: a little slower in networks of finite width, and as accurate as φ allows.
        kinks : sequence of float, optional
            Where φ, φ' or a higher derivative jumps. Kinks that are not given are searched for.

        Returns
        -------
        Activation

        Raises
        ------
        ActivationError
            φ returns NaN, another shape or something other than numbers, or `derivative` is not its derivative; the
            message names the point.
        TypeError, ValueError
            An argument is not as described.

        See Also
        --------
        activations : The library's own, most with a closed form of the dual.
        dual : E[φ(u)φ(v)].
        save : Files name such activations; `load` is given them again.

        Notes
        -----
        The dual is accurate to 1e-10 relative to √(E φ(u)² E φ(v)²), for variances in [0.01, 100] at least. If a
        pair cannot be computed to that accuracy, the call raises `PrecisionError`, which reports the accuracy reached.

        Near |ρ| = 1 the jumps of φ and of its derivatives at kinks are represented by truncated powers (x - t)₊^r,
        whose E[(u - s)₊^j (v - t)₊^k] have a closed form. If φ is a polynomial between its kinks, nothing is left.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> snake = nf.Activation.from_function(lambda x: x + np.sin(x) ** 2, name="snake")
        >>> nf.ntk(nf.MLP(depth=3, activation=snake), [[1.0, 0.0], [0.0, 2.0]]).shape
        (2, 2)
        """
        if not callable(phi):
            raise TypeError(f"phi: expected a function, got {type(phi).__name__}")
        if derivative is not None and not callable(derivative):
            raise TypeError(f"derivative: expected a function, got {type(derivative).__name__}")
        for argument, function in (("phi", phi), ("derivative", derivative)):
            try:
                hash(function)
            except TypeError:
                raise TypeError(f"{argument}: expected a hashable function, got a {type(function).__name__}") from None
        name = getattr(phi, "__name__", type(phi).__name__) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"name: expected a string, got {type(name).__name__}")
        if isinstance(kinks, str) or not np.iterable(kinks):
            raise TypeError(f"kinks: expected a sequence of numbers, got {type(kinks).__name__}")
        kinks = tuple(sorted({finite_number(t, f"kinks[{k}]") for k, t in enumerate(kinks)}))
        from ntkfast.networks import functions  # which builds values of this class

        return functions.activation_of(phi, name, derivative, kinks)

    def after(self, flow: Flow, place: str) -> Flow:
        require_gaussian(flow, place, f"the activation {self!r}")
        return Flow(FEATURES, centred=False)

    def emit(self, code) -> None:
        code.dual(self)

    def described(self):
        if self.source is None:
            return {"name": self.name, "parameters": self.parameters}
        return {"name": self.name, "own": Given(self.name, self), "values": tuple(self(PROBES).tolist())}

    @classmethod
    def rebuilt(cls, name, parameters=(), own=None, values=()):
        if own is None:
            return _build(name, parameters)
        found = own(PROBES)
        wrong = np.flatnonzero(~np.isclose(found, values, rtol=1e-6, atol=1e-9))
        if own.name != name or len(wrong):
            k = wrong[0] if len(wrong) else 0
            raise GivenError(
                f"expected the activation {name!r}, which is {values[k]:.9g} at {PROBES[k]}, got {own!r}, which is "
                f"{found[k]:.9g}"
            )
        return own

    def __call__(self, x: ArrayLike) -> NDArray[np.floating]:
        """φ(x), elementwise.

        Parameters
        ----------
        x : array_like
            Arguments, of any shape.

        Returns
        -------
        ndarray, of the shape of x
            φ(x).

        See Also
        --------
        Activation.from_function : φ of your own.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.activations.relu()([-1.0, 2.0])
        array([0., 2.])
        """
        return self.function(np.asarray(x))

    @property
    def is_elementwise(self) -> bool:
        """Whether φ is a function of one number; `exp_normalized` acts on the features of a layer together.

        See Also
        --------
        activations.exp_normalized : One that is not.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.activations.get("tanh").is_elementwise, nf.activations.get("exp_normalized").is_elementwise
        (True, False)
        """
        return True

    def hermite_coefficients(self, q: float, n: int) -> NDArray[np.float64]:
        """a_k(q) = E[φ(√q z) h_k(z)], z ~ N(0, 1), for k < n and the normalised probabilists' Hermite polynomials h_k.

        Parameters
        ----------
        q : float
            Variance, > 0.
        n : int
            Number of coefficients, at most 2048.

        Returns
        -------
        ndarray, shape (n,)
            a_0 to a_{n-1}.

        Raises
        ------
        TypeError, ValueError
            q is not positive, or n is not a number from 1 to 2048.

        See Also
        --------
        dual : Σ_k a_k(q1) a_k(q2) ρ^k, summed.
        hermite_certificate : What the coefficients say about positive definiteness.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.activations.relu().hermite_coefficients(1.0, 3).round(4)
        array([0.3989, 0.5   , 0.2821])
        """
        from ntkfast.networks import quadrature  # which integrates values of this class

        q, n = positive_number(q, "q"), positive_integer(n, "n")
        if n > MOST_COEFFICIENTS:
            raise ValueError(f"n: expected at most {MOST_COEFFICIENTS}, beyond which the quadrature fails, got {n}")
        return quadrature.gaussian(self).coefficients(q, n)[0]

    def __reduce__(self):  # φ is a closure: registered ones are pickled as name and parameters, others as given
        if self.source is not None:
            return _from_source, (self.source, self.name, self.kinks)
        return _build, (self.name, self.parameters)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.parameters)})"


FACTORIES: dict[str, Callable[..., Activation]] = {}
_Factory = TypeVar("_Factory", bound=Callable[..., Activation])


def registered(factory: _Factory) -> _Factory:
    """Decorator: makes the activation available under its factory's name if all of its parameters have defaults."""
    FACTORIES[factory.__name__] = factory
    return factory


def has_defaults(name: str) -> bool:
    parameters = inspect.signature(FACTORIES[name]).parameters.values()
    return all(parameter.default is not parameter.empty for parameter in parameters)


def _build(name, parameters):
    return FACTORIES[name](**dict(parameters))


def _from_source(source, name, kinks):
    phi, derivative = source
    return Activation.from_function(phi, name=name, derivative=derivative, kinks=kinks)
