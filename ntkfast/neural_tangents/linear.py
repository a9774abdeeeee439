"""Layers without an activation: Dense, LayerNorm, Dropout, and those that only rearrange."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast import networks
from ntkfast.neural_tangents import arrays, keys
from ntkfast.neural_tangents.blocks import Block, then, too_many_axes
from ntkfast.neural_tangents.triples import Triple, triple

__all__ = ["Dense", "DotGeneral", "Dropout", "Flatten", "Identity", "LayerNorm"]

TRAINED_FROM_ZERO = 1e-18  # bias_std of biases that are 0 but trained: Σ loses its square, Θ has their derivative


def _first_axis(name: str, **axes: tuple[object, tuple[object, ...]]) -> None:
    """Raise unless the first axis is that of points and the last that of features."""
    for argument, (given, usual) in axes.items():
        if given not in usual:
            raise NotImplementedError(
                f"{name}: expected {argument}={usual[0]}, as points are rows of two axes here, got {given!r}"
            )


@dataclass(frozen=True, eq=False)
class _Dense(Block):
    n: int
    w: float
    b: float | None
    standard: bool
    s: tuple[int, int]

    def __str__(self):
        return "Dense"

    @property
    def n_out(self):
        return self.n * self.s[1] if self.standard else self.n

    def init(self, key, shape):
        first, second = keys.split(key)
        n_in = shape[-1]
        W = keys.normal(first, (n_in, self.n_out))
        b = None if self.b is None else keys.normal(second, (1,) * (len(shape) - 1) + (self.n_out,))
        if self.standard:
            W = W * (self.w / (n_in / self.s[0]) ** 0.5)
            b = None if b is None else b * self.b
        return (*shape[:-1], self.n_out), (W, b)

    def apply(self, params, x, ops, key):
        W, b = params
        weight_scale, bias_scale = self._scales(x.shape[-1])
        z = weight_scale * (x @ W)
        return z if b is None else z + bias_scale * b

    def _scales(self, n_in):
        """What W and b are multiplied by."""
        return (1 / self.s[0] ** 0.5, 1.0) if self.standard else (self.w / n_in**0.5, self.b)

    def kernel(self, k):
        if len(k.shape1) != 2:
            raise too_many_axes("Dense", k.shape1)
        a, bias = self.w**2, 0.0 if self.b is None else self.b**2
        fan_in = k.shape1[-1] / self.s[0]
        if k.ntk is None:
            ntk = None
        elif self.standard:
            ntk = fan_in * k.nngp + a * k.ntk + (0.0 if self.b is None else 1.0)
        else:
            ntk = (a * k.nngp + bias) + a * k.ntk
        return then(k, self._layer(fan_in)).replace(
            nngp=a * k.nngp + bias,
            ntk=ntk,
            cov1=a * k.cov1 + bias,
            cov2=None if k.cov2 is None else a * k.cov2 + bias,
            is_gaussian=True,
            is_input=False,
            **self._shapes(k),
        )

    def _shapes(self, k):
        return {name: (*getattr(k, name)[:-1], self.n_out) for name in ("shape1", "shape2")}

    def _layer(self, fan_in):
        """The layer of ntkfast in the limit, None if there is none."""
        if self.w == 0 or (self.standard and fan_in != int(fan_in)):
            return None
        bias_std = abs(self.b or 0.0)
        if not self.standard:
            return networks.Dense(weight_std=abs(self.w), bias_std=bias_std)
        if self.b is not None:
            bias_std = max(bias_std, TRAINED_FROM_ZERO)
        return networks.Dense(weight_std=abs(self.w), bias_std=bias_std, fan_in=int(fan_in))

    def unrolled(self, params, k, parts):
        """In NTK parametrisation with just the factors of this layer, so that derivatives are those of its arrays."""
        W, b = params
        weight_scale, bias_scale = self._scales(k.shape1[-1])
        if len(k.shape1) != 2:
            raise too_many_axes("Dense", k.shape1)
        with_bias = b is not None and bias_scale != 0
        weight, bias = np.ascontiguousarray(np.transpose(W)), np.ascontiguousarray(np.ravel(b)) if with_bias else None
        if weight_scale < 0:
            weight = -weight
        if with_bias and bias_scale < 0:
            bias = -bias
        parts.append((weight, bias))
        layer = networks.Dense(
            weight_std=abs(weight_scale) * math.sqrt(k.shape1[-1]), bias_std=abs(bias_scale) if with_bias else 0.0
        )
        return then(k, layer).replace(is_gaussian=True, **self._shapes(k))


def Dense(
    out_dim: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
) -> Triple:
    """A fully connected layer of out_dim outputs.

    Parameters
    ----------
    out_dim : int
        Limits do not depend on it in NTK parametrisation.
    W_std, b_std : float
        Standard deviations of weights and biases; b_std=None: no biases.
    batch_axis, channel_axis : int
        0 and -1.
    parameterization : {"ntk", "standard"}
        W_std/√n W x + b_std b, or W x/√s[0] + b.
    s : pair of int
        Width scalings in standard parametrisation.

    Returns
    -------
    (init_fn, apply_fn, kernel_fn)

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> init_fn, apply_fn, kernel_fn = stax.Dense(3, W_std=2.0)
    >>> kernel_fn([[1.0, 1.0]], None, ("nngp", "ntk"))
    AnalyticKernel(nngp=array([[4.]]), ntk=array([[4.]]))
    >>> shape, (W, b) = init_fn(0, (-1, 2))
    >>> shape, W.shape, b
    ((-1, 3), (2, 3), None)
    """
    _first_axis("Dense", batch_axis=(batch_axis, (0, -2)), channel_axis=(channel_axis, (-1, 1)))
    kind = parameterization.lower()
    if kind not in ("ntk", "standard"):
        raise ValueError(f"parameterization: expected 'ntk' or 'standard', got {parameterization!r}")
    w, b = arrays.number(W_std, "W_std"), None if b_std is None else arrays.number(b_std, "b_std")
    block = _Dense(int(out_dim), w, b, kind == "standard", tuple(s))
    return triple(block, "Dense")


def Identity() -> Triple:
    """Passes on its input."""
    return triple(Block(), "Identity")


@dataclass(frozen=True, eq=False)
class _Flatten(Block):
    @staticmethod
    def _flat(shape):
        return shape[0], math.prod(shape[1:])

    def init(self, key, shape):
        return self._flat(shape), ()

    def apply(self, params, x, ops, key):
        return ops.reshape(x, self._flat(x.shape))

    def kernel(self, k):
        return k.replace(is_gaussian=False, shape1=self._flat(k.shape1), shape2=self._flat(k.shape2))

    def unrolled(self, params, k, parts):
        return k.replace(shape1=self._flat(k.shape1))


def Flatten(batch_axis: int = 0, batch_axis_out: int = 0) -> Triple:
    """Makes points of any number of axes points of one. What follows is not Gaussian without a Dense.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.neural_tangents import stax
    >>> _, _, kernel_fn = stax.serial(stax.Flatten(), stax.Dense(1))
    >>> kernel_fn(np.ones((1, 4, 4, 3)), None, "nngp")
    array([[1.]])
    """
    _first_axis("Flatten", batch_axis=(batch_axis, (0,)), batch_axis_out=(batch_axis_out, (0, -2)))
    return triple(_Flatten(), "Flatten")


@dataclass(frozen=True, eq=False)
class _LayerNorm(Block):
    eps: float

    def apply(self, params, x, ops, key):
        y = x - ops.mean(x)
        return y / ops.sqrt(self.eps + ops.mean(y * y))

    def kernel(self, k):
        if not k.is_gaussian:
            raise NotImplementedError("LayerNorm: expected Gaussian values, that is a Dense right before it")
        q1, q2 = (self.eps + q for q in k.variances())
        scale = 1 / np.sqrt(q1[:, None] * q2)
        own = {
            name: cov / (q if k.diagonal_batch else np.sqrt(q[:, None] * q))
            for name, cov, q in (("cov1", k.cov1, q1), ("cov2", k.cov2, q2))
            if cov is not None
        }
        k = then(k, networks.LayerNorm() if self.eps <= EPS else None)
        return k.replace(nngp=k.nngp * scale, ntk=None if k.ntk is None else k.ntk * scale, **own)

    def unrolled(self, params, k, parts):
        return then(k, networks.LayerNorm() if self.eps <= EPS else None)


EPS = 1e-12  # of LayerNorm by default: negligible, so that the layer without it serves


def LayerNorm(axis: Any = -1, eps: float = 1e-12, batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """Normalises the features of each point to mean 0 and variance 1/(1 + eps/variance).

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(8, 3.0), stax.LayerNorm(), stax.Dense(1))
    >>> kernel_fn([[1.0, 2.0]], None, "nngp").round(6)
    array([[1.]])
    """
    _first_axis(
        "LayerNorm",
        axis=(tuple(np.atleast_1d(axis).tolist()), ((-1,), (1,))),
        batch_axis=(batch_axis, (0, -2)),
        channel_axis=(channel_axis, (-1, 1)),
    )
    return triple(_LayerNorm(float(eps)), "LayerNorm")


@dataclass(frozen=True, eq=False)
class _Dropout(Block):
    rate: float
    trains: bool

    def apply(self, params, x, ops, key):
        if key is None:
            raise ValueError("rng: expected a key for Dropout, as in apply_fn(params, inputs, rng=key), got None")
        if not self.trains:
            return x
        return ops.space.where(keys.bernoulli(key, self.rate, x.shape), x / self.rate, 0.0)

    def kernel(self, k):
        if not self.trains:
            return k
        factor = 1 / self.rate
        same = np.where(np.eye(*k.nngp.shape, dtype=bool), factor, 1.0) if k.x1_is_x2 else 1.0
        own = np.where(np.eye(*k.cov1.shape, dtype=bool), factor, 1.0) if k.cov1.ndim == 2 else factor
        other = own if k.cov2 is None or k.cov2.ndim == 1 else np.where(np.eye(*k.cov2.shape, dtype=bool), factor, 1.0)
        k = then(k, networks.Dropout(1 - self.rate))
        return k.replace(
            nngp=k.nngp * same,
            ntk=None if k.ntk is None else k.ntk * same,
            cov1=k.cov1 * own,
            cov2=None if k.cov2 is None else k.cov2 * other,
            is_gaussian=False,
        )


def Dropout(rate: float, mode: str = "train") -> Triple:
    """Keeps each feature with probability `rate` and divides it by that; apply_fn then needs rng=.

    mode: "train", or "test", which passes on the input.
    """
    if mode not in ("train", "test"):
        raise ValueError(f"mode: expected 'train' or 'test', got {mode!r}")
    if not 0 < rate <= 1:
        raise ValueError(f"rate: expected the probability to keep a feature, in (0, 1], got {rate!r}")
    return triple(_Dropout(float(rate), mode == "train"), "Dropout")


@dataclass(frozen=True, eq=False)
class _Scale(Block):
    factor: float

    def apply(self, params, x, ops, key):
        return self.factor * x

    def kernel(self, k):
        return then(k, networks.Scale(self.factor) if self.factor else None) * self.factor


def DotGeneral(
    *,
    lhs: Any = None,
    rhs: Any = None,
    dimension_numbers: Any = (((), ()), ((), ())),
    precision: Any = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Multiplication by a number, lhs or rhs; products with arrays are not here.

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.DotGeneral(rhs=3.0))
    >>> kernel_fn([[1.0]], None, "nngp")
    array([[9.]])
    """
    if lhs is not None and rhs is not None:
        raise ValueError("rhs: expected None together with lhs, as the other factor is the input")
    factor = lhs if rhs is None else rhs
    if factor is None:
        return Identity()
    if np.ndim(factor) or any(map(len, (*dimension_numbers[0], *dimension_numbers[1]))):
        raise NotImplementedError(
            f"DotGeneral: expected a number, got shape {np.shape(factor)}; products with arrays need spatial axes, "
            "which fully connected networks have not. Dense and Scale-like numbers exist"
        )
    return triple(_Scale(float(factor)), "DotGeneral")
