"""The log marginal likelihood of a network's kernel as a function of its hyperparameters, and its maximum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize

from ntkfast.engine import outputs
from ntkfast.engine.problem import Problem
from ntkfast.learning import checks
from ntkfast.learning.gaussian import GaussianProcess, MarginalLikelihood
from ntkfast.networks import Network
from ntkfast.networks.hyperparameters import hyperparameters, with_hyperparameters
from ntkfast.support import progress as progress_bar
from ntkfast.support import reprs
from ntkfast.support.scalars import positive_number

__all__ = ["FittedHyperparameters", "fit_hyperparameters", "network_likelihood"]

RANGE = 1e4  # how far a hyperparameter may go from where it starts, up or down
FAR = 1e3  # above the cost of the start: where K + σ² I is singular to rounding


class FittedHyperparameters(NamedTuple):
    """What `fit_hyperparameters` found.

    network : Network, with the fitted weight_std and bias_std
    noise : float, the variance
    value : float, log p(y)
    path : ndarray, log p(y) at the start and after every step
    converged : bool, whether that is a maximum within the ranges
    message : str, why it ended, and what stands at an end of its range (noise or biases that want to be 0, for example)
    """

    network: Network
    noise: float
    value: float
    path: np.ndarray
    converged: bool
    message: str

    __repr__ = reprs.short


def network_likelihood(
    net: Network, X, y, noise, kernel="nngp", *, dtype=None, n_threads=None, progress=False
) -> MarginalLikelihood:
    """log p(y) for f ~ GP(0, K), K the NNGP or NTK of the network on X, with its gradient by the hyperparameters.

        ∂ log p(y)/∂p = Σ_ij W_ij ∂K_ij/∂p,    W = ½ (α αᵀ - (K + σ² I)⁻¹),    α = (K + σ² I)⁻¹ y

    (Rasmussen and Williams 2006, equation 5.9). The sum is made while the program runs backwards (`kernel_vjp`): no
    matrix ∂K/∂p is ever formed, and the cost hardly depends on how many hyperparameters there are.

    Parameters
    ----------
    net : Network
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, outputs)
    noise : float
        σ² >= 0, the variance.
    kernel : {"nngp", "ntk"}
    dtype, n_threads, progress
        As in `ntkfast.ntk`.

    Returns
    -------
    MarginalLikelihood
        Its gradient, shape (2L,), is in the order of `ntkfast.hyperparameters`.

    Raises
    ------
    TypeError, ValueError, PrecisionError
        As in `GaussianProcess` and `kernel_vjp`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.learning.likelihood import network_likelihood
    >>> found = network_likelihood(nf.MLP(depth=1), [[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0], noise=0.5)
    >>> round(found.value, 3), found.gradient.round(3), round(found.noise, 3)
    (-4.338, array([1.5, 0. ]), 1.5)
    """
    return _likelihood(Problem(net, X, dtype=dtype, n_threads=n_threads), y, noise, kernel, progress)


def _likelihood(problem, y, noise, kernel, progress):
    K = problem.matrices((outputs.kernel(kernel),), show=progress)[0]
    process = GaussianProcess(K, y, noise, overwrite=True)
    value, W = process.log_marginal_likelihood(), process.likelihood_gradient()
    del K, process  # the factor is in the memory of K
    by_noise = float(W.diagonal().sum(dtype=np.float64))
    return MarginalLikelihood(value, problem.gradient(W, kernel, progress), by_noise)


def fit_hyperparameters(
    net: Network,
    X,
    y,
    kernel: str = "nngp",
    *,
    noise: float = 0.1,
    fixed=(),
    max_steps: int = 100,
    dtype=None,
    n_threads=None,
    progress=None,
) -> FittedHyperparameters:
    """Maximise the log marginal likelihood over every layer's weight_std and bias_std, and over the noise.

    L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995) over the logarithms of those that are > 0, with the exact gradient of
    `network_likelihood`; each may change by a factor of 10⁴. A bias_std of 0 stays there, as the kernel is even in it.

    Parameters
    ----------
    net : Network
        Where to start.
    X, y, dtype, n_threads
        As in `network_likelihood`. float64 is worth its time here: in float32 the search ends where its steps drown in
        rounding.
    kernel : {"nngp", "ntk"}
    noise : float
        σ² > 0, the noise variance to start with.
    fixed : sequence
        What is not fitted: names out of "weight_std", "bias_std" and "noise", or keys of `ntkfast.hyperparameters` such
        as (0, "bias_std").
    max_steps : int
        Of L-BFGS-B, each of which evaluates the likelihood about once.
    progress : bool or callable, optional
        As in `ntkfast.ntk`; counts the steps.

    Returns
    -------
    FittedHyperparameters

    Raises
    ------
    TypeError, ValueError, PrecisionError
        As in `network_likelihood`; nothing is left to fit.

    Notes
    -----
    For a homogeneous activation (relu) and no biases only the product of all weight_std enters the NNGP: the maximum is
    then a surface, and which point of it is found depends on the start.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> from ntkfast.learning.likelihood import fit_hyperparameters
    >>> X = np.linspace(-2, 2, 20)[:, None]
    >>> y = np.sin(2 * X[:, 0]) + 0.1 * (-1) ** np.arange(20)
    >>> found = fit_hyperparameters(nf.MLP(depth=2, activation="erf", bias_std=0.5), X, y)
    >>> found.converged, bool(found.value > found.path[0] + 10)
    (True, True)
    """
    outputs.kernel(kernel)
    progress_bar.check(progress)
    max_steps = checks.count(max_steps, "max_steps")
    start = {**hyperparameters(net), "noise": positive_number(noise, "noise")}
    free = _free(start, fixed)
    problem = Problem(net, X, dtype=dtype, n_threads=n_threads)
    values, path, n_points = start.copy(), [], problem.shape[0]

    def evaluate(logs):
        """-log p(y)/N and its gradient by the logarithms."""
        values.update(zip(free, np.exp(logs).tolist(), strict=True))
        *stds, variance = values.values()
        here = problem.with_network(with_hyperparameters(net, stds))
        try:
            found = _likelihood(here, y, variance, kernel, False)
        except np.linalg.LinAlgError:
            if not path:
                raise
            return FAR - path[0] / n_points, np.zeros(len(free))  # a wall for the line search
        rates = dict(zip(values, [*found.gradient, found.noise], strict=True))
        gradient = np.array([values[key] * rates[key] for key in free], dtype=float)
        if not path:
            path.append(found.value)
        return -found.value / n_points, -gradient / n_points

    first = np.log([start[key] for key in free])
    low, high = first - np.log(RANGE), first + np.log(RANGE)
    with progress_bar.reporter(progress, "fit") as report:

        def after_step(intermediate_result):
            path.append(-n_points * intermediate_result.fun)
            if report is not None:
                report(len(path) - 1, max_steps)

        found = optimize.minimize(
            evaluate,
            first,
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([low, high]),
            callback=after_step,
            options={"maxiter": max_steps},
        )
    at_end = [str(key) for key, log, a, b in zip(free, found.x, low, high, strict=True) if not a < log < b]
    message = found.message + ("; at an end of its range: " + ", ".join(at_end) if at_end else "")
    values.update(zip(free, np.exp(found.x).tolist(), strict=True))
    *stds, variance = values.values()
    network, value = with_hyperparameters(net, stds), float(-found.fun * n_points)
    if value > path[-1]:  # a search that ended abnormally in the middle of a step
        path.append(value)
    return FittedHyperparameters(network, variance, value, np.array(path), bool(found.success), message)


def _free(start, fixed):
    """The keys of those that are fitted."""
    fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    names = {"weight_std", "bias_std", "noise"}
    for key in fixed:
        if key not in names and key not in start:
            raise ValueError(
                f"fixed: expected 'weight_std', 'bias_std', 'noise' or keys of hyperparameters(net), got {key!r}"
            )
    free = [
        key
        for key, value in start.items()
        if value > 0 and key not in fixed and not (isinstance(key, tuple) and key[1] in fixed)
    ]
    if not free:
        raise ValueError("fixed: expected something left to fit, got nothing that is > 0 and not fixed")
    return free
