"""Random features of the kernels of ReLU networks, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from ntkfast.networks import Dense, Network, activations
from ntkfast.support import reprs
from ntkfast.support.forks import cached_property
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.typing import Array, KernelName

__all__ = ["ReluSketch"]


@dataclass(frozen=True)
class ReluSketch(Saved):
    """φ with φ(x)·φ(y) ≈ K(x, y) for a network of `Dense` layers with ReLU between them.

    From features s of Σ and t of Θ, a ReLU and the `Dense` layer after it give

        s ← [w relu(W s)/√m,  β],    t ← [w t ⊗ step(V s)/√m,  √c w relu(W s)/√m,  √e β],

    c = weight_lr and e = bias_lr, since E[σ(u)σ(v)] and E[σ'(u)σ'(v)] are kernels with these random features, m of them
    (the arc-cosine kernels: Cho and Saul 2009). A TensorSketch (Pham and Pagh 2013) stands for the tensor product ⊗, so
    that the number of features does not grow (Zandieh, Han, Avron, Shoham, Kim and Shin 2021). The rows of W and V come
    in pairs of opposite sign: of σ(u) = (u + |u|)/2 the linear part then has no error of its own. The error is of order
    1/√m, and its mean of order 1/m, 0 with one ReLU.

    A network without ReLU may have fewer features than it is made with.
    """

    is_ntk: bool
    first: SketchAffine
    layers: tuple[SketchLayer, ...]
    last: CountSketch | None
    n_features: int

    @classmethod
    def made(
        cls,
        net: Network,
        n_inputs: int,
        n_features: int,
        kernel: KernelName,
        rng: np.random.Generator,
        dtype: np.dtype[np.floating[Any]],
    ) -> ReluSketch:
        """The sketch with these random numbers."""
        dense, *later = _denses(net)
        is_ntk = kernel == "ntk"
        first = SketchAffine.of(dense, n_inputs, n_inputs, is_ntk)
        layers = []
        p, q = first.sizes(n_inputs, 0)
        for k, dense in enumerate(later):
            affine = SketchAffine.of(dense, 1, n_inputs, is_ntk)
            m, m_tangent = n_features, n_features if q else 0
            if k == len(later) - 1:
                m, m_tangent = affine.shares(n_features, is_ntk, q)
            layers.append(SketchLayer.made(affine, p, q, (m, n_features, m_tangent), rng, dtype))
            p, q = affine.sizes(m, m_tangent)
        size = q if is_ntk else p
        last = CountSketch.made(size, n_features, rng, dtype) if size > n_features else None
        return cls(is_ntk, first, tuple(layers), last, min(size, n_features))

    @classmethod
    def rebuilt(cls, is_ntk: Any, first: Any, layers: Any, last: Any, n_features: Any) -> ReluSketch:
        checked(first, SketchAffine, "first")
        for layer in checked(layers, tuple, "layers"):
            checked(layer, SketchLayer, "layers")
        if last is not None and checked(last, CountSketch, "last").n != n_features:
            raise ValueError(f"last: expected {n_features} columns, got {last.n}")
        return cls(checked(is_ntk, bool, "is_ntk"), first, layers, last, checked(n_features, int, "n_features"))

    def __call__(self, X: Array) -> Array:
        """φ at X, (N, n_features)."""
        s, t = self.first(X, X[:, :0])
        for layer in self.layers:
            s, t = layer(s, t)
        features = t if self.is_ntk else s
        return features if self.last is None else features @ self.last.matrix


def _denses(net: Network) -> list[Dense]:
    """The `Dense` layers of a network of the only kind that has this sketch."""
    relu = activations.relu()
    layers = list(net.layers)
    if any(not isinstance(layer, Dense) for layer in layers[::2]) or any(layer != relu for layer in layers[1::2]):
        raise ValueError(f"network: expected Dense layers with relu between them for a sketch, got {net!r}")
    return layers[::2]


@dataclass(frozen=True)
class SketchAffine(Saved):
    """Σ ← weight² Σ + bias², Θ ← weight² Θ + weight_rate² Σ + bias_rate², as concatenations of features."""

    weight: float
    bias: float
    weight_rate: float
    bias_rate: float

    @classmethod
    def rebuilt(cls, **described: Any) -> SketchAffine:
        return cls(**{name: checked(value, float, name) for name, value in described.items()})

    @classmethod
    def of(cls, dense: Dense, fan_in: int, n_inputs: int, is_trained: bool) -> SketchAffine:
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


@dataclass(frozen=True)
class SketchLayer(Saved):
    """A ReLU and the `Dense` layer after it.

    From p features of Σ and q of Θ; sizes: m of order 1 and m₀ of order 0, and those of their product with the q.
    """

    affine: SketchAffine
    sizes: tuple[int, int, int]
    W: Array  # (p, m/2)
    V: Array  # (p, m₀/2)
    hashes: tuple[CountSketch, ...]  # of the q and of the m₀ features

    @classmethod
    def made(
        cls,
        affine: SketchAffine,
        p: int,
        q: int,
        sizes: tuple[int, int, int],
        rng: np.random.Generator,
        dtype: np.dtype[np.floating[Any]],
    ) -> SketchLayer:
        """The layer with these random numbers."""
        m, m0, m_tangent = sizes
        W, V = (rng.standard_normal((p, -(-size // 2)), dtype=dtype) for size in (m, m0))
        hashes = tuple(CountSketch.made(size, m_tangent, rng, dtype) for size in (q, m0)) if q else ()
        return cls(affine, sizes, W, V, hashes)

    @classmethod
    def rebuilt(cls, affine: Any, sizes: Any, W: Any, V: Any, hashes: Any) -> SketchLayer:
        m, m0, m_tangent = (checked(size, int, "sizes") for size in checked(sizes, tuple, "sizes"))
        W = checked_array(W, (None, -(-m // 2)), "W")
        V = checked_array(V, (len(W), -(-m0 // 2)), "V", W.dtype)
        for part in checked(hashes, tuple, "hashes"):
            if checked(part, CountSketch, "hashes").n != m_tangent:
                raise ValueError(f"hashes: expected {m_tangent} columns, got {part.n}")
        return cls(checked(affine, SketchAffine, "affine"), sizes, W, V, hashes)

    def __call__(self, s: Array, t: Array) -> tuple[Array, Array]:
        m, m0, m_tangent = self.sizes
        relu = np.maximum(_paired(s @ self.W, m), 0)
        relu *= m**-0.5
        if t.shape[1]:
            step = (_paired(s @ self.V, m0) > 0).astype(s.dtype)
            step *= m0**-0.5
            a, b = (
                scipy.fft.rfft(part @ hashes.matrix, axis=1)
                for part, hashes in zip((t, step), self.hashes, strict=True)
            )
            t = scipy.fft.irfft(a * b, n=m_tangent, axis=1)
        return self.affine(relu, t)


@dataclass(frozen=True)
class CountSketch(Saved):
    """A sparse matrix (size, n) whose rows have one entry each, ±1, in random columns."""

    signs: Array  # (size,)
    columns: NDArray[np.integer[Any]]  # (size,)
    n: int

    @classmethod
    def made(cls, size: int, n: int, rng: np.random.Generator, dtype: np.dtype[np.floating[Any]]) -> CountSketch:
        """The matrix with these random numbers."""
        return cls(rng.choice(np.array([-1, 1], dtype), size), rng.integers(n, size=size), n)

    @classmethod
    def rebuilt(cls, signs: Any, columns: Any, n: Any) -> CountSketch:
        signs = checked_array(signs, (None,), "signs")
        columns = checked(columns, np.ndarray, "columns")
        fits = columns.shape == signs.shape and columns.dtype.kind in "iu"
        if not fits or not ((columns >= 0) & (columns < checked(n, int, "n"))).all():
            raise ValueError(f"columns: expected {len(signs)} integers below {n}, got {reprs.brief(columns)}")
        return cls(signs, columns, n)

    @cached_property
    def matrix(self) -> Any:
        places = np.arange(len(self.signs)), self.columns
        return scipy.sparse.csr_array((self.signs, places), shape=(len(self.signs), self.n))


def _paired(u: Array, m: int) -> Array:
    return np.concatenate([u, -u], axis=1)[:, :m]
