"""ntkfast.neural_tangents with arrays and keys of JAX, and tensors of PyTorch."""

from pathlib import Path

import neural_tangents_cases as cases
import numpy as np
import pytest

from ntkfast import neural_tangents as nt
from ntkfast.neural_tangents import stax
from ntkfast.neural_tangents.arrays import leaves, mapped

VALUES = np.load(Path(__file__).parent / "data" / "neural_tangents.npz")
X1, X2 = VALUES["x1"], VALUES["x2"]


@pytest.fixture(scope="module")
def jax():
    jax = pytest.importorskip("jax")
    old = {
        "jax_enable_x64": jax.config.jax_enable_x64,
        "jax_threefry_partitionable": jax.config.jax_threefry_partitionable,
    }
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_threefry_partitionable", False)  # as it was in JAX 0.4, so that keys give the same numbers
    yield jax
    for name, value in old.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def network():
    return stax.serial(stax.Dense(8, 1.4, 0.3), stax.Erf(), stax.Dense(3))


@pytest.mark.parametrize("name", ["plain", "standard", "residual", "flatten"])
def test_keys_give_the_parameters_of_neural_tangents(jax, name):
    init_fn, apply_fn, _ = cases.finite(stax)[name]
    a = VALUES["images1"] if name == "flatten" else X1
    _, params = init_fn(jax.random.PRNGKey(1), a.shape)
    for k, leaf in enumerate(leaves(params)):
        assert isinstance(leaf, jax.Array)
        np.testing.assert_allclose(leaf, VALUES[f"finite/{name}/params/{k}:at"], rtol=1e-14)
    value = apply_fn(params, jax.numpy.asarray(a))
    assert isinstance(value, jax.Array)
    np.testing.assert_allclose(value, VALUES[f"finite/{name}:f1"], rtol=1e-9, atol=1e-12)
    compiled = jax.jit(apply_fn)
    np.testing.assert_allclose(compiled(params, a), value, rtol=1e-9, atol=1e-12)
    for where, other in (("rectangle", X2 if name != "flatten" else VALUES["images2"]), ("symmetric", None)):
        expected = VALUES[f"finite/{name}/full/{where}:ntk"]
        found = nt.empirical_ntk_fn(compiled, trace_axes=())(jax.numpy.asarray(a), other, params)
        assert isinstance(found, jax.Array)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
        by_jax = nt.empirical_ntk_fn(lambda p, x: apply_fn(p, x), trace_axes=())(a, other, params)
        np.testing.assert_allclose(by_jax, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_kernels_are_arrays_of_jax(jax, network):
    kernel_fn = network[2]
    x = jax.numpy.asarray(X1)
    k = kernel_fn(x, None, None)
    assert isinstance(k.ntk, jax.Array)
    np.testing.assert_array_equal(k.ntk, kernel_fn(X1, None, "ntk"))
    assert isinstance(network[2](k).ntk, jax.Array)
    compiled = jax.jit(kernel_fn, static_argnums=(2,))
    np.testing.assert_allclose(compiled(x, X2, "ntk"), kernel_fn(X1, X2, "ntk"), rtol=1e-14)
    both = compiled(x, None, ("nngp", "ntk"))
    np.testing.assert_allclose(both.nngp, kernel_fn(X1, None, "nngp"), rtol=1e-14)
    whole = compiled(x, X2, None)
    np.testing.assert_allclose(whole.cov2, kernel_fn(X1, X2, "cov2"), rtol=1e-14)
    assert whole.is_gaussian
    doubled = jax.tree_util.tree_map(lambda array: 2 * array, whole)
    np.testing.assert_allclose(doubled.ntk, 2 * whole.ntk)
    with pytest.raises(NotImplementedError, match="inside functions that JAX"):
        compiled(x, None, "shape1")


def test_expansions_are_differentiable(jax, network):
    init_fn, apply_fn, _ = network
    _, params = init_fn(jax.random.PRNGKey(1), X1.shape)
    moved = jax.tree_util.tree_map(lambda p: 1.1 * p, params)
    plain = mapped(np.asarray, params), mapped(np.asarray, moved)
    for degree in (1, 2, 3):
        f = nt.taylor_expand(apply_fn, params, degree)
        numbers = nt.taylor_expand(apply_fn, plain[0], degree)(plain[1], X1)
        np.testing.assert_allclose(f(moved, X1), numbers, rtol=1e-10, atol=1e-12)
        slope = jax.grad(lambda p, f=f: f(p, X1).sum())(moved)
        assert len(leaves(slope)) == len(leaves(params))


def test_losses_in_jax(jax, network):
    kernel_fn = network[2]
    k_dd, k_td = kernel_fn(X1, None, "ntk"), kernel_fn(X2, X1, "ntk")
    y = np.eye(2)[[0, 1, 1, 0, 1, 0]]

    def loss(xp, logsumexp):
        return lambda f, y: -xp.mean((f - logsumexp(f)) * y)

    of_jax = loss(jax.numpy, lambda f: jax.nn.logsumexp(f, axis=1, keepdims=True))
    of_numpy = loss(np, lambda f: np.log(np.exp(f).sum(axis=1, keepdims=True)))
    found = [nt.predict.gradient_descent(cost, k_dd, y)(3.0, 0.0, 0.0, k_td)[1] for cost in (of_jax, of_numpy)]
    np.testing.assert_allclose(*found, atol=1e-7)
    traced = nt.predict.gradient_descent(of_jax, jax.numpy.asarray(k_dd), y)(3.0)
    assert isinstance(traced, jax.Array)


def test_activations_in_jax(jax):
    import jax.scipy.special

    known = cases.hidden(stax, stax.Erf())[2](X1, X2, "ntk")
    by_name = cases.hidden(stax, stax.ElementwiseNumerical(jax.scipy.special.erf, 25))[2](X1, X2, "ntk")
    np.testing.assert_array_equal(by_name, known)
    own = cases.hidden(stax, stax.ElementwiseNumerical(lambda x: jax.scipy.special.erf(x), 25))[2](X1, X2, "ntk")
    np.testing.assert_allclose(own, known, rtol=1e-8)

    def dual(c, q1, q2):
        return jax.numpy.arcsin(2 * c / jax.numpy.sqrt((1 + 2 * q1) * (1 + 2 * q2))) * 2 / jax.numpy.pi

    derived = cases.hidden(stax, stax.Elementwise(None, dual))[2](X1, X2, "ntk")
    np.testing.assert_allclose(derived, known, rtol=1e-9)


def test_dropout_with_keys_of_jax(jax):
    init_fn, apply_fn, _ = stax.serial(stax.Dense(8), stax.Relu(), stax.Dropout(0.5), stax.Dense(1))
    key = jax.random.PRNGKey(0)
    _, params = init_fn(key, X1.shape)
    one, other = (apply_fn(params, X1, rng=jax.random.PRNGKey(k)) for k in (1, 2))
    assert not np.allclose(one, other)
    kernel = nt.empirical_ntk_fn(apply_fn)(jax.numpy.asarray(X1), None, params, rng=key)
    assert kernel.shape == (6, 6)


def test_tensors():
    torch = pytest.importorskip("torch")
    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(8, 1.4, 0.3), stax.Erf(), stax.Dense(3))
    x = torch.from_numpy(X1)
    k = kernel_fn(x, None, ("nngp", "ntk"))
    assert isinstance(k.ntk, torch.Tensor)
    np.testing.assert_array_equal(k.ntk, kernel_fn(X1, None, "ntk"))
    _, params = init_fn(0, X1.shape)
    value = apply_fn(params, x.requires_grad_())
    assert isinstance(value, torch.Tensor)
    np.testing.assert_array_equal(value, apply_fn(params, X1))
    found = nt.predict.gradient_descent_mse(k.ntk, torch.ones(6, 1, dtype=torch.float64))(1.0)
    assert isinstance(found, torch.Tensor)
    with pytest.raises(TypeError, match=r"nf\.torch\.empirical_ntk"):
        nt.empirical_ntk_fn(torch.nn.Linear(5, 1))(X1, None, None)


