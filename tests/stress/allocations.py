"""Where memory runs out in the middle of a public call, the call ends with a MemoryError or the right result;
afterwards BLAS has its threads back, and the next call is right. A matrix that does not fit, or whose factor does not,
is refused at once, before it is read, with what it needs, what is available and the calls that work without it.

Each request of the engine for memory fails in turn, and each request of the whole process, at full scale (where every
object of Python is a request of its own), or a few of them: see failing_allocator.c.
"""

import ctypes
import errno
import faulthandler
import json
import re
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from . import frame

ROW = 6
GOOD = ("right", "MemoryError")
FOREIGN = "an exception of another kind, by NumPy's or CPython's own fault"
HANG = "a wait for a thread that is gone, by CPython's own fault"
CRASH = "a crash, by the fault of NumPy, CPython or OpenBLAS itself"
# Requests of others than the engine: the first of so many, and the calls.
STEPS = {"small": (199, ("ntk", "solve")), "full": (1, None)}
STEP_OF = {"fit_hyperparameters": 11}  # in which some 20 network_likelihoods make 60000
# Where CPython waits for what may never come: a thread that begins, the lock of a semaphore, a thread that is idle, its
# result.
WAITS = (
    ("threading", "start"),
    ("threading", "release"),
    ("futures/thread", "_adjust_thread_count"),
    ("futures/_base", "result"),
)
HANGS = 10  # seconds after which a call and the next one, of a tenth of a second, hang
# Calls that cannot fit under 8 GiB, and what their errors name. Memory that may not be read is behind K: to read a
# number of it is the end of the process.
REFUSED = """
import json, mmap, resource, time
import numpy as np
import ntkfast as nf
n = 200_000
net, X, y = nf.MLP(3), np.random.default_rng(0).normal(size=(n, 5)), np.ones(n)
f = nf.FiniteNetwork.init(net, 5, widths=4, n_outputs=2, rng=0)
wide = nf.FiniteNetwork.init(net, 5, widths=100, rng=0)
K = np.frombuffer(mmap.mmap(-1, 8 * n * n, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0)).reshape(n, n)
K32 = K.view(np.float32)[:, :n]
calls = {
    "ntk": (lambda: nf.ntk(net, X), "200000 x 200000", "store.compute(net, X, path)", "KernelOperator"),
    "nngp in float32": (lambda: nf.nngp(net, X, dtype=np.float32), "200000 x 200000", "store.compute(net, X, path)"),
    "empirical_ntk": (lambda: nf.empirical_ntk(f, X), "X: the result", "ntk_vector_product", "numpy.memmap"),
    "empirical_ntk in full": (lambda: nf.empirical_ntk(f, X, outputs="full"), "X: the result", "outputs='mean'"),
    "jacobian": (lambda: wide.jacobian(X), "X: the Jacobian", "jvp"),
    "cholesky": (lambda: nf.solve(K, y, 0.1, method="cholesky"), "K_xx: 'cholesky' of 200000", "method='cg'"),
    "eigh": (lambda: nf.solve(K, y, 0.1, method="eigh"), "K_xx: 'eigh' of 200000", "'cholesky'", "'cg'"),
    "cholesky of an operator": (
        lambda: nf.solve(nf.KernelOperator(net, X), y, 0.1, method="cholesky"), "K_xx: 'cholesky'", "method='cg'"
    ),
    "GaussianProcess": (lambda: nf.GaussianProcess(K, y), "K_xx: a factor", "KernelOperator", "GramStore"),
    "log_marginal_likelihood": (lambda: nf.log_marginal_likelihood(K, y), "K_xx: a factor", "overwrite=True"),
    "LeastSquaresFlow": (lambda: nf.LeastSquaresFlow(K, y), "ntk_xx: a factor", "overwrite=True", "kernel_flow"),
    "kernel_pca": (lambda: nf.kernel_pca(K, 3, method="lapack"), "K_xx: a factor", "method='lanczos'"),
    "kernel_pca of most components": (lambda: nf.kernel_pca(K, n // 2), "K_xx: a factor", "'lanczos' or 'krylov'"),
    "kernel_flow in float32": (lambda: nf.kernel_flow(K32, y, t=1.0), "K_xx: the kernel in float64", "not copied"),
    "random_feature_model": (lambda: nf.random_feature_model(K, n_features=9), "K_xx: a factor", "NTKFeatures"),
    "random_feature_convergence": (lambda: nf.random_feature_convergence(K), "K_xx: a factor", "NTKFeatures"),
    "integers": (lambda: nf.max_learning_rate(K.view(np.int64)), "K_xx: a copy in float64", "takes none"),
    "NTKRegressor": (lambda: nf.sklearn.NTKRegressor().fit(X, y), "X: learning from the kernel", "NTKFeatures"),
    "linearize": (lambda: nf.linearize(f).flow(X, np.ones((n, 2)), 1.0), "X: the eigendecomposition", "train"),
}
nf.ntk(net, X[:10])
nf.sklearn.NTKRegressor().fit(X[:10], y[:10])
there = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (there + 8 * 2**30, resource.RLIM_INFINITY))
for name, (call, *words) in calls.items():
    print(json.dumps({"name": name}), flush=True)
    start = time.perf_counter()
    try:
        call()
    except MemoryError as error:
        missing = [word for word in (*words, "needs ", "available") if word not in str(error)]
        print(json.dumps({"seconds": time.perf_counter() - start, "missing": missing, "text": str(error)}), flush=True)
"""


