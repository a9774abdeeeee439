"""What all experiments share: networks, results on disk, parts that a stopped run finds again, progress."""

from __future__ import annotations

import contextlib
import functools
import struct
import time
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401 - threadpool_limits only finds libraries that are loaded
from threadpoolctl import threadpool_limits

from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.training import train
from ntkfast.networks import MLP, Activation, Dense, Network
from ntkfast.networks.network import refuse_dropout
from ntkfast.support.files import replacing
from ntkfast.support.progress import reporter
from ntkfast.support.scalars import positive_integer

__all__ = ["Parts", "Work", "load", "save", "trained"]

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error)  # of bytes that are no archive
SAVE_EVERY = 300  # seconds between two savings of a network in training
SEGMENT = 50  # steps after which training looks at the clock
BIG = 3e8  # multiplications in a product from which several BLAS threads pay, also on a machine that is busy


def relu_network(depth, bias_std=0.1):
    """The paper's network: ReLU, w = 1, β = 0.1."""
    return MLP(depth, "relu", 1.0, bias_std)


def as_mlp(net):
    """The activation (None at depth 1), w and β of a network that `MLP` makes; None for another."""
    first, *rest = net.layers
    activation = rest[0] if rest else None
    if not isinstance(first, Dense) or not isinstance(activation, Activation | None):
        return None
    w, b = first.weight_std, first.bias_std
    return (activation, w, b) if net == MLP(net.depth, activation or "relu", w, b) else None


def described(net):
    """A network in the paper's letters, for captions."""
    found = as_mlp(net)
    if found is None:
        return f"L = {net.depth}"
    activation, w, b = found
    name = "" if activation is None else {"relu": "ReLU"}.get(activation.name, activation.name) + ", "
    return f"{name}L = {net.depth}, " + ("" if w == 1 else f"w = {w:g}, ") + f"β = {b:g}"


def circle(gamma):
    """The points (cos γ, sin γ), (n, 2)."""
    return np.stack([np.cos(gamma), np.sin(gamma)], axis=1)


def check_widths(widths):
    """Widths as a list of integers."""
    widths = [positive_integer(width, "widths") for width in widths]
    if not widths:
        raise ValueError("widths: expected at least one, got none")
    return widths


def network(net, n_inputs, width, *key):
    """A random network in float32, the same one for the same key of integers."""
    refuse_dropout(net)
    return FiniteNetwork.init(net, n_inputs, width, rng=np.random.default_rng([*key, width]), dtype=np.float32)


# ---- results on disk -----------------------------------------------------------------------------------------


def save(path, values: dict) -> None:
    """Write arrays, numbers and strings to an .npz file: complete, or not at all."""
    with replacing(path) as file:
        np.savez(file, **values)


