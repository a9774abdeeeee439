"""Random initial functions: f_0 Gaussian of mean 0 and covariance Σ, on the data and at new points."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.learning.definiteness import unexplained
from ntkfast.learning.factor import Cholesky, Eigen, Factor, eigenpairs, factor
from ntkfast.support import memory
from ntkfast.support.forks import cached_property
from ntkfast.support.saved import checked
from ntkfast.support.typing import Array, DType


class InitialFunctions:
    """f_0 = F z on the data, z ~ N(0, I) and F Fᵀ = Σ(X, X); at new points f_0 = W z + r, r independent of the data."""

    def __init__(self, nngp_xx: Array, dtype: DType) -> None:
        self._nngp_xx, self._dtype = nngp_xx, dtype

    @classmethod
    def rebuilt(cls, root: Any, n: int) -> InitialFunctions:
        """From the root alone, as it was saved, (n, n)."""
        found: Factor = root if isinstance(root, Eigen) else checked(root, Cholesky, "initial")
        if len(found.half) != n:
            raise ValueError(f"initial: expected {n} rows, got {len(found.half)}")
        initial = cls(found.half, found.half.dtype)
        vars(initial)["root"] = found
        return initial

    @cached_property
    def root(self) -> Factor:
        """The factor F."""
        return factor(self._nngp_xx.astype(self._dtype, copy=False), "nngp_xx")

    def beyond(self, nngp_tx: Array, prior: Array, name: str, block: int) -> tuple[Array, Array]:
        """W = Σ(x, X) F⁻ᵀ, (m, rank), and the covariance of r, or its variances if the prior is (m,)."""
        W = self.root.half_solve(nngp_tx.T)
        return W.T, unexplained(prior.astype(self._dtype, copy=False), W, name, "nngp_xx", block)


def draw(covariance: Array, n: int, rng: np.random.Generator) -> Array:
    """n columns from N(0, covariance), (m, n)."""
    memory.require(2 * covariance.nbytes, "a factor of the covariance at the new points", "; fewer need less")
    values, vectors = eigenpairs(covariance.copy(order="F"))
    root = vectors * np.sqrt(np.maximum(values, 0))
    columns: Array = root @ rng.standard_normal((len(root), n)).astype(covariance.dtype)
    return columns
