"""
A million points
================

Beyond some ten thousand points nobody makes a kernel matrix. :class:`ntkfast.NystromRegression` spans its function by
the kernels of some of the points, its centres, and needs one pass over the others.

This page reads stored results, since a million points take minutes: ``python plot_a_million_points.py measure`` makes
them anew.
"""

import json
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

# %%
# The task: a function of 4 features with noise of deviation 0.1, learned by a ReLU network with two hidden layers.


def task(n, rng):
    X = rng.standard_normal((n, 4)).astype(np.float32)
    f = np.sin(2 * X[:, 0]) * X[:, 1] + np.maximum(X[:, 2], X[:, 3])
    return X, f, f + 0.1 * rng.standard_normal(n)


def measure(path):
    net, rng, rows = nf.MLP(depth=3, weight_std=2**0.5, bias_std=0.5), np.random.default_rng(0), []
    X_test, f_test, _ = task(5000, rng)
    nf.NystromRegression(net, 100, alpha="loo", rng=0).fit(X_test, f_test)  # libraries are loaded in the first call
    for n, m in [(n, m) for m in (100, 300, 1000) for n in (1000, 10_000, 100_000, 1_000_000) if m < n]:
        X, _, y = task(n, rng)
        start = time.process_time()
        model = nf.NystromRegression(net, m, alpha="loo", rng=0).fit(X, y)
        seconds = time.process_time() - start
        error = float(np.sqrt(np.mean((model.predict(X_test) - f_test) ** 2)))
        rows.append({"n": n, "m": m, "seconds": round(seconds, 2), "error": round(error, 5)})
        path.write_text(json.dumps(rows, indent=1) + "\n")


# %%
# Each row of the results is one fit, its ridge chosen by leave-one-out errors, which takes a second pass.

try:
    here = Path(__file__).parent
except NameError:  # where Sphinx runs it
    here = Path.cwd()
results = here / "a_million_points.json"
if sys.argv[1:] == ["measure"]:
    measure(results)
rows = json.loads(results.read_text())
for row in rows:
    print("{n:>8} points, {m:>5} centres: {seconds:7.2f} s of CPU time, error {error:.3f}".format(**row))

# %%
# The time grows with the number of points, the memory beyond them does not. The error falls with the number of centres;
# once there are some hundred points for each of them, more points hardly matter.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for m in sorted({row["m"] for row in rows}):
    some = [row for row in rows if row["m"] == m]
    n = [row["n"] for row in some]
    left.semilogx(n, [row["error"] for row in some], "o-", label=f"{m} centres")
    right.loglog(n, [row["seconds"] for row in some], "o-", label=f"{m} centres")
left.set(xlabel="points", ylabel="root mean square error", title="Error on new points, without their noise")
right.set(xlabel="points", ylabel="CPU seconds", title="Time of a fit, on one core")
left.set_ylim(bottom=0)
left.legend()
for ax in (left, right):
    ax.grid(alpha=0.3)
