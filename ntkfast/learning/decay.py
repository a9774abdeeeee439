"""What remains of the error along an eigenvector of Π = K/N with eigenvalue λ >= 0, as a function of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.learning import checks
from ntkfast.support import arrays
from ntkfast.support.scalars import positive_number
from ntkfast.support.typing import Array


@dataclass(frozen=True)
class Continuous:
    """Gradient flow: what remains of the error is e^{-tλ}."""

    t: Array  # (T,)

    def log_remaining(self, eigenvalues: Array) -> tuple[Array, Array]:
        """The logarithm of its absolute value, and its sign."""
        with np.errstate(invalid="ignore"):  # inf · 0
            return np.where(eigenvalues > 0, -self.t[:, None] * eigenvalues, 0.0), np.ones(1)


@dataclass(frozen=True)
class Steps:
    """m steps of gradient descent with learning rate η: what remains is (1-ηλ)^m."""

    m: NDArray[np.integer[Any]]  # (T,)
    learning_rate: float

    @property
    def t(self) -> Array:
        return self.learning_rate * self.m

    def log_remaining(self, eigenvalues: Array) -> tuple[Array, Array]:
        """As in `Continuous`."""
        x = self.learning_rate * eigenvalues
        steps = self.m[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):  # log 0, and 0 · log 0
            each = np.where(x < 1, np.log1p(-np.minimum(x, 1)), np.log(np.minimum(np.abs(x - 1), 1)))
            return np.where(steps == 0, 0.0, steps * each), np.where((x > 1) & (steps % 2 == 1), -1.0, 1.0)


Time: TypeAlias = Continuous | Steps


def given(
    t: ArrayLike | None,
    steps: ArrayLike | None,
    learning_rate: float | None,
    max_learning_rate: Callable[[], float],
) -> tuple[Time, bool]:
    """The requested times, as t or as steps, and whether they were given as one number."""
    if (t is None) == (steps is None):
        raise TypeError(f"t: expected either t or steps, got {'neither' if t is None else 'both'}")
    if t is not None:
        if learning_rate is not None:
            raise TypeError("learning_rate: expected together with steps, got it with t")
        times, scalar = checks.times(t)
        return Continuous(times), scalar
    m = arrays.real(steps, "steps")
    if m.dtype.kind not in "iu":
        raise TypeError(f"steps: expected integers, got dtype {m.dtype}")
    scalar = checks.times(m, "steps")[1]  # not the float64 values, in which large odd numbers become even
    if learning_rate is None:
        raise TypeError("learning_rate: expected a number together with steps, got None")
    rate = positive_number(learning_rate, "learning_rate")
    largest = max_learning_rate()
    if rate > largest:
        raise ValueError(
            f"learning_rate: expected at most 2/λ_1 = {largest:.6g}, beyond which gradient descent diverges, "
            f"got {rate:.6g}"
        )
    return Steps(np.atleast_1d(m), rate), scalar


def remaining(time: Time, eigenvalues: Array) -> Array:
    """What remains of the error along each eigenvector, (T, n)."""
    logarithm, sign = time.log_remaining(eigenvalues)
    return sign * np.exp(logarithm)


def learned(time: Time, eigenvalues: Array) -> Array:
    """1 minus that, without cancellation where little has been learned."""
    logarithm, sign = time.log_remaining(eigenvalues)
    return np.where(sign > 0, -np.expm1(logarithm), 1 + np.exp(logarithm))
