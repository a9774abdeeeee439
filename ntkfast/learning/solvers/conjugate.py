"""Conjugate gradients with a preconditioner, for many right-hand sides at once.

Every iteration is one product with a block of vectors, since a product with a kernel costs nearly the same for one
vector as for many. Each right-hand side has its own steps and leaves the block when it has converged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ntkfast.support.typing import Array

Product: TypeAlias = Callable[[Array], Array]

STALL = 60  # iterations without any progress of the residual
WORSE = 1e6  # the factor by which a residual may grow: it may rise in between, but not forever
RESTARTS = 4  # from the residual that a product gives, where the one that is updated has drifted away from it


@dataclass(frozen=True)
class Iterations:
    """What iterating came to."""

    solution: Array  # (n, q)
    residuals: Array  # the largest ‖b - A x‖/‖b‖, at the start and after every iteration
    residual: float  # the last one, from a product
    reason: str  # why it ended before the tolerance was reached; "" if it did not

    @property
    def n_iterations(self) -> int:
        return len(self.residuals) - 1


def conjugate_gradients(
    product: Product,
    B: Array,
    precondition: Product,
    *,
    tol: float,
    max_iterations: int,
    start: Array | None = None,
    report: Callable[[int, int], object] | None = None,
) -> Iterations:
    """X with ‖B - A X‖ <= tol ‖B‖ in every column, for a symmetric positive definite A.

    product: V ↦ A V, precondition: V ↦ M⁻¹ V, both (n, q) → (n, q). start: an approximate solution. The residual that
    counts at the end is that of a product, not the one that the iteration updates.
    """
    unit = units(B)
    B, start = B / unit, None if start is None else start / unit
    size = np.linalg.norm(B, axis=0)
    size[size == 0] = 1
    X = np.zeros_like(B) if start is None else start.copy()
    R = B.copy() if start is None else B - product(X)
    exact = True  # whether R is a residual from a product
    P, before = np.zeros_like(B), np.full(B.shape[1], np.inf)  # rᵀ M⁻¹ r before: inf for a fresh start
    left = np.linalg.norm(R, axis=0) / size
    history, first, restarts, reason = [float(left.max())], float(left.max()), 0, ""
    while not reason:
        active = np.flatnonzero(left > tol)
        if not len(active):
            if exact:
                break
            R, exact, restarts = B - product(X), True, restarts + 1
            before[:] = np.inf
            left = np.linalg.norm(R, axis=0) / size
            if (left > tol).any() and restarts == RESTARTS:
                reason = "rounding allows no more"
            continue
        reason = _ended(history, first, max_iterations)
        if reason:
            break
        rest = R[:, active]
        Z = precondition(rest)
        now = np.einsum("ij,ij->j", rest, Z)
        direction = Z + P[:, active] * (now / before[active])
        image = product(direction)
        curvature = np.einsum("ij,ij->j", direction, image)
        if not ((curvature > 0).all() and np.isfinite(curvature).all()):
            reason = "the matrix is not positive definite to rounding"
            break
        P[:, active], before[active] = direction, now
        X[:, active] += direction * (now / curvature)
        R[:, active] -= image * (now / curvature)
        exact = False
        left[active] = np.linalg.norm(R[:, active], axis=0) / size[active]
        history.append(float(left.max()))
        if report is not None:
            report(*_progress(history, tol))
    if not exact:
        left = np.linalg.norm(B - product(X), axis=0) / size
    return Iterations(X * unit, np.array(history), float(left.max()), reason)


def units(B: Array) -> Array:
    """A power of two near the largest entry of each column, by which squares are in range; 1 for a column of 0."""
    units: Array = np.ldexp(1.0, np.frexp(np.abs(B).max(axis=0))[1])
    return units


def _ended(history: list[float], first: float, max_iterations: int) -> str:
    """Why to give up, "" for no reason."""
    if len(history) > max_iterations:
        return f"max_iterations={max_iterations} was reached"
    if not history[-1] <= WORSE * first:
        return "it diverges"
    if len(history) > STALL and min(history[-STALL:]) >= min(history[:-STALL]):
        return f"it has not fallen in {STALL} iterations"
    return ""


def _progress(history: list[float], tol: float) -> tuple[int, int]:
    """Iterations so far, and in all, if the logarithm of the residual goes on falling as it has so far."""
    done = len(history) - 1
    fallen, wanted = np.log(history[0] / max(history[-1], tol)), np.log(history[0] / tol)
    return done, max(done, int(np.ceil(done * wanted / fallen))) if fallen > 0 else 2 * done
