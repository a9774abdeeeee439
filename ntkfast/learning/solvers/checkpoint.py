"""The state of iterations in a file, from which another process goes on: of the same problem only, to the last bit."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkfast.learning import checks
from ntkfast.learning.solvers.conjugate import State
from ntkfast.support import archive, arrays, memory
from ntkfast.support.files import destination, opened
from ntkfast.support.saved import Reader, Saved, Writer, checked, checked_array
from ntkfast.support.typing import Array

EVERY = 30.0  # seconds from the end of one write to the next
SAMPLED = 8  # columns of K, by which a file tells whether it belongs to it


def identity(K: Any, alpha: float, Y: Array | None = None) -> dict[str, Any]:
    """What tells a problem from others. Of K that is a few of its columns, or its product with a vector if it has none.

    Every point changes an entry of each of its columns, so that other points or another network are noticed.
    """
    n = K.shape[0]
    indices = np.unique(np.linspace(0, n - 1, SAMPLED).astype(int))
    if isinstance(K, np.ndarray):
        sample = K[:, indices]
    elif hasattr(K, "columns"):
        sample = K.columns(indices)
    else:
        sample = K.matmat(np.random.default_rng(0).standard_normal((n, 1)))
    found = {"n": n, "alpha": alpha, "dtype": str(np.dtype(K.dtype)), "K_xx": np.asarray(sample, np.float64)}
    return found if Y is None else found | _of_targets(Y)


def identity_of_centers(problem: Any, kernel: str, alpha: float, Y: Array) -> dict[str, Any]:
    """The same for centres, of K(X, C): the points themselves, and a few rows of it."""
    n, m = problem.shape
    points = problem.given[0][0]
    rows = np.unique(np.linspace(0, n - 1, SAMPLED).astype(int))
    sample = np.asarray(problem.rows(rows).matrices((kernel,), show=False)[0], np.float64)
    found = {
        "n": n,
        "centers": m,
        "alpha": alpha,
        "dtype": str(problem.dtype),
        "K_nm": sample,
        "X": arrays.sha256(points),
    }
    return found | _of_targets(Y)


def _of_targets(Y: Array) -> dict[str, Any]:
    return {"outputs": Y.shape[1], "y": arrays.sha256(Y)}


def require_same(there: Mapping[str, Any], here: Mapping[str, Any], eps: float, path: Path) -> None:
    """Raise unless what is at path is of this problem, with the kernel to the accuracy that √eps stands for."""
    differences = [
        f"{name} is {there[name]}, not {here[name]}"
        for name in ("n", "centers", "alpha", "dtype", "outputs")
        if name in here and there[name] != here[name]
    ]
    for name in ("K_xx", "K_nm"):
        if name in here and there["n"] == here["n"] and not _same(there[name], here[name], eps):
            differences.append(f"{name} has other entries, of other points or another network")
    for name in ("X", "y"):
        if name in here and not differences and there[name] != here[name]:
            differences.append(f"{name} has other numbers")
    if differences:
        raise ValueError(
            f"checkpoint: {path} is of another problem: {'; '.join(differences)}. Delete it, or name another file"
        )


def _same(K: Array, also: Array, eps: float) -> bool:
    return K.shape == also.shape and bool(np.abs(K - also).max() <= np.sqrt(eps) * np.abs(also).max())


def write(path: Path, what: Saved) -> None:
    """In place of what was there."""
    writer = Writer()
    tree = writer.value(what)
    archive.write(path, tree, [], writer.arrays)


def read(path: Path, cls: type[Saved], writer: str = "ntkfast.solve") -> Any:
    """The object of this class that `write` wrote."""

    def find(kind: str) -> type[Saved]:
        if kind != cls.__name__:
            raise ValueError(f"an object of kind {kind!r}")
        return cls

    with opened(path, "checkpoint") as file:
        try:
            tree, _, parts = archive.read(file)
            return checked(Reader(parts, {}, find).value(tree), cls, "checkpoint")
        except Exception as error:  # a damaged file can make zipfile, NumPy and json raise anything
            if memory.ran_out(error):
                raise MemoryError(f"checkpoint: there is no memory to read {path} with ({error})") from error
            reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise ValueError(
                f"checkpoint: expected a file that {writer} wrote, got {path}, which is damaged or something else "
                f"({reason})"
            ) from error


PROBLEM = {"n": int, "alpha": float, "dtype": str, "outputs": int, "y": str}


@dataclass(frozen=True)
class Checkpoint(Saved):
    """The problem, how its preconditioner is made, and the state of the iterations."""

    problem: dict[str, Any]
    seed: int  # of the preconditioner, which is cheap beside the iterations and made again
    rank: int  # that it was asked for
    state: State

    def described(self) -> dict[str, Any]:
        return {"problem": self.problem, "seed": self.seed, "rank": self.rank, "state": _described(self.state)}

    @classmethod
    def rebuilt(cls, problem: Any, seed: Any, rank: Any, state: Any) -> Checkpoint:
        problem = _checked(problem, PROBLEM | {"K_xx": np.ndarray})
        found = _rebuilt(state, (problem["n"], problem["outputs"]))
        return cls(problem, checked(seed, int, "seed"), checked(rank, int, "rank"), found)


@dataclass(frozen=True)
class CentersCheckpoint(Saved):
    """The same for iterations on centres, whose preconditioner is that of the centres."""

    problem: dict[str, Any]
    chosen: Array  # numbers of the points that were drawn as centres; none where these were given
    state: State

    def described(self) -> dict[str, Any]:
        return {"problem": self.problem, "chosen": self.chosen, "state": _described(self.state)}

    @classmethod
    def rebuilt(cls, problem: Any, chosen: Any, state: Any) -> CentersCheckpoint:
        problem = _checked(problem, PROBLEM | {"centers": int, "X": str, "K_nm": np.ndarray})
        checked_array(chosen, (None,), "chosen", np.int64)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < problem["n"]):
            raise ValueError(f"chosen: expected numbers of {problem['n']} points")
        return cls(problem, chosen, _rebuilt(state, (problem["centers"], problem["outputs"])))


def _checked(problem: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    return {name: checked(problem[name], kind, name) for name, kind in kinds.items()}


def _described(s: State) -> dict[str, Any]:
    state = {"X": s.X, "R": s.R, "P": s.P, "before": s.before, "left": s.left, "history": np.array(s.history)}
    return state | {"exact": s.exact, "restarts": s.restarts}


def _rebuilt(state: Any, shape: tuple[int, int]) -> State:
    X, R, P = (checked_array(state[name], shape, name, np.float64) for name in ("X", "R", "P"))
    before, left = (checked_array(state[name], shape[1:], name, np.float64) for name in ("before", "left"))
    history = checked_array(state["history"], (None,), "history", np.float64).tolist()
    exact, restarts = checked(state["exact"], bool, "exact"), checked(state["restarts"], int, "restarts")
    return State(X, R, P, before, left, history, exact, restarts)


class Kept:
    """A file of iterations, which is written every so often."""

    def __init__(self, path: str | os.PathLike[str], cls: type[Saved], writer: str) -> None:
        self._path, self._cls, self._writer = destination(path, "checkpoint"), cls, writer
        self._last = -np.inf  # when it was written

    def read(self) -> Any:
        """What is there; None if nothing is."""
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "checkpoint: expected a file for iterations", str(self._path))
        return read(self._path, self._cls, self._writer) if self._path.exists() else None

    def require_same(self, there: Mapping[str, Any], here: Mapping[str, Any], eps: float) -> None:
        """Raise unless what was read is of this problem."""
        require_same(there, here, eps, self._path)

    def keep(self, what: Saved, last: bool) -> None:
        if last or time.monotonic() - self._last >= EVERY:
            write(self._path, what)
            self._last = time.monotonic()


class Checkpoints:
    """The file of one problem of `solve`."""

    def __init__(self, path: str | os.PathLike[str], K: Any, alpha: float, Y: Array) -> None:
        self._file = Kept(path, Checkpoint, "ntkfast.solve")
        self._problem, self._eps = identity(K, alpha, Y), checks.eps(K)
        self._seed = self._rank = 0

    def read(self) -> Checkpoint | None:
        """What is there; None if nothing is."""
        found: Checkpoint | None = self._file.read()
        if found is not None:
            self._file.require_same(found.problem, self._problem, self._eps)
        return found

    def of(self, seed: int, rank: int) -> Checkpoints:
        """Of iterations with this preconditioner."""
        self._seed, self._rank = seed, rank
        return self

    def keep(self, state: State, last: bool) -> None:
        self._file.keep(Checkpoint(self._problem, self._seed, self._rank, state), last)
