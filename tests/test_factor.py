"""The Cholesky factor of a large matrix, tile by tile: LAPACK's numbers, and the matrix unchanged if it fails."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.learning import factor

N = 37


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(factor, "AT_ONCE", 0)
    monkeypatch.setattr(factor, "TILE", 8)


@pytest.fixture(params=[np.float32, np.float64])
def K(request):
    half = np.random.default_rng(0).normal(size=(N, N + 5))
    K = half @ half.T / N + np.eye(N)
    return ((K + K.T) / 2).astype(request.param)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_factor_is_that_of_lapack(K, order, overwrite):
    given = K.copy(order=order)
    made = factor.cholesky(given, overwrite=overwrite)
    L = np.tril(made.half).astype(float)
    atol = 2 * (N + 1) * np.finfo(K.dtype).eps * K.max()  # of L Lᵀ: Higham 2002, theorem 10.3, with |L||Lᵀ|_ij <= max K
    assert_allclose(L @ L.T, K, rtol=0, atol=atol)
    assert np.shares_memory(made.half, given) == overwrite
    if not overwrite:
        assert_array_equal(given, K)
    assert_array_equal(made.matrix(), K)


def test_half_has_zeros_above_its_diagonal(K):
    assert_array_equal(np.triu(factor.factor(K, "K").half, 1), 0)


@pytest.mark.parametrize(("n", "size"), [(N, 1), (36, 3), (600, 1), (600, 4)])  # 600: more than one panel of columns
def test_blocks_of_the_inverse_are_those_of_the_whole(n, size):
    half = np.random.default_rng(1).normal(size=(n, n + 5))
    K = half @ half.T / n + np.eye(n)
    found = factor.cholesky(K).inverse_blocks(size)
    whole = np.linalg.inv(K)
    expected = [whole[start : start + size, start : start + size] for start in range(0, n, size)]
    assert_allclose(found, expected, rtol=0, atol=1e-12)  # ‖K⁻¹‖ <= 1, the condition number is below 10


@pytest.mark.parametrize("where", [3, 20, N - 1])
def test_an_indefinite_matrix_is_as_it_was(K, where):
    K[where, where] = -1
    given = K.copy()
    found, direction = factor.attempt(given, overwrite=True)
    assert found is None
    assert direction @ K @ direction < 0
    assert_array_equal(given, K)


def test_an_interrupt_leaves_the_matrix_as_it_was(K):
    def interrupt(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    given = K.copy()
    with pytest.raises(KeyboardInterrupt):
        factor.cholesky(given, overwrite=True, progress=interrupt)
    assert_array_equal(given, K)


def test_progress_counts_the_products_of_tiles(K):
    seen = []
    factor.cholesky(K, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (35, 35)  # 5 columns of tiles: 5·1 + 4·2 + 3·3 + 2·4 + 1·5


def test_eigenvectors_are_orthonormal(monkeypatch):
    """By syevd, and by syevr where that does not fit: alone, it is off by up to 3e-4 in float32."""
    X = np.random.default_rng(0).standard_normal((300, 10)).astype("f4")
    K = nf.ntk(nf.MLP(depth=3, bias_std=0.1), X)

    def check(found, n):
        values, V = found
        assert_allclose(V.T @ V, np.eye(n), atol=8e-6)
        assert_allclose(K @ V, V * values, atol=1e-6 * values[-1])

    def pairs(*n_largest):
        return factor.eigenpairs(K.copy(order="F"), *n_largest)

    check(pairs(), 300)
    check(pairs(120), 120)
    monkeypatch.setattr(factor, "MOST_DIVIDED", 0)
    values, V = pairs()
    check((values, V), 300)
    V = np.asfortranarray(V @ (np.eye(300) + 1e-3 * np.cos(np.arange(300**2)).reshape(300, 300))).astype("f4")
    factor._orthonormalise(V, np.empty_like(V))
    assert_allclose(V.T @ V, np.eye(300), atol=8e-6)
