"""
Which pixels decide
===================

The function that a wide network has learned is f(x) = Σ_j K(x, x_j) a_j. Its gradient with respect to x is a weighted
sum of derivatives of the kernel, which :func:`ntkfast.kernel_vjp` computes without a matrix of them: a picture of the
pixels on which a decision depends.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import ntkfast as nf

images, labels = load_digits(return_X_y=True)
images = images / 16
chosen = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(labels, (3, 8))))
X, y = images[chosen], np.where(labels[chosen] == 8, 1.0, -1.0)
net = nf.MLP(depth=3, activation="relu", weight_std=2**0.5, bias_std=0.1)

# %%
# 3 against 8, learned from 300 digits by kernel ridge regression.

gp = nf.GaussianProcess(nf.ntk(net, X[:300]), y[:300], noise=0.01)
f = gp.mean(nf.ntk(net, X[300:], X[:300]))
print(f"{np.mean(np.sign(f) == y[300:]):.1%} of {len(f)} new digits are right")

# %%
# One call gives the gradient at all of the new digits: row i of the weights are the dual coefficients, which belong
# to f(x_i).

a = gp.dual_coefficients
gradient = nf.kernel_vjp(net, X[300:], X[:300], weights=np.tile(a, (len(f), 1)), inputs=True).X

# %%
# Orange: more ink there makes it more of an 8; purple: more of a 3. What tells the two apart is the left side, where
# an 8 closes its loops.

some = [*np.flatnonzero(y[300:] < 0)[:4], *np.flatnonzero(y[300:] > 0)[:4]]
fig, axes = plt.subplots(2, 8, figsize=(11, 3.2), layout="constrained")
most = np.abs(gradient[some]).max()
for (top, bottom), i in zip(axes.T, some, strict=True):
    top.imshow(X[300 + i].reshape(8, 8), cmap="gray_r")
    top.set_title(f"f = {f[i]:.2f}", fontsize=10)
    bottom.imshow(gradient[i].reshape(8, 8), cmap="PuOr_r", vmin=-most, vmax=most)
    for ax in (top, bottom):
        ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("digit")
axes[1, 0].set_ylabel("gradient")
