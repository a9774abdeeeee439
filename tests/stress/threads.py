"""Sixteen Python threads that call at once, the first time too, get the bits of one. Calls make no more threads than
OMP_NUM_THREADS, joblib or Dask leave them; whoever imports PyTorch, scikit-learn and ntkfast, in whatever order, gets
right results from all three, and no OpenMP library that they do not bring.
"""

import importlib.util
import itertools
import json
import os
import threading

from . import frame

ROW = 9
CALLS = {"small": 3, "full": 100}  # of each thread
BUDGETS = {"small": (2,), "full": (1, 2, 3)}  # OMP_NUM_THREADS
N_JOBS = 4
LIMIT = 900  # seconds: whatever takes longer hangs
# The threads begin together, so that whatever is imported, compiled or made on first use is so by all of them.
AT_ONCE = """
import hashlib, json, sys, threading
import numpy as np
import ntkfast as nf

N, calls_of_each = 16, int(sys.argv[1])
rng = np.random.default_rng(0)
X = rng.normal(size=(150, 4))
near = np.concatenate([X[:40], X[:40] + 1e-3])
relu, erf = nf.MLP(3, bias_std=0.1), nf.MLP(3, "erf", bias_std=0.1)
weights, V = rng.normal(size=(150, 150)), rng.normal(size=(150, 3))
f = nf.FiniteNetwork.init(relu, 4, widths=16, n_outputs=2, rng=0)
operator = nf.KernelOperator(erf, X)
calls = {
    "ntk": lambda k: nf.ntk(relu, X, n_threads=k),
    "tables of tanh": lambda k: nf.ntk(nf.MLP(2, "tanh", bias_std=0.1), near, n_threads=k),
    "tables of elu": lambda k: nf.nngp(nf.MLP(2, "elu", bias_std=0.1), near, near[:7], n_threads=k),
    "a function that is compiled": lambda k: nf.nngp(
        nf.MLP(2, nf.Activation.from_function(lambda x: np.tanh(x) + 0.1 * x, name="mine")), X[:20], n_threads=k
    ),
    "kernel_vjp": lambda k: nf.kernel_vjp(relu, X, weights=weights, n_threads=k),
    "kernel_vjp of a series": lambda k: nf.kernel_vjp(nf.MLP(2, "silu"), near, weights=weights[:80, :80], n_threads=k),
    "empirical_ntk": lambda k: nf.empirical_ntk(f, X, n_threads=k),
    "finite_width": lambda k: nf.finite_width(relu, X[:60], width=64, n_threads=k).ntk_std,
    "operator": lambda k: operator @ V,
    "dual": lambda k: nf.dual("softplus", 1.0, 2.0, np.linspace(-1, 1, 50)),
    "GaussianProcess": lambda k: nf.GaussianProcess(nf.nngp(relu, X), V, noise=0.1).dual_coefficients,
    "train": lambda k: nf.train(f, X, V[:, :2], steps=3, learning_rate=0.1).losses,
}
names, start, found, errors = list(calls), threading.Barrier(N), [], []

def digest(name, k):
    return hashlib.sha256(np.ascontiguousarray(calls[name](k))).hexdigest()

def work(number):
    start.wait()
    try:
        for i in range(calls_of_each):
            name = names[(i + number // 4) % len(names)]  # four threads make the same first call
            found.append((name, digest(name, 1 + number % 3)))
    except BaseException as error:
        errors.append(repr(error))

workers = [threading.Thread(target=work, args=(number,)) for number in range(N)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
right = {name: digest(name, 1) for name in names}
wrong = sorted({name for name, this in found if this != right[name]})
print(json.dumps({"threads": N, "calls": len(found), "wrong": wrong, "errors": errors}))
"""
# Threads that exist while a call is in flight, besides those that were there after everything had been imported:
# the pools of OpenBLAS, which it makes when it is loaded, the caller, and the one that counts.
COUNTING = """
import os, threading, time
import numpy as np, scipy.linalg, numba
import ntkfast as nf
from ntkfast.engine import threads

class Counting:
    def __enter__(self):
        self.most, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self.count)
        self.thread.start()
        self.before = len(os.listdir("/proc/self/task"))
        return self
    def count(self):
        while not self.ended.wait(0.001):
            self.most = max(self.most, len(os.listdir("/proc/self/task")))
    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.new = max(0, self.most - self.before)

def measure():
    X = np.random.default_rng(0).normal(size=(1200, 5))
    net = nf.MLP(4, bias_std=0.1)
    threads.blas_controller()
    with Counting() as kernels:
        K = nf.ntk(net, X)
        nf.kernel_vjp(net, X, weights=K)
        nf.KernelOperator(net, X) @ X
        nf.empirical_ntk(nf.FiniteNetwork.init(net, 5, widths=64, rng=0), X)
        nf.finite_width(nf.MLP(3), X[:400], width=64)
    with Counting() as lapack:
        nf.LeastSquaresFlow(K, X[:, 0]).mean(1.0)
        nf.GaussianProcess(K, X[:, 0], noise=0.1).variance(K, np.diag(K))
        nf.NystromRegression(net, 200, 0.1, rng=0).fit(X, X[:, 0]).predict(X)
    with Counting() as tables:
        nf.ntk(nf.MLP(2, "tanh", bias_std=0.1), np.concatenate([X[:100], X[:100] + 1e-3]))
    return {"budget": threads.resolve(None), "kernels": kernels.new, "lapack": lapack.new, "tables": tables.new}
"""
BUDGET = COUNTING + "import json; print(json.dumps(measure()))"
JOBLIB = (
    COUNTING
    + """
import json, joblib
print(json.dumps(joblib.Parallel(n_jobs=int(__import__("sys").argv[1]))(joblib.delayed(measure)() for _ in range(4))))
"""
)
LIBRARIES = {
    "torch": """
import torch
torch.set_num_threads(2)
def torch_works():
    A = torch.arange(250_000.0, dtype=torch.float64).reshape(500, 500) % 7
    return bool(((A @ A).numpy() == A.numpy() @ A.numpy()).all()) and float(torch.ones(2_000_000).sum()) == 2e6
""",
    "sklearn": """
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge
def sklearn_works():
    x = np.random.default_rng(1).normal(size=(3000, 6))
    labels = KMeans(2, n_init=1, random_state=0).fit_predict(x + 100 * (np.arange(3000) % 2)[:, None])
    slopes = Ridge(1e-9).fit(x, x @ np.arange(6.0)).coef_
    return len(set(labels[::2])) == 1 and labels[0] != labels[1] and bool(np.allclose(slopes, np.arange(6.0)))
""",
    "ntkfast": """
import ntkfast as nf
def ntkfast_works():
    x = np.random.default_rng(0).normal(size=(900, 6))
    return hashlib.sha256(nf.ntk(nf.MLP(4, bias_std=0.1), x, n_threads=2)).hexdigest()
""",
}
ORDER = """
import hashlib, json, os
import numpy as np
{imports}
results = {{}}
for _ in range(2):
    for name in {names}:
        results[name] = globals()[name + "_works"]()
files = {{line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps") if line.count("/")}}
openmp = ("libgomp", "libomp", "libiomp")
print(json.dumps([results, sorted(file for file in files if os.path.basename(file).startswith(openmp))]))
"""


