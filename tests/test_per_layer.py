"""Kernels layer by layer: what the parameters of each Dense contribute."""

from dataclasses import replace

import finite_networks
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf

X = np.random.default_rng(0).normal(size=(7, 3))
Y = np.random.default_rng(1).normal(size=(4, 3))
NET = nf.Network(
    [nf.Dense(weight_std=1.3, bias_std=0.2), "relu", nf.Dense(bias_std=0.4, weight_lr=0.5), "tanh", nf.Dense()]
)


def test_limit_by_the_recursion():
    """Θ_l = Σ^l Σ̇^{l+1} … Σ̇^L, with the learning rates of layer l."""
    got = nf.ntk(NET, X, Y, per_layer=True)
    first = NET.layers[0]
    sigma1 = nf.nngp(nf.Network([first]), X, Y)
    q1, p1 = (nf.diagonal(nf.Network([first]), side, "nngp") for side in (X, Y))
    slope1 = nf.dual_derivative("relu", q1[:, None], p1, sigma1)
    body = nf.Network(NET.layers[:3])
    sigma2, dot = nf.nngp(body, X, Y), nf.kernels(NET, X, Y, get="nngp_dot")
    assert_allclose(got[0], sigma1 * slope1 * dot, rtol=1e-12)
    assert_allclose(got[1], (0.5 * (sigma2 - 0.16) + 0.16) * dot, rtol=1e-12)
    assert_allclose(got[2], nf.nngp(NET, X, Y), rtol=1e-12)


@pytest.mark.parametrize("name", finite_networks.NETWORKS)
def test_sum_is_the_kernel(name):
    net = finite_networks.NETWORKS[name]
    for sides in ((X,), (X, Y)):
        layers, whole = nf.ntk(net, *sides, per_layer=True), nf.ntk(net, *sides)
        assert layers.shape == (net.depth, *whole.shape)
        assert_allclose(layers.sum(axis=0), whole, rtol=1e-12, atol=1e-12 * np.abs(whole).max())
    f = nf.FiniteNetwork.init(net, 3, None if name == "ends in nested blocks" else 12, 2, rng=0)
    for outputs in ("mean", "diagonal", "full"):
        layers, whole = (nf.empirical_ntk(f, X, None, outputs, per_layer=flag) for flag in (True, False))
        assert layers.shape == (net.depth, *whole.shape)
        assert_allclose(layers.sum(axis=0), whole, rtol=1e-12, atol=1e-12 * np.abs(whole).max())


def test_empirical_by_the_jacobian():
    f = nf.FiniteNetwork.init(NET, 3, [5, 6], 2, rng=0)
    jacobian, start, expected = f.jacobian(X), 0, []
    for dense, weight, bias in zip(NET.dense_layers, f.weights, f.biases, strict=True):
        total = 0
        for array, rate in ((weight, dense.weight_lr), (bias, dense.bias_lr)):
            if array is not None:
                part = jacobian[:, :, start : start + array.size]
                total, start = total + rate * np.einsum("ikp,jlp->ijkl", part, part), start + array.size
        expected.append(total)
    assert_allclose(nf.empirical_ntk(f, X, outputs="full", per_layer=True), expected, rtol=1e-12, atol=1e-13)
    one = nf.empirical_ntk(f, X, outputs="full", per_layer=True, memory=5000)  # in blocks of points
    assert_allclose(one, expected, rtol=1e-12, atol=1e-13)
    diagonal = nf.empirical_ntk(f, X, outputs="diagonal", per_layer=True, memory=5000)
    assert_allclose(diagonal, np.einsum("lijkk->lijk", np.array(expected)), rtol=1e-12, atol=1e-13)


def test_frozen_layers_contribute_nothing():
    layers = [replace(layer, weight_lr=0, bias_lr=0) if k == 2 else layer for k, layer in enumerate(NET.layers)]
    net = nf.Network(layers)
    f = nf.FiniteNetwork.init(net, 3, 8, rng=0)
    for kernel in (nf.ntk(net, X, per_layer=True), nf.empirical_ntk(f, X, per_layer=True)):
        assert [bool(part.any()) for part in kernel] == [True, False, True]


def test_out_and_dtype():
    out = np.empty((3, 7, 4), np.float32)
    assert nf.ntk(NET, X.astype(np.float32), Y.astype(np.float32), per_layer=True, out=out) is out
    assert_allclose(out, nf.ntk(NET, X, Y, per_layer=True), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"out: expected shape \(3, 7, 7\), got \(3, 7, 4\)"):
        nf.ntk(NET, X, per_layer=True, out=out.astype(float))
    f = nf.FiniteNetwork.init(NET, 3, 8, rng=0)
    out = np.empty((3, 7, 4))
    assert nf.empirical_ntk(f, X, Y, per_layer=True, out=out) is out
    assert_array_equal(out, nf.empirical_ntk(f, X, Y, per_layer=True))
    seen = []
    nf.empirical_ntk(f, X, per_layer=True, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (49, 49)
