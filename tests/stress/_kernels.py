"""Kernels whose bits are compared, and a program that computes them in a process of its own:
python -P _kernels.py FILE NETWORK ... prints its instruction set and saves the kernels of these networks.
"""

import itertools
import sys

import numpy as np

import ntkfast as nf

A = nf.activations
NETWORKS = {  # closed forms; series with and without kinks; kinks elsewhere than at 0; branches; float64 inside float32
    "relu": nf.MLP(4, "relu", 1.3),
    "relu with bias": nf.MLP(3, "relu", 1.2, 0.1),
    "erf": nf.MLP(3, "erf", 1.4, 0.1),
    "tanh": nf.MLP(3, "tanh", 1.2, 0.1),
    "elu": nf.MLP(3, A.elu(1.3), bias_std=0.1),
    "hard_swish": nf.MLP(2, A.hard_swish(), 0.9, 0.1),
    "hardtanh": nf.MLP(3, "hardtanh", bias_std=0.1),
    "mixed": nf.Network([nf.Dense(), nf.Residual("erf", nf.Dense(bias_std=0.1)), nf.LayerNorm(), "gelu", nf.Dense()]),
    "deep": nf.MLP(12, "relu", 2**0.5),
}


def points(n, d, dtype, spread=0.3):
    """Of various lengths; every third one is close to another or its opposite, so that series take tables."""
    rng = np.random.default_rng((n, d))
    X = rng.normal(size=(n, d)) * np.exp(spread * rng.normal(size=(n, 1)))
    X[n - n // 3 :] = X[: n // 3] * np.where(rng.random((n // 3, 1)) < 0.8, 1, -1)
    X[n - n // 3 :] += 1e-3 * rng.normal(size=(n // 3, d))
    return X.astype(dtype)


def apart(dtype):
    """Points of which no two are near."""
    return np.random.default_rng(1).normal(size=(67, 30)).astype(dtype)


def kernels(names):
    """Σ and Θ of points that are apart, and of some that are not, by "network dtype number"."""
    found = {}
    for name, dtype in itertools.product(names, ("f4", "f8")):
        sets = apart(dtype), points(40, 5, dtype)
        matrices = [K for X in sets for K in nf.kernels(NETWORKS[name], X, n_threads=2)]
        found |= {f"{name} {dtype} {k}": K for k, K in enumerate(matrices)}
    return found


if __name__ == "__main__":
    from ntkfast.engine import _core

    np.savez(sys.argv[1], **kernels(sys.argv[2:]))
    print(_core.isa_in_use())
