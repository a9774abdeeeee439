"""What a fit on centres is made of: one eigendecomposition for every ridge, or what iterations need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import threads
from ntkfast.learning.pieces import factor_in_place, solve, solve_triangular, square_in_place
from ntkfast.learning.solvers.conjugate import Iterations, Keep, State, conjugate_gradients
from ntkfast.learning.solvers.panels import Panels
from ntkfast.support.saved import Saved, checked_array
from ntkfast.support.typing import Array


@dataclass(frozen=True)
class NystromDirect(Saved):
    """Everything that one pass yields. In the basis of W the features have the Gram matrix diag(λ)."""

    W: Array  # (m, r): L⁻ᵀ V
    values: Array  # (r,): λ
    u: Array  # (r, q): Wᵀ K_nmᵀ y
    squares: Array  # (q,): yᵀ y

    def __post_init__(self) -> None:
        r = len(checked_array(self.values, (None,), "values", np.float64))
        q = len(checked_array(self.squares, (None,), "squares", np.float64))
        checked_array(self.W, (None, r), "W", np.float64)
        checked_array(self.u, (r, q), "u", np.float64)

    def shrinkage(self, alpha: float) -> Array:
        """1/(λ + α), (r,), 0 where both are 0 to rounding."""
        total = self.values + alpha
        floor = len(total) * np.finfo(np.float64).eps * self.values[-1]
        shrinkage: Array = np.divide(1, total, out=np.zeros_like(total), where=total > floor)
        return shrinkage

    def log_determinant(self, alpha: float, n: int) -> float:
        """log det(Q + αI) for n points; -inf at alpha = 0, unless they are as many as the centres."""
        with np.errstate(divide="ignore"):
            beyond = (n - len(self.values)) * np.log(alpha) if n > len(self.values) else 0.0
            return float(np.log(self.values + alpha).sum() + beyond)

    def dual_coefficients(self, alpha: float) -> Array:
        dual: Array = self.W @ (self.shrinkage(alpha)[:, None] * self.u)
        return dual


@dataclass(frozen=True)
class Falkon:
    """What the iterations for a ridge need."""

    panels: Panels
    L: Array  # lower, K_mm = L Lᵀ
    right: Array  # (m, q): L⁻¹ K_nmᵀ y

    def solve(
        self,
        alpha: float,
        tol: float,
        max_iterations: int,
        start: Array | None,
        state: State | None = None,
        keep: Keep | None = None,
    ) -> Iterations:
        """start, state and keep as in `conjugate_gradients`."""
        n, m = self.panels.shape
        A = np.asfortranarray(np.tril(self.L))
        square_in_place(A)
        A *= n / m
        A[np.diag_indices(m)] += alpha + np.finfo(np.float64).eps * m * A.diagonal().max()
        if factor_in_place(A, False):
            raise np.linalg.LinAlgError(f"alpha: expected a larger ridge than {alpha:g} for these centres")

        def product(V: Array) -> Array:
            with threads.single_threaded_blas():
                W = solve_triangular(self.L, V, trans=True)
            images = self.panels.normal_product(W)
            with threads.single_threaded_blas():
                return solve_triangular(self.L, images) + alpha * V

        def precondition(R: Array) -> Array:
            with threads.single_threaded_blas():
                return solve(A, R)

        return conjugate_gradients(
            product,
            self.right,
            precondition,
            tol=tol,
            max_iterations=max_iterations,
            start=start,
            state=state,
            keep=keep,
        )
