"""ntkfast.neural_tangents against values that neural-tangents 0.6.5 computed in float64 (tests/data)."""

import dataclasses
import re
import warnings
from pathlib import Path

import neural_tangents_cases as cases
import numpy as np
import pytest
import scipy.special

import ntkfast as nf
from ntkfast import neural_tangents as nt
from ntkfast.engine.duals import dual_matrices
from ntkfast.neural_tangents import stax
from ntkfast.neural_tangents.arrays import leaves, mapped
from ntkfast.neural_tangents.triples import block_of

VALUES = np.load(Path(__file__).parent / "data" / "neural_tangents.npz")
X1, X2 = VALUES["x1"], VALUES["x2"]

# Rounding, also of polynomials of degree 5, and the eps of 1e-12 of LayerNorm, which we leave out.
CLOSE = 1e-10
# There ρ = 1 of a point with itself is rounded to 1 - 1e-16, where slopes with kinks have an infinite derivative.
SAME_POINT = 1e-8
# ElementwiseNumerical: of tanh at these variances a rule of 200 points has errors of 4e-9, without df exact.
QUADRATURE = 1e-8


def silu(x):
    return x * scipy.special.expit(x)


def erf_dual(c, q1, q2):
    return np.arcsin(2 * c / np.sqrt((1 + 2 * q1) * (1 + 2 * q2))) * 2 / np.pi


def limits():
    """Name -> (kernel_fn, first points, second points, accuracy)."""
    found = {name: (layer[2], X1, X2, CLOSE) for name, layer in cases.networks(stax).items()}
    images = VALUES["images1"], VALUES["images2"]
    found |= {name: (layer[2], *images, CLOSE) for name, layer in cases.flattened(stax).items()}
    for name, fn in (("tanh", np.tanh), ("swish", silu)):
        layer = cases.hidden(stax, stax.ElementwiseNumerical(fn, 200))
        found[f"numerical/{name}"] = layer[2], X1, X2, QUADRATURE
    found["given"] = cases.hidden(stax, stax.Elementwise(scipy.special.erf, erf_dual))[2], X1, X2, CLOSE
    return found


LIMITS = limits()


@pytest.fixture(autouse=True)
def no_warnings_of_fans():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="branches of a Kernel")
        yield


def close(value, name, accuracy):
    """Whether it is the stored value, to this accuracy relative to the largest entry; any number for NaN."""
    expected = VALUES[name]
    assert value.shape == expected.shape
    assert np.isfinite(value).all()
    known = np.isfinite(expected)  # RectifiedMonomial has NaN for variances and at ρ = 1
    return (np.abs(value - expected)[known] <= accuracy * np.abs(value).max()).all()


def require_kernels(k, name, accuracy):
    for field in ("nngp", "ntk"):
        assert close(getattr(k, field), f"{name}:{field}", accuracy), field
    for field in ("cov1", "cov2"):
        if VALUES[f"{name}:{field}"].ndim == 1:  # a matrix after DotGeneral
            assert close(getattr(k, field), f"{name}:{field}", accuracy), field
    assert k.is_gaussian == VALUES[f"{name}:is_gaussian"]
    if "ExpNormalized" not in name:  # whose widths are lost there
        assert k.shape1 == tuple(VALUES[f"{name}:shape"])


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name):
    kernel_fn, a, b, accuracy = LIMITS[name]
    k = kernel_fn(a, b, None)
    require_kernels(k, name, accuracy)
    assert not k.x1_is_x2
    both = kernel_fn(a, b, ("ntk", "nngp"))
    assert both._fields == ("ntk", "nngp")
    np.testing.assert_array_equal(both.ntk, k.ntk)
    np.testing.assert_array_equal(kernel_fn(a, b, "nngp"), k.nngp)


