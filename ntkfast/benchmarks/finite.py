"""Workloads of networks of finite width, with the matrix products alone in NumPy."""

import numpy as np

from ntkfast.benchmarks.limits import Work
from ntkfast.benchmarks.workload import RELU, Workload, points
from ntkfast.finite import passes
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.products import ntk_vector_product
from ntkfast.finite.training import Descent

N_FINITE, D_FINITE = 1000, 784


def width_for(n, most):
    """Networks are narrower where n is below 8000."""
    return max(1, round(most * min(1.0, n / 8000)))


def finite(n, outputs):
    width = width_for(n, 1024)
    return FiniteNetwork.init(RELU, D_FINITE, width, outputs, rng=0, dtype=np.float32), width


def empirical(outputs):
    def make(n):
        f, _ = finite(n, outputs)
        X = points(N_FINITE, D_FINITE, "f4")
        return lambda: empirical_ntk(f, X, progress=False)

    return Workload(
        finite_name("empirical_ntk", outputs), finite_group(outputs), make, lambda n: tangent_work(n, outputs)
    )


def finite_name(what, outputs):
    return f"{what}, 3 x 1024, float32, {outputs} output{'s' * (outputs > 1)}"


def finite_group(outputs):
    return finite_name(f"empirical, N={N_FINITE}", outputs)


def tangent_work(n, outputs):
    """Forwards, backwards for each output, and the Gram matrices of inputs and sensitivities (section 4)."""
    width, N = width_for(n, 1024), N_FINITE
    forwards = 2.0 * N * (D_FINITE * width + 2 * width**2 + width * outputs)
    backwards = 2.0 * N * outputs * 2 * width**2
    grams = float(N) ** 2 * (D_FINITE + 3 * width + 3 * outputs * width)
    return (Work("f4", gemm=forwards + backwards, syrk=grams),)


def products_of(outputs):
    """The same products in NumPy, which computes half of the symmetric ones."""

    def make(n):
        f, width = finite(n, outputs)
        inputs = [points(N_FINITE, D_FINITE, "f4"), *(points(N_FINITE, width, "f4", seed) for seed in range(3))]
        sensitivities = [points(N_FINITE, outputs * width, "f4", seed) for seed in range(3)]

        def products():
            for x, weight in zip(inputs, f.weights, strict=True):
                x @ weight.T
            for b, weight in zip(sensitivities[1:], f.weights[1:3], strict=True):
                b.reshape(-1, width) @ weight
            for factor in inputs + sensitivities:
                factor @ factor.T

        return products

    name = finite_name("numpy: the products of empirical_ntk", outputs)
    return Workload(name, finite_group(outputs), make, lambda n: tangent_work(n, outputs))


def vector_product():
    """A product with J and one with its transpose: three passes of the network's products each, and one forwards."""

    def make(n):
        f, _ = finite(n, 1)
        X, v = points(N_FINITE, D_FINITE, "f4"), points(N_FINITE, 1, "f4")
        return lambda: ntk_vector_product(f, X, v)

    def work(n):
        width = width_for(n, 1024)
        inner, first = 2.0 * N_FINITE * 2 * width**2, 2.0 * N_FINITE * D_FINITE * width
        # forwards; backwards; the gradient of each layer; forwards along it, through inputs and through parameters
        return (Work("f4", gemm=(inner + first) + inner + (inner + first) + (2 * inner + first)),)

    return Workload("ntk_vector_product, 3 x 1024, float32", "vector product", make, work)


WIDE, N_STEP = 10000, 64


def training_step():
    def make(n):
        f = FiniteNetwork.init(RELU, D_FINITE, width_for(n, WIDE), rng=0, dtype=np.float32)
        x, y = points(N_STEP, D_FINITE, "f4"), points(N_STEP, 1, "f4")
        descent = Descent(f, 1e-3 / N_STEP, 0.0)

        def step():
            tape = []
            descent.step(tape, passes.forward(f, x, tape) - y)

        return step

    return Workload("training step, width 10000, N=64, float32", "training step", make, step_work)


def step_work(n):
    """Six products of the two wide layers, two of the first, and the weights that are written."""
    width = width_for(n, WIDE)
    return (
        Work(
            "f4",
            gemm=2.0 * N_STEP * (6 * width**2 + 2 * D_FINITE * width),
            written=4.0 * (2 * width**2 + D_FINITE * width),
        ),
    )


def six_products():
    def make(n):
        width = width_for(n, WIDE)
        a, gradient = points(N_STEP, width, "f4"), np.empty((width, width), "f4")
        weights = [points(width, width, "f4", seed) for seed in range(2)]

        def products():
            for weight in weights:
                a @ weight.T
                a @ weight
                np.matmul(a.T, a, out=gradient)

        return products

    def work(n):
        width = width_for(n, WIDE)
        return (Work("f4", gemm=12.0 * N_STEP * width**2, written=8.0 * width**2),)

    return Workload("numpy: six products of a training step, float32", "training step", make, work)


WORKLOADS = (
    *(make(outputs) for outputs in (1, 10) for make in (empirical, products_of)),
    vector_product(),
    training_step(),
    six_products(),
)
