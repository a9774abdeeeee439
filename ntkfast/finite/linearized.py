"""A network of finite width, linearised in its parameters."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.engine import threads
from ntkfast.finite import passes
from ntkfast.finite.divergence import Watch
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.jacobian import pull_back, split, vector
from ntkfast.finite.network import FiniteNetwork, check_finite_network
from ntkfast.finite.training import largest_product
from ntkfast.support import losses, memory
from ntkfast.support.losses import Loss
from ntkfast.support.saved import Saved
from ntkfast.support.scalars import non_negative_integer, non_negative_number, positive_number
from ntkfast.support.typing import Array

__all__ = ["LinearizedNetwork", "linearize"]

LARGE = 6000  # rows of a matrix whose eigendecomposition takes minutes


class LinearizedNetwork(Saved):
    """A network linearised in its parameters around θ0: f_lin(x) = f(x; θ0) + J(x) (θ - θ0).

    Its gradient descent is kernel gradient descent with the fixed kernel Θ̂ of θ0. Made by `linearize`.

    Parameters
    ----------
    network : FiniteNetwork
        With the parameters θ0.
    displacement : array_like, shape (n_parameters,), optional
        θ - θ0, which is copied. Default: 0.

    Attributes
    ----------
    network : FiniteNetwork
        With the parameters θ0.
    displacement : ndarray, shape (n_parameters,)
        θ - θ0, in the order of `FiniteNetwork.jacobian`.

    See Also
    --------
    linearize : Makes it.
    train : Gradient descent of the network itself.
    LeastSquaresFlow : The same of the limit, in closed form.

    References
    ----------
    Lee, Xiao, Schoenholz, Bahri, Novak, Sohl-Dickstein and Pennington (2019), "Wide neural networks of any depth evolve
    as linear models under gradient descent".

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
    >>> nf.linearize(f).displacement.shape
    (40,)
    """

    def __init__(self, network: FiniteNetwork, displacement: ArrayLike | None = None) -> None:
        check_finite_network(network)
        self.network = network
        self.displacement: Array
        if displacement is None:
            self.displacement = np.zeros(network.n_parameters, network.dtype)
        else:
            self.displacement = vector(displacement, "displacement", (network.n_parameters,), network.dtype).copy()

    def described(self) -> dict[str, Any]:
        return {"network": self.network, "displacement": self.displacement}

    def __call__(self, X: ArrayLike) -> Array:
        """The outputs f(x; θ0) + J(x) (θ - θ0).

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
            Points, one per row.

        Returns
        -------
        ndarray, shape (N, n_outputs)
            Of the network's dtype.

        Raises
        ------
        TypeError, ValueError
            X does not suit the network.

        See Also
        --------
        jvp : J(x) v.

        Examples
        --------
        >>> import ntkfast as nf
        >>> f = nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
        >>> nf.linearize(f)([[2.0], [3.0]]).shape
        (2, 1)
        """
        f, points = self.network, self.network.points(X)
        weights, biases = split(f, self.displacement)
        result = np.empty((len(points), f.n_outputs), f.dtype)
        for rows, outputs, tape in passes.taped(f, points):
            result[rows] = outputs
            result[rows] += passes.tangent(f, tape, weights, biases)
        return result

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        steps: int = 1000,
        learning_rate: float = 1.0,
        loss: Loss = "mse",
        n_threads: int | None = None,
    ) -> LinearizedNetwork:
        """Full-batch gradient descent on the parameters, as in `ntkfast.train`.

        On least squares, with Π = Θ̂/N on the data, the outputs after m steps are y + (1 - ηΠ)^m (f - y).

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
            Points, one per row.
        y : array_like
            Targets, as the loss takes them.
        steps : int
            How many.
        learning_rate : float
            η: in a step the outputs change by -η (1/N) Θ̂ d.
        loss : {"mse", "logistic", "softmax", "huber"} or callable
            As in `ntkfast.train`.
        n_threads : int, optional
            As in `ntkfast.train`.

        Returns
        -------
        LinearizedNetwork
            A new one.

        Raises
        ------
        DivergenceError
            As in `ntkfast.train`.
        TypeError, ValueError
            An argument is not as described.

        See Also
        --------
        LinearizedNetwork.flow : In continuous time, from eigenvectors.
        train : The same for the network itself.

        Examples
        --------
        >>> import ntkfast as nf
        >>> f = nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
        >>> nf.linearize(f).train([[1.0], [-1.0]], [2.0, 3.0], steps=200)([[1.0], [-1.0]]).round(3)
        array([[2.],
               [3.]])
        """
        f, points = self.network, self.network.points(X)
        steps, rate = non_negative_integer(steps, "steps"), positive_number(learning_rate, "learning_rate")
        cost = losses.get(loss, y, (len(points), f.n_outputs), f.dtype)
        displacement = self.displacement.copy()
        weights, biases = split(f, displacement)
        tape: list[Any] = []
        start = passes.forward(f, points, tape)
        watch, history = Watch(f, points, rate, cost if isinstance(loss, str) else None), []
        small = threads.blas(n_threads, largest_product(f, len(points)))
        with small, np.errstate(over="ignore", invalid="ignore"):
            for step in range(steps + 1):
                outputs = start + passes.tangent(f, tape, weights, biases)
                with watch.step(step):
                    value, d = cost(outputs)
                    watch.check(step, value, outputs)
                history.append(value)
                if step == steps:
                    break
                pull_back(f, list(tape), (-rate / len(points)) * d, weights, biases)
        watch.finish(history)
        return LinearizedNetwork(f, displacement)

    def flow(self, X: ArrayLike, y: ArrayLike, t: float, *, n_threads: int | None = None) -> LinearizedNetwork:
        """Gradient flow on least squares for a time t, computed from the eigenvectors of Θ̂.

        With Π = Θ̂/N on the data, its outputs are y + exp(-tΠ) (f - y) there, and elsewhere those of the displacement
        -diag(lr) Jᵀ (1/N) Π⁻¹ (1 - exp(-tΠ)) (f - y) (Jacot, Gabriel and Hongler 2018, section 5).

        Parameters
        ----------
        X : array_like, shape (N, n_inputs)
            Points, one per row.
        y : array_like, shape (N, n_outputs); (N,) if there is one output
            Targets.
        t : float
            >= 0; inf for the end of training.
        n_threads : int, optional
            Of the kernel and of BLAS. Default: one thread of BLAS for small work, else its own number.

        Returns
        -------
        LinearizedNetwork
            A new one.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described.
        MemoryError
            Θ̂, a matrix of N n_outputs rows, does not fit with its eigenvectors.

        Warns
        -----
        UserWarning
            Θ̂ has more than 6000 rows: its eigendecomposition takes minutes, and cannot be interrupted.

        See Also
        --------
        LinearizedNetwork.train : In steps, for any cost.
        LeastSquaresFlow : The same of a kernel matrix.

        Examples
        --------
        >>> import math
        >>> import ntkfast as nf
        >>> f = nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
        >>> nf.linearize(f).flow([[1.0], [-1.0]], [2.0, 3.0], math.inf)([[1.0], [-1.0]]).round(3)
        array([[2.],
               [3.]])
        """
        f, points = self.network, self.network.points(X)
        t = math.inf if t == math.inf else non_negative_number(t, "t")
        n, shape = len(points), (len(points), f.n_outputs)
        cost, size = losses.get("mse", y, shape, f.dtype), n * f.n_outputs
        what = f"X: the eigendecomposition of {size} x {size} numbers"
        memory.require(4 * size**2 * f.dtype.itemsize, what, "; train takes steps without it")
        if size > LARGE:
            warnings.warn(
                f"X: {n} points with {f.n_outputs} outputs take the eigendecomposition of a matrix of {size} rows, "
                f"about {9 * size**3:.1g} floating-point operations; `train` takes steps instead",
                stacklevel=2,
            )
        _, d = cost(self(points))
        kernel = empirical_ntk(f, points, outputs="full", layout="matrix", n_threads=n_threads)
        kernel /= n
        with threads.blas(n_threads, float(size) ** 3):
            rates, modes = np.linalg.eigh(kernel)
        moves = rates > len(rates) * np.finfo(f.dtype).eps * rates[-1]  # the rest is the null space, to rounding
        with np.errstate(invalid="ignore", divide="ignore"):
            passed = np.where(moves, -np.expm1(-t * rates) / rates, 0.0 if t == math.inf else t)
        pull = (modes @ (passed * (modes.T @ d.reshape(-1)))).reshape(shape) / n
        step = np.zeros(f.n_parameters, f.dtype)
        weights, biases = split(f, step)
        tape: list[Any] = []
        passes.forward(f, points, tape)
        pull_back(f, tape, pull.astype(f.dtype), weights, biases)
        return LinearizedNetwork(f, self.displacement - step)


def linearize(f: FiniteNetwork, displacement: ArrayLike | None = None) -> LinearizedNetwork:
    """The network linearised in its parameters.

    Parameters
    ----------
    f : FiniteNetwork
        The network, at whose parameters it is linearised.
    displacement : array_like, shape (n_parameters,), optional
        θ - θ0, which is copied. Default: 0.

    Returns
    -------
    LinearizedNetwork
        f itself at these parameters.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    See Also
    --------
    LinearizedNetwork.train : Gradient descent on it.
    empirical_ntk : Its kernel.
    jvp : What moves its outputs.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=2), n_inputs=1, widths=20, rng=0)
    >>> bool((nf.linearize(f)([[2.0]]) == f([[2.0]])).all())
    True
    """
    return LinearizedNetwork(f, displacement)
