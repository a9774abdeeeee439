"""Gaussian-process inference with a given kernel matrix; its mean is kernel ridge regression with the noise as ridge.

Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", chapters 2 and 5.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import scipy
from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.learning import checks, outputs, pieces
from ntkfast.learning.definiteness import inaccurate, singular, unexplained
from ntkfast.learning.factor import Cholesky, attempt, fortran
from ntkfast.learning.outputs import Outputs
from ntkfast.learning.percentiles import bands, quantiles
from ntkfast.learning.solvers.iterative import IteratedFactor
from ntkfast.support import arrays, reprs
from ntkfast.support import memory as bytes_of
from ntkfast.support.progress import check
from ntkfast.support.saved import Saved, checked
from ntkfast.support.scalars import generator, non_negative_number, positive_integer, positive_number
from ntkfast.support.typing import Array, Memory, Progress, Seed

__all__ = ["GaussianProcess", "LeaveOneOut", "MarginalLikelihood", "log_marginal_likelihood"]

WITHOUT_MEMORY = (  # ends the error about a kernel whose factor does not fit
    "; overwrite=True factors it in its own memory; a KernelOperator or a GramStore in its place is not factored, and "
    "NystromRegression needs no matrix"
)


class LeaveOneOut(NamedTuple):
    """What `GaussianProcess.leave_one_out` returns: each target predicted from all others.

    Attributes
    ----------
    mean : ndarray, the shape of y
        The predictions.
    variance : ndarray, shape (N,), or (N, k) for coupled outputs
        Of the target that was left out, its noise included.

    See Also
    --------
    GaussianProcess.leave_one_out : Makes it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.GaussianProcess([[1.0, 0.5], [0.5, 1.0]], [1.0, 2.0]).leave_one_out().variance
    array([0.75, 0.75])
    """

    mean: Array
    variance: Array

    def __repr__(self) -> str:
        return reprs.short(self)


class MarginalLikelihood(NamedTuple):
    """A log marginal likelihood with its derivatives.

    Attributes
    ----------
    value : float
        log p(y).
    gradient : ndarray, shape (p,)
        The derivatives with respect to the parameters of the kernel.
    noise_gradient : float
        The derivative with respect to the noise variance.

    See Also
    --------
    log_marginal_likelihood : Makes it, of given matrices of derivatives.
    network_likelihood : Makes it, of a network.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> nf.log_marginal_likelihood(np.eye(2), [0.0, 2.0], gradients=[np.eye(2)]).noise_gradient
    1.0
    """

    value: float
    gradient: Array
    noise_gradient: float

    def __repr__(self) -> str:
        return reprs.short(self)


class GaussianProcess(Saved):
    """f ~ GP(0, K) observed at N points with independent noise: y = f(X) + ε, ε ~ N(0, σ²).

    With K_σ = K + σ² I = L Lᵀ and the dual coefficients a = K_σ⁻¹ y,

        E f(x) = K(x, X) a,    cov = K(x, x') - K(x, X) K_σ⁻¹ K(X, x')

    (Rasmussen and Williams 2006, equations 2.23 and 2.24). The mean is kernel ridge regression: it minimises
    Σ_i (f(x_i) - y_i)² + σ² ‖f‖²_K.

    Which kernel: the NNGP kernel Σ (`ntkfast.nngp`), the prior of an infinitely wide network, for Bayesian inference
    with that network; at σ² = 0, training its last layer alone from random parameters draws samples from the posterior.
    With the NTK Θ (`ntkfast.ntk`) the mean is that of training all layers, with the ridge in place of early stopping,
    but the variance is not: for that, `LeastSquaresFlow` combines Θ with Σ. K_xx, K_tx, K_tt and K_t must all be of the
    same kernel.

    Parameters
    ----------
    K_xx : array_like, shape (N, N) or (N, N, k, k), KernelOperator or scipy.sparse.linalg.LinearOperator
        Only its Cholesky factor is kept. float32 gives float32 results, everything else float64. An operator, such as a
        `KernelOperator` or an `ntkfast.store.GramStore`, is not factored: dual coefficients and the columns of
        K_σ⁻¹ K(X, x) come from the conjugate gradients of `ntkfast.solve`, all columns of up to 256 new points
        in one pass per iteration. It yields means, variances and covariances, in float64.
    y : array_like, shape (N,) or (N, outputs)
        Outputs are independent and share the kernel (N, N). A kernel (N, N, k, k), which may be given as a matrix
        (N k, N k) with output a of point i in row i k + a, couples the k outputs: other kernels then have two axes of
        outputs more, too, variances one (and K_t is (m, k)).
    noise : float
        σ² >= 0, the noise variance, which is the ridge.
    overwrite : bool
        Work in the memory of K_xx; its contents are lost.
    tol : float
        Of an operator: the residual of the iterations, relative to its column. Variances come out too large, by its
        square.
    rng : None, int or numpy.random.Generator
        Of an operator: for the columns of the preconditioner.
    n_threads : int, optional
        Of BLAS, here and in the methods. Default: one for small work (N below some 1200), else BLAS's own number.
    progress : bool or callable, optional
        Of an operator's iterations.
    memory : int or str, optional
        Of an operator: bytes for the preconditioner and the vectors; default: what is available.

    Attributes
    ----------
    dual_coefficients : ndarray, the shape of y
        a = K_σ⁻¹ y.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    MemoryError
        The Cholesky factor does not fit. Nothing of K_xx is read before that.
    numpy.linalg.LinAlgError
        K + σ² I is not positive definite beyond rounding; the message gives its smallest eigenvalue, or a
        bound from a few Lanczos steps above 500 points.

    Warns
    -----
    UserWarning
        K is float32, and its errors (some 2e-6 of the diagonal per entry) are larger than its smallest eigenvalue and
        the noise: deep kernels are best computed in float64. Or the iterations for an operator ended before tol was
        reached; the message reports the residual.

    See Also
    --------
    LeastSquaresFlow : Training of all layers until a time t, with its uncertainty.
    NystromRegression : The same for a million points.
    solve : Dual coefficients alone, by the method that suits K.
    fit_hyperparameters : weight_std, bias_std and noise of largest likelihood.
    ntkfast.sklearn.NTKRegressor : The same as an estimator of scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=3, activation="erf", bias_std=0.1)
    >>> X, T = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([[0.6, 0.8]])
    >>> gp = nf.GaussianProcess(nf.nngp(net, X), [1.0, 0.0, 2.0], noise=0.01)
    >>> gp.mean(nf.nngp(net, T, X)).round(3)
    array([0.035])
    >>> gp.variance(nf.nngp(net, T, X), nf.diagonal(net, T, "nngp")).round(4)
    array([0.0261])
    >>> ridge = nf.GaussianProcess(nf.ntk(net, X), [1.0, 0.0, 2.0], noise=0.01)
    >>> ridge.mean(nf.ntk(net, T, X)).round(3)
    array([0.086])

    Of many points, without a matrix:

    >>> X = np.random.default_rng(0).standard_normal((2000, 3))
    >>> gp = nf.GaussianProcess(nf.KernelOperator(net, X, kernel="nngp"), X[:, 0], noise=0.1, rng=0)
    >>> gp.predict(nf.nngp(net, X[:2], X), nf.diagonal(net, X[:2], "nngp"), return_std=True)[1].shape
    (2,)
    """

    def __init__(
        self,
        K_xx: ArrayLike | scipy.sparse.linalg.LinearOperator,
        y: ArrayLike,
        *,
        noise: float = 0.0,
        overwrite: bool = False,
        tol: float = 1e-8,
        rng: Seed = None,
        n_threads: int | None = None,
        progress: Progress = None,
        memory: Memory = None,
    ) -> None:
        tol, rng = positive_number(tol, "tol"), generator(rng)
        check(progress)
        free = bytes_of.allowed(memory)
        if isinstance(K_xx, scipy.sparse.linalg.LinearOperator):
            if overwrite:
                checks.in_place(K_xx, "K_xx")
            self._iterate(checks.operator(K_xx), y, noise, tol, rng, n_threads, progress, free)
            return
        if overwrite:
            checks.in_place(K_xx, "K_xx")
        K, n = outputs.kernel(K_xx, "K_xx", bool(overwrite), WITHOUT_MEMORY)
        K = fortran(K, overwrite, "a Cholesky factor")
        self._outputs = Outputs.of(K, np.shape(y), n)
        self._n = len(K)  # rows
        self._y = self._outputs.values(y, "y", K.dtype)
        self._noise = non_negative_number(noise, "noise")
        with np.errstate(over="ignore"):
            diagonal = K.diagonal() + np.array(self._noise, K.dtype)
        np.fill_diagonal(K, checks.bounded(diagonal, "K_xx + noise I"))
        # the purpose of noise is to make an ill-conditioned K harmless: only matrices singular to rounding are refused
        eps = float(np.finfo(K.dtype).eps)
        self._n_threads = n_threads
        with self._blas(0):
            found, direction = attempt(K, overwrite=True, rcond=eps)
            if found is None:
                name = "K_xx + noise I" if self._noise else "K_xx"
                raise np.linalg.LinAlgError(singular(name, K, direction))
            self._factor: Cholesky | IteratedFactor = found
            with checks.overflow("dual_coefficients") as fits:
                self._dual: Array = fits(self._factor.solve(self._y))
        error = 16 * eps * float(np.sqrt(self._n) * diagonal.max())  # of a kernel, as a matrix
        if K.dtype == np.float32 and max(self._noise, found.lowest) < error:
            inaccurate("K_xx", f"noise is {self._noise:.3g}, expected at least {error:.1g}")

    def _iterate(
        self,
        K: Any,
        y: ArrayLike,
        noise: float,
        tol: float,
        rng: np.random.Generator,
        n_threads: int | None,
        progress: Progress,
        free: float,
    ) -> None:
        """The same for an operator, which is not factored."""
        self._n = K.shape[0]
        columns, flat = checks.columns(y, self._n, "y", np.float64)
        self._outputs, self._y = Outputs(self._n, columns.shape[1], False, flat), columns
        self._noise, self._n_threads = non_negative_number(noise, "noise"), n_threads
        with self._blas(0), checks.overflow("dual_coefficients") as fits:
            self._factor = IteratedFactor(K, self._noise, tol, rng, free, progress)
            self._dual = fits(self._factor.solve(self._y))

    def _exact(self, what: str) -> Cholesky:
        """The factor of a matrix."""
        if isinstance(self._factor, IteratedFactor):
            raise ValueError(
                f"{what}: expected a GaussianProcess of a matrix, got one of an operator, which has no factor"
            )
        return self._factor

    def described(self) -> dict[str, Any]:
        return {
            "outputs": self._outputs,
            "y": self._y,
            "noise": self._noise,
            "factor": self._exact("factor"),
            "dual": self._dual,
            "n_threads": self._n_threads,
        }

    @classmethod
    def rebuilt(cls, outputs: Any, y: Any, noise: Any, factor: Any, dual: Any, n_threads: Any) -> GaussianProcess:
        process = cls.__new__(cls)
        half = checked(factor, Cholesky, "factor").half
        process._outputs, process._factor, process._n = checked(outputs, Outputs, "outputs"), factor, len(half)
        process._y, process._dual = (
            process._outputs.saved_columns(columns, name, half.dtype) for columns, name in ((y, "y"), (dual, "dual"))
        )
        if len(process._y) != process._n:
            raise ValueError(f"factor: expected {len(process._y)} rows, got {process._n}")
        process._noise = non_negative_number(noise, "noise")
        process._n_threads = None if n_threads is None else positive_integer(n_threads, "n_threads")
        return process

    def __repr__(self) -> str:
        described = self._outputs.in_repr()
        return f"GaussianProcess(N={self._outputs.n}{described}, noise={self._noise:.6g}, {self._y.dtype})"

    def _blas(self, m: int) -> contextlib.AbstractContextManager[object]:
        """Threads for factoring or inverting, and for m new points."""
        return threads.blas(self._n_threads, self._n**2 * max(self._n / 3, m))

    @property
    def dual_coefficients(self) -> Array:
        """a = (K + σ² I)⁻¹ y, of the shape of y.

        See Also
        --------
        solve : The same without a process.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0]], [1.0], noise=0.25).dual_coefficients
        array([0.8])
        """
        return self._outputs.shaped(self._dual)

    def _cross(self, K_tx: ArrayLike) -> Array:
        return self._outputs.cross(K_tx, "K_tx", self._y.dtype)

    def mean(self, K_tx: ArrayLike) -> Array:
        """The posterior mean at new points.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
            K(x, X).

        Returns
        -------
        ndarray, shape (m,) or (m, outputs)
            E f(x) = K(x, X) a.

        Raises
        ------
        TypeError, ValueError
            K_tx is not as described, or a sum overflows.

        See Also
        --------
        GaussianProcess.predict : With its standard deviation.
        GaussianProcess.variance : The variance.

        References
        ----------
        Rasmussen and Williams (2006), equation 2.23.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0]], [1.0], noise=0.25).mean([[0.6]])
        array([0.48])
        """
        cross = self._cross(K_tx)
        with self._blas(0), checks.overflow("mean") as fits:
            return self._outputs.shaped(fits(pieces.product(cross, self._dual)))

    @overload
    def predict(
        self,
        K_tx: ArrayLike,
        K_t: ArrayLike | None = None,
        *,
        return_std: Literal[False] = False,
        observations: bool = False,
    ) -> Array: ...

    @overload
    def predict(
        self, K_tx: ArrayLike, K_t: ArrayLike, *, return_std: Literal[True], observations: bool = False
    ) -> tuple[Array, Array]: ...

    def predict(
        self,
        K_tx: ArrayLike,
        K_t: ArrayLike | None = None,
        *,
        return_std: bool = False,
        observations: bool = False,
    ) -> Array | tuple[Array, Array]:
        """`mean`, with return_std also the standard deviation, the root of `variance`.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
            K(x, X), of new points with the data.
        K_t : array_like, shape (m,), optional
            As in `variance`; for return_std only.
        return_std : bool
            Whether to return the deviations as well.
        observations : bool
            Of new observations y = f + ε instead of f: the variance of the noise is added.

        Returns
        -------
        ndarray, shape (m,) or (m, outputs)
            With return_std a tuple of it and the deviations, (m,), which independent outputs share; (m, k) for coupled
            outputs.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; return_std without K_t.

        See Also
        --------
        GaussianProcess.mean : The mean alone.
        GaussianProcess.percentiles : Bands.
        ntkfast.plotting.plot_predictions : Draws both.

        Examples
        --------
        >>> import ntkfast as nf
        >>> gp = nf.GaussianProcess([[1.0]], [1.0], noise=0.25)
        >>> gp.predict([[0.6]], [1.0], return_std=True)
        (array([0.48]), array([0.84380092]))
        >>> gp.predict([[0.6]], [1.0], return_std=True, observations=True)
        (array([0.48]), array([0.98081599]))
        """
        if not return_std:
            return self.mean(K_tx)
        if K_t is None:
            raise TypeError("K_t: expected the kernel of each new point with itself for return_std=True, got None")
        return self.mean(K_tx), np.sqrt(self.variance(K_tx, K_t, observations=observations))

    def covariance(self, K_tx: ArrayLike, K_tt: ArrayLike, *, observations: bool = False) -> Array:
        """The posterior covariance at new points, (m, m), the same for every output.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
            K(x, X), of new points with the data.
        K_tt : array_like, shape (m, m)
            K(x, x'), of new points with themselves.
        observations : bool
            Of new observations y = f + ε instead of f: the variance of the noise is added.

        Returns
        -------
        ndarray, shape (m, m), symmetric
            Positive semi-definite up to rounding relative to K_tt.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described.

        See Also
        --------
        GaussianProcess.variance : Its diagonal, without the matrix.

        References
        ----------
        Rasmussen and Williams (2006), equation 2.24.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0]], [1.0], noise=0.25).covariance([[0.6]], [[1.0]]).round(3)
        array([[0.712]])
        """
        C = self._unexplained(K_tx, K_tt, "K_tt")
        if observations:
            np.fill_diagonal(C, C.diagonal() + np.array(self._noise, C.dtype))
        return self._outputs.kernel(C)

    def variance(self, K_tx: ArrayLike, K_t: ArrayLike, *, observations: bool = False) -> Array:
        """The diagonal of `covariance`.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
            K(x, X), of new points with the data.
        K_t : array_like, shape (m,)
            K(x, x), `ntkfast.diagonal` of the same kernel as K_xx: diagonal(net, X, "nngp") for an NNGP, as the default
            there is Θ.
        observations : bool
            Of new observations y = f + ε instead of f: the variance of the noise is added.

        Returns
        -------
        ndarray, shape (m,)
            Var f(x) given the data, >= 0; independent outputs share it.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described.

        See Also
        --------
        GaussianProcess.covariance : The whole matrix.
        ntkfast.diagonal : K_t.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0]], [1.0], noise=0.25).variance([[0.6]], [1.0]).round(3)
        array([0.712])
        """
        variance = self._unexplained(K_tx, K_t, "K_t")
        return self._outputs.variance(variance + np.array(self._noise, variance.dtype) if observations else variance)

    def _unexplained(self, K_tx: ArrayLike, prior: ArrayLike, name: str) -> Array:
        """The covariance or the variances given the data, from K_tt or K_t."""
        cross = self._cross(K_tx)
        m = self._outputs.points(cross)
        check = self._outputs.symmetric if name == "K_tt" else self._outputs.variances
        total = check(prior, name, m).astype(cross.dtype, copy=False)
        with self._blas(len(cross)):
            if isinstance(self._factor, IteratedFactor):
                return unexplained(total, cross.T, name, "K_xx", V=self._factor.solve(cross.T))
            return unexplained(total, self._factor.half_solve(cross.T), name, "K_xx", len(cross) // m)

    def percentiles(
        self, K_tx: ArrayLike, K_t: ArrayLike, *, levels: ArrayLike = (10, 50, 90), observations: bool = False
    ) -> Array:
        """Percentiles at new points: mean plus quantiles of N(0, 1) times the deviation.

        Parameters
        ----------
        K_tx : array_like, shape (m, N)
            K(x, X), of new points with the data.
        K_t : array_like, shape (m,)
            As in `variance`.
        levels : sequence of float
            In (0, 100), in any order, which is that of the result.
        observations : bool
            Of new observations y = f + ε instead of f: the variance of the noise is added.

        Returns
        -------
        ndarray, shape (levels, m) or (levels, m, outputs)
            For one output, `ntkfast.plotting.plot_percentiles` draws it.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described, or a level is not in (0, 100).

        See Also
        --------
        GaussianProcess.variance : The variance.
        ntkfast.plotting.plot_percentiles : Draws them.
        LeastSquaresFlow.percentiles : Those of training until a time t.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0]], [1.0]).percentiles([[0.6]], [1.0]).round(3)
        array([[-0.425],
               [ 0.6  ],
               [ 1.625]])
        """
        q = quantiles(levels)
        return bands(self.mean(K_tx), self.variance(K_tx, K_t, observations=observations), q)

    def leave_one_out(self) -> LeaveOneOut:
        """Each target predicted from the N - 1 others, without a loop: mean y - a/d and variance 1/d, d = diag K_σ⁻¹.

        Coupled outputs are left out together: d are then the blocks (k, k) on the diagonal.

        (Rasmussen and Williams 2006, equation 5.12.)

        Returns
        -------
        LeaveOneOut
            Means and variances, those of the noise included.

        Raises
        ------
        ValueError
            The process is one of an operator, which has no factor.

        See Also
        --------
        NystromRegression.leave_one_out : The same for many points.
        ntkfast.sklearn.NTKRegressor : alpha="loo" chooses the ridge by it.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0, 0.5], [0.5, 1.0]], [1.0, 2.0]).leave_one_out().mean
        array([1. , 0.5])
        """
        with self._blas(0), checks.overflow("leave_one_out") as fits:
            n = self._outputs.n
            block = self._n // n  # rows of a point
            covariance = fits(np.linalg.inv(fits(self._exact("leave_one_out").inverse_blocks(block))))
            shift = (covariance @ self._dual.reshape(n, block, -1)).reshape(self._y.shape)
            variance = np.diagonal(covariance, axis1=1, axis2=2).reshape(-1)
            return LeaveOneOut(self._outputs.shaped(fits(self._y - shift)), self._outputs.variance(variance))

    def log_marginal_likelihood(self) -> float:
        """log p(y) = -½ yᵀa - ½ log det K_σ - N/2 log 2π, summed over outputs.

        Returns
        -------
        float
            log p(y), in nats.

        Raises
        ------
        ValueError
            The process is one of an operator, which has no factor.

        See Also
        --------
        log_marginal_likelihood : The same with derivatives.
        GaussianProcess.likelihood_gradient : ∂ log p(y)/∂K.

        References
        ----------
        Rasmussen and Williams (2006), equation 5.8.

        Examples
        --------
        >>> import ntkfast as nf
        >>> round(nf.GaussianProcess([[1.0]], [0.0]).log_marginal_likelihood(), 4)
        -0.9189
        """
        k = self._y.shape[1]
        with checks.overflow("log_marginal_likelihood") as fits:
            fit = fits(np.einsum("ij,ij->", self._y, self._dual, dtype=np.float64))
        return float(
            -(fit + k * (self._exact("log_marginal_likelihood").log_determinant() + self._n * np.log(2 * np.pi))) / 2
        )

    def likelihood_gradient(self) -> Array:
        """∂ log p(y)/∂K = ½ (a aᵀ - K_σ⁻¹), summed over outputs.

        The derivative with respect to any parameter p is the sum over all entries of this times ∂K/∂p; the derivative
        with respect to the noise variance is its trace.

        Returns
        -------
        ndarray, shape (N, N), or (N, N, k, k) for coupled outputs
            Symmetric.

        Raises
        ------
        ValueError
            The process is one of an operator, which has no factor.

        See Also
        --------
        network_likelihood : Derivatives with respect to hyperparameters, without matrices of them.
        kernel_vjp : Takes it as weights.

        References
        ----------
        Rasmussen and Williams (2006), equation 5.9.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.GaussianProcess([[1.0, 0.0], [0.0, 2.0]], [1.0, 2.0]).likelihood_gradient()
        array([[0.  , 0.5 ],
               [0.5 , 0.25]])
        """
        return self._outputs.kernel(self._likelihood_gradient())

    def _likelihood_gradient(self) -> Array:
        """As a matrix."""
        with self._blas(0), checks.overflow("likelihood_gradient") as fits:
            W = self._exact("likelihood_gradient").inverse()
            W *= -0.5 * self._y.shape[1]
            for rows in arrays.blocks(self._n):
                W[rows] += self._dual[rows] @ (0.5 * self._dual.T)
                fits(W[rows])
        return W

    def _gradient(self, derivatives: Iterable[ArrayLike]) -> tuple[Array, float]:
        W, result = self._likelihood_gradient(), []
        for p, given in enumerate(derivatives):
            dK = self._outputs.symmetric(given, f"gradients[{p}]").astype(W.dtype, copy=False)
            with checks.overflow(f"gradient[{p}]") as fits:
                parts = [np.einsum("ij,ij->", W[rows], dK[rows], dtype=np.float64) for rows in arrays.blocks(self._n)]
                result.append(fits(sum(parts)))
        return np.array(result), float(W.diagonal().sum(dtype=np.float64))


@overload
def log_marginal_likelihood(
    K_xx: ArrayLike,
    y: ArrayLike,
    *,
    noise: float = 0.0,
    gradients: None = None,
    overwrite: bool = False,
    n_threads: int | None = None,
) -> float: ...


@overload
def log_marginal_likelihood(
    K_xx: ArrayLike,
    y: ArrayLike,
    *,
    noise: float = 0.0,
    gradients: Iterable[ArrayLike],
    overwrite: bool = False,
    n_threads: int | None = None,
) -> MarginalLikelihood: ...


def log_marginal_likelihood(
    K_xx: ArrayLike,
    y: ArrayLike,
    *,
    noise: float = 0.0,
    gradients: Iterable[ArrayLike] | None = None,
    overwrite: bool = False,
    n_threads: int | None = None,
) -> float | MarginalLikelihood:
    """The log marginal likelihood of a Gaussian process, and its derivatives.

        ∂ log p(y)/∂p = ½ tr((a aᵀ - K_σ⁻¹) ∂K/∂p)

    (Rasmussen and Williams 2006, equations 5.8 and 5.9). One Cholesky factor serves the value and all derivatives.

    Parameters
    ----------
    K_xx, y, noise, overwrite, n_threads
        As in `GaussianProcess`.
    gradients : sequence of array_like, shape (N, N), optional
        ∂K/∂p for each parameter p of the kernel; may be empty.

    Returns
    -------
    float, or a MarginalLikelihood if gradients are given
        log p(y), summed over outputs.

    Raises
    ------
    TypeError, ValueError, numpy.linalg.LinAlgError
        As in `GaussianProcess`.

    See Also
    --------
    network_likelihood : Of a network, without matrices of derivatives.
    GaussianProcess.log_marginal_likelihood : Of a process that exists already.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> round(nf.log_marginal_likelihood(np.eye(2), [0.0, 0.0]), 4)
    -1.8379
    >>> nf.log_marginal_likelihood(np.eye(2), [0.0, 4.0], noise=1.0, gradients=[np.eye(2)]).gradient.round(4)
    array([1.5])
    """
    process = GaussianProcess(K_xx, y, noise=noise, overwrite=overwrite, n_threads=n_threads)
    value = process.log_marginal_likelihood()
    return value if gradients is None else MarginalLikelihood(value, *process._gradient(gradients))
