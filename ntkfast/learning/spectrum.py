"""Kernel principal components: eigenfunctions of f ↦ (1/N) Σ_j K(·, x_j) f(x_j), from a matrix or from products."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.learning import checks, pieces
from ntkfast.learning.definiteness import semi_definite
from ntkfast.learning.factor import eigenpairs, fortran
from ntkfast.support import arrays, reprs
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.scalars import generator, positive_number
from ntkfast.support.typing import Array, Seed

__all__ = ["KernelPCA", "kernel_pca"]

METHODS = ("auto", "lapack", "krylov", "lanczos", "lobpcg", "power")
WITHOUT_MEMORY = (  # ends the error about a decomposition that does not fit
    "; fewer components with method='lanczos' or 'krylov', also of a KernelOperator, need only products"
)
SMALL = 500  # matrices up to this size are decomposed whole
BLOCKS = 8  # of a block Krylov space, after which it starts anew from the best vectors in it
EXTRA = 8  # vectors of a block beyond those wanted: convergence depends on the eigenvalue after them

Product: TypeAlias = Callable[[Array], Array]  # B ↦ K B, (n, q)


@dataclass(frozen=True)
class KernelPCA(Saved):
    """What `kernel_pca` finds.

    Attributes
    ----------
    eigenvalues : ndarray, shape (k,)
        λ_i of K/N, largest first: the variance along each component.
    eigenfunctions : ndarray, shape (N, k)
        f^(i) on the data, orthonormal in ⟨f, g⟩ = (1/N) Σ_j f(x_j) g(x_j). The entry of largest absolute value (the
        first of them) is positive.
    residuals : ndarray, shape (k,)
        ‖K f^(i)/N - λ_i f^(i)‖_pin: some eigenvalue of K/N is within this of λ_i.
    trace : float or None
        tr K/N, the total variance; None for an operator without a method `diagonal`, unless it was given.
    centered : bool
        Whether the mean feature was subtracted.
    method : str
        The method used.
    explained : ndarray, shape (k,)
        λ_i/tr(K/N), the share of each component in the variance.

    See Also
    --------
    kernel_pca : Makes it.
    ntkfast.plotting.plot_plane : Draws points in the plane of two components.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.kernel_pca([[2.0, 1.0], [1.0, 2.0]], 1).eigenvalues
    array([1.5])
    """

    eigenvalues: Array
    eigenfunctions: Array
    residuals: Array
    trace: float | None
    centered: bool
    method: str
    _means: Array = field(repr=False)  # (1/N) 1ᵀ K f^(i), if centered

    __repr__ = reprs.short

    @classmethod
    def rebuilt(
        cls,
        eigenvalues: Any,
        eigenfunctions: Any,
        residuals: Any,
        trace: Any,
        centered: Any,
        method: Any,
        _means: Any,
    ) -> KernelPCA:
        eigenvalues = checked_array(eigenvalues, (None,), "eigenvalues")
        k, dtype = eigenvalues.shape, eigenvalues.dtype
        eigenfunctions = checked_array(eigenfunctions, (None, *k), "eigenfunctions", dtype)
        residuals, means = checked_array(residuals, k, "residuals"), checked_array(_means, k, "means", dtype)
        trace = None if trace is None else checked(trace, float, "trace")
        centered, method = checked(centered, bool, "centered"), checked(method, str, "method")
        return cls(eigenvalues, eigenfunctions, residuals, trace, centered, method, means)

    @property
    def explained(self) -> Array:
        """λ_i/tr(K/N), the share of each component in the variance, (k,); 0 if there is no variance."""
        if self.trace is None:
            raise ValueError("trace: unknown for an operator; pass trace= to kernel_pca for explained shares")
        return self.eigenvalues / self.trace if self.trace > 0 else np.zeros_like(self.eigenvalues)

    def transform(self, K_tx: ArrayLike) -> Array:
        """The eigenfunctions at new points (Nyström): f^(i)(x) = (1/(N λ_i)) Σ_j K(x, x_j) f^(i)(x_j).

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
            K(x, X), not centred, even if the components are.

        Returns
        -------
        ndarray, shape (m, k)
            f^(i)(x), one column for each component.

        Raises
        ------
        ValueError
            An eigenvalue is 0 to rounding: its eigenfunction has no extension.

        See Also
        --------
        LeastSquaresFlow.components : An error along the eigenfunctions.
        kernel_pca : Makes the components.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.kernel_pca([[2.0, 1.0], [1.0, 2.0]], 2).transform([[2.0, 1.0]]).round(3)
        array([[1., 1.]])
        """
        n, k = self.eigenfunctions.shape
        cross = checks.matrix(K_tx, "K_tx", (None, n), self.eigenfunctions.dtype)
        zero = np.flatnonzero(self.eigenvalues <= n * np.finfo(self.eigenvalues.dtype).eps * self.eigenvalues[0])
        if len(zero):
            raise ValueError(
                f"component {zero[0] + 1} of {k}: its eigenvalue {self.eigenvalues[zero[0]]:.3g} is 0 to rounding, so "
                "that it has no extension; request fewer components"
            )
        values: Array = (cross @ self.eigenfunctions - self._means) / (n * self.eigenvalues)
        return values


def kernel_pca(
    K_xx: ArrayLike | scipy.sparse.linalg.LinearOperator,
    n_components: int,
    *,
    method: str = "auto",
    centered: bool = False,
    trace: float | None = None,
    tol: float = 1e-10,
    max_iterations: int = 5000,
    rng: Seed = None,
    n_threads: int | None = None,
) -> KernelPCA:
    """The largest kernel principal components of the data.

    They are the eigenfunctions of Π: f ↦ (1/N) Σ_j K(·, x_j) f(x_j), along which gradient descent converges like
    e^{-tλ_i} (Jacot, Gabriel and Hongler 2018, section 5).

    Parameters
    ----------
    K_xx : array_like or scipy.sparse.linalg.LinearOperator, shape (N, N)
        K on the data, symmetric and positive semi-definite. Only the requested components are checked, so that a
        negative eigenvalue is certain to be found only if all N are requested. float32 gives float32 results,
        everything else float64.
    n_components : int
        k <= N; below N for an operator.
    method : {"auto", "lapack", "krylov", "lanczos", "lobpcg", "power"}
        "lapack" decomposes the matrix (syevd or syevr). The others need only products: "lanczos" with one vector
        at a time (ARPACK); "krylov" (block Lanczos: Rayleigh-Ritz in the span of V, KV, K²V, …; Golub and Underwood
        1977), "lobpcg" and "power" (simultaneous iteration with Rayleigh-Ritz, the paper's method for more than one
        component) with blocks of k or k + 8 vectors, for which a product with an operator takes hardly longer than for
        one. krylov keeps up to 16 such blocks. lobpcg is replaced by power if N < 5 k, krylov by lanczos if
        N < 4 (k + 8). "auto" is lapack for a matrix of N <= 500 or k > N/10, lanczos for larger ones, and krylov for an
        operator.
    centered : bool
        Subtract the mean feature: the components of H K H, H = I - 11ᵀ/N. The paper does not.
    trace : float, optional
        tr K > 0 of an operator, for `KernelPCA.explained`.
    tol : float
        Residual at which iterations stop, relative to λ_1; at least 1e-5 in float32.
    max_iterations : int
        After which an iteration that has not converged is an error.
    rng : None, int or numpy.random.Generator
        For the starting vectors of the iterations.
    n_threads : int, optional
        Of BLAS; an operator has threads of its own. Default: one for small work, else BLAS's own number.

    Returns
    -------
    KernelPCA
        Eigenvalues, eigenfunctions, and what is needed for new points.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.
    MemoryError
        "lapack": a copy of the matrix and the eigenvectors do not fit. Nothing of the matrix is read before that.
    numpy.linalg.LinAlgError
        The iteration did not converge; the message reports its progress.

    See Also
    --------
    LeastSquaresFlow.eigenfunctions : All of them, of a flow.
    KernelOperator : An operator for it.
    ntkfast.plotting.plot_spectrum : Draws eigenvalues.
    ntkfast.plotting.plot_plane : Draws components.

    Examples
    --------
    >>> import ntkfast as nf
    >>> pca = nf.kernel_pca([[2.0, 1.0], [1.0, 2.0]], 2)
    >>> pca.eigenvalues, pca.explained
    (array([1.5, 0.5]), array([0.75, 0.25]))
    >>> pca.eigenfunctions
    array([[ 1.,  1.],
           [ 1., -1.]])
    >>> pca.transform([[1.0, 2.0]]).round(3)
    array([[ 1., -1.]])
    """
    is_operator = isinstance(K_xx, scipy.sparse.linalg.LinearOperator)
    K: Any = checks.operator(K_xx) if is_operator else checks.square(K_xx, "K_xx")
    n, dtype = K.shape[0], arrays.DTYPES[0] if K.dtype == arrays.DTYPES[0] else arrays.DTYPES[1]
    k = checks.count(n_components, "n_components")
    if k > n - is_operator:
        raise ValueError(f"n_components: expected at most {n - is_operator} for {n} points, got {k}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    tol = max(positive_number(tol, "tol"), 1e-5 if dtype == arrays.DTYPES[0] else 0)
    max_iterations = checks.count(max_iterations, "max_iterations")
    rng = generator(rng)
    if method == "auto":
        small = n <= SMALL or k > n / 10
        method = "krylov" if is_operator else "lapack" if small else "lanczos"
    if method == "lapack" and is_operator:
        raise ValueError("method: expected one that needs only products for an operator, got 'lapack'")
    if method != "lapack" and k == n:
        raise ValueError(f"n_components: expected fewer than {n} for method {method!r}, got {k}")
    if method == "lobpcg" and n < 5 * k:  # where SciPy would switch to a dense solver
        method = "power"
    if method == "krylov" and n < 4 * (k + EXTRA):  # too few blocks
        method = "lanczos"
    if not is_operator:
        if method == "lapack":
            checks.require_factor(K, "K_xx", WITHOUT_MEMORY, 1 + k / n)
        K = checks.symmetric(K, "K_xx")
    with threads.blas(n_threads, float(n) ** 3 if method == "lapack" else 2.0 * n * n * (k + EXTRA)):
        return _components(K, k, method, bool(centered), trace, tol, max_iterations, rng)


def _components(
    K: Any,
    k: int,
    method: str,
    centered: bool,
    trace: float | None,
    tol: float,
    max_iterations: int,
    rng: np.random.Generator,
) -> KernelPCA:
    """The result for checked arguments."""
    is_operator, n = not isinstance(K, np.ndarray), K.shape[0]
    dtype = arrays.DTYPES[0] if K.dtype == arrays.DTYPES[0] else arrays.DTYPES[1]
    product = _product(K, centered)
    if method == "lapack":
        values, vectors = _lapack(K, k, centered)
    else:
        start = rng.standard_normal((n, min(k + EXTRA, n))).astype(dtype)
        values, vectors = ITERATIONS[method](product, start, k, tol, max_iterations)
    semi_definite(values[::-1], "K_xx")
    arrays.fix_signs(vectors)
    residuals = np.linalg.norm(product(vectors) - vectors * values, axis=0) / n
    total = _trace(K, trace, is_operator, centered)
    functions = vectors * np.sqrt(dtype.type(n))
    means = np.ones(n, dtype) @ _times(K, functions) / n if centered else np.zeros(k, dtype)
    return KernelPCA(values / n, functions, residuals, total, centered, method, means)


def _times(K: Any, B: Array) -> Array:
    return pieces.product(K, B) if isinstance(K, np.ndarray) else np.asarray(K.matmat(B))


def _product(K: Any, centered: bool) -> Product:
    """B ↦ K B or H K H B, (n, q)."""

    def product(B: Array) -> Array:
        if centered:
            B = B - B.mean(axis=0)
        result = _times(K, B)
        return result - result.mean(axis=0) if centered else result

    return product


def _trace(K: Any, trace: float | None, is_operator: bool, centered: bool) -> float | None:
    n = K.shape[0]
    if trace is not None and not is_operator:
        raise TypeError("trace: expected only with an operator, got it with a matrix")
    if trace is not None:
        total = positive_number(trace, "trace")
    else:
        try:
            total = float(K.diagonal().sum(dtype=np.float64))
        except (AttributeError, ValueError):  # an operator without a diagonal
            return None
    if centered:
        mean = float(_times(K, np.ones((n, 1), K.dtype)).sum(dtype=np.float64)) / n
        total = total - mean if total - mean > n * checks.eps(K) * total else 0.0  # no variance beyond rounding
    return float(total / n)


def _lapack(K: Array, k: int, centered: bool) -> tuple[Array, Array]:
    A = fortran(K, False, "an eigendecomposition")
    if centered:
        mean = A.mean(axis=0)
        A -= mean
        A -= mean[:, None] - mean.mean()
    values, vectors = eigenpairs(A, k)
    return values[::-1], np.ascontiguousarray(vectors[:, ::-1])


def _lanczos(product: Product, start: Array, k: int, tol: float, max_iterations: int) -> tuple[Array, Array]:
    n, dtype = len(start), start.dtype
    if not product(start[:, :1]).any():  # ARPACK fails on 0
        return np.zeros(k, dtype), np.linalg.qr(start[:, :k])[0]
    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=lambda v: product(v.reshape(n, 1))[:, 0], dtype=dtype)
    try:
        values, vectors = scipy.sparse.linalg.eigsh(
            operator, k, which="LA", v0=start[:, 0], tol=tol, maxiter=max_iterations
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        raise _not_converged("lanczos", f"{len(error.eigenvalues)} of {k} components converged") from None
    except scipy.sparse.linalg.ArpackError as error:
        raise _not_converged("lanczos", str(error)) from None
    return values[::-1], np.ascontiguousarray(vectors[:, ::-1])


def _lobpcg(product: Product, start: Array, k: int, tol: float, max_iterations: int) -> tuple[Array, Array]:
    n, start = len(start), start[:, :k]  # SciPy iterates until the whole block has converged
    operator = scipy.sparse.linalg.LinearOperator(
        (n, n), matvec=lambda v: product(v.reshape(n, 1))[:, 0], matmat=product, dtype=start.dtype
    )
    largest = _rayleigh_ritz(product, np.linalg.qr(product(start))[0])[0][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it did not converge, which is checked below
        _, vectors = scipy.sparse.linalg.lobpcg(
            operator, start, largest=True, tol=tol * abs(largest) / 2, maxiter=max_iterations
        )
    values, vectors, _, residual = _rayleigh_ritz(product, np.linalg.qr(vectors)[0])
    _require(residual[:k].max(), tol * abs(values[0]), "lobpcg")
    return values[:k], np.ascontiguousarray(vectors[:, :k])


def _krylov(product: Product, start: Array, k: int, tol: float, max_iterations: int) -> tuple[Array, Array]:
    n, size = start.shape
    most = min(BLOCKS, n // size) * size
    basis = np.linalg.qr(start)[0]
    images = product(basis)
    for _ in range(max_iterations):
        values, vectors, found, residual = _in_span(basis, images, size)
        if residual[:k].max() <= tol * abs(values[0]):
            break
        if basis.shape[1] + size > most:  # errors of the images and of orthogonality would add up
            basis = np.linalg.qr(vectors)[0]
            images = product(basis)
            continue
        block = found - vectors * values
        for _ in range(2):  # once loses orthogonality to rounding
            block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
        basis = np.concatenate([basis, block], axis=1)
        images = np.concatenate([images, product(block)], axis=1)
    _require(residual[:k].max(), tol * abs(values[0]), "krylov")
    return values[:k], np.ascontiguousarray(vectors[:, :k])


def _power(product: Product, start: Array, k: int, tol: float, max_iterations: int) -> tuple[Array, Array]:
    vectors = np.linalg.qr(start)[0]
    for _ in range(max_iterations):
        values, vectors, images, residual = _rayleigh_ritz(product, vectors)
        if residual[:k].max() <= tol * abs(values[0]):
            break
        vectors = np.linalg.qr(images)[0]
    _require(residual[:k].max(), tol * abs(values[0]), "power")
    return values[:k], np.ascontiguousarray(vectors[:, :k])


ITERATIONS = {"krylov": _krylov, "lanczos": _lanczos, "lobpcg": _lobpcg, "power": _power}


def _rayleigh_ritz(product: Product, Q: Array) -> tuple[Array, Array, Array, Array]:
    """Eigenvalues (largest first) and eigenvectors in the span of the orthonormal Q, their images, and residuals."""
    return _in_span(Q, product(Q), Q.shape[1])


def _in_span(Q: Array, images: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """The same for the largest eigenvalues, from K Q."""
    small = Q.T @ images
    values, rotation = scipy.linalg.eigh((small + small.T) / 2)
    values, rotation = values[::-1][:size], rotation[:, ::-1][:, :size]
    vectors, images = Q @ rotation, images @ rotation
    return values, vectors, images, np.linalg.norm(images - vectors * values, axis=0)


def _require(residual: float, tolerance: float, method: str) -> None:
    if not residual <= tolerance:
        raise _not_converged(method, f"the residual is {residual:.2g}, expected at most {tolerance:.2g}")


def _not_converged(method: str, reached: str) -> np.linalg.LinAlgError:
    return np.linalg.LinAlgError(f"kernel_pca: {method} did not converge: {reached}; raise max_iterations or tol")