@pytest.mark.parametrize("name", LIMITS)
def test_limit_of_a_set_with_itself(name):
    kernel_fn, a, _, accuracy = LIMITS[name]
    k = kernel_fn(a, None, None)
    assert k.x1_is_x2
    assert k.cov2 is None
    for field in ("nngp", "ntk"):
        value, expected = getattr(k, field), VALUES[f"{name}/symmetric:{field}"]
        off = ~np.eye(len(a), dtype=bool)
        size = np.abs(value).max()
        assert np.abs(value - expected)[off].max() <= accuracy * size
        known = np.isfinite(expected)
        assert np.abs(value - expected)[known].max() <= max(accuracy, SAME_POINT) * size
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, value.T)
    np.testing.assert_allclose(k.nngp.diagonal(), k.cov1, rtol=1e-14)


@pytest.mark.parametrize("name", LIMITS)
def test_limit_layer_by_layer(name):
    """The matrices of a Kernel go through the layers as the points do."""
    kernel_fn, a, b, accuracy = LIMITS[name]
    for second in (b, None):
        start = stax.Identity()[2](a.reshape(len(a), -1), None if second is None else b.reshape(len(b), -1), None)
        start = start.replace(shape1=a.shape, shape2=a.shape if second is None else b.shape)
        k = kernel_fn(start)
        if second is not None:
            require_kernels(k, name, accuracy)
        else:
            expected = kernel_fn(a, None, None)
            np.testing.assert_allclose(k.ntk, expected.ntk, atol=max(1e-10, accuracy) * np.abs(expected.ntk).max())


def test_every_layer_is_compared():
    used = {name.split("/")[-1].split("_")[0] for name in LIMITS}
    used |= {"Dense", "DotGeneral", "Dropout", "Flatten", "LayerNorm", "FanOut", "Sigmoid", "ABRelu"}
    missing = set(stax.__all__) - used - {"layer", "parallel", "serial", "repeat", "Sigmoid_like"}
    missing -= {"Elementwise", "ElementwiseNumerical"}  # given, numerical
    refused = {name for name in missing if "Not here" in getattr(stax, name).__doc__}
    assert missing == refused


# ---- predictions ----------------------------------------------------------------------------------------------------

Y, F_D, F_T = VALUES["y"], VALUES["f_d"], VALUES["f_t"]
T = np.array(cases.TIMES)
NETWORK = cases.networks(stax)["dense/ntk/value"][2]
K_DD, K_TD, K_TT = (
    NETWORK(X1, None, ("nngp", "ntk")),
    NETWORK(X2, X1, ("nngp", "ntk")),
    NETWORK(X2, None, ("nngp", "ntk")),
)

# Rounding of the diagonal there, SAME_POINT of the kernel, times its condition number of about 30.
LEARNED = 1e-6
# Both solvers of the differential equation are accurate to some 1e-8 in each step.
SOLVED = 1e-6


def require_close(value, name, accuracy):
    expected = VALUES[name]
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=0, atol=accuracy * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse", {}),
        ("mse/reg", {"learning_rate": 0.3, "diag_reg": 1e-2}),
        ("mse/absolute", {"diag_reg": 0.1, "diag_reg_absolute_scale": True}),
    ],
)
def test_gradient_descent_mse(name, options):
    predict_fn = nt.predict.gradient_descent_mse(K_DD.ntk, Y, **options)
    train, test = predict_fn(T, F_D, F_T, K_TD.ntk)
    require_close(train, f"predict/{name}:train", LEARNED)
    require_close(test, f"predict/{name}:test", LEARNED)
    require_close(predict_fn(T), f"predict/{name}:zero", LEARNED)
    require_close(predict_fn(T, None, 0.0, K_TD.ntk), f"predict/{name}:zero_test", LEARNED)
    train, test = predict_fn(None, F_D, F_T, K_TD.ntk)
    require_close(train, f"predict/{name}/inf:train", LEARNED)
    require_close(test, f"predict/{name}/inf:test", LEARNED)
    np.testing.assert_allclose(predict_fn(T.reshape(2, 2)).reshape(4, *Y.shape), predict_fn(T))
    np.testing.assert_allclose(predict_fn(0.7, F_D), predict_fn(T, F_D)[1])


