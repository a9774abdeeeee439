"""The log marginal likelihood of a network's kernel as a function of its hyperparameters, and its maximum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ntkfast.engine import outputs, parameters, threads
from ntkfast.engine.problem import Problem
from ntkfast.learning import checks
from ntkfast.learning.gaussian import GaussianProcess, MarginalLikelihood
from ntkfast.learning.maximum import maximise
from ntkfast.networks import Network
from ntkfast.networks.hyperparameters import hyperparameters, signs_kept, with_hyperparameters
from ntkfast.support import arrays, reprs
from ntkfast.support import progress as progress_bar
from ntkfast.support.scalars import generator, positive_integer, positive_number
from ntkfast.support.typing import Array, KernelName, Progress, Seed

__all__ = ["FittedHyperparameters", "fit_hyperparameters", "network_likelihood"]

RANGE = 1e4  # the factor by which a hyperparameter may change from its start, up or down
LINEAR_RANGE = 100.0  # what is added to a parameter that may be of either sign, up or down

Key: TypeAlias = str | tuple[int, str]  # of `ntkfast.hyperparameters`, or "noise"


class FittedHyperparameters(NamedTuple):
    """What `fit_hyperparameters` found.

    Attributes
    ----------
    network : Network
        With the fitted weight_std and bias_std, and parameters of activations if asked for.
    noise : float
        The fitted noise variance.
    value : float
        log p(y), of the points that were drawn with `n_centers`.
    path : ndarray
        log p(y) at the start and after every iteration.
    converged : bool
        Whether that is a maximum within the ranges: the best step of up to a factor e is predicted to gain less than
        0.01 of log p(y), or no more than can be told from rounding. Judged from second derivatives at the end, however
        the search ended; beyond 40 hyperparameters from the slope alone, which may take a maximum for none.
    message : str
        Why the search ended, the rounding of log p(y) if it hid what was left, what is at an end of its range (such as
        noise or biases that tend to 0), and what belongs to a flat direction.
    flat : list of dict, or None
        Directions along which log p(y) hardly changes, less than 0.1 for a factor e: unit vectors in the logarithms of
        the hyperparameters, entries below 0.1 left out. What they move is not determined by the data. From second
        derivatives at the end of the search, what is at an end of its range left out; None beyond 40 hyperparameters,
        where they would cost more than the fit.

    See Also
    --------
    fit_hyperparameters : Makes it.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.linspace(-1, 1, 8)[:, None]
    >>> found = nf.fit_hyperparameters(nf.MLP(depth=2, activation="erf"), X, np.sin(3 * X[:, 0]), max_iterations=3)
    >>> bool(found.value > found.path[0]), type(found.network).__name__
    (True, 'Network')
    """

    network: Network
    noise: float
    value: float
    path: Array
    converged: bool
    message: str
    flat: list[dict[Key, float]] | None

    def __repr__(self) -> str:
        return reprs.short(self)


def network_likelihood(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    noise: float = 0.0,
    kernel: KernelName = "nngp",
    activations: bool = False,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> MarginalLikelihood:
    """log p(y) for f ~ GP(0, K), K the NNGP or NTK of the network on X, and its derivatives.

        ∂ log p(y)/∂p = Σ_ij W_ij ∂K_ij/∂p,    W = ½ (a aᵀ - (K + σ² I)⁻¹),    a = (K + σ² I)⁻¹ y

    (Rasmussen and Williams 2006, equation 5.9). The sum is accumulated while the layers run backwards (`kernel_vjp`):
    no matrix ∂K/∂p is ever formed, and the cost hardly depends on the number of hyperparameters.

    Parameters
    ----------
    net : Network
        The network.
    X : array_like, shape (N, d)
        Points, one per row.
    y : array_like, shape (N,) or (N, outputs)
        Targets; outputs are independent and share the kernel.
    noise : float
        σ² >= 0, the noise variance.
    kernel : {"nngp", "ntk"}
        Which kernel K is.
    activations : bool
        Also the derivatives with respect to the parameters of the activations, at the cost of six kernels for each.
    dtype, n_threads, progress
        As in `ntkfast.ntk`.

    Returns
    -------
    MarginalLikelihood
        Its gradient, shape (2L,) or longer with `activations`, is in the order of `ntkfast.hyperparameters`.

    Raises
    ------
    TypeError, ValueError, PrecisionError
        As in `GaussianProcess` and `kernel_vjp`.

    See Also
    --------
    fit_hyperparameters : Its maximum.
    kernel_vjp : The sum by which it is differentiated.
    log_marginal_likelihood : Of any kernel matrix.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.network_likelihood(nf.MLP(depth=1), [[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0], noise=0.5)
    >>> round(found.value, 3), found.gradient.round(3), round(found.noise_gradient, 3)
    (-4.338, array([1.5, 0. ]), 1.5)
    """
    problem = Problem(net, X, derivatives=True, dtype=dtype, n_threads=n_threads)
    return _likelihood(problem, y, noise, kernel, progress, n_threads, activations)


def _likelihood(
    problem: Problem,
    y: ArrayLike,
    noise: float,
    kernel: KernelName,
    progress: Progress,
    n_threads: int | None,
    activations: bool,
) -> MarginalLikelihood:
    K = problem.matrices((outputs.kernel(kernel),), show=progress)[0]
    process = GaussianProcess(K, y, noise=noise, overwrite=True, n_threads=n_threads)
    value, W = process.log_marginal_likelihood(), process.likelihood_gradient()
    del K, process  # the factor is in the memory of K
    noise_gradient = float(W.diagonal().sum(dtype=np.float64))
    gradient = problem.gradient(W, kernel, progress)
    if activations:
        gradient = np.concatenate([gradient, parameters.gradient(problem, W, kernel)]).astype(gradient.dtype)
    return MarginalLikelihood(value, gradient, noise_gradient)


def fit_hyperparameters(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    noise: float = 0.1,
    kernel: KernelName = "nngp",
    fixed: str | Iterable[Key] = (),
    activations: bool = False,
    n_centers: int | None = None,
    max_iterations: int = 100,
    rng: Seed = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
) -> FittedHyperparameters:
    """Maximise the log marginal likelihood over every layer's weight_std and bias_std, and over the noise.

    L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995) over the logarithms of those that are > 0, with the exact gradient of
    `network_likelihood`; each may change by a factor of 10⁴. A bias_std of 0 stays there, as the kernel is even in it.
    Where it ends, second derivatives from differences of gradients tell whether that is a maximum; if not, Newton's
    step is taken, within a factor e, and the search resumes.

    Parameters
    ----------
    net : Network
        Where to start.
    X, y, kernel, dtype
        As in `network_likelihood`. float64 is worth its cost here: in float32 rounding hides most of what is left to
        gain.
    noise : float
        σ² > 0, the noise variance to start from.
    fixed : str or sequence
        What is not fitted: names from "weight_std", "bias_std" and "noise", or keys of `ntkfast.hyperparameters` such
        as (0, "bias_std").
    activations : bool
        Whether the parameters of the activations are fitted too, such as gamma of rbf or alpha of leaky_relu; `fixed`
        may name them. Those that cannot change their sign are fitted as logarithms, within a factor of 10⁴; the others
        as they are, within 100 of their start. Each takes six more kernels per step.
    n_centers : int, optional
        Maximise log p(y) of so many of the points only, drawn without replacement; default: of all. A step takes the
        square of their number in memory and its cube in time. A few thousand determine a few hyperparameters well, and
        serve as `GaussianProcess` of an operator or `NystromRegression` of all points. A noise that explains what so
        few points leave open is too large for all of them: `NystromRegression(alpha="loo")` chooses it anew.
    max_iterations : int
        Of the search, each of which evaluates the likelihood about once. The judgement at its end takes one evaluation
        for each hyperparameter, and some ten more if rounding is in question.
    rng : None, int or numpy.random.Generator
        For the points of n_centers.
    n_threads : int, optional
        Default: one up to 843 points (N³ < 6e8), whose steps take milliseconds, else as in `ntkfast.ntk`.
    progress : bool or callable, optional
        As in `ntkfast.ntk`; counts the iterations.

    Returns
    -------
    FittedHyperparameters
        The network and the noise, log p(y), and whether that is a maximum.

    Raises
    ------
    TypeError, ValueError, PrecisionError
        As in `network_likelihood`, or there is nothing to fit.

    See Also
    --------
    network_likelihood : What is maximised, with its gradient.
    hyperparameters : The names of what is fitted.
    GaussianProcess : Predictions with the result.
    ntkfast.sklearn.NTKKernel : The same within scikit-learn's Gaussian processes.

    Notes
    -----
    For a homogeneous activation (relu) without biases, the NNGP depends only on the product of all weight_std: the
    maximum is then a surface, and the point of it that is found depends on the start. `FittedHyperparameters.flat` has
    the directions of such surfaces, and its message names what they move.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.linspace(-2, 2, 20)[:, None]
    >>> y = np.sin(2 * X[:, 0]) + 0.1 * (-1) ** np.arange(20)
    >>> found = nf.fit_hyperparameters(nf.MLP(depth=2, activation="erf", bias_std=0.5), X, y)
    >>> found.converged, bool(found.value > found.path[0] + 10)
    (True, True)
    """
    outputs.kernel(kernel)
    progress_bar.check(progress)
    max_iterations = checks.count(max_iterations, "max_iterations")
    rng = generator(rng)
    if n_centers is not None:
        X, y = _drawn(X, y, positive_integer(n_centers, "n_centers"), rng)
    start: dict[Key, float] = {
        **hyperparameters(net, activations=activations),
        "noise": positive_number(noise, "noise"),
    }
    linear = _linear(net) if activations else set()
    free = _free(start, fixed, linear)
    if n_threads is None and len(arrays.as_points(X, "X")) ** 3 < threads.SMALL_WORK:
        n_threads = 1
    problem = Problem(net, X, derivatives=True, dtype=dtype, n_threads=n_threads)
    values = start.copy()

    def named(places: Array) -> Iterable[tuple[Key, float]]:
        for key, place in zip(free, places.tolist(), strict=True):
            yield key, place if key in linear else math.copysign(math.exp(place), start[key])

    def likelihood(logs: Array) -> tuple[float, Array]:
        """log p(y) and its gradient with respect to the logarithms, and to what is fitted as it is."""
        values.update(named(logs))
        *stds, variance = values.values()
        here = problem.with_network(with_hyperparameters(net, stds))
        found = _likelihood(here, y, variance, kernel, False, n_threads, activations)
        rates = dict(zip(values, [*found.gradient, found.noise_gradient], strict=True))
        return found.value, np.array([rates[key] * (1 if key in linear else values[key]) for key in free], dtype=float)

    first = np.array([start[key] if key in linear else math.log(abs(start[key])) for key in free])
    reach = np.array([LINEAR_RANGE if key in linear else math.log(RANGE) for key in free])
    low, high = first - reach, first + reach
    with progress_bar.reporter(progress, "fit") as report:
        found = maximise(
            likelihood,
            first,
            low,
            high,
            scale=problem.shape[0],
            eps=float(np.finfo(problem.dtype).eps),
            max_iterations=max_iterations,
            report=report,
        )
    at_end = [str(key) for key, is_at in zip(free, (found.at <= low) | (found.at >= high), strict=True) if is_at]
    message = found.message + ("; at an end of its range: " + ", ".join(at_end) if at_end else "")
    flat = None if found.flat is None else [_named(direction, free) for direction in found.flat]
    if flat:
        moved = [str(key) for key in free if any(key in direction for direction in flat)]
        message += f"; log p(y) hardly changes in {len(flat)} direction{'s' * (len(flat) > 1)} of {', '.join(moved)}"
    values.update(named(found.at))
    *stds, variance = values.values()
    network = with_hyperparameters(net, stds)
    return FittedHyperparameters(network, variance, found.value, np.array(found.path), found.converged, message, flat)


def _drawn(X: ArrayLike, y: ArrayLike, n_centers: int, rng: np.random.Generator) -> tuple[ArrayLike, ArrayLike]:
    """So many of the points, and their targets."""
    points = arrays.as_points(X, "X")
    targets, flat = checks.columns(y, len(points), "y", np.float64)
    if n_centers > len(points):
        raise ValueError(f"n_centers: expected at most the number of points, {len(points)}, got {n_centers}")
    chosen = np.sort(rng.choice(len(points), n_centers, replace=False))
    return points[chosen], targets[chosen, 0] if flat else targets[chosen]


def _named(direction: Array, free: list[Key]) -> dict[Key, float]:
    return {key: round(float(entry), 3) for key, entry in zip(free, direction, strict=True) if abs(entry) >= 0.1}


def _linear(net: Network) -> set[Key]:
    """The keys of the activations' parameters that may be of either sign."""
    keys = list(hyperparameters(net, activations=True))[2 * net.depth :]
    return {key for key, is_kept in zip(keys, signs_kept(net), strict=True) if not is_kept}


def _free(start: dict[Key, float], fixed: str | Iterable[Key], linear: set[Key]) -> list[Key]:
    """The keys of the hyperparameters that are fitted."""
    fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    names = {"weight_std", "bias_std", "noise", *(key[1] for key in start if isinstance(key, tuple))}
    for key in fixed:
        if key not in names and key not in start:
            raise ValueError(
                f"fixed: expected 'weight_std', 'bias_std', 'noise' or keys of hyperparameters(net), got {key!r}"
            )
    free = [
        key
        for key, value in start.items()
        if (value != 0 or key in linear) and key not in fixed and not (isinstance(key, tuple) and key[1] in fixed)
    ]
    if not free:
        raise ValueError("fixed: expected something left to fit, got nothing that is not 0 and not fixed")
    return free
