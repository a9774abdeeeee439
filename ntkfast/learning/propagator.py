"""The action of time on columns: e^{-tΠ} B on the data, A_t B = κ K⁻¹ (I - e^{-tΠ}) B at new points, Π = K/N.

With K = V diag(Nλ) Vᵀ every function of time is a weight per eigenvalue: e^{-tλ}, or (1-ηλ)^m after m steps, is what
remains of the error, and 1 minus that, divided by Nλ, is what a new point learns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ntkfast.learning import pieces
from ntkfast.learning.decay import Time, learned, remaining
from ntkfast.learning.factor import Cholesky, Eigen, cholesky, eigen
from ntkfast.support import memory
from ntkfast.support.saved import checked, checked_array
from ntkfast.support.scalars import positive_number
from ntkfast.support.typing import Array

CHUNK = 2**22  # numbers of the scratch that holds several times at once


def dual_weights(e: Eigen, time: Time, n_points: float) -> Array:
    """(1 - e^{-tλ})/(Nλ), (T, n); for the null space see the notes of LeastSquaresFlow."""
    moves = e.values > 0
    hidden = max(e.floor, np.sqrt(np.finfo(e.values.dtype).eps) * e.values[-1])
    with np.errstate(invalid="ignore"):  # inf · 0
        null = np.where(time.t * hidden < n_points, time.t / n_points, 0)[:, None]
    return np.where(moves, learned(time, e.values / n_points) / np.where(moves, e.values, 1), null)


class Propagator:
    """e^{-tΠ} and A_t for a symmetric kernel K, (n, n), which is factored when a factor is first needed.

    Π = K/N with N = n_points: fewer than n if points have several coupled outputs, their total if they have weights.

    One eigendecomposition serves all times. If only t = inf is needed and K is positive definite beyond rounding, a
    Cholesky factor is used instead. With overwrite=True either works in the memory of K. Calls must be made one at a
    time, as a decomposition may overwrite what another call reads.
    """

    def __init__(self, K: Array, name: str, overwrite: bool, n_points: float) -> None:
        self.n, self.n_points, self.dtype = len(K), n_points, K.dtype
        self._K: Array | None = K
        self._name, self._overwrite = name, overwrite
        self._cholesky: Cholesky | None = None
        self._eigen: Eigen | None = None
        self._definite = True  # until a Cholesky factorisation says otherwise

    # --- files

    def described(self) -> dict[str, Any]:
        """The fields for a file: the eigendecomposition, which is computed if nothing has been.

        If a Cholesky factor has been enough, that, with K in its other triangle.
        """
        found = self._cholesky
        if found is None:
            factor: dict[str, Any] = {"eigen": self.eigen()}
        else:
            factor = {"half": found.half, "diagonal": found.matrix_diagonal, "lowest": found.lowest}
        return {"name": self._name, "n_points": self.n_points, **factor}

    @classmethod
    def rebuilt(
        cls, name: Any, n_points: Any, eigen: Any = None, half: Any = None, diagonal: Any = None, lowest: Any = None
    ) -> Propagator:
        """The inverse of `described`."""
        name, n_points = checked(name, str, "name"), positive_number(n_points, "n_points")
        if eigen is not None:
            propagator = cls(checked(eigen, Eigen, "eigen").vectors, name, True, n_points)
            propagator._eigen, propagator._K = eigen, None
            return propagator
        n = len(checked_array(diagonal, (None,), "diagonal"))
        half = np.asfortranarray(checked_array(half, (n, n), "half", diagonal.dtype))
        propagator = cls(half, name, True, n_points)
        propagator._cholesky = Cholesky(half, diagonal)
        propagator._cholesky.lowest = checked(lowest, float, "lowest")
        return propagator

    # --- the factors

    def eigen(self) -> Eigen:
        """The eigendecomposition of K."""
        if self._eigen is None:
            K = self._kernel()
            self._definite = False  # until K is restored, its factor is of no use
            if self._cholesky is not None and self._overwrite:
                self._cholesky.matrix()  # writes K back into its memory
            self._cholesky = None
            what = f"{self._name}: the eigenvectors"
            memory.require(K.nbytes, what, "; t = inf alone needs none")  # while K is whole
            if self._overwrite:
                self._K = None
            self._eigen, self._K = eigen(K, self._name, overwrite=self._overwrite), None
        return self._eigen

    def _kernel(self) -> Array:
        if self._K is None:
            raise ValueError(f"{self._name}: was overwritten by a decomposition that failed")
        return self._K

    def cholesky(self, time: Time) -> Cholesky | None:
        """The Cholesky factor if it can serve all of these times, else None."""
        if self._eigen is not None or not np.isinf(time.t).all() or not self._definite:
            return None
        if self._cholesky is None:
            self._cholesky = cholesky(self._kernel(), overwrite=self._overwrite)
            self._definite = self._cholesky is not None
        return self._cholesky

    # --- weights per eigenvalue, in the order of `eigen`

    def rates(self) -> Array:
        """λ, the eigenvalues of K/N, (n,)."""
        return self.eigen().values / self.n_points

    def remaining(self, time: Time) -> Array:
        """e^{-tλ}, (T, n)."""
        return remaining(time, self.rates())

    def learned(self, time: Time) -> Array:
        """(1 - e^{-tλ})/(Nλ), (T, n)."""
        return dual_weights(self.eigen(), time, self.n_points)

    # --- products

    def along(self, K_tx: Array) -> Array:
        """κ V, (m, n), exactly 0 in the null space where κ has no part in it beyond rounding and the error of K.

        A kernel function has κ = a K for some weights a; with K + E for K, κ v = -a E v in the null space.
        """
        e = self.eigen()
        left = pieces.product(K_tx, e.vectors)
        null, moving = np.split(left, [np.count_nonzero(e.values == 0)], axis=1)
        rounding = self.n * np.finfo(self.dtype).eps * np.linalg.norm(K_tx, axis=1)
        if e.error:
            rounding += e.error * (1 + np.linalg.norm(moving / e.values[null.shape[1] :], axis=1))
        null[np.linalg.norm(null, axis=1) <= rounding] = 0  # otherwise it would grow like t/N
        return left

    def spread(self, left: Array, weights: Array, coefficients: Array) -> Array:
        """left diag(w_t) coefficients for all t: left (m, n), weights (T, n), coefficients (n, q) → (T, m, q)."""
        m, q = len(left), coefficients.shape[1]
        n_bytes = len(weights) * m * q * self.dtype.itemsize
        memory.require(n_bytes, "t: the function at all times", "; fewer at once need less")
        result = np.empty((len(weights), m, q), dtype=self.dtype)
        together = max(1, CHUNK // (max(m, self.n) * q))
        for start in range(0, len(weights), together):
            some = weights[start : start + together].astype(self.dtype)
            weighted = (some.T[:, :, None] * coefficients[:, None, :]).reshape(self.n, -1)
            product = pieces.product(left, weighted)
            result[start : start + together] = product.reshape(m, len(some), q).transpose(1, 0, 2)
        return result

    def on_data(self, time: Time, f0: Array, y: Array) -> Array:
        """f_t from f_0 and the targets y, (N, q) each, (T, N, q).

        It is f_0 plus what was learned, or y minus what remains, whichever is less: f_t - f_0 is accurate relative to
        itself at small t, and y - f_t at large t.
        """
        if self.cholesky(time):
            return np.broadcast_to(y, (len(time.t), *y.shape)).copy()
        e = self.eigen()
        coefficients = pieces.product(e.vectors.T, y - f0)
        gone, left = learned(time, self.rates()), self.remaining(time)
        squares = np.square(coefficients, dtype=np.float64).sum(axis=1)
        early = np.square(gone) @ squares < np.square(left) @ squares
        result = self.spread(e.vectors, np.where(early[:, None], gone, -left), coefficients)
        for f, is_early in zip(result, early, strict=True):
            f += f0 if is_early else y
        return result

    def beyond(self, time: Time, B: Array, K_tx: Array) -> Array:
        """A_t B, (T, m, q)."""
        found = self.cholesky(time)
        if found:
            f = pieces.product(K_tx, found.solve(B))
            return np.broadcast_to(f, (len(time.t), *f.shape)).copy()
        e = self.eigen()
        coefficients, weights = pieces.product(e.vectors.T, B), self.learned(time)
        null = weights[:, e.values == 0].any()
        if null or len(K_tx) <= len(time.t) * B.shape[1]:  # the cheaper order, unless the null space takes part
            return self.spread(self.along(K_tx), weights, coefficients)
        result = np.empty((len(time.t), len(K_tx), B.shape[1]), self.dtype)
        for f, dual in zip(result, self.spread(e.vectors, weights, coefficients), strict=True):
            f[:] = pieces.product(K_tx, dual)
        return result

    def one_by_one(self, time: Time, B: Array, K_tx: Array | None) -> Iterator[Array]:
        """e^{-tΠ} B, or A_t B if K_tx is given, for one t after the other, where all at once would not fit."""
        found = self.cholesky(time)
        if found:
            f = np.zeros_like(B) if K_tx is None else pieces.product(K_tx, found.solve(B))
            yield from [f] * len(time.t)
            return
        e = self.eigen()
        coefficients = pieces.product(e.vectors.T, B)
        if K_tx is None:
            left, weights = e.vectors, self.remaining(time)
        else:
            left, weights = self.along(K_tx), self.learned(time)
        for weight in weights.astype(self.dtype):
            yield pieces.product(left * weight, coefficients)