def test_gradient_descent_mse_of_coupled_outputs():
    k_dd, k_td, y = (VALUES[f"coupled:{name}"] for name in ("k_dd", "k_td", "y"))
    predict_fn = nt.predict.gradient_descent_mse(k_dd, y, trace_axes=())
    for t, name in ((T, "predict/coupled"), (None, "predict/coupled/inf")):
        train, test = predict_fn(t, 0.0, 0.0, k_td)
        require_close(train, f"{name}:train", LEARNED)
        require_close(test, f"{name}:test", LEARNED)


def test_axes_of_outputs_in_any_place():
    """Outputs before points, and several axes of them, are the same functions."""
    y = np.random.default_rng(0).standard_normal((2, 6, 3))
    predict_fn = nt.predict.gradient_descent_mse(K_DD.ntk, y, trace_axes=(0, -1))
    one = nt.predict.gradient_descent_mse(K_DD.ntk, y[1], learning_rate=0.5)
    np.testing.assert_allclose(predict_fn(T)[:, 1], one(T), rtol=1e-10)
    train, test = predict_fn(3.0, 0.0, 1.0, K_TD.ntk)
    assert train.shape == (2, 6, 3)
    assert test.shape == (2, 4, 3)
    np.testing.assert_allclose(test[1], one(3.0, 0.0, 1.0, K_TD.ntk)[1], rtol=1e-10)


def squares(fx, y):
    return 0.5 * np.mean((fx - y) ** 2)


def cross_entropy(fx, y):
    fx = fx - fx.max(axis=1, keepdims=True)
    return -np.mean((fx - np.log(np.exp(fx).sum(axis=1, keepdims=True))) * y)


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize(
    ("name", "loss", "y"), [("squares", squares, Y), ("cross_entropy", cross_entropy, VALUES["labels"])]
)
def test_gradient_descent(name, loss, y, momentum):
    predict_fn = nt.predict.gradient_descent(loss, K_DD.ntk, y, 0.5, momentum)
    train, test = predict_fn(T[:3], F_D, F_T, K_TD.ntk)
    require_close(train, f"predict/{name}/{momentum}:train", SOLVED)
    require_close(test, f"predict/{name}/{momentum}:test", SOLVED)
    state = predict_fn(T[:3], nt.predict.ODEState(F_D, F_T), None, K_TD.ntk)
    np.testing.assert_array_equal(state.fx_train, train)
    if momentum:
        require_close(state.qx_train, f"predict/{name}/{momentum}:qx_train", SOLVED)
        require_close(state.qx_test, f"predict/{name}/{momentum}:qx_test", SOLVED)
        last = nt.predict.ODEState(
            *(array[1] for array in (state.fx_train, state.fx_test, state.qx_train, state.qx_test))
        )
        resumed = predict_fn(T[2] - T[1], last, None, K_TD.ntk)
        np.testing.assert_allclose(resumed.fx_train, train[2], atol=SOLVED)
        np.testing.assert_allclose(resumed.fx_test, test[2], atol=SOLVED)
        np.testing.assert_allclose(resumed.qx_test, state.qx_test[2], atol=SOLVED)


@pytest.mark.parametrize("get", ["nngp", "ntk", "ntkgp"])
def test_gp_inference(get):
    predict_fn = nt.predict.gp_inference(K_DD, Y, diag_reg=1e-3)
    mean, covariance = predict_fn(get, K_TD, K_TT)
    require_close(mean, f"gp/{get}:mean", LEARNED)
    require_close(covariance, f"gp/{get}:covariance", LEARNED)
    np.testing.assert_array_equal(predict_fn(get, K_TD), mean)
    on_data = predict_fn((get,), None, True)
    assert type(on_data).__name__ == "Gaussians"
    np.testing.assert_array_equal(on_data[0].mean, Y)
    assert not on_data[0].covariance.any()


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("options", [{}, {"diag_reg": 1e-2, "learning_rate": 2.0}])
def test_ensemble(get, options):
    predict_fn = nt.predict.gradient_descent_mse_ensemble(NETWORK, X1, Y, **options)
    for points, where in ((None, "train"), (X2, "test")):
        for t, when in ((T, ""), (None, "/inf")):
            name = f"ensemble/{len(options)}/{get}/{where}{when}"
            mean, covariance = predict_fn(t, points, get, compute_cov=True)
            require_close(mean, f"{name}:mean", LEARNED)
            require_close(covariance, f"{name}:covariance", LEARNED)
            np.testing.assert_array_equal(predict_fn(t, points, get), mean)
    assert predict_fn(t=1.0, x_test=X2)._fields == ("nngp", "ntk")