def test_trees_of_inputs_and_outputs(jax):
    layers = stax.parallel(stax.Dense(3, b_std=0.1), stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(2)))
    init_fn, apply_fn, kernel_fn = layers
    points = [jax.numpy.asarray(X1), jax.numpy.asarray(np.cos(X1))]
    _, params = init_fn(jax.random.PRNGKey(0), [X1.shape, X1.shape])
    found = nt.empirical_kernel_fn(apply_fn)(points, None, ("nngp", "ntk"), params)
    alone = nt.empirical_ntk_fn(stax.Dense(3, b_std=0.1)[1])(X1, None, params[0])
    np.testing.assert_allclose(found[0].ntk, alone, rtol=1e-12)
    sampled = nt.monte_carlo_kernel_fn(init_fn, apply_fn, jax.random.PRNGKey(1), 2)(points, None, "ntk")
    assert [k.shape for k in sampled] == [k.shape for k in kernel_fn(points, None, "ntk")]


def test_empirical_kernels_inside_jit(jax, network):
    init_fn, apply_fn, _ = network
    _, params = init_fn(jax.random.PRNGKey(1), X1.shape)
    kernel_fn, ones = nt.empirical_kernel_fn(apply_fn), np.ones((4, 3))
    inside = jax.jit(lambda p, a, b: kernel_fn(a, b, ("nngp", "ntk"), p))(params, X1, X2)
    outside = kernel_fn(X1, X2, ("nngp", "ntk"), params)
    np.testing.assert_allclose(inside.nngp, outside.nngp, rtol=1e-12)
    np.testing.assert_allclose(inside.ntk, outside.ntk, rtol=1e-12)
    product = nt.empirical_ntk_vp_fn(apply_fn, X1, X2, params)
    np.testing.assert_allclose(jax.jit(product)(ones), product(ones), rtol=1e-12)


