"""Saved models: a file gives back the same model to the last bit, or the error says what is wrong with which file."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import zipfile

import catalogue
import numpy as np
import pytest
from finite_networks import NETWORKS, finite
from numpy.testing import assert_array_equal

import ntkfast as nf
from ntkfast.networks.layer import Layer
from ntkfast.support import archive, saved
from ntkfast.support.saved import Saved

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(30, 3)), RNG.normal(size=(7, 3))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] ** 2], axis=1)
NET = nf.MLP(depth=3, bias_std=0.3)
DTYPES = [np.float64, np.float32]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.ntk"


@pytest.fixture
def again(path):
    """A function: the model from a file."""

    def loaded(model, **given):
        nf.save(model, path)
        found = nf.load(path, **given)
        assert type(found) is type(model)
        return found

    return loaded


def equal(a, b):
    """To the last bit, with the dtype."""
    assert_array_equal(a, b, strict=True)


def own(name="mine", phi=np.tanh):
    return nf.Activation.from_function(phi, name=name)


# --- what comes back


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("name", NETWORKS)
def test_finite_networks(name, parametrization, again, path):
    f = finite(NETWORKS[name], 2, parametrization)
    found = again(f)
    assert found.net == f.net
    assert found.parametrization == parametrization
    equal(found(X[:, : f.n_inputs]), f(X[:, : f.n_inputs]))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("activation", catalogue.ALL + catalogue.APART, ids=repr)
def test_activations(activation, again):
    net = nf.Network([nf.Dense(weight_std=1 / 3, bias_std=0.1), activation, nf.Dense()])
    assert again(net) == net
    assert again(activation) == activation


LAYERS = {
    "Dense": nf.Dense(weight_std=1 / 3, bias_std=1e-300, weight_lr=0.1, bias_lr=1e300, fan_in="inputs"),
    "Scale": nf.Scale(-0.1),
    "LayerNorm": nf.LayerNorm(0.7),
    "Dropout": nf.Dropout(0.1),
    "Parallel": nf.Parallel(["relu"], [nf.Dense(fan_in=7)], [], how="concat", shares=(0.1, 0.7, 3.3)),
    "Residual": nf.Residual("tanh", nf.Residual("erf", nf.Dense()), nf.Dense(), scale=0.3),
    "Activation": nf.activations.polynomial((0.1, -0.2, 1 / 3)),
    "NormalizedExponential": nf.activations.exp_normalized(0.7, -0.4),
}


def test_every_kind_of_layer(again):
    kinds = {kind for kind, cls in Saved.kinds.items() if issubclass(cls, Layer) and cls.__module__[:7] == "ntkfast"}
    assert kinds - {"Layer"} == LAYERS.keys()
    for layer in LAYERS.values():
        assert again(layer) == layer


def test_shares_stay_as_they_are():
    for n in range(2, 8):
        layer = nf.Parallel(*[[nf.Dense()]] * n, how="concat", shares=RNG.uniform(size=n))
        assert nf.Parallel(*layer.parts, how="concat", shares=layer.shares) == layer


@pytest.mark.parametrize("dtype", DTYPES)
def test_linearized_networks_and_random_features(dtype, again):
    f = nf.FiniteNetwork.init(NET, 3, 8, 2, rng=0, dtype=dtype)
    linear = nf.linearize(f).train(X, Y, steps=3)
    equal(again(linear)(T), linear(T))
    model = nf.random_feature_model(NET, X.astype(dtype), n_features=5, rng=0)
    equal(again(model)(), model())


def kernels(dtype, net=NET):
    """On the data, between new points and them, and of the new points."""
    x, t = X.astype(dtype), T.astype(dtype)
    return nf.kernels(net, x), nf.kernels(net, t, x), nf.kernels(net, t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [Y[:, 0], Y], ids=["flat", "columns"])
@pytest.mark.parametrize("before", [None, np.inf, 1.0])
def test_flows(dtype, y, before, again, path):
    """Whatever has been computed before: nothing, the Cholesky factor, the eigendecomposition."""
    data, across, new = kernels(dtype)
    flow = nf.LeastSquaresFlow(data.ntk, y, data.nngp)
    if before is not None:
        flow.mean(before, across.ntk)
    found = again(flow)
    assert path.stat().st_size < (1.5 * 30**2 + 100) * 8 + 8000  # one matrix, and half of one for the covariance
    assert repr(found) == repr(flow)
    for t in (np.inf, [0.5, 20.0, np.inf]):
        equal(found.mean(t, across.ntk), flow.mean(t, across.ntk))
        equal(found.mean(t, f0=y), flow.mean(t, f0=y))
        equal(found.loss(t), flow.loss(t))
        new_points = across.ntk, across.nngp, new.nngp
        equal(found.covariance(t, *new_points), flow.covariance(t, *new_points))
        equal(found.samples(t, *new_points, rng=0), flow.samples(t, *new_points, rng=0))
    equal(found.eigenvalues, flow.eigenvalues)
    equal(again(found).mean(3.0), flow.mean(3.0))


def test_flows_of_singular_and_of_coupled_kernels(again):
    points = np.concatenate([X, X])  # of rank 30, for both kernels
    K, S = nf.ntk(NET, points), nf.nngp(NET, points)
    flow = nf.LeastSquaresFlow(K, np.concatenate([Y, Y]), S, overwrite=True, n_threads=1)
    found = again(flow)
    equal(found.null_space_part(), flow.null_space_part())
    equal(found.covariance(1.0), flow.covariance(1.0))
    coupled = np.einsum("ij,ab->ijab", nf.ntk(NET, X), [[1.0, 0.3], [0.3, 2.0]])
    flow = nf.LeastSquaresFlow(coupled, Y)
    equal(again(flow).mean([1.0, np.inf]), flow.mean([1.0, np.inf]))
    process = nf.GaussianProcess(coupled, Y, noise=0.1)
    equal(again(process).leave_one_out().mean, process.leave_one_out().mean)


@pytest.mark.parametrize(
    "options",
    [
        {"y": Y[:, 0]},
        {"y": Y, "f0": Y + 1, "friction": 0.5, "method": "RK45"},
        {"y": np.arange(30) % 3, "loss": "softmax", "method": "BDF", "stop": 0.5},
        {"y": Y[:, 0] > 0, "f0": np.zeros(30), "direction": lambda t, f: f - 1, "stop": lambda t, f: -1.0 - t},
        {"y": Y[:, 0], "stop": 1e9},
    ],
    ids=["plain", "friction", "classes", "direction", "at rest"],
)
def test_flows_of_any_cost(options, again, path):
    data, across, _ = kernels(np.float64)
    flow = nf.kernel_flow(data.ntk, t=[0.0, 1.0, 30.0], **options)
    found = again(flow)
    assert repr(found) == repr(flow)
    for name in ("t", "f", "dual_coefficients"):
        equal(getattr(found, name), getattr(flow, name))
    assert_array_equal(found.loss, flow.loss)
    t = np.linspace(0, flow.t[-1], 50)
    equal(found.predict(t, across.ntk), flow.predict(t, across.ntk))
    equal(found.predict(t, data.ntk, flow._f0), flow.predict(t))
    with pytest.raises(ValueError, match="K_tx: expected the kernel of the data, which is not saved with a flow"):
        found.predict(t)


def test_flows_of_coupled_outputs_and_any_cost(again):
    coupled = np.einsum("ij,ab->ijab", nf.ntk(NET, X), [[1.0, 0.3], [0.3, 2.0]])
    flow = nf.kernel_flow(coupled, Y, t=3.0)
    equal(again(flow).predict(2.0, coupled[:4]), flow.predict(2.0, coupled[:4]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [Y[:, 0], Y], ids=["flat", "columns"])
def test_gaussian_processes(dtype, y, again, path):
    data, across, new = kernels(dtype)
    process = nf.GaussianProcess(data.nngp, y, noise=0.1, n_threads=1)
    found = again(process)
    assert path.stat().st_size < (30 * 31 / 2 + 200) * 8 + 5000  # half a matrix
    assert repr(found) == repr(process)
    equal(found.dual_coefficients, process.dual_coefficients)
    equal(found.mean(across.nngp), process.mean(across.nngp))
    equal(found.covariance(across.nngp, new.nngp), process.covariance(across.nngp, new.nngp))
    equal(found.leave_one_out().variance, process.leave_one_out().variance)
    equal(found.likelihood_gradient(), process.likelihood_gradient())
    assert found.log_marginal_likelihood() == process.log_marginal_likelihood()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centered", [False, True])
def test_principal_components(dtype, centered, again, path):
    data, across, _ = kernels(dtype)
    pca = nf.kernel_pca(data.ntk, 2, centered=centered)
    found = again(pca)
    assert path.stat().st_size < 30 * 2 * 8 + 4000
    assert repr(found) == repr(pca)
    equal(found.explained, pca.explained)
    equal(found.transform(across.ntk), pca.transform(across.ntk))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [None, RNG.uniform(size=30)], ids=["equal", "weights"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": "loo"},
        {"alpha": [0.1, 1.0]},
        {"alpha": np.float32(0.1), "t": 100.0, "activation": "erf"},
        {"network": nf.Network([nf.Dense(), nf.Residual("gelu", nf.Dense()), "relu", nf.Dense()]), "kernel": "nngp"},
    ],
    ids=str,
)
def test_regressors(dtype, weights, options, again, path):
    pytest.importorskip("sklearn")
    for y in (Y, Y[:, 0]):
        model = nf.sklearn.NTKRegressor(**options).fit(X.astype(dtype), y, sample_weight=weights)
        found = again(model)
        assert path.stat().st_size < 20000  # no matrix
        for name, value in model.get_params().items():
            assert type(found.get_params()[name]) is type(value)
            assert_array_equal(found.get_params()[name], value)
        for name in ("alpha_", "alphas_", "loo_scores_", "dual_coef_", "X_fit_", "n_features_in_"):
            if hasattr(model, name):
                equal(getattr(found, name), getattr(model, name))
        points = T.astype(dtype)
        equal(found.predict(points), model.predict(points))
        if np.isinf(model.t):
            equal(found.predict(points, return_std=True)[1], model.predict(points, return_std=True)[1])


@pytest.mark.parametrize("classes", [[0, 1], [-2.0, 3.0, 7.0], ["b", "a", "c"], np.array(["x", 'ü"'], object)], ids=str)
def test_classifiers(classes, again):
    pytest.importorskip("sklearn")
    y = np.asarray(classes)[RNG.integers(len(classes), size=30)]
    model = nf.sklearn.NTKClassifier(alpha="loo").fit(X, y)
    found = again(model)
    equal(found.classes_, model.classes_)
    equal(found.predict(T), model.predict(T))
    equal(found.predict_proba(T), model.predict_proba(T))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": "nngp", "random_state": 3, "n_components": 5},
        {"method": "random", "depth": 2},
        {"method": "random", "kernel": "nngp", "activation": "erf"},
        {"method": "sketch", "bias_std": 0.0},
        {"method": "sketch", "kernel": "nngp"},
        {"method": "sketch", "depth": 1},
    ],
    ids=str,
)
def test_features(dtype, options, again):
    pytest.importorskip("sklearn")
    model = nf.sklearn.NTKFeatures(**{"n_components": 12} | options).fit(X.astype(dtype))
    found = again(model)
    assert found.get_params() == model.get_params()
    equal(found.transform(T.astype(dtype)), model.transform(T.astype(dtype)))
    equal(found.get_feature_names_out(), model.get_feature_names_out())
    assert hasattr(found, "centers_") == hasattr(model, "centers_") == (model.method == "nystroem")
    equal(again(found).transform(T), model.transform(T))


def test_features_with_parts_that_do_not_fit_are_refused(path):
    pytest.importorskip("sklearn")
    model = nf.sklearn.NTKFeatures(n_components=4, method="sketch").fit(X)
    for name, value in (("n_features_in_", 2), ("_dtype", "int8"), ("_features", NET)):
        before = getattr(model, name)
        setattr(model, name, value)
        nf.save(model, path)
        with pytest.raises(ValueError, match=f"{name}: expected"):
            nf.load(path)
        setattr(model, name, before)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"n_inputs": 3', '"n_inputs": 2', "sketch: expected 6 features of 2 inputs, .*, got ValueError"),
        ('"n_inputs": 3', '"n_inputs": -3', "sketch: expected 6 features of -3 inputs, .*, got ValueError"),
        ('"n_features": 6', '"n_features": 5', r"sketch: expected 5 features of 3 inputs, .*, got \(1, 6\)"),
        ('"is_ntk": true', '"is_ntk": false', r"sketch: expected 6 features of 3 inputs, .*, got "),
        ('"sizes": {"tuple": [6, 6, 6]}', '"sizes": {"tuple": [5, 6, 6]}', "sketch: expected 6 features"),
        ('"sizes": {"tuple": [6, 6, 6]}', '"sizes": {"tuple": [6, 5, 6]}', "sketch: expected 6 features"),
        ('"sizes": {"tuple": [6, 6, 6]}', '"sizes": {"tuple": [6, 6, 7]}', "hashes: expected 7 columns, got 6"),
        ('"n": 6', '"n": 60', "hashes: expected 6 columns, got 60"),
        ('"bias": 0.1', '"bias": 0.0', "sketch: expected 6 features of 3 inputs"),
        ('"weight_rate": 1.4142135623730951', '"weight_rate": 0.0', "sketch: expected 6 features of 3 inputs"),
        ('"sizes": {"tuple": [2, 6, 3]}', '"sizes": {"tuple": [0, 6, 3]}', "W: expected shape"),
    ],
)
def test_forged_sketches(old, new, words, path):
    pytest.importorskip("sklearn")
    nf.save(nf.sklearn.NTKFeatures(n_components=6, method="sketch").fit(X), path)
    contents = contents_of(path)
    text = contents["model.json"].decode()
    assert old in text
    forged(path, contents | {"model.json": text.replace(old, new, 1).encode()})
    refused(path, words)


def test_a_sketch_of_more_inputs_than_fit_is_not_tried(path):
    pytest.importorskip("sklearn")
    nf.save(nf.sklearn.NTKFeatures(n_components=6, method="sketch", depth=1).fit(X), path)
    contents = contents_of(path)
    text = contents["model.json"].decode().replace('"n_inputs": 3', f'"n_inputs": {10**13}')
    forged(path, contents | {"model.json": text.encode()})
    refused(path, "sketch: expected .*, got MemoryError: one point needs")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [Y[:, 0], Y], ids=["flat", "columns"])
@pytest.mark.parametrize(
    "options",
    [
        {"n_centers": 12, "alpha": "loo", "rng": 1},
        {"n_centers": X[:9].tolist(), "alpha": [0.1, 1.0], "kernel": "nngp", "dtype": "f4", "n_threads": 1},
        {"n_centers": 12, "alpha": 0.1, "method": "falkon", "rng": np.random.default_rng(0)},
    ],
    ids=["loo", "given", "falkon"],
)
def test_nystrom_regressions(dtype, y, options, again, path):
    model = nf.NystromRegression(NET, **options).fit(X.astype(dtype), y)
    found = again(model)
    assert path.stat().st_size < (12 * 12 + 300) * 8 + 8000  # one matrix of the centres
    assert repr(found) == repr(model)
    assert repr(found.solution) == repr(model.solution)
    for name in ("centers", "alphas", "loo_errors", "dual_coefficients"):
        assert_array_equal(getattr(found, name), getattr(model, name))
    equal(found.predict(T), model.predict(T))
    data = "expected the model that was fitted, got one from a file, which has no data"
    if model.solution.method == "direct":
        equal(found.variance(T, observations=True), model.variance(T, observations=True))
        assert found.log_marginal_likelihood() == model.log_marginal_likelihood()
        equal(found.with_alpha(0.3).predict(T), model.with_alpha(0.3).predict(T))
        with pytest.raises(ValueError, match=f"leave_one_out: {data}"):
            found.leave_one_out()
    else:
        with pytest.raises(ValueError, match=f"with_alpha: {data}"):
            found.with_alpha(0.3)
    if not isinstance(options.get("rng"), np.random.Generator):  # which no file holds
        equal(again(found).fit(X.astype(dtype), y).predict(T), model.fit(X.astype(dtype), y).predict(T))


def test_a_nystrom_regression_before_a_fit_is_refused(path):
    with pytest.raises(ValueError, match="model: NystromRegression: expected a fitted one"):
        nf.save(nf.NystromRegression(NET, 5, 0.1), path)


def test_estimators_before_a_fit_and_with_names(again):
    pandas, sklearn = pytest.importorskip("pandas"), pytest.importorskip("sklearn")
    model = nf.sklearn.NTKRegressor(depth=2, activation=own())
    found = again(model, activations={"mine": model.activation})
    assert found.get_params() == model.get_params()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        found.predict(T)
    table = pandas.DataFrame(X, columns=["a", "b", "ç"])
    model = nf.sklearn.NTKRegressor().fit(table, Y)
    found = again(model)
    equal(found.feature_names_in_, model.feature_names_in_)
    equal(found.predict(table), model.predict(table))
    with pytest.raises(ValueError, match="feature names"):
        found.predict(table.rename(columns={"a": "z"}))


def test_a_network_is_loaded_without_scikit_learn(path):
    nf.save(NET, path)
    code = f"import sys, ntkfast as nf; nf.load({str(path)!r}); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_an_estimator_is_found_by_its_kind(path):
    pytest.importorskip("sklearn")
    nf.save(nf.sklearn.NTKRegressor(depth=2), path)
    code = f"import ntkfast as nf; print(nf.load({str(path)!r}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "NTKRegressor(depth=2)\n"


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        nf.save(finite(NET, 2), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_are_plain_and_can_be_checked_by_others(path):
    f = finite(NET, 2)
    nf.save(f, path)
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    equal(np.load(io.BytesIO(contents["0.npy"]), allow_pickle=False), f.weights[0])
    for line in contents["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(contents[name]).hexdigest() == digest


# --- classes of others


class Pair(Saved):
    """A class of somebody else's that can be saved."""

    def __init__(self, left, right):
        self.left, self.right = left, right

    def described(self):
        return {"left": self.left, "right": self.right}


