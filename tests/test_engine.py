"""The engine's mechanics: the same bits whatever the threads, layouts and outputs; forks; memory."""

import os
import subprocess
import sys
import threading
import time

import catalogue
import numpy as np
import pytest
from example_networks import MIXED, NET
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_sets import each_isa
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast.engine import _core, threads
from ntkfast.support import arrays, memory

ALL = ("nngp", "ntk", "nngp_dot")
DTYPES = [np.float32, np.float64]
LONG = nf.MLP(depth=50, weight_std=2**0.5)  # 0.6 s for N = 3000: the points stay apart, so no pair takes the slow path
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def points(n, d=5, dtype=np.float64, seed=0):
    return np.random.default_rng((seed, n, d)).normal(size=(n, d)).astype(dtype)


def tolerance(dtype):
    return 3e-7 if dtype == np.float64 else 5e-3  # near-duplicates at the cusp: sqrt(2 eps) / pi, a few times


def run_python(code, timeout=60):
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", [NET, MIXED], ids=["relu", "mixed"])
@pytest.mark.parametrize(("n", "m"), [(1, None), (33, None), (600, None), (1, 50), (333, 7), (257, 500)])
def test_same_bits_for_any_number_of_threads(net, n, m, dtype):
    X, Y = points(n, 6, dtype), None if m is None else points(m, 6, dtype, seed=1)
    one = nf.kernels(net, X, Y, get=ALL, n_threads=1)
    for n_threads in (2, 3, 7, None):
        for a, b in zip(one, nf.kernels(net, X, Y, get=ALL, n_threads=n_threads), strict=True):
            assert_array_equal(a, b)
    diagonals = nf.diagonal(net, X, ALL, n_threads=1)
    for n_threads in (2, 3, 7):
        assert_array_equal(diagonals, nf.diagonal(net, X, ALL, n_threads=n_threads))


def test_same_bits_from_python_threads():
    X, expected, results = points(700, 8), {}, {}
    calls = {k: (nf.MLP(depth=2 + k % 3, bias_std=0.1), X[: 500 + 40 * k]) for k in range(5)}
    for k, (net, x) in calls.items():
        expected[k] = nf.ntk(net, x)

    def repeat(k):
        results[k] = [nf.ntk(*calls[k], n_threads=1 + k % 3) for _ in range(4)]

    workers = [threading.Thread(target=repeat, args=(k,)) for k in calls]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    for k in calls:
        assert len(results[k]) == 4
        for result in results[k]:
            assert_array_equal(result, expected[k])


def test_gil_is_free_during_a_call():
    """Another thread sees the matrix half finished."""
    X, out = points(3000, 4), np.full((3000, 3000), np.nan)
    stop, half_made = threading.Event(), threading.Event()

    def look():
        while not stop.is_set():
            if np.isnan(out[-1, -1]) and not np.isnan(out[0, 0]):
                half_made.set()
            time.sleep(0.001)

    other = threading.Thread(target=look)
    other.start()
    try:
        nf.ntk(LONG, X, out=out, n_threads=1)
    finally:
        stop.set()
        other.join()
    assert half_made.is_set()


def blas_threads():
    return [pool["num_threads"] for pool in threads.blas_controller().info()]


def test_blas_gets_its_threads_back():
    with threads.blas_controller().limit(limits=2):
        before, within = blas_threads(), []
        nf.ntk(NET, points(300))
        assert blas_threads() == before
        nf.ntk(LONG, points(1500), progress=lambda done, total: within.append(blas_threads()))
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError):
            nf.ntk(LONG, points(1500), progress=lambda done, total: 1 / 0)
        assert blas_threads() == before
    assert within
    assert all(set(threads) == {1} for threads in within)


def test_blas_gets_its_threads_back_whichever_thread_leaves_last():
    """threadpoolctl 3.8 ignores all threads but the first that sets the number."""
    entered, leave, within = threading.Event(), threading.Event(), []

    def other():
        with threads.single_threaded_blas():
            entered.set()
            leave.wait()
        with threads.blas(3, 0):
            within.append(blas_threads())

    with threads.blas_controller().limit(limits=2):
        before, thread = blas_threads(), threading.Thread(target=other)
        with threads.single_threaded_blas():
            thread.start()
            entered.wait()
        within.append(blas_threads())
        leave.set()
        thread.join()
        assert blas_threads() == before
    assert [set(threads) for threads in within] == [{1}, {3}]


