"""Random features of the kernels of ReLU networks, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from ntkfast.networks import Dense, Network, activations
from ntkfast.support.typing import Array, KernelName

__all__ = ["ReluSketch"]


class ReluSketch:
    """φ with φ(x)·φ(y) ≈ K(x, y) for a network of `Dense` layers with ReLU between them.

    From features s of Σ and t of Θ, a ReLU and the `Dense` layer after it give

        s ← [w relu(W s)/√m,  β],    t ← [w t ⊗ step(V s)/√m,  √c w relu(W s)/√m,  √e β],

    c = weight_lr and e = bias_lr, since E[σ(u)σ(v)] and E[σ'(u)σ'(v)] are kernels with these random features, m of them
    (the arc-cosine kernels: Cho and Saul 2009). A TensorSketch (Pham and Pagh 2013) stands for the tensor product ⊗, so
    that the number of features does not grow (Zandieh, Han, Avron, Shoham, Kim and Shin 2021). The rows of W and V come
    in pairs of opposite sign: of σ(u) = (u + |u|)/2 the linear part then has no error of its own. The error is of order
    1/√m, and its mean of order 1/m, 0 with one ReLU.

    n_features: a network without ReLU may have fewer.
    """

    def __init__(
        self,
        net: Network,
        n_inputs: int,
        n_features: int,
        kernel: KernelName,
        rng: np.random.Generator,
        dtype: np.dtype[np.floating[Any]],
    ) -> None:
        first, *later = _denses(net)
        self._is_ntk = kernel == "ntk"
        self._first = _Affine.of(first, n_inputs, n_inputs, self._is_ntk)
        self._layers = []
        p, q = self._first.sizes(n_inputs, 0)
        for k, dense in enumerate(later):
            affine = _Affine.of(dense, 1, n_inputs, self._is_ntk)
            m, m_tangent = n_features, n_features if q else 0
            if k == len(later) - 1:
                m, m_tangent = affine.shares(n_features, self._is_ntk, q)
            self._layers.append(_Layer(affine, p, q, (m, n_features, m_tangent), rng, dtype))
            p, q = affine.sizes(m, m_tangent)
        size = q if self._is_ntk else p
        self._last = _count_sketch(size, n_features, rng, dtype) if size > n_features else None
        self.n_features = min(size, n_features)

    def __call__(self, X: Array) -> Array:
        """φ at X, (N, n_features)."""
        s, t = self._first(X, X[:, :0])
        for layer in self._layers:
            s, t = layer(s, t)
        features = t if self._is_ntk else s
        return features if self._last is None else features @ self._last


def _denses(net: Network) -> list[Dense]:
    """The `Dense` layers of a network of the only kind that has this sketch."""
    relu = activations.relu()
    layers = list(net.layers)
    if any(not isinstance(layer, Dense) for layer in layers[::2]) or any(layer != relu for layer in layers[1::2]):
        raise ValueError(f"network: expected Dense layers with relu between them for a sketch, got {net!r}")
    return layers[::2]


@dataclass(frozen=True)
class _Affine:
    """Σ ← weight² Σ + bias², Θ ← weight² Θ + weight_rate² Σ + bias_rate², as concatenations of features."""

    weight: float
    bias: float
    weight_rate: float
    bias_rate: float

    @classmethod
    def of(cls, dense: Dense, fan_in: int, n_inputs: int, is_trained: bool) -> _Affine:
        weight_lr, bias_lr = dense.learning_rates(n_inputs) if is_trained else (0.0, 0.0)
        weight, bias = dense.weight_std / fan_in**0.5, dense.bias_std
        return cls(weight, bias, weight_lr**0.5 * weight, bias_lr**0.5 * bias)

    def __call__(self, s: Array, t: Array) -> tuple[Array, Array]:
        one = np.ones((len(s), 1), s.dtype)
        return _joined((self.weight, s), (self.bias, one)), _joined(
            (self.weight, t), (self.weight_rate, s), (self.bias_rate, one)
        )

    def sizes(self, p: int, q: int) -> tuple[int, int]:
        """The numbers of features of Σ and Θ from those of what flows in."""
        return p + bool(self.bias), q + p * bool(self.weight_rate) + bool(self.bias_rate)

    def shares(self, n: int, is_ntk: bool, q: int) -> tuple[int, int]:
        """How many features of Σ and of the tensor product to ask for, so that n come out (if n is not too small)."""
        rest = max(1, n - bool(self.bias_rate if is_ntk else self.bias))
        if not is_ntk or not q:
            return rest, 0
        half = rest // 2 if self.weight_rate else 0
        return max(1, half), max(1, rest - half)


def _joined(*parts: tuple[float, Array]) -> Array:
    """Multiples of features side by side, those of 0 left out."""
    kept = [part.dtype.type(factor) * part for factor, part in parts if factor]
    return np.concatenate(kept, axis=1) if kept else parts[0][1][:, :0]


class _Layer:
    """A ReLU and the `Dense` layer after it.

    From p features of Σ and q of Θ; sizes: m of order 1 and m₀ of order 0, and those of their product with the q.
    """

    def __init__(
        self,
        affine: _Affine,
        p: int,
        q: int,
        sizes: tuple[int, int, int],
        rng: np.random.Generator,
        dtype: np.dtype[np.floating[Any]],
    ) -> None:
        self._affine = affine
        self._m, self._m0, self._m_tangent = sizes
        self._W, self._V = (rng.standard_normal((p, -(-m // 2)), dtype=dtype) for m in sizes[:2])
        self._hashes = [_count_sketch(size, self._m_tangent, rng, dtype) for size in (q, self._m0)] if q else []

    def __call__(self, s: Array, t: Array) -> tuple[Array, Array]:
        relu = np.maximum(_paired(s @ self._W, self._m), 0)
        relu *= self._m**-0.5
        if t.shape[1]:
            step = (_paired(s @ self._V, self._m0) > 0).astype(s.dtype)
            step *= self._m0**-0.5
            a, b = (scipy.fft.rfft(part @ hashes, axis=1) for part, hashes in zip((t, step), self._hashes, strict=True))
            t = scipy.fft.irfft(a * b, n=self._m_tangent, axis=1)
        return self._affine(relu, t)


def _paired(u: Array, m: int) -> Array:
    return np.concatenate([u, -u], axis=1)[:, :m]


def _count_sketch(size: int, n: int, rng: np.random.Generator, dtype: np.dtype[np.floating[Any]]) -> Any:
    """(size, n), sparse: each row has one entry, ±1, in a random column."""
    signs = rng.choice(np.array([-1, 1], dtype), size)
    return scipy.sparse.csr_array((signs, (np.arange(size), rng.integers(n, size=size))), shape=(size, n))