ARRAYS = [
    np.arange(6.0)[::2],
    np.asfortranarray(np.eye(3)[:, :2]),
    np.array(2, np.int8),
    np.zeros((0, 3)),
    np.array(["a", "bcd"]),
    np.array([b"a"]),
    np.array([True]),
    np.array([1 + 2j]),
    np.array([1, 2], ">i4"),
    np.array(["2020-01-01"], "datetime64[D]"),
    np.array([["x", None], [1, 2.5]], object),
    np.float32(0.1),
    np.float64(0.1),
    np.array([np.nan, -0.0, np.inf]),
]
VALUES = [None, True, 3, 10**30, 0.1, -0.0, np.inf, -np.inf, "ü\udcff\n", (1, (2, [])), [{"": ()}], {"a b": 1}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(value, again):
    found = again(Pair(value, [value])).left
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays(array, again):
    found = again(Pair(array, array))
    equal(found.left, array)
    assert type(found.left) is type(array)
    assert found.left.flags.f_contiguous == np.array(array).flags.f_contiguous
    assert isinstance(array, np.generic) or array.dtype.hasobject or found.left is found.right


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, np.array([object()]), lambda x: x, np.zeros(1, "i4,f8")])
def test_what_no_file_can_hold(value, path):
    with pytest.raises((TypeError, ValueError), match=r"model: expected|name: expected"):
        nf.save(Pair(value, None), path)
    assert not path.exists()


