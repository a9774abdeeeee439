"""exp_normalized: a dual in closed form, whose φ normalises by the features of a layer."""

import pickle

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate

import ntkfast as nf

GAMMA, SHIFT = 0.7, -0.4
ACT = nf.activations.exp_normalized(GAMMA, SHIFT)
X = np.array([[1.0, 0.5, -0.3], [0.2, 1.0, 0.4], [-1.0, 0.3, 2.0], [3.0, 1.5, -0.9]])
NET = nf.Network(
    [nf.Dense(weight_std=1.3, bias_std=0.2), ACT, nf.Dense(weight_std=0.8, bias_std=0.1), ACT, nf.Dense(bias_std=0.3)]
)


def by_hand(net, x, y):
    """(Σ, Θ) of one pair by the recursion, in 30 digits."""
    with mpmath.workdps(30):
        m = mpmath.mpf
        dots = [sum(m(float(a)) * m(float(b)) for a, b in zip(*pair, strict=True)) for pair in ((x, x), (x, y), (y, y))]
        first, *rest = net.dense_layers

        def affine(dense, value, fan_in=1):
            return m(dense.weight_std) ** 2 * value / fan_in + m(dense.bias_std) ** 2

        xx, xy, yy = (affine(first, dot, len(x)) for dot in dots)
        theta = xy
        for dense in rest:
            root = mpmath.sqrt(xx * yy)
            e = mpmath.exp(m(GAMMA) * (xy / root + m(SHIFT)))
            own = mpmath.exp(m(GAMMA) * (1 + m(SHIFT)))
            slope = m(dense.weight_std) ** 2 * m(GAMMA) * e
            xx, xy, yy = (affine(dense, value) for value in (own * xx, root * e, own * yy))
            theta = theta * slope + xy
        return float(xy), float(theta)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_kernels_by_hand(dtype, rtol):
    expected = np.array([[by_hand(NET, x, y) for y in X] for x in X])
    got = nf.kernels(NET, X, dtype=dtype)
    assert_allclose(got.nngp, expected[..., 0], rtol=rtol)
    assert_allclose(got.ntk, expected[..., 1], rtol=rtol)
    assert_allclose(nf.ntk(NET, X, X[1:]), expected[:, 1:, 1], rtol=1e-7)  # antiparallel to the last bits only


def test_dual_is_the_normalized_gaussian_kernel():
    act, q1, q2, c = nf.activations.exp_normalized(), 2.0, 0.5, 0.3
    assert nf.dual(act, q1, q1, q1) == q1  # the variance is kept
    x, y = np.array([2.0, 0.0]), np.array([0.3 / 2, np.sqrt(1 - 0.3**2 / 4)]) * 0.5
    distance = np.sum((x / np.linalg.norm(x) - y / np.linalg.norm(y)) ** 2)
    q1, q2, c = x @ x, y @ y, x @ y
    assert_allclose(nf.dual(act, q1, q2, c), np.sqrt(q1 * q2) * np.exp(-distance / 2), rtol=1e-14)
    assert nf.dual(act, 1.0, 0.0, 0.0) == 0


def test_dual_is_that_of_its_function():
    q, rho = (0.6, 2.5), 0.4

    def phi(x, q):
        return np.sqrt(q) * np.exp(np.sqrt(GAMMA) * x / np.sqrt(q) + GAMMA * (SHIFT - 1) / 2)

    def density(v, u):
        value = phi(np.sqrt(q[0]) * u, q[0]) * phi(np.sqrt(q[1]) * (rho * u + np.sqrt(1 - rho**2) * v), q[1])
        return value * np.exp(-(u * u + v * v) / 2) / (2 * np.pi)

    expected = integrate.dblquad(density, -9, 9, -9, 9)[0]
    assert_allclose(nf.dual(ACT, *q, rho * np.sqrt(q[0] * q[1])), expected, rtol=1e-8)
    a, b = (ACT.hermite_coefficients(value, 40) for value in q)
    assert_allclose(a @ (b * rho ** np.arange(40)), expected, rtol=1e-8)
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    assert_allclose(a[:2], weight @ (phi(np.sqrt(q[0]) * z, q[0])[:, None] * np.c_[0 * z + 1, z]) / weight.sum())
    assert nf.hermite_certificate(ACT).certifies


