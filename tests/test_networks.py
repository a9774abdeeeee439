"""Networks, layers and activations are values: comparable, hashable, printable, picklable and immutable."""

import copy
import dataclasses
import pickle

import catalogue
import numpy as np
import pytest
from example_networks import MIXED, NET
from numpy.testing import assert_array_equal

import ntkfast as nf


def points(n, d=5, dtype=np.float64, seed=0):
    return np.random.default_rng((seed, n, d)).normal(size=(n, d)).astype(dtype)


def test_equal_networks():
    same = nf.Network([nf.Dense(weight_std=1.2, bias_std=0.1), "relu"] * 3 + [nf.Dense(weight_std=1.2, bias_std=0.1)])
    assert same == NET
    assert hash(same) == hash(NET)
    assert len({same, NET, nf.MLP(4)}) == 2
    assert nf.MLP(4) != nf.MLP(5)
    assert nf.MLP(3, "relu") != nf.MLP(3, "abs")
    assert nf.Dense(weight_lr=0.5) != nf.Dense()
    assert nf.activations.leaky_relu(0.1) != nf.activations.leaky_relu(0.2)
    assert nf.activations.leaky_relu(0.1) == nf.activations.leaky_relu(0.1)
    assert nf.Dense(weight_std=np.float32(1.5), bias_std=1) == nf.Dense(weight_std=1.5, bias_std=1.0)
    assert copy.deepcopy(NET) == NET


def test_repr_can_be_read_back():
    names = {name: getattr(nf.activations, name) for name in nf.activations.names()}
    for net in (NET, MIXED, nf.MLP(2, nf.activations.leaky_relu(0.123456789)), nf.MLP(1)):
        assert eval(repr(net), {"Network": nf.Network, "Dense": nf.Dense, **names}) == net


def test_repr_is_short():
    block = nf.Residual("relu", nf.Dense(), scale=0.5)
    long = nf.Network([nf.Dense(), *[block] * 30, *[nf.Dense(bias_std=0.1), "tanh"] * 3, nf.Dense(), "sin", nf.Dense()])
    assert repr(nf.MLP(100)) == "Network([*[Dense(), relu()] * 99, Dense()])"
    assert repr(long) == (
        "Network([Dense(), *[Residual(relu(), Dense(), scale=0.5)] * 30, *[Dense(bias_std=0.1), tanh()] * 3, "
        "Dense(), sin(a=1.0, b=1.0, k=0.0), Dense()])"
    )
    names = {name: getattr(nf.activations, name) for name in nf.activations.names()}
    for net in (nf.MLP(100), long, nf.Network([nf.Dense(weight_std=1.0 + k % 4) for k in range(23)])):
        assert eval(repr(net), {name: getattr(nf, name) for name in nf.__all__} | names) == net


def test_networks_do_not_change():
    for value, name in ((NET, "layers"), (nf.Dense(), "weight_std"), (nf.activations.relu(), "name")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
    layers = [nf.Dense(), "relu", nf.Dense()]
    net = nf.Network(layers)
    layers.append("abs")
    assert net == nf.MLP(2)
    assert isinstance(net.layers, tuple)


@pytest.mark.parametrize("activation", catalogue.ALL, ids=repr)
def test_networks_can_be_pickled(activation):
    net = nf.MLP(3, activation)
    again = pickle.loads(pickle.dumps(net))
    assert again == net
    assert_array_equal(nf.ntk(again, points(5)), nf.ntk(net, points(5)))


def test_depth_counts_dense_layers():
    assert [nf.MLP(depth).depth for depth in (1, 2, 50)] == [1, 2, 50]
    assert MIXED.depth == 4
    assert nf.MLP(np.int64(3)) == nf.MLP(3)


def test_results_and_networks_pickle():
    result = nf.kernels(NET, points(3), get=("ntk", "nngp"))
    again = pickle.loads(pickle.dumps(result))
    assert again._fields == result._fields
    assert_array_equal(again.ntk, result.ntk)
    assert pickle.loads(pickle.dumps(NET)) == NET
