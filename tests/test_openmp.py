"""OpenMP beside that of scikit-learn and PyTorch, which bring their own: import order, forks, threads."""

import os
import subprocess
import sys

import pytest

from ntkfast.engine import threads

# A call that uses the threads of the other library
PARALLEL = {
    "sklearn": """
from sklearn.cluster import KMeans
def other():
    KMeans(4, n_init=1, random_state=0).fit(np.random.default_rng(1).normal(size=(2000, 6)))
""",
    "torch": """
import torch
torch.set_num_threads(2)
def other():
    torch.ones(1000, 1000).exp().sum()
""",
    None: """
def other():
    pass
""",
}
OURS = """
import ntkfast as nf
from ntkfast.engine import threads
"""
SCRIPT = """
import hashlib, os
import numpy as np
{imports}
import warnings
warnings.simplefilter("ignore")  # Python's own on forks of a process with threads
net, X = nf.MLP(4, bias_std=0.1), np.random.default_rng(0).normal(size=(900, 6))
def digest():
    return hashlib.sha256(nf.ntk(net, X)).hexdigest()
def running():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
{calls}
found = digest()
before = running()
for _ in range(3):
    other()
    digest()
grown = running() - before  # no new threads with each change from one library to the other
child = os.fork() if hasattr(os, "fork") else None
if child == 0:
    os._exit(0 if digest() == found else 3)
status = 0 if child is None else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
from threadpoolctl import threadpool_limits
with threadpool_limits(1, "openmp"):
    limited = threads.resolve(None)
print(found, grown, status, limited)
"""


def run(imports, calls):
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT.format(imports=imports, calls=calls)],
        env=os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def alone():
    return run(PARALLEL[None] + OURS, "digest()")[0]


@pytest.mark.parametrize("library", ["sklearn", "torch"])
@pytest.mark.parametrize("first", ["ntkfast", "other"])
def test_beside_another_openmp(library, first, alone):
    """Whoever is imported and called first: the same bits, no thread too many, and forks do not hang."""
    pytest.importorskip(library)
    parts = [OURS, PARALLEL[library]] if first == "ntkfast" else [PARALLEL[library], OURS]
    calls = ["digest()", "other()"] if first == "ntkfast" else ["other()", "digest()"]
    found, grown, status, limited = run("".join(parts), "\n".join(calls))
    assert (found, status, limited) == (alone, "0", "1")
    assert int(grown) <= 0


def test_workers_of_joblib_share_the_cores():
    """joblib tells its workers by the environment how many threads each may have."""
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        assert joblib.Parallel()(joblib.delayed(threads.resolve)(None) for _ in range(2)) == [1, 1]