def load(path) -> dict | None:
    """What `save` wrote; None if there is no such file, or one that is damaged or of another kind."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: value if value.ndim else value.item() for name, value in file.items()}
    except (FileNotFoundError, AttributeError, EOFError, KeyError, TypeError, ValueError, SyntaxError, *ARCHIVE_ERRORS):
        return None


def as_dict(data) -> dict:
    """The fields of what an experiment found, but for the network, which is no array: `run` has it."""
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    return {name: value for name, value in values.items() if not isinstance(value, Network)}


class Parts:
    """The finished parts of a run, as files in a folder: a stopped run continues. Without a folder none is kept."""

    def __init__(self, folder=None):
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self):
        return f"Parts({self.folder})"

    def get(self, name, compute):
        """The part of this name from its file, else from compute(), a function that returns a dict."""
        found = None if self.folder is None else load(self.folder / f"{name}.npz")
        if found is None:
            found = compute()
            if self.folder is not None:
                save(self.folder / f"{name}.npz", found)
                _drop_state(self.folder, name)  # of a network in training: not before its result is safe
        return found


NO_PARTS = Parts()


# ---- progress ------------------------------------------------------------------------------------------------


class Work:
    """One progress bar for a run of many parts, each with its share of the work."""

    def __init__(self, report, total):
        self.report, self.total, self.done = report, total, 0.0

    def part(self, amount):
        """A callable (done, total) for the next part."""
        start, self.done = self.done, self.done + amount

        def report(done, total):
            if self.report is not None:
                self.report(int(1000 * (start + amount * done / max(total, 1)) / self.total), 1000)

        return report


@contextlib.contextmanager
def working(progress, description, total):
    with reporter(progress, description) as report:
        yield Work(report, total)


# ---- training in parts ---------------------------------------------------------------------------------------


def blas_threads(width, n):
    """For networks of this width at n points."""
    return threadpool_limits(1, "blas") if width**2 * n < BIG else contextlib.nullcontext()


def trained(f, X, y, at, observe, *, learning_rate=1.0, parts=NO_PARTS, name="", report=None) -> dict:
    """Train a network and look at it after some of the steps.

    Parameters
    ----------
    f : FiniteNetwork
    X, y : array_like
        As in `ntkfast.train`, for least squares.
    at : sequence of int
        Steps, ascending.
    observe : callable
        observe(network) returns a dict of numbers and arrays.
    learning_rate : float
    parts : Parts, optional
        Where to keep what was seen, and from time to time the network, under `name`.
    report : callable, optional
        (done, total).

    Returns
    -------
    dict of ndarray
        What was observed, with a first axis of len(at).
    """
    return parts.get(name, lambda: _trained(f, X, y, at, observe, learning_rate, parts.folder, name, report))


def _trained(f, X, y, at, observe, learning_rate, folder, name, report):
    step, seen, saved = 0, [], time.monotonic()
    if folder is not None:
        step, seen, f = _state(folder, name, f)
    report = report or (lambda done, total: None)
    try:
        with blas_threads(max(map(len, f.weights)), len(X)):
            while len(seen) < len(at):
                if step == at[len(seen)]:
                    seen.append(observe(f))
                    continue
                steps = min(SEGMENT, at[len(seen)] - step)
                shown = functools.partial(_shifted, report, step, at[-1])
                run = train(f, X, y, steps, learning_rate, progress=shown)
                step, f = step + steps, run.network
                if folder is not None and time.monotonic() - saved > SAVE_EVERY:
                    _save_state(folder, name, step, seen, f)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        if folder is not None:
            _save_state(folder, name, step, seen, f)
        raise
    return _stacked(seen)


def _shifted(report, start, total, done, _):
    report(start + done, total)


def _stacked(seen):
    return {key: np.array([values[key] for values in seen]) for key in seen[0]} if seen else {}


def _save_state(folder, name, step, seen, f):
    """The network first, under a name of its own: whenever this is stopped, the state names a network that is there."""
    path = folder / f"{name}.at-{step}"
    older = [other for other in folder.glob(f"{name}.at-*") if other != path]
    f.save(path)
    save(folder / f"{name}.state.npz", {"step": step, "n_seen": len(seen), **_stacked(seen)})
    for path in older:
        path.unlink()


def _drop_state(folder, name):
    """The state first: at no time it names a network that is gone."""
    (folder / f"{name}.state.npz").unlink(missing_ok=True)
    for path in folder.glob(f"{name}.at-*"):
        path.unlink()


def _state(folder, name, f):
    """What `_save_state` left; the beginning if there is nothing, or something that cannot be read."""
    state = load(folder / f"{name}.state.npz")
    if state is None:
        return 0, [], f
    try:
        step, n_seen = state.pop("step"), state.pop("n_seen")
        seen = [{key: values[k] for key, values in state.items()} for k in range(n_seen)]
        return step, seen, FiniteNetwork.load(folder / f"{name}.at-{step}")
    except (KeyError, TypeError, ValueError, FileNotFoundError):
        return 0, [], f
