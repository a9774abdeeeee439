"""The kernel of two points by themselves, for callers who go through the pairs of a matrix one by one.

A `Problem` costs half a millisecond however small it is. Here programs are kept, and one pair takes a few microseconds
in `src_c/pair.c`, which needs no tables of points and no inner products from BLAS.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.engine import _core, outputs, series
from ntkfast.engine.lower import lower
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.support import arrays
from ntkfast.support.errors import PrecisionError


def pair(net: Network, x: ArrayLike, y: ArrayLike, kernel: str) -> float:
    """K(x, y) of two points, each (d,): the entry of the kernel matrix, within its accuracy.

    K(y, x) is the same to the last bit, and K(x, x) that of the diagonal; with Hermite series, which are bound anew
    when points of other lengths come, to 1e-11.
    """
    X = arrays.as_points(np.atleast_2d(x), "X")
    Y = arrays.as_points(np.atleast_2d(y), "Y", n_features=X.shape[1])
    dtype = arrays.working_dtype(None, X, Y)
    kept = _kept(net, X.shape[1])
    return kept(arrays.for_blas(X, "X", dtype), arrays.for_blas(Y, "Y", dtype), outputs.kernel(kernel))


class _Pairs:
    """The kernels of a network for pairs of points of d features. Its series are bound to the variances that occur."""

    def __init__(self, net: Network, d: int) -> None:
        self._net, self._code = net, lower(net, d)
        self._norms = np.empty(0)  # what the series are bound for
        self._keep(self._bind())

    def __call__(self, X: np.ndarray, Y: np.ndarray, kernel: str) -> float:
        program, ranges = self._bound
        value = _core.pair(program, X[0], Y[0], kernel, ranges)
        return value if value == value else self._otherwise(X, Y, kernel)

    def _otherwise(self, X: np.ndarray, Y: np.ndarray, kernel: str) -> float:
        """Where the series do not serve yet, or, with the errors of a matrix, the numbers do not fit."""
        problem = Problem(self._net, X, Y, n_threads=1)
        problem.load()
        if self._code.series:
            try:
                value = self._widened(problem, kernel)
            except PrecisionError:  # of variances that are far apart
                self._norms = np.empty(0)
            else:
                if value == value:
                    return value
        return float(problem.matrices((kernel,), show=False)[0][0, 0])

    def _widened(self, problem: Problem, kernel: str) -> float:
        """The value of series bound for this pair too, and for all up to the next powers of 2: few calls come here."""
        x, y = (problem.points[side].x[0] for side in (0, -1))  # one if they are the same
        norms = np.array([points.norms[0] for points in problem.points])
        with np.errstate(over="ignore"):
            around = [np.exp2(edge(np.log2(norms[norms > 0]))) for edge in (np.floor, np.ceil)]
        self._norms = np.concatenate([self._norms, norms, *around])

        def run(prepared: series.Prepared) -> float:
            return _core.pair(prepared.program, x, y, kernel, _ranges(prepared))

        prepared, value = series.until_complete(self._bind, run, 1)
        self._keep(prepared)
        return value

    def _bind(self) -> series.Prepared:
        return series.bind(self._code, [self._norms], np.dtype(np.float64), False, 1)

    def _keep(self, prepared: series.Prepared) -> None:
        self._bound = prepared.program, _ranges(prepared)  # in one step: other threads read it


def _ranges(prepared: series.Prepared) -> np.ndarray:
    """Instruction and range of variances of each series, (series, 3)."""
    rows = [(k, low, high) for k, (_, low, high, *_) in prepared.bound.items()]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


_kept = lru_cache(maxsize=32)(_Pairs)
