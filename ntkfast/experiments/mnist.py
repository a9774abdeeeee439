"""Beyond the paper: exact regression with the limit kernel on all of MNIST, one Gram matrix in memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ntkfast.datasets import MNIST
from ntkfast.experiments.networks import relu_network
from ntkfast.experiments.work import Progress
from ntkfast.infinite.kernels import ntk
from ntkfast.learning import classes
from ntkfast.learning.factor import cholesky
from ntkfast.support import memory
from ntkfast.support.reprs import short
from ntkfast.support.scalars import non_negative_number, positive_integer

__all__ = ["Regression", "run"]

BLOCK = 1000  # test images at once


@dataclass(frozen=True)
class Regression:
    """The result of `run`: M test images.

    Attributes
    ----------
    n : int
        Number of training images.
    depth : int
    ridge : float
    outputs : ndarray, shape (M, 10)
        The function at t = ∞, for one-hot targets minus their mean.
    labels : ndarray, shape (M,)
    steps : ndarray of str, shape (4,)
    seconds : ndarray, shape (4,)
        Of each step.
    """

    n: int
    depth: int
    ridge: float
    outputs: np.ndarray
    labels: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray

    __repr__ = short

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.outputs.argmax(axis=1) == self.labels))


def run(
    train: MNIST,
    test: MNIST,
    n: int | None = None,
    depth: int = 4,
    ridge: float = 1e-5,
    *,
    progress: Progress = None,
    say: Callable[[str], object] | None = None,
) -> Regression:
    """f(x) = Θ(x, X) (Θ(X, X) + r)⁻¹ y in float32, with a Cholesky factor that overwrites the Gram matrix.

    It takes 4 n² bytes (14.4 GB for all 60000), and about 4 · 5000 n for the images and tiles of the factor (1.2 GB).

    Parameters
    ----------
    train, test : ntkfast.datasets.MNIST
    n : int, optional
        Use the first n training images. Default: all.
    depth : int
        L; ReLU, w = 1, β = 0.1, pixels/256.
    ridge : float
        r over the mean of the diagonal of Θ; without it, rounding in float32 makes a large Gram matrix indefinite.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.
    say : callable, optional
        Called with a line of text, including the time taken, when a step is done.

    Returns
    -------
    Regression

    Raises
    ------
    MemoryError
        The Gram matrix does not fit; nothing has been allocated.
    numpy.linalg.LinAlgError
        The Gram matrix is not positive definite in float32; the ridge is too small.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.datasets import MNIST
    >>> from ntkfast.experiments import mnist
    >>> rng = np.random.default_rng(0)
    >>> noise = MNIST(rng.integers(0, 256, (20, 784), dtype=np.uint8), rng.integers(0, 10, 20, dtype=np.uint8))
    >>> mnist.run(noise, noise).accuracy
    1.0
    """
    n = len(train.images) if n is None else positive_integer(n, "n")
    ridge = non_negative_number(ridge, "ridge")
    if n > len(train.images):
        raise ValueError(f"n: expected at most {len(train.images)} training images, got {n}")
    size = np.dtype(np.float32).itemsize
    beside = 784 + 30  # numbers for each image: its pixels and targets
    needed = size * (n * n + n * beside + test.images.size)
    fitting = memory.available()
    hint = ""
    if fitting is not None and fitting > 2**28:
        most = (beside**2 / 4 + 0.95 * fitting / size - test.images.size) ** 0.5 - beside / 2
        hint = f"; n = {int(most) // 1000 * 1000} would fit" if most >= 1000 else ""
    memory.require(needed, f"the kernel of {n} images in float32", hint)
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start
        if say is not None:
            say(f"{name:<32} {seconds[name]:8.1f} s")

    net = relu_network(depth)
    with step("kernel of the training images"):
        X = train.images[:n].astype(np.float32) / 256
        K = ntk(net, X, out=np.empty((n, n), np.float32), progress=progress)
    with step("Cholesky factor"):
        diagonal = K.reshape(-1)[:: n + 1]
        diagonal += np.float32(ridge * diagonal.mean(dtype=float))
        factor = cholesky(K, overwrite=True, rcond=0.0, progress=progress)
        if factor is None:
            raise np.linalg.LinAlgError(
                f"the kernel of {n} images is not positive definite in float32; give a ridge larger than {ridge:g}"
            )
    with step("weights"):
        weights = factor.solve(classes.targets(train.labels[:n], 10).astype(np.float32))
    with step("test images"):
        outputs = np.empty((len(test.images), 10), np.float32)
        for start in range(0, len(outputs), BLOCK):
            rows = slice(start, start + BLOCK)
            outputs[rows] = ntk(net, test.images[rows].astype(np.float32) / 256, X, progress=False) @ weights
    return Regression(
        n, depth, ridge, outputs, np.asarray(test.labels), np.array(list(seconds)), np.array(list(seconds.values()))
    )
