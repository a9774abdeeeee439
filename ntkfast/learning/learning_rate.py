"""The learning rate up to which gradient descent on least squares converges."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.learning import checks
from ntkfast.support import arrays
from ntkfast.support.eigenvalues import largest_eigenvalue

__all__ = ["max_learning_rate"]


def max_learning_rate(K_xx: ArrayLike, *, n_threads: int | None = None) -> float:
    """2N/λ_max(K): with a smaller learning rate gradient descent on least squares along the kernel K converges.

    A step multiplies the component of the error along an eigenvector of K/N of eigenvalue λ by 1 - ηλ.

    Parameters
    ----------
    K_xx : array_like, shape (N, N) or (N, N, k, k)
        The tangent kernel of the training points: symmetric up to √eps of its largest entry, positive semi-definite.
        For k outputs all kernels Θ̂_kk' matter, as returned by `empirical_ntk` with outputs="full": only in the limit of
        wide networks is their mean the kernel of each output. Not as a matrix (N k, N k), whose N is unknown.
    n_threads : int, optional
        Of BLAS. Default: one for small work, else its own number.

    Returns
    -------
    float
        inf if K is 0.

    Raises
    ------
    TypeError, ValueError
        K_xx is not as described. Negative eigenvalues, along which no learning rate converges, are noticed only if all
        are negative.
    MemoryError
        A copy of K with its axes in the order of a matrix, which (N, N, k, k) needs, does not fit.

    See Also
    --------
    train : Steps with such a rate.
    empirical_ntk : The kernel of a network.
    LeastSquaresFlow.max_learning_rate : The same of a flow.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.max_learning_rate([[2.0, 0.0], [0.0, 1.0]])
    2.0
    """
    given = arrays.real(K_xx, "K_xx")
    shape = given.shape
    if given.ndim not in (2, 4) or shape[0] != shape[1] or shape[-2] != shape[-1] or not given.size:
        raise ValueError(f"K_xx: expected shape (N, N) or (N, N, k, k), got {shape}")
    K = checks.symmetric(checks.as_matrix(given, "K_xx") if given.ndim == 4 else given, "K_xx")
    if not K.any():
        return math.inf
    with threads.blas(n_threads, 20.0 * len(K) ** 2):
        largest = largest_eigenvalue(K)
    if largest <= 0:
        raise ValueError(
            f"K_xx: expected a positive semi-definite matrix, but its largest eigenvalue is {largest:.3g}: "
            "no learning rate converges"
        )
    return 2 * shape[0] / largest