def test_max_learning_rate():
    found = nt.predict.max_learning_rate(K_DD.ntk, Y.size), nt.predict.max_learning_rate(K_DD.ntk, Y.size, momentum=0.9)
    assert found[0] == pytest.approx(VALUES["max_learning_rate:plain"], rel=1e-8)
    assert found[1] == pytest.approx(VALUES["max_learning_rate:momentum"], rel=1e-8)
    coupled = VALUES["coupled:k_dd"]
    assert nt.predict.max_learning_rate(coupled) == pytest.approx(nf.max_learning_rate(coupled) * 3, rel=1e-8)


# ---- finite width ---------------------------------------------------------------------------------------------------

FINITE = cases.finite(stax)


def given(name):
    """apply_fn, parameters, others, first points, second points."""
    init_fn, apply_fn, _ = FINITE[name]
    a, b = (VALUES["images1"], VALUES["images2"]) if name == "flatten" else (X1, X2)
    _, params = init_fn(0, a.shape)
    trees = []
    for which in ("at", "moved"):
        count = iter(range(100))
        trees.append(mapped(lambda _: VALUES[f"finite/{name}/params/{next(count)}:{which}"], params))  # noqa: B023
    return apply_fn, *trees, a, b


@pytest.mark.parametrize("name", FINITE)
def test_apply_and_shapes(name):
    apply_fn, params, _, a, b = given(name)
    require_close(apply_fn(params, a), f"finite/{name}:f1", CLOSE)
    require_close(apply_fn(params, b), f"finite/{name}:f2", CLOSE)
    init_fn = FINITE[name][0]
    shape, own = init_fn(0, (-1, *a.shape[1:]))
    assert shape == (-1, VALUES[f"finite/{name}:f1"].shape[1])
    assert [leaf.shape for leaf in leaves(own)] == [leaf.shape for leaf in leaves(params)]


AXES = {"trace": ((-1,), ()), "full": ((), ()), "diagonal": ((), (-1,)), "points": ((-1,), (0,)), "all": ((0, 1), ())}


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("name", FINITE)
def test_empirical_kernels(name, kind):
    apply_fn, params, _, a, b = given(name)
    kernel_fn = nt.empirical_kernel_fn(apply_fn, *AXES[kind])
    for where, other in (("rectangle", b), ("symmetric", None)):
        if f"finite/{name}/{kind}/{where}:ntk" in VALUES:
            k = kernel_fn(a, other, ("nngp", "ntk"), params)
            require_close(k.nngp, f"finite/{name}/{kind}/{where}:nngp", CLOSE)
            require_close(k.ntk, f"finite/{name}/{kind}/{where}:ntk", CLOSE)
    alone = nt.empirical_ntk_fn(apply_fn, *AXES[kind])(a, None, params)
    np.testing.assert_array_equal(alone, kernel_fn(a, None, "ntk", params))


@pytest.mark.parametrize("name", FINITE)
def test_products_with_the_empirical_kernel(name):
    apply_fn, params, _, a, b = given(name)
    for where, other in (("rectangle", b), ("symmetric", None)):
        shape = apply_fn(params, a if other is None else other).shape
        cotangents = np.cos(np.arange(np.prod(shape))).reshape(shape)
        product = nt.empirical_ntk_vp_fn(apply_fn, a, other, params)(cotangents)
        require_close(product, f"finite/{name}/product/{where}:value", CLOSE)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("name", FINITE)
def test_taylor_expansions(name, degree):
    apply_fn, params, moved, a, _ = given(name)
    f = nt.taylor_expand(apply_fn, params, degree)
    if degree:
        require_close(f(moved, a), f"finite/{name}/taylor/{degree}:value", CLOSE)
    np.testing.assert_allclose(f(params, a), apply_fn(params, a), rtol=1e-13)
    if degree == 1:
        np.testing.assert_array_equal(nt.linearize(apply_fn, params)(moved, a), f(moved, a))


