"""neural-tangents' predictions of training, on the solvers of ntkfast.learning.

Time is counted as there: costs are means over all numbers of y, so that time T with N rows of the kernel's matrix is
t = T N/y.size of ntkfast.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy

from ntkfast.learning import learning_rate as rates
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.learning.kernel_flow import STIFF_SIZE, kernel_flow
from ntkfast.neural_tangents import arrays
from ntkfast.neural_tangents.axes import Axes, Layout, as_matrix, positive, zipped
from ntkfast.neural_tangents.triples import selected, wanted
from ntkfast.support import losses
from ntkfast.support.errors import DivergenceError
from ntkfast.support.forks import cached_property

__all__ = [
    "Gaussian",
    "ODEState",
    "gp_inference",
    "gradient_descent",
    "gradient_descent_mse",
    "gradient_descent_mse_ensemble",
    "max_learning_rate",
]

PredictFn = Callable[..., Any]
TOLERANCE = 1e-9  # of the solver with momentum; neural-tangents has 1.4e-8


@dataclass(frozen=True)
class ODEState:
    """The state of gradient descent: outputs and, with momentum, their velocities.

    Attributes
    ----------
    fx_train, fx_test, qx_train, qx_test : ndarray or None
    """

    fx_train: Any = None
    fx_test: Any = None
    qx_train: Any = None
    qx_test: Any = None


class Gaussian(NamedTuple):
    """A normal distribution.

    mean : ndarray, of the shape of outputs
    covariance : ndarray, of the shape of a kernel
    """

    mean: Any
    covariance: Any


class _Arrays:
    """What has come in, to know what results should be."""

    def __init__(self, *given: Any) -> None:
        self.foreign = arrays.foremost(arrays.leaves(given))

    def back(self, result: Any) -> Any:
        if self.foreign is None:
            return result
        return arrays.mapped(lambda array: arrays.restored(array, self.foreign), result)


def _number(value: Any) -> Any:
    """An array as floating-point numbers; None as it is."""
    if value is None:
        return None
    if arrays.is_traced(value):
        raise TypeError("predict: expected arrays of numbers, got a function traced by jax.jit, vmap or grad")
    array = arrays.as_numpy(value)
    return array if array.dtype in (np.float32, np.float64) else array.astype(float)


def _regularised(K: Any, diag_reg: float, absolute: bool) -> Any:
    """K + diag_reg I, or K + diag_reg mean(diag K) I."""
    if diag_reg == 0:
        return K
    K = K.copy()
    K[np.diag_indices(len(K))] += diag_reg * (1.0 if absolute else K.diagonal().mean())
    return K


def _layout(y: Any, trace_axes: Axes, k: Any = None) -> Layout:
    layout = Layout(y.shape, positive(trace_axes, y.ndim))
    sizes = tuple(y.shape[axis] for axis in layout.kept)
    if k is not None and (k.shape[::2] != sizes or k.shape[1::2] != sizes):
        raise ValueError(
            f"k_train_train: expected pairs of axes of sizes {sizes}, those of y_train without trace_axes, got shape "
            f"{k.shape}"
        )
    return layout


# ---- least squares ------------------------------------------------------------------------------------------------


def gradient_descent_mse(
    k_train_train: Any,
    y_train: Any,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Axes = (-1,),
) -> PredictFn:
    """Gradient descent on the mean squared error in function space, in closed form.

    Parameters
    ----------
    k_train_train : array_like, shape (N, N), or with a pair of axes for each axis of y_train not in trace_axes
    y_train : array_like, shape (N, k)
    learning_rate : float
        Multiplies time.
    diag_reg : float
        Times I (diag_reg_absolute_scale), or times I and the mean of the diagonal, is added to the kernel.
    diag_reg_absolute_scale : bool
    trace_axes : int or sequence of int
        Axes of y_train that the kernel has not: independent of one another.

    Returns
    -------
    predict_fn(t=None, fx_train_0=0.0, fx_test_0=None, k_test_train=None)
        Outputs at times t (any shape; None: the end of training) on the training set and, with fx_test_0, on the test
        set: one of them if the other's start is None, else both.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import predict
    >>> predict_fn = predict.gradient_descent_mse(np.eye(2), np.ones((2, 1)))
    >>> predict_fn(2 * np.log(2)).ravel()
    array([0.5, 0.5])
    """
    around = _Arrays(k_train_train, y_train)
    k, y = _number(k_train_train), _number(y_train)
    layout = _layout(y, trace_axes, k)
    K = _regularised(as_matrix(k), diag_reg, diag_reg_absolute_scale)
    flow = LeastSquaresFlow(K, layout.columns(y))
    scale = learning_rate * len(K) / y.size

    def predict_fn(t: Any = None, fx_train_0: Any = 0.0, fx_test_0: Any = None, k_test_train: Any = None) -> Any:
        """Outputs on the training and test sets at times t."""
        _check_starts(fx_train_0, fx_test_0, k_test_train)
        returned = around if around.foreign is not None else _Arrays(fx_train_0, fx_test_0, k_test_train)
        start, start_test, k_td = map(_number, (fx_train_0, fx_test_0, k_test_train))
        times = math.inf if t is None else _number(t) * scale
        f0 = None if start is None else layout.columns(start)
        train = test = None
        if start is not None:
            # at the end the targets are reached, as there, whatever the null space or a regulariser hide
            train = layout.columns(y)[None] if t is None else flow.mean(np.ravel(times), f0=f0)
            train = layout.values(train.astype(K.dtype)).reshape(*np.shape(t if t is not None else 0), *y.shape)
        if start_test is not None:
            rows = as_matrix(k_td)
            points = k_td.shape[::2]
            zero = np.zeros((len(rows), layout.columns(y).shape[1]), K.dtype)
            moved = flow.mean(np.ravel(times), rows, f0, zero if f0 is not None else None)
            moved = layout.values(moved, points)
            test = start_test + moved.reshape(*np.shape(times), *moved.shape[1:])
        if train is None or test is None:
            return returned.back(test if train is None else train)
        return returned.back((train, test))

    return predict_fn


def _check_starts(fx_train_0: Any, fx_test_0: Any, k_test_train: Any) -> None:
    if fx_train_0 is None and fx_test_0 is None:
        raise ValueError("fx_train_0: expected the initial outputs, or fx_test_0, got None for both")
    if fx_test_0 is not None and k_test_train is None:
        raise ValueError("k_test_train: expected the kernel of test and training points with fx_test_0, got None")


# ---- any loss -----------------------------------------------------------------------------------------------------


def gradient_descent(
    loss: Callable[[Any, Any], Any],
    k_train_train: Any,
    y_train: Any,
    learning_rate: float = 1.0,
    momentum: float | None = None,
    trace_axes: Axes = (-1,),
) -> PredictFn:
    """Gradient descent in function space on any loss, with or without momentum, as an ordinary differential equation.

    Parameters
    ----------
    loss : callable
        (fx, y) ↦ a number. Differentiated by JAX if it is written in JAX, else by complex steps or differences.
    k_train_train, y_train, learning_rate, trace_axes
        As in `gradient_descent_mse`.
    momentum : float, optional
        Then time is in units of learning_rate**0.5.

    Returns
    -------
    predict_fn(t=None, fx_train_or_state_0=0.0, fx_test_0=None, k_test_train=None)
        t: one time or ascending ones, finite. fx_train_or_state_0: outputs, or an ODEState, then one is returned.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import predict
    >>> predict_fn = predict.gradient_descent(lambda f, y: 0.5 * np.mean((f - y) ** 2), np.eye(2), np.ones((2, 1)))
    >>> predict_fn(2 * np.log(2)).ravel().round(6)
    array([0.5, 0.5])
    """
    around = _Arrays(k_train_train, y_train)
    k, y = _number(k_train_train).astype(float), _number(y_train).astype(float)
    layout = _layout(y, trace_axes, k)
    K = as_matrix(k)
    cost = _cost(loss, y, layout)
    rate = learning_rate if momentum is None else learning_rate**0.5
    friction = None if momentum is None else (1.0 - momentum) / rate

    def predict_fn(
        t: Any = None, fx_train_or_state_0: Any = 0.0, fx_test_0: Any = None, k_test_train: Any = None
    ) -> Any:
        """Outputs on the training and test sets, or the ODEState, at times t."""
        state, is_state = fx_train_or_state_0, isinstance(fx_train_or_state_0, ODEState)
        if not is_state:
            state = ODEState(fx_train_or_state_0, fx_test_0)
        elif fx_test_0 is not None:
            raise ValueError("fx_test_0: expected None with an ODEState, which has it")
        _check_starts(state.fx_train, state.fx_test, k_test_train)
        if momentum is None and (state.qx_train is not None or state.qx_test is not None):
            raise ValueError("qx_train: expected None without momentum, got velocities")
        times = _number(math.inf if t is None else t) * rate
        if not np.isfinite(times).all():
            raise ValueError("t: expected finite times, as a loss may have no minimum, got None or inf")
        k_td = _number(k_test_train)
        points = None if k_td is None else k_td.shape[::2]
        given = (state.fx_train, state.fx_test, state.qx_train, state.qx_test, k_test_train)
        returned = around if around.foreign is not None else _Arrays(*given)
        f0 = layout.columns(0.0 if state.fx_train is None else _number(state.fx_train)).astype(float)
        q0 = 0.0 * f0 if state.qx_train is None else layout.columns(_number(state.qx_train)).astype(float)
        dual, speed = _integrated(K, cost, f0, q0, friction, np.ravel(times))
        drift, damped = _drift(friction, np.ravel(times))

        def at(matrix: Any, start: Any, velocity: Any, where: Any) -> tuple[Any, Any]:
            """Outputs, and their velocities, in the shape of users."""
            f = start + drift * velocity + matrix @ dual
            q = damped * velocity + matrix @ speed
            return tuple(  # type: ignore[return-value]
                layout.values(value, where).reshape(*np.shape(times), *layout.full(where)) for value in (f, q)
            )

        train = at(K, f0, q0, None)
        test: tuple[Any, Any] = (None, None)
        if state.fx_test is not None:
            start = layout.columns(_number(state.fx_test), points)
            velocity = layout.columns(0.0 if state.qx_test is None else _number(state.qx_test), points)
            test = at(as_matrix(k_td), start, velocity, points)
        if is_state:
            found = returned.back([train[0], test[0], *([train[1], test[1]] if momentum is not None else [None, None])])
            return ODEState(*found)
        if fx_test_0 is None or fx_train_or_state_0 is None:
            return returned.back(train[0] if fx_test_0 is None else test[0])
        return returned.back((train[0], test[0]))

    return predict_fn


def _cost(loss: Callable[[Any, Any], Any], y: Any, layout: Layout) -> Callable[[Any], tuple[float, Any]]:
    """The loss of columns f, and N times its derivative, N the number of rows."""
    n = len(layout.columns(y))

    def of_columns(f: Any, _: Any) -> Any:
        return loss(layout.values(f), y)

    jax = sys.modules.get("jax")
    if jax is not None:
        gradient = arrays.in_float64(jax.value_and_grad(loss))
        try:
            gradient(np.zeros_like(y), y)
        except Exception:  # whatever a loss raises that is not written in JAX
            pass
        else:

            def traced(f: Any) -> tuple[float, Any]:
                value, slope = gradient(layout.values(f), y)
                return float(value), n * layout.columns(np.asarray(slope))

            return traced
    return losses.get(of_columns, layout.columns(y), layout.columns(y).shape)


def _drift(friction: float | None, times: Any) -> tuple[Any, Any]:
    """What an initial velocity of 1 adds to outputs and velocities without any force."""
    if friction is None:
        return 0.0, 0.0
    times = times[:, None, None]
    if friction == 0:
        return times, np.ones_like(times)
    return -np.expm1(-friction * times) / friction, np.exp(-friction * times)


def _integrated(K: Any, cost: Any, f0: Any, q0: Any, friction: float | None, times: Any) -> tuple[Any, Any]:
    """Dual coefficients a and their derivatives at the times: f = f0 + K a, and what q0 adds."""
    shape = (len(times), *f0.shape)
    if friction is None:
        flow = kernel_flow(K, np.zeros_like(f0), f0, t=times, loss=lambda f, _: cost(f))
        return flow.dual_coefficients.reshape(shape), np.zeros(shape)
    size, n = f0.size, len(f0)

    def slope(t: float, state: Any) -> Any:
        a, b = state[:size], state[size:]
        f = f0 + _drift(friction, np.array([t]))[0][0] * q0 + K @ a.reshape(f0.shape)
        return np.concatenate([b, -cost(f)[1].ravel() / n - friction * b])

    if not times[-1] > 0:
        return np.zeros(shape), np.zeros(shape)
    found = scipy.integrate.solve_ivp(
        slope,
        (0, times[-1]),
        np.zeros(2 * size),
        method="LSODA" if 2 * size <= STIFF_SIZE else "DOP853",
        t_eval=times,
        rtol=TOLERANCE,
        atol=TOLERANCE,
    )
    if not found.success:
        raise DivergenceError(f"gradient_descent: the solver gave up at t = {found.t[-1:]}: {found.message}")
    states = found.y.T
    return states[:, :size].reshape(shape), states[:, size:].reshape(shape)


# ---- Gaussian processes and ensembles -----------------------------------------------------------------------------


class _Trained:
    """A kernel K trained on y from random functions of covariance S, K itself unless it is given."""

    def __init__(self, k: Any, y: Any, layout: Layout, diag_reg: float, absolute: bool) -> None:
        self.layout, self.y, self.k = layout, y, k
        self.K = _regularised(as_matrix(k), diag_reg, absolute)

    @cached_property
    def flow(self) -> LeastSquaresFlow:
        return LeastSquaresFlow(self.K, self.layout.columns(self.y).astype(self.K.dtype))

    @functools.lru_cache(maxsize=2)  # noqa: B019  # lives as long as the predictor
    def random(self, of: Any = None) -> LeastSquaresFlow:
        start = self.K if of is None else as_matrix(of.k)
        return LeastSquaresFlow(self.K, self.layout.columns(self.y).astype(self.K.dtype), start)

    def mean(self, t: Any, k_td: Any) -> Any:
        times = np.ravel(t)
        if k_td is None:
            found = self.layout.values(self.flow.mean(times))
        else:
            found = self.layout.values(self.flow.mean(times, as_matrix(k_td)), k_td.shape[::2])
        return found.reshape(*np.shape(t), *found.shape[1:])

    def covariance(self, t: Any, k_td: Any, s_td: Any, s_tt: Any, start: _Trained | None) -> Any:
        """start: the NNGP kernel whose functions training begins with, None for K's own."""
        flow, times = self.random(start), np.ravel(t)
        if k_td is None:
            found, sizes = flow.covariance(times), self.k.shape[::2]
        else:
            found, sizes = flow.covariance(times, as_matrix(k_td), as_matrix(s_td), as_matrix(s_tt)), k_td.shape[::2]
        found = zipped(found, sizes, sizes)
        return found.reshape(*np.shape(t), *found.shape[1:])


