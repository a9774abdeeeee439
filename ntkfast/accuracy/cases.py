"""What is measured: activations, networks in three phases, and pairs of points."""

import os
from typing import NamedTuple

import numpy as np

from ntkfast import datasets
from ntkfast.networks import Activation, activations

PARAMETERS = {
    "abrelu": (-0.4, 1.3),
    "polynomial": ((0.3, -1.0, 0.5, 0.2),),
    "monomial": (3,),
    "hermite": (4,),
    "rectified_monomial": (2,),
}
# weight_std where a network without bias is critical, 1/|φ'(0)| or that of its slopes; 1.4 elsewhere.
CRITICAL = {"tanh": 1, "arctan": 1, "softsign": 1, "hardtanh": 1, "sin": 1, "erf": 0.8862, "abs": 1, "identity": 1}
CRITICAL |= {"leaky_relu": 1.4141, "relu": 1.4142, "abrelu": 1.0397}
GROWING = {"exp", "cosh", "sinh", "monomial", "polynomial", "hermite", "rectified_monomial"}
BOUNDED = {"tanh", "arctan", "softsign", "hardtanh", "hardsigmoid", "sigmoid", "sigmoid_like", "erf", "sin", "cos"}
BOUNDED |= {"rbf", "gaussian", "sign", "step", "relu6", "exp_normalized"}
HIDDEN = (1, 4, 20, 100)
ASIDE = np.array([1.0, -0.3, 0.2])


class Case(NamedTuple):
    """Pairs of points of one kind; `single`: whether they are numbers of float32 too."""

    kind: str
    pairs: tuple
    single: bool = True


def made(name: str) -> Activation:
    return getattr(activations, name)(*PARAMETERS.get(name, ()))


def phases(name: str) -> dict[str, tuple[float, float]]:
    """weight_std and bias_std of the ordered, the critical and the chaotic (or divergent) phase."""
    if name in GROWING:  # variances leave every range in a few layers, unless they shrink
        return {"ordered": (0.3, 0.1), "critical": (0.5, 0.1), "chaotic": (0.9, 0.1)}
    critical = CRITICAL.get(name, 1.4)
    chaotic = 3.0 if name in BOUNDED else 1.3 * critical
    return {"ordered": (0.8 * min(critical, 1.0), 0.3), "critical": (critical, 0.0), "chaotic": (chaotic, 0.1)}


def cases(number: int = 3) -> list[Case]:
    """`number` pairs of each kind, up to 3; of some kinds one more."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32).astype(float)

    def single(point):
        return np.asarray(point, np.float32).astype(float)

    points = normal(number, 3)
    images = pixels(2 * number)
    scattered = tuple(zip(normal(number, 20), normal(number, 20), strict=True))
    far = [([1e4], [1e4 + 0.3]), ([500.0], [500.1]), ([1e8], [1e8 + 16])]
    found = [
        Case("Gaussian", scattered),
        Case("1e-3 apart", tuple((x, single(x + 1e-3 * ASIDE)) for x in points)),
        Case("1e-8 apart", tuple((x, x + 1e-8 * ASIDE) for x in points), single=False),
        Case("1e-12 apart", tuple((x, x + 1e-12 * ASIDE) for x in points), single=False),
        Case("antipodes", (*((x, -x) for x in points), (points[0], single(-points[0] + 1e-3 * ASIDE)))),
        Case("far from the origin", tuple((single(x), single(y)) for x, y in far[: number + 1])),
        Case("raw pixels", tuple(zip(images[::2], images[1::2], strict=True))),
    ]
    if has_mnist():
        small = single(images / 255)
        found.insert(1, Case("MNIST", tuple(zip(small[::2], small[1::2], strict=True))))
    return found


def has_mnist() -> bool:
    return datasets.VARIABLE in os.environ


def pixels(n: int) -> np.ndarray:
    """n images with pixels from 0 to 255, shape (n, 784): of MNIST, or drawn at random where it is not at hand."""
    if has_mnist():
        return datasets.mnist("train").images[:n].astype(float)
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (n, 784)) * (rng.random((n, 784)) < 0.2) * 1.0