ELEMENTWISE = cases.activations(stax) | {"Hermite": stax.Hermite(4)}
OF_ONE_NUMBER = [name for name in ELEMENTWISE if name != "Identity" and "ExpNormalized" not in name]


@pytest.mark.parametrize("name", OF_ONE_NUMBER)
def test_derivatives_of_activations(name):
    """Each derivative is that of the one before, by differences."""
    layer = ELEMENTWISE[name]
    block = block_of(layer[1])
    x, h = np.array([-1.7, -0.4, 0.3, 0.9, 2.1]), 1e-5
    found, above, below = (block.series(x + shift, 4) for shift in (0, h, -h))
    np.testing.assert_allclose(found[0], layer[1]((), x[None])[0], rtol=1e-13, atol=1e-15)
    for k in range(4):
        np.testing.assert_allclose(found[k + 1], (above[k] - below[k]) / (2 * h), rtol=1e-6, atol=1e-6)


def test_monte_carlo():
    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(300, 1.2, 0.1), stax.Erf(), stax.Dense(1))
    sampled = nt.monte_carlo_kernel_fn(init_fn, apply_fn, 1, [5, 60])
    expected = kernel_fn(X1, X2, ("nngp", "ntk"))
    few, many = sampled(X1, X2, ("nngp", "ntk"))
    assert type(many).__name__ == "MonteCarloKernel"
    errors = [np.abs(k.ntk - expected.ntk).max() for k in (few, many)]
    assert errors[1] < 0.25
    assert errors[1] < errors[0]
    again = nt.monte_carlo_kernel_fn(init_fn, apply_fn, 1, 5)(X1, X2, "ntk")
    np.testing.assert_array_equal(again, few.ntk)
    predict_fn = nt.predict.gradient_descent_mse_ensemble(
        nt.monte_carlo_kernel_fn(init_fn, apply_fn, 1, 60), X1, Y, diag_reg=1e-2
    )
    exact = nt.predict.gradient_descent_mse_ensemble(kernel_fn, X1, Y, diag_reg=1e-2)
    np.testing.assert_allclose(predict_fn(5.0, X2, "ntk"), exact(5.0, X2, "ntk"), atol=0.2)


# ---- what users rely on ---------------------------------------------------------------------------------------------

DOCS = (Path(__file__).parent.parent / "docs" / "neural-tangents.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (same|differs|not here) \|", DOCS, re.MULTILINE))


def test_the_docs_list_every_name():
    ours = {name for name in nt.__all__ if name not in ("predict", "stax")}
    ours |= {f"{module}.{name}" for module in ("predict", "stax") for name in getattr(nt, module).__all__}
    assert ours <= set(ROWS)
    assert {name for name in set(ROWS) - ours if ROWS[name] != "not here"} == set()
    refused = {name for name in ours if ROWS[name] == "not here"}
    assert len(refused) == 11
    for name in refused:
        with pytest.raises(NotImplementedError, match=f"{name.split('.')[1]}: .*Flatten, Dense"):
            getattr(stax, name.split(".")[1])(3, (3, 3))


def test_a_replaced_kernel():
    """Layers act on the matrices that a Kernel has, whatever they are."""
    k = stax.Dense(8, 1.5, 0.1)[2](X1, X2, None)
    changed = k.replace(nngp=0.5 * k.nngp, ntk=np.ones_like(k.ntk))
    found = stax.Relu()[2](changed)
    for i, j in ((0, 0), (5, 3)):
        q1, q2, c = k.cov1[i], k.cov2[j], 0.5 * k.nngp[i, j]
        assert found.nngp[i, j] == pytest.approx(nf.dual("relu", q1, q2, c), rel=1e-13)
        assert found.ntk[i, j] == pytest.approx(nf.dual_derivative("relu", q1, q2, c), rel=1e-13)
    assert stax.Relu()[2](changed, get="nngp")[0, 0] == found.nngp[0, 0]
    assert stax.Relu()[2](k.replace(ntk=None)).ntk is None


