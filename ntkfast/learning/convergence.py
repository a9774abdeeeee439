"""How fast the tangent kernel of random networks converges to its limit as the width grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast.engine import threads
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.infinite.corrections import coefficient, is_known
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import Network
from ntkfast.networks.network import refuse_dropout
from ntkfast.support import arrays, reprs
from ntkfast.support.eigenvalues import operator_norm
from ntkfast.support.errors import PrecisionError
from ntkfast.support.progress import check as check_progress
from ntkfast.support.progress import reporter
from ntkfast.support.scalars import generator, positive_integer
from ntkfast.support.typing import Array, Progress, Seed

__all__ = ["Convergence", "convergence"]


@dataclass(frozen=True)
class Convergence:
    """What `convergence` finds.

    Attributes
    ----------
    net : Network
        The network.
    widths : ndarray, shape (n,)
        Numbers of units of the hidden layers.
    errors : ndarray, shape (n, n_seeds)
        ‖Θ̂ - Θ‖/‖Θ‖ in operator norm.
    frobenius : ndarray, shape (n, n_seeds)
        The same in Frobenius norm.
    theory : ndarray, shape (n,)
        √(E ‖Θ̂ - Θ‖²)/‖Θ‖ in Frobenius norm to order 1/n, as `finite_width` has it; nan for networks for which it is not
        known. There is no such number for the operator norm, which depends on the covariances of different entries.
    mean, median : ndarray, shape (n,)
        Of the errors over seeds.
    z_scores : ndarray, shape (n,)
        Mean square of `frobenius` minus that of the theory, in standard errors of that mean. Terms of order 1/n², which
        the theory leaves out, may exceed these errors where networks are narrow. nan for a single seed, and without a
        hidden layer, where Θ̂ = Θ.
    slope, slope_error : float
        Slope of the regression line of log error against log width over all networks, and its standard error. Both are
        nan for a single width, the standard error also for fewer than three networks.

    See Also
    --------
    convergence : Makes it.
    ntkfast.plotting.plot_convergence : Draws it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.convergence(nf.MLP(depth=2), [[1.0, 0.0]], widths=[20, 80], n_seeds=3, rng=0)
    >>> found.errors.shape, found.median.shape
    ((2, 3), (2,))
    """

    net: Network
    widths: NDArray[np.int_]
    errors: Array
    frobenius: Array
    theory: Array

    __repr__ = reprs.short

    @property
    def mean(self) -> Array:
        mean: Array = self.errors.mean(axis=1)
        return mean

    @property
    def median(self) -> Array:
        median: Array = np.median(self.errors, axis=1)
        return median

    @property
    def z_scores(self) -> Array:
        squares, n_seeds = self.frobenius**2, self.frobenius.shape[1]
        if n_seeds < 2 or not self.theory.any():
            return np.full(len(squares), np.nan)
        z: Array = (squares.mean(axis=1) - self.theory**2) / (squares.std(axis=1, ddof=1) / np.sqrt(n_seeds))
        return z

    @property
    def slope(self) -> float:
        return self._fit()[0]

    @property
    def slope_error(self) -> float:
        return self._fit()[1]

    def _fit(self) -> tuple[float, float]:
        x = np.repeat(np.log(self.widths), self.errors.shape[1])
        y = np.log(self.errors.reshape(-1))
        x, y = x - x.mean(), y - y.mean()
        spread = x @ x
        if spread == 0:
            return np.nan, np.nan
        slope = x @ y / spread
        rest = y - slope * x
        return float(slope), float(np.sqrt(rest @ rest / (len(x) - 2) / spread)) if len(x) > 2 else np.nan


def convergence(
    net: Network,
    X: ArrayLike,
    widths: Iterable[int],
    *,
    n_seeds: int = 10,
    rng: Seed = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> Convergence:
    """The distance of the empirical tangent kernel from the limit kernel for random networks of several widths.

    At initialisation Θ̂ → Θ as the width grows (Jacot, Gabriel and Hongler 2018, Theorem 1), with fluctuations of
    order 1/√width: a slope of -1/2.

    Parameters
    ----------
    net : Network
        Without `Dropout`, which the limit kernel includes and the empirical one leaves out.
    X : array_like, shape (N, d)
        Points on which the kernels are compared, one per row.
    widths : sequence of int
        Numbers of units of the hidden layers.
    n_seeds : int
        Networks per width.
    rng : None, int or numpy.random.Generator
        For the parameters of the networks.
    dtype : {float32, float64}, optional
        Precision of the networks. Default: float32 if X is, else float64. The limit is computed in float64.
    n_threads, progress
        As in `ntkfast.ntk`.

    Returns
    -------
    Convergence
        The relative errors of all networks, and the slope of log error against log width.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.

    See Also
    --------
    finite_width : What to expect, to first order in 1/width, without sampling.
    width_for : The width for a given accuracy.
    empirical_ntk : The kernel of one network.
    ntkfast.plotting.plot_convergence : Draws the result.

    Examples
    --------
    >>> import ntkfast as nf
    >>> result = nf.convergence(nf.MLP(depth=3), [[1.0, 0.0], [0.6, 0.8]], widths=[100, 1600], rng=0)
    >>> round(result.slope, 1)
    -0.5
    >>> result.theory.round(3)
    array([0.266, 0.066])
    """
    refuse_dropout(net)
    points = arrays.as_points(X, "X")
    dtype = arrays.working_dtype(dtype, points)
    if isinstance(widths, str) or not np.iterable(widths):
        raise TypeError(f"widths: expected a sequence of integers, got {type(widths).__name__}")
    widths = [positive_integer(width, f"widths[{k}]") for k, width in enumerate(widths)]
    if not widths:
        raise ValueError("widths: expected at least one width, got none")
    n_seeds = positive_integer(n_seeds, "n_seeds")
    check_progress(progress)
    rng = generator(rng)
    limit = ntk(net, points, dtype=np.float64, n_threads=n_threads, progress=False)
    size, size_frobenius = operator_norm(limit), np.linalg.norm(limit)
    if size == 0:
        raise ValueError("X: expected points whose limit kernel is not 0")
    theory = _coefficient(net, points, n_threads) / size_frobenius / np.sqrt(widths)
    errors, frobenius = np.empty((2, len(widths), n_seeds))
    flops = 2.0 * len(points) * max(widths) * max(*widths, points.shape[1])  # of the largest product of a pass
    with threads.blas(n_threads, flops), reporter(progress, "convergence") as report:
        for done, (row, seed) in enumerate(np.ndindex(errors.shape)):
            f = FiniteNetwork.init(net, points.shape[1], widths[row], rng=rng, dtype=dtype)
            kernel = empirical_ntk(f, points, n_threads=n_threads, progress=False)
            errors[row, seed] = operator_norm(kernel - limit) / size
            frobenius[row, seed] = np.linalg.norm(kernel - limit) / size_frobenius
            if report is not None:
                report(done + 1, errors.size)
    return Convergence(net, np.array(widths), errors, frobenius, theory)


def _coefficient(net: Network, points: Array, n_threads: int | None) -> float:
    """√(n E ‖Θ̂ - Θ‖²) in Frobenius norm to first order; nan where the theory is not known."""
    try:
        return float(np.linalg.norm(coefficient(net, points, "ntk_std", n_threads))) if is_known(net) else np.nan
    except PrecisionError:
        return np.nan
