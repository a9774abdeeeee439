"""nf.solve against dense linear algebra, and what it says where it does not get there."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import ntkfast as nf
from ntkfast.learning.solvers.conjugate import conjugate_gradients
from ntkfast.learning.solvers.pivoted import LowRankPreconditioner, low_rank
from ntkfast.learning.solvers.solve import DIRECT, METHODS

NET = nf.MLP(4, "relu", 2**0.5, 0.1)


def digits_like(n, rng):
    """Ten prototypes of 784 pixels, each with smooth variations, clipped to [0, 1]; and one-hot targets."""
    prototypes, labels = np.abs(rng.standard_normal((10, 784))), rng.integers(0, 10, n)
    variations = rng.standard_normal((n, 30)) @ rng.standard_normal((30, 784)) * np.exp(-np.arange(784) / 200)
    return np.clip(prototypes[labels] / 2 + 0.15 * variations, 0, 1), np.eye(10)[labels] - 0.1


X, Y = digits_like(900, np.random.default_rng(0))
K = nf.ntk(NET, X)
OPERATOR = nf.KernelOperator(NET, X)


def exact(alpha, y=Y):
    return np.linalg.solve(K + alpha * np.eye(len(K)), y)


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 1.0])
@pytest.mark.parametrize("method", METHODS[1:])
def test_a_matrix(method, alpha):
    found = nf.solve(K, Y, alpha, method=method, rng=0, tol=1e-10)
    assert_allclose(K @ found.dual_coefficients, K @ exact(alpha), atol=1e-7)
    one = nf.solve(K, Y[:, 0], alpha, method=method, rng=0, tol=1e-10)
    assert_allclose(K @ one.dual_coefficients, K @ exact(alpha)[:, 0], atol=1e-7)
    assert found.method == method
    assert found.converged
    assert_allclose(found.residuals[-1], found.residual, atol=1e-9)
    assert found.residual < 1e-9


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 1.0])
def test_iterations_reach_cholesky_on_images(alpha):
    """In at most 40 iterations with the preconditioner, which many more take without."""
    found = nf.solve(OPERATOR, Y, alpha, method="cg", rank=200, rng=0)
    assert found.iterations <= 40
    assert found.rank == 200
    assert_allclose(K @ found.dual_coefficients, K @ exact(alpha), atol=1e-6)
    plain = nf.solve(K, Y, alpha, method="cg", rank=0)
    assert plain.iterations > 1.5 * found.iterations
    assert plain.rank == 0
    left = np.linalg.norm(Y - K @ found.dual_coefficients - alpha * found.dual_coefficients, axis=0)
    assert_allclose(found.residual, (left / np.linalg.norm(Y, axis=0)).max(), rtol=1e-3)


class Integers(LinearOperator):
    """An operator of integers with what `solve` takes for a preconditioner."""

    def __init__(self, matrix):
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix = matrix

    def _matmat(self, V):
        return self.matrix @ V

    def columns(self, indices):
        return self.matrix[:, indices]

    def diagonal(self):
        return self.matrix.diagonal()


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_an_operator_of_integers(method):
    half = np.random.default_rng(0).integers(-3, 4, size=(60, 60))
    matrix = half @ half.T
    found = nf.solve(Integers(matrix), np.arange(60.0), 0.5, method=method, rng=0, tol=1e-10, max_iterations=500)
    assert_allclose(found.dual_coefficients, np.linalg.solve(matrix + 0.5 * np.eye(60), np.arange(60.0)), rtol=1e-6)


def test_an_operator_of_scipy_and_what_auto_takes():
    assert nf.solve(K, Y, 0.1).method == "cholesky"
    assert nf.solve(OPERATOR, Y, 0.1).method == "cholesky"
    assert nf.solve(OPERATOR, Y, 0.1, memory=8 * 10**6).method == "cg"
    found = nf.solve(aslinearoperator(K), Y, 0.1)
    assert (found.method, found.rank) == ("cg", 0)
    assert_allclose(K @ found.dual_coefficients, K @ exact(0.1), atol=1e-6)
    with pytest.raises(TypeError, match="method: expected 'cg' for an operator without columns, got 'eigh'"):
        nf.solve(aslinearoperator(K), Y, 0.1, method="eigh")


def test_the_rank_follows_from_memory():
    budget = 8 * 900 * 2 * 100 + 10
    found = nf.solve(OPERATOR, Y, 0.1, method="cg", memory=budget)
    assert found.rank == 100
    assert found.memory <= budget
    with pytest.raises(MemoryError, match=r"rank: .* of rank 500 needs .* memory=1000000 was given"):
        nf.solve(OPERATOR, Y, 0.1, method="cg", rank=500, memory=10**6)
    with pytest.raises(MemoryError, match="K_xx: 'cholesky' of 900 points needs"):
        nf.solve(OPERATOR, Y, 0.1, method="cholesky", memory=10**6)


@pytest.mark.parametrize("kind", ["matrix", "operator"])
def test_float32_iterates_in_float64(kind):
    """Iterations solve the system of the float32 matrix to any tolerance; a float32 factor could not."""
    points = X.astype(np.float32)
    operator = nf.KernelOperator(NET, points)
    given = nf.ntk(NET, points) if kind == "matrix" else operator
    found = nf.solve(given, Y, 0.1, method="cg", rng=0, tol=1e-10)
    assert found.converged
    assert found.dual_coefficients.dtype == np.float64
    assert_allclose(K @ found.dual_coefficients, K @ exact(0.1), atol=1e-3)
    assert nf.solve(nf.ntk(NET, points), Y, 0.1).dual_coefficients.dtype == np.float32


def test_bits_do_not_depend_on_the_threads_of_an_operator():
    one, two = (
        nf.solve(nf.KernelOperator(NET, X, n_threads=n), Y, 1.0, method="cg", rng=0, n_threads=1) for n in (1, 2)
    )
    assert_array_equal(one.dual_coefficients, two.dual_coefficients)


def test_low_rank_is_a_partial_cholesky_factor():
    F, rest = low_rank(lambda i: K[:, i], K.diagonal(), 300, 1e-16, np.random.default_rng(0))
    assert F.shape == (900, 300)
    assert_allclose(rest, (K - F @ F.T).diagonal(), atol=1e-10)
    assert np.linalg.eigvalsh(K - F @ F.T)[0] > -1e-10  # a Schur complement
    best = np.linalg.eigvalsh(K)[:-300].sum()  # the trace that the best approximation of this rank leaves
    assert best < rest.sum() < 3 * best
    V = np.random.default_rng(1).standard_normal((900, 4))
    inverse = np.linalg.inv(F @ F.T + 0.3 * np.eye(900))
    assert_allclose(LowRankPreconditioner(F, 0.3)(V), inverse @ V, atol=1e-8)


def test_low_rank_ends_where_nothing_is_left():
    B = np.random.default_rng(0).standard_normal((200, 7))
    F, rest = low_rank(lambda i: (B @ B.T)[:, i], (B @ B.T).diagonal(), 50, 1e-16, np.random.default_rng(0))
    assert F.shape[1] in (7, 8)
    assert_allclose(F @ F.T, B @ B.T, atol=1e-9)
    assert rest.max() < 1e-9


def test_equal_points():
    twice = np.concatenate([X[:300], X[:300]])
    found = nf.solve(nf.KernelOperator(NET, twice), Y[:600, 0], 0.01, method="cg", rng=0, tol=1e-10)
    matrix = nf.ntk(NET, twice)
    expected = np.linalg.solve(matrix + 0.01 * np.eye(600), Y[:600, 0])
    assert_allclose(matrix @ found.dual_coefficients, matrix @ expected, atol=1e-7)


def test_no_ridge():
    a = nf.solve(K, Y, 0.0, method="cg", rng=0, tol=1e-11).dual_coefficients
    assert_allclose(a, nf.solve(K, Y, 0.0).dual_coefficients, rtol=1e-5, atol=1e-8)
    twice = nf.ntk(NET, np.concatenate([X[:100], X[:100]]))
    least = nf.solve(twice, Y[:200], 0.0, method="eigh")
    assert_allclose(least.dual_coefficients, np.linalg.pinv(twice, rcond=1e-12, hermitian=True) @ Y[:200], atol=1e-8)
    with pytest.raises(np.linalg.LinAlgError, match=r"K_xx: expected a positive definite matrix.* a ridge .* larger"):
        nf.solve(twice, Y[:200], 0.0)


def test_targets_that_are_zero_need_no_iteration():
    found = nf.solve(OPERATOR, np.zeros(900), 0.1, method="cg")
    assert found.iterations == 0
    assert_array_equal(found.dual_coefficients, np.zeros(900))


def test_what_ends_iterations_early_is_reported():
    with pytest.warns(UserWarning, match=r"solve: the relative residual is .*max_iterations=2 was reached; raise"):
        found = nf.solve(OPERATOR, Y, 0.1, method="cg", max_iterations=2)
    assert (found.converged, found.iterations, len(found.residuals)) == (False, 2, 3)
    with pytest.warns(UserWarning, match=r"solve: .* rounding allows no more"):
        found = nf.solve(K, Y, 0.1, method="cg", tol=1e-17)
    assert found.residual < 1e-12
    indefinite = K - 2 * np.eye(900) * np.linalg.eigvalsh(K)[450]
    with pytest.warns(
        UserWarning, match=r"solve: .* not positive definite to rounding: its smallest .* at most -.*too small by that"
    ):
        assert not nf.solve(aslinearoperator(indefinite), Y, 0.0).converged
    with pytest.raises(np.linalg.LinAlgError, match=r"K_xx \+ alpha I: .*smallest eigenvalue"):
        nf.solve(indefinite, Y, 1e-6)


def test_iterations_that_stall_or_diverge_end():
    """A product with an error that changes from call to call lets residuals fall no further."""
    rng = np.random.default_rng(0)
    A = np.diag(np.geomspace(1, 1e8, 200))
    noisy = lambda V: A @ V + 1e4 * rng.standard_normal(V.shape)  # noqa: E731
    found = conjugate_gradients(noisy, np.ones((200, 1)), lambda V: V, tol=1e-12, max_iterations=5000)
    assert found.reason
    assert found.n_iterations < 4000
    found = conjugate_gradients(lambda V: V * 1e-3, np.ones((5, 1)), lambda V: 1e9 * V, tol=1e-9, max_iterations=9)
    assert not found.reason  # the scale of a preconditioner does not matter


def test_a_warm_start_and_columns_that_converge_apart():
    A, rng = K + 0.1 * np.eye(900), np.random.default_rng(1)
    B = np.concatenate([A @ np.ones((900, 1)) * 0.01, rng.standard_normal((900, 2)), np.zeros((900, 1))], axis=1)
    sizes = []

    def product(V):
        sizes.append(V.shape[1])
        return A @ V

    found = conjugate_gradients(product, B, lambda V: V, tol=1e-9, max_iterations=900)
    assert_allclose(A @ found.solution, B, atol=1e-7)
    assert min(sizes[:-1]) < 3  # zeros are left out, and so is what has converged
    start = found.solution + 1e-6 * rng.standard_normal(B.shape)
    warm = conjugate_gradients(product, B[:, :3], lambda V: V, tol=1e-9, max_iterations=900, start=start[:, :3])
    assert warm.n_iterations < found.n_iterations
    assert_allclose(A @ warm.solution, B[:, :3], atol=1e-7)


def test_progress_estimates_what_is_left():
    seen = []
    found = nf.solve(K, Y, 0.1, method="cg", rank=0, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, found.iterations + 1))
    assert all(done <= total for done, total in seen)
    assert seen[-1] == (found.iterations, found.iterations)
    assert abs(seen[len(seen) // 2][1] - found.iterations) < 0.5 * found.iterations


@pytest.mark.parametrize("method", DIRECT)
def test_the_log_determinant_gives_the_evidence(method):
    y = Y[:, 0]
    found = nf.solve(K, y, 0.1, method=method)
    assert_allclose(found.log_determinant, np.linalg.slogdet(K + 0.1 * np.eye(900))[1], rtol=1e-10)
    evidence = -(y @ found.dual_coefficients + found.log_determinant + 900 * np.log(2 * np.pi)) / 2
    assert_allclose(evidence, nf.GaussianProcess(K, y, noise=0.1).log_marginal_likelihood(), rtol=1e-9)
    assert np.isnan(nf.solve(K, y, 0.1, method="cg", rng=0).log_determinant)
    twice = nf.ntk(NET, np.concatenate([X[:100], X[:100]]))
    assert nf.solve(twice, y[:200], 0.0, method="eigh").log_determinant == -np.inf


BAD = {
    "alpha": ((K, Y, -1.0), {}, "alpha: expected a number >= 0, got -1.0"),
    "alpha is NaN": ((K, Y, np.nan), {}, "alpha: expected a finite number"),
    "not square": ((K[:5], Y, 1.0), {}, r"K_xx: expected a square matrix, got shape \(5, 900\)"),
    "an operator of two sets": ((nf.KernelOperator(NET, X[:5], X), Y, 1.0), {}, "K_xx: expected a square operator"),
    "a NaN": ((np.full((2, 2), np.nan), [1.0, 2.0], 1.0), {}, "K_xx: expected finite numbers"),
    "targets": ((K, Y[:5], 1.0), {}, r"y: expected shape \(900,\)"),
    "targets with NaN": ((K, np.full(900, np.nan), 1.0), {}, "y: expected .* got nan"),
    "method": ((K, Y, 1.0), {"method": "lu"}, f"method: expected one of {', '.join(METHODS)}, got 'lu'"),
    "tol": ((K, Y, 1.0), {"tol": -1.0}, "tol: expected a number > 0"),
    "rank": ((K, Y, 1.0), {"rank": -1}, "rank: expected an integer >= 0, got -1"),
    "memory": ((K, Y, 1.0), {"memory": 0}, "memory: expected an integer >= 1, got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    given, options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        nf.solve(*given, **options)


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e100])
def test_the_scale_of_the_targets_does_not_matter(scale):
    X = np.random.default_rng(0).standard_normal((40, 4))
    K, y = nf.ntk(nf.MLP(3, bias_std=0.1), X), np.sin(X)
    right = np.linalg.solve(K + 0.1 * np.eye(40), y)
    columns = y * [scale, 1, 0, scale]  # each has its own
    for method in ("cg", "cholesky"):
        found = nf.solve(K, columns, 0.1, method=method)
        assert found.converged
        assert 0 < found.residual < 1e-7
        np.testing.assert_allclose(found.dual_coefficients[:, 0] / scale, right[:, 0], atol=1e-6)
