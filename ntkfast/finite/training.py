"""Full-batch gradient descent on networks of finite width, in the units of kernel gradient descent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.engine import threads
from ntkfast.finite import blas, passes
from ntkfast.finite.divergence import Watch
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork, check_finite_network
from ntkfast.finite.steps import BLOCK
from ntkfast.support import arrays, losses, memory, reprs
from ntkfast.support.eigenvalues import operator_norm
from ntkfast.support.losses import Direction, Loss
from ntkfast.support.progress import check as check_progress
from ntkfast.support.progress import reporter
from ntkfast.support.scalars import (
    generator,
    non_negative_integer,
    positive_integer,
    positive_number,
    rate_below_one,
)
from ntkfast.support.typing import Array, DType, Progress, Seed

__all__ = ["Record", "Run", "train"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What `train` records during training.

    Parameters
    ----------
    steps : int or sequence of int
        At which steps: every so many and the last, or those listed. Step m is the network after m steps.
    X : array_like, shape (M, n_inputs), optional
        Points whose outputs are kept.
    ntk_X : array_like, shape (M, n_inputs), optional
        Points whose empirical tangent kernel, the mean over outputs and without dropout, is kept.

    See Also
    --------
    train : Takes it.
    Run : What was recorded.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Record(steps=50).up_to(120)
    [0, 50, 100, 120]
    """

    steps: int | Iterable[int] = 100
    X: ArrayLike | None = None
    ntk_X: ArrayLike | None = None

    def __post_init__(self) -> None:
        steps: Any = self.steps
        if np.iterable(steps) and not isinstance(steps, str):  # a generator is read once only
            object.__setattr__(self, "steps", tuple(steps))

    def up_to(self, steps: int) -> list[int]:
        """Which of the steps 0 to `steps` are recorded.

        Parameters
        ----------
        steps : int
            The last step of the training.

        Returns
        -------
        list of int
            Ascending, without repetition.

        Raises
        ------
        TypeError, ValueError
            The steps to record are not integers >= 0, or lie beyond the last.

        See Also
        --------
        train : Records at these steps.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.Record(steps=[0, 5, 5]).up_to(10)
        [0, 5]
        """
        recorded: Any = self.steps
        if isinstance(recorded, str):
            raise TypeError("record.steps: expected an integer or a sequence of integers, got str")
        if not isinstance(recorded, tuple):
            every = positive_integer(recorded, "record.steps")
            return sorted({*range(0, steps + 1, every), steps})
        listed = sorted({non_negative_integer(m, f"record.steps[{k}]") for k, m in enumerate(recorded)})
        if listed and listed[-1] > steps:
            raise ValueError(f"record.steps: expected steps up to {steps}, got {listed[-1]}")
        return listed


@dataclass(frozen=True)
class Run:
    """What `train` returns, with R recorded steps (only the last if there is no `record`).

    Attributes
    ----------
    network : FiniteNetwork
        After the last step.
    losses : ndarray, shape (steps + 1,), or None
        C before every step and after the last, with the dropout masks of that step; None for a direction without
        targets.
    steps : ndarray, shape (R,)
        The recorded steps.
    movement : ndarray, shape (R,)
        ‖θ_t - θ_0‖ over all parameters.
    outputs : ndarray, shape (R, M, n_outputs), or None
        At the points `X` of the `Record`.
    ntk : ndarray, shape (R, M, M), or None
        Θ̂_t at its points `ntk_X`, the mean over outputs.
    ntk_distance : ndarray, shape (R,), or None
        ‖Θ̂_t - Θ̂_0‖ in operator norm.

    See Also
    --------
    train : Makes it.
    Record : Says what is recorded.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
    >>> run = nf.train(f, [[1.0]], [2.0], steps=10, record=nf.Record(steps=5, X=[[3.0]]))
    >>> run.steps, run.outputs.shape, run.losses.shape
    (array([ 0,  5, 10]), (3, 1, 1), (11,))
    """

    network: FiniteNetwork
    losses: Array | None
    steps: NDArray[np.int_]
    movement: Array
    outputs: Array | None = None
    ntk: Array | None = None
    ntk_distance: Array | None = None

    __repr__ = reprs.short


