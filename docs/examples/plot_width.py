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
# Ten networks of each width, drawn and measured. The green line is the theory, in Frobenius norm, beside what was
# measured in that norm; the dots are distances in operator norm, for which theory has no such number.

result = nf.convergence(net, X, widths=[32, 64, 128, 256, 512, 1024], n_seeds=10, rng=0)
fig, ax = plt.subplots(figsize=(6.5, 5), layout="constrained")
nf.plotting.plot_convergence(result, ax=ax)

# %%
# So there is no need to try: the width at which the distance is a tenth, and what it is at two widths.

print("a tenth at width", nf.width_for(net, X, 0.1))
print("theory at widths 32 and 1024:", result.theory[[0, -1]].round(3))

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
ax.set(xlabel="angle γ of x", ylabel=r"$\hat\Theta(x_0, x)$", ylim=(-0.3, 7.5))
ax.legend()
