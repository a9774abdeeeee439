"""KernelOperator: products with the kernel matrix, which is never kept; and runs over ranges of tiles."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import cg, eigsh, lobpcg, minres, svds

import ntkfast as nf
from ntkfast.engine import _core
from ntkfast.engine.problem import Problem

NET = nf.MLP(depth=4, activation="relu", weight_std=1.3, bias_std=0.1)
RESIDUAL = nf.Network([nf.Dense(), nf.Residual("gelu", nf.Dense()), "erf", nf.Dense()])
NETWORKS = {"relu": NET, "tanh": nf.MLP(3, "tanh", 1.2, 0.2), "residual": RESIDUAL}


def points(n, d=5, dtype=np.float64, seed=0):
    return np.random.default_rng((seed, n, d)).normal(size=(n, d)).astype(dtype)


def check_product(found, K, V):
    """Sums of n terms in float64, whatever the dtype of K."""
    size = np.abs(K.astype(float)) @ np.abs(V.astype(float))
    assert (np.abs(found - K.astype(float) @ V) <= (len(V) + 4) * np.finfo(float).eps * size).all()


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 700),
    m=st.none() | st.integers(130, 600),  # in a matrix, fewer columns than lanes are computed transposed
    k=st.integers(1, 20),
    dtype=st.sampled_from([np.float32, np.float64]),
    kernel=st.sampled_from(["ntk", "nngp"]),
    n_threads=st.integers(1, 4),
)
def test_a_product_is_that_of_the_matrix(n, m, k, dtype, kernel, n_threads):
    X, Y = points(n, dtype=dtype), None if m is None else points(m, dtype=dtype, seed=1)
    K = nf.kernels(NET, X, Y, get=kernel)
    operator = nf.KernelOperator(NET, X, Y, kernel, n_threads=n_threads)
    V = points(K.shape[1], k, seed=2)
    if m is None or n >= 128 or m <= n:
        check_product(operator @ V, K, V)
    else:  # the matrix may come from differently rounded inner products
        assert_allclose(operator @ V, K @ V, atol=1e-12 if dtype == np.float64 else 1e-4, rtol=1e-5)
    assert operator.shape == K.shape
    assert operator.dtype == K.dtype


@pytest.mark.parametrize("name", NETWORKS)
def test_of_any_network(name):
    X, V = points(300), points(300, 3, seed=1)
    check_product(nf.KernelOperator(NETWORKS[name], X) @ V, nf.ntk(NETWORKS[name], X), V)


def test_a_run_that_is_repeated_counts_once():
    """Near |ρ| = 1 the tables of φ are filled when a pair is met, and the run is made again."""
    phi = nf.Activation.from_function(lambda x: np.tanh(3 * x) + x, name="new")
    net, X, V = nf.MLP(3, phi, 1.5, 0.1), points(40, 3), points(80, 2, seed=1)
    X = np.vstack([X, X * (1 + 1e-6)])
    product = nf.KernelOperator(net, X) @ V
    check_product(product, nf.ntk(net, X), V)


def test_bits_do_not_depend_on_threads():
    X, V = points(900, dtype=np.float32), points(900, 9, seed=1)
    one = nf.KernelOperator(NET, X, n_threads=1)
    for n_threads in (2, 3, 7):
        several = nf.KernelOperator(NET, X, n_threads=n_threads)
        for _ in range(3):
            assert_array_equal(several @ V, one @ V)
            assert_array_equal(several @ V[:, 0], one @ V[:, 0])


def test_a_product_is_as_precise_as_its_vectors():
    operator = nf.KernelOperator(NET, points(40, dtype=np.float32))
    assert (operator @ np.ones(40, np.float32)).dtype == np.float32
    assert (operator @ np.ones(40)).dtype == np.float64
    assert (nf.KernelOperator(NET, points(40)) @ np.ones(40, np.float32)).dtype == np.float64


def test_transposes_and_adjoints():
    X, Y, v = points(200), points(150, seed=1), points(200, 1, seed=2)[:, 0]
    operator, K = nf.KernelOperator(NET, X, Y), nf.ntk(NET, X, Y)
    for turned in (operator.T, operator.H, operator.adjoint()):
        assert isinstance(turned, nf.KernelOperator)
        assert_allclose(turned @ v, K.T @ v, rtol=1e-12)
    assert_allclose(operator.rmatvec(v), K.T @ v, rtol=1e-12)
    symmetric = nf.KernelOperator(NET, X)
    assert symmetric.T is symmetric


def test_solvers_of_scipy():
    X, Y = points(200), points(130, seed=1)
    K, R, y = nf.ntk(NET, X) + np.eye(200), nf.ntk(NET, X, Y), points(200, 1, seed=2)[:, 0]
    operator = nf.KernelOperator(NET, X)
    regularised = operator + eye(200)
    for solver in (cg, minres):
        found, info = solver(regularised, y, rtol=1e-12)
        assert info == 0
        assert_allclose(found, np.linalg.solve(K, y), rtol=1e-8, atol=1e-10)
    largest = np.linalg.eigvalsh(nf.ntk(NET, X))[-3:]
    assert_allclose(eigsh(operator, k=3, return_eigenvectors=False), largest, rtol=1e-10)
    start = points(200, 3, seed=3)
    assert_allclose(lobpcg(operator, start, tol=1e-8, maxiter=200)[0], largest[::-1], rtol=1e-7)
    rectangular = nf.KernelOperator(NET, X, Y)
    singular = np.linalg.svd(R, compute_uv=False)[:2]
    assert_allclose(svds(rectangular, k=2, return_singular_vectors=False)[::-1], singular, rtol=1e-10)


def eye(n):
    from scipy.sparse.linalg import aslinearoperator

    return aslinearoperator(np.eye(n))


def test_kernel_pca_of_an_operator():
    X = points(300)
    found = nf.kernel_pca(nf.KernelOperator(NET, X), 3)
    exact = nf.kernel_pca(nf.ntk(NET, X), 3)
    assert_allclose(found.eigenvalues, exact.eigenvalues, rtol=1e-9)
    assert_allclose(found.explained, exact.explained, rtol=1e-9)  # from the operator's own diagonal


def test_rows_columns_and_diagonal():
    X, Y = points(400), points(250, seed=1)
    K, operator = nf.ntk(NET, X), nf.KernelOperator(NET, X)
    assert_array_equal(operator.diagonal(), K.diagonal())
    for rows in ([5, 1, 399], slice(3, 300, 7), np.arange(400) % 50 == 0, 17, -1, [], slice(3, 3)):
        assert_allclose(operator[rows], K[rows], rtol=1e-13)
        assert_allclose(operator.columns(rows), K[rows].T, rtol=1e-13)
    assert_array_equal(operator[[5, 1]][[0, 1], [5, 1]], K.diagonal()[[5, 1]])  # not from arccos(1 - ε)
    rectangular, R = nf.KernelOperator(NET, X, Y), nf.ntk(NET, X, Y)
    assert_allclose(rectangular[[2, 9]], R[[2, 9]], rtol=1e-13)
    assert_allclose(rectangular.columns([2, 9]), R[:, [2, 9]], rtol=1e-13)


def test_what_is_not_finite_propagates():
    X, v = points(300), np.ones(300)
    v[7] = np.nan
    assert np.isnan(nf.KernelOperator(NET, X) @ v).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda K: nf.KernelOperator("relu", points(5)), TypeError, "net: expected a Network"),
        (lambda K: nf.KernelOperator(NET, points(5), kernel="dot"), ValueError, "kernel: expected one of nngp, ntk"),
        (lambda K: nf.KernelOperator(NET, points(5)[0]), ValueError, "X: expected a 2-D array"),
        (lambda K: nf.KernelOperator(NET, points(5), progress=3), TypeError, "progress: expected"),
        (lambda K: K @ np.ones(4), ValueError, "dimension mismatch"),
        (lambda K: K @ np.ones(5, complex), TypeError, "V: expected real numbers, got dtype complex128"),
        (lambda K: K[7], IndexError, "7"),
        (lambda K: K[[[1]]], IndexError, "rows: expected one axis"),
        (
            lambda K: nf.KernelOperator(NET, points(5), points(6)).diagonal(),
            ValueError,
            "diagonal: expected the operator",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(nf.KernelOperator(NET, points(5)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_in_a_forked_child():
    """GNU OpenMP would hang there with several threads."""
    code = """