def test_derivatives_by_differences():
    values = np.array(list(nf.hyperparameters(NET).values()))
    gradients = nf.kernels(NET, X, gradient=True).gradients
    for k, step in enumerate(1e-6 * np.eye(len(values))):
        high, low = (nf.kernels(nf.with_hyperparameters(NET, values + sign * step), X) for sign in (1, -1))
        for name in ("nngp", "ntk"):
            slope = (getattr(high, name) - getattr(low, name)) / 2e-6
            assert_allclose(getattr(gradients, name)[k], slope, rtol=1e-6, atol=1e-7)


def test_finite_width():
    f = nf.FiniteNetwork.init(NET, n_inputs=3, widths=[7, 5], n_outputs=2, rng=0)
    x = f.weight_scales[0] * X @ f.weights[0].T + f.bias_scales[0] * f.biases[0]
    s = np.sqrt((x**2).mean(axis=1))[:, None]
    hidden = nf.Network([nf.Dense(weight_std=1.3, bias_std=0.2), ACT, nf.Dense()])
    eye = np.sqrt(7) * np.eye(7)
    first = nf.FiniteNetwork(hidden, [f.weights[0], eye], [f.biases[0], None])
    assert_allclose(first(X), s * np.exp(np.sqrt(GAMMA) * x / s + GAMMA * (SHIFT - 1) / 2), rtol=1e-14)

    jacobian = f.jacobian(X)
    v = np.random.default_rng(0).standard_normal(f.n_parameters)
    moved = []
    for sign in (1, -1):
        g, start = f.copy(), 0
        for array in (part for pair in zip(g.weights, g.biases, strict=True) for part in pair if part is not None):
            array += sign * 1e-6 * v[start : start + array.size].reshape(array.shape)
            start += array.size
        moved.append(g(X))
    assert_allclose(jacobian @ v, (moved[0] - moved[1]) / 2e-6, rtol=1e-6, atol=1e-8)
    assert_allclose(nf.jvp(f, X, v), jacobian @ v, rtol=1e-12)
    gram = np.einsum("ikp,jlp->ijkl", jacobian, jacobian)
    assert_allclose(nf.empirical_ntk(f, X, outputs="full"), gram, rtol=1e-11)


def test_limit_of_wide_networks():
    kernel = nf.ntk(NET, X)
    networks = [nf.FiniteNetwork.init(NET, 3, 2048, 8, rng=seed, dtype=np.float32) for seed in range(8)]
    mean = np.mean([nf.empirical_ntk(f, X) for f in networks], axis=0)
    assert np.linalg.norm(mean - kernel) < 0.05 * np.linalg.norm(kernel)


def test_is_a_value_like_others():
    assert nf.MLP(3, "ExpNormalized") == nf.MLP(3, nf.activations.exp_normalized())
    assert pickle.loads(pickle.dumps(ACT)) == ACT
    assert repr(ACT) == "exp_normalized(gamma=0.7, shift=-0.4)"
    assert nf.activations.exp_normalized() != ACT
    with pytest.raises(ValueError, match="expected a function of one number, got exp_normalized"):
        nf.phase(nf.MLP(2, ACT))
    with pytest.raises(ValueError, match="gamma: expected a number > 0"):
        nf.activations.exp_normalized(0.0)


def test_can_be_saved(tmp_path):
    f = nf.FiniteNetwork.init(NET, 3, 4, rng=0)
    nf.save(f, tmp_path / "f.ntk")
    again = nf.load(tmp_path / "f.ntk")
    assert again.net == NET
    np.testing.assert_array_equal(again(X), f(X))
