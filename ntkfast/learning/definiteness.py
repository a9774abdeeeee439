"""What rounding does to positive semi-definite matrices, and how much of it is accepted."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy

from ntkfast.learning import checks, pieces
from ntkfast.support import arrays
from ntkfast.support.eigenvalues import DENSE
from ntkfast.support.typing import Array, DType


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
        raise ValueError(not_definite(name, eigenvalues[0], "semi-definite", eigenvalues.dtype))
    error = max(-2 * float(eigenvalues[0]), 0.0)
    floor = len(eigenvalues) * eps * largest
    if error > floor and eigenvalues.dtype == np.float32:
        inaccurate(name, f"its smallest eigenvalue is {eigenvalues[0]:.3g}, and all up to {error:.3g} count as 0")
    floor = max(floor, error)
    return np.where(eigenvalues > floor, eigenvalues, 0), floor, error


def not_definite(name: str, smallest: float, what: str, dtype: DType, rounding: float = 0.0) -> str:
    """The message for a matrix with this smallest eigenvalue."""
    return (
        f"{name}: expected a positive {what} matrix, but its smallest eigenvalue is {smallest:.3g}; a ridge on the "
        f"diagonal larger than {max(0, -smallest, rounding):.2g} makes it so{_better(dtype)}"
    )


def singular(name: str, K: Any, direction: Array) -> str:
    """The message for a matrix whose Cholesky factorisation failed with this direction (`factor.attempt`).

    K: an array; beyond DENSE points, anything with shape, dtype, products with vectors and a diagonal.
    """
    n, dtype = K.shape[0], K.dtype
    rounding = n * float(np.finfo(dtype).eps) * float(np.abs(K.diagonal()).max())
    if n <= DENSE:
        smallest = float(scipy.linalg.eigvalsh(K, subset_by_index=(0, 0), check_finite=False)[0])
        return not_definite(name, smallest, "definite", dtype, rounding)
    most = lanczos_bound(K, direction)  # an eigendecomposition would take minutes
    return (
        f"{name}: expected a positive definite matrix, but its smallest eigenvalue is at most {most:.3g}; a ridge on "
        f"the diagonal larger than {max(-2 * most, rounding):.2g} should make it so{_better(dtype)}"
    )


def inaccurate(name: str, why: str) -> None:
    """Warn of a float32 kernel whose errors show."""
    warnings.warn(
        f"{name}: the errors of this float32 kernel are larger than its small eigenvalues ({why}); compute it in "
        "float64 (dtype=np.float64)",
        stacklevel=3,
    )


def _better(dtype: DType) -> str:
    return "; a kernel computed in float64 (dtype=np.float64) needs less" if dtype == np.float32 else ""


def lanczos_bound(K: Any, start: Array, steps: int = 30) -> float:
    """An upper bound of the smallest eigenvalue, to rounding of K's dtype.

    It is the smallest Rayleigh quotient in the span of start, K start, K² start, ..., an orthonormal basis of which is
    kept (Lanczos's method with full orthogonalisation, twice).
    """
    q, Q = start, np.empty((min(steps, K.shape[0]), K.shape[0]), K.dtype)
    T = np.zeros((len(Q), len(Q)))
    for k in range(len(Q)):
        Q[k] = q / np.linalg.norm(q)
        q = K @ Q[k]
        T[k, : k + 1] = T[: k + 1, k] = Q[: k + 1] @ q
        for _ in range(2):
            q -= Q[: k + 1].T @ (Q[: k + 1] @ q)
        if np.linalg.norm(q) <= np.sqrt(np.finfo(K.dtype).eps) * np.abs(T).max():  # an invariant subspace
            break
    found = np.linalg.eigh(T[: k + 1, : k + 1])[1][:, 0].astype(K.dtype) @ Q[: k + 1]
    return float(found @ (K @ found) / (found @ found))


def unexplained(prior: Array, W: Array, name: str, seen: str, block: int = 1, V: Array | None = None) -> Array:
    """prior - Wᵀ W, (m, m) and symmetric, or its diagonal (m,), not negative: the (co)variance given the data.

    V: in place of the second W, for a symmetric Wᵀ V. block: how many entries belong to a point.

    Raise if the data explain more than the prior variance, far beyond rounding: the kernels do not belong together.
    """
    total, V = prior.diagonal() if prior.ndim == 2 else prior, W if V is None else V
    with np.errstate(over="ignore"):
        explained = [np.einsum("ij,ij->j", W[:, some], V[:, some]) for some in arrays.blocks(W.shape[1], 1024)]
        rest: Array = total - np.concatenate(explained)
    worst = int(rest.argmin())
    if rest[worst] < -1e-3 * np.abs(total).max():
        raise ValueError(
            f"{name}: {total[worst]:.6g} of point {worst // block} is less than what the data explain of it; is it of "
            f"the same kernel as {seen}?"
        )
    if prior.ndim == 1:
        return np.maximum(rest, 0)
    with checks.overflow("covariance") as fits:
        C: Array = fits(prior - (pieces.square(W.T) if V is W else pieces.product(W.T, V)))
    return (C + C.T) / 2