def run(scale):
    count, slowest = _refusal()
    found = {
        "calls with 200000 points that are refused under 8 GiB, unread": count,
        "seconds until the slowest is": slowest,
    }
    step, names = STEPS[scale]
    with tempfile.TemporaryDirectory() as folder:
        library = frame.shared_object("failing_allocator.c", folder, "-O2", "-fno-optimize-sibling-calls")
        sweeps = {
            "the engine": (("engine", 1, "*"),),
            "the process": (("all", max(step, STEP_OF.get(name, 1)), name) for name in names or _names()),
        }
        for whose, arguments in sweeps.items():
            total = Counter()
            for argument in arguments:
                outcomes, odd = sweep(library, *argument)
                bad = [record for record in odd if not foreign(record)]
                assert not bad, f"{len(bad)} of {outcomes.total()} requests; the first: {describe(bad[0])}"
                total += Counter({outcome: outcomes[outcome] for outcome in GOOD})
                total += Counter(CRASH if record["crash"] else HANG if hung(record) else FOREIGN for record in odd)
            found[f"failed requests of {whose}"] = dict(total)
    return found


def _refusal():
    done = frame.python("-c", REFUSED)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]}: ended by {done.returncode}; {done.stderr}"
    slowest = 0.0
    for before, line in zip(lines, [*lines[1:], {}], strict=True):
        if "name" in before:
            assert "text" in line, f"{before['name']}: not refused"
            assert not line["missing"], f"{before['name']}: {line['missing']} not in {line['text']!r}"
            slowest = max(slowest, line["seconds"])
    assert slowest < 1, f"refused after {slowest} s"  # a quiet machine takes 1 ms
    return len(lines) // 2, slowest


def _names():
    from . import _calls

    return [name for name in _calls.CALLS if name != "kernel_flow"]  # by LSODA, see above


def sweep(library, whose, step, name):
    """How often each outcome occurred, and the records of those that should not occur.

    whose: "engine", requests of the compiled extension itself, or "all". step: every step-th of them. name: of a call,
    or "*", for all of them in one process.
    """
    variables = {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}
    variables |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"}
    if Path("/dev/shm").is_dir():
        variables["TMPDIR"] = "/dev/shm"  # where a store is flushed at once
    outcomes, odd, start = Counter(), [], 1
    while start is not None:
        done = frame.python("-m", "stress.allocations", whose, step, name, start, **variables)
        *records, last = [json.loads(line) for line in done.stdout.splitlines()] or [{}]
        for record in records:
            if "outcome" in record:
                outcomes[record["outcome"]] += 1
                odd += [record] * (record["outcome"] not in GOOD)
        start = None
        if "done" not in last:
            assert "begins" in last, f"{name}: {done.stderr}"
            trace, _, stacks = done.stderr.partition("crashed:\n")
            crash, _, stack = stacks.partition("\n\n")
            record = {**last, "outcome": f"ended by {done.returncode}", "trace": trace[-3000:]}
            record |= {"crash": crash, "stack": stack}
            outcomes[record["outcome"]] += 1
            odd.append(record)
            assert name != "*", describe(record)
            start = last["begins"] + step
    return outcomes, odd


def hung(record):
    return record["outcome"] == f"ended by {-signal.SIGALRM}"


