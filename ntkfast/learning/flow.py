"""Gradient descent of wide networks on the least-squares cost, in closed form.

Jacot, Gabriel and Hongler (2018), section 5. With K = V diag(Nλ) Vᵀ every function of time is a weight per eigenvalue:
e^{-tλ}, or (1-ηλ)^m after m steps, is what remains of the error, and one minus that over Nλ what a new point learns.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import numpy as np
import scipy

from ntkfast.learning import checks
from ntkfast.learning.decay import Flow, Steps, learned, remaining
from ntkfast.learning.factor import cholesky, eigen, factor
from ntkfast.learning.gaussian import quantiles
from ntkfast.support import arrays, memory, reprs
from ntkfast.support.scalars import generator, positive_integer, positive_number

__all__ = ["EarlyStopping", "LeastSquaresFlow"]

CHUNK = 2**22  # numbers of the scratch that holds several times at once


def _squares(coefficients):
    """Summed over outputs, in float64."""
    return np.square(coefficients, dtype=np.float64).sum(axis=1)


def _public(method):
    """Decorator: one call at a time, as a decomposition takes away what another call reads; overflow is an error."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        with self._lock, checks.overflow(method.__name__) as fits:
            result = method(self, *args, **kwargs)
            fits(result.validation_loss if isinstance(result, EarlyStopping) else result)
        return result

    return call


@dataclass(frozen=True)
class EarlyStopping:
    """What `LeastSquaresFlow.early_stopping` finds.

    Attributes
    ----------
    t, loss : float
        The time of the smallest validation loss, and that loss. Of losses that are equal to rounding that at t = 0
        counts, else that at inf: a loss that falls to the end gives inf.
    times : ndarray, shape (T,)
        The times that were looked at, ascending.
    training_loss, validation_loss : ndarray, shape (T,)
        At these times.
    """

    t: float
    loss: float
    times: np.ndarray
    training_loss: np.ndarray
    validation_loss: np.ndarray

    __repr__ = reprs.short