# --- outputs


def outs(shape, dtype, tmp_path):
    """Arrays of every layout, all NaN, that a result of this shape can be written to."""
    n, m = shape
    nan = np.nan
    yield "C", np.full(shape, nan, dtype)
    yield "Fortran", np.full(shape, nan, dtype, order="F")
    yield "transposed", np.full((m, n), nan, dtype).T
    yield "strided rows", np.full((n, m + 3), nan, dtype)[:, :m]
    yield "every second", np.full((2 * n, 3 * m), nan, dtype)[::2, 1::3]
    yield "upside down", np.full(shape, nan, dtype)[::-1]
    yield "mirrored", np.full(shape, nan, dtype)[:, ::-1]
    yield "turned", np.full((m, n), nan, dtype)[::-1, ::-1].T
    yield "middle of more axes", np.full((n, 2, m), nan, dtype)[:, 1]
    yield "odd offset", np.full(n * m + 1, nan, dtype)[1:].reshape(shape)
    yield "memmap", np.memmap(tmp_path / f"{n}-{m}.bin", dtype, "w+", shape=shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "m"), [(1, None), (70, None), (530, None), (1, 1), (1, 90), (90, 1), (45, 3), (200, 530)]
)
def test_same_bits_into_any_out(n, m, dtype, tmp_path):
    X, Y = points(n, 6, dtype), None if m is None else points(m, 6, dtype, seed=1)
    expected = nf.ntk(NET, X, Y)
    for name, out in outs(expected.shape, dtype, tmp_path):
        assert nf.ntk(NET, X, Y, out=out) is out
        assert_array_equal(out, expected, err_msg=name)


def test_nothing_is_written_beside_out():
    frame = np.full((40, 50), 7.0)
    nf.ntk(NET, points(20), points(30, seed=1), out=frame[5:25, 10:40])
    inside = np.zeros(frame.shape, bool)
    inside[5:25, 10:40] = True
    assert np.all(frame[~inside] == 7.0)
    assert np.all(frame[inside] != 7.0)


def test_memmap_is_on_disk(tmp_path):
    X, path = points(90), tmp_path / "kernel.bin"
    out = np.memmap(path, np.float64, "w+", shape=(90, 90))
    nf.ntk(NET, X, out=out)
    out.flush()
    assert_array_equal(np.fromfile(path).reshape(90, 90), nf.ntk(NET, X))


def test_large_out_with_and_without():
    """Beyond the size from which the engine bypasses the caches."""
    X = points(2100, 3)
    expected = nf.ntk(NET, X)
    assert expected.nbytes > 1 << 25
    for out in (np.empty((2100, 2100)), np.empty((2100, 2101))[:, 1:], np.empty((2100, 2100), order="F")):
        assert_array_equal(nf.ntk(NET, X, out=out), expected)
    assert_array_equal(expected, expected.T)


def test_kernels_with_some_outs():
    X, out = points(50), np.empty((50, 50), order="F")
    expected = nf.kernels(NET, X, get=ALL)
    result = nf.kernels(NET, X, get=ALL, out=(None, out, None))
    assert result.ntk is out
    for a, b in zip(expected, result, strict=True):
        assert_array_equal(a, b)
    assert nf.kernels(NET, X, get="ntk", out=out) is out


def test_diagonal_writes_into_out():
    X = points(9)
    out = np.empty((9, 2))
    assert nf.diagonal(NET, X, out=out[:, 1]) is not None
    assert_array_equal(out[:, 1], nf.diagonal(NET, X))


@pytest.mark.parametrize("get", [("nngp", "ntk"), ("ntk", "nngp"), ALL, ALL[::-1], ("nngp_dot",), ["ntk"]])
@pytest.mark.parametrize("m", [None, 4, 60])
def test_several_outputs_are_those_of_single_calls(get, m):
    X, Y = points(61, 4), None if m is None else points(m, 4, seed=1)
    result = nf.kernels(MIXED, X, Y, get=get)
    assert result._fields == tuple(get)
    for name in get:
        assert_array_equal(getattr(result, name), nf.kernels(MIXED, X, Y, get=name))
    diagonals = nf.diagonal(MIXED, X, tuple(get))
    assert diagonals._fields == tuple(get)
    for name in get:
        assert_array_equal(getattr(diagonals, name), nf.diagonal(MIXED, X, name))