@pytest.mark.parametrize("model", [3, np.eye(2), nf.relu if hasattr(nf, "relu") else "relu", nf.Dense, {"net": NET}])
def test_models_that_are_none(model, path):
    with pytest.raises(TypeError, match=r"^model: expected one of the models that `save` names, got \w+$"):
        nf.save(model, path)
    assert not path.exists()


def test_classes_that_cannot_be_found(path):
    class Local(Pair):
        pass

    nf.save(Local(1, 2), path)
    kind = saved.kind_of(Local)
    del Saved.kinds[kind]
    with pytest.raises(ValueError, match=r"an object of kind '.*Local'; import .* first if that is your own module"):
        nf.load(path)
    with pytest.raises(TypeError, match=r"model: expected a class that can be found by its name, got .*Local"):
        nf.save(Local(1, 2), path)


# --- activations of one's own


def test_own_activations_are_given_again(again, path):
    f = finite(nf.MLP(3, own(), bias_std=0.1))
    equal(again(f, activations={"mine": own(), "other": own("other")})(X), f(X))
    words = r"^activations: expected 'mine', which Activation.from_function made and no file can hold, got {}; "
    words += r"load\(path, activations={{'mine': mine}}\), for .*model\.ntk$"
    with pytest.raises(ValueError, match=words.format("none")):
        nf.load(path)
    with pytest.raises(ValueError, match=words.format("'other'")):
        nf.load(path, activations={"other": own("other")})
    for wrong, got in ((own(phi=np.sin), r"mine\(\), which is -0.86"), (own("other"), r"other\(\), which is -0.97")):
        words = rf"^activations: expected the activation 'mine', which is -0.97\d+ at -2.1, got {got}\d+, for .*ntk$"
        with pytest.raises(ValueError, match=words):
            nf.load(path, activations={"mine": wrong})


