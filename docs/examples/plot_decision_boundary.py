"""
Two moons, deeper and deeper
============================

:class:`ntkfast.sklearn.NTKClassifier` learns by least squares, and calibrates probabilities on its leave-one-out
predictions.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import ntkfast as nf

X, y = make_moons(150, noise=0.25, random_state=0)
u, v = np.meshgrid(np.linspace(-2, 3, 120), np.linspace(-1.5, 2, 100))
plane = np.stack([u.ravel(), v.ravel()], axis=1)

fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for ax, (depth, name) in zip(axes, ((1, "relu"), (2, "relu"), (6, "relu")), strict=True):
    model = nf.sklearn.NTKClassifier(depth=depth, activation=name, bias_std=0.5, alpha="loo").fit(X, y)
    p = model.predict_proba(plane)[:, 1].reshape(u.shape)
    filled = ax.contourf(u, v, p, levels=np.linspace(0, 1, 11), cmap="PuOr_r", alpha=0.7)
    ax.contour(u, v, p, levels=[0.5], colors="black", linewidths=1.5)
    ax.scatter(*X.T, c=y, cmap="PuOr_r", edgecolor="white", s=26, linewidth=0.8)
    ax.set_xlabel("x₁")
    ax.set_title(f"depth {depth}" + (": a linear model" if depth == 1 else f", α = {model.alpha_:.2g}"))
axes[0].set_ylabel("x₂")
fig.colorbar(filled, ax=axes, label="probability of the orange class")
