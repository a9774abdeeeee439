"""Training in parts: a network is observed at chosen steps, and interrupted training resumes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import saving
from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.storage import NO_PARTS, Parts, Values, load, save
from ntkfast.experiments.work import Report
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.training import train

__all__ = ["trained"]

SAVE_EVERY = 300  # seconds between saves of a network in training
SEGMENT = 50  # steps between checks of the clock

Observe = Callable[[FiniteNetwork], Values]


def trained(
    f: FiniteNetwork,
    X: ArrayLike,
    y: ArrayLike,
    at: Sequence[int] | np.ndarray,
    observe: Observe,
    *,
    learning_rate: float = 1.0,
    parts: Parts = NO_PARTS,
    name: str = "",
    report: Report | None = None,
) -> Values:
    """Train a network by least squares and observe it at some of the steps.

    Parameters
    ----------
    f : FiniteNetwork
    X, y : array_like
        As in `ntkfast.train`.
    at : sequence of int
        Steps, ascending.
    observe : callable
        observe(network) returns a dict of numbers and arrays.
    learning_rate : float
    parts : Parts, optional
        Where to keep the observations, and from time to time the network, under `name`.
    name : str
    report : callable, optional
        Called with (done, total).

    Returns
    -------
    dict of ndarray
        The observations, with a first axis of length len(at).
    """
    folder = parts.folder
    seen = parts.get(name, lambda: _trained(f, X, y, at, observe, learning_rate, folder, name, report))
    if folder is not None:
        _drop_state(folder, name)  # only now: the observations are safe
    return seen


def _trained(
    f: FiniteNetwork,
    X: ArrayLike,
    y: ArrayLike,
    at: Sequence[int] | np.ndarray,
    observe: Observe,
    learning_rate: float,
    folder: Path | None,
    name: str,
    report: Report | None,
) -> Values:
    step, seen, f = (0, [], f) if folder is None else _state(folder, name, f)
    saved = time.monotonic()
    report = report or (lambda done, total: None)
    try:
        with blas_threads(max(map(len, f.weights)), len(np.asarray(X))):
            while len(seen) < len(at):
                if step == at[len(seen)]:
                    seen.append(observe(f))
                    continue
                steps = min(SEGMENT, at[len(seen)] - step)
                shown = functools.partial(_shifted, report, step, at[-1])
                run = train(f, X, y, steps=steps, learning_rate=learning_rate, progress=shown)
                step, f = step + steps, run.network
                if folder is not None and time.monotonic() - saved > SAVE_EVERY:
                    _save_state(folder, name, step, seen, f)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        if folder is not None:
            _save_state(folder, name, step, seen, f)
        raise
    return _stacked(seen)


def _shifted(report: Report, start: int, total: int, done: int, _: int) -> None:
    report(start + done, total)


def _stacked(seen: list[Values]) -> Values:
    return {key: np.array([values[key] for values in seen]) for key in seen[0]} if seen else {}


def _save_state(folder: Path, name: str, step: int, seen: list[Values], f: FiniteNetwork) -> None:
    """The network first, under a new name: whenever this is interrupted, the state refers to a network that exists."""
    path = folder / f"{name}.at-{step}"
    older = [other for other in folder.glob(f"{name}.at-*") if other != path]
    saving.save(f, path)
    save(folder / f"{name}.state.npz", {"step": step, "n_seen": len(seen), **_stacked(seen)})
    for path in older:
        path.unlink()


def _drop_state(folder: Path, name: str) -> None:
    """The state first, so that it never refers to a network that is gone."""
    (folder / f"{name}.state.npz").unlink(missing_ok=True)
    for path in folder.glob(f"{name}.at-*"):
        path.unlink()


def _state(folder: Path, name: str, f: FiniteNetwork) -> tuple[int, list[Values], FiniteNetwork]:
    """What `_save_state` wrote; the start of training if there is nothing, or nothing readable."""
    state = load(folder / f"{name}.state.npz")
    if state is None:
        return 0, [], f
    try:
        step, n_seen = state.pop("step"), state.pop("n_seen")
        seen = [{key: values[k] for key, values in state.items()} for k in range(n_seen)]
        return step, seen, saving.load(folder / f"{name}.at-{step}")
    except (KeyError, TypeError, ValueError, FileNotFoundError):
        return 0, [], f
