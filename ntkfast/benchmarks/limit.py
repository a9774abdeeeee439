"""Workloads of limit kernels, with those of NumPy and scikit-learn that they are compared with."""

import numpy as np

from ntkfast.benchmarks.limits import Work
from ntkfast.benchmarks.workload import DTYPES, RELU, Workload, points
from ntkfast.engine.problem import Problem
from ntkfast.infinite.kernels import kernels, ntk
from ntkfast.infinite.operator import KernelOperator
from ntkfast.networks import MLP

# Vector operations, and roots and divisions, of a pair in one layer, counted in duals.h and vecmath.h, for float64. The
# polynomials for float32 are shorter by FEWER.
COUNTS = {"relu": (37, 1), "erf": (51, 2), "gelu": (66, 2)}
FEWER = {"f8": {"relu": 0, "erf": 0, "gelu": 0}, "f4": {"relu": 5, "erf": 10, "gelu": 10}}


def kernel_work(n, m=None, *, d, dtype="f8", activation="relu", depth=4, planes=1, written=True, per_pair=0.0):
    """Of a limit kernel: products, the map of each pair once, the whole result. m=None: symmetric.

    per_pair: operations of the sink.
    """
    pairs = n * m if m else n * n / 2
    operations, roots = COUNTS[activation]
    hidden = depth - 1
    return Work(
        dtype,
        gemm=2.0 * n * m * d if m else 0.0,
        syrk=0.0 if m else float(n) * n * d,
        written=planes * n * (m or n) * np.dtype(dtype).itemsize if written else 0.0,
        operations=pairs * (hidden * (operations - FEWER[dtype][activation]) + 2 + per_pair),
        roots=pairs * hidden * roots,
    )


def limit(name, d, dtype="f8", net=RELU, activation="relu", depth=4, n_threads=None):
    """A symmetric kernel, written into a matrix that is there."""

    def make(n):
        X, K = points(n, d, dtype), np.zeros((n, n), dtype)
        return lambda: ntk(net, X, out=K, n_threads=n_threads, progress=False)

    def work(n):
        return (kernel_work(n, d=d, dtype=dtype, activation=activation, depth=depth),)

    return Workload(name, f"limit, d={d}, {DTYPES[dtype]}", make, work if activation in COUNTS else None, n_threads)


def relu(d, dtype):
    return limit(f"relu, d={d}, {DTYPES[dtype]}", d, dtype)


def activation(name):
    return limit(f"{name}, d=20", 20, net=MLP(depth=4, activation=name, bias_std=0.1), activation=name)


def product(d, dtype):
    def make(n):
        X, K = points(n, d, dtype), np.zeros((n, n), dtype)
        return lambda: np.matmul(X, X.T, out=K)

    def work(n):
        return (Work(dtype, syrk=float(n) * n * d, written=n * n * np.dtype(dtype).itemsize),)

    return Workload(f"numpy X @ X.T, d={d}, {DTYPES[dtype]}", f"limit, d={d}, {DTYPES[dtype]}", make, work)


def two_sets(name, function, work):
    def make(n):
        X, Y, K = points(n, 784, "f8"), points(n, 784, "f8", seed=1), np.zeros((n, n))
        return lambda: function(X, Y, K)

    return Workload(name, "limit of X and Y, d=784, float64", make, work)


def both_kernels():
    def make(n):
        X, K, L = points(n, 20, "f8"), np.zeros((n, n)), np.zeros((n, n))
        return lambda: kernels(RELU, X, out=(K, L), progress=False)

    return Workload("nngp and ntk, d=20", "limit, d=20, float64", make, lambda n: (kernel_work(n, d=20, planes=2),))


def on_sphere(name):
    """On points of one length the coefficients of a Hermite series are the same for all."""
    net = MLP(depth=4, activation=name, bias_std=0.1)

    def make(n):
        X, K = points(n, 20, "f8"), np.zeros((n, n))
        X *= np.sqrt(20) / np.linalg.norm(X, axis=1, keepdims=True)
        return lambda: ntk(net, X, out=K, progress=False)

    return Workload(f"{name}, d=20, constant norm", "limit, d=20, constant norm, float64", make)


def rbf_kernel():
    def make(n):
        from sklearn.metrics.pairwise import rbf_kernel

        X = points(n, 20, "f8")
        return lambda: rbf_kernel(X)

    return Workload("sklearn rbf_kernel, d=20", "limit, d=20, float64", make)


def few_points(name):
    """The cost of a call with few pairs: preparing points and the data of Hermite series."""
    net = MLP(depth=4, activation=name, bias_std=0.1)

    def make(n):
        X = points(100, 20, "f8")

        def several():
            for _ in range(20):
                ntk(net, X, progress=False)

        return several

    return Workload(f"{name}, d=20, n=100, 20 calls", "limit of few points", make)


def without_matrix(what, vectors=0):
    """Products without the matrix, or (vectors=0) the same pairs without writing anything."""

    def make(n):
        X = points(n, 100, "f4")
        if not vectors:
            problem = Problem(RELU, X)
            return lambda: problem.run(None, ("ntk",), show=False)
        K, V = KernelOperator(RELU, X, progress=False), points(n, vectors, "f4")
        return lambda: K @ V

    def work(n):  # the sums are float64, and take each pair twice
        kernel = kernel_work(n, d=100, dtype="f4", written=False)
        return (kernel, Work("f8", operations=n * n * (vectors + 0.5))) if vectors else (kernel,)

    return Workload(f"operator, d=100, float32: {what}", "operator, d=100, float32", make, work)


def growing(n: int = 2000, d: int = 20, depth: int = 4, n_threads: int | None = None):
    """The call for a ReLU kernel of these sizes, whose time `growth` follows."""
    net = MLP(depth=depth, bias_std=0.1)
    X, K = points(n, d, "f8"), np.zeros((n, n))
    return lambda: ntk(net, X, out=K, n_threads=n_threads, progress=False)


WORKLOADS = (
    *(make(d, dtype) for d in (784, 20) for dtype in DTYPES for make in (relu, product)),
    *(limit(f"relu, d=784, {k} thread{'s' * (k > 1)}", 784, n_threads=k) for k in (1, 2)),
    two_sets(
        "relu of X and Y, d=784",
        lambda X, Y, K: ntk(RELU, X, Y, out=K, progress=False),
        lambda n: (kernel_work(n, n, d=784),),
    ),
    two_sets(
        "numpy X @ Y.T, d=784",
        lambda X, Y, K: np.matmul(X, Y.T, out=K),
        lambda n: (Work(gemm=2.0 * n * n * 784, written=8.0 * n * n),),
    ),
    both_kernels(),
    rbf_kernel(),
    limit("relu, depth 20, d=20", 20, net=MLP(depth=20, bias_std=0.1), depth=20),
    *(activation(name) for name in ("erf", "gelu", "sin", "tanh", "softplus", "silu", "hardtanh")),
    *(on_sphere(name) for name in ("relu", "tanh", "softplus", "silu")),
    *(few_points(name) for name in ("relu", "tanh", "silu", "softplus", "elu")),
    *(without_matrix(what, k) for what, k in (("pairs alone", 0), ("one vector", 1), ("16 vectors", 16))),
)