def test_own_activations_of_one_name(again, path):
    net = nf.Network([nf.Dense(), own(), nf.Dense(), own(phi=np.sin), nf.Dense()])
    with pytest.raises(ValueError, match=r"^model: expected one object of the name 'mine', .* got two"):
        nf.save(net, path)
    net = nf.Network([nf.Dense(), own(), nf.Dense(), own("my sine", np.sin), nf.Dense()])
    assert again(net, activations={"mine": own(), "my sine": own("my sine", np.sin)}) == net
    with pytest.raises(ValueError, match=r"expected 'mine', 'my sine', .* activations={'mine': mine, 'my sine': …}"):
        nf.load(path)


@pytest.mark.parametrize("wrong", [[own()], {"mine": np.tanh}])
def test_what_is_given_is_checked_first(wrong):
    with pytest.raises(TypeError, match=r"^activations(\['mine'\])?: expected a"):
        nf.load("nowhere", activations=wrong)


# --- files that are something else


def contents_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def forged(path, contents, sums=True, compress=zipfile.ZIP_STORED):
    """A file with these members, and by default with their true checksums."""
    if sums:
        lines = [f"{hashlib.sha256(data).hexdigest()}  {n}\n" for n, data in contents.items() if n != "SHA256SUMS"]
        contents = contents | {"SHA256SUMS": "".join(lines).encode()}
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, data in contents.items():
            file.writestr(name, data)


