"""Full-batch gradient descent on networks of finite width, in the units of kernel gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ntkfast.finite import blas, passes
from ntkfast.finite.divergence import Watch
from ntkfast.finite.network import FiniteNetwork, require_derivatives
from ntkfast.finite.norms import largest_eigenvalue, operator_norm
from ntkfast.finite.steps import BLOCK
from ntkfast.support import arrays, losses, memory, reprs
from ntkfast.support.arrays import finite_array
from ntkfast.support.progress import check as check_progress
from ntkfast.support.progress import reporter
from ntkfast.support.scalars import finite_number, generator, non_negative_integer, positive_integer, positive_number

__all__ = ["Record", "Run", "max_learning_rate", "train"]

SYMMETRY_ROWS = 64  # compared at once: nothing of size N×N


@dataclass(frozen=True)
class Record:
    """What `train` keeps on its way.

    Parameters
    ----------
    steps : int or sequence of int
        At which steps: every so many and the last, or those listed. Step m is the network after m steps.
    X : array_like, shape (M, n_inputs), optional
        Points whose outputs are kept.
    ntk_X : array_like, shape (M, n_inputs), optional
        Points whose empirical tangent kernel, the mean over outputs and without dropout, is kept.

    Examples
    --------
    >>> from ntkfast.finite.training import Record
    >>> Record(steps=50).at(120)
    [0, 50, 100, 120]
    """

    steps: object = 100
    X: object = None
    ntk_X: object = None

    def __post_init__(self):
        if np.iterable(self.steps) and not isinstance(self.steps, str):  # a generator is read once only
            object.__setattr__(self, "steps", tuple(self.steps))

    def at(self, steps: int) -> list[int]:
        """The recorded ones among the steps 0 to `steps`."""
        if not np.iterable(self.steps):
            every = positive_integer(self.steps, "record.steps")
            return sorted({*range(0, steps + 1, every), steps})
        if isinstance(self.steps, str):
            raise TypeError("record.steps: expected an integer or a sequence of integers, got str")
        listed = sorted({non_negative_integer(m, f"record.steps[{k}]") for k, m in enumerate(self.steps)})
        if listed and listed[-1] > steps:
            raise ValueError(f"record.steps: expected steps up to {steps}, got {listed[-1]}")
        return listed


@dataclass(frozen=True)
class Run:
    """What `train` returns. R recorded steps; without a record only the last one.

    Attributes
    ----------
    network : FiniteNetwork
        After the last step.
    losses : ndarray, shape (steps + 1,), or None
        C before every step and after the last, with the dropout masks of that step; None if a direction was given.
    steps : ndarray, shape (R,)
        The recorded steps.
    movement : ndarray, shape (R,)
        ‖θ_t - θ_0‖ over all parameters.
    outputs : ndarray, shape (R, M, n_outputs), or None
    ntk : ndarray, shape (R, M, M), or None
        Θ̂_t, the mean over outputs.
    ntk_distance : ndarray, shape (R,), or None
        ‖Θ̂_t - Θ̂_0‖ in operator norm.
    """

    network: FiniteNetwork
    losses: np.ndarray | None
    steps: np.ndarray
    movement: np.ndarray
    outputs: np.ndarray | None = None
    ntk: np.ndarray | None = None
    ntk_distance: np.ndarray | None = None

    __repr__ = reprs.short


def train(
    f: FiniteNetwork,
    X,
    y=None,
    steps: int = 1000,
    learning_rate: float = 1.0,
    loss: str | Callable = "mse",
    direction: Callable | None = None,
    momentum: float = 0.0,
    record: Record | None = None,
    progress=None,
    rng=None,
) -> Run:
    """Full-batch gradient descent.

    In a step the parameters move by -η lr ∂C/∂θ, lr the learning rates of the layers, so that to first order in η the
    outputs move along kernel gradient descent (Jacot, Gabriel and Hongler 2018, section 3),

        f(x) ← f(x) - η (1/N) Σ_j Θ̂(x, x_j) d_j,    d_j = N ∂C/∂f(x_j)

    and a step of η is a time of η.

    Parameters
    ----------
    f : FiniteNetwork
        Where to start; it is not changed.
    X : array_like, shape (N, n_inputs)
    y : array_like
        Targets as the loss has them: (N, n_outputs), (N,) for one output, class labels (N,) for "softmax".
    steps : int
    learning_rate : float
        η. On least squares the linearised network converges for η < 2N/λ_max(Θ̂), which is `max_learning_rate`; with
        momentum for 1 + μ times that.
    loss : {"mse", "logistic", "softmax", "huber"} or callable
        As in `ntkfast.support.losses.get`; "mse" is C = 1/(2N) Σ ‖f - y‖².
    direction : callable, optional
        The paper's training direction in place of a loss: gets (step, outputs (N, n_outputs), y) and returns
        d (N, n_outputs).
    momentum : float
        μ in [0, 1): v ← μ v + gradient, and the step is along v.
    record : Record, optional
        What to keep on the way.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.
    rng : None, int or numpy.random.Generator
        Draws the masks of `Dropout`, new ones in each step.

    Returns
    -------
    Run
        The trained network, and what was measured on the way: `network`, the trained copy of f; `losses`, shape
        (steps + 1,), the cost before every step and after the last (None with a direction); and of the R recorded
        steps (only the last, without a record) `steps` and `movement`, shape (R,), and as far as the record asks for
        them `outputs`, shape (R, M, n_outputs), `ntk`, shape (R, M, M), and `ntk_distance`, shape (R,).

    Raises
    ------
    DivergenceError
        The loss is not finite, or 1e8 times what it was at the start and for outputs 0; with the step, and an estimate
        of the largest stable learning rate.
    TypeError, ValueError
        An argument is not as described, or an activation has no derivative.
    MemoryError
        The copy of the network or the pass over all points does not fit.
    KeyboardInterrupt
        Ctrl-C; f is as it was.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.finite.network import FiniteNetwork
    >>> from ntkfast.finite.training import train
    >>> f = FiniteNetwork.init(nf.MLP(depth=3, bias_std=0.1), n_inputs=1, widths=100, rng=0)
    >>> run = train(f, [[1.0], [-1.0]], [2.0, 3.0], steps=500)
    >>> run.network([[1.0], [-1.0]]).round(3)
    array([[2.],
           [3.]])
    """
    require_derivatives(f)
    X = f.points(X)
    steps = non_negative_integer(steps, "steps")
    rate = positive_number(learning_rate, "learning_rate")
    momentum = finite_number(momentum, "momentum")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
    if not (record is None or isinstance(record, Record)):
        raise TypeError(f"record: expected a Record, got {type(record).__name__}")
    check_progress(progress)
    cost = _cost(loss, direction, y, (len(X), f.n_outputs), f.dtype)
    recorder = _Recorder(f, Record((steps,)) if record is None else record, steps)
    rng = generator(rng)
    units = sum(map(len, f.weights))
    memory.require(
        f.dtype.itemsize * (f.n_parameters * (2 if momentum else 1) + 4 * len(X) * units),
        f"training a network of {f.n_parameters} parameters on {len(X)} points",
    )
    is_named = direction is None and isinstance(loss, str)
    watch = Watch(f, X, rate, (lambda outputs: cost(0, outputs)) if is_named else None, momentum)
    now = f.copy()
    descent = Descent(now, rate / len(X), momentum)
    history = []
    with reporter(progress, "train") as report, np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            tape = []
            with watch.step(step):
                outputs = passes.forward(now, X, tape, rng)
                value, d = cost(step, outputs) if direction is None or step < steps else (0.0, None)
                history.append(value)
                watch.check(step, value, outputs)
            recorder.record(step, now)
            if step < steps:
                descent.step(tape, d)
            if report is not None:
                report(step, steps)
    return Run(now, None if direction is not None else np.array(history), **recorder.results())


def max_learning_rate(K) -> float:
    """2N/λ_max(K): with a smaller learning rate gradient descent on least squares along the kernel K converges.

    A step multiplies the component of the error along an eigenvector of K/N of eigenvalue λ by 1 - ηλ.

    Parameters
    ----------
    K : array_like, shape (N, N) or (N, N, k, k)
        The tangent kernel of the training points: symmetric up to √eps of its largest entry, positive semidefinite. Of
        k outputs all kernels Θ̂_kk' count, as `empirical_ntk` gives them with outputs="full": their mean is the same
        for all outputs in the limit of wide networks only.

    Returns
    -------
    float
        inf if K is 0.

    Raises
    ------
    TypeError, ValueError
        K is not as described. Eigenvalues below 0, along which no learning rate converges, are only noticed where all
        are.
    MemoryError
        A copy of K does not fit.

    Examples
    --------
    >>> from ntkfast.finite.training import max_learning_rate
    >>> max_learning_rate([[2.0, 0.0], [0.0, 1.0]])
    2.0
    """
    K = arrays.real(K, "K")
    if K.ndim not in (2, 4) or K.shape[0] != K.shape[1] or K.shape[-2] != K.shape[-1] or not K.size:
        raise ValueError(f"K: expected shape (N, N) or (N, N, k, k), got {K.shape}")
    n_points = len(K)
    if K.ndim == 4:
        K = np.swapaxes(K, 1, 2).reshape(2 * [n_points * K.shape[-1]])
    K = finite_array(K, "K", arrays.working_dtype(None, K))
    size = float(max(K.max(), -K.min()))
    if size == 0:
        return math.inf
    memory.require(K.nbytes, "K: a copy")
    K = K / K.dtype.type(size)  # no eigenvalue overflows then
    _require_symmetric(K, size)
    largest = largest_eigenvalue(K)
    if largest <= 0:
        raise ValueError(
            f"K: expected a positive semidefinite matrix, its largest eigenvalue is {size * largest:.3g}: "
            "no learning rate converges"
        )
    return 2 * n_points / largest / size


def _require_symmetric(K, size):
    """Raise unless K, whose largest entry is ±1, is symmetric up to √eps; the matrix that was given is size K."""
    for first in range(0, len(K), SYMMETRY_ROWS):
        rows = slice(first, first + SYMMETRY_ROWS)
        gap = np.abs(K[rows] - K[:, rows].T)
        i, j = np.unravel_index(gap.argmax(), gap.shape)
        if gap[i, j] > math.sqrt(np.finfo(K.dtype).eps):
            i += first
            raise ValueError(
                f"K: expected a symmetric matrix, got {size * K[i, j]:.6g} in row {i}, column {j} and "
                f"{size * K[j, i]:.6g} in row {j}, column {i}"
            )


def _cost(loss, direction, y, shape, dtype):
    """A function (step, outputs) ↦ (C, d)."""
    if direction is None:
        cost = losses.get(loss, y, shape, dtype)
        return lambda step, outputs: cost(outputs)
    if not callable(direction):
        raise TypeError(f"direction: expected a function, got {type(direction).__name__}")

    def along(step, outputs):
        d = arrays.real(direction(step, outputs, y), "direction: d")
        if d.shape != shape:
            raise ValueError(f"direction: expected the function to return shape {shape}, got {d.shape}")
        return 0.0, np.ascontiguousarray(d, dtype=dtype)

    return along


class Descent:
    """The update of the parameters, in place: nothing of the size of the weights is allocated in a step."""

    def __init__(self, network, rate, momentum):
        self.network, self.rate, self.momentum = network, rate, momentum
        if momentum:
            self.velocities = [np.zeros_like(weight) for weight in network.weights]
            self.bias_velocities = [None if bias is None else np.zeros_like(bias) for bias in network.biases]

    def step(self, tape, d):
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
    """Collects what a Record asks for."""

    def __init__(self, f, record, steps):
        self.start, self.at = f, record.at(steps)
        self.X = None if record.X is None else f.points(record.X, "record.X")
        self.ntk_X = None if record.ntk_X is None else f.points(record.ntk_X, "record.ntk_X")
        sizes = [
            len(self.X) * f.n_outputs if self.X is not None else 0,
            len(self.ntk_X) ** 2 if record.ntk_X is not None else 0,
        ]
        n = len(self.at)
        memory.require(n * sum(sizes) * f.dtype.itemsize, f"record of {n} steps")
        self.done, self.movement = 0, np.empty(n)
        self.outputs = None if self.X is None else np.empty((n, len(self.X), f.n_outputs), f.dtype)
        self.ntk = None if self.ntk_X is None else np.empty((n, *2 * [len(self.ntk_X)]), f.dtype)
        self.ntk_distance = None if self.ntk_X is None else np.empty(n)
        self.first_ntk = None if self.ntk_X is None else self._empirical_ntk(f)

    def _empirical_ntk(self, f):
        from ntkfast.finite.empirical import empirical_ntk

        return empirical_ntk(f, self.ntk_X)

    def record(self, step, f):
        k = self.done
        if k == len(self.at) or step != self.at[k]:
            return
        self.movement[k] = _distance(f, self.start)
        if self.X is not None:
            self.outputs[k] = f(self.X)
        if self.ntk_X is not None:
            self.ntk[k] = self._empirical_ntk(f)
            self.ntk_distance[k] = operator_norm(self.ntk[k] - self.first_ntk)
        self.done += 1

    def results(self):
        arrays = {name: getattr(self, name) for name in ("movement", "outputs", "ntk", "ntk_distance")}
        return {"steps": np.array(self.at, dtype=int), **arrays}


def _distance(f, start):
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
