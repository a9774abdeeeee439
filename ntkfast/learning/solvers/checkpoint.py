"""The state of iterations in a file, from which another process goes on: of the same problem only, to the last bit."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkfast.learning import checks
from ntkfast.learning.solvers.conjugate import State
from ntkfast.support import archive, reprs
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
    if Y is not None:
        found |= {"outputs": Y.shape[1], "y": hashlib.sha256(np.ascontiguousarray(Y).data).hexdigest()}
    return found


def require_same(there: Mapping[str, Any], here: Mapping[str, Any], eps: float, path: Path) -> None:
    """Raise unless what is at path is of this problem, with the kernel to the accuracy that √eps stands for."""
    differences = [
        f"{name} is {there[name]}, not {here[name]}"
        for name in ("n", "alpha", "dtype", "outputs")
        if name in here and there[name] != here[name]
    ]
    K, also = here["K_xx"], there["K_xx"]
    if there["n"] == here["n"] and not (
        K.shape == also.shape and np.abs(K - also).max() <= np.sqrt(eps) * np.abs(K).max()
    ):
        differences.append("K_xx has other entries")
    if "y" in here and not differences and there["y"] != here["y"]:
        differences.append("y has other numbers")
    if differences:
        raise ValueError(
            f"checkpoint: {path} is of another problem: {'; '.join(differences)}. Delete it, or name another file"
        )


def write(path: Path, what: Saved) -> None:
    """In place of what was there."""
    writer = Writer()
    tree = writer.value(what)
    archive.write(path, tree, [], writer.arrays)


def read(path: Path, cls: type[Saved]) -> Any:
    """The object of this class that `write` wrote."""

    def find(kind: str) -> type[Saved]:
        if kind != cls.__name__:
            raise ValueError(f"an object of kind {kind!r}")
        return cls

    with open(path, "rb") as file:
        try:
            tree, _, arrays = archive.read(file)
            return checked(Reader(arrays, {}, find).value(tree), cls, "checkpoint")
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can make zipfile, NumPy and json raise anything
            reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise ValueError(
                f"checkpoint: expected a file that ntkfast.solve wrote, got {path}, which is damaged or something else "
                f"({reason})"
            ) from error


@dataclass(frozen=True)
class Checkpoint(Saved):
    """The problem, how its preconditioner is made, and the state of the iterations."""

    problem: dict[str, Any]
    seed: int  # of the preconditioner, which is cheap beside the iterations and made again
    rank: int  # that it was asked for
    state: State

    def described(self) -> dict[str, Any]:
        s = self.state
        state = {"X": s.X, "R": s.R, "P": s.P, "before": s.before, "left": s.left, "history": np.array(s.history)}
        return {
            "problem": self.problem,
            "seed": self.seed,
            "rank": self.rank,
            "state": state | {"exact": s.exact, "restarts": s.restarts},
        }

    @classmethod
    def rebuilt(cls, problem: Any, seed: Any, rank: Any, state: Any) -> Checkpoint:
        names = {"n": int, "alpha": float, "dtype": str, "K_xx": np.ndarray, "outputs": int, "y": str}
        problem = {name: checked(problem[name], kind, name) for name, kind in names.items()}
        shape = problem["n"], problem["outputs"]
        X, R, P = (checked_array(state[name], shape, name, np.float64) for name in ("X", "R", "P"))
        before, left = (checked_array(state[name], shape[1:], name, np.float64) for name in ("before", "left"))
        history = checked_array(state["history"], (None,), "history", np.float64).tolist()
        exact, restarts = checked(state["exact"], bool, "exact"), checked(state["restarts"], int, "restarts")
        found = State(X, R, P, before, left, history, exact, restarts)
        return cls(problem, checked(seed, int, "seed"), checked(rank, int, "rank"), found)


class Checkpoints:
    """The file of one problem, which `keep` writes every so often."""

    def __init__(self, path: str | os.PathLike[str], K: Any, alpha: float, Y: Array) -> None:
        self._path = checked_path(path)
        self._problem, self._eps = identity(K, alpha, Y), checks.eps(K)
        self._seed = self._rank = 0
        self._last = -np.inf  # when it was written

    def read(self) -> Checkpoint | None:
        """What is there; None if nothing is."""
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "checkpoint: expected a file for method 'cg'", str(self._path))
        if not self._path.exists():
            return None
        if not self._path.is_file():  # a pipe would be waited for
            raise ValueError(f"checkpoint: expected a file, got {self._path}, which is not a regular one")
        found: Checkpoint = read(self._path, Checkpoint)
        require_same(found.problem, self._problem, self._eps, self._path)
        return found

    def of(self, seed: int, rank: int) -> Checkpoints:
        """Of iterations with this preconditioner."""
        self._seed, self._rank = seed, rank
        return self

    def keep(self, state: State, last: bool) -> None:
        if last or time.monotonic() - self._last >= EVERY:
            write(self._path, Checkpoint(self._problem, self._seed, self._rank, state))
            self._last = time.monotonic()


def checked_path(path: object) -> Path:
    """The path, in a folder that exists; a process may go to another one."""
    try:
        found = Path(path).resolve()  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # a null character, a loop of links
        raise TypeError(f"checkpoint: expected a path, got {reprs.brief(path)}") from None
    if not found.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "checkpoint: there is no folder", str(found.parent))
    return found
