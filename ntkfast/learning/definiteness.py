"""What rounding does to positive semi-definite matrices, and how much of it is accepted."""

from __future__ import annotations

import numpy as np

from ntkfast.learning import checks
from ntkfast.support.typing import Array


def semi_definite(eigenvalues: Array, name: str) -> tuple[Array, float, float]:
    """Eigenvalues (ascending) with those up to a floor set to 0, that floor, and the error of K itself.

    Raise if an eigenvalue is below -√eps λ_1. The floor is N eps λ_1, the backward error of the decomposition. Kernel
    entries may be less accurate, to half of their digits for near duplicates, so that eigenvalues that should be 0
    become negative or positive. So the error of K is taken to be twice the most negative eigenvalue in absolute value,
    and the floor is at least this error.
    """
    largest = max(float(eigenvalues[-1]), 0.0)
    eps = float(np.finfo(eigenvalues.dtype).eps)
    if eigenvalues[0] < -np.sqrt(eps) * largest:
        raise ValueError(not_definite(name, eigenvalues[0], "semi-definite"))
    error = max(-2 * float(eigenvalues[0]), 0.0)
    floor = max(len(eigenvalues) * eps * largest, error)
    return np.where(eigenvalues > floor, eigenvalues, 0), floor, error


def not_definite(name: str, smallest: float, what: str, rounding: float = 0.0) -> str:
    """The message for a matrix with this smallest eigenvalue."""
    return (
        f"{name}: expected a positive {what} matrix, but its smallest eigenvalue is {smallest:.3g}; a ridge on the "
        f"diagonal larger than {max(0, -smallest, rounding):.2g} makes it so"
    )


def unexplained(prior: Array, W: Array, name: str, seen: str) -> Array:
    """prior - Wᵀ W, (m, m) and symmetric, or its diagonal (m,), not negative: the (co)variance given the data.

    Raise if the data explain more than the prior variance, far beyond rounding: the kernels do not belong together.
    """
    total = prior.diagonal() if prior.ndim == 2 else prior
    with np.errstate(over="ignore"):
        rest: Array = total - np.einsum("ij,ij->j", W, W)
    worst = int(rest.argmin())
    if rest[worst] < -1e-3 * np.abs(total).max():
        raise ValueError(
            f"{name}: {total[worst]:.6g} of point {worst} is less than what the data explain of it; is it of the same "
            f"kernel as {seen}?"
        )
    if prior.ndim == 1:
        return np.maximum(rest, 0)
    with checks.overflow("covariance") as fits:
        C: Array = fits(prior - W.T @ W)
    return (C + C.T) / 2