def run(scale):
    frame.require(linux=True)
    return _at_once(CALLS[scale]) | _budgets(BUDGETS[scale]) | _joblib() | _dask() | _orders()


def _python(code, *arguments, **variables):
    """What code prints, from JSON; with these variables, and no others about threads."""
    others = dict.fromkeys(name for name in os.environ if name.endswith("NUM_THREADS"))
    done = frame.python("-c", code, *arguments, timeout=LIMIT, **others | variables)
    assert done.returncode == 0, f"ended with status {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def _at_once(calls):
    found = _python(AT_ONCE, calls, OMP_NUM_THREADS="3")
    assert not found["errors"], found["errors"]
    assert not found["wrong"], f"other bits from threads at once: {found['wrong']}"
    return {"calls from 16 threads at once with the bits of one": found["calls"]}


def _require_within(found, budget):
    """The caller is one thread; while threads make tables, it waits, and OpenMP's are idle."""
    assert found["budget"] <= budget, found
    assert 1 + found["kernels"] <= budget, found
    assert 1 + found["kernels"] + found["lapack"] <= budget, found
    assert found["tables"] <= budget, found


def _budgets(budgets):
    most = {}
    for budget in budgets:
        found = _python(BUDGET, OMP_NUM_THREADS=str(budget))
        _require_within(found, budget)
        most[budget] = 1 + max(found["kernels"], found["lapack"])
    return {"most threads by OMP_NUM_THREADS": ", ".join(f"{budget}: {count}" for budget, count in most.items())}


