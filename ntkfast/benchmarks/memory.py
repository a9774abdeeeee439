"""The memory that a call takes beside its input and output."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP

RELU = MLP(depth=4, bias_std=0.1)


def above_output(n: int = 8000, d: int = 784) -> float:
    """MiB that a kernel takes above its input and output, measured in a process of its own."""
    # -P: a checkout in the working directory is not the installed package
    code = f"from ntkfast.benchmarks import memory; print(memory.growth({n}, {d}))"
    return float(subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True).stdout)


def growth(n: int, d: int) -> float:
    """The same, of this process, which must not have computed anything of that size."""
    rng = np.random.default_rng(0)
    ntk(RELU, rng.standard_normal((10, d)))  # threads, BLAS and caches of the interpreter
    X, K = rng.standard_normal((n, d)), np.ones((n, n))
    before = peak()
    ntk(RELU, X, out=K, progress=False)
    return (peak() - before) / 2**20


def peak() -> int:
    """Bytes. VmHWM where there is one: ru_maxrss starts from the parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
