"""Kernel regression on centres (Nyström's method): a million points, none of whose kernel matrix is kept.

With C the m centres, K_nm = K(X, C) and L Lᵀ = K_mm, the features Φ = K_nm L⁻ᵀ have the kernel K_nm K_mm⁻¹ K_mn, and

    direct      Φᵀ Φ = L⁻¹ (K_nmᵀ K_nm) L⁻ᵀ = V diag(λ) Vᵀ from one pass over K_nm: every ridge, every target
    FALKON      conjugate gradients on (Φᵀ Φ + αI) z = Φᵀ y, two products with K_nm for each iteration, preconditioned
                by (n/m) LᵀL + αI, which is what ΦᵀΦ would be if the points were the centres

(Rudi, Carratino and Rosasco 2017; Meanti, Carratino, Rosasco and Rudi 2020).
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from typing import Any, Literal, overload

import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import outputs, threads
from ntkfast.learning import checks, pieces, ridge
from ntkfast.learning.factor import eigenpairs
from ntkfast.learning.solvers.centers import Falkon, NystromDirect
from ntkfast.learning.solvers.checkpoint import CentersCheckpoint, Kept
from ntkfast.learning.solvers.conjugate import Keep, State
from ntkfast.learning.solvers.panels import Panels, Part
from ntkfast.learning.solvers.solution import Solution, not_reached
from ntkfast.learning.solvers.source import Function, OwnProblem, check_source, problem_of
from ntkfast.networks import Network
from ntkfast.support import arrays
from ntkfast.support import memory as bytes_of
from ntkfast.support.progress import check
from ntkfast.support.saved import Saved, checked, checked_array
from ntkfast.support.scalars import generator, non_negative_number, positive_integer, positive_number
from ntkfast.support.sums import Arrays
from ntkfast.support.typing import Array, KernelName, Memory, Progress, Seed

__all__ = ["NystromRegression"]

METHODS = ("auto", "direct", "falkon")
N_ALPHAS = 50  # of "loo"
MOST_COLUMNS = 256  # ridges times outputs whose residuals are computed at once
PASSES = 20  # that FALKON is expected to need
QUICK = 1e12  # operations, some 20 seconds on a core, for which the direct method is worth its errors and variances
FLOPS_PER_ENTRY = 300  # what computing an entry of K costs, in operations of BLAS, measured at depth 4, d = 20
DIRECT, FALKON = 5, 4  # m x m matrices of float64 that are held at once
SMALL_PART = 1e-3  # of the kernel's variation: what float32 may lose of it without a warning
WRITER = "NystromRegression"  # of checkpoints
KERNEL_OF_CENTERS = "net: the kernel of the centers"


class NystromRegression(Saved):
    """Kernel ridge regression whose function is spanned by the kernels of some centres.

    f(x) = Σ_j c_j K(x, C_j) minimises Σ_i (f(x_i) - y_i)² + α ‖f‖²_K over all such functions:

        c = (K_nmᵀ K_nm + α K_mm)⁻¹ K_nmᵀ y

    with K_nm = K(X, C) and K_mm = K(C, C). With all points as centres this is kernel ridge regression,
    `GaussianProcess(K_xx, y, noise=alpha).mean`. As a Gaussian process it is the projected process (Rasmussen and
    Williams 2006, sections 8.3.1 and 8.3.4): the prior covariance of the data is Q = K_nm K_mm⁻¹ K_mn, and

        variance    K(x, x) - q(x, x) + α k_mᵀ (K_nmᵀ K_nm + α K_mm)⁻¹ k_m,    q(x, x) = k_mᵀ K_mm⁻¹ k_m

    Which kernel for what: see `GaussianProcess`.

    The direct method takes one pass over the n m entries of K_nm, n m² operations in float64, and one
    eigendecomposition; then `with_alpha`, `leave_one_out`, `log_marginal_likelihood` and variances are at hand. FALKON
    takes a pass for every iteration, but no m² operations for a point. "auto" chooses what needs fewer operations and
    fits into memory: direct up to some 5000 centres. Memory beyond X: 5 (direct) or 4 (FALKON) matrices (m, m) of
    float64, some 100 MiB of panels, and a few numbers for every point and layer.

    Parameters
    ----------
    net : Network or callable
        A function of one's own gives K(X, Y), of shape (n, m), for points of shapes (n, d) and (m, d), such as a kernel
        of scikit-learn. It is called for some thousand points at a time; a model with one cannot be saved.
    n_centers : int, or array_like of shape (m, d)
        How many of the points, drawn without replacement, or the centres themselves. Those whose kernels are spanned by
        the others to rounding, such as repeated ones, are left out.
    alpha : float, sequence of float or "loo"
        The ridge α >= 0, which as a Gaussian process is the noise variance. Out of a sequence of ridges > 0, or 50
        between 1e-8 and 100 times the mean of the kernel's diagonal for "loo", the one with the smallest squared
        leave-one-out error is taken. This needs the direct method and a second pass, of 2 n m² operations.
    kernel : {"ntk", "nngp"}
        Of a network.
    method : {"auto", "direct", "falkon"}
        As described above.
    tol : float
        FALKON: the residual of (ΦᵀΦ + αI) z = Φᵀy at which iterations stop, relative to Φᵀy.
    max_iterations : int
        FALKON: of each solution.
    rng : None, int or numpy.random.Generator
        For the centres.
    dtype : {float32, float64}, optional
        Of the entries of K_nm and of predictions; default: float32 if X is, else float64. K_mm and sums are float64.
    n_threads : int, optional
        Of kernels, as in `ntk`, and of BLAS (default: one for small work, else its own number). Sums over the points do
        not depend on it; LAPACK's last digits do.
    progress : bool or callable, optional
        Of every pass, as in `ntk`.
    memory : int or str, optional
        Bytes that may be used; default: what is available.

    Attributes
    ----------
    centers : ndarray, shape (rank, d)
        Those that were kept.
    alpha : float
        The ridge in use.
    alphas, loo_errors : ndarray, shape (A,), or None
        The ridges to choose from, and the mean squared leave-one-out error of each.
    dual_coefficients : ndarray, shape (rank,) or (rank, outputs)
        c, in the order of `centers`.
    solution : Solution
        How it was found: method, iterations, residuals, seconds, memory.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    MemoryError
        m x m matrices do not fit into `memory`; nothing has been computed then.

    Warns
    -----
    UserWarning
        FALKON did not reach tol; the message reports the residual that it reached. Or the ridge that was chosen is the
        smallest or the largest one, and the leave-one-out error still falls there. Or centres were left out that
        float32 cannot tell from others, as of points far from the origin; the message says what to do.

    See Also
    --------
    GaussianProcess : All points as centres.
    solve : The exact solution for all points.
    ntkfast.sklearn.NTKFeatures : Features for linear models instead.
    ntkfast.distributed.NystromRegression : The same on a cluster.
    fit_hyperparameters : Hyperparameters, by the likelihood of some of the points.

    Notes
    -----
    K_nmᵀ K_nm squares condition numbers, and what of a centre is new must be larger than the errors of the square: the
    direct method leaves out those whose rest is below 1.5e-8/√m of the norm of K_mm, FALKON below 2e-16 m of it; with
    K_nm in float32, both those below 2e-6 √m of the kernel's diagonal. This matters for smooth activations on few
    features, and ridges below some 1e-7 of the largest eigenvalue of K_xx.

    `ntkfast.save` keeps what predictions need, not the data: a model from a file has no `leave_one_out`, and FALKON's
    no `with_alpha`.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.random.default_rng(0).standard_normal((2000, 3))
    >>> y = np.sin(X[:, 0]) * X[:, 1]
    >>> model = nf.NystromRegression(nf.MLP(depth=3, bias_std=0.1), 200, alpha="loo", rng=0).fit(X[:1500], y[:1500])
    >>> bool(np.abs(model.predict(X[1500:]) - y[1500:]).mean() < 0.1)
    True
    >>> model.solution.method, model.predict(X[1500:], return_std=True)[1].shape
    ('direct', (500,))
    """

    alpha: float
    alphas: Array | None
    loo_errors: Array | None
    centers: Array
    solution: Solution
    _panels: Panels | None  # of the data; None in a model from a file
    _chosen: Array  # numbers of the points that were drawn as centres; none where these were given
    _direct: NystromDirect | None  # None for FALKON

    def __init__(
        self,
        net: Network | Function,
        n_centers: int | ArrayLike,
        alpha: float | str | ArrayLike,
        *,
        kernel: KernelName = "ntk",
        method: Literal["auto", "direct", "falkon"] = "auto",
        tol: float = 1e-8,
        max_iterations: int = 200,
        rng: Seed = None,
        dtype: DTypeLike | None = None,
        n_threads: int | None = None,
        progress: Progress = None,
        memory: Memory = None,
    ) -> None:
        self._net = check_source(net)
        self._kernel: Any = outputs.kernel(kernel)
        self._n_centers: Any = positive_integer(n_centers, "n_centers") if np.ndim(n_centers) == 0 else n_centers
        self._one_alpha = _one_ridge(alpha)
        if method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
        if method == "falkon" and self._one_alpha is None:
            raise ValueError("alpha: expected one number for method 'falkon', which has no leave-one-out errors")
        self._method, self._tol = method, positive_number(tol, "tol")
        self._max_iterations = checks.count(max_iterations, "max_iterations")
        generator(rng)
        self._rng, self._dtype, self._n_threads = rng, dtype, n_threads
        check(progress)
        self._progress = progress
        self._memory = bytes_of.amount(memory)
        self._given_alpha = alpha

    def __repr__(self) -> str:
        fitted = hasattr(self, "solution")
        state = f"alpha={self.alpha:.6g}, {self.solution.method}" if fitted else "not fitted"
        given = self._n_centers
        count = len(self.centers) if fitted else given if isinstance(given, int) else len(given)
        return f"NystromRegression(n_centers={count}, {state})"

    # --- files

    def described(self) -> dict[str, Any]:
        self._check_fitted()
        given, alpha = self._n_centers, self._given_alpha
        options = {
            "net": self._net,
            "n_centers": given if isinstance(given, int) else np.asarray(given),
            "alpha": alpha if isinstance(alpha, str) or self._one_alpha is not None else np.asarray(alpha),
            "kernel": self._kernel,
            "method": self._method,
            "tol": self._tol,
            "max_iterations": self._max_iterations,
            "rng": None if isinstance(self._rng, np.random.Generator) else self._rng,
            "dtype": None if self._dtype is None else np.dtype(self._dtype).name,
            "n_threads": self._n_threads,
            "memory": self._memory,
        }
        names = ("centers", "alpha", "alphas", "loo_errors", "solution", "_direct", "_flat", "_n_points")
        return {"options": options, "fitted": {name: getattr(self, name) for name in names}}

    @classmethod
    def rebuilt(cls, options: Any, fitted: Any) -> NystromRegression:
        model = cls(**checked(options, dict, "options"))
        model._restore(**checked(fitted, dict, "fitted"))
        return model

    def _restore(
        self,
        centers: Any,
        alpha: Any,
        alphas: Any,
        loo_errors: Any,
        solution: Any,
        _direct: Any,
        _flat: Any,
        _n_points: Any,
    ) -> None:
        """What `fit` leaves but for the data."""
        self.centers = checked_array(centers, (None, None), "centers")
        shape = (len(centers),) if checked(_flat, bool, "_flat") else (len(centers), None)
        dual = checked_array(checked(solution, Solution, "solution").dual_coefficients, shape, "dual_coefficients")
        self._dual = dual[:, None] if _flat else dual
        if _direct is not None and checked(_direct, NystromDirect, "_direct").W.shape[0] != len(centers):
            raise ValueError(f"_direct: expected {len(centers)} rows, one for each center, got {len(_direct.W)}")
        self.alphas = None if alphas is None else checked_array(alphas, (None,), "alphas")
        self.loo_errors = None if alphas is None else checked_array(loo_errors, alphas.shape, "loo_errors")
        self.alpha, self.solution, self._direct, self._flat = checked(alpha, float, "alpha"), solution, _direct, _flat
        self._n_points, self._panels = checked(_n_points, int, "_n_points"), None

    # --- fitting

    def fit(self, X: ArrayLike, y: ArrayLike, *, checkpoint: str | os.PathLike[str] | None = None) -> NystromRegression:
        """Learn from the data.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Kept for leave-one-out errors and for `with_alpha` of FALKON.
        y : array_like, shape (n,) or (n, outputs)
            Targets; outputs are independent.
        checkpoint : str or path-like, optional
            FALKON: a file for the state of the iterations, written at the start, every 30 seconds or after each
            iteration if that takes longer, on Ctrl-C and at the end. A call for the same problem goes on from there,
            whatever ended the one before, with the centres that were drawn then, and comes to the same bits; tol and
            max_iterations may be others. What comes before the iterations, a pass and m³ operations, is computed
            again. The direct method takes no notice of it.

        Returns
        -------
        NystromRegression
            Itself, fitted.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As for the class.
        ValueError, OSError
            The checkpoint is of another problem (the message says what differs), is damaged, or cannot be written.
            What is there stays as it is.

        See Also
        --------
        NystromRegression.predict : Values at new points.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> model.solution.method
        'direct'
        """
        start = time.perf_counter()
        points = arrays.as_points(X, "X")
        self._y, self._flat = checks.columns(y, len(points), "y", np.float64)
        self._n_points = len(points)
        kept = None if checkpoint is None else Kept(checkpoint, CentersCheckpoint, WRITER)
        C = self._choose_centers(points)
        method = self._choose_method(len(points), len(C))
        there = None if kept is None or method == "direct" else kept.read()
        if there is not None and len(there.chosen) == len(self._chosen) and there.problem["n"] == len(points):
            self._chosen = there.chosen
            C = points[self._chosen] if len(self._chosen) else C
        n_bytes = 8 * len(C) ** 2 * (DIRECT if method == "direct" else FALKON)
        what = f"n_centers: Nyström regression ({method}) with {len(C)} centers"
        bytes_of.require(n_bytes, what, "; use fewer", bytes_of.allowed(self._memory))
        C, L = self._independent(C, method)
        self.centers, self.alphas, self.loo_errors = C, None, None
        self._panels = panels = self._panels_of(points, C)
        n_bytes += panels.n_bytes
        if method == "direct":
            direct = self._decompose(L, panels)
            alpha = self._choose_alpha(direct)
            self._direct = direct
            self._take(alpha, direct.dual_coefficients(alpha), start, n_bytes)
        else:
            self._direct = None
            with threads.blas(self._n_threads, float(len(L)) ** 2):
                self._falkon = Falkon(panels, L, pieces.solve_triangular(L, panels.transposed_times(self._y)))
            assert self._one_alpha is not None  # which `_choose_method` sees to
            self._iterate(self._one_alpha, None, start, n_bytes, kept, there)
        return self

    def _panels_of(self, X: Any, C: Array) -> Panels:
        """What computes passes over K(X, C)."""
        return Panels(self._net, X, C, self._kernel, self._dtype, self._n_threads, self._progress)

    def _choose_centers(self, X: Any) -> Array:
        if not isinstance(self._n_centers, int):
            C = arrays.as_points(self._n_centers, "n_centers", X.shape[1])
            arrays.finite(C.astype(np.float64, copy=False), "n_centers")
            self._chosen = np.empty(0, np.int64)
            return C
        if self._n_centers > len(X):
            raise ValueError(f"n_centers: expected at most the number of points, {len(X)}, got {self._n_centers}")
        self._chosen = np.sort(generator(self._rng).choice(len(X), self._n_centers, replace=False)).astype(np.int64)
        chosen: Array = X[self._chosen]
        return chosen

    def _choose_method(self, n: int, m: int) -> str:
        if self._method != "auto":
            return self._method
        if self._one_alpha is None:
            return "direct"
        direct = float(n) * m**2 + 12.0 * m**3
        falkon = PASSES * float(n) * m * (FLOPS_PER_ENTRY + 4 * self._y.shape[1]) + 2.0 * m**3
        fits = 8 * DIRECT * m**2 <= bytes_of.allowed(self._memory)
        return "direct" if direct <= max(falkon, QUICK) and fits else "falkon"

    def _independent(self, C: Array, method: str) -> tuple[Array, Array]:
        """The centres that are independent to rounding, and the lower triangle L with L Lᵀ = K_mm (Fortran order)."""
        data = arrays.working_dtype(self._dtype, C)
        C = np.ascontiguousarray(C, dtype=data)
        m = len(C)
        problem = problem_of(self._net, C, dtype=np.float64, n_threads=self._n_threads)
        K = problem.matrices((self._kernel,), show=False)[0]
        if isinstance(problem, OwnProblem):
            checks.symmetric(K, KERNEL_OF_CENTERS)
        given = K.diagonal().copy()
        eps, diagonal, norm = float(np.finfo(np.float64).eps), float(given.max()), float(np.abs(K).sum(0).max())
        spread = float(given.mean() - K.mean())  # of the kernel without what all centres have in common
        floor = (np.sqrt(eps / m) if method == "direct" else m * eps) * norm
        with threads.blas(self._n_threads, float(m) ** 3 / 3):
            L, pivots, rank, _ = scipy.linalg.lapack.dpstrf(K.T, lower=1, tol=floor, overwrite_a=1)
        if data == np.float32:  # as a matrix, the error of K_nm is some 16 eps √m of the diagonal
            floor = max(floor, 16 * float(np.finfo(data).eps) * np.sqrt(m) * diagonal)
            of_double, rank = rank, int(np.count_nonzero(np.square(L.diagonal()[:rank]) > floor))
            if rank < of_double and floor > SMALL_PART * spread:
                warnings.warn(
                    f"NystromRegression: in float32 {rank} of {m} centers are independent, in float64 {of_double}: "
                    f"their kernels differ by {max(spread, 0) / diagonal:.1e} of their size, near rounding, as those "
                    "of points far from the origin do; subtract the mean of the points, or pass dtype='float64'",
                    stacklevel=3,
                )
        if isinstance(problem, OwnProblem):
            _require_semi_definite(K, L, pivots - 1, rank, given, max(2 * floor, np.sqrt(eps) * norm))
        if rank == 0 or diagonal == 0:
            raise ValueError("n_centers: expected centers with a kernel above 0, got 0 everywhere")
        return C[pivots[:rank] - 1], np.asfortranarray(L[:rank, :rank])

    def _decompose(self, L: Array, panels: Panels) -> NystromDirect:
        with checks.overflow("net: the Gram matrix of the centers") as fits:
            G, b = map(fits, panels.gram(self._y))
        with threads.blas(self._n_threads, float(len(L)) ** 3):
            S = scipy.linalg.lapack.dsygst(G, L, lower=1, overwrite_a=1)[0]
            arrays.mirror(S)
            values, V = eigenpairs(S)
            W = pieces.solve_triangular(L, V, trans=True)
            return NystromDirect(W, np.maximum(values, 0), W.T @ b, np.square(self._y).sum(axis=0))

    def _choose_alpha(self, direct: NystromDirect) -> float:
        if self._one_alpha is not None:
            return self._one_alpha
        if isinstance(self._given_alpha, str):
            d = problem_of(self._net, self.centers, n_threads=self._n_threads).diagonals((self._kernel,), show=False)[0]
            self.alphas = float(d.mean(dtype=np.float64)) * np.geomspace(1e-8, 100, N_ALPHAS)
        else:
            self.alphas = checks.times(self._given_alpha, "alpha")[0]
        panels = self._require_data("leave_one_out")
        found = panels.total("leave-one-out errors", _squared_errors, direct, self.alphas, self._y)
        self.loo_errors = found[0] / len(self._y)
        warning = ridge.at_end(self.alphas, self.loo_errors)
        if warning:
            warnings.warn(warning, stacklevel=3)  # where `fit` was called
        return float(self.alphas[self.loo_errors.argmin()])

    def _take(self, alpha: float, dual: Array, start: float, n_bytes: int, found: Any = None) -> None:
        self.alpha = alpha
        self._dual = dual
        shaped = dual[:, 0] if self._flat else dual
        method = "direct" if found is None else "falkon"
        residual = np.nan if found is None else found.residual
        history = np.array([residual]) if found is None else found.residuals
        n_iterations, converged = (0, True) if found is None else (found.n_iterations, not found.reason)
        log_determinant = np.nan if self._direct is None else self._direct.log_determinant(alpha, self._n_points)
        seconds = time.perf_counter() - start
        self.solution = Solution(
            shaped, method, n_iterations, residual, history, converged, len(dual), log_determinant, seconds, n_bytes
        )

    def _iterate(
        self,
        alpha: float,
        z: Array | None,
        start: float,
        n_bytes: int,
        kept: Kept | None,
        there: CentersCheckpoint | None,
    ) -> None:
        keep = None if kept is None else self._keep(kept, there, alpha)
        state = None if there is None else there.state
        found = self._falkon.solve(alpha, self._tol, self._max_iterations, z, state, keep)
        self._z = found.solution
        self._take(alpha, pieces.solve_triangular(self._falkon.L, self._z, trans=True), start, n_bytes, found)
        if found.reason:
            hint = "raise alpha, tol or max_iterations"
            not_reached("NystromRegression", found.residual, self._tol, found.reason, hint)

    def _keep(self, kept: Kept, there: CentersCheckpoint | None, alpha: float) -> Keep:
        """What writes the state of iterations for this ridge; raise if what is there is of another problem."""
        panels, chosen = self._falkon.panels, self._chosen
        problem = panels.identity(alpha, self._y)
        if there is not None:
            kept.require_same(there.problem, problem, panels.eps)

        def keep(state: State, last: bool) -> None:
            kept.keep(CentersCheckpoint(problem, chosen, state), last)

        return keep

    def with_alpha(self, alpha: float, *, checkpoint: str | os.PathLike[str] | None = None) -> NystromRegression:
        """Change the ridge: at once for the direct method; FALKON starts from the solution that it has.

        Parameters
        ----------
        alpha : float
            The ridge >= 0.
        checkpoint : str or path-like, optional
            As in `fit`, in a file of its own.

        Returns
        -------
        NystromRegression
            Itself, with the other ridge.

        See Also
        --------
        NystromRegression.leave_one_out : What a ridge may be chosen by.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> model.with_alpha(0.1).alpha
        0.1
        """
        start, alpha = time.perf_counter(), non_negative_number(alpha, "alpha")
        self._check_fitted()
        if self._direct is not None:
            self._take(alpha, self._direct.dual_coefficients(alpha), start, self.solution.memory)
        else:
            self._require_data("with_alpha")
            kept = None if checkpoint is None else Kept(checkpoint, CentersCheckpoint, WRITER)
            there = None if kept is None else kept.read()
            self._iterate(alpha, self._z, start, self.solution.memory, kept, there)
        return self

    # --- results

    @property
    def dual_coefficients(self) -> Array:
        """c, the coefficients of the kernels of `centers`: (rank,) or (rank, outputs).

        See Also
        --------
        NystromRegression.predict : Σ_j c_j K(x, C_j).

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> model.dual_coefficients.shape == (len(model.centers),)
        True
        """
        self._check_fitted()
        return self.solution.dual_coefficients

    @overload
    def predict(self, X: ArrayLike, *, return_std: Literal[False] = False, observations: bool = False) -> Array: ...

    @overload
    def predict(
        self, X: ArrayLike, *, return_std: Literal[True], observations: bool = False
    ) -> tuple[Array, Array]: ...

    def predict(
        self, X: ArrayLike, *, return_std: bool = False, observations: bool = False
    ) -> Array | tuple[Array, Array]:
        """f(x), with return_std also its standard deviation, the root of `variance`.

        Parameters
        ----------
        X : array_like, shape (k, d)
            New points, one per row.
        return_std : bool
            Whether to return the deviations as well (direct method only).
        observations : bool
            Of new observations y = f + ε instead of f: α is added to the variance.

        Returns
        -------
        ndarray, shape (k,) or (k, outputs)
            With return_std a tuple of it and the deviations, (k,), which outputs share.

        Raises
        ------
        TypeError, ValueError
            X has other features, or the model is not fitted, or has no variances.

        See Also
        --------
        NystromRegression.variance : The variance alone.
        ntkfast.plotting.plot_predictions : Draws both.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> bool(abs(model.predict([[0.5]]) - 0.25)[0] < 0.01)
        True
        """
        problem = problem_of(self._net, self._new(X), self.centers, dtype=self._dtype, n_threads=self._n_threads)
        values = problem.product(self._kernel, self._dual, self._progress).astype(problem.dtype, copy=False)
        mean = values[:, 0] if self._flat else values
        return (mean, np.sqrt(self.variance(X, observations=observations))) if return_std else mean

    def variance(self, X: ArrayLike, *, observations: bool = False) -> Array:
        """The variance of f(x) (direct method only), see the equation above.

        Parameters
        ----------
        X : array_like, shape (k, d)
            New points, one per row.
        observations : bool
            Of new observations y = f + ε instead of f: α is added.

        Returns
        -------
        ndarray, shape (k,)
            Var f(x) of the projected process, >= 0; outputs share it.

        Raises
        ------
        TypeError, ValueError
            X has other features, or the model was fitted by FALKON.

        See Also
        --------
        NystromRegression.predict : With return_std, its root.

        References
        ----------
        Rasmussen and Williams (2006), section 8.3.4.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> model.variance([[0.5]]).shape
        (1,)
        """
        direct = self._require_direct("variance")
        X = self._new(X)
        points = problem_of(self._net, X, dtype=self._dtype, n_threads=self._n_threads)
        variance: Array = points.diagonals((self._kernel,), show=False)[0].astype(np.float64)
        explained = 1 - self.alpha * direct.shrinkage(self.alpha)  # of q(x, x) along each direction
        panels = self._panels_of(X, self.centers)
        variance -= np.concatenate([*panels.each("variances", _explained, direct.W, explained)])
        variance = np.maximum(variance, 0)
        return (variance + self.alpha if observations else variance).astype(points.dtype, copy=False)

    def leave_one_out(self) -> Array:
        """Each target predicted from all others, y_i - (y_i - f_i)/(1 - H_ii), the centres unchanged.

        H = Φ (ΦᵀΦ + αI)⁻¹ Φᵀ (Rasmussen and Williams 2006, equation 5.12, for the prior covariance Q). Direct method
        only; takes a pass of 2 n m² operations.

        Returns
        -------
        ndarray, the shape of y
            Predictions, not errors.

        Raises
        ------
        ValueError
            The model was fitted by FALKON, or is from a file and has no data.

        See Also
        --------
        GaussianProcess.leave_one_out : The same of all points.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> model.leave_one_out().shape
        (100,)
        """
        direct = self._require_direct("leave_one_out")
        panels, alphas = self._require_data("leave_one_out"), np.array([self.alpha])
        errors = [*panels.each("leave-one-out errors", _errors, direct, alphas, self._y)]
        predicted = self._y - np.concatenate(errors)
        return predicted[:, 0] if self._flat else predicted

    def log_marginal_likelihood(self) -> float:
        """log p(y) of y ~ N(0, Q + αI), the evidence of the projected process, summed over outputs.

        -½ (yᵀy - Σ_k u_k²/(λ_k + α))/α - ½ Σ_k log(λ_k + α) - ½ (n - r) log α - n/2 log 2π, with u = VᵀΦᵀy. Direct
        method only, and takes no pass.

        Returns
        -------
        float
            log p(y), in nats.

        Raises
        ------
        ValueError
            The model was fitted by FALKON, or alpha is 0.

        See Also
        --------
        network_likelihood : That of the kernel itself, with derivatives.

        References
        ----------
        Rasmussen and Williams (2006), section 8.3.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = nf.NystromRegression(nf.MLP(3, bias_std=0.5), 20, 1e-4, rng=0).fit(X, X[:, 0] ** 2)
        >>> type(model.log_marginal_likelihood())
        <class 'float'>
        """
        direct = self._require_direct("log_marginal_likelihood")
        if self.alpha == 0:
            raise ValueError("alpha: expected a ridge above 0 for the evidence, got 0")
        misfit = (direct.squares - direct.shrinkage(self.alpha) @ np.square(direct.u)) / self.alpha
        return float(-0.5 * (misfit + self.solution.log_determinant + self._n_points * np.log(2 * np.pi)).sum())

    def _new(self, X: ArrayLike) -> Any:
        self._check_fitted()
        points = arrays.as_points(X, "X")
        if points.shape[1] != self.centers.shape[1]:
            raise ValueError(f"X: expected {self.centers.shape[1]} features as in fit, got shape {points.shape}")
        return points

    def _check_fitted(self) -> None:
        if not hasattr(self, "solution"):
            raise ValueError("NystromRegression: expected a fitted one, got one before fit(X, y)")

    def _require_data(self, what: str) -> Panels:
        if self._panels is None:
            raise ValueError(f"{what}: expected the model that was fitted, got one from a file, which has no data")
        return self._panels

    def _require_direct(self, what: str) -> NystromDirect:
        self._check_fitted()
        if self._direct is None:
            raise ValueError(f"{what}: expected method='direct', got a model fitted by 'falkon'")
        return self._direct


def _explained(part: Part, W: Array, weights: Array) -> Array:
    """Σ_k weights_k (K W)²_ik for the rows of a part."""
    found = []
    for _, panel in part:
        with threads.blas(part.n_threads, panel.size * W.shape[1] * 2.0):
            found.append(np.square(pieces.product(panel, W)) @ weights)
    return np.concatenate(found)


def _left_out(part: Part, direct: NystromDirect, alphas: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """y_i minus its prediction from all others, (some, rows, q), for some ridges and some rows after the other."""
    shrinkage = np.stack([direct.shrinkage(alpha) for alpha in alphas])  # (A, r)
    q = y.shape[1]
    for rows, panel in part:
        with threads.blas(part.n_threads, panel.size * direct.W.shape[1] * 2.0):
            features = pieces.product(panel, direct.W)
            kept = np.maximum(1 - shrinkage @ np.square(features).T, np.finfo(np.float64).eps)  # (A, rows)
            for some in arrays.blocks(len(alphas), max(1, MOST_COLUMNS // q)):
                weights = shrinkage[some].T[:, :, None] * direct.u[:, None, :]  # (r, some, q)
                fitted = pieces.product(features, weights.reshape(len(weights), -1)).reshape(len(panel), -1, q)
                errors = (y[rows, None] - fitted).transpose(1, 0, 2)
                yield some, ridge.Residuals(errors, kept[some]).left_out()


def _squared_errors(part: Part, direct: NystromDirect, alphas: Array, y: Array) -> Arrays:
    """For each ridge, the sum over the rows of the squared errors, averaged over outputs."""
    total = np.zeros(len(alphas))
    for some, left in _left_out(part, direct, alphas, y):
        total[some] += np.square(left).mean(axis=2).sum(axis=1)
    return (total,)


def _errors(part: Part, direct: NystromDirect, alphas: Array, y: Array) -> Array:
    """For one ridge, (rows, q)."""
    return np.concatenate([left[0] for _, left in _left_out(part, direct, alphas, y)])


def _require_semi_definite(K: Array, L: Array, order: Array, rank: int, diagonal: Array, rounding: float) -> None:
    """Raise unless what a pivoted factor L leaves of a function's kernel is rounding; L is in one triangle of K."""
    left, rest = order[rank:], L[rank:, :rank]
    for rows in arrays.blocks(len(left)):
        high, low = np.maximum(left[rows, None], left), np.minimum(left[rows, None], left)
        unexplained = np.where(high > low, K[high, low], diagonal[high]) - rest[rows] @ rest.T
        if np.abs(unexplained).max() > rounding:
            raise ValueError(
                f"{KERNEL_OF_CENTERS}: expected a positive semi-definite matrix, got one with negative eigenvalues"
            )


def _one_ridge(alpha: object) -> float | None:
    """The one ridge, or None where it is chosen; raise unless alpha is one of those that are accepted."""
    if isinstance(alpha, str):
        if alpha != "loo":
            raise ValueError(f"alpha: expected a number, a sequence of numbers or 'loo', got {alpha!r}")
        return None
    if np.ndim(alpha) == 0:  # type: ignore[arg-type]
        return non_negative_number(alpha, "alpha")
    given, _ = checks.times(alpha, "alpha", infinite=False)  # type: ignore[arg-type]
    if not given.all():
        raise ValueError("alpha: expected numbers > 0 to choose from, got 0")
    return None
