"""What remains of the error along an eigenvector of Π = K/N with eigenvalue λ >= 0, as a function of time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Flow:
    """Continuous time: what remains of the error is e^{-tλ}."""

    t: np.ndarray  # (T,)

    def logremaining(self, eigenvalues):
        with np.errstate(invalid="ignore"):  # inf · 0
            return np.where(eigenvalues > 0, -self.t[:, None] * eigenvalues, 0.0), 1.0


@dataclass(frozen=True)
class Steps:
    """m steps of gradient descent with learning rate η: what remains is (1-ηλ)^m."""

    m: np.ndarray  # (T,), integers
    learning_rate: float

    @property
    def t(self):
        return self.learning_rate * self.m

    def logremaining(self, eigenvalues):
        x = self.learning_rate * eigenvalues
        steps = self.m[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):  # log 0, and 0 · log 0
            each = np.where(x < 1, np.log1p(-np.minimum(x, 1)), np.log(np.minimum(np.abs(x - 1), 1)))
            return np.where(steps == 0, 0.0, steps * each), np.where((x > 1) & (steps % 2 == 1), -1.0, 1.0)


def remaining(time, eigenvalues):
    """What remains of the error along each eigenvector, (T, n)."""
    logarithm, sign = time.logremaining(eigenvalues)
    return sign * np.exp(logarithm)


def learned(time, eigenvalues):
    """1 minus that, without cancellation where little has been learned."""
    logarithm, sign = time.logremaining(eigenvalues)
    return np.where(sign > 0, -np.expm1(logarithm), 1 + np.exp(logarithm))
