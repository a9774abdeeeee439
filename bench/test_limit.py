"""pytest bench: the limit kernels against NumPy's X @ X.T and scikit-learn's rbf_kernel (pytest-benchmark).

Groups compare within one run; no test depends on timing. For the ratios that the project promises: `ntkfast bench`.
"""

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

import ntkfast as nf
from ntkfast.benchmarks import DEEP, ERF, RELU, points

N = 4000
NETS = {"relu": RELU, "erf": ERF, "relu, depth 20": DEEP}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("d", [20, 784])
@pytest.mark.parametrize("what", ["numpy", "rbf", *NETS])
def test_square(benchmark, what, d, dtype):
    benchmark.group = f"{N} x {N}, d={d}, {dtype}"
    X, K = points(N, d, dtype), np.zeros((N, N), dtype)
    if what == "numpy":
        benchmark(lambda: np.matmul(X, X.T, out=K))
    elif what == "rbf":
        benchmark(lambda: rbf_kernel(X))
    else:
        benchmark(lambda: nf.ntk(NETS[what], X, out=K))
        assert np.array_equal(K, K.T)
