"""Kernel principal components: every method against NumPy's eigh, within the residuals that it reports; extension."""

import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import ntkfast as nf
from ntkfast.learning.spectrum import kernel_pca

NET = nf.MLP(depth=3, activation="relu", bias_std=0.1)
N = 120
X = np.random.default_rng(0).normal(size=(N, 4))
K = nf.ntk(NET, X)
H = np.eye(N) - 1 / N
METHODS = ["lapack", "krylov", "lanczos", "lobpcg", "power"]


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("k", [1, 4, 9])
@pytest.mark.parametrize("method", METHODS)
def test_methods_agree(method, k, centered):
    """An eigenvalue is within its residual, an eigenfunction within residual over gap (Davis and Kahan)."""
    exact, vectors = np.linalg.eigh((H @ K @ H if centered else K) / N)
    exact, functions = exact[::-1], np.sqrt(N) * vectors[:, ::-1]
    pca = kernel_pca(K, k, method=method, centered=centered, rng=1)
    assert pca.method == method
    assert pca.residuals.max() <= 1e-10 * exact[0]
    rounding = N * np.finfo(float).eps * exact[0]
    assert np.all(np.abs(pca.eigenvalues - exact[:k]) <= pca.residuals + rounding)
    f = pca.eigenfunctions
    assert_allclose(f.T @ f / N, np.eye(k), atol=1e-11)
    for i in range(k):
        gap = np.abs(np.delete(exact, i) - exact[i]).min()
        overlap = f[:, i] @ functions[:, i] / N
        sine = np.linalg.norm(f[:, i] - overlap * functions[:, i]) / np.sqrt(N)
        assert sine <= 2 * (pca.residuals[i] + rounding) / gap
        assert f[np.abs(f[:, i]).argmax(), i] > 0
    assert_allclose(pca.explained, exact[:k] / exact.sum(), rtol=1e-9)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("method", METHODS[1:])
def test_operators(method, centered):
    by_matrix = kernel_pca(K, 3, method="lapack", centered=centered)
    operator = LinearOperator((N, N), matvec=lambda v: K @ v, dtype=float)  # vectors only
    for given in (operator, aslinearoperator(K)):
        pca = kernel_pca(given, 3, method=method, centered=centered, rng=0, trace=np.trace(K))
        assert_allclose(pca.eigenvalues, by_matrix.eigenvalues, rtol=1e-9)
        assert_allclose(pca.eigenfunctions, by_matrix.eigenfunctions, atol=1e-6)
        assert_allclose(pca.explained, by_matrix.explained, rtol=1e-9)
    assert kernel_pca(operator, 1).method == "krylov"


@pytest.mark.parametrize("centered", [False, True])
def test_extension(centered):
    """On the data it is the eigenfunction itself; if centred, the mean feature is subtracted."""
    pca = kernel_pca(K, 5, centered=centered)
    assert_allclose(pca.transform(K), pca.eigenfunctions, atol=1e-10)
    T = np.random.default_rng(1).normal(size=(6, 4))
    K_tx = nf.ntk(NET, T, X)
    C = K_tx - K_tx.mean(axis=1)[:, None] - K.mean(axis=0) + K.mean() if centered else K_tx
    assert_allclose(pca.transform(K_tx), C @ pca.eigenfunctions / (N * pca.eigenvalues), atol=1e-10)


def test_as_scikit_learn_has_it():
    from sklearn.decomposition import KernelPCA

    ours = kernel_pca(K, 4, centered=True)
    theirs = KernelPCA(4, kernel="precomputed").fit(K)
    assert_allclose(ours.eigenvalues * N, theirs.eigenvalues_, rtol=1e-10)
    scores = ours.eigenfunctions * np.sqrt(ours.eigenvalues)
    assert_allclose(np.abs(scores), np.abs(theirs.transform(K)), atol=1e-10)