class LeastSquaresFlow:
    """Kernel gradient descent on C = ½‖f - y‖²_pin, the training of an infinitely wide network, at any time t.

    On the N data, with Π = K/N, and at any x, with κ = K(x, X),

        f_t = y + e^{-tΠ}(f_0 - y),    f_t(x) = f_0(x) + A_t (y - f_0),    A_t = κ K⁻¹ (I - e^{-tΠ})

    (Jacot, Gabriel and Hongler 2018, section 5). Outputs are independent of one another. For random f_0 of
    covariance Σ, as a wide network has, f_t is Gaussian with mean A_t y and

        cov_t(x, x') = Σ(x, x') + A_t Σ(X, X) A_tᵀ - A_t Σ(X, x') - Σ(x, X) A_tᵀ

    Parameters
    ----------
    ntk_xx : array_like, shape (N, N)
        The kernel K on the data, positive semi-definite. Kept, not copied: leave it as it is. float32 gives float32
        results, everything else float64.
    y : array_like, shape (N,) or (N, outputs)
        Targets. Results have an axis of outputs if y has one.
    nngp_xx : array_like, shape (N, N), optional
        Σ on the data, for random f_0. Kept like ntk_xx.
    overwrite : bool
        Work in the memory of ntk_xx: its contents are lost, and nothing of its size is needed beside it at t = inf.

    Attributes
    ----------
    eigenvalues : ndarray, shape (N,)
        λ_i of K/N, largest first. Up to N eps of the largest, and up to twice the most negative one in absolute value,
        which tells how noisy K is, they count as 0 and are returned so.
    largest_learning_rate : float
        2/λ_1. Discrete gradient descent diverges beyond.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it. A matrix that is not positive semi-definite (an
        eigenvalue is below -√eps of the largest) is found when it is first decomposed.
    MemoryError
        A copy or the eigenvectors do not fit into memory.

    Notes
    -----
    Which kernels: for a network with all layers trained, K is its NTK (ntk_xx, ntk_tx: `ntkfast.ntk`), along which it
    learns, and Σ its NNGP kernel (nngp_xx, nngp_tx, nngp_tt: `ntkfast.nngp`), the covariance that it starts from.
    `ntkfast.kernels` makes both in one pass, as in the example.

    One eigendecomposition, made when it is first needed, serves all times. t = inf alone takes a Cholesky factor
    instead if K is positive definite beyond rounding. Calls from several threads wait for one another.

    Numbers are taken as far as sums of their squares fit the dtype, up to 1e151 in float64 and 2e16 in float32, and
    kernels from 2e-154 and 1e-19 on: beyond, and where a result overflows, a ValueError says so.

    The null space (eigenvalues that count as 0) never moves on the data. At a new point its weight is the limit t/N of
    (1 - e^{-tλ})/(Nλ), until t √eps λ_1 reaches 1: entries of near duplicates are known to half of their digits, which
    may hide an eigenvalue of this size, so that from there on nothing is known of it, and it is left out. At t = inf
    that is the solution of least norm. Where κ has a part in the null space of up to N eps ‖κ‖ only, or of what the
    noise of K explains, ‖E‖ (1 + ‖κ K⁻¹‖) with ‖E‖ <= twice the most negative eigenvalue, that part counts as 0: a
    kernel function has none.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from ntkfast.learning.flow import LeastSquaresFlow
    >>> net = nf.MLP(depth=3, bias_std=0.1)
    >>> X, y, T = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([1.0, 0.0, 2.0]), np.array([[0.6, 0.8]])
    >>> data, new = nf.kernels(net, X), nf.kernels(net, T, X)
    >>> flow = LeastSquaresFlow(data.ntk, y, data.nngp)
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

    def __init__(self, ntk_xx, y, nngp_xx=None, *, overwrite=False):
        self._K = checks.symmetric(ntk_xx, "ntk_xx")
        self._n, self._dtype = len(self._K), self._K.dtype
        if overwrite:
            checks.in_place(ntk_xx, "ntk_xx")
            if nngp_xx is not None and np.may_share_memory(ntk_xx, nngp_xx):
                raise ValueError("nngp_xx: expected memory apart from ntk_xx, which is overwritten, got an overlap")
        self._overwrite = bool(overwrite)
        self._y, self._flat = checks.columns(y, self._n, "y", self._dtype)
        self._nngp = None if nngp_xx is None else checks.symmetric(nngp_xx, "nngp_xx", self._n)
        self._cholesky = self._eigen = self._root = None
        self._lock = threading.RLock()
        self._definite = True  # until a Cholesky factorisation says otherwise

    # --- the factors

    def _decomposed(self):
        if self._eigen is None:
            K = self._kernel()
            if self._cholesky is not None and self._overwrite:
                self._cholesky.matrix()  # K stands in its place again
            self._cholesky = None
            memory.require(K.nbytes, "the eigenvectors")  # while K is whole
            if self._overwrite:
                self._K = None
            self._eigen, self._K = eigen(K, "ntk_xx", overwrite=self._overwrite), None
        return self._eigen

    def _kernel(self):
        if self._K is None:
            raise ValueError("ntk_xx: was overwritten by a decomposition that failed")
        return self._K

    def _factored(self, time):
        """The Cholesky factor if it can serve all of these times, else None."""
        if self._eigen is not None or not np.isinf(time.t).all() or not self._definite:
            return None
        if self._cholesky is None:
            self._cholesky = cholesky(self._kernel(), overwrite=self._overwrite)
            self._definite = self._cholesky is not None
        return self._cholesky

    def _initial(self):
        """The factor F of Σ on the data."""
        if self._nngp is None:
            raise ValueError("nngp_xx: expected the covariance of the initial functions on the data, got None")
        if self._root is None:
            self._root = factor(self._nngp.astype(self._dtype, copy=False), "nngp_xx")
        return self._root

    def __repr__(self):
        outputs = "" if self._flat else f", outputs={self._y.shape[1]}"
        return f"LeastSquaresFlow(N={self._n}{outputs}, {self._dtype})"

    def __getstate__(self):
        return {**vars(self), "_lock": None}  # a lock cannot be pickled

    def __setstate__(self, state):
        vars(self).update(state, _lock=threading.RLock())

    @property
    def eigenvalues(self):
        with self._lock:
            return self._decomposed().values[::-1] / self._n

    @property
    def largest_learning_rate(self):
        largest = float(self.eigenvalues[0])
        return 2 / largest if largest > 0 else np.inf

    # --- arguments

    def _time(self, t, steps=None, learning_rate=None):
        """Times, and whether they came as one number."""
        if (t is None) == (steps is None):
            raise TypeError(f"t: expected either t or steps, got {'neither' if t is None else 'both'}")
        if t is not None:
            if learning_rate is not None:
                raise TypeError("learning_rate: expected together with steps, got it with t")
            t, scalar = checks.times(t)
            return Flow(t), scalar
        m = arrays.real(steps, "steps")
        if m.dtype.kind not in "iu":
            raise TypeError(f"steps: expected integers, got dtype {m.dtype}")
        scalar = checks.times(m, "steps")[1]  # not its float64, where large odd numbers are even
        if learning_rate is None:
            raise TypeError("learning_rate: expected a number together with steps, got None")
        rate = positive_number(learning_rate, "learning_rate")
        if rate > self.largest_learning_rate:
            raise ValueError(
                f"learning_rate: expected at most 2/λ_1 = {self.largest_learning_rate:.6g}, beyond which gradient "
                f"descent diverges, got {rate:.6g}"
            )
        return Steps(np.atleast_1d(m), rate), scalar

    def _start(self, f0):
        """y - f_0 on the data, (N, k)."""
        return self._y if f0 is None else self._y - checks.columns(f0, self._n, "f0", self._dtype, self._y.shape[1])[0]

    def _cross(self, ntk_tx, name="ntk_tx"):
        return None if ntk_tx is None else checks.matrix(ntk_tx, name, (None, self._n), self._dtype)

    def _shaped(self, result, scalar):
        result = result[..., 0] if self._flat else result
        return result[0] if scalar else result

    # --- e^{-tΠ} and A_t, on columns

    def _spread(self, left, weights, coefficients):
        """left diag(w_t) coefficients for all t: left (m, n), weights (T, n), coefficients (n, q) → (T, m, q)."""
        m, q = len(left), coefficients.shape[1]
        memory.require(len(weights) * m * q * self._dtype.itemsize, "the function at all times")
        result = np.empty((len(weights), m, q), dtype=self._dtype)
        together = max(1, CHUNK // (max(m, self._n) * q))
        for start in range(0, len(weights), together):
            some = weights[start : start + together].astype(self._dtype)
            product = left @ (some.T[:, :, None] * coefficients[:, None, :]).reshape(self._n, -1)
            result[start : start + together] = product.reshape(m, len(some), q).transpose(1, 0, 2)
        return result

    def _remains(self, time, B):
        """e^{-tΠ} B, (T, N, q)."""
        if self._factored(time):
            return np.zeros((len(time.t), *B.shape), dtype=self._dtype)
        e = self._decomposed()
        return self._spread(e.vectors, remaining(time, e.values / self._n), e.vectors.T @ B)

    def _weights(self, time):
        """(1 - e^{-tλ})/(Nλ), (T, n); see the notes of the class on the null space."""
        e = self._decomposed()
        moves = e.values > 0
        hidden = max(e.floor, np.sqrt(np.finfo(self._dtype).eps) * e.values[-1])
        with np.errstate(invalid="ignore"):  # inf · 0
            null = np.where(time.t * hidden < self._n, time.t / self._n, 0)[:, None]
        return np.where(moves, learned(time, e.values / self._n) / np.where(moves, e.values, 1), null)

    def _along(self, ntk_tx):
        """κ V, (m, n), exactly 0 in the null space where κ has no part in it beyond rounding and noise.

        Noise: of a kernel function κ = a K for some weights a; with K + E for K, κ v = -a E v in the null space.
        """
        e = self._decomposed()
        left = ntk_tx @ e.vectors
        null, moving = np.split(left, [np.count_nonzero(e.values == 0)], axis=1)
        rounding = self._n * np.finfo(self._dtype).eps * np.linalg.norm(ntk_tx, axis=1)
        if e.noise:
            rounding += e.noise * (1 + np.linalg.norm(moving / e.values[null.shape[1] :], axis=1))
        null[np.linalg.norm(null, axis=1) <= rounding] = 0  # else t/N times it would grow
        return left

    def _reaches(self, time, B, ntk_tx):
        """A_t B, (T, m, q)."""
        found = self._factored(time)
        if found:
            return np.broadcast_to(ntk_tx @ found.solve(B), (len(time.t), len(ntk_tx), B.shape[1])).copy()
        e = self._decomposed()
        coefficients, weights = e.vectors.T @ B, self._weights(time)
        null = weights[:, e.values == 0].any()
        if null or len(ntk_tx) <= len(time.t) * B.shape[1]:  # the cheaper order, unless the null space takes part
            return self._spread(self._along(ntk_tx), weights, coefficients)
        return ntk_tx @ self._spread(e.vectors, weights, coefficients)

    # --- the function

    @_public
    def mean(self, t=None, ntk_tx=None, f0=None, f0_t=None, *, steps=None, learning_rate=None):
        """f_t from a given f_0, or its mean over random f_0 of mean 0.

        Parameters
        ----------
        t : float or array_like, shape (T,)
            Times >= 0, inf included.
        ntk_tx : array_like, shape (m, N), optional
            K(x, X) for new points; left out, f_t on the data is returned.
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
            With the axis T if t (or steps) is an array, and that of outputs if y has it.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; the learning rate is beyond `largest_learning_rate`.

        Examples
        --------
        >>> import numpy as np
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> flow = LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
        >>> flow.mean([0.0, 1.0, np.inf]).round(3)
        array([[0.   , 0.   ],
               [0.632, 0.393],
               [1.   , 1.   ]])
        >>> flow.mean(steps=2, learning_rate=1.0)
        array([1.  , 0.75])
        """
        time, scalar = self._time(t, steps, learning_rate)
        error = self._start(f0)
        ntk_tx = self._cross(ntk_tx)
        if ntk_tx is None:
            if f0_t is not None:
                raise TypeError("f0_t: expected together with ntk_tx, got it alone")
            return self._shaped(self._y - self._remains(time, error), scalar)
        if (f0 is None) != (f0_t is None):
            given, missing = ("f0", "f0_t") if f0_t is None else ("f0_t", "f0")
            raise TypeError(f"{missing}: expected the initial function there too, as {given} is given; got None")
        result = self._reaches(time, error, ntk_tx)
        if f0_t is not None:
            result += checks.columns(f0_t, len(ntk_tx), "f0_t", self._dtype, self._y.shape[1])[0]
        return self._shaped(result, scalar)

    # --- random initial functions

    def _deviation(self, time, ntk_tx, W):
        """For each t the matrix M with f_t - mean_t = M z + r for z ~ N(0, I), r independent of the data, (m, rank).

        f_0 = F z on the data with F Fᵀ = Σ(X, X), and W z + r at new points with W = Σ(x, X) F⁻ᵀ; so M = e^{-tΠ} F or
        W - A_t F. Squares of M lose nothing of positivity to rounding, however large A_t is.
        """
        F = self._initial().half
        found = self._factored(time)
        if found:
            M = np.zeros_like(F) if W is None else W - ntk_tx @ found.solve(F)
            yield from [M] * len(time.t)
            return
        e = self._decomposed()
        coefficients = e.vectors.T @ F
        if W is None:
            left, weights = e.vectors, remaining(time, e.values / self._n)
        else:
            left, weights = self._along(ntk_tx), self._weights(time)
        for weight in weights.astype(self._dtype):
            product = (left * weight) @ coefficients
            yield product if W is None else W - product

    def _random(self, ntk_tx, nngp_tx, nngp_tt, name):
        """K(x, X), W of `_deviation`, and the (co)variance of r: of new points all matrices or none."""
        given = {"ntk_tx": ntk_tx, "nngp_tx": nngp_tx, name: nngp_tt}
        missing = [key for key, value in given.items() if value is None]
        if len(missing) == 3:
            return None, None, 0
        if missing:
            raise TypeError(f"{missing[0]}: expected a matrix together with the others of the new points, got None")
        ntk_tx = self._cross(ntk_tx)
        nngp_tx = checks.matrix(nngp_tx, "nngp_tx", ntk_tx.shape, self._dtype)
        prior = (checks.symmetric if name == "nngp_tt" else checks.variances)(nngp_tt, name, len(ntk_tx))
        W = self._initial().half_solve(nngp_tx.T)
        return ntk_tx, W.T, checks.unexplained(prior.astype(self._dtype, copy=False), W, name, "nngp_xx")

    @_public
    def covariance(self, t=None, ntk_tx=None, nngp_tx=None, nngp_tt=None, *, steps=None, learning_rate=None):
        """The covariance of f_t for random f_0, the same for every output.

        Parameters
        ----------
        t, ntk_tx, steps, learning_rate
            As in `mean`; without ntk_tx, nngp_tx and nngp_tt it is that on the data.
        nngp_tx : array_like, shape (m, N), optional
            Σ(x, X).
        nngp_tt : array_like, shape (m, m), optional
            Σ(x, x').

        Returns
        -------
        ndarray, shape (m, m) or (T, m, m)
            Symmetric. Positive semi-definite up to rounding relative to nngp_tt; exactly 0 on the data at t = inf if K
            is positive definite beyond rounding.

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> flow = LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], nngp_xx=[[1.0, 0.5], [0.5, 1.0]])
        >>> flow.covariance(1.0).round(3)
        array([[0.135, 0.112],
               [0.112, 0.368]])
        """
        time, scalar = self._time(t, steps, learning_rate)
        ntk_tx, W, rest = self._random(ntk_tx, nngp_tx, nngp_tt, "nngp_tt")
        m = self._n if ntk_tx is None else len(ntk_tx)
        memory.require(len(time.t) * m * m * self._dtype.itemsize, "the covariance")
        result = np.empty((len(time.t), m, m), dtype=self._dtype)
        for k, M in enumerate(self._deviation(time, ntk_tx, W)):
            C = rest + M @ M.T
            result[k] = (C + C.T) / 2
        return result[0] if scalar else result

    @_public
    def variance(self, t=None, ntk_tx=None, nngp_tx=None, nngp_t=None, *, steps=None, learning_rate=None):
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

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> flow = LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], nngp_xx=[[1.0, 0.5], [0.5, 1.0]])
        >>> flow.variance(1.0).round(3)
        array([0.135, 0.368])
        """
        time, scalar = self._time(t, steps, learning_rate)
        ntk_tx, W, rest = self._random(ntk_tx, nngp_tx, nngp_t, "nngp_t")
        result = np.array([rest + np.einsum("ij,ij->i", M, M) for M in self._deviation(time, ntk_tx, W)])
        return result[0] if scalar else result

    @_public
    def percentiles(
        self, t=None, levels=(10, 50, 90), ntk_tx=None, nngp_tx=None, nngp_t=None, *, steps=None, learning_rate=None
    ):
        """Percentiles of f_t(x) for random f_0: mean plus quantiles of N(0, 1) times the standard deviation.

        Parameters
        ----------
        t, ntk_tx, nngp_tx, nngp_t, steps, learning_rate
            As in `variance`.
        levels : sequence of float
            In (0, 100). The paper's figure 2 has the default.

        Returns
        -------
        ndarray, the shape of `mean` with a first axis of levels

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> LeastSquaresFlow([[1.0]], [1.0], nngp_xx=[[1.0]]).percentiles(1.0).round(3)
        array([[0.161],
               [0.632],
               [1.104]])
        """
        levels = quantiles(levels)
        spread = np.sqrt(self.variance(t, ntk_tx, nngp_tx, nngp_t, steps=steps, learning_rate=learning_rate))
        mean = self.mean(t, ntk_tx, steps=steps, learning_rate=learning_rate)
        spread = spread if self._flat else spread[..., None]
        return np.stack([mean + q * spread for q in levels]).astype(self._dtype)

    @_public
    def samples(
        self, t=None, n=1, rng=None, ntk_tx=None, nngp_tx=None, nngp_tt=None, *, steps=None, learning_rate=None
    ):
        """Random functions f_t: n of them, each followed from its own random f_0 through all times.

        Parameters
        ----------
        t, ntk_tx, nngp_tx, nngp_tt, steps, learning_rate
            As in `covariance`.
        n : int
        rng : None, int or numpy.random.Generator

        Returns
        -------
        ndarray, the shape of `mean` with an axis of n samples before that of the points

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> flow = LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], nngp_xx=[[1.0, 0.5], [0.5, 1.0]])
        >>> flow.samples([0.0, 1.0], n=3, rng=0).shape
        (2, 3, 2)
        """
        time, scalar = self._time(t, steps, learning_rate)
        n, rng = checks.count(n, "n"), generator(rng)
        ntk_tx, W, rest = self._random(ntk_tx, nngp_tx, nngp_tt, "nngp_tt")
        root, k = self._initial(), self._y.shape[1]
        m = self._n if ntk_tx is None else len(ntk_tx)
        memory.require(n * k * (3 * self._n + len(time.t) * m) * self._dtype.itemsize, "the samples")
        z = rng.standard_normal((root.half.shape[1], n * k)).astype(self._dtype)
        y, f0 = np.tile(self._y, n), root.half @ z
        if ntk_tx is None:
            f = y - self._remains(time, y - f0)
        else:
            memory.require(2 * rest.nbytes, "a factor of the covariance at the new points")
            values, vectors = scipy.linalg.eigh(rest, driver="evr", check_finite=False)
            unseen = vectors * np.sqrt(np.maximum(values, 0))
            f0_t = W @ z
            f0_t += unseen @ rng.standard_normal((len(unseen), n * k)).astype(self._dtype)
            f = f0_t + self._reaches(time, y - f0, ntk_tx)
        f = f.reshape(len(time.t), -1, n, k).transpose(0, 2, 1, 3)
        return self._shaped(f, scalar)

    # --- the cost, along the eigenfunctions

    @_public
    def loss(self, t=None, f0=None, *, steps=None, learning_rate=None):
        """C(f_t) = ½‖f_t - y‖²_pin on the data, summed over outputs.

        Parameters
        ----------
        t, steps, learning_rate, f0
            As in `mean`. With the default f_0 = 0 it is the loss of the mean; the mean loss is `expected_loss`.

        Returns
        -------
        float, or ndarray, shape (T,)
        """
        time, scalar = self._time(t, steps, learning_rate)
        error = self._start(f0)
        if self._factored(time):
            loss = np.zeros(len(time.t))
        else:
            loss = self._loss(time, _squares(self._decomposed().vectors.T @ error))
        return float(loss[0]) if scalar else loss

    def _loss(self, time, squares):
        """From the squares of the coefficients in the eigenvectors, (n,)."""
        return remaining(time, self._decomposed().values / self._n) ** 2 @ squares / (2 * self._n)

    @_public
    def expected_loss(self, t=None, *, steps=None, learning_rate=None):
        """The mean of `loss` over random f_0: C(mean_t) + (outputs/2N) tr e^{-tΠ} Σ e^{-tΠ}.

        Parameters, result and errors are those of `loss`.

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> LeastSquaresFlow([[1.0]], [1.0], nngp_xx=[[3.0]]).expected_loss([0.0, 1.0]).round(3)
        array([2.   , 0.271])
        """
        time, scalar = self._time(t, steps, learning_rate)
        F = self._initial().half
        if self._factored(time):
            loss = np.zeros(len(time.t))
        else:
            vectors, k = self._decomposed().vectors, self._y.shape[1]
            loss = self._loss(time, _squares(vectors.T @ self._y) + k * _squares(vectors.T @ F))
        return float(loss[0]) if scalar else loss

    @_public
    def eigenfunctions(self, n):
        """The first n eigenfunctions f^(i) of K/N on the data, orthonormal in ⟨f, g⟩ = (1/N) Σ_j f(x_j) g(x_j), (N, n).

        The entry of largest absolute value (the first of them) is positive.
        """
        n = min(positive_integer(n, "n"), self._n)
        return self._decomposed().vectors[:, : -n - 1 : -1] * np.sqrt(self._dtype.type(self._n))

    @_public
    def components(self, t=None, n=None, f0=None, *, steps=None, learning_rate=None):
        """The error along the eigenfunctions, ⟨f_t - y, f^(i)⟩_pin, which decays like e^{-tλ_i}.

        Parameters
        ----------
        t, f0, steps, learning_rate
            As in `mean`.
        n : int, optional
            How many, of the largest eigenvalues; default all.

        Returns
        -------
        ndarray, shape (n,) or (T, n), with an axis of outputs if y has one

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> flow = LeastSquaresFlow([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
        >>> flow.components([0.0, 1.0]).round(3)
        array([[-0.707, -0.707],
               [-0.26 , -0.429]])
        """
        time, scalar = self._time(t, steps, learning_rate)
        n = self._n if n is None else min(positive_integer(n, "n"), self._n)
        e = self._decomposed()
        first = slice(None, -n - 1, -1)
        coefficients = -(e.vectors.T @ self._start(f0))[first] / np.sqrt(self._n)
        remains = remaining(time, e.values[first] / self._n)
        return self._shaped((remains[:, :, None] * coefficients).astype(self._dtype), scalar)

    @_public
    def null_space_part(self, f0=None):
        """Δ⁰ of the paper, the part of y - f_0 in the null space of K: training never removes it.

        Parameters
        ----------
        f0 : array_like, shape (N,) or (N, outputs), optional
            Default 0.

        Returns
        -------
        ndarray, the shape of y

        Examples
        --------
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> LeastSquaresFlow([[1.0, 1.0], [1.0, 1.0]], [0.0, 2.0]).null_space_part()
        array([-1.,  1.])
        """
        e, error = self._decomposed(), self._start(f0)
        null = e.vectors[:, : np.count_nonzero(e.values == 0)]
        return self._shaped(null @ (null.T @ error), False)

    @_public
    def early_stopping(self, ntk_vx, y_v, f0=None, f0_v=None, t=None):
        """The time of the smallest validation loss ½ mean_j ‖f_t(x_j) - y_j‖².

        Parameters
        ----------
        ntk_vx : array_like, shape (m, N)
            K(x, X) for the validation points.
        y_v : array_like, shape (m,) or (m, outputs)
        f0, f0_v : array_like, optional
            As f0 and f0_t in `mean`.
        t : array_like, shape (T,), optional
            Times to choose from. Default: 0, inf and 200 times in geometric progression from 0.01/λ_1 to 100/λ_n, λ_n
            the smallest positive eigenvalue, and then a search between the neighbours of the best, unless it is inf.

        Returns
        -------
        EarlyStopping

        Examples
        --------
        >>> import numpy as np
        >>> from ntkfast.learning.flow import LeastSquaresFlow
        >>> flow = LeastSquaresFlow(np.diag([2.0, 0.2]), [1.0, 1.0])
        >>> round(flow.early_stopping([[1.0, -0.2]], [0.4]).t, 3)
        1.788
        """
        ntk_vx = self._cross(ntk_vx, "ntk_vx")
        if ntk_vx is None:
            raise TypeError("ntk_vx: expected a matrix, got None")
        y_v, _ = checks.columns(y_v, len(ntk_vx), "y_v", self._dtype, self._y.shape[1])
        if (f0 is None) != (f0_v is None):
            raise TypeError(f"{'f0_v' if f0_v is None else 'f0'}: expected the initial function there too, got None")
        if f0_v is not None:
            y_v = y_v - checks.columns(f0_v, len(ntk_vx), "f0_v", self._dtype, self._y.shape[1])[0]
        e = self._decomposed()
        coefficients, left = e.vectors.T @ self._start(f0), self._along(ntk_vx)

        def validation(t):
            error = self._spread(left, self._weights(Flow(t)), coefficients) - y_v
            return np.square(error, dtype=np.float64).sum(axis=(1, 2)) / (2 * len(y_v))

        if t is None:
            positive = e.values[e.values > 0] / self._n
            span = np.geomspace(0.01 / positive[-1], 100 / positive[0], 200) if len(positive) else []
            times = np.concatenate([[0.0], span, [np.inf]])
        else:
            times = np.sort(checks.times(t)[0])
        losses = validation(times)
        roots = np.sqrt(losses)
        rounding = np.sqrt(self._n) * np.finfo(self._dtype).eps * roots.max()
        equal, best = roots <= roots.min() + rounding, int(losses.argmin())
        if equal[-1] and np.isinf(times[-1]):
            best = len(times) - 1
        if equal[0] and times[0] == 0:
            best = 0
        stop, loss = float(times[best]), float(losses[best])
        if t is None and len(times) > 2 and np.isfinite(stop):
            low, high = times[max(best - 1, 0)], min(times[best + 1], 100 * times[-2])
            scale = np.log(high / low) if low > 0 else None  # geometric as the grid is; from 0 on linear
            at = lambda s: low * np.exp(s * scale) if low > 0 else high * s  # noqa: E731
            found = scipy.optimize.minimize_scalar(
                lambda s: validation(np.array([at(s)]))[0], bounds=(0, 1), method="bounded", options={"xatol": 1e-8}
            )
            if np.sqrt(found.fun) < np.sqrt(loss) - (rounding if best == 0 else 0):
                stop, loss = float(at(found.x)), float(found.fun)
        return EarlyStopping(stop, loss, times, self._loss(Flow(times), _squares(coefficients)), losses)
