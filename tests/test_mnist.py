"""The limit kernel on real digits, beside what the paper found with networks of width 10000.

NTKFAST_DATA names a folder with the original MNIST files; without it these tests are skipped.
"""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh

import ntkfast as nf

FILE = Path(os.environ.get("NTKFAST_DATA", "not there"), "t10k-images-idx3-ubyte.gz")


@pytest.fixture(scope="module")
def digits():
    """512 random digits, pixels in [0, 1)."""
    if not FILE.exists():
        pytest.skip("NTKFAST_DATA does not name a folder with the MNIST files")
    images = np.frombuffer(gzip.decompress(FILE.read_bytes()), np.uint8, offset=16).reshape(-1, 784)
    return images[np.random.default_rng(0).choice(len(images), 512, replace=False)] / 256


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
    # √(2ε)/π a layer at the cusp, ε = 2^-24 times a few: no pair of digits is that close, so this is generous
    assert np.max(np.abs(single - exact)) < 1.6e-4 * exact.max()
