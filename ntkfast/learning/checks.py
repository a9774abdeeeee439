"""Checks of kernel matrices, targets and times. Every message names the argument, what was expected and what came."""

import contextlib

import numpy as np
import scipy

from ntkfast.support import arrays
from ntkfast.support.scalars import positive_integer

KERNELS = ("nngp", "ntk")


def largest(dtype):
    """The size up to which numbers are taken: the squares of a million of them add to what fits dtype."""
    return np.sqrt(np.finfo(dtype).max) / 2**10


def smallest(dtype):
    """The size from which on the largest entry of a kernel is taken: its square is a normal number."""
    return np.sqrt(np.finfo(dtype).tiny)


def finite(array, name):
    """The array; raise for its first entry that is not finite, or too large to compute with."""
    limit = largest(array.dtype)
    if not array.size or (array.min() >= -limit and array.max() <= limit):
        return array
    place = tuple(int(k) for k in np.argwhere(~(np.abs(array) <= limit))[0])
    what, hint = (
        (f"numbers up to {limit:.1e}", "; scale the data") if np.isfinite(array[place]) else ("finite numbers", "")
    )
    raise ValueError(f"{name}: expected {what} in {array.dtype}, got {array[place]} at index {place}{hint}")


@contextlib.contextmanager
def overflow(what):
    """Gives a function that returns the result it gets, or raises if that is not finite; warns of nothing else."""

    def fits(result):
        if not np.isfinite(result).all():
            raise ValueError(
                f"{what}: the result overflows {np.asarray(result).dtype}; scale the kernel or the targets"
            )
        return result

    with np.errstate(over="ignore", invalid="ignore"):
        yield fits


def count(value, name, most=2**31 - 1):
    """value as an integer from 1 to most."""
    value = positive_integer(value, name)
    if value > most:
        got = value if value < 2**63 else f"one of {value.bit_length()} bits"
        raise ValueError(f"{name}: expected an integer up to {most}, got {got}")
    return value


def kernel(name):
    """Raise unless it is the name of a kernel."""
    if not isinstance(name, str) or name not in KERNELS:
        got = repr(name) if isinstance(name, str) else type(name).__name__
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {got}")


def _real(K, name):
    if scipy.sparse.issparse(K):
        raise TypeError(f"{name}: expected a dense array, got a {type(K).__name__}; {name}.toarray() is one")
    return arrays.real(K, name)


def symmetric(K, name, n=None):
    """K as a symmetric float32 or float64 array (n, n), not copied if it is one.

    Entries may differ from their mirror images by √eps of the largest, as those of kernels do that a library computes
    twice; one triangle counts then.
    """
    K = _real(K, name)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        raise ValueError(f"{name}: expected a square matrix, got shape {K.shape}")
    if n is not None and len(K) != n:
        raise ValueError(f"{name}: expected shape ({n}, {n}) as of the other arguments, got {K.shape}")
    K = np.asarray(K, dtype=arrays.working_dtype(None, K))
    size, worst, place = 0.0, 0.0, (0, 0)
    parts = arrays.blocks(len(K))
    for k, rows in enumerate(parts):
        for columns in parts[k:]:
            block = K[rows, columns]
            with np.errstate(over="ignore", invalid="ignore"):
                gap = np.abs(block - K[columns, rows].T)
            size = max(size, block.max(), -block.min())
            if not gap.max() <= worst:  # a NaN too
                worst, (i, j) = gap.max(), np.unravel_index(gap.argmax(), gap.shape)
                place = int(i) + rows.start, int(j) + columns.start
            if not (np.isfinite(worst) and size <= largest(K.dtype)):
                finite(K, name)
    if worst > np.sqrt(np.finfo(K.dtype).eps) * size:
        i, j = place
        raise ValueError(
            f"{name}: expected a symmetric matrix, got {K[i, j]} at ({i}, {j}) and {K[j, i]} at ({j}, {i})"
        )
    if 0 < size < smallest(K.dtype):
        raise ValueError(
            f"{name}: expected 0 everywhere, or a largest entry of at least {smallest(K.dtype):.1e} in {K.dtype}, "
            f"got {size}; scale the data"
        )
    return K


