"""The picture of the README: networks that are trained, and what their limit says before any is.

    python examples/picture.py docs/picture.png

Points on a circle, a ReLU network of depth 4. Lines: 10 networks of width 512, each trained on the four dots by
gradient descent. Bands: the 10th to 90th percentiles of infinitely wide networks at the same times, in closed form.
"""

import sys

import matplotlib.figure
import numpy as np

import ntkfast as nf

TIMES, RATE, N_NETWORKS, WIDTH = (0.0, 2.0, 50.0), 0.5, 10, 512

angle = np.linspace(-np.pi, np.pi, 200)
seen = np.array([-1.6, -0.5, 0.6, 2.0])


def on_circle(gamma):
    return np.stack([np.cos(gamma), np.sin(gamma)], axis=1)


X, new = on_circle(seen), on_circle(angle)
y = X[:, 0] * X[:, 1]
net = nf.MLP(depth=4, activation="relu", weight_std=2**0.5, bias_std=0.1)

on_data, across = nf.kernels(net, X), nf.kernels(net, new, X)
flow = nf.LeastSquaresFlow(on_data.ntk, y, on_data.nngp)
variances = nf.diagonal(net, new, get="nngp")
bands = [flow.percentiles(t, across.ntk, across.nngp, variances) for t in TIMES]

learned = []
for seed in range(N_NETWORKS):
    f = nf.FiniteNetwork.init(net, n_inputs=2, widths=WIDTH, rng=seed)
    steps = [round(t / RATE) for t in TIMES]
    run = nf.train(f, X, y, steps=steps[-1], learning_rate=RATE, record=nf.Record(steps=steps, X=new))
    learned.append(run.outputs[:, :, 0])

figure = matplotlib.figure.Figure(figsize=(11, 3.3), layout="constrained")
for k, (ax, t) in enumerate(zip(figure.subplots(1, len(TIMES), sharey=True), TIMES, strict=True)):
    nf.plotting.plot_percentiles(angle, bands[k], ax=ax)
    for outputs in learned:
        ax.plot(angle, outputs[k], color="0.35", linewidth=0.6)
    ax.plot(seen, y, "ko", markersize=6)
    ax.set(title=f"t = {t:g}", xlabel="angle of the point on the circle", ylabel="output" if k == 0 else "")
    if ax.get_legend():
        ax.get_legend().remove()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "picture.png", dpi=110)
