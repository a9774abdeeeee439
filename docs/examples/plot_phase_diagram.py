"""
Order and chaos
===============

What a very deep network does with its inputs depends on the standard deviations of its weights and biases: in the
ordered phase all inputs become the same, in the chaotic phase nearby inputs lose each other, and only on the line
between them, where χ₁ = 1, does depth do no harm (Poole et al. 2016; Schoenholz et al. 2017).
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

weight_stds, bias_stds = np.linspace(0.5, 3.0, 60), np.linspace(0.0, 1.0, 40)
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for ax, name in zip(axes, ("tanh", "relu"), strict=True):
    nf.plotting.plot_phase_diagram(nf.phase_diagram(name, weight_stds, bias_stds), ax=ax)

# %%
# For ReLU the critical line is σ_w = √2, and above it the variance diverges. For tanh there is a finite variance
# everywhere.
#
# The correlation of two inputs, one layer later. In the chaotic phase the diagonal is crossed below 1, and that is
# where all pairs of inputs end.

fig, axes = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
for ax, std in zip(axes, (1.0, 1.3, 2.5), strict=True):
    nf.plotting.plot_correlation_map(nf.phase(nf.MLP(2, "tanh", weight_std=std, bias_std=0.3)), ax=ax)

# %%
# The same in the kernel: Σ(x, y) of two inputs at angle γ, as layers are added. At criticality (left, ReLU with σ_w =
# √2) all correlations tend to 1, but slowly; in the chaotic phase (right) after thirty layers only equal inputs are
# related.

angle = np.linspace(0, np.pi, 181)
circle = 2**0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for ax, (name, std, bias) in zip(axes, (("relu", 2**0.5, 0.0), ("erf", 2.5, 0.1)), strict=True):
    for depth in (2, 4, 10, 30):
        net = nf.MLP(depth, name, weight_std=std, bias_std=bias)
        K = nf.nngp(net, circle[:1], circle)[0]
        ax.plot(angle, K / K[0], color=plt.cm.viridis(np.log(depth) / np.log(40)), label=f"depth {depth}")
    ax.set(xlabel="angle γ between the inputs", title=rf"{name}, $\sigma_w$ = {std:.3g}, $\sigma_b$ = {bias:g}")
axes[0].set_ylabel("correlation of the outputs")
axes[1].legend()
