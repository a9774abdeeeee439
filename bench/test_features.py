"""pytest bench: the time and the error of approximate features against their number (pytest-benchmark).

The errors are in the column extra_info of --benchmark-json, and are printed with -s: relative to the kernel in the
Frobenius norm, and what is missing of the trace (of random features: by how much it is off). bench/README.md has them.
"""

import numpy as np
import pytest

import ntkfast as nf

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

NET = nf.MLP(depth=3, weight_std=2**0.5, bias_std=0.1)


@pytest.fixture(scope="module")
def digits():
    X = StandardScaler().fit_transform(load_digits().data)
    return X, nf.ntk(NET, X)


@pytest.mark.parametrize("n_components", [64, 128, 256, 512, 1024])
@pytest.mark.parametrize("method", ["nystroem", "random", "sketch"])
def test_features(benchmark, method, n_components, digits):
    benchmark.group = f"digits, {n_components} features"
    X, K = digits
    models = [nf.sklearn.NTKFeatures(method=method, n_components=n_components, random_state=k).fit(X) for k in range(3)]
    errors = []
    for model in models:
        features = model.transform(X)
        off = features @ features.T - K
        errors.append((np.linalg.norm(off) / np.linalg.norm(K), abs(np.trace(off)) / np.trace(K)))
    norm, trace = np.sqrt(np.mean(np.square(errors), axis=0))
    benchmark.extra_info |= {"error": norm, "trace": trace}
    print(f"\n| {method} | {n_components} | {norm:.2g} | {trace:.2g} |")
    benchmark.pedantic(models[0].transform, (X,), rounds=3)
