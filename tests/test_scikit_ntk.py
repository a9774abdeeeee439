"""The kernel of scikit-ntk: against numbers that version 1.2.1 printed, and the package where it is installed."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel

from ntkfast.sklearn.scikit_ntk import NeuralTangentKernel

X = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -1.1]])
Z = np.array([[0.2, 0.4], [-1.0, -0.5]])

# depth, bias -> K(X), its derivative, K(X, Z)
PRINTED = {
    (1, 0.1): (
        [
            [1.2475247524752473, 0.7626905077084161, 0.3152084269506001],
            [0.7626905077084161, 4.0594059405940595, -0.14314347705206967],
            [0.3152084269506001, -0.14314347705206967, 1.693069306930693],
        ],
        [
            [-0.0049014802470346, 0.00074068772233774, 0.0089346043680723],
            [0.00074068772233774, -0.06058229585334771, 0.01405236955003551],
            [0.0089346043680723, 0.01405236955003551, -0.01372414469169689],
        ],
        [
            [0.3710784289350689, 0.00495049504950495],
            [0.6806959250113693, 0.06862921587304045],
            [-0.01205581377760027, 0.16636870521716948],
        ],
    ),
    (3, 0.7): (
        [
            [1.167785234899329, 0.7395375899769221, 0.4749040604710571],
            [0.7395375899769221, 3.0738255033557045, 0.45047440069571454],
            [0.4749040604710571, 0.45047440069571454, 1.4697986577181208],
        ],
        [
            [-0.11035538939687412, -0.08304694216217383, 0.06918940636235983],
            [-0.08304694216217383, -1.3639926129453623, 0.02409675425728191],
            [0.06918940636235983, 0.02409675425728191, -0.3089950903112473],
        ],
        [
            [0.46131583744507126, 0.30040696358182395],
            [0.6473305641746412, 0.49167517949317924],
            [0.24153583168963264, 0.42023518025653744],
        ],
    ),
}


def agree(found, expected):
    """To within the arccos of a cosine rounded at 1e-16, which scikit-ntk takes at equal points."""
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize(("depth", "bias"), PRINTED)
def test_printed_numbers(depth, bias):
    K, slope, rectangle = map(np.array, PRINTED[depth, bias])
    kernel = NeuralTangentKernel(depth, bias)
    found, gradient = kernel(X, eval_gradient=True)
    np.testing.assert_allclose(found, K, rtol=1e-13)
    np.testing.assert_allclose(gradient[..., 0], slope, rtol=1e-11)
    np.testing.assert_allclose(kernel(X, Z), rectangle, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(kernel.diag(X), K.diagonal(), rtol=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("bias", [0.0, 1e-3, 2.0])
def test_against_the_package(depth, bias):
    theirs = pytest.importorskip("skntk").NeuralTangentKernel(depth, bias)
    ours = NeuralTangentKernel(depth, bias)
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((30, 4)), 3 * rng.standard_normal((20, 4))
    agree(ours(A), theirs(A))
    agree(ours(A, B), theirs(A, B))
    agree(ours.diag(A), theirs.diag(A))
    for found, expected in zip(ours(A, eval_gradient=True), theirs(A, eval_gradient=True), strict=True):
        agree(found, expected)
    assert repr(ours) == repr(theirs)
    np.testing.assert_array_equal(ours.bounds, theirs.bounds)
    assert ours.hyperparameters == theirs.hyperparameters
    assert ours.get_params() == theirs.get_params()


@pytest.mark.parametrize("bias", [1e-3, 0.5, 30.0])
def test_derivative_against_differences(bias):
    kernel = NeuralTangentKernel(3, bias)
    up, down = (kernel.clone_with_theta(kernel.theta + step)(X) for step in (1e-5, -1e-5))
    np.testing.assert_allclose(
        kernel(X, eval_gradient=True)[1][..., 0], (up - down) / 2e-5, rtol=1e-6, atol=1e-10 * abs(up).max()
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_points_at_the_origin(dtype):
    kernel = NeuralTangentKernel(3, 0.3)
    points = np.array([[0, 0], [0, 0], [1, 2]], dtype)
    K = kernel(points)
    np.testing.assert_allclose(K.diagonal(), kernel.diag(points), rtol=1e-6)
    np.testing.assert_allclose(K[:2, :2], K[0, 0], rtol=1e-6)
    assert K[0, 0] == pytest.approx(0.3**2 / (0.3**2 + 1))


def test_a_fixed_bias():
    kernel = NeuralTangentKernel(2, bias_bounds="fixed")
    K, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (3, 3, 0)
    assert kernel.n_dims == 0
    np.testing.assert_array_equal(K, kernel(X))


def test_it_is_a_kernel_of_scikit_learn():
    kernel = NeuralTangentKernel(2, 0.3, (1e-2, 10.0))
    for same in (clone(kernel), pickle.loads(pickle.dumps(kernel)), kernel.clone_with_theta(kernel.theta)):
        np.testing.assert_allclose(same(X), kernel(X), rtol=1e-12)
        assert same.bias_bounds == (1e-2, 10.0)
    assert repr(kernel) == "NeuralTangentKernel(depth=2, bias=0.300)"
    assert not kernel.is_stationary()
    assert kernel(X.astype(np.float32)).dtype == np.float32
    points = np.linspace(-2, 2, 20)[:, None]
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.1)).fit(points, np.sin(points[:, 0]))
    assert process.kernel_.k1.bias != 0.3
    assert process.score(points, np.sin(points[:, 0])) > 0.95
    with pytest.raises(ValueError, match="Z: expected None with eval_gradient=True"):
        kernel(X, Z, eval_gradient=True)
    with pytest.raises(ValueError, match="depth: expected an integer >= 1, got 0"):
        NeuralTangentKernel(0)(X)
