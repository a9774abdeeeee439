"""The limit kernel on real digits, against the paper's results with networks of width 10000.

NTKFAST_DATA names a folder with the original MNIST files; without it these tests are skipped.
"""

import os

import numpy as np
import pytest
from scipy.linalg import eigh

import ntkfast as nf
from ntkfast.datasets import mnist
from ntkfast.experiments.fig3a import batch


@pytest.fixture(scope="module")
def digits():
    """512 random digits, pixels in [0, 1)."""
    if "NTKFAST_DATA" not in os.environ:
        pytest.skip("NTKFAST_DATA does not name a folder with the MNIST files")
    return batch(mnist("test"), 512, 0)[0]


def test_eigenvalues_of_figure_3(digits):
    """λ1 = 0.0457 of K/N (section 6 of the paper), up to the few per cent by which it varies with the digits drawn."""
    K = nf.ntk(nf.MLP(5, "relu", 1.0, 0.1), digits)
    values = eigh(K / len(K), eigvals_only=True, subset_by_index=[len(K) - 3, len(K) - 1])[::-1]
    np.testing.assert_allclose(values[0], 0.0457, rtol=0.05)
    np.testing.assert_allclose(values[1:], [0.0012, 0.0009], rtol=0.15)


def test_float32_is_float64_on_digits(digits):
    net = nf.MLP(4, "relu", 1.0, 0.1)
    exact = nf.ntk(net, digits)
    single = nf.ntk(net, digits.astype(np.float32))
    # √(2ε)/π per layer at the cusp, ε = 2^-24 times a few: no pair of digits is that close, so this is generous
    assert np.max(np.abs(single - exact)) < 1.6e-4 * exact.max()
