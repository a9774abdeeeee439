"""What all experiments share: results on disk, parts that a stopped run finds again, progress, and findings."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from ntkfast.engine.files import replacing
from ntkfast.engine.progress import reporter
from ntkfast.finite import FiniteNetwork, train
from ntkfast.networks import MLP, Network

__all__ = [
    "Finding",
    "Parts",
    "Work",
    "below",
    "exponent",
    "load",
    "near",
    "power_law",
    "save",
    "told",
    "trained",
    "within",
]

SAVE_EVERY = 300  # seconds between two savings of a network in training
SEGMENT = 50  # steps after which training looks at the clock
BIG = 3e8  # multiplications in a product from which several BLAS threads pay, also on a machine that is busy


def relu_network(depth, bias_std=0.1):
    """The paper's network: ReLU, w = 1, β = 0.1."""
    return MLP(depth, "relu", 1.0, bias_std)


def circle(gamma):
    """The points (cos γ, sin γ), (n, 2)."""
    return np.stack([np.cos(gamma), np.sin(gamma)], axis=1)


def network(net, n_inputs, width, *key):
    """A random network in float32, the same one for the same key of integers."""
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
    except (IsADirectoryError, PermissionError):
        raise
    except Exception:  # whatever NumPy and zipfile meet in bytes that are not an archive of arrays
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

    def get(self, name, compute):
        """The part of this name from its file, else from compute(), a function that returns a dict."""
        found = None if self.folder is None else load(self.folder / f"{name}.npz")
        if found is None:
            found = compute()
            if self.folder is not None:
                save(self.folder / f"{name}.npz", found)
                _drop_state(self.folder, name)  # of a network in training: not before its result is safe
        return found

    def discard(self):
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


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
    with blas_threads(max(map(len, f.weights)), len(X)):
        while len(seen) < len(at):
            if step == at[len(seen)]:
                seen.append(observe(f))
                continue
            steps = min(SEGMENT, at[len(seen)] - step)
            shown = functools.partial(_shifted, report, step, at[-1])
            try:
                run = train(f, X, y, steps, learning_rate, progress=shown)
            except KeyboardInterrupt:
                if folder is not None:
                    _save_state(folder, name, step, seen, f)
                raise
            step, f = step + steps, run.network
            if folder is not None and time.monotonic() - saved > SAVE_EVERY:
                _save_state(folder, name, step, seen, f)
                saved = time.monotonic()
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


# ---- findings ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One line of the report: a number of the paper or the theory, ours, and whether it is within its tolerance."""

    what: str
    expected: str
    found: str
    tolerance: str = ""
    ok: bool | None = None  # None: nothing is claimed


def near(what, expected, found, tolerance) -> Finding:
    ok = bool(abs(found - expected) <= tolerance)
    return Finding(what, f"{expected:.4g}", f"{found:.4g}", f"±{tolerance:.2g}", ok)


def within(what, low, high, found, expected="") -> Finding:
    return Finding(what, expected, f"{found:.4g}", f"{low:.3g} to {high:.3g}", bool(low <= found <= high))


def below(what, bound, found, expected="") -> Finding:
    return Finding(what, expected, f"{found:.4g}", f"≤ {bound:.3g}", bool(found <= bound))


def told(what, found, expected="") -> Finding:
    return Finding(what, expected, found if isinstance(found, str) else f"{found:.4g}")


def power_law(widths, samples):
    """The exponent of mean(samples) as a power of the width, and its standard error from the spread over samples.

    The spread is taken to be the same share of the mean at all widths, so that a few samples of each will do.

    Parameters
    ----------
    widths : array_like, shape (W,)
    samples : array_like, shape (W, S)
        S >= 2.

    Returns
    -------
    slope, error : float
        nan and inf if some mean is not positive.

    Examples
    --------
    >>> from ntkfast.experiments.running import power_law
    >>> slope, error = power_law([10, 1000], [[0.1, 0.1], [0.001, 0.001]])
    >>> round(slope, 6), round(error, 6)
    (-1.0, 0.0)
    """
    x, samples = np.log(widths), np.asarray(samples)
    mean = samples.mean(axis=1)
    if not (mean > 0).all():
        return np.nan, np.inf
    relative = np.sqrt(np.mean(samples.var(axis=1, ddof=1) / samples.shape[1] / mean**2))
    x = x - x.mean()
    return float(x @ np.log(mean) / (x @ x)), float(relative / np.sqrt(x @ x))


def exponent(what, expected, widths, samples, low=0.1, high=0.1) -> Finding:
    """Whether a power law has the expected exponent, up to what networks differ by and terms of higher order.

    Of right exponents 1 in 200 is out by chance: Student's distribution, for a spread of W (S - 1) degrees of freedom.
    Where the tolerance would reach from the exponent to 0, nothing is claimed.

    Parameters
    ----------
    what : str
    expected : float
        Negative.
    widths, samples
        As in `power_law`.
    low, high : float
        How much smaller and larger the exponent may be for other reasons than chance.
    """
    slope, error = power_law(widths, samples)
    chance = stats.t.ppf(1 - 0.0025, np.size(samples) - len(widths)) * error
    found = f"{slope:.3g}, standard error {error:.1g}"
    if not high + chance < -expected:
        return Finding(what, f"{expected:g}", found, "too few or too like widths to tell")
    low, high = expected - low - chance, expected + high + chance
    return Finding(what, f"{expected:g}", found, f"{low:.2f} to {high:.2f}", bool(low <= slope <= high))
