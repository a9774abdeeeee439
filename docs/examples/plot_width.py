"""
How wide is wide enough
=======================

The tangent kernel of a random network differs from the limit by about 1/√width (theorem 1 of the paper). To first
order in 1/width its mean and its scatter are known without drawing a single network: :func:`ntkfast.finite_width`.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

angle = np.linspace(-np.pi, np.pi, 21)[:-1]
X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
x0 = [[1.0, 0.0]]
net = nf.MLP(depth=3, activation="relu", weight_std=2**0.5, bias_std=0.1)

# %%
# Ten networks of each width, drawn and measured:

result = nf.convergence(net, X, widths=[32, 64, 128, 256, 512, 1024], n_seeds=10, rng=0)
fig, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
nf.plotting.plot_convergence(result, ax=ax)

# %%
# The same from theory: the root mean square of the distance in Frobenius norm, and the width at which it is a tenth.

limit = np.linalg.norm(nf.ntk(net, X))
for width in (32, 1024):
    std = nf.finite_width(net, X, width=width, get="ntk_std")
    print(f"width {width:>4}: ‖Θ̂ - Θ‖/‖Θ‖ about {np.linalg.norm(std) / limit:.3f}")
print("a tenth at width", nf.width_for(net, X, 0.1))

# %%
# Θ̂(x₀, x) scatters where theory says. Shaded: two standard deviations about the mean, at width 64; lines: fifty
# networks.

theory = nf.finite_width(net, x0, X, width=64)
fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
for seed in range(50):
    f = nf.FiniteNetwork.init(net, n_inputs=2, widths=64, rng=seed)
    ax.plot(angle, nf.empirical_ntk(f, x0, X)[0], color="black", linewidth=0.4, alpha=0.5)
mean, std = theory.ntk_mean[0], theory.ntk_std[0]
ax.fill_between(angle, mean - 2 * std, mean + 2 * std, alpha=0.3, label="mean ± 2 standard deviations, to order 1/n")
ax.plot(angle, nf.ntk(net, x0, X)[0], color="C1", linewidth=2, label="limit")
ax.set(xlabel="angle γ of x", ylabel="Θ̂(x₀, x)")
ax.legend()
