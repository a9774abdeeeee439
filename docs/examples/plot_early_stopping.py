"""
When to stop
============

The error along a principal component of the kernel decays like exp(-λt). Large eigenvalues belong to smooth
components, noise is mostly in the others: stopping early leaves the noise unlearned (section 5 of the paper).
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

rng = np.random.default_rng(0)
net = nf.MLP(depth=3, activation="relu", weight_std=2**0.5, bias_std=0.5)
X = rng.uniform(-1, 1, (150, 1))
y = np.sin(6 * X[:, 0]) + 0.5 * rng.standard_normal(150)
T = np.linspace(-1, 1, 200)[:, None]
truth = np.sin(6 * T[:, 0])

flow = nf.LeastSquaresFlow(nf.ntk(net, X[:100]), y[:100])
across = nf.ntk(net, X[100:], X[:100])
best = flow.early_stopping(across, y[100:])
print(f"best time {best.t:.0f}, validation loss {best.loss:.3f}; at the end of training {best.validation_loss[-1]:.3f}")

# %%
# The validation loss falls while the function is learned, and rises while the noise is.

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
nf.plotting.plot_early_stopping(best, ax=left)
t = np.geomspace(0.01, 1e8, 200)
nf.plotting.plot_components(t, flow.components(t, n_components=6), flow.eigenvalues, ax=right)

# %%
# Three functions on the way. All come from one eigendecomposition.

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax.plot(X[:100, 0], y[:100], ".", color="0.6", label="training points")
ax.plot(T[:, 0], truth, color="black", linewidth=1, linestyle="--", label="without noise")
new = nf.ntk(net, T, X[:100])
for time, name in ((best.t / 20, "too early"), (best.t, "stopped"), (np.inf, "t = ∞")):
    ax.plot(T[:, 0], flow.mean(time, new), label=name)
ax.set(xlabel="x", ylabel="f(x)", ylim=(-2.5, 3.4))
ax.legend(ncols=2)