import os, numpy as np, ntkfast as nf
X, v = np.random.default_rng(0).normal(size=(900, 5)), np.ones(900)
K = nf.KernelOperator(nf.MLP(3), X, n_threads=2)
expected, child = K @ v, os.fork()
if child == 0:
    os._exit(0 if np.array_equal(K @ v, expected) and K[:2].shape == (2, 900) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0\n"


def test_operators_can_be_pickled():
    operator, v = nf.KernelOperator(NETWORKS["tanh"], points(50)), points(50, 1)[:, 0]
    expected = operator @ v
    assert_array_equal(pickle.loads(pickle.dumps(operator)) @ v, expected)


def test_more_vectors_than_one_pass_takes():
    X, V = points(150), points(150, 300, seed=1)
    check_product(nf.KernelOperator(NET, X) @ V, nf.ntk(NET, X), V)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_the_points_and_some_tiles():
    """The matrix would take 288 MB."""
    code = """
import numpy as np, ntkfast as nf
from ntkfast.benchmarks.memory import peak
X = np.random.default_rng(0).normal(size=(6000, 8))
nf.KernelOperator(nf.MLP(2), X[:600]) @ np.ones(600)
before = peak()
nf.KernelOperator(nf.MLP(2), X) @ np.ones(6000)
print((peak() - before) / 2**20)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 64


# --- ranges of tiles


@pytest.mark.parametrize("m", [None, 450])
def test_ranges_of_tiles_make_the_whole(m):
    """A job that continues where another one stopped produces the same bits."""
    X, Y = points(600), None if m is None else points(m, seed=1)
    problem = Problem(NET, X, Y)
    whole, parts = nf.ntk(NET, X, Y), np.full(problem.shape, np.nan)
    tiles = problem.grid().tiles
    assert tiles > 3
    for first, last in ((0, 1), (1, tiles - 1), (tiles - 1, tiles)):
        problem.run(_core.ArraySink([None, parts, None]), "ntk", tiles=slice(first, last))
    assert_array_equal(parts, whole)


def test_a_problem_serves_several_networks():
    problem = Problem(NET, points(50))
    other = problem.with_network(NETWORKS["tanh"])
    assert other.points is problem.points
    assert_array_equal(other.matrices("ntk")[0], nf.ntk(NETWORKS["tanh"], points(50)))
    assert_array_equal(problem.matrices("ntk")[0], nf.ntk(NET, points(50)))
