"""What truncated powers leave of a dual near |ρ| = 1: the values of its tables, from long Hermite series.

φ = p + g, where p has the jumps of φ at its kinks (networks/pieces.py) and a closed form in C. So
E[φφ] - E[pp] = Σ_k (g_k a_k + b_k g_k) ρ^k for the coefficients a, b and g of φ, p and g, and the g_k fall fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ntkfast.networks import quadrature
from ntkfast.networks.pieces import Powers
from ntkfast.networks.quadrature import Array, Gaussian
from ntkfast.support.errors import PrecisionError

FEWEST_TERMS, MOST_TERMS = 512, 2**16
ENOUGH = 2e-12  # what the last quarter of the terms may add, relative to the diagonal
RADIANS = 20.0  # of the last Hermite polynomial on a panel, around 0


class Remainder:
    """For one activation; coefficients are kept by variance."""

    def __init__(self, gaussian: Gaussian, powers: Powers) -> None:
        self.gaussian, self.powers = gaussian, powers
        self._mesh = quadrature.Mesh(powers.function, powers.at)
        self._kept = {}  # variance, number of terms -> what `_sums` returns

    def rule(self, q: Array, required: float, n_threads: int) -> Callable[[float], Array]:
        """A function of δ: E[φφ] - E[pp], and the same for φ' and p', for all pairs of the variances q at correlations
        1-δ and δ-1: (2 signs, 2 functions, len(q), len(q)).
        """
        whole, rest = self._coefficients(q, required, n_threads)
        k = np.arange(whole.shape[-1])

        def matrices(delta):
            log = math.log1p(-delta)
            n = len(k) if log == 0 else min(len(k), math.ceil(-45 / log))
            powers, results = np.exp(k[:n] * log), np.empty((2, 2, len(q), len(q)))
            for w in (0, 1):
                a, g = whole[:, w, :n], rest[:, w, :n]
                even, odd = (
                    (g[:, s] * powers[s]) @ a[:, s].T + ((a - g)[:, s] * powers[s]) @ g[:, s].T
                    for s in (slice(0, None, 2), slice(1, None, 2))
                )
                results[0, w], results[1, w] = even + odd, even - odd
            return results

        return matrices

    def _coefficients(self, q, required, n_threads):
        """Those of (φ, φ') and of (g, g'): two arrays (len(q), 2, terms)."""
        n = FEWEST_TERMS
        for value in sorted(q, reverse=True):  # the one that needs most terms first
            while (error := self._last_terms(*self._at(value, n))) > ENOUGH and n < MOST_TERMS:
                n *= 2
            if error > 2 * required:  # less than half as much is left out
                raise PrecisionError(
                    f"activation {self.gaussian.name!r}: near |ρ| = 1 and for variances about {value:.3g} its dual is "
                    f"accurate only to {error:.1e} relative to the diagonal, {required:.0e} is required"
                )
        with ThreadPoolExecutor(n_threads) as pool:  # numba's loops release the GIL
            found = list(pool.map(lambda value: self._at(value, n), q))
        return (np.array([both[which] for both in found]) for which in (0, 1))

    def _at(self, q, n):
        if (q, n) not in self._kept:
            self._kept[q, n] = self._sums(q, n)
        return self._kept[q, n]

    def _sums(self, q, n):
        from ntkfast.networks.recurrence import long_hermite_sums  # numba

        s = math.sqrt(q)
        z, w = self.gaussian.nodes(q, RADIANS / math.sqrt(n), self._mesh)
        phi, power = self.gaussian, self.powers
        x = s * z
        whole = np.array([phi.function(x), phi.derivative(x)])
        rest = whole - [power.function(x), power.derivative(x)]
        sums = long_hermite_sums(z, w * np.concatenate([whole, rest]), n)
        return sums[:2], sums[2:]

    def _last_terms(self, whole, rest):
        last = slice(3 * whole.shape[-1] // 4, None)
        size = np.maximum((whole**2).sum(axis=1), 1e-300)
        added = np.abs(rest[:, last]) * (np.abs(whole[:, last]) + np.abs((whole - rest)[:, last]))
        return float((added.sum(axis=1) / size).max())
