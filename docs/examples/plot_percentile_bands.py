"""
Ten networks, and what the limit says of them
=============================================

Trained networks of width 512 differ from one another, since they start from different random functions. The limit of
infinite width predicts their distribution at any time, before a single network has been trained: figure 2 of the
paper.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

net = nf.MLP(depth=4, activation="relu", bias_std=0.1)
angle = np.linspace(-np.pi, np.pi, 101)
circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
places = np.array([-1.6, -0.5, 0.6, 2.0])
X = np.stack([np.cos(places), np.sin(places)], axis=1)
y = X[:, 0] * X[:, 1]

# %%
# Two kernels on the four training points and on the circle are all that the prediction takes.

data, new = nf.kernels(net, X), nf.kernels(net, circle, X)
flow = nf.LeastSquaresFlow(data.ntk, y, data.nngp)
prior = nf.diagonal(net, circle, "nngp")
times = np.array([0.0, 50.0, 1000.0])
bands = flow.percentiles(times, new.ntk, new.nngp, prior)

# %%
# The networks, trained by full-batch gradient descent. Time is the number of steps times the learning rate, here 5.

record = nf.Record(steps=[0, 10, 200], X=circle)
networks = [nf.FiniteNetwork.init(net, n_inputs=2, widths=512, rng=seed, dtype="float32") for seed in range(10)]
outputs = np.array([nf.train(f, X, y, steps=200, learning_rate=5.0, record=record).outputs[:, :, 0] for f in networks])

# %%
# Bands are the 10th to the 90th percentile, and the median.

fig, axes = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True, layout="constrained")
for k, ax in enumerate(axes):
    nf.plotting.plot_percentiles(angle, bands[:, k], levels=(10, 50, 90), ax=ax)
    ax.plot(angle, outputs[:, k].T, color="black", linewidth=0.6, alpha=0.6)
    ax.plot(places, y, "o", color="C1", markersize=6, zorder=4)
    ax.set(title=f"t = {times[k]:g}", xlabel="angle γ", ylabel="f(γ)" if k == 0 else "")
    if k:
        ax.get_legend().remove()
axes[0].set_ylim(top=1.0)  # room for the legend
