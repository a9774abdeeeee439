"""Kernel gradient descent for any cost, or along any training direction, as an ordinary differential equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.learning import checks, outputs, pieces
from ntkfast.learning.outputs import Outputs
from ntkfast.learning.path import Path
from ntkfast.support import arrays, losses, memory, reprs
from ntkfast.support import progress as progress_bar
from ntkfast.support.errors import DivergenceError
from ntkfast.support.losses import Cost, Direction, Loss
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.scalars import finite_number, positive_number
from ntkfast.support.typing import Array, Progress

__all__ = ["KernelFlow", "kernel_flow"]

Stop: TypeAlias = Callable[[float, Array], float]

# Not DOP853: where K makes the equation stiff, it is far less accurate between its steps than at them.
METHODS = ("RK45", "RK23", "Radau", "BDF", "LSODA")
STIFF_SIZE = 4000  # unknowns up to which a solver may factor their Jacobian
INFINITE = (
    "its numbers are not finite, as when a flow diverges, the kernel is huge, or a cost or direction is not finite"
)
SMALL = "its steps no longer change the time, as when a flow diverges or jumps, or at a tiny t, rtol or atol"
PATIENCE = 100_000  # evaluations within a thousandth of the time, beyond which the flow counts as stuck
STILL = 100  # at one time; LSODA never stops once its steps get too small to change it


@dataclass(frozen=True)
class KernelFlow(Saved):
    """What `kernel_flow` finds: the path of the function, on the data and elsewhere.

    Attributes
    ----------
    t : ndarray, shape (T,)
        The requested times; if the flow was stopped, those before the stop, then the time of the stop.
    f : ndarray, shape (T, N) or (T, N, outputs)
        The function on the data.
    dual_coefficients : ndarray, the shape of f
        a(t), with f_t = f_0 + K a(t).
    loss : ndarray, shape (T,), or None
        C(f_t); None if no targets were given.
    stopped : bool
        Whether `stop` ended the flow before the last time.

    See Also
    --------
    kernel_flow : Makes it.
    LeastSquaresFlow : Least squares, in closed form.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> path = nf.kernel_flow(np.eye(2), [1.0, -1.0], loss="logistic", t=[1.0, 10.0])
    >>> path.f.shape, path.stopped
    ((2, 2), False)
    """

    t: Array
    f: Array
    dual_coefficients: Array
    loss: Array | None
    stopped: bool
    _path: Path = field(repr=False)
    _K: Array | None = field(repr=False)  # None: from a file
    _f0: Array = field(repr=False)
    _outputs: Outputs = field(repr=False)

    __repr__ = reprs.short

    def described(self) -> dict[str, Any]:
        described = super().described()
        del described["_K"]
        return described

    @classmethod
    def rebuilt(
        cls, t: Any, f: Any, dual_coefficients: Any, loss: Any, stopped: Any, _path: Any, _f0: Any, _outputs: Any
    ) -> KernelFlow:
        layout, path = checked(_outputs, Outputs, "outputs"), checked(_path, Path, "path")
        t = checked_array(t, (None,), "t")
        f0 = checked_array(_f0, (layout.n, layout.k if layout.coupled else None), "f0", np.dtype(np.float64))
        shape = (len(t), layout.n) if np.ndim(f) == 2 and f0.shape[1] == 1 else (len(t), *f0.shape)
        f, dual = checked_array(f, shape, "f"), checked_array(dual_coefficients, shape, "dual_coefficients")
        if path.values.shape[1] != f0.size:
            raise ValueError(f"path: expected {f0.size} unknowns, got {path.values.shape[1]}")
        loss = None if loss is None else checked_array(loss, t.shape, "loss")
        return cls(t, f, dual, loss, checked(stopped, bool, "stopped"), path, None, f0, layout)

    def predict(self, t: ArrayLike, K_tx: ArrayLike | None = None, f0_t: ArrayLike | None = None) -> Array:
        """f_t(x) = f_0(x) + K(x, X) a(t) at any time up to the last one, by the solver's interpolation.

        Parameters
        ----------
        t : float or array_like, shape (T,)
            Times >= 0, up to the last of the flow.
        K_tx : array_like, shape (m, N), optional
            K(x, X) for new points. Default: f_t on the data is returned, for which a flow from a file needs K(X, X), as
            that is not saved.
        f0_t : array_like, shape (m,) or (m, outputs), optional
            f_0 at the new points; default 0.

        Returns
        -------
        ndarray, shape (m,), (m, outputs), (T, m) or (T, m, outputs)
            With an axis T if t is an array, and one of outputs if f has one.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described, or a time lies beyond the end of the flow.

        See Also
        --------
        kernel_flow : Makes the flow.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> path = nf.kernel_flow(np.eye(2), [1.0, -1.0], t=[4.0])
        >>> path.predict([0.0, 2.0], [[1.0, 0.5]]).round(3)
        array([[0.   ],
               [0.316]])
        """
        times, scalar = checks.times(t)
        if times.max() > self.t[-1]:
            raise ValueError(f"t: expected times up to {self.t[-1]:.6g}, where the flow ends, got {times.max():.6g}")
        k = self._f0.shape[1]
        dtype = self._f0.dtype
        if K_tx is None:
            if f0_t is not None:
                raise TypeError("f0_t: expected together with K_tx, got it alone")
            if self._K is None:
                raise ValueError("K_tx: expected the kernel of the data, which is not saved with a flow, got None")
            left, start = self._K, self._f0
        else:
            left = self._outputs.cross(K_tx, "K_tx", dtype)
            m = self._outputs.points(left)
            start = np.zeros(1) if f0_t is None else checks.columns(f0_t, m, "f0_t", dtype, k)[0]
        a = np.array([self._path(time) for time in times]).reshape(len(times), left.shape[1], -1)
        f: Array = start + np.array([pieces.product(left, each) for each in a]).reshape(len(times), -1, k)
        f = f[..., 0] if self.f.ndim == 2 else f
        return f[0] if scalar else f


def kernel_flow(
    K_xx: ArrayLike,
    y: ArrayLike | None = None,
    f0: ArrayLike | None = None,
    *,
    t: ArrayLike,
    loss: Loss = "mse",
    direction: Direction | None = None,
    friction: float | None = None,
    stop: float | Stop | None = None,
    method: str | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-8,
    n_threads: int | None = None,
    progress: Progress = None,
) -> KernelFlow:
    """Kernel gradient descent on any differentiable cost, or along a training direction, from f_0.

        ∂_t f_t(x) = -(1/N) Σ_j K(x, x_j) d_j,    d = N ∂C/∂f

    (Jacot, Gabriel and Hongler 2018, section 3), along which ∂_t C = -‖d‖²_K <= 0. A given training direction, as in
    their section 4.2, replaces d: the d_t of that section, which points in the direction in which f moves, is -d.

    Parameters
    ----------
    K_xx : array_like, shape (N, N) or (N, N, k, k)
        K on the data, symmetric; with k coupled outputs, (N, N, k, k) or the matrix (N k, N k) as in
        `LeastSquaresFlow`. Whether it is positive semi-definite is not checked: that would cost more than the
        flow. Kept for `KernelFlow.predict`, not copied if it is float64: do not change it afterwards. Everything is
        computed and returned in float64.
    y : array_like, shape (N,) or (N, outputs), optional
        Targets, as the loss takes them; with "softmax" also class labels (N,), integers from 0 or strings, whose
        outputs are in sorted order (np.unique). Not needed with a direction.
    f0 : array_like, shape (N,) or (N, outputs), optional
        Default 0. Needed without y, as it gives the number of outputs. With softmax and integer labels, that number is
        the largest label + 1 by default.
    t : float or array_like, shape (T,)
        Times to return, strictly ascending, >= 0 (one number: T = 1). The flow starts at time 0.
    loss : {"mse", "logistic", "softmax", "huber"} or callable
        A callable gets (f, y), f of shape (N, outputs) and y as given, but (N, 1) instead of (N,) for one output. It
        returns (C, N ∂C/∂f); or any scalar cost C alone, which is then evaluated N k times for a derivative; or the
        costs of the points, (N,), of which C is the mean and each depends on the outputs at its point only: k times.
        Derivatives are then found by complex steps, exact to rounding, if the function takes complex f and keeps their
        imaginary part (np.abs does not), else by differences of fourth order, whose errors of about 3e-13 of the
        points' costs (of N C, for C alone) are far below rtol.
    direction : callable, optional
        A function (t, outputs) that returns d, as in `train`: outputs and d of shape (N, outputs), with the sign of d
        above. The loss is then recorded if y is given, but not followed.
    friction : float, optional
        γ > 0 of the heavy ball f'' + γ f' = -(1/N) K d, from rest. Then C + ½ a'ᵀ K a' decreases, not C itself.
    stop : float or callable, optional
        A loss at which to stop, or a function (t, f) that changes its sign there.
    method : str, optional
        RK45, RK23, Radau, BDF or LSODA of `scipy.integrate.solve_ivp`. Default: LSODA, which takes implicit steps
        where K makes the equation stiff; above 4000 unknowns, whose Jacobian it would factor, RK45.
    rtol, atol : float
        Tolerances of a step: rtol relative to a, atol of f.
    n_threads : int, optional
        Of BLAS. Default: one if its calls are small (products with K, or a factor of an implicit step), else its own
        number.
    progress : bool or callable, optional
        As in `ntkfast.ntk`; counts hundredths of the last time.

    Returns
    -------
    KernelFlow
        The function at the times asked for, on the data and, by its `predict`, elsewhere.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.
    DivergenceError
        The solver gave up; the message says why. Its numbers are not finite, as when a flow diverges, or its steps no
        longer change the time, as at a jump of the cost or direction or when tolerances are too small.

    See Also
    --------
    LeastSquaresFlow : Least squares, in closed form and far cheaper.
    train : The same for a network of finite width.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> path = nf.kernel_flow(np.eye(2), [1.0, -1.0], loss="logistic", t=[0.0, 1.0, 10.0])
    >>> path.loss.round(3)
    array([0.693, 0.583, 0.201])
    >>> path.predict(10.0, [[0.5, 0.0]]).round(3)
    array([0.752])
    """
    data = arrays.real(K_xx, "K_xx")
    if data.dtype != np.float64:
        memory.require(8 * data.size, "K_xx: the kernel in float64", "; one in float64 is not copied")
    K, given = outputs.kernel(data, "K_xx")
    layout = Outputs.of(K, np.shape(y if f0 is None else f0), given)
    n = layout.n
    cost, start, flat = _start(y, loss, direction, f0, n)
    if layout.coupled and start.shape[1] != layout.k:
        raise ValueError(f"y: expected {layout.k} outputs as in K_xx, got {start.shape[1]}")
    K = K.astype(np.float64, copy=False)
    times, _ = checks.times(t, infinite=False)
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        raise ValueError(
            f"t: expected strictly ascending times, got {times[back[0]]:.6g} and then {times[back[0] + 1]:.6g} at "
            f"index {back[0] + 1}"
        )
    gamma = None if friction is None else positive_number(friction, "friction")
    rtol, atol = positive_number(rtol, "rtol"), positive_number(atol, "atol")
    progress_bar.check(progress)
    if method is not None and method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    size, shape = start.size, (n, start.shape[1])

    def function(state: Array) -> Array:
        return start + pieces.product(K, state[:size].reshape(len(K), -1)).reshape(shape)

    def velocity(time: float, f: Array) -> Array:
        if direction is None:
            assert cost is not None  # `_start` requires one of the two
            return -cost(f)[1] / n
        d = arrays.real(direction(time, f), "direction")
        if d.shape != shape:
            raise ValueError(f"direction: expected the function to return shape {shape}, got {d.shape}")
        return -d / n

    def slope(time: float, state: Array) -> Array:
        patience(time, state)
        pull = velocity(time, function(state)).ravel()
        return pull if gamma is None else np.concatenate([state[size:], pull - gamma * state[size:]])

    def jacobian(time: float, state: Array) -> Array:
        assert cost is not None
        curvature = _curvature(cost, function(state))
        if layout.coupled:
            pull = np.einsum("iab,ibj->iaj", curvature, (-K / n).reshape(*shape, -1)).reshape(size, size)
        else:
            pull = np.einsum("iab,ij->iajb", curvature, -K / n).reshape(size, size)
        if gamma is None:
            return pull
        return np.block([[np.zeros((size, size)), np.eye(size)], [pull, -gamma * np.eye(size)]])

    n_unknowns = size if gamma is None else 2 * size
    method = method or ("LSODA" if n_unknowns <= STIFF_SIZE else "RK45")
    implicit = method in ("LSODA", "BDF", "Radau")
    with threads.blas(n_threads, n_unknowns**3 / 2 if implicit else 2 * len(K) * size):
        # else the solver uses finite differences
        separable = direction is None and cost is not None and losses.is_by_points(cost, start)
        events = _event(stop, cost, function)
        norm = max(np.abs(K[rows]).sum(axis=1).max() for rows in arrays.blocks(len(K)))
        initial = np.zeros(n_unknowns)
        last = float(times[-1])
        if last == 0 or (events and not callable(stop) and events[0](0.0, initial) <= 0):
            path, stopped = Path.constant(np.zeros(size)), last > 0
            times = times[:1] * 0
        else:
            options = {"jac": jacobian if separable else None} if implicit else {}
            with progress_bar.reporter(progress, "flow") as report, np.errstate(all="ignore"):
                patience = _Patience(last, STILL if separable else STILL + 2 * n_unknowns, report)
                try:
                    found = scipy.integrate.solve_ivp(
                        slope,
                        (0, last),
                        initial,
                        method=method,
                        dense_output=True,
                        events=events,
                        rtol=rtol,
                        atol=atol / norm if norm > 0 else atol,  # for a: multiplied by K it is at most atol for f
                        **options,
                    )
                except ValueError as error:
                    if "infs or NaNs" not in str(error):  # SciPy's message before it factors a matrix
                        raise
                    raise DivergenceError(f"kernel_flow: the solver gave up: {INFINITE}") from None
            if not found.success:
                raise DivergenceError(f"kernel_flow: the solver gave up at t = {found.t[-1]:.6g}: {found.message}")
            stopped = found.status == 1
            if stopped:
                times = np.append(times[times < found.t[-1]], found.t[-1])
            path = Path.of(found.sol, size)

        dual = np.array([path(time).reshape(shape) for time in times])
        f = np.array([function(each.reshape(-1)) for each in dual])
        recorded = None if cost is None else np.array([cost(value)[0] for value in f])
        if flat:
            dual, f = dual[..., 0], f[..., 0]
        return KernelFlow(times, f, dual, recorded, bool(stopped), path, K, start, layout)


def _start(
    y: ArrayLike | None, loss: Loss, direction: Direction | None, f0: ArrayLike | None, n: int
) -> tuple[Cost | None, Array, bool]:
    """The cost (None without targets), f_0 as (N, k), and whether results have no axis of outputs."""
    if direction is not None and not callable(direction):
        raise TypeError(f"direction: expected a function (t, outputs), got {type(direction).__name__}")
    if y is None and direction is None:
        raise TypeError("y: expected targets, or a direction instead of them, got neither")
    if f0 is not None:
        shaped = y is not None and isinstance(loss, str) and loss != "softmax"
        k = checks.columns(y, n, "y", np.float64)[0].shape[1] if shaped and y is not None else None
        start, flat = checks.columns(f0, n, "f0", np.float64, k)
    elif y is None:
        raise TypeError("f0: expected the initial function, which gives the number of outputs, got None")
    elif (classes := losses.n_outputs(loss, y)) is not None:
        start, flat = np.zeros((n, classes)), False
    else:
        targets, flat = checks.columns(y, n, "y", np.float64)
        start = np.zeros_like(targets)
    return None if y is None else losses.get(loss, y, (n, start.shape[1])), start, flat


def _curvature(cost: Cost, f: Array) -> Array:
    """∂d_ia/∂f_ib, (N, k, k), of a cost that is a sum over points: one difference of d for each output."""
    step = 1e-6 * np.maximum(1, np.abs(f))
    d = cost(f)[1]
    result = np.empty((*f.shape, f.shape[1]))
    for b in range(f.shape[1]):
        moved = f.copy()
        moved[:, b] += step[:, b]
        result[:, :, b] = (cost(moved)[1] - d) / step[:, b, None]
    return result


def _event(stop: float | Stop | None, cost: Cost | None, function: Callable[[Array], Array]) -> list[Stop]:
    """A list with the event of solve_ivp that ends the flow, empty if there is none."""
    if stop is None:
        return []
    if callable(stop):
        crosses = stop

        def event(time: float, state: Array) -> float:
            value: Any = crosses(time, function(state))
            if isinstance(value, bool | np.bool_) or not np.isscalar(value) or not np.isfinite(value):
                raise TypeError(
                    f"stop: expected a function to a finite number that changes its sign, got {reprs.brief(value)}"
                )
            return value  # type: ignore[return-value]  # np.isscalar narrows it to any scalar type
    else:
        level, followed = finite_number(stop, "stop"), cost
        if followed is None:
            raise TypeError("stop: expected a function (t, f) as there are no targets, got a number")

        def event(time: float, state: Array) -> float:
            return followed(function(state))[0] - level

    setattr(event, "terminal", True)  # noqa: B010  # SciPy wants an attribute of the function
    return [event]


class _Patience:
    """Counts evaluations, and gives up when they no longer advance the flow."""

    def __init__(self, last: float, most_at_once: int, report: Callable[[int, int], object] | None) -> None:
        self.last, self.share, self.report = last, last / 1000, report
        self.mark, self.count = 0.0, 0
        self.most_at_once, self.time, self.at_once = most_at_once, 0.0, 0

    def __call__(self, time: float, state: Array) -> None:
        if not np.isfinite(state).all():
            raise DivergenceError(f"kernel_flow: the solver gave up at t = {time:.6g}: {INFINITE}")
        self.count = 0 if time > self.mark + self.share else self.count + 1
        if self.count == 0:
            self.mark = time
            if self.report is not None:
                self.report(int(100 * min(time / self.last, 1)), 100)
        self.at_once = self.at_once + 1 if time == self.time else 0
        self.time = time
        if self.at_once > self.most_at_once:
            raise DivergenceError(f"kernel_flow: the solver gave up at t = {time:.6g}: {SMALL}")
        if self.count > PATIENCE:
            raise DivergenceError(
                f"kernel_flow: the solver gave up at t = {time:.6g}: {PATIENCE} evaluations took it no further; the "
                "cost or direction may jump there, or the flow is stiff: try method='Radau', or larger rtol and atol"
            )