def train(
    f: FiniteNetwork,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    steps: int = 1000,
    learning_rate: float = 1.0,
    loss: Loss = "mse",
    direction: Direction | None = None,
    momentum: float = 0.0,
    record: Record | None = None,
    rng: Seed = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Run:
    """Full-batch gradient descent.

    In a step the parameters move by -η lr ∂C/∂θ, where lr are the learning rates of the layers, so that to first order
    in η the outputs follow kernel gradient descent (Jacot, Gabriel and Hongler 2018, section 3),

        f(x) ← f(x) - η (1/N) Σ_j Θ̂(x, x_j) d_j,    d_j = N ∂C/∂f(x_j)

    and a step with learning rate η advances time by η.

    Parameters
    ----------
    f : FiniteNetwork
        Where to start; it is not changed.
    X : array_like, shape (N, n_inputs)
        Training points, one per row.
    y : array_like, optional
        Targets, as the loss takes them: (N, n_outputs), (N,) for one output, class labels (N,) for "softmax"
        (integers from 0, or strings, whose outputs are in sorted order). Not needed with a direction.
    steps : int
        How many; 0 is allowed.
    learning_rate : float
        η. On least squares the linearised network converges for η < 2N/λ_max(Θ̂), which is `max_learning_rate`; with
        momentum for 1 + μ times that.
    loss : {"mse", "logistic", "softmax", "huber"} or callable
        "mse" is C = 1/(2N) Σ ‖f - y‖². A callable gets (f, y), f of shape (N, n_outputs) and
        y as given, but (N, 1) instead of (N,) for one output, and returns (C, N ∂C/∂f); or any scalar cost C, or the
        costs of the points (N,), whose derivatives are then found numerically as in `kernel_flow` (in float64, whatever
        the dtype of the network).
    direction : callable, optional
        The paper's training direction instead of a loss: a function (t, outputs) that returns d, as in
        `kernel_flow`; t is the number of steps so far times η, outputs and d have shape (N, n_outputs). The loss is
        then recorded if y is given, but not followed.
    momentum : float
        μ in [0, 1): v ← μ v + gradient, and the step is along v.
    record : Record, optional
        What to record during training.
    rng : None, int or numpy.random.Generator
        Draws the masks of `Dropout`, new ones in each step.
    n_threads : int, optional
        Threads of the matrix products: limits BLAS for the whole process while the call runs. Default: one if all
        products of a step are small (below 6e8 flops, as of width 1000 at 300 points), else BLAS's own number.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.

    Returns
    -------
    Run
        The trained network, the losses, and what was recorded.

    Raises
    ------
    DivergenceError
        The loss is not finite, or 1e8 times both its value at the start and that of zero outputs. The message gives the
        step and an estimate of the largest stable learning rate.
    TypeError, ValueError
        An argument is not as described.
    MemoryError
        The copy of the network or the pass over all points does not fit.
    KeyboardInterrupt
        Ctrl-C; f is unchanged.

    Warns
    -----
    UserWarning
        The last loss is above that of the start: training did not converge, though its numbers stayed bounded.

    See Also
    --------
    max_learning_rate : The limit of a stable learning rate.
    Record : What is recorded during training.
    kernel_flow : The same in the limit of infinite width.
    linearize : The network whose training has a fixed kernel.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=3, bias_std=0.1), n_inputs=1, widths=100, rng=0)
    >>> run = nf.train(f, [[1.0], [-1.0]], [2.0, 3.0], steps=500)
    >>> run.network([[1.0], [-1.0]]).round(3)
    array([[2.],
           [3.]])
    """
    check_finite_network(f)
    points = f.points(X)
    steps = non_negative_integer(steps, "steps")
    rate = positive_number(learning_rate, "learning_rate")
    momentum = rate_below_one(momentum, "momentum")
    if not (record is None or isinstance(record, Record)):
        raise TypeError(f"record: expected a Record, got {type(record).__name__}")
    check_progress(progress)
    shape = len(points), f.n_outputs
    if not (direction is None or callable(direction)):
        raise TypeError(f"direction: expected a function (t, outputs), got {type(direction).__name__}")
    cost = None if y is None and direction is not None else losses.get(loss, y, shape, f.dtype)
    rng = generator(rng)
    units = sum(map(len, f.weights))
    memory.require(
        f.dtype.itemsize * (f.n_parameters * (2 if momentum else 1) + 4 * len(points) * units),
        f"X: training a network of {f.n_parameters} parameters on {len(points)} points",
        "; fewer points or a narrower network need less",
    )
    now = f.copy()
    descent = Descent(now, rate / len(points), momentum)
    history = []
    with (
        threads.blas(n_threads, largest_product(f, len(points))),
        reporter(progress, "train") as report,
        np.errstate(over="ignore", invalid="ignore"),
    ):
        recorder = _Recorder(f, Record(steps=(steps,)) if record is None else record, steps, n_threads)
        watch = Watch(f, points, rate, cost if direction is None and isinstance(loss, str) else None, momentum)
        for step in range(steps + 1):
            tape: list[Any] = []
            with watch.step(step):
                outputs = passes.forward(now, points, tape, rng)
                value, d = (0.0, outputs) if cost is None else cost(outputs)  # without a cost, direction sets d
                if direction is not None and step < steps:
                    d = _checked(direction(step * rate, outputs), shape, f.dtype)
                history.append(value)
                watch.check(step, value, outputs)
            recorder.record(step, now)
            if step < steps:
                descent.step(tape, d)
            if report is not None:
                report(step, steps)
    watch.finish(history)
    return Run(now, None if cost is None else np.array(history), **recorder.results())


def largest_product(f: FiniteNetwork, n: int) -> float:
    """Flops of the largest matrix product of a step at n points."""
    return 2.0 * n * max(weight.size for weight in f.weights)


def _checked(d: ArrayLike, shape: tuple[int, int], dtype: DType) -> Array:
    """The checked result of a direction."""
    array = arrays.real(d, "direction: d")
    if array.shape != shape:
        raise ValueError(f"direction: expected the function to return shape {shape}, got {array.shape}")
    return np.ascontiguousarray(array, dtype=dtype)


class Descent:
    """The update of the parameters, in place: nothing of the size of the weights is allocated in a step."""

    def __init__(self, network: FiniteNetwork, rate: float, momentum: float) -> None:
        self.network, self.rate, self.momentum = network, rate, momentum
        if momentum:
            self.velocities = [np.zeros_like(weight) for weight in network.weights]
            self.bias_velocities = [None if bias is None else np.zeros_like(bias) for bias in network.biases]

    def step(self, tape: list[Any], d: Array) -> None:
        f = self.network
        for layer, inputs, g in passes.backward(f, tape, d[None], passes.trained(f)):
            g = g[0]
            weight_step = -self.rate * f.weight_lrs[layer] * f.weight_scales[layer]
            bias_step = -self.rate * f.bias_lrs[layer] * f.bias_scales[layer]
            if weight_step and self.momentum:
                velocity = blas.product(g.T, inputs, weight_step, self.momentum, self.velocities[layer])
                blas.add(velocity, f.weights[layer], 1.0)
            elif weight_step:
                blas.product(g.T, inputs, weight_step, 1.0, f.weights[layer])
            if bias_step:
                step = bias_step * g.sum(axis=0)
                if self.momentum:
                    self.bias_velocities[layer] *= self.momentum
                    self.bias_velocities[layer] += step
                    step = self.bias_velocities[layer]
                f.biases[layer] += step


class _Recorder:
    """Collects what a Record requests."""

    def __init__(self, f: FiniteNetwork, record: Record, steps: int, n_threads: int | None) -> None:
        self.start, self.at, self.n_threads = f, record.up_to(steps), n_threads
        self.X = None if record.X is None else f.points(record.X, "record.X")
        self.ntk_X = None if record.ntk_X is None else f.points(record.ntk_X, "record.ntk_X")
        n = len(self.at)
        numbers = 0 if self.X is None else len(self.X) * f.n_outputs
        numbers += 0 if self.ntk_X is None else len(self.ntk_X) ** 2
        memory.require(n * numbers * f.dtype.itemsize, f"record: what {n} steps record", "; fewer need less")
        self.done, self.movement = 0, np.empty(n)
        self.outputs: Any = None if self.X is None else np.empty((n, len(self.X), f.n_outputs), f.dtype)
        self.ntk: Any = None if self.ntk_X is None else np.empty((n, *2 * [len(self.ntk_X)]), f.dtype)
        self.ntk_distance: Any = None if self.ntk_X is None else np.empty(n)
        self.first_ntk = None if self.ntk_X is None else self._empirical_ntk(f, self.ntk_X)

    def _empirical_ntk(self, f: FiniteNetwork, X: Array) -> Array:
        return empirical_ntk(f, X, n_threads=self.n_threads, progress=False)

    def record(self, step: int, f: FiniteNetwork) -> None:
        k = self.done
        if k == len(self.at) or step != self.at[k]:
            return
        self.movement[k] = _distance(f, self.start)
        if self.X is not None:
            self.outputs[k] = f(self.X)
        if self.ntk_X is not None:
            self.ntk[k] = self._empirical_ntk(f, self.ntk_X)
            self.ntk_distance[k] = operator_norm(self.ntk[k] - self.first_ntk)
        self.done += 1

    def results(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name) for name in ("movement", "outputs", "ntk", "ntk_distance")}
        return {"steps": np.array(self.at, dtype=int), **arrays}


def _distance(f: FiniteNetwork, start: FiniteNetwork) -> float:
    """‖θ - θ_0‖, a block of rows at a time."""
    total = 0.0
    for new, old in zip((*f.weights, *f.biases), (*start.weights, *start.biases), strict=True):
        if new is None:
            continue
        rows = max(1, BLOCK * len(new) // new.size)
        for first in range(0, len(new), rows):
            difference = (new[first : first + rows] - old[first : first + rows]).astype(float)
            total += np.vdot(difference, difference)
    return math.sqrt(total)