def derivative(function, x, h=1e-5):
    """Central differences with respect to every entry."""
    result = np.empty(x.shape)
    for place in np.ndindex(*x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][place] += h
        moved[1][place] -= h
        result[place] = (function(moved[0]) - function(moved[1])) / (2 * h)
    return result


@pytest.mark.parametrize("get", ["ntk", "nngp"])
def test_kernels_are_differentiated_with_respect_to_points(jax, network, get):
    kernel_fn = network[2]
    weights = np.random.default_rng(0).standard_normal((len(X1), len(X2)))

    def of_pairs(a, b):
        return (weights * kernel_fn(a, b, get)).sum()

    for transformed in (jax.grad(of_pairs, (0, 1)), jax.jit(jax.grad(of_pairs, (0, 1)))):
        of_x, of_y = transformed(X1, X2)
        assert isinstance(of_x, jax.Array)
        np.testing.assert_allclose(of_x, derivative(lambda a: of_pairs(a, X2), X1), atol=1e-8)
        np.testing.assert_allclose(of_y, derivative(lambda b: of_pairs(X1, b), X2), atol=1e-8)
    for same in (lambda x: x, lambda x: None):
        found = jax.grad(lambda x, same=same: (kernel_fn(x, same(x), get) ** 2).sum())(X1)
        np.testing.assert_allclose(found, derivative(lambda x: (kernel_fn(x, None, get) ** 2).sum(), X1), atol=1e-8)
    each = jax.jacrev(lambda a: kernel_fn(a, X2, get))(X1)  # by vmap of the backward pass
    np.testing.assert_allclose((weights[:, :, None, None] * each).sum((0, 1)), of_x, atol=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_all_arrays_of_a_kernel_are_differentiated(jax, network, full):
    kernel_fn, images = stax.serial(stax.Flatten(), network)[2], X1.reshape(3, 2, -1)

    def total(a, b):
        k = kernel_fn(a, b, None, diagonal_batch=not full)
        return sum((k.ntk**2).sum() + (k.nngp**3).sum() + scale * (cov**2).sum() for scale, cov in enumerate(covs(k)))

    def covs(k):
        return [cov for cov in (k.cov1, k.cov2) if cov is not None]

    other = np.cos(images)
    of_x, of_y = jax.grad(total, (0, 1))(images, other)
    np.testing.assert_allclose(of_x, derivative(lambda a: total(a, other), images), atol=1e-7)
    np.testing.assert_allclose(of_y, derivative(lambda b: total(images, b), other), atol=1e-7)
    alone = jax.grad(lambda x: total(x, None))(images)
    np.testing.assert_allclose(alone, derivative(lambda x: total(x, None), images), atol=1e-7)


def test_derivatives_in_float32(jax, network):
    x = jax.numpy.asarray(X1, "float32")
    found = jax.grad(lambda x: network[2](x, X2.astype("f4"), "ntk").sum())(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, jax.grad(lambda x: network[2](x, X2, "ntk").sum())(X1), rtol=1e-4, atol=1e-5)
    mixed = jax.jit(lambda x: network[2](x, X2, "ntk"))(x)
    assert mixed.dtype == np.float64  # as outside jit
    whole = jax.jit(lambda x: network[2](x, None, "ntk"))(jax.numpy.asarray([[1, 2], [3, 4]]))
    np.testing.assert_allclose(whole, network[2](np.array([[1.0, 2.0], [3.0, 4.0]]), None, "ntk"))


def test_derivatives_that_are_not_there(jax, network):
    kernel_fn = network[2]
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.grad(lambda x: (jax.grad(lambda x: kernel_fn(x, None, "ntk").sum())(x) ** 2).sum())(X1)
    for layer in (stax.Dropout(0.5), stax.Elementwise(None, lambda c, q1, q2: c)):
        of_layer = stax.serial(stax.Dense(1), layer, stax.Dense(1))[2]
        with pytest.raises(NotImplementedError, match="whose layers the engine has"):
            jax.grad(lambda x, f=of_layer: f(x, None, "nngp").sum())(X1)
    with pytest.raises(TypeError, match="W_std: expected a number, got a value that JAX is tracing"):
        jax.grad(lambda w: stax.Dense(1, w)[2](X1, None, "nngp").sum())(1.0)
    with pytest.raises(TypeError, match="a: expected a number, got a value that JAX is tracing"):
        jax.jit(lambda a: stax.Erf(a))(1.0)
    found = jax.grad(lambda x: np.nan * kernel_fn(x, None, "ntk").sum())(X1)
    assert np.isnan(found).all()


def test_kernels_inside_vmap(jax, network):
    points = np.stack([X1, 2 * X1])
    found = jax.vmap(lambda x: network[2](x, X2, "ntk"))(points)
    for k in range(2):
        np.testing.assert_allclose(found[k], network[2](points[k], X2, "ntk"), rtol=1e-13)
