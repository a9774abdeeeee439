"""Beyond the paper: MNIST with shifted and rotated copies, exact regression on more points than a matrix has room for.

Conjugate gradients on the kernel operator: no Gram matrix is kept, and what is interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from os import PathLike

import numpy as np
from scipy import ndimage

from ntkfast.datasets import MNIST
from ntkfast.experiments import mnist
from ntkfast.experiments.networks import relu_network
from ntkfast.infinite.operator import KernelOperator
from ntkfast.learning import classes
from ntkfast.learning.solvers.solve import solve
from ntkfast.support import arrays
from ntkfast.support.scalars import non_negative_integer, positive_integer, positive_number
from ntkfast.support.typing import Memory, Progress

__all__ = ["augmented", "run"]

SHIFT, ROTATION = 2.0, 10.0  # at most, in pixels along each axis and in degrees
TOL = 1e-2  # of the residual: of 8000 images no more test digits are right with 1e-4


def augmented(data: MNIST, n: int, seed: int = 0) -> MNIST:
    """All images, and shifted and rotated copies of them up to n in all.

    Parameters
    ----------
    data : ntkfast.datasets.MNIST
    n : int
    seed : int
        Shifts up to 2 pixels along each axis and rotations up to 10 degrees are uniform. Each image has the same number
        of copies, or one more. Between pixels, images are interpolated linearly.

    Returns
    -------
    ntkfast.datasets.MNIST, of n images

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.datasets import MNIST
    >>> from ntkfast.experiments.augmentation import augmented
    >>> digits = MNIST(np.zeros((2, 784), np.uint8), np.array([3, 7], np.uint8))
    >>> augmented(digits, 5).labels.tolist()
    [3, 7, 3, 7, 3]
    """
    n, rng = positive_integer(n, "augment"), np.random.default_rng(non_negative_integer(seed, "seed"))
    first = len(data.images)
    if n < first:
        raise ValueError(f"augment: expected at least the number of images, {first}, got {n}")
    side = round(data.images.shape[1] ** 0.5)
    if side**2 != data.images.shape[1]:
        raise ValueError(f"data: expected square images, got {data.images.shape[1]} pixels")
    which = np.arange(n) % first
    images = np.empty((n, side * side), np.uint8)
    images[:first] = data.images
    middle = np.full(2, (side - 1) / 2)
    for k in range(first, n):
        shift, angle = rng.uniform(-SHIFT, SHIFT, 2), np.deg2rad(rng.uniform(-ROTATION, ROTATION))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        image = data.images[which[k]].reshape(side, side).astype(np.float32)
        moved = ndimage.affine_transform(image, turn, middle - turn @ middle + shift, order=1)
        images[k] = np.rint(moved).clip(0, 255).ravel()
    return MNIST(images, data.labels[which])


def run(
    train: MNIST,
    test: MNIST,
    n: int,
    depth: int = 4,
    ridge: float = 1e-5,
    *,
    tol: float = TOL,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
    say: Callable[[str], object] | None = None,
) -> mnist.Regression:
    """f(x) = Θ(x, X) (Θ(X, X) + r)⁻¹ y by preconditioned conjugate gradients, in float32 with sums in float64.

    Parameters
    ----------
    train, test : ntkfast.datasets.MNIST
    n : int
        Training images with their shifted and rotated copies, see `augmented`.
    depth, ridge
        As in `mnist.run`.
    tol : float
        Of the residual, relative to the targets.
    seed : int
        Of the copies and of the preconditioner.
    checkpoint : str or path-like, optional
        A file from which the same call goes on, as in `ntkfast.solve`.
    n_threads, progress, memory
        As in `ntkfast.solve`.
    say : callable, optional
        Called with a line of text, including the time taken, when a step is done.

    Returns
    -------
    mnist.Regression

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.datasets import MNIST
    >>> from ntkfast.experiments import augmentation
    >>> rng = np.random.default_rng(0)
    >>> noise = MNIST(rng.integers(0, 256, (20, 784), dtype=np.uint8), rng.integers(0, 10, 20, dtype=np.uint8))
    >>> augmentation.run(noise, noise, 40).accuracy
    1.0
    """
    ridge = positive_number(ridge, "ridge")
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def done(step: str) -> None:
        nonlocal start
        seconds[step], start = time.perf_counter() - start, time.perf_counter()
        if say is not None:
            say(f"{step:<44} {seconds[step]:8.1f} s")

    data, net = augmented(train, n, seed), relu_network(depth)
    X = data.images.astype(np.float32) / 256
    done(f"{len(train.images)} images and {n - len(train.images)} copies")
    K = KernelOperator(net, X, n_threads=n_threads, progress=False)
    found = solve(
        K,
        classes.targets(data.labels, 10),
        ridge * float(K.diagonal().mean(dtype=np.float64)),
        method="cg",
        tol=tol,
        rng=seed,
        checkpoint=checkpoint,
        n_threads=n_threads,
        progress=progress,
        memory=memory,
    )
    done(f"{found.iterations} iterations, rank {found.rank}, residual {found.residual:.1e}")
    weights = found.dual_coefficients.astype(np.float32)
    outputs = np.empty((len(test.images), 10), np.float32)
    for rows in arrays.blocks(len(outputs), mnist.BLOCK):
        block = test.images[rows].astype(np.float32) / 256
        outputs[rows] = KernelOperator(net, block, X, n_threads=n_threads, progress=False) @ weights
    done("test images")
    return mnist.Regression(
        n, depth, ridge, outputs, np.asarray(test.labels), np.array(list(seconds)), np.array(list(seconds.values()))
    )