def _part(k: Any, name: str, argument: str) -> Any:
    """One kernel of an array, a named tuple or a Kernel."""
    if k is None or arrays.is_array(k):
        return _number(k)
    if getattr(k, name, None) is None:
        raise ValueError(f"{argument}: expected kernels with {name!r}, got {type(k).__name__} without it")
    return _number(getattr(k, name))


def gp_inference(
    k_train_train: Any,
    y_train: Any,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Axes = (-1,),
) -> PredictFn:
    """Means and covariances of infinitely wide networks: Bayesian (nngp), trained to the end (ntk), or a Gaussian
    process with the tangent kernel (ntkgp).

    Parameters
    ----------
    k_train_train : array_like, named tuple or Kernel
        With the kernels that are asked for later.
    y_train, diag_reg, diag_reg_absolute_scale, trace_axes
        As in `gradient_descent_mse`.

    Returns
    -------
    predict_fn(get=None, k_test_train=None, k_test_test=None)
        get: "nngp", "ntk", "ntkgp" or a tuple of them, None for ("nngp", "ntk"). Returns means, or, with k_test_test,
        Gaussians.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import predict
    >>> predict_fn = predict.gp_inference(np.eye(2), np.array([[1.0], [2.0]]))
    >>> predict_fn("nngp", np.array([[0.5, 0.0]]), np.eye(1))
    Gaussian(mean=array([[0.5]]), covariance=array([[0.75]]))
    """
    y = _number(y_train)
    around = _Arrays(y_train, *(k_train_train if isinstance(k_train_train, tuple) else [k_train_train]))

    @functools.lru_cache
    def trained(name: str) -> _Trained:
        k = _part(k_train_train, name, "k_train_train")
        return _Trained(k, y, _layout(y, trace_axes, k), diag_reg, diag_reg_absolute_scale)

    def predict_fn(get: Any = None, k_test_train: Any = None, k_test_test: Any = None) -> Any:
        """The distribution of outputs at the test points, of the training points if k_test_train is None."""
        single, names = wanted(get)
        found = {}
        for name in names or ("nngp", "ntk"):
            if name not in ("nngp", "ntk", "ntkgp"):
                raise ValueError(f'get: expected "nngp", "ntk" or "ntkgp", got {name!r}')
            kind = "ntk" if name == "ntkgp" else name
            model = trained(kind)
            k_td = _part(k_test_train, kind, "k_test_train")
            mean = model.mean(math.inf, k_td) if k_td is not None else y.astype(model.K.dtype)
            if k_test_test is None:
                found[name] = around.back(mean)
            elif k_td is None:
                found[name] = around.back(Gaussian(mean, np.zeros_like(model.k)))
            else:
                if name == "ntk" and (arrays.is_array(k_train_train) or arrays.is_array(k_test_train)):
                    raise ValueError(
                        "k_train_train: expected nngp and ntk, there and in k_test_train, for the covariance of the NTK"
                    )
                start = "ntk" if name == "ntkgp" else "nngp"
                covariance = model.covariance(
                    math.inf,
                    k_td,
                    _part(k_test_train, start, "k_test_train"),
                    _part(k_test_test, start, "k_test_test"),
                    trained("nngp") if name == "ntk" else None,
                )
                found[name] = around.back(Gaussian(mean, covariance))
        return selected(found, "Gaussians", single, names or tuple(found))

    return predict_fn


