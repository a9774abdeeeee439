"""The Cholesky factor of a large matrix, tile by tile: LAPACK's numbers, and the matrix unchanged if it fails."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.learning import blas, factor, pieces
from ntkfast.support import arrays

N = 37


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(pieces, "AT_ONCE", 0)
    for name, value in {"TILE": 8, "OPERATIONS": 8, "ENTRIES": 8, "COLUMNS": 6}.items():
        monkeypatch.setattr(pieces, name, value)


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "k", "q"), [(N, N, 1), (3, 50, 20), (300, 7, 13), (1, 5, 600)])
def test_products_in_pieces(m, k, q, dtype):
    rng = np.random.default_rng(m + q)
    A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, q)).astype(dtype)
    atol = k * np.finfo(dtype).eps * np.abs(A).max() * np.abs(B).max() * k**0.5
    for left, right in ((A, B), (np.asfortranarray(A), B[::-1][::-1]), (A, np.asfortranarray(B))):
        found = pieces.product(left, right)
        assert found.dtype == dtype
        assert_allclose(found, A.astype(float) @ B.astype(float), rtol=0, atol=atol)
    assert_allclose(pieces.product(A, B[:, 0]), found[:, 0], rtol=0, atol=atol)


@pytest.mark.parametrize("columns", [None, 1, 20])
def test_solutions_in_pieces(K, columns):
    found = factor.cholesky(K)
    B = np.random.default_rng(1).normal(size=N if columns is None else (N, columns)).astype(K.dtype)
    L, exact = np.linalg.cholesky(K.astype(float)), np.linalg.inv(K.astype(float))
    atol = 4 * N * np.finfo(K.dtype).eps * 10 * np.abs(B).max() * N**0.5  # ‖K⁻¹‖ <= 1, the condition number is below 10
    for computed, expected in (
        (found.solve(B), exact @ B),
        (found.half_solve(B), np.linalg.solve(L, B)),
        (pieces.solve_triangular(found.half, B, trans=True), np.linalg.solve(L.T, B)),
    ):
        assert computed.dtype == K.dtype
        assert computed.shape == B.shape
        assert_allclose(computed, expected, rtol=0, atol=atol)


def test_the_inverse_and_its_norm_in_pieces(K):
    found = factor.cholesky(K)
    exact = np.linalg.inv(K.astype(float))
    inverse = found.inverse()
    assert_allclose(inverse, exact, rtol=0, atol=4 * N * np.finfo(K.dtype).eps * 10)
    assert_array_equal(inverse, inverse.T)
    norm = np.abs(exact).sum(axis=0).max()
    assert norm / N**0.5 <= found.inverse_norm() <= (1 + 1e-4) * norm
    assert found.lowest == 1 / found.inverse_norm()


def test_a_singular_matrix_is_refused_in_pieces(K):
    K[:, -1] = K[:, 0]
    K[-1] = K[0]
    K[-1, -1] = K[0, 0]
    assert factor.cholesky(K) is None


def test_a_matrix_whose_inverse_overflows_is_not_definite_beyond_rounding(monkeypatch):
    for at_once in (0, 1536):
        monkeypatch.setattr(pieces, "AT_ONCE", at_once)
        for dtype, tiny in ((np.float64, 1e-310), (np.float32, 1e-40)):
            assert factor.cholesky(np.diag(np.array([1, 1, tiny], dtype))) is None


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupt_while_the_matrix_is_restored(K, overwrite, monkeypatch):
    mirror, calls = arrays.mirror, []

    def interrupted(A):
        calls.append(A)
        mirror(A)
        if len(calls) == 1:
            A[0, 1:] = -1
            raise KeyboardInterrupt

    monkeypatch.setattr(arrays, "mirror", interrupted)
    K[-1, -1] = -1
    given = K.copy()
    if overwrite:
        with pytest.raises(KeyboardInterrupt):
            factor.cholesky(given, overwrite=True)
    else:
        assert factor.cholesky(given) is None
    assert_array_equal(given, K)


def test_a_flow_forgets_a_factor_that_is_being_restored(K, monkeypatch):
    y, new = np.arange(N, dtype=K.dtype), K[:3] / 2
    flow = nf.LeastSquaresFlow(K.copy(), y, overwrite=True)
    expected = flow.mean(np.inf, new)
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "mirror", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            flow.mean(1.0, new)
    assert_allclose(flow.mean(np.inf, new), expected, atol=N * 100 * np.finfo(K.dtype).eps)


def _interrupted(A):
    A[0, 1:] = -1
    raise KeyboardInterrupt


@pytest.mark.parametrize("shape", [(3, 5), (N, 20), (20, N)])
def test_squares_in_pieces_are_symmetric(shape):
    A = np.random.default_rng(2).normal(size=shape)
    found = pieces.square(A)
    assert_allclose(found, A @ A.T, atol=1e-13)
    assert_array_equal(found, found.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 60), (N, 20), (N, 1), (24, N)])
def test_updates_in_pieces_and_in_place(shape, dtype):
    rng = np.random.default_rng(3)
    A, B = (rng.normal(size=shape).astype(dtype, order="F") for _ in range(2))
    atol = 4 * (shape[1] * np.finfo(dtype).eps * np.abs(A).max() * np.abs(B).max() + np.finfo(dtype).eps)
    C = np.ones((shape[0],) * 2, dtype, order="F")
    pieces.add_square(C, A)
    assert_allclose(np.tril(C), np.tril(1 + A.astype(float) @ A.T), rtol=0, atol=atol)
    for left, trans in ((A, False), (np.asfortranarray(A.T), True)):
        around = np.ones((shape[0] + 2,) * 2, dtype, order="F")
        pieces.subtract_product(around[1:-1, 1:-1], left, np.asfortranarray(B.T), trans)
        assert_allclose(around[1:-1, 1:-1], 1 - A.astype(float) @ B.T, rtol=0, atol=atol)
        around[1:-1, 1:-1] = 1
        assert_array_equal(around, np.ones_like(around))


def test_blas_refuses_what_it_would_misread():
    A = np.eye(4)
    for block in (A[:, ::-1], np.eye(4, dtype=">f4"), A.astype(int), A[::2, ::2]):
        with pytest.raises((ValueError, KeyError)):
            blas.factor(block)
    A.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        blas.factor(A)
    with pytest.raises(ValueError, match="Fortran"):
        blas.add_square(np.eye(4, order="F"), 1.0, np.arange(16.0).reshape(4, 4))