def test_full_covariances():
    kernel_fn = cases.networks(stax)["residual"][2]
    k = kernel_fn(X1, X2, None, diagonal_batch=False)
    np.testing.assert_array_equal(k.cov1, kernel_fn(X1, None, "nngp"))
    by_layers = kernel_fn(stax.Identity()[2](X1, X2, None, diagonal_batch=False))
    np.testing.assert_allclose(by_layers.cov1, k.cov1, rtol=1e-10)
    np.testing.assert_allclose(by_layers.cov2, k.cov2, rtol=1e-10)
    assert not k.diagonal_batch


def test_methods_of_a_kernel():
    k = cases.networks(stax)["residual"][2](X1, X2, None)
    part = k.slice(slice(1, 3), slice(0, 2))
    np.testing.assert_array_equal(part.ntk, k.ntk[1:3, :2])
    assert part.shape1 == (2, 1)
    np.testing.assert_allclose((2 * k).cov1, 4 * k.cov1)
    np.testing.assert_allclose((k / 2).ntk, k.ntk / 4)
    np.testing.assert_allclose((k + 3.0).nngp, k.nngp + 9)
    np.testing.assert_array_equal((k - 3.0).ntk, k.ntk)
    assert (-k) is k
    assert (+k) is k
    assert list(k.asdict()) == [field.name for field in dataclasses.fields(nt.Kernel)]
    assert k.astuple()[0] is k.nngp
    assert k.reverse().is_reversed
    assert k.transpose((0,)) is k
    symmetric = cases.networks(stax)["residual"][2](X1, None, None, diagonal_batch=False).slice(slice(2), slice(1, 3))
    np.testing.assert_array_equal(symmetric.cov1, symmetric.cov1.T)


def test_equal_points_are_recognised():
    kernel_fn = cases.networks(stax)["Dropout"][2]
    np.testing.assert_array_equal(kernel_fn(X1, X1.copy(), "ntk"), kernel_fn(X1, None, "ntk"))
    assert kernel_fn(X1, X1.copy(), "x1_is_x2")
    k = kernel_fn(X1, X1.copy(), None)
    np.testing.assert_array_equal(k.cov1, k.cov2)


def test_several_inputs():
    """Branches of several inputs are joined as matrices."""
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.parallel(stax.serial(stax.Dense(4, 1.2), stax.Erf(), stax.Dense(3)), stax.Dense(3)),
        stax.FanInSum(),
        stax.Relu(),
        stax.Dense(1),
    )
    other = np.cos(X1)
    k = kernel_fn([X1, other], None, ("nngp", "ntk"))
    a, b = (
        stax.serial(*layers)[2](x, None, None)
        for layers, x in (((stax.Dense(4, 1.2), stax.Erf(), stax.Dense(3)), X1), ((stax.Dense(3),), other))
    )
    expected = stax.serial(stax.Relu(), stax.Dense(1))[2](
        a.replace(nngp=a.nngp + b.nngp, ntk=a.ntk + b.ntk, cov1=a.cov1 + b.cov1)
    )
    np.testing.assert_allclose(k.nngp, expected.nngp, rtol=1e-13)
    np.testing.assert_allclose(k.ntk, expected.ntk, rtol=1e-13)
    shape, params = init_fn(0, [X1.shape, other.shape])
    assert shape == (6, 1)
    assert apply_fn(params, [X1, other]).shape == (6, 1)
    both = stax.serial(stax.Dense(2), stax.FanOut(2))[2](X1, X2, "ntk")
    assert isinstance(both, list)
    np.testing.assert_array_equal(both[0], both[1])


def test_layers_of_ones_own():
    @stax.layer
    def Twice(scale=1.0):
        return (lambda rng, shape: (shape, ())), (lambda params, x, **kwargs: 2 * scale * x), lambda k, **kwargs: k * 2

    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(8), Twice(), stax.Relu(), stax.Dense(1))
    expected = stax.serial(stax.Dense(8), stax.DotGeneral(rhs=2.0), stax.Relu(), stax.Dense(1))
    np.testing.assert_allclose(kernel_fn(X1, X2, "ntk"), expected[2](X1, X2, "ntk"), rtol=1e-12)
    _, params = init_fn(3, X1.shape)
    np.testing.assert_array_equal(apply_fn(params, X1), expected[1](params, X1))
    assert Twice.__name__ == "Twice"


