"""The bits of a kernel do not depend on the number of threads, nor on the memory that it may take, nor on whether it is
computed at once, through an operator (unless it is tall, with few columns), into a store or by Dask's workers, nor on
what was computed before; those of its derivatives, products and sums do not depend on the number of threads.
Instruction sets agree to within rounding, and a CPU that has only the oldest of them meets no illegal instruction.
"""

import contextlib
import hashlib
import itertools
import logging
import platform
import shutil
import signal
import subprocess
import sys
import unittest
import unittest.mock
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from threadpoolctl import threadpool_limits

import ntkfast as nf
from ntkfast.engine import _core
from ntkfast.engine.problem import Problem
from ntkfast.learning import rounding
from ntkfast.learning.solvers.panels import Panels

from . import _kernels, frame

ROW = 10
DTYPES = ("f4", "f8")
THREADS = {"small": (1, 3), "full": (1, 2, 3, 7, 16)}
NETWORKS = {"small": ("relu with bias", "tanh"), "full": tuple(_kernels.NETWORKS)}
SHAPES = {  # n, m (None: of the points with themselves) and d; a tile has at least 128 rows and columns
    "small": ((300, None, 6), (130, 261, 3)),
    "full": ((300, None, 6), (777, None, 11), (130, 261, 3), (517, 40, 5)),
}
BLOCKS = {"small": (1,), "full": (1, 5)}  # tiles of a store's block
CHAINS = {
    "small": ("relu with bias", "tanh"),
    "full": ("relu", "relu with bias", "erf", "tanh", "elu", "hardtanh", "deep"),
}
# CPUs, whether the engine may find more than `base` there, and whose kernels are computed. Nehalem is x86-64-v2.
CPUS = {
    "small": (("Nehalem", False, ("relu with bias",)),),
    "full": (
        ("Nehalem", False, ("relu with bias", "erf", "tanh")),
        ("SandyBridge", False, ("relu with bias",)),  # AVX, but neither AVX2 nor FMA
        ("Haswell,-fma", False, ("relu with bias",)),
        ("Haswell", True, ("relu with bias", "erf")),
    ),
}
OPENBLAS = {"Haswell,-fma": "Sandybridge"}  # its kernels there: it takes FMA for granted beside AVX2
EMULATOR = "qemu-x86_64"
LIMIT = 900  # seconds of a process
SOURCE = Path(__file__).parents[2] / "src_c"
# vxorps ymm0, ymm0, ymm0; ret
AVX = """
import ctypes, mmap
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("c5fc57c0c3"))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""


def run(scale):
    with TemporaryDirectory() as folder:
        folder = Path(folder)
        with _cluster() as client:
            found = _matrices(scale, client, folder)
        return (
            found | _calls(scale) | _not_promised(scale) | _instruction_sets(scale, folder) | _emulated(scale, folder)
        )


# ---- a matrix ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cluster():
    """A client of two workers; None without Dask."""
    try:
        frame.require("distributed", "dask.array", "google_crc32c")
    except unittest.SkipTest:
        yield None
        return
    from distributed import Client, LocalCluster

    given = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(processes=True, **given) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def _digest(K):
    return hashlib.sha256(np.ascontiguousarray(K)).hexdigest()


def _matrices(scale, client, folder):
    counts = Counter()
    for name, (n, m, d), dtype in itertools.product(NETWORKS[scale], SHAPES[scale], DTYPES):
        P = _kernels.points(n + (m or 0), d, dtype)
        points = P[:n], P[n:] if m else None
        right = _digest(nf.ntk(_kernels.NETWORKS[name], *points, n_threads=1))
        counts["matrices"] += 1
        for kind, how, make in _ways(scale, _kernels.NETWORKS[name], *points, client, folder):
            assert _digest(make()) == right, f"{name}, {(n, m, d)}, {dtype}: other bits by {kind}, {how}"
            counts[kind] += 1
    by = {f"same SHA-256 by {kind}": count for kind, count in counts.items() if kind != "matrices"}
    return {"matrices": counts["matrices"]} | by | ({"Dask": "not installed"} if client is None else {})


def _ways(scale, net, X, Y, client, folder):
    """(kind, what is special, a function that computes the matrix)"""
    problem = Problem(net, X, Y)
    dtype, (n, m) = problem.dtype, problem.shape
    blocks = [2 * dtype.itemsize * (side * problem.tile()) ** 2 for side in BLOCKS[scale]]

    def mapped(n_threads):
        out = np.memmap(folder / "out", dtype, "w+", shape=(n, m))
        return nf.ntk(net, X, Y, out=out, n_threads=n_threads)

    def product(n_threads):
        return (nf.KernelOperator(net, X, Y, n_threads=n_threads) @ np.eye(m)).astype(dtype)

    def store(**options):
        with TemporaryDirectory() as inner:
            return nf.store.compute(net, X, Path(inner) / "K", Y, progress=False, **options)[:]

    for k in THREADS[scale]:
        yield "threads", f"{k} of them", partial(nf.ntk, net, X, Y, n_threads=k)
        yield "maps of files", f"{k} threads", partial(mapped, k)
        if not n > m < _core.LANES:  # such a matrix is computed as its transpose, whose sums have other last digits
            yield "operators times the identity", f"{k} threads", partial(product, k)
        for memory in blocks if client else []:
            yield "stores", f"{k} threads, {memory} bytes", partial(store, n_threads=k, memory=memory)
    if client:
        for memory in blocks:
            yield "stores of Dask's workers", f"{memory} bytes", partial(store, client=client, memory=memory)
        for chunks, n_threads in ((None, 1), (128, 3), (300, 1)):
            K = nf.distributed.ntk(net, X, Y, chunks=chunks, n_threads=n_threads)
            how = f"chunks of {chunks}, {n_threads} threads"
            yield "Dask's threads", how, partial(K.compute, scheduler="threads")
            yield "Dask's workers", how, lambda K=K: client.compute(K).result()


# ---- other calls ------------------------------------------------------------------------------------------------


def _numbers(result):
    """What a call returned as a list of arrays."""
    if isinstance(result, tuple | list):
        return [array for part in result for array in _numbers(part)]
    return [] if result is None else [np.asarray(result)]


def _sums(net, X, k):
    """Those over points on which `NystromRegression` is built."""
    panels = Panels(net, X, X[::4].astype(float), "ntk", None, k, False)
    V = np.cos(np.arange(3.0 * len(X[::4])).reshape(-1, 3))
    y = X[:, :2].astype(float)
    G, b = panels.gram(y)
    return np.tril(G), b, panels.transposed_times(y), panels.normal_product(V)


def _products(net, X, k):
    K = nf.KernelOperator(net, X, X[:200], n_threads=k)
    return K @ X[:200, :2], K.T @ X[:, 0].astype(float), K.columns([1, 5]), K[3:50]


PROMISED = {  # the same bits for any number of threads
    "diagonal": lambda net, X, k: nf.diagonal(net, X, get=("nngp", "ntk"), n_threads=k),
    "kernels with gradients": lambda net, X, k: tuple(nf.kernels(net, X, gradient=True, n_threads=k)),
    "kernel_vjp": lambda net, X, k: tuple(
        nf.kernel_vjp(net, X, X[:150], weights=np.cos(X @ X[:150].T), inputs=True, n_threads=k)
    ),
    "KernelOperator": _products,
    "sums of NystromRegression": _sums,
    "empirical_ntk": lambda net, X, k: nf.empirical_ntk(_finite(net, X), X, outputs="full", n_threads=k),
    "finite_width": lambda net, X, k: nf.finite_width(_kernels.NETWORKS["relu with bias"], X, width=64, n_threads=k),
}


def _finite(net, X):
    return nf.FiniteNetwork.init(net, X.shape[1], widths=32, n_outputs=2, rng=0, dtype=X.dtype)


def _calls(scale):
    counts = Counter()
    for name, dtype in itertools.product(NETWORKS[scale], DTYPES):
        net, X = _kernels.NETWORKS[name], _kernels.points(300, 6, dtype)
        for what, call in PROMISED.items():
            first, *others = (list(map(_digest, _numbers(call(net, X, k)))) for k in THREADS[scale])
            assert all(other == first for other in others), f"{what} of {name}, {dtype}: other bits with other threads"
            counts[what] += len(others)
    return {f"same SHA-256 of {what} with other numbers of threads": count for what, count in counts.items()}


def _not_promised(scale):
    """Where LAPACK and BLAS have threads or blocks of their own: measured."""
    net, X = _kernels.NETWORKS["relu with bias"], _kernels.points(300, 6, "f8")
    f, y = _finite(net, X), X[:, 0]

    def nystrom(k, method):
        return nf.NystromRegression(net, 75, 0.1, method=method, rng=0, n_threads=k).fit(X, y).dual_coefficients

    def solved(k):
        operator = nf.KernelOperator(net, X, n_threads=k)
        return nf.solve(operator, y, 0.1, method="cg", rng=0, n_threads=k).dual_coefficients

    def with_blas(k):
        with threadpool_limits(k, "blas"):
            return nf.empirical_ntk(f, X)

    calls = {
        "NystromRegression, direct: coefficients, by threads": partial(nystrom, method="direct"),
        "NystromRegression, falkon: coefficients, by threads": partial(nystrom, method="falkon"),
        "solve by conjugate gradients, by threads": solved,
        "empirical_ntk, by threads of BLAS": with_blas,
        "empirical_ntk, by memory in multiples of 100 kB": lambda k: nf.empirical_ntk(f, X, memory=100_000 * k),
    }
    found = {}
    for what, call in calls.items():
        first, *others = (call(k) for k in THREADS[scale])
        worst = max(float(np.abs(other - first).max() / np.abs(first).max()) for other in others)
        assert worst < 1e-9, f"{what}: {worst}"  # α bounds the condition number by 1e5
        found[f"{what} (not promised)"] = f"differ by up to {worst:.1e}" if worst else "the same bits"
    return found


# ---- instruction sets -------------------------------------------------------------------------------------------


def _computed(file, names, before=(), **variables):
    """The kernels of these networks from a process of its own, and its instruction set."""
    done = frame.python(_kernels.__file__, file, *names, before=before, timeout=LIMIT, **variables)
    assert done.returncode == 0, f"{before} {variables} ended with status {done.returncode}: {done.stderr[-2000:]}"
    with np.load(file) as arrays:
        return dict(arrays), done.stdout.strip()


def _allowed(name, dtype, X):
    """By how much Σ_ij/√(Σ_ii Σ_jj) and Θ_ij/√(Θ_ii Θ_jj) of two instruction sets may differ: twice the bound that
    `learning/rounding.py` carries through the layers.

    A product of d features is accurate to d/2 + 2 roundings ε, a closed form to 16 ε of the diagonal, a series to what
    is promised. An error s of the correlation ρ changes a dual V, whose powers of ρ have positive coefficients, by at
    most V(r) - V(r-s) where |ρ| <= r. For points that are apart all this is some (d/2 + 16 layers) ε, near a cusp
    √s/π.
    """
    eps = np.finfo(dtype).eps
    with unittest.mock.patch.multiple(rounding, EPS=eps, CLOSED=16 * eps):
        known = rounding.known(_kernels.NETWORKS[name], X)
    return [2 * known.nngp, 2 * known.ntk]


def _compare(ours, theirs, names, what):
    """(largest difference of points that are apart, in roundings; largest share of what is allowed) by dtype"""
    worst = {dtype: [0.0, 0.0] for dtype in DTYPES}
    for name, dtype in itertools.product(names, DTYPES):
        pairs = [(array[f"{name} {dtype} {k}"].astype(float) for array in (ours, theirs)) for k in range(4)]
        sets = _kernels.apart(dtype), _kernels.points(40, 5, dtype)
        bounds = [bound for X in sets for bound in _allowed(name, dtype, X)]
        for k, ((left, right), allowed) in enumerate(zip(pairs, bounds, strict=True)):
            scale = np.sqrt(np.diagonal(left))
            difference = float((np.abs(left - right) / np.outer(scale, scale)).max())
            assert difference <= allowed, f"{what}, {name}, {dtype}: differs by {difference:.1e}, {allowed:.1e} allowed"
            roundings = difference / np.finfo(dtype).eps if k < 2 else 0.0
            worst[dtype] = list(np.maximum(worst[dtype], [roundings, difference / allowed]))
    return ", ".join(
        f"{dtype} {most:.3g} ε apart ({share:.2g} of what is allowed)" for dtype, (most, share) in worst.items()
    )


def _instruction_sets(scale, folder):
    names, used = CHAINS[scale], _core.isa_in_use()
    found = {"instruction sets of this machine": ", ".join(_core.isa_available())}
    here = _kernels.kernels(names)
    for isa in _core.isa_available():
        theirs, reported = _computed(folder / f"{isa}.npz", names, NTKFAST_ISA=isa, OMP_NUM_THREADS="3")
        assert reported == isa
        if isa == used:
            different = [key for key in here if _digest(here[key]) != _digest(theirs[key])]
            assert not different, f"other bits in a process that has computed nothing else: {different}"
            found["same SHA-256 in a process that has computed nothing else"] = len(here)
        else:
            found[f"{isa} beside {used}"] = _compare(here, theirs, names, isa)
    return found


def _emulated(scale, folder):
    if platform.machine() != "x86_64" or shutil.which(EMULATOR) is None:
        return {"emulated CPUs": f"none, for want of {EMULATOR}"}
    found = {}
    smoke = _smoke(folder) if scale == "full" else None
    for cpu, more, names in CPUS[scale]:
        emulator = (EMULATOR, "-cpu", cpu)
        illegal = subprocess.run([*emulator, sys.executable, "-c", AVX], capture_output=True).returncode
        assert (illegal == -signal.SIGILL) == (cpu == "Nehalem"), f"{cpu}: AVX ended with status {illegal}"
        told = {"OPENBLAS_CORETYPE": OPENBLAS[cpu]} if cpu in OPENBLAS else {}
        theirs, isa = _computed(folder / "emulated.npz", names, emulator, OMP_NUM_THREADS="2", **told)
        assert isa == "base" or more, f"{cpu}: {isa}"
        found[f"emulated {cpu}: {isa}"] = _compare(_kernels.kernels(names), theirs, names, cpu)
        if smoke:
            done = subprocess.run([*emulator, smoke, "few"], capture_output=True, text=True, timeout=LIMIT)
            assert done.returncode == 0, f"{cpu}: {smoke} ended with status {done.returncode}: {done.stdout[-500:]}"
            found[f"emulated {cpu}: {isa}"] += f"; {done.stdout.strip().splitlines()[-1]}"
    return found


def _smoke(folder):
    """The C engine alone, with all instruction sets; None where it cannot be built."""
    if shutil.which("make") is None or not SOURCE.is_dir():
        return None
    subprocess.run(["make", "-C", SOURCE, f"BUILD={folder}/c", folder / "c" / "smoke"], check=True, capture_output=True)
    return folder / "c" / "smoke"
