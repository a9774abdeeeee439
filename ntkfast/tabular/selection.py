"""The ridge of a kernel, chosen by leave-one-out errors, and the course of training at that ridge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import threads
from ntkfast.learning import ridge
from ntkfast.learning.factor import eigen
from ntkfast.support.typing import Array

# Rows up to which all of them choose the ridge: an eigendecomposition takes 25 times as long as a Cholesky
# factorisation. A ridge is the variance of the noise, which is the same for any number of rows.
MOST_ROWS = 1500
N_TIMES = 40
LONGEST = 1e9  # ratio of the last time to the first


@dataclass(frozen=True)
class Selection:
    """The ridges tried, their mean squared leave-one-out errors, the one taken, and what the training curve is made of.

    Attributes
    ----------
    alphas, errors : ndarray, shape (A,)
    alpha : float
    n : int
        The number of rows.
    warning : str or None
        That a ridge beyond those tried may be better.
    """

    alphas: Array
    errors: Array
    alpha: float
    n: int
    warning: str | None
    _found: ridge.Spectral

    def times(self) -> Array:
        """Times from which on, and up to which, the function changes."""
        rates = (self._found.e.values + self.alpha) / self.n
        first = 0.1 / rates[-1]
        return np.geomspace(first, min(10 / rates[0], LONGEST * first), N_TIMES)

    def course(self, t: Array, K_tx: Array | None = None) -> Array:
        """The function at these times, at the rows themselves or new ones: (T, m, q)."""
        return self._found.predicted(self.alpha, t, K_tx)


def select(K: Array, y: Array, alpha: float | None, n_threads: int | None) -> Selection:
    """The ridge for a kernel (n, n), which is overwritten, and targets (n, q); None: chosen."""
    n = len(y)
    alphas = ridge.candidates(K)
    if alpha is not None:
        alphas = np.unique(np.append(alphas, alpha))
    # Two threads gain 0.3 s on an idle machine and, as they meet once for every column, lose 20 s on a busy one
    with threads.blas(n_threads or 1, 0):
        found = ridge.Spectral(eigen(K, "the kernel", overwrite=True), y, n)
        errors = found.left_out_errors(alphas, np.array([np.inf]))[0] / n
    best = float(alphas[errors.argmin()]) if alpha is None else alpha
    return Selection(alphas, errors, best, n, ridge.at_end(alphas, errors) if alpha is None else None, found)
