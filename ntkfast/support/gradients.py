"""Derivatives of costs that are given without them: by complex steps where those work, else by differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ntkfast.support.typing import Array

COMPLEX_STEP = 2.0**-300  # its square vanishes, so that Im C(f + i h v)/h has the rounding error of C alone
STEP = 1e-3  # of the differences: errors of h⁴/30 and ε/h
CHECK_STEP = 2e-5
CHECK = 1e-6  # relative


def gradient(cost: Callable[[Array], Any], f: Array, value: Array) -> Array:
    """d = N ∂C/∂f, (N, k) in float64, of a cost without derivatives.

    cost: f ↦ C, a number, or the costs (N,) of which C is the mean, where c_i depends on row i of f only. In the
    first case each entry of f is moved by itself, in the second one output of all points at once. value: cost(f).

    By complex steps (Squire and Trapp 1998), ∂C/∂x = Im C(x + i h)/h with h = 2⁻³⁰⁰: no difference is taken, and the
    result is as accurate as C. They fail for functions that refuse complex numbers or drop their imaginary part
    (np.abs), which is noticed: a central difference along a random direction must agree at every evaluation, for each
    point whose cost is known. Otherwise by differences of fourth order (C(x-2h) - 8 C(x-h) + 8 C(x+h) - C(x+2h))/12h,
    h = 10⁻³ max(1, |x|), with errors of about 3e-13 of the costs of the points, or of N C: at least 5 digits below the
    tolerances of the solvers that use d. Within 2h of a kink, they see an average of both sides.
    """
    f = f.astype(np.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            d = _by_complex_steps(cost, f, value)
    except Exception:  # whatever the user's function raises for complex numbers
        return _by_differences(cost, f, value)
    return d if _agrees(cost, f, value, d) else _by_differences(cost, f, value)


def _moves(f: Array, value: Array) -> Any:
    """(place, direction) of the entries of f that are moved together; direction (N, k) of zeros and ones."""
    places = [(slice(None), a) for a in range(f.shape[1])] if value.ndim else np.ndindex(f.shape)
    for place in places:
        direction = np.zeros(f.shape)
        direction[place] = 1
        yield place, direction


def _share(f: Array, value: Array) -> int:
    """N ∂C/∂f is this times the derivative of the cost's result."""
    return 1 if value.ndim else len(f)


def _by_complex_steps(cost: Callable[[Any], Any], f: Array, value: Array) -> Array:
    d = np.empty(f.shape)
    for place, direction in _moves(f, value):
        moved = np.asarray(cost(f + 1j * COMPLEX_STEP * direction))
        if moved.shape != value.shape or moved.dtype.kind != "c":
            raise TypeError("complex numbers were lost on the way")
        d[place] = moved.imag / COMPLEX_STEP
    return d * _share(f, value)


def _by_differences(cost: Callable[[Array], Any], f: Array, value: Array) -> Array:
    d, step = np.empty(f.shape), STEP * np.maximum(1, np.abs(f))
    for place, direction in _moves(f, value):
        h = step[place]
        ends = [np.asarray(cost(f + m * step * direction), dtype=np.float64) for m in (-2, -1, 1, 2)]
        d[place] = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    return d * _share(f, value)


def _agrees(cost: Callable[[Array], Any], f: Array, value: Array, d: Array) -> bool:
    """Whether d is the derivative along a random direction, of every point's cost if it is known."""
    h = CHECK_STEP * max(1.0, float(np.abs(f).max()))
    v = np.random.default_rng(0).choice([-1.0, 1.0], f.shape) * (1 + np.random.default_rng(1).random(f.shape))
    ends = [np.asarray(cost(f + m * h * v), dtype=np.float64) for m in (-1, 1)]
    change, size = d * v / _share(f, value), np.abs(value) + 1e-300
    along = change.sum(axis=1) if value.ndim else change.sum()
    size = size + (np.abs(change).sum(axis=1) if value.ndim else np.abs(change).sum())
    return bool((np.abs((ends[1] - ends[0]) / (2 * h) - along) <= CHECK * size).all())


def require_separate(cost: Callable[[Array], Any], f: Array) -> None:
    """Raise if costs of the points, (N,), depend on outputs at other points: one half is moved, the other watched."""
    half, f = len(f) // 2, f.astype(np.float64)
    before = np.asarray(cost(f))
    f[:half] += 0.5
    if (np.abs(np.asarray(cost(f)) - before)[half:] > 1e-9 * np.abs(before).max()).any():
        raise ValueError(
            "loss: expected the costs of the points, each of which depends on the outputs at its own point only, got "
            "ones that depend on others; return their mean instead"
        )
