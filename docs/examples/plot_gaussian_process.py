"""
Two kinds of certainty
======================

A wide network is a Gaussian process before training. Bayesian inference conditions it on the data (kernel Σ);
gradient descent moves it (kernel Θ). The means differ, and so does the scatter: that of training is what an ensemble
of networks shows.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

net = nf.MLP(depth=3, activation="relu", weight_std=2**0.5, bias_std=0.5)
X = np.array([-1.5, -1.1, 0.3, 0.7, 1.6])[:, None]
y = np.sin(2.5 * X[:, 0])
T = np.linspace(-2.5, 2.5, 200)[:, None]
data, new, prior = nf.kernels(net, X), nf.kernels(net, T, X), nf.diagonal(net, T, "nngp")

posterior = nf.GaussianProcess(data.nngp, y, noise=1e-4)
flow = nf.LeastSquaresFlow(data.ntk, y, data.nngp)
bayes = posterior.percentiles(new.nngp, prior)
trained = flow.percentiles(np.inf, new.ntk, new.nngp, prior)

fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, bands, title in (
    (axes[0], bayes, "Bayesian inference: Σ"),
    (axes[1], trained, "gradient descent to the end: Θ and Σ"),
):
    nf.plotting.plot_percentiles(T[:, 0], bands, levels=(10, 50, 90), ax=ax)
    ax.plot(X[:, 0], y, "o", color="black", zorder=4)
    ax.set(title=title, xlabel="x")

# %%
# Functions drawn from the trained network's distribution, each from its own random start.

covariances = new.ntk, new.nngp, nf.nngp(net, T)
f = flow.samples([0.0, 1.0, np.inf], *covariances, n_samples=8, rng=0)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for ax, functions, time in zip(axes, f, ("t = 0", "t = 1", "t = ∞"), strict=True):
    ax.plot(T[:, 0], functions.T, linewidth=1)
    ax.plot(X[:, 0], y, "o", color="black", zorder=4)
    ax.set(title=time, xlabel="x")
axes[0].set_ylabel("f(x)")