def test_eigenvalues_that_repeat():
    """A circle: all except the first come in pairs; only the plane of a pair is determined."""
    angle = 2 * np.pi * np.arange(40) / 40
    C = nf.ntk(NET, np.stack([np.cos(angle), np.sin(angle)], axis=1))
    planes = []
    for method in METHODS:
        pca = kernel_pca(C, 3, method=method, rng=0)
        assert pca.eigenvalues[1] == pytest.approx(pca.eigenvalues[2], rel=1e-9)
        planes.append(pca.eigenfunctions[:, 1:] @ pca.eigenfunctions[:, 1:].T)
    for plane in planes[1:]:
        assert_allclose(plane, planes[0], atol=1e-6)


def test_auto_and_all_components():
    assert kernel_pca(K, 2).method == "lapack"
    big = np.diag(np.arange(1.0, 602.0))
    assert kernel_pca(big, 2).method == "lanczos"
    assert kernel_pca(big, 100).method == "lapack"
    assert_allclose(kernel_pca(big, 2).eigenvalues, np.array([601, 600]) / 601)
    every = kernel_pca(K, N)
    assert every.explained.sum() == pytest.approx(1)
    assert kernel_pca(K, 30, method="lobpcg").method == "power"


def test_a_singular_kernel():
    low = X @ X.T
    pca = kernel_pca(low, 6)
    assert_allclose(pca.eigenvalues[4:], 0, atol=1e-14)
    with pytest.raises(ValueError, match=r"component 5 of 6: its eigenvalue .* is 0 to rounding"):
        pca.transform(low)
    assert_allclose(kernel_pca(low, 4).transform(low), kernel_pca(low, 4).eigenfunctions, atol=1e-10)


@pytest.mark.parametrize(("kernel", "centered"), [(np.zeros((3, 3)), False), (np.ones((3, 3)), True)])
def test_no_variance(kernel, centered):
    pca = kernel_pca(kernel, 2, centered=centered)
    assert pca.trace == 0
    assert_array_equal(pca.explained, 0)


@pytest.mark.parametrize("trace", [0, -1.0])
def test_trace_of_an_operator_is_positive(trace):
    with pytest.raises(ValueError, match="trace: expected a number > 0"):
        kernel_pca(aslinearoperator(K), 2, trace=trace)