def refused(path, words):
    """Loading fails with one error that names the path, and within little memory."""
    with pytest.raises(ValueError, match=words) as caught:
        nf.load(path)
    assert str(caught.value).startswith(f"path: expected a file that ntkfast.save wrote, got {path} (")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_other_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", a=np.array([Evil()], dtype=object))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "text").write_text("PK")
    (tmp_path / "nothing").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as file:
        file.writestr("../evil.txt", "x")
    for name in ("array.npy", "model.pkl", "text", "nothing"):
        refused(tmp_path / name, "it is not a zip archive")
    for name in ("arrays.npz", "objects.npz", "some.zip"):
        refused(tmp_path / name, r"it has no model\.json")
    assert not os.path.exists("executed")
    with pytest.raises(FileNotFoundError):
        nf.load(tmp_path / "no such file")
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        nf.load(tmp_path)


def model_json(change):
    """A change of the text of the model."""

    def changed(contents):
        text = contents["model.json"].decode()
        new = change(text) if callable(change) else change
        assert new != text
        return contents | {"model.json": new.encode()}

    return changed


def npy(array, **header):
    """The bytes of an array with another header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array) | header)
    return file.getvalue() + array.tobytes()


def pickled(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def of_kind(text, kind, **described):
    header = json.loads(text) | {"model": {"object": [kind, described]}}
    return json.dumps(header)


WRONG = {
    "no JSON": (model_json("{"), "JSONDecodeError"),
    "no text": (lambda c: c | {"model.json": b"\xff"}, "Unicode"),
    "deep": (model_json("[" * 100000), "RecursionError"),
    "deep objects": (
        model_json(lambda t: t.replace('"model": ', '"model": ' + '{"tuple": [' * 900)[:-1] + "]}" * 900 + "}"),
        "RecursionError",
    ),
    "a list": (model_json("[]"), "TypeError"),
    "twice": (model_json(lambda t: t.replace('"format": 1', '"format": 1, "format": 1')), "two entries"),
    "NaN": (model_json(lambda t: t.replace('"format": 1', '"format": NaN')), "the number NaN"),
    "no format": (model_json(lambda t: t.replace('"format"', '"form"')), "KeyError: 'format'"),
    "format 0": (model_json(lambda t: t.replace('"format": 1', '"format": 0')), "format 0"),
    "format true": (model_json(lambda t: t.replace('"format": 1', '"format": true')), "format True"),
    "given": (model_json(lambda t: t.replace('"given": []', '"given": {}')), "given: {}"),
    "a tag": (model_json(lambda t: t.replace('"tuple"', '"pickle"')), "KeyError: 'pickle'"),
    "no kind": (model_json(lambda t: t.replace('"FiniteNetwork"', '"os.system"')), r"an object of kind 'os\.system'"),
    "kind 3": (model_json(lambda t: t.replace('"FiniteNetwork"', "[]")), "TypeError"),
    "another kind": (model_json(lambda t: t.replace('"FiniteNetwork"', '"Network"')), "TypeError"),
    "a kind inside": (model_json(lambda t: t.replace('["Network"', '["Pair"')), "an object of kind 'Pair'"),
    "no activation": (model_json(lambda t: t.replace('"relu"', '"x"')), "KeyError: 'x'"),
    "a method": (model_json(lambda t: t.replace('"weight_std"', '"emit"')), "TypeError"),
    "a number": (model_json(lambda t: t.replace('"bias_std": 0.3', '"bias_std": -1')), "bias_std: expected"),
    "text": (model_json(lambda t: t.replace('"ntk"}', '"x"}')), "parametrization: expected 'ntk'"),
    "array 99": (model_json(lambda t: t.replace('{"array": 0}', '{"array": 99}')), "no array 99"),
    "array -1": (model_json(lambda t: t.replace('{"array": 0}', '{"array": -1}')), "no array -1"),
    "not given": (model_json(lambda t: t.replace('{"array": 0}', '{"given": "a"}')), "KeyError: 'a'"),
    "no biases": (model_json(lambda t: t.replace('"biases"', '"bias"')), "TypeError"),
    "no model": (lambda c: {k: v for k, v in c.items() if k != "model.json"}, r"it has no model\.json"),
    "no array": (lambda c: {k: v for k, v in c.items() if k != "0.npy"}, r"members of other names: \['5\.npy'\]"),
    "another member": (lambda c: c | {"evil.so": b""}, r"members of other names: \['evil\.so'\]"),
    "outside": (lambda c: c | {"../../evil": b""}, r"members of other names: \['\.\./\.\./evil'\]"),
    "absolute": (lambda c: c | {"/etc/evil": b""}, r"members of other names: \['/etc/evil'\]"),
    "no npy": (lambda c: c | {"0.npy": b"x" * 100}, "magic"),
    "npy 2.0": (lambda c: c | {"0.npy": b"\x93NUMPY\x02\x00" + c["0.npy"][8:]}, r"version \(2, 0\)"),
    "objects": (lambda c: c | {"0.npy": pickled(np.array([Evil()], object))}, "0.npy has dtype object"),
    "fields": (lambda c: c | {"0.npy": npy(np.zeros(1, "i4,f8"))}, "0.npy has dtype"),
    "code": (
        lambda c: c | {"0.npy": c["0.npy"].replace(b"'shape': (", b"'shape': f(")[: len(c["0.npy"])]},
        "malformed",
    ),
    "NaN weights": (lambda c: c | {"0.npy": npy(np.full((6, 3), np.nan))}, r"weights\[0\]: .* got nan"),
    "integers": (lambda c: c | {"0.npy": npy(np.ones((6, 3), int))}, r"weights\[0\]: expected float32 or"),
    "other sizes": (lambda c: c | {"0.npy": npy(np.ones((5, 3)))}, r"weights\[\d\]: expected|biases\[0\]: expected"),
    "longer": (lambda c: c | {"0.npy": c["0.npy"] + b"x"}, "do not suit its"),
    "shorter": (lambda c: c | {"0.npy": c["0.npy"][:-1]}, "do not suit its"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_forged_files(wrong, path, tmp_path, monkeypatch):
    """With correct checksums."""
    monkeypatch.chdir(tmp_path)
    change, words = WRONG[wrong]
    nf.save(nf.FiniteNetwork.init(nf.MLP(3, bias_std=0.3), 3, 6, rng=0), path)
    forged(path, change(contents_of(path)))
    refused(path, words)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "shape", [(2**40, 2**10), (2**62, 2**62), (-1, 3), (-3, -6), (0, 2**62), (10**30, 0), (1,) * 70]
)
def test_headers_that_promise_something_else(shape, path):
    nf.save(finite(NET, 2), path)
    contents = contents_of(path)
    for dtype in ("<f8", "<U1000000000", "V0", "U0"):
        forged(path, contents | {"0.npy": npy(np.ones((6, 3)), shape=shape, descr=dtype)})
        refused(path, "0.npy has|ValueError|header|dimension")


def test_checksums(path):
    nf.save(finite(NET, 2), path)
    contents = contents_of(path)
    other = finite(NET, 2).weights[0] + 1
    for changed, words in (
        ({"0.npy": npy(other)}, r"the SHA-256 of 0\.npy is \w{64}, expected \w{64}"),
        ({"model.json": contents["model.json"] + b" "}, r"the SHA-256 of model\.json is"),
        ({"SHA256SUMS": b"0" * 64 + b"  model.json\n"}, "SHA256SUMS has other names than the archive"),
        ({"SHA256SUMS": b"\x00"}, "ValueError|not enough values"),
    ):
        forged(path, contents | changed, sums=False)
        refused(path, words)
    forged(path, {name: data for name, data in contents.items() if name != "SHA256SUMS"}, sums=False)
    refused(path, "members of other names|it has no SHA256SUMS")


def test_newer_files(path):
    nf.save(NET, path)
    text = contents_of(path)["model.json"].decode()
    text = text.replace('"format": 1', '"format": 2').replace(f'"ntkfast": "{nf.__version__}"', '"ntkfast": "9.9"')
    forged(path, {"model.json": text.encode(), "something else": b""}, sums=False)
    refused(path, r"it has format 2, of ntkfast 9\.9; this is ntkfast .*, which reads format 1: update it")


def test_members_that_are_compressed_or_doubled(path):
    nf.save(finite(NET, 2), path)
    contents = contents_of(path)
    forged(path, contents | {"0.npy": bytes(2**26)}, compress=zipfile.ZIP_DEFLATED)  # a bomb
    assert path.stat().st_size < 2**18
    refused(path, "is compressed")
    forged(path, contents)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as file:
        file.writestr("0.npy", contents["0.npy"])
    refused(path, "two members have the same name")


def test_members_that_overlap(path):
    """Of a file in which many entries of the directory share the same bytes."""
    nf.save(finite(NET, 2), path)
    data = path.read_bytes()
    place = data.index(b"PK\x01\x02")  # the directory's first entry
    end = data.rindex(b"PK\x05\x06")
    first = data.index(b"PK\x01\x02", place + 4)
    entry = bytearray(data[place:first])
    entries = b""
    for k in range(200):
        entry[46:56] = b"%06d.npy" % k  # as long as model.json
        entries += entry
    directory = data[place:end] + entries
    n = data[end:].count(b"") and struct.unpack("<H", data[end + 10 : end + 12])[0] + 200
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(directory), place, 0)
    path.write_bytes(data[:place] + directory + tail)
    refused(path, "its members are larger than the file")


def test_damaged_bytes(path):
    """Cut off anywhere, or with any byte changed: the network, or a ValueError that names the path."""
    nf.save(finite(nf.MLP(1), 1), path)
    whole, errors = path.read_bytes(), []
    for place in range(0, len(whole), 5):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x5B]) + whole[place + 1 :]):
            path.write_bytes(data)
            try:
                assert nf.load(path).net == nf.MLP(1)
            except ValueError as error:
                errors.append(str(error))
    assert len(errors) > 1.5 * len(whole) / 5
    assert all(error.startswith(f"path: expected a file that ntkfast.save wrote, got {path} (") for error in errors)


def memory_limited(code, path):
    """Run code in a process with little memory beyond what it takes to import the library."""
    code = f"import ntkfast as nf, resource\npath = {str(path)!r}\n" + code
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)


def test_hostile_files_take_little_memory(path):
    nf.save(finite(NET, 2), path)
    contents = contents_of(path)
    forged(path, contents | {"0.npy": npy(np.ones((6, 3)), shape=(2**36, 2**3))})
    code = """
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    nf.load(path)
except ValueError as error:
    assert "0.npy has shape" in str(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = memory_limited(code, path)
    assert int(done.stdout) < 2**14, done.stderr  # KiB


KINDS = {
    "LeastSquaresFlow": lambda: nf.LeastSquaresFlow(np.eye(3), np.ones(3), np.eye(3)),
    "KernelFlow": lambda: nf.kernel_flow(np.eye(3), np.ones(3), t=2.0),
    "GaussianProcess": lambda: nf.GaussianProcess(np.eye(3), np.ones(3)),
    "KernelPCA": lambda: nf.kernel_pca(np.eye(3), 2),
    "RandomFeatureModel": lambda: nf.random_feature_model(np.eye(3), n_features=2, rng=0),
    "LinearizedNetwork": lambda: nf.linearize(finite(NET, 2)),
    "NTKRegressor": lambda: nf.sklearn.NTKRegressor(alpha="loo").fit(X, Y),
    "NTKClassifier": lambda: nf.sklearn.NTKClassifier().fit(X, (X[:, 0] > 0) * 1),
    "NTKFeatures, nystroem": lambda: nf.sklearn.NTKFeatures(n_components=7).fit(X),
    "NTKFeatures, random": lambda: nf.sklearn.NTKFeatures(n_components=7, method="random").fit(X),
    "NTKFeatures, sketch": lambda: nf.sklearn.NTKFeatures(n_components=7, method="sketch").fit(X),
}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_that_do_not_suit_the_model(kind, path):
    """Each array in turn has another shape, or another dtype."""
    if kind.startswith("NTK"):
        pytest.importorskip("sklearn")
    nf.save(KINDS[kind](), path)
    contents, refusals = contents_of(path), 0
    arrays = [name for name in contents if name.endswith(".npy")]
    for name in arrays:
        for wrong in (np.ones((2, 5, 1)), np.array(["a"])):
            forged(path, contents | {name: npy(wrong)})
            with contextlib.suppress(ValueError):
                nf.load(path)
                continue
            refusals += 1
    assert refusals == 2 * len(arrays)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"_flat"', '"predict"', r"missing names \['_flat'\], unknown names \['predict'\]"),
        ('"_flat": true', '"_flat": 1', "_flat: expected bool, got 1"),
        ('"n_features_in_": 3', '"n_features_in_": 2', "expected 3 features"),
        ('"depth": 3', '"depth": "x"', "'depth' parameter of NTKRegressor must be"),
        ('"depth"', '"dept"', "unexpected keyword argument 'dept'"),
        ('"alpha_": 1.0', '"alpha_": "x"', "alpha_: expected float, got 'x'"),
    ],
)
def test_forged_estimators(old, new, words, path):
    pytest.importorskip("sklearn")
    nf.save(nf.sklearn.NTKRegressor().fit(X, Y[:, 0]), path)
    contents = contents_of(path)
    text = contents["model.json"].decode()
    assert old in text
    forged(path, contents | {"model.json": text.replace(old, new).encode()})
    refused(path, words)


