"""Activations from functions: made to work on arrays, checked, and searched for kinks."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.networks import pieces, quadrature
from ntkfast.networks.activation import Activation
from ntkfast.networks.activations import piecewise
from ntkfast.networks.instruction import Instruction
from ntkfast.networks.quadrature import Array, Function
from ntkfast.support import forks
from ntkfast.support.errors import ActivationError

REACH = 16.0  # φ is examined on [-REACH, REACH] when the activation is created
FARTHEST = 128.0  # and searched for kinks to there, as far as it is finite
_compiled: dict[
    Function, Function
] = {}  # numba's ufuncs of scalar functions: a second activation of the same function compiles nothing


def _on_arrays(phi: Function, name: str, what: str) -> Function:
    """A function of float64 arrays: phi itself if it works on arrays, else phi compiled by numba."""
    import numba  # all of it: a thread that imports a submodule first, while another imports numba, gets half of either

    Dispatcher = numba.core.dispatcher.Dispatcher
    x = np.array([-1.5, 2.0, 0.25])
    first = None
    if not isinstance(phi, Dispatcher):
        try:
            values = np.asarray(phi(x.copy()))
            if values.shape == x.shape:
                _check_elementwise(phi, x, values, name, what)
                return phi
        except ActivationError:
            raise
        except Exception as error:  # a function of one number, or a broken one: numba decides
            first = error
    if phi not in _compiled:
        try:
            if (first and not (inspect.isroutine(phi) or isinstance(phi, Dispatcher))) or inspect.ismethod(phi):
                raise TypeError(f"{first}, and numba compiles plain functions only: wrap it in a def")
            _compiled[phi] = forks.compiler.run(_ufunc, phi)
        except Exception as error:
            shape = "" if first else f" (it returned shape {np.shape(phi(x))} for shape {x.shape})"
            reason = str(error).splitlines()[0] if first is None or isinstance(error, TypeError) else first
            raise ActivationError(
                f"{what} of activation {name!r}: expected a function of an array or of one float, got one that fails "
                f"on arrays{shape} and that numba does not compile: {reason}"
            ) from error
    return _compiled[phi]


def _ufunc(phi: Function) -> Function:
    """A function of one number, compiled for arrays."""
    import numba

    scalar = numba.njit(phi) if inspect.isfunction(phi) else phi
    result: Function = numba.vectorize(["float64(float64)"])(lambda value: scalar(value))
    return result


def _check_elementwise(phi: Function, x: Array, values: Array, name: str, what: str) -> None:
    """Raise if φ mixes the entries of its argument, or returns different values for the same argument."""
    for order, expected in (
        (slice(None), "the same values for the same argument"),
        (slice(None, None, -1), "one that acts on each entry alone"),
    ):
        again = np.asarray(phi(x[order].copy()))
        if values.dtype.kind in "biuf" and not np.allclose(again, values[order], rtol=1e-10, atol=0, equal_nan=True):
            raise ActivationError(
                f"{what} of activation {name!r}: expected {expected}, got {values} for {x}, then {again} for {x[order]}"
            )


def _checked(function: Function, name: str, what: str) -> Function:
    """The function, with every result checked: real numbers, of the shape of its argument, finite."""

    def evaluate(x: ArrayLike) -> Array:
        x = np.asarray(x, dtype=float)
        if x.size == 0:
            return x
        try:
            with np.errstate(all="ignore"):
                values = np.asarray(function(x.copy()))  # φ may write into it
        except Exception as error:
            raise ActivationError(
                f"{what} of activation {name!r}: failed on an array of shape {x.shape}: {error}"
            ) from error
        if values.dtype.kind not in "biuf":
            raise ActivationError(f"{what} of activation {name!r}: expected real numbers, got dtype {values.dtype}")
        if values.dtype.kind == "f" and values.itemsize < 8:
            raise ActivationError(
                f"{what} of activation {name!r}: expected float64 for float64, got {values.dtype}, whose rounding is "
                "larger than the accuracy of the dual"
            )
        if values.shape != x.shape:
            raise ActivationError(
                f"{what} of activation {name!r}: expected one value per point, shape {x.shape}, got {values.shape}"
            )
        bad = ~np.isfinite(values)
        if bad.any():
            raise ActivationError(
                f"{what} of activation {name!r}: expected finite values, got {values[bad].flat[0]} at "
                f"x={x[bad].flat[0]:.6g}"
            )
        return values.astype(float)

    return evaluate


def _is_kink(evaluate: Function, t: float, kinks: Sequence[float]) -> bool:
    """Whether φ is not smooth on a neighbourhood of t that has no other kink."""
    near = min((abs(t - other) / 2 for other in kinks if other != t), default=1.0)
    h = min(0.05 * max(1.0, abs(t)), near)
    return quadrature.Probe(evaluate).unresolved(t - h, t + h) > quadrature.RESOLVED


def _rings(kinks: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Intervals beyond REACH, on both sides in turn, outwards to FARTHEST, cut at the kinks."""
    low = REACH
    while low < FARTHEST:
        for side in (-1, 1):
            inner, outer = sorted((side * 1.0155 * low, side * 2.031 * low))
            yield from itertools.pairwise([inner, *(t for t in kinks if inner < t < outer), outer])
        low *= 2