def test_dropout_draws_masks():
    init_fn, apply_fn, _ = stax.serial(stax.Dense(1000), stax.Dropout(0.25))
    _, params = init_fn(0, (-1, 5))
    clean = stax.Dense(1000)[1](params[0], X1)
    found = apply_fn(params, X1, rng=7)
    kept = found != 0
    assert 0.23 < kept.mean() < 0.27
    np.testing.assert_allclose(found[kept], 4 * clean[kept])
    np.testing.assert_array_equal(apply_fn(params, X1, rng=7), found)


def test_keys():
    init_fn = stax.serial(stax.Dense(3), stax.Relu(), stax.Dense(2, b_std=1.0))[0]
    first = [
        leaves(init_fn(rng, (-1, 4))[1]) for rng in (5, 5, np.random.default_rng(1), np.array([0, 5], np.uint32), None)
    ]
    assert all((a == b).all() for a, b in zip(first[0], first[1], strict=True))
    assert len({leaf[0][0, 0] for leaf in first}) == 4
    generator = np.random.default_rng(2)
    assert (leaves(init_fn(generator, (-1, 4))[1])[0] != leaves(init_fn(generator, (-1, 4))[1])[0]).all()
    with pytest.raises(TypeError, match="rng: expected a JAX key"):
        init_fn("key", (-1, 4))


def test_float32():
    kernel_fn = cases.networks(stax)["residual"][2]
    k = kernel_fn(X1.astype(np.float32), X2.astype(np.float32), "ntk")
    assert k.dtype == np.float32
    np.testing.assert_allclose(k, kernel_fn(X1, X2, "ntk"), rtol=1e-5)


def test_batch():
    kernel_fn = cases.networks(stax)["residual"][2]
    np.testing.assert_array_equal(nt.batch(kernel_fn, batch_size=3)(X1, X2, "ntk"), kernel_fn(X1, X2, "ntk"))