# --- the file itself


def test_permissions_links_and_long_names(tmp_path):
    f, target, link = finite(NETWORKS["relu"]), tmp_path / "target", tmp_path / "link"
    old = os.umask(0o027)
    try:
        nf.save(f, target)
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640  # as created by open()
    target.chmod(0o604)
    link.symlink_to("target")
    nf.save(f, link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert_array_equal(nf.load(target)(X), f(X))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
    nf.save(f, tmp_path / ("n" * 250))


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("", ValueError, "path: expected a path, got ''"),
        (".", ValueError, "path: expected the name of a file, got '.', which is a directory"),
        (os.devnull, ValueError, f"path: expected the name of a file, got '{os.devnull}', which is not a regular file"),
        ("no/such/folder", FileNotFoundError, "No such file or directory: 'no/such/folder'"),
        (3, TypeError, "int"),
    ],
)
def test_paths_that_are_no_files(path, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(words)):
        nf.save(NET, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("call", [0, 2])
def test_a_save_that_fails_leaves_the_old_file(error, call, path, monkeypatch):
    """At the first array, and at the third."""
    nf.save(finite(NETWORKS["relu"]), path)
    before, calls = path.read_bytes(), []

    def fail(file, *args, **options):
        calls.append(file)
        if len(calls) > call:
            file.write(b"begun")
            raise error
        return written(file, *args, **options)

    written = np.lib.format.write_array
    monkeypatch.setattr(archive.np.lib.format, "write_array", fail)
    with pytest.raises(type(error)) as caught:
        nf.save(finite(NETWORKS["mixed"]), path)
    assert isinstance(error, KeyboardInterrupt) or str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk(path):
    """A real one: the limit of the process on the size of files."""
    nf.save(NET, path)
    before = path.read_bytes()
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    nf.save(nf.FiniteNetwork.init(nf.MLP(2), 100, 1000, rng=0), path)
except OSError as error:
    print(error)
"""
    assert str(path) in memory_limited(code, path).stdout
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupt_while_loading_is_none_of_the_files_fault(path, monkeypatch):
    nf.save(finite(NET, 2), path)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nf.load(path)


LACKS = {
    "NumPy": SystemError("<ufunc 'add'> returned NULL without setting an exception"),
    "OpenSSL": ValueError("[digital envelope routines] initialization error"),
    "locks": RuntimeError("can't allocate lock"),
    "the system": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "what cleans up": ValueError("Can't close the ZIP file while there is an open writing handle on it"),
}
LACKS["what cleans up"].__context__ = MemoryError()


@pytest.mark.parametrize("name", LACKS)
def test_a_lack_of_memory_that_libraries_hide(name, path, monkeypatch):
    nf.save(nf.MLP(2), path)
    before = path.read_bytes()

    def lacking(*args):
        raise LACKS[name]

    monkeypatch.setattr(archive.hashlib, "sha256", lacking)
    with pytest.raises(MemoryError, match=r"^path: there is no memory to write .*model\.ntk"):
        nf.save(nf.MLP(3), path)
    assert path.read_bytes() == before
    with pytest.raises(MemoryError, match=r"^path: the arrays of .*model\.ntk do not fit"):
        nf.load(path)


def test_arrays_that_do_not_fit(path, monkeypatch):
    nf.save(finite(NET, 2), path)

    def require(n_bytes, what, hint=""):
        raise MemoryError(f"{what} needs more")

    monkeypatch.setattr(archive.memory, "require", require)
    with pytest.raises(MemoryError, match=r"^path: the arrays of .*model\.ntk do not fit \(0\.npy needs more\)"):
        nf.load(path)
