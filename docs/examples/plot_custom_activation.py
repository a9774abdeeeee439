"""
An activation of one's own, with kinks
======================================

Any Python function serves as an activation. Its kinks and jumps are found, and its dual E[φ(u)φ(v)] is computed to
1e-10 by Hermite series, tables and closed forms, whichever suits the pair.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf


def hat(x):
    """A triangle between -1 and 1, and a ramp from 2 on."""
    return np.maximum(1 - np.abs(x), 0) + 0.5 * np.maximum(x - 2, 0)


act = nf.Activation.from_function(hat)
print("kinks found:", np.round(act.kinks, 6))

# %%
# The dual against a Monte Carlo estimate from a million pairs, for variances 1 and 2.

rho = np.linspace(-1, 1, 101)
exact = nf.dual(act, 1.0, 2.0, rho * 2**0.5)
z = np.random.default_rng(0).standard_normal((2, 1_000_000))
some = rho[::10]
sampled = [np.mean(hat(z[0]) * hat(2**0.5 * (r * z[0] + np.sqrt(1 - r * r) * z[1]))) for r in some]

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
x = np.linspace(-3, 4, 400)
left.plot(x, act(x), linewidth=2)
left.plot(act.kinks, act(np.array(act.kinks)), "o", color="C1", label="kinks")
left.set(xlabel="x", title="φ(x)")
left.legend()
right.plot(rho, exact, linewidth=2, label="exact")
right.plot(some, sampled, "o", color="C1", label="Monte Carlo")
right.set(xlabel="correlation ρ", title="E[φ(u)φ(v)]", xticks=np.linspace(-1, 1, 5))
right.legend()

# %%
# Everything else follows: the kernel, networks of finite width, their training.

net = nf.MLP(depth=3, activation=act, weight_std=2.0, bias_std=0.5)
angle = np.linspace(-np.pi, np.pi, 201)
circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for seed in range(10):
    f = nf.FiniteNetwork.init(net, n_inputs=2, widths=1000, rng=seed)
    ax.plot(angle, nf.empirical_ntk(f, [[1.0, 0.0]], circle)[0], color="C0", alpha=0.5, linewidth=1)
ax.plot(angle, nf.ntk(net, [[1.0, 0.0]], circle)[0], color="black", linewidth=2, label="limit")
ax.set(xlabel="angle γ of x", ylabel="Θ(x₀, x)", title="Networks of width 1000, and the limit")
ax.legend()
