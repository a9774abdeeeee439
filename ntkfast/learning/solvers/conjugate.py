"""Conjugate gradients with a preconditioner, for many right-hand sides at once.

Every iteration is one product with a block of vectors, since a product with a kernel costs nearly the same for one
vector as for many. Each right-hand side has its own steps and leaves the block when it has converged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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


@dataclass
class State:
    """All that the next iteration depends on. Columns are in `units` of the right-hand sides."""

    X: Array  # (n, q), the solution so far
    R: Array  # (n, q), its residual
    P: Array  # (n, q), the directions of the last steps
    before: Array  # (q,), rᵀ M⁻¹ r before them; inf for a fresh start
    left: Array  # (q,), ‖r‖/‖b‖
    history: list[float]
    exact: bool = True  # whether R is a residual from a product
    restarts: int = 0
    whole: bool = True  # False while its parts are being updated

    def restarted(self) -> State:
        """The same solution, whose next steps forget the directions so far, as another preconditioner wants it."""
        return replace(self, P=np.zeros_like(self.P), before=np.full_like(self.before, np.inf))


Keep: TypeAlias = Callable[[State, bool], object]  # called after every iteration, and with True when it is the last


def conjugate_gradients(
    product: Product,
    B: Array,
    precondition: Product,
    *,
    tol: float,
    max_iterations: int,
    start: Array | None = None,
    state: State | None = None,
    keep: Keep | None = None,
    report: Callable[[int, int], object] | None = None,
) -> Iterations:
    """X with ‖B - A X‖ <= tol ‖B‖ in every column, for a symmetric positive definite A.

    product: V ↦ A V, precondition: V ↦ M⁻¹ V, both (n, q) → (n, q). start: an approximate solution. state: where a
    call with the same A, B and M was stopped, which goes on from there; it is updated, and `keep` sees it. The residual
    that counts at the end is that of a product, not the one that the iteration updates.
    """
    unit = units(B)
    B = np.ascontiguousarray(B) / unit  # in the order of a state from a file, so that sums have the same bits
    size = np.linalg.norm(B, axis=0)
    size[size == 0] = 1
    if state is None:
        state = _begun(product, B, None if start is None else start / unit, size)
    else:
        state.exact = False  # of A as it was, whose entries may have been rounded otherwise
    try:
        reason = _iterate(state, product, B, precondition, size, tol, max_iterations, keep, report)
    except KeyboardInterrupt:
        if keep is not None and state.whole:
            keep(state, True)
        raise
    if not state.exact:
        state.left = np.linalg.norm(B - product(state.X), axis=0) / size
    return Iterations(state.X * unit, np.array(state.history), float(state.left.max()), reason)


def _begun(product: Product, B: Array, start: Array | None, size: Array) -> State:
    X = np.zeros_like(B) if start is None else start.copy()
    R = B.copy() if start is None else B - product(X)
    left = np.linalg.norm(R, axis=0) / size
    return State(X, R, np.zeros_like(B), np.full(B.shape[1], np.inf), left, [float(left.max())])


def _iterate(
    s: State,
    product: Product,
    B: Array,
    precondition: Product,
    size: Array,
    tol: float,
    max_iterations: int,
    keep: Keep | None,
    report: Callable[[int, int], object] | None,
) -> str:
    """Iterate until the tolerance is reached, or for a reason, which is returned."""
    reason = ""
    while not reason:
        active = np.flatnonzero(s.left > tol)
        if not len(active):
            if s.exact:
                break
            R = B - product(s.X)
            s.whole = False
            s.R, s.exact = R, True
            s.before[:] = np.inf
            s.left = np.linalg.norm(R, axis=0) / size
            if (s.left > tol).any():
                s.restarts += 1
                if s.restarts >= RESTARTS:
                    reason = "rounding allows no more"
            s.whole = True
            continue
        reason = _ended(s.history, max_iterations)
        if reason:
            break
        rest = s.R[:, active]
        Z = precondition(rest)
        now = np.einsum("ij,ij->j", rest, Z)
        direction = Z + s.P[:, active] * (now / s.before[active])
        image = product(direction)
        curvature = np.einsum("ij,ij->j", direction, image)
        if not ((curvature > 0).all() and np.isfinite(curvature).all()):
            reason = "the matrix is not positive definite to rounding"
            lowest = float((curvature / np.einsum("ij,ij->j", direction, direction)).min())
            if lowest < 0:
                reason += f": its smallest eigenvalue is at most {lowest:.2g}, the ridge too small by that at least"
            break
        s.whole = False
        s.P[:, active], s.before[active] = direction, now
        s.X[:, active] += direction * (now / curvature)
        s.R[:, active] -= image * (now / curvature)
        s.exact = False
        s.left[active] = np.linalg.norm(s.R[:, active], axis=0) / size[active]
        s.history.append(float(s.left.max()))
        s.whole = True
        if keep is not None:
            keep(s, False)
        if report is not None:
            report(*_progress(s.history, tol))
    if keep is not None:
        keep(s, True)
    return reason


def units(B: Array) -> Array:
    """A power of two near the largest entry of each column, by which squares are in range; 1 for a column of 0."""
    units: Array = np.ldexp(1.0, np.frexp(np.abs(B).max(axis=0))[1])
    return units


def _ended(history: list[float], max_iterations: int) -> str:
    """Why to give up, "" for no reason."""
    if len(history) > max_iterations:
        return f"max_iterations={max_iterations} was reached"
    if not history[-1] <= WORSE * history[0]:
        return "it diverges"
    if len(history) > STALL and min(history[-STALL:]) >= min(history[:-STALL]):
        return f"it has not fallen in {STALL} iterations"
    return ""


def _progress(history: list[float], tol: float) -> tuple[int, int]:
    """Iterations so far, and in all, if the logarithm of the residual goes on falling as it has so far."""
    done = len(history) - 1
    fallen, wanted = np.log(history[0] / max(history[-1], tol)), np.log(history[0] / tol)
    return done, max(done, int(np.ceil(done * wanted / fallen))) if fallen > 0 else 2 * done
