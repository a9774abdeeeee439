"""A limit kernel as a linear operator: products with vectors, and no matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.sparse.linalg import LinearOperator

from ntkfast.engine import outputs
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.support import arrays
from ntkfast.support.progress import check
from ntkfast.support.typing import Array, KernelName, Progress

__all__ = ["KernelOperator"]


class KernelOperator(LinearOperator):  # type: ignore[misc]  # SciPy has no types
    """The matrix K(x_i, y_j) of a limit kernel as a `scipy.sparse.linalg.LinearOperator`.

    A product computes the entries of K tile by tile, as `ntk` does, and multiplies them with all vectors at once while
    they are in cache: apart from the points and a table of a few numbers for each point, nothing is kept. One pass
    serves a block of vectors, so `K @ V` is far cheaper than its columns one by one. Each pair of a symmetric K is
    computed once and used twice. Sums are accumulated in float64 whatever the dtype of K, in an order that does not
    depend on the number of threads.

    Parameters
    ----------
    net : Network
        The network.
    X : array_like, shape (n, d)
        Points, one per row.
    Y : array_like, shape (m, d), optional
        Default: X. Neither is copied if it has the dtype of the kernel: leave them as they are.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : {float32, float64}, optional
        Of the entries, as in `ntk`.
    n_threads : int, optional
        As in `ntk`.
    progress : bool or callable, optional
        Of each product, as in `ntk`.

    Attributes
    ----------
    shape : (int, int)
        (n, m).
    dtype : numpy.dtype
        A product with float32 vectors is float32 if K is, any other is float64.
    T, H : KernelOperator
        The transpose: the operator itself if it is symmetric, else that of Y with X.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    See Also
    --------
    ntk : The matrix.
    solve : (K + αI)⁻¹ y by conjugate gradients on such an operator.
    GaussianProcess : Regression with such an operator.
    kernel_pca : Its principal components.
    ntkfast.store.compute : A matrix on disk instead.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from scipy.sparse.linalg import cg
    >>> net, X = nf.MLP(depth=3, bias_std=0.1), np.random.default_rng(0).normal(size=(50, 4))
    >>> K = nf.KernelOperator(net, X)
    >>> alpha, info = cg(K, X[:, 0], rtol=1e-10)
    >>> bool(np.allclose(nf.ntk(net, X) @ alpha, X[:, 0])), K[:2].shape, K.diagonal().shape
    (True, (2, 50), (50,))
    """

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        kernel: KernelName = "ntk",
        *,
        dtype: DTypeLike | None = None,
        n_threads: int | None = None,
        progress: Progress = None,
    ) -> None:
        self.kernel = outputs.kernel(kernel)
        check(progress)
        self.progress = progress
        self._problem = Problem(net, X, Y, dtype=dtype, n_threads=n_threads)
        self._problem.load()
        super().__init__(self._problem.dtype, self._problem.shape)

    def _of(self, problem: Problem) -> KernelOperator:
        other = object.__new__(type(self))
        other.kernel, other.progress, other._problem = self.kernel, self.progress, problem
        LinearOperator.__init__(other, problem.dtype, problem.shape)
        return other

    def _matmat(self, V: ArrayLike) -> Array:
        V = arrays.real(V, "V")
        return arrays.in_dtype_of_product(self._product(V), self.dtype, V.dtype)

    def _product(self, V: Array) -> Array:
        """In float64."""
        return self._problem.product(self.kernel, V, self.progress)

    def _matvec(self, v: ArrayLike) -> Array:
        return self._matmat(np.reshape(v, (-1, 1)))

    def _adjoint(self) -> KernelOperator:
        return self if self._problem.symmetric else self._of(self._problem.transposed())

    _transpose = _adjoint

    def diagonal(self) -> Array:
        """K(x_i, x_i) of every point, of a symmetric operator.

        Returns
        -------
        ndarray, shape (n,)
            As `ntkfast.diagonal`.

        Raises
        ------
        ValueError
            The operator is of two sets of points.

        See Also
        --------
        diagonal : The same without an operator.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.KernelOperator(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]]).diagonal()
        array([0.5, 2. ])
        """
        if not self._problem.symmetric:
            raise ValueError("diagonal: expected the operator of X with itself, got one with two sets of points")
        return self._problem.diagonals((self.kernel,), show=self.progress)[0]

    def __getitem__(self, rows: Any) -> Array:
        """Rows of the matrix, shape (k, m); (m,) for a single index.

        Parameters
        ----------
        rows : int, slice, or array_like of int or bool
            As NumPy takes them along one axis.
        """
        index = np.arange(self.shape[0])[rows]
        chosen = np.atleast_1d(index)
        if chosen.ndim != 1:
            raise IndexError(f"rows: expected one axis of indices, got shape {chosen.shape}")
        if not chosen.size:  # the engine takes at least one point
            return np.empty((0, self.shape[1]), self.dtype)
        block = self._problem.rows(chosen).matrices((self.kernel,), show=self.progress)[0]
        if self._problem.symmetric:  # a point with itself: exact, as in the whole matrix
            block[np.arange(len(chosen)), chosen] = self.diagonal()[chosen]
        return block[0] if index.ndim == 0 else block

    def columns(self, indices: Any) -> Array:
        """Columns of the matrix, computed anew with each call.

        Parameters
        ----------
        indices : int, slice, or array_like of int or bool
            As NumPy takes them along one axis.

        Returns
        -------
        ndarray, shape (n, k); (n,) for a single index
            K(x_i, y_j) for the chosen j.

        Raises
        ------
        IndexError
            The indices are not of one axis, or are out of range.

        See Also
        --------
        KernelOperator.diagonal : The entries of points with themselves.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.KernelOperator(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]]).columns([1]).shape
        (2, 1)
        """
        return self._adjoint()[indices].T
