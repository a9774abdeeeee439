"""
Fitting standard deviations and noise
=====================================

weight_std and bias_std of every layer, and the variance of the noise, are chosen by the marginal likelihood of the
data, with exact gradients from the engine: no grid, and no validation set.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

rng = np.random.default_rng(1)
X = np.sort(rng.uniform(-2, 2, 40))[:, None]
y = np.sin(5 * X[:, 0]) * np.exp(-(X[:, 0] ** 2)) + 0.1 * rng.standard_normal(40)

start = nf.MLP(depth=3, activation="erf", bias_std=0.1)
fit = nf.fit_hyperparameters(start, X, y, noise=0.1)
print(f"log p(y) from {fit.path[0]:.1f} to {fit.value:.1f} in {len(fit.path) - 1} iterations: {fit.message}")
print(f"noise variance {fit.noise:.4f}; the data were made with 0.0100")
for (layer, name), value in nf.hyperparameters(fit.network).items():
    print(f"layer {layer}: {name} = {value:.3g}")

# %%
# Before and after. The deviations at the start make stiff functions, which take most of the data for noise; the fitted
# ones have the scale of the function, and intervals that hold.

T = np.linspace(-3, 3, 300)[:, None]
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, net, noise, title in ((axes[0], start, 0.1, "at the start"), (axes[1], fit.network, fit.noise, "fitted")):
    gp = nf.GaussianProcess(nf.nngp(net, X), y, noise=noise)
    prior = nf.diagonal(net, T, "nngp")
    mean, std = gp.predict(nf.nngp(net, T, X), prior, return_std=True, observations=True)
    nf.plotting.plot_predictions(mean, std, x=T[:, 0], data=(X[:, 0], y), ax=ax)
    ax.set(title=f"{title}: log p(y) = {gp.log_marginal_likelihood():.1f}", ylim=(-1.8, 1.8))

# %%
# The way there.

fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.plot(fit.path, "o-", markersize=3)
ax.set(xlabel="iteration", ylabel="log p(y)")
ax.grid(alpha=0.3)