def gradient_descent_mse_ensemble(
    kernel_fn: Callable[..., Any],
    x_train: Any,
    y_train: Any,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Axes = (-1,),
    **kernel_fn_train_train_kwargs: Any,
) -> PredictFn:
    """Mean and covariance of an ensemble of infinitely wide networks trained on the mean squared error.

    Parameters
    ----------
    kernel_fn : callable
        (x1, x2, get, **kwargs) ↦ kernels, such as that of a network, or one from `monte_carlo_kernel_fn`.
    x_train, y_train : array_like
    learning_rate, diag_reg, diag_reg_absolute_scale, trace_axes
        As in `gradient_descent_mse`.
    **kernel_fn_train_train_kwargs
        Passed on to kernel_fn.

    Returns
    -------
    predict_fn(t=None, x_test=None, get=None, compute_cov=False, **kernel_fn_test_test_kwargs)
        get: "nngp", "ntk" or both. Means, or, with compute_cov, Gaussians, with the axes of t first.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import predict, stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Erf(), stax.Dense(1))
    >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0], [-1.0]])
    >>> predict_fn = predict.gradient_descent_mse_ensemble(kernel_fn, x, y)
    >>> predict_fn(None, np.array([[1.0, 1.0]]), "ntk").shape
    (1, 1)
    """
    around, y = _Arrays(x_train, y_train), _number(y_train)
    models: dict[str, _Trained] = {}

    def trained(names: tuple[str, ...]) -> None:
        """Compute the kernels of the training set that are missing, in one pass."""
        missing = tuple(name for name in names if name not in models)
        if not missing:
            return
        k = kernel_fn(x_train, None, missing, **kernel_fn_train_train_kwargs)
        for name in missing:
            array = _part(k, name, "kernel_fn")
            models[name] = _Trained(array, y, _layout(y, trace_axes, array), diag_reg, diag_reg_absolute_scale)

    def predict_fn(
        t: Any = None, x_test: Any = None, get: Any = None, compute_cov: bool = False, **kernel_fn_test_test_kwargs: Any
    ) -> Any:
        """The distribution of outputs at x_test, on the training set if it is None, at times t."""
        single, names = wanted(get)
        names = names or ("nngp", "ntk")
        for name in names:
            if name not in ("nngp", "ntk"):
                raise NotImplementedError(f'get: expected "nngp" or "ntk", got {name!r}')
        needed = tuple(dict.fromkeys(("nngp", *names))) if compute_cov else names
        trained(needed)
        k_td: Any = None
        s_tt: Any = None
        if x_test is not None:
            mixed, own = _keywords(kernel_fn_train_train_kwargs, kernel_fn_test_test_kwargs)
            k_td = kernel_fn(x_test, x_train, needed, **mixed)
            s_tt = _number(kernel_fn(x_test, None, "nngp", **own)) if compute_cov else None
        found = {}
        for name in names:
            model = models[name]
            cross = None if k_td is None else _part(k_td, name, "kernel_fn")
            if t is None and cross is None:
                mean = y.astype(model.K.dtype)
                covariance = np.zeros_like(model.k) if compute_cov else None
            else:
                times = math.inf if t is None else _number(t) * (learning_rate * len(model.K) / y.size)
                mean = model.mean(times, cross)
                covariance = None
                if compute_cov:
                    start = None if cross is None else _part(k_td, "nngp", "kernel_fn")
                    covariance = model.covariance(times, cross, start, s_tt, models["nngp"] if name == "ntk" else None)
            found[name] = around.back(mean if covariance is None else Gaussian(mean, covariance))
        return selected(found, "Gaussians", single, names)

    return predict_fn