def _find_kinks(evaluate: Function, kinks: Sequence[float], name: str) -> tuple[float, ...]:
    """The given kinks, without those where φ is smooth, and those found."""
    kinks = tuple(t for t in kinks if _is_kink(evaluate, t, kinks))
    ends = [-1.0137 * REACH, *(t for t in kinks if abs(t) < REACH), 1.0191 * REACH]
    found = []
    for low, high in [*itertools.pairwise(ends), *_rings(kinks)]:
        try:
            spots = quadrature.find_kinks(evaluate, low, high)
        except ActivationError:
            if abs(low + high) < REACH:
                raise
            break  # φ leaves float64 out there
        for a, b in spots:
            margin = 0.5 * (b - a)  # a kink at one of its ends
            if not any(a - margin <= t <= b + margin for t in (*kinks, *found)):
                found.append(pieces.simplest(a - margin, b + margin))
    kinks = tuple(t for t in pieces.polished(evaluate, sorted({*kinks, *found})) if not _is_steep(evaluate, t))
    mesh = quadrature.Mesh(evaluate, kinks)
    mesh.upto(REACH)
    if mesh.found:
        place = min(mesh.found, key=lambda spot: abs(spot[0]))
        raise ActivationError(
            f"φ of activation {name!r}: expected a function that is smooth between its kinks, got one that no "
            f"polynomial fits near x={place[0]:.9g}, however near; is it Lipschitz there?"
        )
    return kinks


def _is_steep(evaluate: Function, t: float) -> bool:
    """Whether φ looks as if it jumped at t, but is continuous on a smaller scale, as tanh(10⁵ x) is."""
    scale = max(1.0, abs(t))
    steps = [abs(float(np.diff(evaluate(t + scale * h * np.array([-1.0, 1.0])))[0])) for h in (1e-3, 1e-4, 1e-11)]
    return steps[0] < 2 * steps[1] and steps[2] < steps[0] / 10


def _check_derivative(name: str, function: Function, derivative: Function, kinks: Sequence[float]) -> None:
    """Compare φ' with high-order differences of φ away from kinks; raise for the first point where they disagree."""
    x = np.concatenate([-np.geomspace(0.01, 12, 40), np.geomspace(0.01, 12, 40)]) * 1.013
    distance = np.min([np.abs(x - t) for t in (*kinks, np.inf)], axis=0)
    h = np.minimum(0.01, distance / 8)
    x, h = x[h > 1e-4], h[h > 1e-4]
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    difference = sum(w * (function(x + k * h) - function(x - k * h)) for k, w in weights.items()) / h
    given = derivative(x)
    wrong = np.abs(given - difference) > 1e-6 * (1 + np.abs(difference))
    if wrong.any():
        k = np.flatnonzero(wrong)[0]
        raise ActivationError(
            f"derivative of activation {name!r}: it is not φ' at x={x[k]:.6g}, where it is {given[k]:.9g} and φ has "
            f"the slope {difference[k]:.9g}"
        )


def activation_of(phi: Function, name: str, derivative: Function | None, kinks: tuple[float, ...]) -> Activation:
    """See `Activation.from_function`; the arguments are of the right types."""
    source = phi, derivative
    function = _checked(_on_arrays(phi, name, "φ"), name, "φ")
    function(np.linspace(-REACH, REACH, 4001))  # before any closer examination
    kinks = _find_kinks(function, kinks, name)
    if derivative is not None:
        derivative = _checked(_on_arrays(derivative, name, "derivative"), name, "derivative")
        _check_derivative(name, function, derivative, kinks)
    else:
        derivative = quadrature.InterpolatedDerivative(quadrature.Mesh(function, kinks))
    lines = pieces.piecewise_linear(function, kinks) if kinks else None
    if lines:
        return piecewise(name, (), *lines, source=source)
    return Activation(name, (), function, derivative, Instruction("series"), kinks, source)
