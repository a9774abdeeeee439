"""Where the entries of K(X, Y) come from: the limit of a network, or a function of one's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.networks.network import check_network
from ntkfast.support import arrays
from ntkfast.support.progress import reporter
from ntkfast.support.typing import Array, DType, Progress

Function: TypeAlias = Callable[[Array, Array], ArrayLike]

ROWS = 1024  # of a product at once
PAIRS = 64  # points whose diagonal is cut out of their matrix


def check_source(net: object) -> Network | Function:
    """A network, or any other function."""
    if callable(net) and not isinstance(net, Network | type):
        return net
    return check_network(net)


def problem_of(
    net: Network | Function,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
) -> Problem | OwnProblem:
    if isinstance(net, Network):
        return Problem(net, X, Y, dtype=dtype, n_threads=n_threads)
    return OwnProblem(net, X, Y, dtype=dtype)


class OwnProblem:
    """What solvers use of a `Problem`, with a function for its entries; which kernel is asked for makes no difference.

    The diagonal is that of the method `diag`, which kernels of scikit-learn have, if there is one.
    """

    def __init__(
        self, function: Function, X: ArrayLike, Y: ArrayLike | None = None, *, dtype: DTypeLike | None = None
    ) -> None:
        points = [arrays.as_points(X, "X")]
        if Y is not None:
            points.append(arrays.as_points(Y, "Y", points[0].shape[1]))
        self.dtype = arrays.working_dtype(dtype, *points)
        self._function = function
        self._x = _read_only(points[0], self.dtype)
        self._y = self._x if Y is None else _read_only(points[1], self.dtype)

    @property
    def given(self) -> list[tuple[Array, str]]:
        """The points, and their names."""
        return [(self._x, "X"), (self._y, "Y")]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._x), len(self._y)

    def load(self) -> None:
        """Nothing has to be made ready."""

    def rows(self, indices: Array) -> OwnProblem:
        other = copy.copy(self)
        other._x = _read_only(self._x[indices], self.dtype)
        return other

    def matrices(self, get: Any, out: Any = None, show: Progress = None) -> list[Array]:
        found = self._entries(self._x, self._y)
        if out is None:
            return [np.array(found, self.dtype)]  # which may be overwritten, so not what the function may have kept
        out[0][:] = found
        return list(out)

    def product(self, kernel: Any, vectors: Array, show: Progress = None) -> Array:
        result = np.empty((len(self._x), vectors.shape[1]))
        with reporter(show, "kernel") as report:
            for rows in arrays.blocks(len(result), ROWS):
                result[rows] = self._entries(self._x[rows], self._y).astype(np.float64, copy=False) @ vectors
                if report is not None:
                    report(min(rows.stop, len(result)), len(result))
        return result

    def diagonals(self, get: Any, show: Progress = None) -> list[Array]:
        if hasattr(self._function, "diag"):
            found = np.asarray(self._function.diag(self._x))
        else:
            parts = [self._x[rows] for rows in arrays.blocks(len(self._x), PAIRS)]
            found = np.concatenate([self._entries(part, part).diagonal() for part in parts])
        return [self._checked(found, (len(self._x),)).astype(self.dtype, copy=False)]

    def _entries(self, X: Array, Y: Array) -> Array:
        return self._checked(np.asarray(self._function(X, Y)), (len(X), len(Y)))

    @staticmethod
    def _checked(found: Array, shape: tuple[int, ...]) -> Array:
        if found.shape != shape or found.dtype.kind not in "fiu":
            got = f"{found.dtype} {found.shape}"
            raise ValueError(f"net: expected a function that gives real numbers of shape {shape} here, got {got}")
        arrays.finite(found, "net: values of the kernel")
        return found


def _read_only(points: Array, dtype: DType) -> Array:
    """A view, so that a function that works in place does not change what the caller has."""
    view = np.ascontiguousarray(points, dtype).view()
    view.flags.writeable = False
    return view