def _keywords(train: dict[str, Any], test: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of kernel_fn for test and training points, and for test points alone."""
    mixed = dict(train)
    for key, value in test.items():
        given = train.get(key)
        pairs = [isinstance(v, tuple) and len(v) == 2 and all(map(arrays.is_array, v)) for v in (given, value)]
        if all(pairs):
            mixed[key] = (value[0], given[0])  # type: ignore[index]
        elif arrays.is_array(value) and arrays.is_array(given):
            mixed[key] = value
        elif given != value:
            raise ValueError(f"{key}: expected the same value for training and test points, got {given} and {value}")
    return mixed, {**train, **test}


def max_learning_rate(
    ntk_train_train: Any, y_train_size: int | None = None, momentum: float = 0.0, eps: float = 1e-12
) -> float:
    """2 (1 + momentum) y.size/λ_max: with a smaller learning rate gradient descent on the mean squared error converges.

    Parameters
    ----------
    ntk_train_train : array_like
        (N, N), or with more pairs of axes.
    y_train_size : int, optional
        Default: the number of rows of the kernel's matrix.
    momentum : float
    eps : float
        Added to λ_max.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import predict
    >>> round(predict.max_learning_rate(np.eye(3), y_train_size=6), 6)
    12.0
    """
    K = as_matrix(_number(ntk_train_train))
    largest = 2 * len(K) / rates.max_learning_rate(K)
    return 2 * (1 + momentum) * (len(K) if y_train_size is None else y_train_size) / (largest + eps)
