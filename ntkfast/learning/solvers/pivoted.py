"""K ≈ F Fᵀ by randomly pivoted Cholesky, and the preconditioner (F Fᵀ + μI)⁻¹ that it gives.

A column of K is drawn with the probability of its point's share of what is left of the diagonal, d, and eliminated
(Chen, Epperly, Tropp and Webber 2025). Here columns are proposed in blocks, so that each block is one pass, and one
whose d has fallen within its block is rejected with the probability that makes pivots distributed as if they had been
drawn one by one (Epperly, Tropp and Webber 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from ntkfast.support import arrays
from ntkfast.support.typing import Array

BLOCK = 200  # columns that are proposed at once


def low_rank(
    columns: Callable[[Any], Array],
    diagonal: Array,
    rank: int,
    eps: float,
    rng: np.random.Generator,
    report: Callable[[int, int], object] | None = None,
) -> tuple[Array, Array]:
    """F (n, r) in Fortran order with r <= rank, and what is left of the diagonal, (n,).

    columns: indices ↦ those columns of K, (n, k), with relative errors eps. r < rank where F Fᵀ is K to rounding.
    """
    n = len(diagonal)
    F, d = np.empty((n, rank), order="F"), np.maximum(diagonal.astype(np.float64), 0)
    floor, done = n * eps * float(d.sum()), 0
    while done < rank and d.sum() > floor:
        proposed = np.unique(rng.choice(n, min(BLOCK, rank - done), p=d / d.sum()))
        rng.shuffle(proposed)
        rest = columns(proposed).astype(np.float64) - F[:, :done] @ F[proposed, :done].T
        accepted, L = _accepted(rest[proposed], d[proposed], rng)
        new = F[:, done : done + len(accepted)]
        new[:] = scipy.linalg.solve_triangular(L, rest[:, accepted].T, lower=True, check_finite=False).T
        d = np.maximum(d - np.einsum("ij,ij->i", new, new), 0)
        d[proposed[accepted]] = 0
        done += len(accepted)
        if report is not None:
            report(done, rank)
    return F[:, :done], d


def _accepted(H: Array, d: Array, rng: np.random.Generator) -> tuple[list[int], Array]:
    """Which of the proposed columns remain, and the Cholesky factor of their part of H, which is overwritten."""
    accepted: list[int] = []
    L = np.zeros_like(H)
    for i in range(len(H)):
        if H[i, i] > 0 and (not accepted or rng.random() * d[i] < H[i, i]):
            L[i:, i] = H[i:, i] / np.sqrt(H[i, i])
            H[i:, i:] -= np.outer(L[i:, i], L[i:, i])
            accepted.append(i)
    return accepted, L[np.ix_(accepted, accepted)]


class LowRankPreconditioner:
    """B ↦ (F Fᵀ + μI)⁻¹ B = (B - F (Fᵀ F + μI)⁻¹ Fᵀ B)/μ."""

    def __init__(self, F: Array, mu: float) -> None:
        self._F, self._mu = F, mu
        A = np.asfortranarray(F.T @ F)
        A[np.diag_indices_from(A)] += mu + np.finfo(np.float64).eps * len(A) * A.diagonal().max(initial=0)
        self._inner = scipy.linalg.lapack.dpotrf(A, lower=1, overwrite_a=1)[0] if len(A) else A

    def __call__(self, B: Array) -> Array:
        if not len(self._inner):
            return B / self._mu
        inner = scipy.linalg.lapack.dpotrs(self._inner, self._F.T @ B, lower=1)[0]
        result = np.empty_like(B)
        for rows in arrays.blocks(len(B), 4096):
            result[rows] = (B[rows] - self._F[rows] @ inner) / self._mu
        return result
