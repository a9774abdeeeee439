"""Gradient descent of wide networks on the least-squares cost, in closed form.

Jacot, Gabriel and Hongler (2018), section 5. The linear algebra is in propagator.py and initial.py; this module has the
functions that users call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.infinite.corrections import finite_width
from ntkfast.learning import checks, decay, early_stopping, initial, outputs, pieces
from ntkfast.learning.decay import Continuous, Time
from ntkfast.learning.early_stopping import EarlyStopping
from ntkfast.learning.initial import InitialFunctions
from ntkfast.learning.outputs import Outputs
from ntkfast.learning.percentiles import bands, quantiles
from ntkfast.learning.propagator import Propagator
from ntkfast.networks import Network
from ntkfast.support import forks, memory
from ntkfast.support.saved import Saved, checked
from ntkfast.support.scalars import generator, positive_integer
from ntkfast.support.typing import Array, Progress, Seed

__all__ = ["LeastSquaresFlow"]

WITHOUT_MEMORY = (  # ends the error about a kernel whose factor does not fit
    "; overwrite=True factors it in its own memory, kernel_flow needs no factor, NystromRegression no matrix"
)
P = ParamSpec("P")
R = TypeVar("R")


def _squares(coefficients: Array) -> Array:
    """Summed over outputs, in float64."""
    total: Array = np.square(coefficients, dtype=np.float64).sum(axis=1)
    return total


def _public(
    method: Callable[Concatenate[LeastSquaresFlow, P], R],
) -> Callable[Concatenate[LeastSquaresFlow, P], R]:
    """Decorator: one call at a time, as a decomposition overwrites what another call reads; overflow is an error.

    BLAS has the threads that matrices of this size deserve.
    """

    @functools.wraps(method)
    def call(self: LeastSquaresFlow, /, *args: P.args, **kwargs: P.kwargs) -> R:
        rows = [len(given) for given in (*args, *kwargs.values()) if isinstance(given, np.ndarray) and given.ndim > 1]
        flops = len(self._y) ** 2 * max(len(self._y), *rows, 0)
        with self._lock, threads.blas(self._n_threads, flops), checks.overflow(method.__name__) as fits:
            result = method(self, *args, **kwargs)
            fits(result.validation_loss if isinstance(result, EarlyStopping) else result)
        return result

    return call


class LeastSquaresFlow(forks.Guarded, Saved):
    """Kernel gradient descent on C = ½‖f - y‖²_pin, the training of an infinitely wide network, at any time t.

    Time is in units of the N points, ∂_t f = -(1/N) Σ_j K(·, x_j) (f - y)(x_j), whatever the number k of outputs:
    m steps of `train` with learning rate η take t = η m. neural-tangents divides by y.size = N k: its time T is t = T/k
    here.

    On the N data, with Π = K/N, and at any x, with κ = K(x, X),

        f_t = y + e^{-tΠ}(f_0 - y),    f_t(x) = f_0(x) + A_t (y - f_0),    A_t = κ K⁻¹ (I - e^{-tΠ})

    (Jacot, Gabriel and Hongler 2018, section 5). Outputs are independent of one another, unless kernels are given with
    axes of outputs, (N, N, k, k): then all of this holds for the N k numbers f_a(x_i), Π = K/N. For random f_0 of
    covariance Σ, as a wide network has, f_t is Gaussian with mean A_t y and

        cov_t(x, x') = Σ(x, x') + A_t Σ(X, X) A_tᵀ - A_t Σ(X, x') - Σ(x, X) A_tᵀ

    Parameters
    ----------
    ntk_xx : array_like, shape (N, N) or (N, N, k, k)
        The kernel K on the data, positive semi-definite. Kept, not copied: do not change it afterwards. float32 gives
        float32 results, everything else float64. (N, N, k, k), as `empirical_ntk` returns it with outputs="full",
        couples the k outputs; it is copied as the matrix (N k, N k) whose row i k + a is output a of point i, which may
        be given instead.
    y : array_like, shape (N,) or (N, outputs)
        Targets. Results have an axis of outputs if y has one.
    nngp_xx : array_like, shape (N, N), optional
        Σ on the data, for random f_0. Kept like ntk_xx. If outputs are coupled, this and all other kernels have two
        more axes of outputs, or are matrices as above; nngp_t is (m, k), covariances are (m, m, k, k), variances
        (m, k), eigenfunctions (N, k, n_components), and components have no axis of outputs.
    overwrite : bool
        Work in the memory of ntk_xx: its contents are lost, and at t = inf no other matrix of its size is needed.
    n_threads : int, optional
        Of BLAS in the methods. Default: one for small matrices (N below some 800), else BLAS's own number.

    Attributes
    ----------
    eigenvalues : ndarray, shape (N,), or (N k,) for coupled outputs
        λ_i of K/N, largest first. An eigenvalue counts as 0, and is returned as 0, up to N eps of the largest one or up
        to twice the most negative one in absolute value, which indicates the accuracy of K.
    max_learning_rate : float
        2/λ_1, beyond which gradient descent in discrete steps diverges.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it. A matrix that is not positive semi-definite (an
        eigenvalue is below -√eps of the largest) is detected when it is first decomposed.
    MemoryError
        A copy or the eigenvectors do not fit into memory.

    See Also
    --------
    kernel_flow : Any cost or training direction, by an ODE solver.
    GaussianProcess : Regression with a ridge instead of a time.
    train : Gradient descent of a network of finite width, in the same units.
    ntkfast.plotting.plot_percentiles : Draws bands of the random function.

    Notes
    -----
    Which kernels: for a network with all layers trained, K is its NTK (ntk_xx, ntk_tx: `ntkfast.ntk`), which governs
    its training, and Σ its NNGP kernel (nngp_xx, nngp_tx, nngp_tt: `ntkfast.nngp`), the covariance of its initial
    functions. `ntkfast.kernels` computes both in one pass, as in the example.

    One eigendecomposition, computed when it is first needed, serves all times. If only t = inf is needed and K is
    positive definite beyond rounding, a Cholesky factor is used instead. Calls from several threads wait for one
    another.

    Numbers are accepted if sums of their squares fit the dtype, up to 1e151 in float64 and 2e16 in float32, and kernels
    from 2e-154 and 1e-19; otherwise, and if a result overflows, a ValueError says so.

    The component in the null space (eigenvalues that count as 0) never changes on the data. At a new point its weight
    is t/N, the limit of (1 - e^{-tλ})/(Nλ), until t √eps λ_1 reaches 1. Entries of near duplicates are accurate to half
    of their digits, which may hide an eigenvalue of this size; beyond that time the component is therefore unknown and
    left out. At t = inf that gives the solution of least norm. The part of κ in the null space counts as 0 if it is at
    most N eps ‖κ‖, or at most what the error E of K explains, ‖E‖ (1 + ‖κ K⁻¹‖), where ‖E‖ is taken to be twice the
    most negative eigenvalue: an exact kernel function has no such part.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=3, bias_std=0.1)
    >>> X, y, T = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([1.0, 0.0, 2.0]), np.array([[0.6, 0.8]])
    >>> data, new = nf.kernels(net, X), nf.kernels(net, T, X)
    >>> flow = nf.LeastSquaresFlow(data.ntk, y, data.nngp)
    >>> flow.mean(np.inf)
    array([1., 0., 2.])
    >>> flow.loss([0.0, 10.0, 100.0]).round(3)
    array([0.833, 0.067, 0.   ])
    >>> flow.mean(np.inf, new.ntk).round(3)
    array([0.244])
    >>> flow.variance([0.0, np.inf], new.ntk, new.nngp, nf.diagonal(net, T, "nngp")).round(3)
    array([[0.143],
           [0.018]])
    """

    def __init__(
        self,
        ntk_xx: ArrayLike,
        y: ArrayLike,
        nngp_xx: ArrayLike | None = None,
        *,
        overwrite: bool = False,
        n_threads: int | None = None,
    ) -> None:
        if overwrite:
            checks.in_place(ntk_xx, "ntk_xx")
            if nngp_xx is not None and np.may_share_memory(np.asarray(ntk_xx), np.asarray(nngp_xx)):
                raise ValueError("nngp_xx: expected memory apart from ntk_xx, which is overwritten, got an overlap")
        K, n = outputs.kernel(ntk_xx, "ntk_xx", bool(overwrite), WITHOUT_MEMORY)
        self._outputs = Outputs.of(K, np.shape(y), n)
        self._n, self._dtype = self._outputs.n, K.dtype
        self._y = self._outputs.values(y, "y", self._dtype)
        self._propagator = Propagator(K, "ntk_xx", bool(overwrite), self._n)
        self._initial = None
        if nngp_xx is not None:
            self._initial = InitialFunctions(self._outputs.symmetric(nngp_xx, "nngp_xx"), self._dtype)
        self._n_threads = None if n_threads is None else positive_integer(n_threads, "n_threads")
        self.guard()

    @classmethod
    def of_initial_kernel(
        cls,
        net: Network,
        X: ArrayLike,
        y: ArrayLike,
        *,
        width: int | None = None,
        widths: Sequence[int] | None = None,
        n_threads: int | None = None,
        progress: Progress = None,
    ) -> LeastSquaresFlow:
        """The flow whose kernels are the means over random networks of finite width at initialisation, to order 1/n.

        K = E Θ̂ and Σ = E Σ̂ from `finite_width`, from which kernels at new points come, too. This is not how such
        networks learn to order 1/n: the kernel's scatter from network to network and its change in training add terms
        of the same order, which are as large or larger unless t is small (docs/beyond.md has an example). For small t,
        where f_t(x) is nearly t K(x, X) y/N, the mean over networks is that of K = E Θ̂.

        Parameters
        ----------
        net : Network
            As in `finite_width`.
        X : array_like, shape (N, d)
            Training points, one per row.
        y : array_like, shape (N,) or (N, outputs)
            Targets.
        width, widths
            As in `finite_width`.
        n_threads, progress
            As in `finite_width`.

        Returns
        -------
        LeastSquaresFlow
            Of K = E Θ̂ and Σ = E Σ̂.

        Raises
        ------
        ValueError
            To this order the mean of a kernel is no longer positive semi-definite: the networks are too narrow for
            their depth, or the limit kernel is too nearly singular. Also as in `finite_width`.

        See Also
        --------
        finite_width : The means, at new points too.
        kernel_change : How the kernel changes in training.

        Examples
        --------
        >>> import ntkfast as nf
        >>> net, X, T, n = nf.MLP(4, weight_std=2**0.5), [[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0]], 64
        >>> flow = nf.LeastSquaresFlow.of_initial_kernel(net, X, [1.0, 2.0], width=n)
        >>> new = nf.finite_width(net, T, X, width=n)
        >>> flow.mean([0.1, 10.0], new.ntk_mean).round(3)
        array([[0.271],
               [1.282]])
        >>> limit = nf.LeastSquaresFlow(nf.ntk(net, X), [1.0, 2.0])
        >>> limit.mean([0.1, 10.0], nf.ntk(net, T, X)).round(3)
        array([[0.269],
               [1.269]])
        """
        means = finite_width(
            net, X, width=width, widths=widths, get=("ntk_mean", "nngp_mean"), n_threads=n_threads, progress=progress
        )
        flow = cls(means.ntk_mean, y, means.nngp_mean, n_threads=n_threads)
        try:
            flow._propagator.eigen(), flow._random().root
        except ValueError as error:
            name = "width" if widths is None else "widths"
            raise ValueError(
                f"{name}: expected networks so wide that the means of their kernels to order 1/n are positive "
                f"semi-definite, got {width or widths or 'those of net'}; {error}"
            ) from None
        return flow

    def __repr__(self) -> str:
        return f"LeastSquaresFlow(N={self._n}{self._outputs.in_repr()}, {self._dtype})"

    def described(self) -> dict[str, Any]:
        with self._lock, threads.blas(self._n_threads, float(len(self._y)) ** 3):
            propagator = self._propagator.described()
            initial = None if self._initial is None else self._initial.root
        return {
            "outputs": self._outputs,
            "y": self._y,
            "propagator": propagator,
            "initial": initial,
            "n_threads": self._n_threads,
        }

    @classmethod
    def rebuilt(cls, outputs: Any, y: Any, propagator: Any, initial: Any, n_threads: Any) -> LeastSquaresFlow:
        flow = cls.__new__(cls)
        flow._outputs = checked(outputs, Outputs, "outputs")
        flow._propagator = Propagator.rebuilt(**checked(propagator, dict, "propagator"))
        flow._n, flow._dtype = flow._outputs.n, flow._propagator.dtype
        flow._y = flow._outputs.saved_columns(y, "y", flow._dtype)
        flow._initial = None if initial is None else InitialFunctions.rebuilt(initial, len(flow._y))
        if flow._propagator.n != len(flow._y):
            raise ValueError(f"propagator: expected {len(flow._y)} rows, got {flow._propagator.n}")
        flow._n_threads = None if n_threads is None else positive_integer(n_threads, "n_threads")
        flow.guard()
        return flow

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None}  # a lock cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.guard()

    @property
    def eigenvalues(self) -> Array:
        """λ_i of K/N, largest first: the rates of the exponentials.

        Values that cannot be told from 0 are returned as 0; the class says which.

        Returns
        -------
        ndarray, shape (N,), or (N k,) for coupled outputs
            Descending, >= 0.

        See Also
        --------
        LeastSquaresFlow.eigenfunctions : The directions that belong to them.
        kernel_pca : A few of them, from a matrix or an operator.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 4.0]], [1.0, 1.0]).eigenvalues
        array([2., 1.])
        """
        with self._lock:
            return self._propagator.rates()[::-1]

    @property
    def max_learning_rate(self) -> float:
        """2/λ_1, beyond which gradient descent in discrete steps diverges; inf if K is 0.

        See Also
        --------
        max_learning_rate : The same of a matrix, without a flow.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 4.0]], [1.0, 1.0]).max_learning_rate
        1.0
        """
        largest = float(self.eigenvalues[0])
        return 2 / largest if largest > 0 else np.inf

    # --- arguments

    def _time(self, t: ArrayLike | None, steps: ArrayLike | None, learning_rate: float | None) -> tuple[Time, bool]:
        return decay.given(t, steps, learning_rate, lambda: self.max_learning_rate)

    def _start(self, f0: ArrayLike | None) -> Array:
        """f_0 on the data, (N, k)."""
        return np.zeros_like(self._y) if f0 is None else self._outputs.values(f0, "f0", self._dtype)

    def _cross(self, ntk_tx: ArrayLike) -> Array:
        return self._outputs.cross(ntk_tx, "ntk_tx", self._dtype)

    def _shaped(self, result: Array, scalar: bool) -> Array:
        result = self._outputs.shaped(result)
        return result[0] if scalar else result

    def _both(self, f0: ArrayLike | None, f0_t: ArrayLike | None) -> None:
        """Raise if the initial function is given on one side only."""
        if (f0 is None) != (f0_t is None):
            given, missing = ("f0", "f0_t") if f0_t is None else ("f0_t", "f0")
            raise TypeError(f"{missing}: expected the initial function there too, as {given} is given; got None")

    # --- the function

    @_public
    def mean(
        self,
        t: ArrayLike | None = None,
        ntk_tx: ArrayLike | None = None,
        f0: ArrayLike | None = None,
        f0_t: ArrayLike | None = None,
        *,
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
    ) -> Array:
        """f_t from a given f_0, or its mean over random f_0 of mean 0.

        Parameters
        ----------
        t : float or array_like, shape (T,)
            Times >= 0, inf included.
        ntk_tx : array_like, shape (m, N), optional
            K(x, X) for new points. Default: f_t on the data is returned.
        f0 : array_like, shape (N,) or (N, outputs), optional
            f_0 on the data; default 0.
        f0_t : array_like, shape (m,) or (m, outputs), optional
            f_0 at the new points; needed if f0 and ntk_tx are given.
        steps : int or array_like of int, shape (T,), optional
            Instead of t: the number of steps of gradient descent f ← f - (η/N) K (f - y).
        learning_rate : float, optional
            η, with steps.

        Returns
        -------
        ndarray, shape (m,), (T, m), (m, outputs) or (T, m, outputs)
            With the axis T if t (or steps) is an array, and an axis of outputs if y has one.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; the learning rate is beyond `max_learning_rate`.

        See Also
        --------
        LeastSquaresFlow.variance : How far f_t scatters about its mean.
        LeastSquaresFlow.samples : Random functions instead.
        LeastSquaresFlow.loss : The cost along the way.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> flow = nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
        >>> flow.mean([0.0, 1.0, np.inf]).round(3)
        array([[0.   , 0.   ],
               [0.632, 0.393],
               [1.   , 1.   ]])
        >>> flow.mean(steps=2, learning_rate=1.0)
        array([1.  , 0.75])
        """
        time, scalar = self._time(t, steps, learning_rate)
        start = self._start(f0)
        if ntk_tx is None:
            if f0_t is not None:
                raise TypeError("f0_t: expected together with ntk_tx, got it alone")
            return self._shaped(self._propagator.on_data(time, start, self._y), scalar)
        K_tx = self._cross(ntk_tx)
        self._both(f0, f0_t)
        result = self._propagator.beyond(time, self._y - start, K_tx)
        if f0_t is not None:
            result += self._outputs.values(f0_t, "f0_t", self._dtype, self._outputs.points(K_tx))
        return self._shaped(result, scalar)

    # --- random initial functions

    def _random(self) -> InitialFunctions:
        if self._initial is None:
            raise ValueError("nngp_xx: expected the covariance of the initial functions on the data, got None")
        return self._initial

    def _beyond(
        self, ntk_tx: ArrayLike | None, nngp_tx: ArrayLike | None, prior: ArrayLike | None, name: str
    ) -> tuple[Array, Array, Array] | None:
        """K(x, X), and W and the (co)variance of r as in `InitialFunctions`; None if no new points are given."""
        given = {"ntk_tx": ntk_tx, "nngp_tx": nngp_tx, name: prior}
        missing = [key for key, value in given.items() if value is None]
        if len(missing) == 3:
            return None
        if ntk_tx is None or nngp_tx is None or prior is None:
            raise TypeError(f"{missing[0]}: expected a matrix together with the others of the new points, got None")
        K_tx = self._cross(ntk_tx)
        m = self._outputs.points(K_tx)
        cross = self._outputs.cross(nngp_tx, "nngp_tx", self._dtype, m)
        check = self._outputs.symmetric if name == "nngp_tt" else self._outputs.variances
        return K_tx, *self._random().beyond(cross, check(prior, name, m), name, len(K_tx) // m)

    def _deviations(self, time: Time, new: tuple[Array, Array, Array] | None) -> Iterator[Array]:
        """For each t the matrix M with f_t - mean_t = M z + r (`InitialFunctions`): e^{-tΠ} F, or W - A_t F.

        Products M Mᵀ keep covariances positive despite rounding, however large A_t is.
        """
        F = self._random().root.half
        if new is None:
            yield from self._propagator.one_by_one(time, F, None)
        else:
            K_tx, W, _ = new
            yield from (W - product for product in self._propagator.one_by_one(time, F, K_tx))

    @_public
    def covariance(
        self,
        t: ArrayLike | None = None,
        ntk_tx: ArrayLike | None = None,
        nngp_tx: ArrayLike | None = None,
        nngp_tt: ArrayLike | None = None,
        *,
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
    ) -> Array:
        """The covariance of f_t for random f_0, the same for every output.

        Parameters
        ----------
        t, ntk_tx, steps, learning_rate
            As in `mean`; without ntk_tx, nngp_tx and nngp_tt it is the covariance on the data.
        nngp_tx : array_like, shape (m, N), optional
            Σ(x, X).
        nngp_tt : array_like, shape (m, m), optional
            Σ(x, x').

        Returns
        -------
        ndarray, shape (m, m) or (T, m, m)
            Symmetric. Positive semi-definite up to rounding relative to nngp_tt; exactly 0 on the data at t = inf if K
            is positive definite beyond rounding.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described, only some of the three matrices are given, or the flow has no nngp_xx.
        MemoryError
            The matrices do not fit.

        See Also
        --------
        LeastSquaresFlow.variance : Its diagonal, without the matrix.
        LeastSquaresFlow.mean : The mean.

        Examples
        --------
        >>> import ntkfast as nf
        >>> flow = nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], nngp_xx=[[1.0, 0.5], [0.5, 1.0]])
        >>> flow.covariance(1.0).round(3)
        array([[0.135, 0.112],
               [0.112, 0.368]])
        """
        time, scalar = self._time(t, steps, learning_rate)
        new = self._beyond(ntk_tx, nngp_tx, nngp_tt, "nngp_tt")
        m, rest = (len(self._y), 0) if new is None else (len(new[0]), new[2])
        memory.require(len(time.t) * m * m * self._dtype.itemsize, "t: the covariances", "; variance needs no matrices")
        result = np.empty((len(time.t), m, m), dtype=self._dtype)
        for k, M in enumerate(self._deviations(time, new)):
            C = rest + pieces.square(M)
            result[k] = (C + C.T) / 2
        result = self._outputs.kernel(result)
        return result[0] if scalar else result

    @_public
    def variance(
        self,
        t: ArrayLike | None = None,
        ntk_tx: ArrayLike | None = None,
        nngp_tx: ArrayLike | None = None,
        nngp_t: ArrayLike | None = None,
        *,
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
    ) -> Array:
        """The diagonal of `covariance`, without the matrix.

        Parameters
        ----------
        t, ntk_tx, nngp_tx, steps, learning_rate
            As in `covariance`.
        nngp_t : array_like, shape (m,), optional
            Σ(x, x) at the new points (`ntkfast.diagonal`).

        Returns
        -------
        ndarray, shape (m,) or (T, m)
            Var f_t(x) of one output, >= 0.

        Raises
        ------
        TypeError, ValueError
            As in `covariance`.

        See Also
        --------
        LeastSquaresFlow.covariance : The whole matrix.
        LeastSquaresFlow.percentiles : Bands from mean and variance.
        ntkfast.diagonal : nngp_t.

        Examples
        --------
        >>> import ntkfast as nf
        >>> flow = nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], nngp_xx=[[1.0, 0.5], [0.5, 1.0]])
        >>> flow.variance(1.0).round(3)
        array([0.135, 0.368])
        """
        time, scalar = self._time(t, steps, learning_rate)
        new = self._beyond(ntk_tx, nngp_tx, nngp_t, "nngp_t")
        rest = 0 if new is None else new[2]
        result = np.array([rest + np.einsum("ij,ij->i", M, M) for M in self._deviations(time, new)])
        result = self._outputs.variance(result)
        return result[0] if scalar else result

    @_public
    def percentiles(
        self,
        t: ArrayLike | None = None,
        ntk_tx: ArrayLike | None = None,
        nngp_tx: ArrayLike | None = None,
        nngp_t: ArrayLike | None = None,
        *,
        levels: ArrayLike = (10, 50, 90),
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
    ) -> Array:
        """Percentiles of f_t(x) for random f_0: mean plus quantiles of N(0, 1) times the standard deviation.

        Parameters
        ----------
        t, ntk_tx, nngp_tx, nngp_t, steps, learning_rate
            As in `variance`.
        levels : sequence of float
            In (0, 100), in any order, which is that of the result. The default is that of the paper's figure 2.

        Returns
        -------
        ndarray, the shape of `mean` with a first axis of levels
            In the order of `levels`.

        Raises
        ------
        TypeError, ValueError
            As in `covariance`; or a level is not in (0, 100).

        See Also
        --------
        LeastSquaresFlow.variance : The variance.
        ntkfast.plotting.plot_percentiles : Draws them.
        GaussianProcess.percentiles : Those of a posterior.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[1.0]], [1.0], nngp_xx=[[1.0]]).percentiles(1.0).round(3)
        array([[0.161],
               [0.632],
               [1.104]])
        """
        q = quantiles(levels)
        variance = self.variance(t, ntk_tx, nngp_tx, nngp_t, steps=steps, learning_rate=learning_rate)
        mean = self.mean(t, ntk_tx, steps=steps, learning_rate=learning_rate)
        return bands(mean, variance, q)

    @_public
    def samples(
        self,
        t: ArrayLike | None = None,
        ntk_tx: ArrayLike | None = None,
        nngp_tx: ArrayLike | None = None,
        nngp_tt: ArrayLike | None = None,
        *,
        n_samples: int = 1,
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
        rng: Seed = None,
    ) -> Array:
        """Random functions f_t, each followed from its own random f_0 through all times.

        Parameters
        ----------
        t, ntk_tx, nngp_tx, nngp_tt, steps, learning_rate
            As in `covariance`.
        n_samples : int
            How many functions.
        rng : None, int or numpy.random.Generator
            For the initial functions.

        Returns
        -------
        ndarray, the shape of `mean` with an axis of samples before that of the points
            f_t of each sample; the same sample at all times.

        Raises
        ------
        TypeError, ValueError
            As in `covariance`.
        MemoryError
            The samples do not fit.

        See Also
        --------
        LeastSquaresFlow.mean : The mean over such functions.
        LeastSquaresFlow.covariance : Their covariance.

        Examples
        --------
        >>> import ntkfast as nf
        >>> flow = nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], nngp_xx=[[1.0, 0.5], [0.5, 1.0]])
        >>> flow.samples([0.0, 1.0], n_samples=3, rng=0).shape
        (2, 3, 2)
        """
        time, scalar = self._time(t, steps, learning_rate)
        n, rng = checks.count(n_samples, "n_samples"), generator(rng)
        new = self._beyond(ntk_tx, nngp_tx, nngp_tt, "nngp_tt")
        F, k = self._random().root.half, self._y.shape[1]
        m = len(F) if new is None else len(new[0])
        size = n * k * (3 * len(F) + len(time.t) * m) * self._dtype.itemsize
        memory.require(size, "n_samples: the samples", "; fewer at a time need less")
        z = rng.standard_normal((F.shape[1], n * k)).astype(self._dtype)
        y, f0 = np.tile(self._y, n), pieces.product(F, z)
        if new is None:
            f = self._propagator.on_data(time, f0, y)
        else:
            K_tx, W, rest = new
            f0_t = pieces.product(W, z)
            f0_t += initial.draw(rest, n * k, rng)
            f = f0_t + self._propagator.beyond(time, y - f0, K_tx)
        f = f.reshape(len(time.t), -1, n, k).transpose(0, 2, 1, 3)
        return self._shaped(f, scalar)

    # --- the cost, along the eigenfunctions

    @_public
    def loss(
        self,
        t: ArrayLike | None = None,
        f0: ArrayLike | None = None,
        *,
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
    ) -> float | Array:
        """C(f_t) = ½‖f_t - y‖²_pin on the data, summed over outputs.

        Parameters
        ----------
        t, steps, learning_rate, f0
            As in `mean`. With the default f_0 = 0 it is the loss of the mean; the mean loss is `expected_loss`.

        Returns
        -------
        float, or ndarray, shape (T,)
            An array if t (or steps) is one.

        Raises
        ------
        TypeError, ValueError
            As in `mean`.

        See Also
        --------
        LeastSquaresFlow.expected_loss : The mean over random initial functions.
        LeastSquaresFlow.components : The error itself, along the eigenfunctions.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[1.0]], [2.0]).loss([0.0, 1.0]).round(3)
        array([2.   , 0.271])
        """
        time, scalar = self._time(t, steps, learning_rate)
        error = self._y - self._start(f0)
        if self._propagator.cholesky(time):
            loss: Array = np.zeros(len(time.t))
        else:
            loss = self._loss(time, _squares(self._propagator.eigen().vectors.T @ error))
        return float(loss[0]) if scalar else loss

    def _loss(self, time: Time, squares: Array) -> Array:
        """From the squares of the coefficients in the eigenvectors, (n,)."""
        return self._propagator.remaining(time) ** 2 @ squares / (2 * self._n)

    @_public
    def expected_loss(
        self, t: ArrayLike | None = None, *, steps: ArrayLike | None = None, learning_rate: float | None = None
    ) -> float | Array:
        """The mean of `loss` over random f_0: C(mean_t) + (outputs/2N) tr e^{-tΠ} Σ e^{-tΠ}.

        Parameters
        ----------
        t, steps, learning_rate
            As in `mean`.

        Returns
        -------
        float, or ndarray, shape (T,)
            An array if t (or steps) is one.

        Raises
        ------
        TypeError, ValueError
            As in `mean`; or the flow has no nngp_xx.

        See Also
        --------
        LeastSquaresFlow.loss : That of one initial function, or of the mean.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[1.0]], [1.0], nngp_xx=[[3.0]]).expected_loss([0.0, 1.0]).round(3)
        array([2.   , 0.271])
        """
        time, scalar = self._time(t, steps, learning_rate)
        F = self._random().root.half
        if self._propagator.cholesky(time):
            loss: Array = np.zeros(len(time.t))
        else:
            vectors, k = self._propagator.eigen().vectors, self._y.shape[1]
            loss = self._loss(time, _squares(vectors.T @ self._y) + k * _squares(vectors.T @ F))
        return float(loss[0]) if scalar else loss

    @_public
    def eigenfunctions(self, n_components: int) -> Array:
        """The first eigenfunctions f^(i) of K/N on the data, orthonormal in ⟨f, g⟩ = (1/N) Σ_j f(x_j) g(x_j).

        The entry of largest absolute value (the first of them) is positive.

        Parameters
        ----------
        n_components : int
            How many, from the largest eigenvalue; more than there are gives all.

        Returns
        -------
        ndarray, shape (N, n_components)
            f^(i) on the data, one per column; (N, k, n_components) for coupled outputs.

        Raises
        ------
        TypeError, ValueError
            n_components is not a positive integer.

        See Also
        --------
        LeastSquaresFlow.eigenvalues : The rates that belong to them.
        kernel_pca : A few of them, with values at new points.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 4.0]], [1.0, 1.0]).eigenfunctions(1).round(4)
        array([[0.    ],
               [1.4142]])
        """
        n = min(positive_integer(n_components, "n_components"), len(self._y))
        functions = self._propagator.eigen().vectors[:, : -n - 1 : -1] * np.sqrt(self._dtype.type(self._n))
        return functions.reshape(self._n, -1, n) if self._outputs.coupled else functions

    @_public
    def components(
        self,
        t: ArrayLike | None = None,
        f0: ArrayLike | None = None,
        *,
        n_components: int | None = None,
        steps: ArrayLike | None = None,
        learning_rate: float | None = None,
    ) -> Array:
        """The error along the eigenfunctions, ⟨f_t - y, f^(i)⟩_pin, which decays like e^{-tλ_i}.

        Parameters
        ----------
        t, f0, steps, learning_rate
            As in `mean`.
        n_components : int, optional
            How many, starting from the largest eigenvalue; default all.

        Returns
        -------
        ndarray, shape (n_components,) or (T, n_components), with an axis of outputs if y has one
            Signed, in the order of `eigenvalues`.

        Raises
        ------
        TypeError, ValueError
            As in `mean`.

        See Also
        --------
        LeastSquaresFlow.eigenvalues : The rates of decay.
        ntkfast.plotting.plot_components : Draws them.

        References
        ----------
        Jacot, Gabriel and Hongler (2018), section 5, and figure 3(c).

        Examples
        --------
        >>> import ntkfast as nf
        >>> flow = nf.LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
        >>> flow.components([0.0, 1.0]).round(3)
        array([[-0.707, -0.707],
               [-0.26 , -0.429]])
        """
        time, scalar = self._time(t, steps, learning_rate)
        most = len(self._y)
        n = most if n_components is None else min(positive_integer(n_components, "n_components"), most)
        first = slice(None, -n - 1, -1)
        error = self._start(f0) - self._y
        coefficients = (self._propagator.eigen().vectors.T @ error)[first] / np.sqrt(self._n)
        remains = self._propagator.remaining(time)[:, first]
        along = (remains[:, :, None] * coefficients).astype(self._dtype)
        along = along[..., 0] if self._outputs.flat or self._outputs.coupled else along
        return along[0] if scalar else along

    @_public
    def null_space_part(self, f0: ArrayLike | None = None) -> Array:
        """Δ⁰ of the paper, the part of y - f_0 in the null space of K, which training never removes.

        Parameters
        ----------
        f0 : array_like, shape (N,) or (N, outputs), optional
            Default 0.

        Returns
        -------
        ndarray, the shape of y
            0 where K is positive definite beyond rounding.

        See Also
        --------
        LeastSquaresFlow.eigenvalues : Those that are 0 belong to it.
        smallest_eigenvalue : Whether a network's kernel has a null space, and why.

        References
        ----------
        Jacot, Gabriel and Hongler (2018), section 5.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.LeastSquaresFlow([[1.0, 1.0], [1.0, 1.0]], [0.0, 2.0]).null_space_part()
        array([-1.,  1.])
        """
        e, error = self._propagator.eigen(), self._y - self._start(f0)
        null = e.vectors[:, : np.count_nonzero(e.values == 0)]
        return self._shaped(null @ (null.T @ error), False)

    @_public
    def early_stopping(
        self,
        ntk_tx: ArrayLike,
        y_t: ArrayLike,
        f0: ArrayLike | None = None,
        f0_t: ArrayLike | None = None,
        *,
        t: ArrayLike | None = None,
    ) -> EarlyStopping:
        """The time of the smallest validation loss ½ mean_j ‖f_t(x_j) - y_j‖².

        Parameters
        ----------
        ntk_tx : array_like, shape (m, N)
            K(x, X) for the validation points.
        y_t : array_like, shape (m,) or (m, outputs)
            Their targets.
        f0, f0_t : array_like, optional
            As in `mean`.
        t : array_like, shape (T,), optional
            Times to choose from. Default: 0, inf and 200 times in geometric progression from 0.01/λ_1 to 100/λ_n, λ_n
            the smallest positive eigenvalue, and then a search between the neighbours of the best, unless it is inf.

        Returns
        -------
        EarlyStopping
            The time, its loss, and both losses at all times that were examined.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described.

        See Also
        --------
        LeastSquaresFlow.loss : The training loss.
        ntkfast.plotting.plot_early_stopping : Draws the result.

        References
        ----------
        Jacot, Gabriel and Hongler (2018), section 5, on early stopping.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> flow = nf.LeastSquaresFlow(np.diag([2.0, 0.2]), [1.0, 1.0])
        >>> round(flow.early_stopping([[1.0, -0.2]], [0.4]).t, 3)
        1.788
        """
        K_tx = self._cross(ntk_tx)
        m = self._outputs.points(K_tx)
        target = self._outputs.values(y_t, "y_t", self._dtype, m)
        self._both(f0, f0_t)
        if f0_t is not None:
            target = target - self._outputs.values(f0_t, "f0_t", self._dtype, m)
        propagator = self._propagator
        coefficients = propagator.eigen().vectors.T @ (self._y - self._start(f0))
        left = propagator.along(K_tx)

        def validation(t: Array) -> Array:
            error = propagator.spread(left, propagator.learned(Continuous(t)), coefficients) - target
            loss: Array = np.square(error, dtype=np.float64).sum(axis=(1, 2)) / (2 * m)
            return loss

        times = early_stopping.grid(propagator.rates()) if t is None else np.sort(checks.times(t)[0])
        losses, eps = validation(times), np.sqrt(self._n) * float(np.finfo(self._dtype).eps)
        stop, loss = early_stopping.best(validation, times, losses, eps, refine=t is None)
        training = self._loss(Continuous(times), _squares(coefficients))
        return EarlyStopping(stop, loss, times, training, losses)
