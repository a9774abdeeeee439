"""The Kernel: what flows between layers of infinite width, as neural-tangents has it."""

from __future__ import annotations

import dataclasses
import functools
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ARRAYS", "Kernel", "register_with_jax"]

ARRAYS = ("nngp", "ntk", "cov1", "cov2")


@dataclass(frozen=True, eq=False)
class Kernel:
    """The kernels of a network with its flags, immutable; fields and methods are those of neural-tangents.

    Attributes
    ----------
    nngp : ndarray, shape (n1, n2)
    ntk : ndarray, shape (n1, n2), or None
    cov1, cov2 : ndarray, shapes (n1,) and (n2,), or (n1, n1) and (n2, n2) if not diagonal_batch
        Variances; cov2 is None if the second points are the first.
    x1_is_x2 : bool
    is_gaussian : bool
        Whether an activation can be applied.
    shape1, shape2 : tuple of int
        Of the values of a finite network.
    is_reversed, is_input, diagonal_batch, diagonal_spatial, batch_axis, channel_axis, mask1, mask2
        As there; fully connected networks need none of them.

    Examples
    --------
    >>> from ntkfast.neural_tangents import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, b_std=1.0), stax.Relu())
    >>> k = kernel_fn([[1.0, 0.0]], None)
    >>> k.nngp, k.is_gaussian, k.replace(ntk=None).ntk
    (array([[0.75]]), False, None)
    """

    nngp: Any
    ntk: Any
    cov1: Any
    cov2: Any
    x1_is_x2: Any
    is_gaussian: bool
    is_reversed: bool
    is_input: bool
    diagonal_batch: bool
    diagonal_spatial: bool
    shape1: tuple[int, ...] | None
    shape2: tuple[int, ...] | None
    batch_axis: int
    channel_axis: int
    mask1: Any = None
    mask2: Any = None

    def replace(self, **changes: Any) -> Kernel:
        """A kernel with other values of some fields."""
        return dataclasses.replace(self, **changes)

    def asdict(self) -> dict[str, Any]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Kernel)}

    def astuple(self) -> tuple[Any, ...]:
        """The fields in order."""
        return tuple(self.asdict().values())

    def slice(self, n1_slice: slice, n2_slice: slice) -> Kernel:
        """The kernel of some of the points."""
        cov2 = self.cov1 if self.cov2 is None else self.cov2
        cov1, cov2 = self._covariance(self.cov1, n1_slice), self._covariance(cov2, n2_slice)
        shapes = {}
        for name, cov in (("shape1", cov1), ("shape2", cov2)):
            shape = getattr(self, name)
            shapes[name] = None if shape is None else (len(cov), *shape[1:])
        ntk = self.ntk if self.ntk is None else self.ntk[n1_slice, n2_slice]
        return self.replace(nngp=self.nngp[n1_slice, n2_slice], ntk=ntk, cov1=cov1, cov2=cov2, **shapes)

    def _covariance(self, cov: Any, points: slice) -> Any:
        return cov[points] if self.diagonal_batch else cov[points, points]

    def _arrays(self, function: Any) -> Kernel:
        """function of every array."""
        found = {name: getattr(self, name) for name in ARRAYS}
        return self.replace(**{name: None if array is None else function(array) for name, array in found.items()})

    def reverse(self) -> Kernel:
        """With the other order of spatial axes, of which there are none."""
        return self.replace(is_reversed=not self.is_reversed)

    def transpose(self, axes: Any = None) -> Kernel:
        """With spatial axes permuted, of which there are none."""
        return self

    def __mul__(self, other: float) -> Kernel:
        """That of features times a constant."""
        return self._arrays(lambda array: array * other**2)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Kernel:
        return self * (1.0 / other)

    def __add__(self, other: float) -> Kernel:
        """That of features plus a constant, if their mean is 0."""
        return self._arrays(lambda array: array + other**2).replace(ntk=self.ntk)

    __sub__ = __add__

    def __neg__(self) -> Kernel:
        return self

    __pos__ = __neg__

    def variances(self) -> tuple[Any, Any]:
        """Of the first and of the second points."""
        first = np.asarray(self.cov1)
        second = first if self.cov2 is None else np.asarray(self.cov2)
        return tuple(cov if cov.ndim == 1 else cov.diagonal() for cov in (first, second))  # type: ignore[return-value]


NUMBERS = (*ARRAYS, "x1_is_x2", "mask1", "mask2")  # what JAX sees of a Kernel


@functools.lru_cache(maxsize=1)
def register_with_jax() -> None:
    """Make a Kernel a tree of arrays for JAX, as it is in neural-tangents."""

    def flattened(k: Kernel) -> tuple[Any, Any]:
        fields = k.asdict()
        return tuple(fields.pop(name) for name in NUMBERS), tuple(fields.items())

    def rebuilt(flags: Any, numbers: Any) -> Kernel:
        return Kernel(**dict(flags), **dict(zip(NUMBERS, numbers, strict=True)))

    sys.modules["jax"].tree_util.register_pytree_node(Kernel, flattened, rebuilt)