def foreign(record):
    """Whether another library answered its own failed request with a wrong exception, a crash or a wait without an end.

    Seen: ufuncs of NumPy, and CPython, which return NULL without setting one (a SystemError); CPython's "can't allocate
    read lock" (a RuntimeError), and its open, which then takes no Path for one (a TypeError); indexing of NumPy, which
    reads indices that it could not copy (an IndexError), and its getters, which put NULL into a dict (a crash). An
    OSError with ENOMEM is the operating system's MemoryError. A thread of Python's that lacks memory ends without a
    word, that it began or is idle or what its task returned; or one keeps a semaphore's lock, which it then fails to
    leave (Condition.__exit__), and another one waits for it (hangs).
    """
    if hung(record):
        waits = "|".join(f'{file}.py", line [0-9]+ in {function}\\n' for file, function in WAITS)
        return re.search(waits, record["trace"]) is not None
    if record["crash"]:
        return not whose(record["crash"]).startswith("_core.") and not whose(record["stack"]).startswith("_core.")
    path_lost = record["outcome"] == "TypeError" and ("PyOS_FSPath" in record["stack"] or "Path\n" in record["trace"])
    index_lost = record["outcome"] == "IndexError" and whose(record["stack"]).startswith("_multiarray_umath.")
    by_number = record["outcome"] == "OSError" and f"[Errno {errno.ENOMEM}]" in record["trace"]
    wrong = path_lost or index_lost or by_number or record["outcome"] in ("SystemError", "RuntimeError")
    return wrong and not whose(record["stack"]).startswith("_core.")


def whose(stack):
    """The library that called CPython or the C library."""
    libraries = [line.split()[0] for line in stack.splitlines()]
    return next((name for name in libraries if not name.startswith(("libpython", "python", "libc."))), "libpython")


def describe(record):
    stacks = f"{record['crash']}\n\n{record['stack']}".strip()
    return f"{record['name']}, request {record['begins']}: {record['outcome']}\n{record['trace']}\n{stacks}"


def one_process(whose, step, name, start):
    """Fail requests number start, start + step, ... of a call, and print a record of each."""
    from ntkfast.engine import _core, threads

    from . import _calls

    faulthandler.register(signal.SIGALRM, chain=True)  # and the end of the process
    allocator, text = ctypes.CDLL(None), ctypes.create_string_buffer(20000)
    allocator.failing_arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t]
    allocator.failing_disarm.restype = ctypes.c_long
    scope = (0, 0)
    if whose == "engine":
        mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        places = [line[0].split("-") for line in mapped if line[-1].endswith(Path(_core.__file__).name)]
        scope = int(places[0][0], 16), int(places[-1][1], 16)
    controller = threads.blas_controller()

    def blas():
        return [library.get_num_threads() for library in controller.lib_controllers]

    def fail(call, expected, before, k):
        outcome, result, trace = "right", None, ""
        allocator.failing_arm(k, 1, *scope)
        try:
            result = call()
        except BaseException as error:
            outcome, trace = type(error).__name__, None
            asked = allocator.failing_disarm()
            trace = "".join(traceback.format_exception(error))[-3000:]
        else:
            asked = allocator.failing_disarm()
            if not _calls.same(_calls.numbers(result), expected):
                outcome = "wrong"
        if asked < k:
            return None
        if blas() != before:
            outcome += ", BLAS held back"
            for library, n in zip(controller.lib_controllers, before, strict=True):
                library.set_num_threads(n)
        if not _calls.same(_calls.numbers(call()), expected):
            outcome += ", the next call wrong"
        stack = ""
        if outcome not in GOOD:
            allocator.failing_stack(text, len(text))
            stack = text.value.decode()
        return {"outcome": outcome, "trace": trace, "stack": stack, "crash": ""}

    for each in _calls.CALLS if name == "*" else [name]:
        call = _calls.CALLS[each]
        call()
        expected, before, k = _calls.numbers(call()), blas(), start
        while True:
            print(json.dumps({"name": each, "begins": k}), flush=True)
            signal.alarm(HANGS)
            record = fail(call, expected, before, k)
            if record is None:
                break
            print(json.dumps({"name": each, "begins": k, **record}), flush=True)
            k += step
    print(json.dumps({"done": True}), flush=True)


if __name__ == "__main__":
    one_process(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
