"""What a solver reports."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.support import reprs
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.typing import Array

__all__ = ["Solution"]

KINDS: dict[str, type] = {
    "method": str,
    "iterations": int,
    "residual": float,
    "converged": bool,
    "rank": int,
    "log_determinant": float,
    "seconds": float,
    "memory": int,
}


@dataclass(frozen=True, repr=False)
class Solution(Saved):
    """The solution of a linear system with a kernel, and what it took.

    Attributes
    ----------
    dual_coefficients : ndarray, the shape of y
        a; of a `NystromRegression`, (rank,) or (rank, outputs).
    method : str
        How it was found.
    iterations : int
        0 for direct methods.
    residual : float
        The largest ‖(K + αI) a - y‖/‖y‖ of all columns at the end, or that of the centres' equations for a
        `NystromRegression`; nan where it was not computed.
    residuals : ndarray, shape (iterations + 1,)
        The same along the way.
    converged : bool
        Whether the tolerance was reached.
    rank : int
        Of the preconditioner; the number of independent centres of a `NystromRegression`.
    log_determinant : float
        log det(K + αI), -inf where that is singular to rounding; nan where the method does not yield it ("cg", FALKON).
        Of a `NystromRegression`, that of the projected process, Q + αI.
    seconds : float
        Of this call.
    memory : int
        Bytes of what was allocated, estimated.

    See Also
    --------
    solve : Makes it.
    NystromRegression : Has one after `fit`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.solve([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], 1.0)
    >>> found.dual_coefficients.round(3), found.method
    (array([0.333, 0.5  ]), 'cholesky')
    """

    dual_coefficients: Array
    method: str
    iterations: int
    residual: float
    residuals: Array
    converged: bool
    rank: int
    log_determinant: float
    seconds: float
    memory: int

    __repr__ = reprs.short

    @classmethod
    def rebuilt(cls, dual_coefficients: Any, residuals: Any, **described: Any) -> Solution:
        dual = checked(dual_coefficients, np.ndarray, "dual_coefficients")
        checked_array(dual, (None,) * max(1, min(dual.ndim, 2)), "dual_coefficients")
        solution = cls(dual, residuals=checked_array(residuals, (None,), "residuals"), **described)
        for field, kind in KINDS.items():
            checked(getattr(solution, field), kind, field)
        return solution


def not_reached(name: str, residual: float, tol: float, reason: str, hint: str) -> None:
    """Warn that the tolerance was not reached. The solution may still serve, and may have taken hours: no error."""
    warnings.warn(
        f"{name}: the relative residual is {residual:.2g}, expected at most tol={tol:.2g}: {reason}; {hint}",
        stacklevel=3,
    )
