"""
The kernel of a physics-informed network
========================================

A physics-informed network u is trained on residuals of a differential equation and on boundary values instead of
values of u. In the limit both are linear functionals of a function that follows the flow of Θ, so that their own kernel
is Θ with these functionals applied on both sides. Wang, Yu and Perdikaris (2022) explain by its eigenvalues why such
training fails.
"""

import matplotlib.pyplot as plt
import numpy as np
from numpy.polynomial import chebyshev

import ntkfast as nf

# %%
# The equation is -u'' = f on [-1, 1] with u(-1) = u(1) = 0, whose solution shall be sin(2πx) + x² - 1. The kernel is
# smooth, and polynomials through its values at 40 Chebyshev points have derivatives that are accurate enough.

n = 40
x = np.cos(np.pi * np.arange(n) / (n - 1))
solution = np.sin(2 * np.pi * x) + x**2 - 1
f = (2 * np.pi) ** 2 * np.sin(2 * np.pi * x) - 2
coefficients = np.linalg.inv(chebyshev.chebvander(x, n - 1))
second = chebyshev.chebvander(x, n - 3) @ chebyshev.chebder(coefficients, 2)

net = nf.MLP(depth=3, activation="erf", weight_std=2.0, bias_std=1.0)
K = nf.ntk(net, x[:, None])

# %%
# Rows of this matrix take the residuals at the inner points and the values at both ends. Residuals have eigenvalues
# that are larger by orders of magnitude, and are learned that much earlier.

functionals = np.concatenate([-second[1:-1], np.eye(n)[[0, -1]]])
targets = np.concatenate([f[1:-1], [0.0, 0.0]])
kernel = functionals @ K @ functionals.T
kernel = (kernel + kernel.T) / 2
of_residuals, of_ends = np.trace(kernel[:-2, :-2]), np.trace(kernel[-2:, -2:])
print(f"trace of the kernel: {of_residuals:.3g} of {n - 2} residuals, {of_ends:.3g} of 2 boundary values")

# %%
# The remedy is to weight the boundary in the loss, so that both traces are alike. A weight w of squares multiplies rows
# by √w.

t = np.geomspace(1e-8, 1e6, 57)
weights = {"unweighted": 1.0, "boundary weighted": of_residuals / of_ends}
learned = {}
for name, weight in weights.items():
    scale = np.r_[np.ones(n - 2), np.full(2, np.sqrt(weight))]
    flow = nf.LeastSquaresFlow(scale[:, None] * kernel * scale, scale * targets)
    learned[name] = flow.mean(t, K @ (scale[:, None] * functionals).T)

# %%
# Residuals fall alike with and without weights. Without, u meets the boundary only a thousand times later: at t = 1 it
# solves the equation, but it is another solution.

fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for (name, u), colour in zip(learned.items(), ("C0", "C1"), strict=True):
    residual = np.sqrt(np.mean((u @ functionals[:-2].T - targets[:-2]) ** 2, axis=1) / np.mean(targets[:-2] ** 2))
    ends = np.sqrt(np.mean(u[:, [0, -1]] ** 2, axis=1))
    axes[0].loglog(t, residual, color=colour, label=f"residual / f, {name}")
    axes[0].loglog(t, ends, "--", color=colour, label=f"boundary, {name}")
    axes[1].loglog(t, np.sqrt(np.mean((u - solution) ** 2, axis=1)), color=colour, label=name)
    axes[2].plot(x, u[np.searchsorted(t, 1.0)], color=colour, label=f"{name}, t = 1")
axes[0].set(xlabel="time t", ylabel="root mean square error", title="what is trained")
axes[1].set(xlabel="time t", ylabel="root mean square error of u", title="what is wanted")
axes[2].plot(x, solution, "k:", label="solution")
axes[2].set(xlabel="x", ylabel="u", title="the function learned")
for ax in axes:
    ax.legend(fontsize="small")
plt.show()
