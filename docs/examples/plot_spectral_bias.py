"""
Low frequencies first
=====================

On the circle the eigenfunctions of the kernel are sines and cosines, and the eigenvalue of each frequency is the rate
at which gradient descent learns it. Networks learn low frequencies first; how much later the others come depends on
the activation and depth.
"""

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)

# %%
# Eigenvalues by frequency: K is circulant here, so that they are the Fourier coefficients of its first row.

fig, ax = plt.subplots(figsize=(6.5, 4.3), layout="constrained")
for name, depth, style in (("relu", 2, "-"), ("relu", 6, "--"), ("erf", 2, "-"), ("erf", 6, "--")):
    net = nf.MLP(depth, name, weight_std=1.4, bias_std=0.3)
    rates = np.fft.rfft(nf.ntk(net, circle[:1], circle)[0]).real / len(angle)
    ax.semilogy(rates[:25], style, marker=".", label=f"{name}, depth {depth}", color={"relu": "C0", "erf": "C1"}[name])
ax.set(
    xlabel="frequency", ylabel="eigenvalue λ of K/N", ylim=(1e-9, 10), title="The rate at which a frequency is learned"
)
ax.legend()
ax.grid(alpha=0.3)

# %%
# A target of three frequencies, on the way. The fast one comes last, at about the time 1/λ of its frequency.

y = np.sin(angle) + np.sin(4 * angle) + np.sin(12 * angle)
net = nf.MLP(6, "relu", weight_std=1.4, bias_std=0.3)
flow = nf.LeastSquaresFlow(nf.ntk(net, circle), y)
fig, axes = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True, layout="constrained")
for ax, t in zip(axes, (1.0, 10.0, 100.0, 1000.0), strict=True):
    ax.plot(angle, y, color="0.75", linewidth=1)
    ax.plot(angle, flow.mean(t))
    ax.set(title=f"t = {t:g}", xlabel="angle γ")
axes[0].set_ylabel("f_t")