def in_place(K, name):
    """Raise unless K can be factored where it stands."""
    if not isinstance(K, np.ndarray) or K.dtype not in arrays.DTYPES:
        what = f"dtype {K.dtype}" if isinstance(K, np.ndarray) else type(K).__name__
        raise TypeError(f"{name}: expected a float32 or float64 array to overwrite, got {what}")
    if not (K.flags.writeable and K.flags.aligned and (K.flags.c_contiguous or K.flags.f_contiguous)):
        raise ValueError(f"{name}: expected a writeable, contiguous array to overwrite, got a view or a read-only one")


def semi_definite(eigenvalues, name):
    """Eigenvalues (ascending), those up to a floor as 0, that floor, and the noise; raise if one is below -√eps λ_1.

    The floor is N eps of the largest, the backward error of the decomposition. Kernel entries may be known to less, to
    half of their digits for near duplicates: as far as that made eigenvalues negative, it made others positive. Twice
    the most negative one is the noise, and a floor if it is more.
    """
    largest = max(eigenvalues[-1], 0)
    eps = np.finfo(eigenvalues.dtype).eps
    if eigenvalues[0] < -np.sqrt(eps) * largest:
        raise ValueError(not_definite(name, eigenvalues[0], "semi-definite"))
    noise = max(-2 * eigenvalues[0], 0)
    floor = max(len(eigenvalues) * eps * largest, noise)
    return np.where(eigenvalues > floor, eigenvalues, 0), floor, noise


def not_definite(name, smallest, what, rounding=0.0):
    return (
        f"{name}: expected a positive {what} matrix, its smallest eigenvalue is {smallest:.3g}; a ridge on the "
        f"diagonal larger than {max(0, -smallest, rounding):.2g} makes it so"
    )


def matrix(K, name, shape, dtype):
    """K as a finite matrix of this dtype; None in the shape stands for any size."""
    K = _real(K, name)
    if K.ndim != 2 or any(want not in (None, got) for want, got in zip(shape, K.shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {K.shape}")
    with np.errstate(over="ignore"):  # beyond float32: reported as not finite
        K = np.asarray(K, dtype=dtype)
    return finite(K, name)


def columns(values, n, name, dtype, n_columns=None):
    """values, shape (n,) or (n, k), as (n, k), and whether they came as (n,)."""
    values = arrays.real(values, name)
    if values.ndim not in (1, 2) or len(values) != n or not values.size:
        raise ValueError(f"{name}: expected shape ({n},) or ({n}, outputs), got {values.shape}")
    flat = values.ndim == 1
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=dtype)  # a copy: what the caller does later is his
    array = finite(array, name).reshape(n, -1)
    if n_columns is not None and array.shape[1] != n_columns:
        raise ValueError(f"{name}: expected {n_columns} outputs as in y, got shape {values.shape}")
    return array, flat


def variances(values, name, n):
    """values as a float64 array of shape (n,)."""
    array, flat = columns(values, n, name, np.float64)
    if not flat:
        raise ValueError(f"{name}: expected shape ({n},), got {np.shape(values)}")
    return array[:, 0]


def unexplained(prior, W, name, seen):
    """prior - Wᵀ W, (m, m) and symmetric, or its diagonal (m,), not negative: what data leave of a (co)variance.

    Raise where they explain more than there is, far beyond rounding: the kernels do not belong together then.
    """
    total = prior.diagonal() if prior.ndim == 2 else prior
    with np.errstate(over="ignore"):
        rest = total - np.einsum("ij,ij->j", W, W)
    worst = int(rest.argmin())
    if rest[worst] < -1e-3 * np.abs(total).max():
        raise ValueError(
            f"{name}: {total[worst]:.6g} of point {worst} is less than what the data explain of it; is it of the same "
            f"kernel as {seen}?"
        )
    if prior.ndim == 1:
        return np.maximum(rest, 0)
    with overflow("covariance") as fits:
        C = fits(prior - W.T @ W)
    return (C + C.T) / 2


def times(t, name="t", infinite=True):
    """t as a 1-D float64 array of numbers >= 0, and whether it came as one number."""
    array = arrays.real(t, name)
    if array.dtype.kind == "b":
        raise TypeError(f"{name}: expected real numbers, got dtype bool")
    array = array.astype(np.float64)
    if array.ndim > 1 or not array.size:
        raise ValueError(f"{name}: expected a number or a list of numbers, got shape {array.shape}")
    good = array >= 0 if infinite else (array >= 0) & np.isfinite(array)
    if not good.all():
        kind = "numbers" if infinite else "finite numbers"
        raise ValueError(f"{name}: expected {kind} >= 0, got {array[~good].flat[0]}")
    return np.atleast_1d(array), array.ndim == 0