def test_nngp_and_ntk_are_kernels():
    X = points(20)
    both = nf.kernels(NET, X)
    assert both._fields == ("nngp", "ntk")
    assert_array_equal(both.nngp, nf.nngp(NET, X))
    assert_array_equal(both.ntk, nf.ntk(NET, X))


def test_nngp_dot_closes_the_recursion():
    """Θ of a network is Θ of the one without its last layer, times Σ̇, plus Σ."""
    X = points(30)
    shorter = nf.MLP(depth=3, weight_std=1.2, bias_std=0.1)
    all_three = nf.kernels(NET, X, get=ALL)
    assert_allclose(all_three.ntk, nf.ntk(shorter, X) * all_three.nngp_dot + all_three.nngp, rtol=1e-12)


# --- sizes and symmetry


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 127, 128, 129, 511, 512, 513])
def test_square_sizes(n, dtype):
    X = points(n, 3, dtype)
    for name in ALL:
        symmetric = nf.kernels(NET, X, get=name)
        assert symmetric.shape == (n, n)
        assert symmetric.dtype == dtype
        assert_array_equal(symmetric, symmetric.T)
        assert_array_equal(np.diagonal(symmetric), nf.diagonal(NET, X, name))
        rectangular = nf.kernels(NET, X, X.copy(), get=name)
        off = ~np.eye(n, dtype=bool)
        scale = np.sqrt(np.outer(np.diagonal(symmetric), np.diagonal(symmetric)))
        error = np.abs(symmetric - rectangular) / scale
        assert np.max(error[off], initial=0) < (1e-7 if dtype == np.float64 else 2e-3)
        assert np.max(error) < (tolerance(dtype) if name != "nngp" else 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 2, 7, 15, 16, 17, 100, 513])
@pytest.mark.parametrize("n", [1, 3, 16, 129, 512])
def test_rectangles_agree_with_their_transposes_and_parts(n, m, dtype):
    X, Y = points(n, 4, dtype), points(m, 4, dtype, seed=1)
    K = nf.kernels(MIXED, X, Y, get=ALL)
    transposed = nf.kernels(MIXED, Y, X, get=ALL)
    i, j = n // 2, m // 2
    part = nf.kernels(MIXED, X[i : i + 1], Y[j : j + 1], get=ALL)
    rtol = 1e-10 if dtype == np.float64 else 1e-2
    for a, b, c in zip(K, transposed, part, strict=True):
        assert a.shape == (n, m)
        assert a.dtype == dtype
        assert np.all(np.isfinite(a))
        assert_allclose(a, b.T, rtol=rtol, atol=rtol / 10)
        assert_allclose(a[i, j], c[0, 0], rtol=rtol, atol=rtol / 10)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 80), m=st.integers(1, 80), d=st.integers(1, 20), n_threads=st.integers(1, 4), data=st.data())
def test_stacked_points_hold_their_blocks(n, m, d, n_threads, data):
    """The kernel of [X; Y] with itself contains those of X, of Y and of X with Y."""
    X, Y = points(n, d), points(m, d, seed=1)
    get = data.draw(st.sampled_from(ALL))
    whole = nf.kernels(NET, np.vstack([X, Y]), get=get, n_threads=n_threads)
    scale = np.max(np.abs(whole))
    assert_allclose(whole[:n, :n], nf.kernels(NET, X, get=get), rtol=0, atol=1e-7 * scale)
    assert_allclose(whole[n:, n:], nf.kernels(NET, Y, get=get), rtol=0, atol=1e-7 * scale)
    assert_allclose(whole[:n, n:], nf.kernels(NET, X, Y, get=get, n_threads=n_threads), rtol=0, atol=1e-7 * scale)


def test_one_feature_one_point():
    net = nf.MLP(depth=2, bias_std=0.5)
    assert nf.nngp(net, [[2.0]])[0, 0] == 0.5 * (4 + 0.25) + 0.25
    assert nf.nngp(nf.MLP(depth=1), [[2.0]], [[-3.0], [0.5]]).tolist() == [[-6.0, 1.0]]


