"""The maximum of a log likelihood over a few logarithms within bounds, and whether it is one.

How a search ends proves little. Its line search fails once rounding of log p(y), which grows with the condition of
K + σ² I, exceeds what is left to gain; after such a failure it may also end with a step of 0, content. So the end is
judged by itself, whatever led there: second derivatives predict what the best step of up to a factor e would gain. If
that is worth a step and can be told from rounding, the step is taken, and the search goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from ntkfast.support import memory
from ntkfast.support.typing import Array

__all__ = ["Maximum", "maximise"]

GAIN = 0.01  # of log p(y): what a converged search may leave
FLAT = 0.1  # of log p(y), for a factor e
STEPS = 0.03, 0.1  # of the logarithms: second derivatives to some 3 %, and where rounding spoils those
MOST_EXAMINED = 40  # coordinates
RADII = 1.0, 0.3, 0.1, 0.03, 0.01
ROUNDS = 8  # searches; one or two as a rule
LINE_SEARCH = 8  # evaluations: scipy's 20 are for those whose only judge it is
FAR = 1e3  # above the cost at the start: where K + σ² I is singular to rounding
HIDDEN = 0.2  # of log p(y): what rounding may hide; where it hides more, nothing can be told
SPREAD = 4  # standard deviations of rounding, which come from five samples

Function: TypeAlias = Callable[[Array], tuple[float, Array]]


class Maximum(NamedTuple):
    """Where a search ended: what `ntkfast.FittedHyperparameters` has, for coordinates without names.

    flat : unit vectors, shape (directions, coordinates), or None beyond MOST_EXAMINED coordinates
    """

    at: Array
    value: float
    path: list[float]
    converged: bool
    message: str
    flat: Array | None


def maximise(
    function: Function,
    start: Array,
    low: Array,
    high: Array,
    *,
    scale: float,
    eps: float,
    max_iterations: int,
    report: Callable[[int, int], object] | None = None,
) -> Maximum:
    """Maximise a log likelihood.

    Parameters
    ----------
    function : callable
        Point -> value and gradient; raises LinAlgError where there is none, which the start must not be.
    start, low, high : arrays, shape (p,)
    scale : float
        A typical size of the value, such as the number of points: the search works with value/scale.
    eps : float
        The machine epsilon of the computation.
    max_iterations : int
        Of the search and of steps after it together.
    report : callable, optional
        (iterations done, max_iterations).
    """
    search = _Search(function, start, low, high, scale, max_iterations, report)
    for _ in range(ROUNDS):
        search.climb()
        model = search.model(STEPS[0])
        gain = model.step(RADII[0])[1]
        if gain <= GAIN:
            return search.ended(True, model)
        rounding = search.rounding(eps)
        if rounding.slope[model.moving].max() > STEPS[0] * GAIN:
            model = search.model(STEPS[1])
            gain = model.step(RADII[0])[1]
        if search.left <= 0:
            break
        climbed = search.follow(model, rounding)
        if climbed is None:
            words = f"; rounding of log p(y), {rounding.value:.1g}, hides what is left to gain"
            return search.ended(True, model, words)
        if not climbed:
            break
    return search.ended(False, model, f"; a step is expected to gain {gain:.2g}")


class _Rounding(NamedTuple):
    """Standard deviations."""

    value: float
    slope: Array

    def hides(self, step: Array, gain: float) -> bool:
        return gain <= min(HIDDEN, SPREAD * max(self.value, float(np.linalg.norm(step * self.slope))))


class _Model(NamedTuple):
    """A function to second order, in the coordinates that may move, and how far they may."""

    moving: NDArray[np.bool_]
    slope: Array
    curvature: Array
    low: Array  # <= 0
    high: Array  # >= 0

    def step(self, radius: float) -> tuple[Array, float]:
        """The best step and its gain. A coordinate that would leave its range is held at the end of it."""
        step, free = np.zeros(len(self.slope)), self.moving.copy()
        while free.any():
            slope = self.slope + self.curvature @ np.where(free, 0, step)
            step[free] = _within(slope[free], self.curvature[np.ix_(free, free)], radius)
            leaving = free & ((step < self.low) | (step > self.high))
            step = np.clip(step, self.low, self.high)
            if not leaving.any():
                break
            free &= ~leaving
        return step, float(step @ (self.slope + self.curvature @ step / 2))

    def flat(self) -> Array:
        """The directions in which the function changes by less than FLAT over a unit length."""
        values, vectors = np.linalg.eigh(self.curvature[np.ix_(self.moving, self.moving)])
        is_flat = (np.abs(self.slope[self.moving] @ vectors) < FLAT) & (np.abs(values) / 2 < FLAT)
        found = np.zeros((int(is_flat.sum()), len(self.slope)))
        found[:, self.moving] = vectors.T[is_flat]
        return found


def _within(slope: Array, curvature: Array, radius: float) -> Array:
    """The maximum of slope·s + ½ s·curvature s over |s| <= radius (Nocedal and Wright 2006, section 4.3)."""
    values, vectors = np.linalg.eigh(curvature)
    along = slope @ vectors
    size = float(np.linalg.norm(along))

    def excess(shift: float) -> float:
        return float(np.linalg.norm(along / (shift - values))) - radius

    if values[-1] < 0 and excess(0.0) <= 0:
        shift = 0.0
    else:
        lowest = max(values[-1], 0.0) + 1e-9 * (np.abs(values).max() + size / radius) + np.finfo(float).tiny
        shift = scipy.optimize.brentq(excess, lowest, lowest + size / radius) if excess(lowest) > 0 else lowest
    found = along / (shift - values)
    if values[-1] > 0:  # with no slope along the upward curvature the rest of the radius goes there, either way
        found[-1] += np.copysign(np.sqrt(max(radius**2 - found @ found, 0.0)), along[-1])
    return np.asarray(vectors @ found)


class _Search:
    """A point on its way up, and the path to it."""

    def __init__(
        self,
        function: Function,
        start: Array,
        low: Array,
        high: Array,
        scale: float,
        max_iterations: int,
        report: Callable[[int, int], object] | None,
    ) -> None:
        self._function, self._low, self._high, self._scale = function, low, high, scale
        self._max_iterations, self._report, self._message = max_iterations, report, ""
        self._at = start
        self._value, self._slope = function(start)
        self._path = [self._value]

    @property
    def left(self) -> int:
        """Iterations that may still be done."""
        return self._max_iterations + 1 - len(self._path)

    def _went(self, value: float) -> None:
        self._path.append(max(value, self._path[-1]))  # a restart counts its rounding anew
        if self._report is not None:
            self._report(len(self._path) - 1, self._max_iterations)

    def climb(self) -> None:
        """L-BFGS-B, as far as it goes."""
        start = self._at.copy()

        def cost(at: Array) -> tuple[float, Array]:
            if np.array_equal(at, start):
                value, slope = self._value, self._slope
            else:
                try:
                    value, slope = self._function(at)
                except np.linalg.LinAlgError:
                    value, slope = self._path[0] - FAR * self._scale, np.zeros(len(at))  # a barrier for the line search
            return -value / self._scale, -slope / self._scale

        def after_iteration(intermediate_result: Any) -> None:
            self._went(-self._scale * intermediate_result.fun)

        try:
            found = scipy.optimize.minimize(
                cost,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=np.column_stack([self._low, self._high]),
                callback=after_iteration,
                options={"maxiter": self.left, "maxls": LINE_SEARCH},
            )
        except ValueError as error:  # with which SciPy refuses whatever goes wrong with its bounds
            if memory.ran_out(error):
                raise MemoryError(str(error)) from error
            raise
        self._at, self._message = found.x, found.message.rstrip(": ")
        self._value, self._slope = -self._scale * float(found.fun), -self._scale * found.jac
        if self._value > self._path[-1]:  # a search that ended abnormally in the middle of a step
            self._path.append(self._value)

    def model(self, step: float) -> _Model:
        """The function around the point; in many coordinates to first order, which never promises too little where
        log p(y) is concave."""
        at, slope, n = self._at, self._slope, len(self._at)
        held = (at <= self._low) & (slope <= 0) | (at >= self._high) & (slope >= 0)
        curvature = np.zeros((n, n))
        if n <= MOST_EXAMINED:
            for k in np.flatnonzero(~held):
                curvature[k] = self._bend(int(k), step)
        curvature[:, held] = 0
        return _Model(~held, slope, (curvature + curvature.T) / 2, self._low - at, self._high - at)

    def _bend(self, k: int, step: float) -> Array:
        """A row of second derivatives."""
        room = step if self._at[k] + step <= self._high[k] else -step
        for h in (room, -room):
            with contextlib.suppress(np.linalg.LinAlgError):
                return (self._function(self._at + h * np.eye(len(self._at))[k])[1] - self._slope) / h
        return np.zeros(len(self._at))  # at the edge of what is positive definite, where log p(y) is steep

    def rounding(self, eps: float) -> _Rounding:
        """From points that differ from this one by no more than rounding."""
        found = [(self._value, self._slope)]
        for k in (-2, -1, 1, 2):
            with contextlib.suppress(np.linalg.LinAlgError):
                found.append(self._function(self._at + 64 * eps * k))
        found *= 2 if len(found) == 1 else 1  # at the edge of what is positive definite
        values, slopes = zip(*found, strict=True)
        return _Rounding(float(np.std(values, ddof=1)), np.std(slopes, axis=0, ddof=1))

    def follow(self, model: _Model, rounding: _Rounding) -> bool | None:
        """Take the longest of the model's steps that leads up. None if there is none, down to those whose gain would be
        lost in rounding; False if the model is wrong, or leads to where K + σ² I is singular to rounding."""
        at_edge = False
        for radius in RADII:
            step, gain = model.step(radius)
            if gain <= GAIN * radius or rounding.hides(step, gain):
                return False if at_edge else None
            at = np.clip(self._at + step, self._low, self._high)
            try:
                value, slope = self._function(at)
            except np.linalg.LinAlgError:
                at_edge = True
                continue
            if value > self._value + SPREAD * rounding.value:
                self._at, self._value, self._slope = at, value, slope
                self._went(value)
                return True
        return False

    def ended(self, converged: bool, model: _Model, words: str = "") -> Maximum:
        flat = model.flat() if len(self._at) <= MOST_EXAMINED else None
        return Maximum(self._at, self._value, self._path, converged, self._message + words, flat)
