"""
Handwritten digits in the plane of two components
=================================================

512 MNIST digits in the plane of the second and third principal component of the limit kernel: figure 3(a) of the
paper. The first component is nearly constant, since the components are not centred.

This page reads stored components, since MNIST is not part of ntkfast. Where the environment variable ``NTKFAST_DATA``
names the folder of its four files, they are computed, in a tenth of a second.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import ntkfast as nf

net = nf.MLP(depth=5, activation="relu", bias_std=0.1)


def computed():
    """The digits of the paper's reproduction: 512 at random, pixels divided by 256."""
    digits = nf.datasets.mnist("train")
    chosen = np.random.default_rng(0).choice(len(digits.labels), 512, replace=False)
    K = nf.ntk(net, digits.images[chosen] / 256)
    pca = nf.kernel_pca(K, 8)
    return pca.eigenvalues, pca.eigenfunctions[:, 1:3], digits.labels[chosen]


try:
    here = Path(__file__).parent
except NameError:  # where Sphinx runs it
    here = Path.cwd()
stored = here / "mnist_plane.npz"
if "NTKFAST_DATA" in os.environ:
    eigenvalues, plane, labels = computed()
else:
    with np.load(stored) as file:
        eigenvalues, plane, labels = (file[name] for name in ("eigenvalues", "plane", "labels"))

# %%
# The paper gives 0.0457, 0.00108 and 0.00078 for its first three eigenvalues, from a network of width 10000 and other
# digits.

print("λ1, λ2, λ3:", *eigenvalues[:3].round(5))
fig, ax = plt.subplots(figsize=(7.5, 6), layout="constrained")
nf.plotting.plot_plane(plane, labels, ax=ax)
ax.set_title("512 digits; ones on one side, zeros on the other")
