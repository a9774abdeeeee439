"""Times of a first and a second call, each activation in a process of its own."""

import json
import subprocess
import sys

from ntkfast.networks import Activation

SIZE, FEATURES, DEPTH = 500, 20, 4
# Other data at another scale in the second call: tables that serve only the points they were made for would show.
SCRIPT = f"""
import json, sys, time
import numpy as np
import ntkfast as nf
name, parameters, weight_std = sys.argv[1], dict(json.loads(sys.argv[2])), float(sys.argv[3])
activation = getattr(nf.activations, name)(**parameters)
net = nf.MLP({DEPTH}, activation, weight_std=weight_std, bias_std=0.1)
rng = np.random.default_rng(0)
nf.ntk(nf.MLP({DEPTH}, "relu"), rng.standard_normal((2, 2)), progress=False)  # what any first call loads
times = []
for scale in (1.0, 1.3):
    X = scale * rng.standard_normal(({SIZE}, {FEATURES}))
    start = time.perf_counter()
    nf.ntk(net, X, progress=False)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""


def times(activation: Activation, seconds: float, weight_std: float = 1.2) -> tuple[float, float]:
    """Seconds of the first and of the second call; RuntimeError with the reason if there are none."""
    command = [sys.executable, "-c", SCRIPT, activation.name, json.dumps(activation.parameters), str(weight_std)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {seconds:g} s") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    first, second = json.loads(done.stdout)
    return first, second