def test_Y_that_is_X():
    X = points(60)
    K = nf.ntk(NET, X)
    assert_array_equal(K, nf.ntk(NET, X, X))
    assert_array_equal(K, nf.ntk(NET, X, X[:]))
    strided = np.repeat(X, 2, axis=0)[::2]
    assert_array_equal(K, nf.ntk(NET, strided, strided))
    assert not np.shares_memory(X[:-1], nf.ntk(NET, X[:-1], X[1:]))  # overlapping points are fine


def test_the_same_list_twice_is_symmetric():
    X = points(7).tolist()
    assert_array_equal(nf.ntk(NET, X, X), nf.ntk(NET, X))


def test_points_are_left_alone():
    X, Y = points(40), points(30, seed=1)
    before = X.copy(), Y.copy()
    nf.kernels(NET, X, Y)
    nf.ntk(NET, X)
    assert_array_equal(X, before[0])
    assert_array_equal(Y, before[1])


# --- forms of input


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def misaligned(array):
    buffer = bytearray(1) + bytearray(array.tobytes())
    return np.frombuffer(buffer, array.dtype, array.size, offset=1).reshape(array.shape)


class Wrapped:
    """Something with an __array__ method, like a data frame."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


FORMS = {
    "list": lambda X: X.tolist(),
    "tuple of rows": tuple,
    "__array__": Wrapped,
    "Fortran": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "columns of more": lambda X: np.hstack([X, X])[:, : X.shape[1]],
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "upside down": lambda X: X[::-1].copy()[::-1],
    "mirrored": lambda X: X[:, ::-1].copy()[:, ::-1],
    "read-only": read_only,
    "misaligned": misaligned,
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "matrix": lambda X: X.view(np.matrix),
    "long double": lambda X: X.astype(np.longdouble),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 2, 40])
def test_forms_of_input(form, n):
    X, Y = points(n), points(25, seed=1)
    same = FORMS[form](X)
    assert_array_equal(nf.ntk(NET, same), nf.ntk(NET, X))
    assert_array_equal(nf.ntk(NET, same, Y), nf.ntk(NET, X, Y))
    assert_array_equal(nf.ntk(NET, Y, same), nf.ntk(NET, Y, X))
    assert_array_equal(nf.diagonal(NET, same), nf.diagonal(NET, X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_misaligned_array_reaches_the_engine(dtype):
    """NumPy calls them contiguous, and x86-64 reads them, but C leaves that undefined; tests/sanitize.sh asan fails."""
    X, f = misaligned(points(6, dtype=dtype)), nf.FiniteNetwork.init(NET, 5, widths=4, rng=0, dtype=dtype)
    assert not X.flags.aligned
    for copy in (arrays.for_blas(X, "X", X.dtype), arrays.contiguous(X, X.dtype), f.points(X)):
        assert copy.flags.aligned
        assert copy.flags.c_contiguous
        assert_array_equal(copy, X)
    weights = points(36, dtype=dtype).ravel()[:36].reshape(6, 6)
    assert_array_equal(nf.kernel_vjp(NET, X, weights=misaligned(weights)), nf.kernel_vjp(NET, X, weights=weights))
    assert_array_equal(nf.empirical_ntk(f, X), nf.empirical_ntk(f, X.copy()))


def test_repeated_row_by_stride():
    row = points(1)
    assert_array_equal(nf.ntk(NET, np.broadcast_to(row, (20, 5))), nf.ntk(NET, np.repeat(row, 20, axis=0)))
    assert_array_equal(nf.ntk(NET, np.broadcast_to(row[0], (1, 5)), row), nf.ntk(NET, row, row.copy()))


@pytest.mark.parametrize("kind", [bool, np.int8, np.int64, np.uint16, np.float16])
def test_other_numbers_become_float64(kind):
    X = np.random.default_rng(3).integers(0, 2, size=(30, 7)).astype(kind)
    K = nf.ntk(NET, X)
    assert K.dtype == np.float64
    assert_array_equal(K, nf.ntk(NET, X.astype(float)))


def test_dtypes():
    X32, X64 = points(12, dtype=np.float32), points(12, seed=1)
    assert nf.ntk(NET, X32).dtype == np.float32
    assert nf.diagonal(NET, X32).dtype == np.float32
    assert nf.ntk(NET, X32, X64).dtype == np.float64
    assert nf.ntk(NET, X64, X32).dtype == np.float64
    assert_array_equal(nf.ntk(NET, X32, X64), nf.ntk(NET, X32.astype(float), X64))
    assert_array_equal(nf.ntk(NET, X32, dtype=np.float64), nf.ntk(NET, X32.astype(float)))
    assert_array_equal(nf.ntk(NET, X64, dtype="float32"), nf.ntk(NET, X64.astype(np.float32)))
    assert_allclose(nf.ntk(NET, X32), nf.ntk(NET, X32, dtype="f8"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [nf.activations.erf(1e20, 1e-20), nf.activations.leaky_relu(1e25)])
def test_constants_beyond_the_dtype_are_refused(activation):
    with pytest.raises(ValueError, match="row 0"):
        nf.ntk(nf.MLP(2, activation), points(3).astype(np.float32))


# --- memory


@linux_only
@pytest.mark.parametrize("get", [("ntk",), ALL])
def test_peak_memory(get):
    """Above the points and the outputs: 64 MiB."""
    grown = run_python(f"""
