"""Checks of kernel matrices, targets and times. Every message names the argument, what was expected and what came."""

import numpy as np

from ntkfast.engine import arrays

BLOCK = 256  # rows and columns looked at together: nothing of size N×N beside the matrix


def blocks(n):
    """Slices that cut range(n) into blocks."""
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def finite(array, name):
    """The array; raise for its first entry that is not finite."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(k) for k in bad[0])
        raise ValueError(f"{name}: expected finite numbers, got {array[place]} at index {place}")
    return array


def symmetric(K, name, n=None):
    """K as a symmetric float32 or float64 array (n, n), not copied if it is one.

    Entries may differ from their mirror images by √eps of the diagonal, as those of kernels do that a library computes
    twice; one triangle counts then.
    """
    K = arrays.real(K, name)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        raise ValueError(f"{name}: expected a square matrix, got shape {K.shape}")
    if n is not None and len(K) != n:
        raise ValueError(f"{name}: expected shape ({n}, {n}) as of the other arguments, got {K.shape}")
    K = np.asarray(K, dtype=arrays.working_dtype(None, K))
    tolerance = np.sqrt(np.finfo(K.dtype).eps) * np.abs(K.diagonal()).max()
    parts = blocks(len(K))
    for k, rows in enumerate(parts):
        for columns in parts[k:]:
            with np.errstate(invalid="ignore"):
                gap = np.abs(K[rows, columns] - K[columns, rows].T)
            if gap.max() <= tolerance:
                continue
            finite(K, name)
            i, j = np.unravel_index(gap.argmax(), gap.shape)
            i, j = i + rows.start, j + columns.start
            raise ValueError(
                f"{name}: expected a symmetric matrix, got {K[i, j]} at ({i}, {j}) and {K[j, i]} at ({j}, {i})"
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
        f"diagonal larger than {max(-smallest, rounding):.2g} makes it so"
    )


def matrix(K, name, shape, dtype):
    """K as a finite matrix of this dtype; None in the shape stands for any size."""
    K = arrays.real(K, name)
    if K.ndim != 2 or any(want not in (None, got) for want, got in zip(shape, K.shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {K.shape}")
    return finite(np.asarray(K, dtype=dtype), name)


def columns(values, n, name, dtype, n_columns=None):
    """values, shape (n,) or (n, k), as (n, k), and whether they came as (n,)."""
    values = arrays.real(values, name)
    if values.ndim not in (1, 2) or len(values) != n or not values.size:
        raise ValueError(f"{name}: expected shape ({n},) or ({n}, outputs), got {values.shape}")
    flat = values.ndim == 1
    array = finite(np.array(values, dtype=dtype), name).reshape(n, -1)  # a copy: what the caller does later is his
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
    rest = total - np.einsum("ij,ij->j", W, W)
    worst = int(rest.argmin())
    if rest[worst] < -1e-3 * np.abs(total).max():
        raise ValueError(
            f"{name}: {total[worst]:.6g} of point {worst} is less than what the data explain of it; is it of the same "
            f"kernel as {seen}?"
        )
    if prior.ndim == 1:
        return np.maximum(rest, 0)
    C = prior - W.T @ W
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
