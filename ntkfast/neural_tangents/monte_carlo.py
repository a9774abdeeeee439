"""Kernels as averages over random networks of finite width, and batches, which the engine makes by itself."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ntkfast.neural_tangents import arrays, keys
from ntkfast.neural_tangents.axes import Axes
from ntkfast.neural_tangents.empirical import NtkImplementation, empirical_kernel_fn
from ntkfast.neural_tangents.triples import selected, wanted

__all__ = ["batch", "monte_carlo_kernel_fn"]


def batch(
    kernel_fn: Callable[..., Any], batch_size: int = 0, device_count: int = -1, store_on_device: bool = True
) -> Callable[..., Any]:
    """The kernel function itself: matrices are computed in tiles here, on all cores, whatever their size."""

    @functools.wraps(kernel_fn)
    def batched(*args: Any, **kwargs: Any) -> Any:
        return kernel_fn(*args, **kwargs)

    return batched


def monte_carlo_kernel_fn(
    init_fn: Callable[..., Any],
    apply_fn: Callable[..., Any],
    key: Any,
    n_samples: int | Iterable[int],
    batch_size: int = 0,
    device_count: int = -1,
    store_on_device: bool = True,
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    implementation: int | NtkImplementation = NtkImplementation.JACOBIAN_CONTRACTION,
    _j_rules: bool = True,
    _s_rules: bool = True,
    _fwd: bool | None = None,
) -> Callable[..., Any]:
    """kernel_fn(x1, x2, get): empirical kernels averaged over n_samples random networks.

    Parameters
    ----------
    init_fn, apply_fn : callable
        Of a network of stax.
    key : int, numpy.random.Generator, JAX key or None
    n_samples : int, or iterable of int
        A number of networks; or several, then kernel_fn returns a generator of the averages over so many.
    trace_axes, diagonal_axes
        As in `empirical_ntk_fn`.
    batch_size, device_count, store_on_device, vmap_axes, implementation
        Accepted, without meaning here.

    Examples
    --------
    >>> from ntkfast import neural_tangents as nt
    >>> init_fn, apply_fn, kernel_fn = nt.stax.serial(nt.stax.Dense(500), nt.stax.Relu(), nt.stax.Dense(1))
    >>> sampled = nt.monte_carlo_kernel_fn(init_fn, apply_fn, 0, n_samples=50)
    >>> bool(abs(sampled([[1.0]], None, "ntk") - kernel_fn([[1.0]], None, "ntk")).max() < 0.05)
    True
    """
    samples = _sizes(n_samples)
    start = keys.key_of(key)
    kernel_fn = empirical_kernel_fn(apply_fn, trace_axes, diagonal_axes, vmap_axes, implementation)

    def sums(x1: Any, x2: Any, names: tuple[str, ...], apply_fn_kwargs: dict[str, Any]) -> Any:
        """Yield (number of networks, sum of their kernels)."""
        following, total = start, None
        shape = arrays.mapped(np.shape, arrays.listed(x1))
        for n in range(1, max(samples) + 1):
            following, own = keys.split(following)
            of_parameters, of_dropout = keys.split(own)
            _, params = init_fn(of_parameters, shape)
            one = kernel_fn(x1, x2, names, params, rng=of_dropout, **apply_fn_kwargs)
            total = one if total is None else arrays.mapped(lambda a, b: a + b, total, one)
            yield n, total

    def averages(x1: Any, x2: Any, single: bool, names: tuple[str, ...], apply_fn_kwargs: dict[str, Any]) -> Any:
        for n, total in sums(x1, x2, names, apply_fn_kwargs):
            if n in samples:
                mean = arrays.mapped(lambda array, n=n: array / n, total)
                yield _each(mean, lambda k: selected(k._asdict(), "MonteCarloKernel", single, names))

    def get_sampled_kernel(x1: Any, x2: Any, get: Any = None, **apply_fn_kwargs: Any) -> Any:
        """The average, or a generator of averages."""
        single, names = wanted(get)
        found = averages(x1, x2, single, names or ("nngp", "ntk"), apply_fn_kwargs)
        return next(found) if isinstance(n_samples, numbers.Integral) else found

    return get_sampled_kernel


def _each(kernels: Any, function: Callable[[Any], Any]) -> Any:
    """function of a named tuple of kernels, or of each of the nested ones of several outputs."""
    if hasattr(kernels, "_fields"):
        return function(kernels)
    return type(kernels)(_each(part, function) for part in kernels)


def _sizes(n_samples: Any) -> set[int]:
    if isinstance(n_samples, numbers.Integral):
        n_samples = (n_samples,)
    if not isinstance(n_samples, Iterable):
        raise TypeError(f"n_samples: expected an integer or several, got {type(n_samples).__name__}")
    sizes = set(n_samples)
    if not sizes or not all(isinstance(n, numbers.Integral) and n > 0 for n in sizes):
        raise ValueError(f"n_samples: expected integers > 0, got {n_samples!r}")
    return sizes