RELU = stax.serial(stax.Dense(4), stax.Relu(), stax.Dense(1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: stax.Relu()[2](X1, None), ValueError, "Relu: expected Gaussian values"),
        (
            lambda: stax.serial(stax.Dense(2), stax.Flatten(), stax.Erf())[2](X1, None),
            ValueError,
            "Erf: expected Gaussian",
        ),
        (lambda: stax.LayerNorm()[2](X1, None), NotImplementedError, "LayerNorm: expected Gaussian"),
        (lambda: RELU[2](X1[0], None), ValueError, "x1: expected at least two axes"),
        (lambda: RELU[2](X1, X2[:, :3]), ValueError, r"x2: expected points of shape \(5,\)"),
        (lambda: RELU[2](X1 * 1j, None), TypeError, "x1: expected an array of real numbers"),
        (lambda: RELU[2](VALUES["images1"], None), NotImplementedError, "Dense: .*put Flatten"),
        (lambda: stax.Identity()[2](VALUES["images1"], None, "nngp"), NotImplementedError, "Flatten"),
        (lambda: RELU[2](X1, None, "cov3"), ValueError, "get.*cov3"),
        (lambda: RELU[2](X1, None, ()), ValueError, "get.*at least one"),
        (lambda: RELU[2](X1, None, ("ntk", "NTK")), ValueError, "get.*different"),
        (lambda: RELU[2](X1, None, pattern=(X1, X1)), NotImplementedError, "pattern"),
        (lambda: RELU[2](X1, None, mask_constant=X1[0, 0]), NotImplementedError, "mask_constant"),
        (lambda: stax.Dense(3, parameterization="mup"), ValueError, "parameterization: expected 'ntk' or 'standard'"),
        (lambda: stax.Dense(3, channel_axis=0), NotImplementedError, "Dense: expected channel_axis=-1"),
        (lambda: stax.Dropout(0.0), ValueError, "rate"),
        (lambda: stax.Dropout(0.5, mode="eval"), ValueError, "mode"),
        (lambda: stax.serial(stax.Dense(3), "relu"), TypeError, "layers: expected triples"),
        (lambda: stax.serial(), ValueError, "layers"),
        (lambda: stax.RectifiedMonomial(-1), NotImplementedError, "degree"),
        (lambda: stax.Elementwise(), ValueError, "fn: expected"),
        (lambda: stax.DotGeneral(rhs=np.ones(3)), NotImplementedError, "DotGeneral: expected a number"),
        (lambda: stax.DotGeneral(lhs=1.0, rhs=2.0), ValueError, "rhs"),
        (lambda: stax.repeat(stax.Dense(3), 2)[0](0, (-1, 5)), ValueError, "layer: expected outputs of the shape"),
        (lambda: nt.predict.gradient_descent_mse(K_DD.ntk, Y)(1.0, None, None), ValueError, "fx_train_0"),
        (lambda: nt.predict.gradient_descent_mse(K_DD.ntk, Y)(1.0, 0.0, 0.0), ValueError, "k_test_train"),
        (lambda: nt.predict.gradient_descent_mse(K_DD.ntk, Y[:4]), ValueError, "k_train_train: expected pairs"),
        (lambda: nt.predict.gradient_descent(squares, K_DD.ntk, Y)(None), ValueError, "t: expected finite"),
        (lambda: nt.predict.gp_inference(K_DD.ntk, Y)("ntk", K_TD.ntk, K_TT.nngp), ValueError, "nngp and ntk"),
        (lambda: nt.predict.gp_inference(K_DD, Y)("gp"), ValueError, "get"),
        (lambda: nt.empirical_ntk_fn(len)(X1, None, None), TypeError, "f: expected an apply_fn"),
        (lambda: nt.empirical_ntk_fn(RELU[1], implementation=7), ValueError, "7"),
        (lambda: nt.monte_carlo_kernel_fn(*RELU[:2], 0, [1, 0.5]), ValueError, "n_samples"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["relu", "erf", "sign", "gelu", "tanh", "rbf", "exp_normalized", "hardtanh"])
@pytest.mark.parametrize(("n", "m"), [(3, 700), (140, 5)])
def test_duals_of_matrices_are_those_of_pairs(name, n, m):
    rng = np.random.default_rng(n)
    q1, q2 = rng.uniform(0.1, 3, n), rng.uniform(0.1, 3, m)
    q1[0] = 0
    c = rng.uniform(-1, 1, (n, m)) * np.sqrt(q1[:, None] * q2)
    value, slope = dual_matrices(nf.activations.get(name), q1, q2, c)
    expected = nf.dual(name, q1[:, None], q2, c), nf.dual_derivative(name, q1[:, None], q2, c)
    np.testing.assert_allclose(value, expected[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(slope[1:], expected[1][1:], rtol=1e-8, atol=1e-8)


def test_dependent_branches_count_as_such():
    """x + x is 2 x; a product of a branch with its own input is refused. Matrices cannot tell, and warn."""
    copies = stax.FanOut(2), stax.parallel(stax.Identity(), stax.Identity())
    twice = stax.serial(stax.Dense(4), *copies, stax.FanInSum(), stax.Relu(), stax.Dense(1))
    expected = stax.serial(stax.Dense(4), stax.DotGeneral(rhs=2.0), stax.Relu(), stax.Dense(1))
    np.testing.assert_allclose(twice[2](X1, X2, "ntk"), expected[2](X1, X2, "ntk"), rtol=1e-13)
    with pytest.raises(ValueError, match="expected independent branches of the product"):
        stax.serial(stax.Dense(4), *copies, stax.FanInProd(), stax.Dense(1))[2](X1, X2, "ntk")
    k = stax.Dense(4)[2](X1, X2, None)
    with pytest.warns(UserWarning, match="taken to be independent"):
        summed = stax.FanInSum()[2]([k, k])
    np.testing.assert_allclose(summed.nngp, 2 * k.nngp)
