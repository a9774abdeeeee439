"""A forked child has the right result, or an error that says "spawn", and never hangs: children of a process that has
used several threads, and of one where another thread is inside a call, imports, compiles, decomposes a matrix or makes
the tables of an activation. Neither does the parent hang. (OpenBLAS itself, under NumPy alone, hangs where a process
forks while another of its threads is in a product: here forks wait for those of ntkfast.)
"""

import itertools
import os
import tempfile
import unittest
from collections import Counter

from . import frame

ROW = 9
# What another thread is doing, and seconds after which the process forks.
FORKS = {
    "small": (("tables", 0.25), ("compiler", 0.0), ("kernel", 0.3), ("flow", 0.05)),
    "full": tuple(itertools.product(("tables", "compiler", "kernel", "flow"), (0, 0.02, 0.1, 0.25, 0.5, 1, 2))),
}
CHILDREN = {"small": 3, "full": 20}
HANGS = 300  # seconds; a child has fewer than two to do on a quiet machine
CHILD = """
import os, signal, sys, threading, time, traceback
import numpy as np
import ntkfast as nf

work, delay, children, hangs = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
X, far = rng.normal(size=(5, 3)), rng.normal(size=(90, 3))
relu, tanh = nf.MLP(3, bias_std=0.1), nf.MLP(2, "tanh")
flow = nf.LeastSquaresFlow(nf.ntk(relu, rng.normal(size=(1000, 5)), n_threads=2), np.ones(1000))  # used, by two threads

def compiled():
    return nf.Activation.from_function(lambda x: max(x, 0.1 * x) if x < 1 else 1.0 + np.tanh(x - 1), name="mine")(X)

calls = {
    "tables": lambda: nf.ntk(tanh, X, X + 1e-3),
    "compiler": compiled,
    "kernel": lambda: nf.ntk(nf.MLP(60), far[np.arange(3000) % 90] + 1, n_threads=2)[:10, :10],
    "flow": lambda: flow.mean(1.0),
}
call, results = calls[work], []
other = threading.Thread(target=lambda: results.append(call()))
other.start()
time.sleep(delay)
running = {}
for _ in range(children):
    child = os.fork()
    if child == 0:
        signal.alarm(hangs)
        try:
            np.savez(f"{os.getpid()}.npz", call(), nf.ntk(relu, far))
            status = 0
        except RuntimeError as error:
            status = 7 if '"spawn"' in str(error) else 8
        if status == 8:
            traceback.print_exc()
        os._exit(status)
    running[child] = True
other.join()
expected = results[0], nf.ntk(relu, far)
for child in running:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        found = np.load(f"{child}.npz")
        status = 0 if all(np.array_equal(found[f"arr_{k}"], expected[k]) for k in range(2)) else 6
    print({0: "right", 6: "wrong", 7: "refused", -signal.SIGALRM: "hung"}.get(status, f"ended by {status}"))
"""


def run(scale):
    if not hasattr(os, "fork"):
        raise unittest.SkipTest("needs fork")
    found = {}
    for work, delay in FORKS[scale]:
        with tempfile.TemporaryDirectory() as folder:
            arguments, given = (CHILD, work, delay, CHILDREN[scale], HANGS), {"cwd": folder, "timeout": 3 * HANGS}
            done = frame.python("-c", *arguments, **given, OMP_NUM_THREADS="2")
        outcomes = Counter(done.stdout.split())
        assert done.returncode == 0, done.stderr
        assert set(outcomes) <= {"right", "refused"}, f"{work}, forked after {delay} s: {dict(outcomes)}; {done.stderr}"
        found[work] = found.get(work, Counter()) + outcomes
    return {f"children while another thread is at work on {work}": dict(counts) for work, counts in found.items()}