def test_float32_and_arguments():
    single = K.astype("f4")
    for method in METHODS:
        pca = kernel_pca(single, 2, method=method, rng=0)
        assert pca.eigenvalues.dtype == pca.eigenfunctions.dtype == pca.transform(K).dtype == np.float32
        assert_allclose(pca.eigenvalues, kernel_pca(K, 2).eigenvalues, rtol=1e-4)
    before = K.copy()
    kernel_pca(K, 2, method="lapack", centered=True)
    assert_array_equal(K, before)
    assert_array_equal(
        kernel_pca(K, 2, method="power", rng=3).eigenvalues, kernel_pca(K, 2, method="power", rng=3).eigenvalues
    )


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kernel_pca(K[:2], 1), ValueError, "K_xx: expected a square matrix"),
        (lambda: kernel_pca(np.triu(K), 1), ValueError, "K_xx: expected a symmetric matrix"),
        (lambda: kernel_pca(K * np.nan, 1), ValueError, "K_xx: expected finite numbers"),
        (
            lambda: kernel_pca(-K, N),
            ValueError,
            "K_xx: expected a positive semi-definite matrix, but its smallest eigenvalue",
        ),
        (lambda: kernel_pca(K, 0), ValueError, "n_components: expected an integer >= 1"),
        (lambda: kernel_pca(K, N + 1), ValueError, "n_components: expected at most 120 for 120 points, got 121"),
        (
            lambda: kernel_pca(K, N, method="lanczos"),
            ValueError,
            "n_components: expected fewer than 120 for method 'lanczos'",
        ),
        (lambda: kernel_pca(aslinearoperator(K), N), ValueError, "n_components: expected at most 119"),
        (
            lambda: kernel_pca(aslinearoperator(K), 1, method="lapack"),
            ValueError,
            "method: expected one that needs only products",
        ),
        (
            lambda: kernel_pca(aslinearoperator(K[:2]), 1),
            ValueError,
            r"K_xx: expected a square operator, got shape \(2, 120\)",
        ),
        (
            lambda: kernel_pca(aslinearoperator(K + 0j), 1),
            TypeError,
            "K_xx: expected an operator of real numbers, got dtype complex128",
        ),
        (lambda: kernel_pca(aslinearoperator(K), 1).explained, ValueError, "trace: unknown for an operator"),
        (lambda: kernel_pca(K, 1, trace=1.0), TypeError, "trace: expected only with an operator"),
        (
            lambda: kernel_pca(K, 1, method="qr"),
            ValueError,
            "method: expected one of auto, lapack, krylov, lanczos, lobpcg, power",
        ),
        (lambda: kernel_pca(K, 1, rng="a"), TypeError, "rng: expected None, an integer or .*, got str"),
        (lambda: kernel_pca(K, 1, max_iterations=10**400), ValueError, "max_iterations: expected an integer up to"),
        (lambda: kernel_pca(1e300 * K, 1), ValueError, "K_xx: expected numbers up to"),
        (lambda: kernel_pca(K, 1, tol=0), ValueError, "tol: expected a number > 0"),
        (lambda: kernel_pca(K, 1).transform(K[:, :2]), ValueError, r"K_tx: expected shape \(any, 120\)"),
        *(
            (
                lambda m=m: kernel_pca(K, 9, method=m, max_iterations=1, tol=1e-14),
                np.linalg.LinAlgError,
                f"kernel_pca: {m} did not converge: .*; raise max_iterations or tol",
            )
            for m in METHODS[1:]
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("method", ["lapack", "lanczos", "power"])
def test_a_kernel_of_zeros(method):
    pca = kernel_pca(np.ones((60, 60)), 3, method=method, centered=True)
    assert_allclose(pca.eigenvalues, 0, atol=1e-12)


class Counted(LinearOperator):
    """An operator that counts its passes."""

    def __init__(self, matrix):
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix, self.passes = matrix, 0

    def _matmat(self, V):
        self.passes += 1
        return self.matrix @ V


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_take_few_passes(dtype):
    """Also over restarts, which a spectrum that decays slowly needs."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((800, 800)))[0]
    values = np.linspace(1, 2, 800) ** 8
    matrix = ((Q * values) @ Q.T).astype(dtype)
    passes = {}
    for method in ("krylov", "lanczos"):
        counted = Counted(matrix)
        pca = kernel_pca(counted, 5, method=method, rng=0, tol=1e-9)
        assert_allclose(pca.eigenvalues * 800, values[::-1][:5], rtol=1e-4 if dtype == np.float32 else 1e-9)
        assert pca.eigenfunctions.dtype == dtype
        passes[method] = counted.passes
    assert passes["krylov"] < passes["lanczos"] / 2


def test_blocks_of_a_matrix_of_low_rank():
    B = np.random.default_rng(0).standard_normal((200, 3))
    pca = kernel_pca(aslinearoperator(B @ B.T), 5, rng=0)
    assert pca.method == "krylov"
    assert_allclose(pca.eigenvalues * 200, [*np.linalg.eigvalsh(B.T @ B)[::-1], 0, 0], atol=1e-9)
    assert_allclose(pca.eigenfunctions.T @ pca.eigenfunctions / 200, np.eye(5), atol=1e-10)
    assert_array_equal(kernel_pca(aslinearoperator(np.zeros((100, 100))), 2, rng=0).eigenvalues, [0, 0])
    with pytest.raises(np.linalg.LinAlgError, match="krylov did not converge: the residual is"):
        kernel_pca(aslinearoperator(np.diag(np.arange(500.0))), 2, rng=0, max_iterations=2)


def test_eigenvectors_that_lapack_does_not_find(monkeypatch):
    """syevr in float32 may return none of many equal eigenvalues."""
    monkeypatch.setattr(scipy.linalg, "eigh", lambda A, **options: (np.ones(2), np.eye(len(A))[:, :2]))
    with pytest.raises(
        np.linalg.LinAlgError, match="LAPACK found 2 of 5 eigenvectors in float32; use float64 or fewer"
    ):
        kernel_pca(np.eye(400, dtype=np.float32), 5, method="lapack")
