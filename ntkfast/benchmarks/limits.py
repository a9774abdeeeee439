"""What this machine can do: matrix products, writing, square roots; and how long given work takes at that speed."""

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg.blas

from ntkfast.engine import threads


@dataclass(frozen=True)
class Rates:
    """Per second, for one dtype ("f4", "f8") and number of threads.

    gemm, syrk: floating-point operations of scipy.linalg.blas, which the engine uses. written: bytes past the caches.
    roots: square roots of arrays in the cache, an upper bound of what the divider of all cores does.
    """

    dtype: str
    n_threads: int
    gemm: float
    syrk: float
    written: float
    roots: float

    @property
    def operations(self) -> float:
        """Vector operations on an entry: GEMM is made of fused multiplications and additions, two in one."""
        return self.gemm / 2


@dataclass(frozen=True)
class Work:
    """What a computation cannot do without, counted by hand.

    gemm, syrk: floating-point operations of its matrix products; a symmetric product counts its half. written: bytes
    of its result, unless they stay in the cache. operations: vector instructions on entries (a fused multiplication and
    addition, a minimum, a comparison are one each). roots: square roots and divisions, which other units do meanwhile.
    """

    dtype: str = "f8"
    gemm: float = 0.0
    syrk: float = 0.0
    written: float = 0.0
    operations: float = 0.0
    roots: float = 0.0


def parts(work: Sequence[Work], rates: Sequence[Rates], n_threads: int) -> dict[str, float]:
    """Seconds that work takes at the speed of the machine, by what limits it: the roofline."""
    found = dict.fromkeys(("products", "memory", "map"), 0.0)
    for one in work:
        speed = next(rate for rate in rates if (rate.dtype, rate.n_threads) == (one.dtype, n_threads))
        found["products"] += one.gemm / speed.gemm + one.syrk / speed.syrk
        found["memory"] += one.written / speed.written
        found["map"] += max(one.operations / speed.operations, one.roots / speed.roots)
    return found


def thread_counts() -> list[int]:
    """1, 2, 4, … and all."""
    most = threads.resolve(None)
    return sorted({most, *(2**k for k in range(most.bit_length()) if 2**k <= most)})


def measure(dtype: str, n_threads: int, quick: bool = False) -> Rates:
    """The rates of one dtype and number of threads, each the best of several tries."""
    n = 1000 if quick else 2500
    letter = {"f4": "s", "f8": "d"}[dtype]
    A = np.asfortranarray(np.random.default_rng(0).standard_normal((n, n)).astype(dtype))
    gemm, syrk = (getattr(scipy.linalg.blas, letter + name) for name in ("gemm", "syrk"))
    with threads.blas_controller().limit(limits=n_threads):
        gemm_seconds = best(lambda: gemm(1.0, A, A))
        syrk_seconds = best(lambda: syrk(1.0, A))
    return Rates(
        dtype,
        n_threads,
        gemm=2 * n**3 / gemm_seconds,
        syrk=n**3 / syrk_seconds,
        written=written(n_threads, (64 if quick else 256) << 20),
        roots=n_threads * roots(dtype),
    )


def best(call: Callable[[], object], tries: int = 4) -> float:
    """Seconds of the fastest."""
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def written(n_threads: int, size: int) -> float:
    """Bytes per second of memset, which writes past the caches as the engine does, in as many threads."""
    part = np.zeros((n_threads, size), np.uint8)

    def fill() -> None:
        running = [threading.Thread(target=ctypes.memset, args=(row.ctypes.data, 1, size)) for row in part]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return part.size / best(fill)


def roots(dtype: str, calls: int = 500) -> float:
    """Square roots per second on one core: NumPy's loop over an array in the second cache."""
    x = np.full(65536 // np.dtype(dtype).itemsize, 2, dtype)
    y = np.empty_like(x)

    def loop() -> None:
        for _ in range(calls):
            np.sqrt(x, out=y)

    return calls * x.size / best(loop)