import re
from pathlib import Path
import numpy as np
import ntkfast as nf

def peak():
    # VmHWM, since getrusage starts from the parent's peak
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

net, X = nf.MLP(4, bias_std=0.1), np.random.default_rng(0).normal(size=(4000, 20))
outs = [np.ones((4000, 4000)) for _ in {get}]
nf.ntk(net, X[:10])
before = peak()
nf.kernels(net, X, get={get}, out=outs)
print(peak() - before)
""")
    print(f"{float(grown):.1f} MiB")
    assert float(grown) < 64


def test_memory_that_is_there():
    there = memory.available()
    assert there is None or there > 2**20
    memory.require(0, "nothing")


@pytest.mark.parametrize(
    ("given", "right"),
    [(None, None), (7, 7), ("7", 7), ("4GB", 4 * 10**9), ("4 GiB", 2**32), ("1.5g", 15 * 10**8), (".5mb", 500000)],
)
def test_amounts_of_memory(given, right):
    assert memory.amount(given) == right


@pytest.mark.parametrize("given", ["", "GB", "4 PB", "-1GB", "4GBs", "1e3", "0.1", "9" * 400, 0, -3, 2.5])
def test_amounts_of_memory_that_are_refused(given):
    with pytest.raises((ValueError, TypeError), match="memory: expected") as caught:
        memory.amount(given)
    assert not isinstance(given, str) or str(caught.value).endswith(f"got {given!r}")


def test_limits_of_nested_groups_and_of_the_process(tmp_path, monkeypatch):
    """The least that the groups around a process leave, cached files not counted as used; and RLIMIT_AS."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder, limit, used in ((inner, "max", 2**20), (inner.parent, 2**30, 2**29), (tmp_path, 2**33, 2**30)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 1024\n")
    groups = ((str(tmp_path), "", "memory.max", "memory.current", "inactive_file"),)
    lines = memory._lines
    monkeypatch.setattr(memory, "CGROUPS", groups)
    monkeypatch.setattr(memory, "_lines", lambda path: ["0::/outer/inner"] if path.name == "cgroup" else lines(path))
    assert sorted(memory._left_in_cgroups()) == [2**29 + 1024, 2**33 - 2**30 + 1024]
    assert memory.available() <= 2**29 + 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_limit_of_the_address_space():
    out = run_python("""
import resource
from ntkfast.support import memory
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
assert 2**27 < memory.available() <= 2**28
try:
    memory.require(2**29, "it")
except MemoryError as error:
    print(error)
""")
    assert "it needs 512.00 MiB" in out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child():
    """After a parallel call of the parent a child has one thread, does not hang and returns the same numbers."""
    out = run_python("""
import os, warnings
import numpy as np
import ntkfast as nf

warnings.simplefilter("ignore")
net, X = nf.MLP(4, bias_std=0.1), np.random.default_rng(0).normal(size=(900, 6))
expected = nf.ntk(net, X, n_threads=2)
child = os.fork()
if child == 0:
    same = all(np.array_equal(nf.ntk(net, X, n_threads=k), expected) for k in (None, 1, 2))
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if np.array_equal(nf.ntk(net, X), expected) else 3)
    same = same and os.waitpid(grandchild, 0)[1] == 0
    os._exit(0 if same else 3)
print(os.waitpid(child, 0)[1], np.array_equal(nf.ntk(net, X, n_threads=2), expected))
""")
    assert out.split() == ["0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_by_several_threads_beside_calls_of_blas():
    """OpenBLAS ends its threads at a fork, even those that a call of another thread waits for."""
    out = run_python("""
import os, threading, warnings
import numpy as np
import ntkfast as nf
from ntkfast.engine import threads

warnings.simplefilter("ignore")
net, X = nf.MLP(3, bias_std=0.1), np.random.default_rng(0).normal(size=(300, 4))
right, K = nf.ntk(net, X), np.eye(300) + nf.ntk(net, X)
ended, statuses = threading.Event(), []

def blas():
    return [library.get_num_threads() for library in threads.blas_controller().lib_controllers]

def decompose():
    while not ended.is_set():
        nf.LeastSquaresFlow(K, X).mean(1.0)

def fork():
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(nf.ntk(net, X), right) else 3)
        statuses.append(os.waitpid(child, 0)[1])

before, other = blas(), threading.Thread(target=decompose)
forking = [threading.Thread(target=fork) for _ in range(2)]
other.start()
for each in forking:
    each.start()
for each in forking:
    each.join()
ended.set()
other.join()
print(statuses == [0] * 10, blas() == before, np.array_equal(nf.ntk(net, X), right))
""")
    assert out.split() == ["True"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_while_another_thread_imports(tmp_path):
    """The child cannot finish that import, and says so rather than wait for ever."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(2)\n")
    out = run_python(f"""
import os, sys, threading, time, warnings
from ntkfast.support import forks

warnings.simplefilter("ignore")
sys.path.append({str(tmp_path)!r})
forks.LIBRARIES.add("slow")
forks.PATIENCE = 0
other = threading.Thread(target=lambda: __import__("slow"))
other.start()
while not forks._importing():
    time.sleep(0.001)
sys.unraisablehook = lambda lost: print("in a hook:", lost.exc_value, flush=True)
child = os.fork()
if child == 0:
    try:
        import slow
    except RuntimeError as error:
        print(error, flush=True)
    grandchild = os.fork()
    if grandchild == 0:
        try:
            import slow
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    os._exit(os.waitpid(grandchild, 0)[1])
print(os.waitpid(child, 0)[1])
""")
    of_child, of_grandchild, status = out.splitlines()
    assert of_child.startswith("slow: another thread was importing it when this process was forked")
    assert "spawn" in of_child
    assert of_grandchild == of_child
    assert status == "0"


def test_threads_by_default(monkeypatch):
    assert threads.resolve(None) >= 1
    assert threads.resolve(np.int64(3)) in (1, 3)  # 1 without OpenMP
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads.resolve(None) == 1


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_instruction_sets_agree(activation, dtype):
    """Kernels and their derivatives, of two layers of each activation."""
    X = np.random.default_rng(0).normal(size=(60, 6)).astype(dtype)
    net, weights = nf.MLP(3, activation, bias_std=0.3), np.random.default_rng(1).normal(size=(60, 60))

    def both():
        kernels = nf.kernels(net, X, get=("nngp", "ntk", "nngp_dot"))
        if all(entry.activation != activation for entry in catalogue.DIFFERENTIABLE_ENTRIES):
            return kernels
        return *kernels, nf.kernel_vjp(net, X, weights=weights)

    first, *others = each_isa(both).values()
    tolerance = 1e-4 if dtype == "f4" else 1e-11
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert_allclose(two, one, rtol=0, atol=tolerance * np.abs(one).max())


def test_the_instruction_set_can_be_chosen():
    """By name in one process; by the environment when it starts."""
    before = _core.isa_in_use()
    assert before == _core.isa_available()[0] or "NTKFAST_ISA" in os.environ
    assert each_isa(_core.isa_in_use) == {isa: isa for isa in _core.isa_available()}
    assert _core.isa_in_use() == before
    with pytest.raises(ValueError, match=r"name: expected one of .*base.* got 'mmx'"):
        _core.use_isa("mmx")
    assert _core.isa_in_use() == before
    code = "from ntkfast.engine import _core; print(_core.isa_in_use())"
    env = {**os.environ, "NTKFAST_ISA": "base"}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "base\n"


def test_unknown_instruction_set_is_refused():
    env = {**os.environ, "NTKFAST_ISA": "mmx"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import ntkfast"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ImportError: NTKFAST_ISA: expected one of" in done.stderr
    assert "got 'mmx'" in done.stderr