def _joblib():
    if importlib.util.find_spec("joblib") is None:
        return {"joblib": "not installed"}
    share = max(1, len(os.sched_getaffinity(0)) // N_JOBS)  # what joblib leaves each worker
    found = _python(JOBLIB, N_JOBS)
    for each in found:
        _require_within(each, share)
    return {f"most threads of {N_JOBS} workers of joblib": N_JOBS * max(1 + each["kernels"] for each in found)}


def _dask():
    if importlib.util.find_spec("distributed") is None or importlib.util.find_spec("dask.array") is None:
        return {"Dask": "not installed"}
    import dask.array
    import numpy as np
    from distributed import Client, LocalCluster

    import ntkfast as nf

    def count():
        """Threads that Python has not made: Dask's own ones it has."""
        return len(os.listdir("/proc/self/task")) - len(threading.enumerate())

    X, net = np.random.default_rng(0).normal(size=(1500, 4)), nf.MLP(3, "tanh", bias_std=0.1)
    given = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0", "processes": True}
    with LocalCluster(**given) as cluster, Client(cluster, set_as_default=False) as client:

        def work():
            K = client.compute(nf.distributed.ntk(net, X, chunks=256)).result()
            return np.abs(K - K.T).max(), nf.distributed.KernelOperator(net, X, client=client) @ X

        client.run(lambda: importlib.import_module("scipy.linalg").__name__)  # brings the pool of its OpenBLAS
        client.compute(dask.array.ones((900, 900), chunks=256).sum()).result()  # brings what Dask imports for its tasks
        before = client.run(count)
        work()
        after = client.run(count)
    grown = {worker: after[worker] - before[worker] for worker in before}
    assert max(grown.values()) <= 0, f"workers with two threads of Dask's got more: {grown}"
    return {"threads of OpenMP and BLAS that Dask's workers got from tasks": max(0, *grown.values())}


def _orders():
    here = [name for name in LIBRARIES if name == "ntkfast" or importlib.util.find_spec(name) is not None]
    missing = [name for name in LIBRARIES if name not in here]

    def result(order):
        imports = "".join(LIBRARIES[name] for name in order)
        return _python(ORDER.format(imports=imports, names=list(order)), OMP_NUM_THREADS="2")

    alone = {name: result([name]) for name in here}
    brought = {path for _, openmp in alone.values() for path in openmp}
    expected = {name: results[name] for name, (results, _) in alone.items()}
    assert all(expected.values()), expected
    orders = list(itertools.permutations(here))
    for order in orders:
        results, openmp = result(order)
        assert results == expected, f"{order}: {results}"
        assert set(openmp) <= brought, f"{order}: {openmp}, of which alone they bring {sorted(brought)}"
    found = {f"orders of importing {', '.join(here)}": len(orders), "OpenMP libraries that these bring": len(brought)}
    return found | ({"not installed": ", ".join(missing)} if missing else {})
