"""
The kernel on a circle
======================

Θ(x₀, x) of the limit, and Θ̂(x₀, x) of networks of finite width, for points x on the unit circle: figure 1 of Jacot,
Gabriel and Hongler (2018) at initialisation.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

angle = np.linspace(-np.pi, np.pi, 201)
circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
x0 = [[1.0, 0.0]]

# %%
# The paper's network: four affine layers, ReLU, σ_w = 1, σ_b = 0.1. One network of each width and seed is one line;
# the black line is the limit, which is computed exactly.

net = nf.MLP(depth=4, activation="relu", bias_std=0.1)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for ax, width in zip(axes, (100, 1000), strict=True):
    for seed in range(10):
        f = nf.FiniteNetwork.init(net, n_inputs=2, widths=width, rng=seed)
        ax.plot(angle, nf.empirical_ntk(f, x0, circle)[0], color="C0", alpha=0.5, linewidth=1)
    ax.plot(angle, nf.ntk(net, x0, circle)[0], color="black", linewidth=2, label="limit")
    ax.set(xlabel="angle γ of x", title=f"width {width}")
    ax.legend()
axes[0].set_ylabel("Θ(x₀, x)")
axes[0].set_ylim(bottom=0)

# %%
# How the kernel looks depends on the activation. Those with a kink have one at x = x₀, where smooth ones are smooth;
# odd ones have an odd kernel, but for what biases add. Each curve is divided by its value at x₀.

fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
for name, style in (("relu", "-"), ("erf", "-"), ("gelu", "-"), ("sin", "--"), ("abs", "--")):
    K = nf.ntk(nf.MLP(depth=4, activation=name, weight_std=1.5, bias_std=0.1), x0, circle)[0]
    ax.plot(angle, K / K.max(), style, label=name)
ax.set(xlabel="angle γ of x", ylabel="Θ(x₀, x)/Θ(x₀, x₀)", title=r"Depth 4, $\sigma_w$ = 1.5")
ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
ax.legend()
