"""Losses, gradient descent against an explicit loop, what it records, how it fails; convergence in width."""

import math
import os
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
import reference_finite
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from threadpoolctl import threadpool_info

import ntkfast as nf
from ntkfast import DivergenceError
from ntkfast.finite import linearized, passes
from ntkfast.finite.linearized import linearize
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.training import Record, train
from ntkfast.learning.convergence import Convergence, convergence
from ntkfast.learning.flow import LeastSquaresFlow
from ntkfast.learning.learning_rate import max_learning_rate
from ntkfast.support import losses, memory
from ntkfast.support.eigenvalues import DENSE, largest_eigenvalue, operator_norm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3))
LABELS = np.array([0, 1, 2, 1, 0, 2, 2, 1])
SIGNS = np.where(RNG.normal(size=(8, 2)) > 0, 1, -1)
REAL = RNG.normal(size=(8, 2))
PROBABILITIES = RNG.dirichlet(np.ones(3), size=8)
TARGETS = {"mse": REAL, "logistic": SIGNS, "softmax": LABELS, "huber": 3 * REAL}
RELU = nf.MLP(depth=3, activation="relu", weight_std=1.4, bias_std=0.1)
BLOCKS = nf.Network(
    [
        nf.Dense(bias_std=0.1, weight_lr=0.5),
        nf.Residual(
            "tanh",
            nf.Dense(weight_std=1.2, bias_std=0.2, bias_lr=2.0),
            nf.Residual("erf", nf.Dense(weight_lr=0)),
            scale=0.7,
        ),
        nf.LayerNorm(),
        "gelu",
        nf.Dense(bias_std=0.3, bias_lr=0),
    ]
)


def finite(net=RELU, n_outputs=2, parametrization="ntk", widths=7, rng=0, dtype=np.float64):
    return FiniteNetwork.init(net, 3, widths, n_outputs, rng=rng, dtype=dtype, parametrization=parametrization)


def parameters(f):
    return [array for pair in zip(f.weights, f.biases, strict=True) for array in pair if array is not None]


# --- losses


@pytest.mark.parametrize(
    ("loss", "y"), [*TARGETS.items(), ("softmax", PROBABILITIES)], ids=[*TARGETS, "softmax of probabilities"]
)
def test_d_is_the_derivative_of_the_loss(loss, y):
    """Central differences with h = 1e-5: errors of h² and ε/h."""
    k = 3 if loss == "softmax" else 2
    f = np.random.default_rng(1).normal(size=(8, k))
    cost = losses.get(loss, y, f.shape)
    _, d = cost(f)
    for place in np.ndindex(f.shape):
        shift = np.zeros_like(f)
        shift[place] = 1e-5
        assert_allclose(d[place] / 8, (cost(f + shift)[0] - cost(f - shift)[0]) / 2e-5, atol=1e-9)


def test_losses_on_paper():
    f = np.array([[1.0, 0.0], [0.0, -4.0]])
    assert losses.get("mse", np.zeros((2, 2)), f.shape)(f)[0] == (1 + 16) / 4
    assert losses.get("huber", np.zeros((2, 2)), f.shape)(f)[0] == (0.5 + 3.5) / 2
    logistic = losses.get("logistic", [[1, 1], [-1, -1]], f.shape)(f)[0]
    assert_allclose(logistic, np.log([1 + math.exp(-1), 2, 2, 1 + math.exp(-4)]).sum() / 2)
    softmax = losses.get("softmax", [0, 1], f.shape)(f)[0]
    assert_allclose(softmax, (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(4))) / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", losses.NAMES)
def test_losses_are_stable_far_out(loss, dtype):
    far = np.array([[1e4, -1e4, 0.0]] * 8, dtype=dtype)
    y = {"mse": np.zeros((8, 3)), "huber": np.zeros((8, 3)), "logistic": np.ones((8, 3)), "softmax": LABELS}[loss]
    value, d = losses.get(loss, y, far.shape, dtype)(far)
    assert math.isfinite(value)
    assert d.dtype == dtype
    assert np.isfinite(d).all()
    one_hot = losses.get("softmax", np.eye(3)[[0] * 8], far.shape, dtype)(1e30 * far)
    assert one_hot[0] == 0


def test_labels_are_one_hot_vectors():
    f = RNG.normal(size=(8, 3))
    for a, b in zip(
        losses.get("softmax", LABELS, f.shape)(f), losses.get("softmax", np.eye(3)[LABELS], f.shape)(f), strict=True
    ):
        assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [str, object])
def test_labels_may_be_names(dtype):
    """Outputs in sorted order: bus, car, tram."""
    names = np.array(["car", "bus", "tram"], dtype)[LABELS]
    f = RNG.normal(size=(8, 3))
    (value, d), (same, other) = (
        losses.get("softmax", *given)(g) for given, g in (((names, f.shape), f), ((LABELS, f.shape), f[:, [1, 0, 2]]))
    )
    assert_allclose(value, same, rtol=1e-15)  # the sums run over the outputs in another order
    assert_allclose(d[:, [1, 0, 2]], other, rtol=1e-14)


# --- costs without derivatives


def complex_cost(f, y):  # a cost for each point that complex numbers pass through
    return np.log1p(np.exp(-y * f)).sum(axis=1) + 0.1 * (f**4).sum(axis=1)


def kinked(f, y):  # np.abs drops imaginary parts: differences
    return np.abs(f - y).sum(axis=1) ** 1.5


def refusing(f, y):
    return sum(math.cosh(x) for x in (f - y).ravel()) / 8


def joint(f, y):  # no sum over points
    return np.log(((f - y) ** 2).sum()) + f[0, 0] * f[-1, 1] ** 3


def in_one_branch(f, y):  # right for one sign of f, silently 0 for the other
    return np.where(f.real > 0, f**3, np.abs(f) ** 3).sum(axis=1)


@pytest.mark.parametrize(
    ("cost", "exact"), [(complex_cost, True), (kinked, False), (refusing, False), (joint, True), (in_one_branch, False)]
)
def test_costs_without_derivatives(cost, exact):
    """By complex steps to rounding, by differences to 1e-10; where imaginary parts get lost, that is noticed."""
    f = np.random.default_rng(3).normal(size=(8, 2))
    value, d = losses.get(cost, SIGNS, f.shape)(f)
    assert value == pytest.approx(float(np.mean(cost(f, SIGNS))), rel=1e-15)
    right = 8 * by_hand(cost, f, SIGNS)
    assert_allclose(d, right, rtol=0, atol=(1e-14 if exact else 1e-10) * np.abs(right).max())
    d32 = losses.get(cost, SIGNS, f.shape, np.float32)(f.astype("f4"))[1]
    assert d32.dtype == np.float32
    assert_allclose(d32, right, atol=1e-5 * np.abs(right).max())


def by_hand(cost, f, y):
    """∂C/∂f on paper."""
    r = f - y
    if cost is complex_cost:
        return (-y / (1 + np.exp(y * f)) + 0.4 * f**3) / 8
    if cost is kinked:
        return 1.5 * np.sqrt(np.abs(r).sum(axis=1, keepdims=True)) * np.sign(r) / 8
    if cost is refusing:
        return np.sinh(r) / 8
    if cost is in_one_branch:
        return 3 * np.sign(f) * f**2 / 8
    d = 2 * r / (r**2).sum()
    d[0, 0] += f[-1, 1] ** 3
    d[-1, 1] += 3 * f[0, 0] * f[-1, 1] ** 2
    return d


def test_targets_have_the_shape_of_the_outputs():
    """(N, 1) - (N,) would be (N, N)."""
    f = np.arange(3.0)[:, None]
    for y in ([1.0, 2.0, 4.0], [[1.0], [2.0], [4.0]]):
        value, d = losses.get(lambda f, y: 0.5 * ((f - y) ** 2).mean(), y, (3, 1))(f)
        assert value == pytest.approx(1.0)
        assert_allclose(d, [[-1.0], [-1.0], [-2.0]])
    losses.get(lambda f, y: (0.0, np.eye(3)[y]), LABELS[:3], (3, 3))(np.zeros((3, 3)))  # labels stay


def test_training_with_a_cost_alone():
    plain = train(finite(), X, REAL, steps=20, learning_rate=0.3)
    for own in (lambda f, y: 0.5 * ((f - y) ** 2).sum() / 8, lambda f, y: 0.5 * ((f - y) ** 2).sum(axis=1)):
        run = train(finite(), X, REAL, steps=20, learning_rate=0.3, loss=own)
        assert_allclose(run.losses, plain.losses, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "y", "shape", "error", "words"),
    [
        ("l2", REAL, (8, 2), ValueError, "loss: 'l2' is unknown; the known ones are mse, logistic, softmax, huber"),
        (3, REAL, (8, 2), TypeError, "loss: expected a name or a function, got int"),
        ("mse", REAL[:5], (8, 2), ValueError, r"y: expected shape \(8, 2\), got \(5, 2\)"),
        ("mse", REAL[:, 0], (8, 2), ValueError, r"y: expected shape \(8, 2\), got \(8,\)"),
        ("mse", REAL, (8, 1), ValueError, r"y: expected shape \(8, 1\) or \(8,\), got \(8, 2\)"),
        ("mse", None, (8, 2), TypeError, "y: expected targets, as y is needed for loss 'mse', got None"),
        ("mse", [[1.0], [1.0, 2.0]], (2, 2), ValueError, "y: expected an array of numbers, got list"),
        ("mse", np.ma.masked_less(REAL, 0), (8, 2), TypeError, "y: expected an array without mask"),
        ("mse", np.where(REAL[2, 1] == REAL, np.nan, REAL), (8, 2), ValueError, "y: .*finite.*nan in row 2, column 1"),
        ("softmax", None, (8, 2), TypeError, "y: expected targets, as y is needed for loss 'softmax', got None"),
        ("huber", [1.0, np.inf], (2, 1), ValueError, "y: expected finite numbers, got inf in row 1"),
        ("logistic", [0, 1], (2, 1), ValueError, r"y: expected -1 or \+1 for the logistic loss, got 0.* in row 0"),
        ("softmax", [0, 3], (2, 3), ValueError, "y: expected class labels from 0 to 2, got 3 in row 1"),
        ("softmax", [0, -1], (2, 3), ValueError, "y: expected class labels from 0 to 2, got -1 in row 1"),
        (
            "softmax",
            [0.0, 1.0],
            (2, 3),
            TypeError,
            "y: expected integers or strings as class labels, got dtype float64",
        ),
        ("softmax", ["b", "a"], (2, 3), ValueError, "y: expected 3 different names, one for each output, got 2"),
        ("softmax", np.array(["b", 1], object), (2, 2), TypeError, "y: expected real numbers, got dtype object"),
        ("softmax", [0], (2, 3), ValueError, r"y: expected 2 class labels, or shape \(2, 3\), got shape \(1,\)"),
        ("softmax", [[0.5, 0.4]], (1, 2), ValueError, "y: expected probabilities that add to 1, got 0.9 in row 0"),
        ("softmax", [[1.5, -0.5]], (1, 2), ValueError, "y: expected probabilities >= 0, got -0.5 in row 0, column 1"),
        ("softmax", LABELS, (8, 1), ValueError, "loss: expected at least 2 outputs for softmax, got 1"),
    ],
)
def test_bad_losses_and_targets(loss, y, shape, error, words):
    with pytest.raises(error, match=words):
        losses.get(loss, y, shape)


@pytest.mark.parametrize(
    ("own", "error", "words"),
    [
        (lambda f, y: None, TypeError, r"loss: expected the function to return C or \(C, d\), got NoneType"),
        (lambda f, y: f[0], ValueError, r"loss: .* a number or the 8 costs of the points, got shape \(2,\)"),
        (lambda f, y: ((f - f.mean(0)) ** 2).sum(1), ValueError, "loss: .* at its own point only, got ones that"),
        (lambda f, y: (1.0, f[:1]), ValueError, r"loss: .*array of shape \(8, 2\), got shapes \(\) and \(1, 2\)"),
        (lambda f, y: (f, f), ValueError, r"loss: .*a number and an array .*got shapes \(8, 2\) and \(8, 2\)"),
        (lambda f, y: ("1", f), TypeError, "loss: C: expected real numbers, got dtype <U1"),
        (lambda f, y: (None, f), TypeError, "loss: C: expected real numbers, got dtype object"),
        (lambda f, y: (1.0, 1j * f), TypeError, "loss: d: expected real numbers, got dtype complex128"),
        (lambda f, y: (1.0, np.ma.array(f)), TypeError, "loss: d: expected an array without mask, got a masked array"),
        (lambda f, y: (1.0, [[1.0], [1.0, 2.0]]), ValueError, "loss: d: expected an array of numbers, got list"),
    ],
)
def test_own_losses_that_return_something_else(own, error, words):
    with pytest.raises(error, match=words):
        train(finite(), X, REAL, steps=1, loss=own)


# --- the path of training


def plain_loss(loss, f, y):
    """The mean over the points, for real or complex outputs (..., N, k)."""
    if loss == "mse":
        cost = ((f - y) ** 2).sum(axis=-1) / 2
    elif loss == "huber":
        size = np.where((f - y).real > 0, f - y, y - f)
        cost = np.where(size.real <= 1, size**2 / 2, size - 0.5).sum(axis=-1)
    elif loss == "logistic":
        cost = np.log1p(np.exp(-y * f)).sum(axis=-1)
    else:
        cost = np.log(np.exp(f).sum(axis=-1)) - f[..., range(len(y)), y]
    return cost.mean(axis=-1)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("loss", losses.NAMES)
@pytest.mark.parametrize("net", [RELU, BLOCKS], ids=["relu", "blocks"])
def test_the_steps_are_those_of_a_plain_loop(net, loss, parametrization, momentum):
    """v ← momentum v + ∂loss/∂θ, θ ← θ - learning rate v, with the gradient of the twin's forward pass."""
    f = finite(net, 3 if loss == "softmax" else 2, parametrization)
    rate = 0.2 * (1 - momentum) if parametrization == "ntk" else 0.02 * (1 - momentum)
    run = train(f, X, TARGETS[loss], steps=50, learning_rate=rate, loss=loss, momentum=momentum)

    def cost(theta):
        return plain_loss(loss, reference_finite.outputs(net, theta, X, parametrization), TARGETS[loss])

    theta = [array.copy() for array in parameters(f)]
    rates, ends = rate * reference_finite.learning_rates(f), np.cumsum([array.size for array in theta])[:-1]
    history, velocity = [cost(theta)], 0
    for _ in range(50):
        velocity = momentum * velocity + reference_finite.gradient(cost, theta)
        for array, step in zip(theta, np.split(rates * velocity, ends), strict=True):
            array -= step.reshape(array.shape)
        history.append(cost(theta))
    assert_allclose(run.losses, history, rtol=1e-9)
    assert history[-1] < 0.95 * history[0]
    for ours, plain in zip(parameters(run.network), theta, strict=True):
        assert_allclose(ours, plain, rtol=1e-9, atol=1e-9)


def test_wide_networks_follow_the_linearised_one():
    f = finite(nf.MLP(2, "tanh"), 1, widths=20000)
    y = REAL[:, 0]
    run = train(f, X, y, steps=50, learning_rate=0.5)
    assert_allclose(run.network(X), linearize(f).train(X, y, steps=50, learning_rate=0.5)(X), atol=0.02)


def test_a_direction_in_place_of_a_loss():
    f = finite()
    by_loss = train(f, X, REAL, steps=20)
    by_direction = train(f, X, steps=20, direction=lambda t, outputs: outputs - REAL)
    recorded = train(f, X, REAL, steps=20, direction=lambda t, outputs: outputs - REAL)
    for run in (by_direction, recorded):
        assert_array_equal(run.network(X), by_loss.network(X))
    assert by_direction.losses is None
    assert_array_equal(recorded.losses, by_loss.losses)
    seen = []
    train(f, X, steps=3, learning_rate=0.5, direction=lambda t, outputs: seen.append(t) or np.zeros((8, 2)))
    assert seen == [0.0, 0.5, 1.0]
    own = train(f, X, "anything", steps=20, loss=lambda outputs, y: (len(y), outputs - REAL))
    assert_array_equal(own.network(X), by_loss.network(X))
    assert_array_equal(own.losses, [8.0] * 21)


def test_a_direction_means_the_same_in_a_kernel_flow():
    """A wide network along d(t, f) follows the flow of its kernel: same signature, sign and unit of time."""
    f = finite(nf.MLP(2, "tanh"), 1, widths=20000)
    direction = lambda t, outputs: outputs - np.cos(t) * REAL[:, :1]  # noqa: E731
    run = train(f, X, steps=200, learning_rate=0.005, direction=direction)
    flow = nf.kernel_flow(nf.empirical_ntk(f, X), f0=f(X), t=1.0, direction=direction)
    assert_allclose(run.network(X), flow.f[0], atol=0.01)
    assert np.abs(flow.f[0] - f(X)).max() > 0.1


def test_threads_change_rounding_only():
    f, calls = finite(widths=50), []
    one = train(f, X, steps=5, n_threads=1, direction=lambda t, d: calls.append(blas_threads()) or d - REAL)
    assert set(calls) == {1}
    assert_allclose(one.network(X), train(f, X, REAL, steps=5).network(X), rtol=1e-10)


FIRST_CALL = """
import ntkfast as nf
from threadpoolctl import threadpool_info
seen = []
def direction(t, outputs):
    seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
    return outputs
f = nf.FiniteNetwork.init(nf.MLP(2), n_inputs=1, widths=4, rng=0)
nf.train(f, [[1.0]], steps=1, n_threads=1, direction=direction)
print(max(seen))
"""


def test_the_first_call_of_a_process_holds_blas():
    """SciPy loads its BLAS when it is first used, which must not be after the limit is set."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", FIRST_CALL], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "1", done.stdout + done.stderr


def blas_threads():
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")


BUSY = """
import numpy as np
import ntkfast as nf
from ntkfast.learning import pieces
from ntkfast.support import arrays
from threadpoolctl import threadpool_info
seen = []
def see(function):
    def seeing(*args, **kwargs):
        seen.append(max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"))
        return function(*args, **kwargs)
    return seeing
def took():
    numbers = sorted(set(seen))
    seen.clear()
    return numbers
pieces.factor_in_place, arrays.fix_signs = see(pieces.factor_in_place), see(arrays.fix_signs)
small = np.eye(9)
net, f = nf.MLP(2, bias_std=0.1), nf.FiniteNetwork.init(nf.MLP(2), 1, 4, rng=0)
X = np.linspace(-1, 1, 9)[:, None]
calls = {
    "train": lambda **given: nf.train(f, X, steps=1, direction=see(lambda t, d: d), **given),
    "flow": lambda **given: nf.LeastSquaresFlow(small, X, **given).mean(1.0),
    "process": lambda **given: nf.GaussianProcess(small, X, **given),
    "fit": lambda **given: nf.fit_hyperparameters(net, X, X, max_iterations=1, **given),
    "pca": lambda **given: nf.kernel_pca(small, 2, **given),
    "kernel_flow": lambda **given: nf.kernel_flow(small, X, t=1.0, loss=see(lambda f, y: (f**2).mean()), **given),
    "linearized": lambda **given: nf.linearize(f).train(X, X, steps=1, loss=see(lambda f, y: (f**2).mean()), **given),
}
for name, call in calls.items():
    call()
    print(name, took(), end=" ")
    call(n_threads=3)
    print(took())
nf.engine.threads.SMALL_WORK = 0
for name, call in calls.items():
    call()
    print(name, took())
"""


def test_small_work_takes_one_thread():
    """Several would wait for one another on a busy machine; what is asked for is given."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-P", "-c", BUSY], env=env, capture_output=True, text=True, check=False)
    names = ("train", "flow", "process", "fit", "pca", "kernel_flow", "linearized")
    expected = [f"{name} [1] [3]" for name in names] + [f"{name} [2]" for name in names]
    assert done.stdout.splitlines() == expected, done.stdout + done.stderr


def test_numbers_of_threads_are_checked():
    for call in (
        lambda: LeastSquaresFlow(np.eye(2), [1.0, 2.0], n_threads=0),
        lambda: nf.GaussianProcess(np.eye(2), [1.0, 2.0], n_threads=0),
        lambda: nf.kernel_pca(np.eye(2), 1, n_threads=0),
        lambda: nf.kernel_flow(np.eye(2), [1.0, 2.0], t=1.0, n_threads=0),
        lambda: max_learning_rate(np.eye(2), n_threads=0),
        lambda: linearize(finite()).train(X, REAL, n_threads=0),
        lambda: nf.random_feature_model(np.eye(2), n_features=2, n_threads=0),
    ):
        with pytest.raises(ValueError, match="n_threads: expected an integer >= 1, got 0"):
            call()


def test_a_huge_flow_says_so(monkeypatch):
    """A decomposition of minutes is announced, one that does not fit is refused."""
    model = linearize(finite())
    right = model.flow(X, REAL, 1.0)
    monkeypatch.setattr(linearized, "LARGE", 15)
    with pytest.warns(UserWarning, match=r"X: 8 points with 2 outputs take .* a matrix of 16 rows, about 4e\+04 fl"):
        found = model.flow(X, REAL, 1.0, n_threads=1)
    assert_allclose(found.displacement, right.displacement, rtol=1e-9)
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    with pytest.raises(MemoryError, match="X: the eigendecomposition of 4000 x 4000 numbers needs"):
        model.flow(np.ones((2000, 3)), np.ones((2000, 2)), 1.0)


def test_a_direction_may_be_false():
    class Direction:
        def __len__(self):
            return 0

        def __call__(self, t, outputs):
            return outputs

    assert train(finite(), X, steps=1, direction=Direction()).losses is None


def test_float32_stays_float32():
    f = finite(dtype=np.float32)
    run = train(f, X, REAL, steps=30, momentum=0.5, learning_rate=0.3)
    exact = train(
        FiniteNetwork(f.net, [w.astype(float) for w in f.weights], [b.astype(float) for b in f.biases]),
        X,
        REAL,
        steps=30,
        momentum=0.5,
        learning_rate=0.3,
    )
    assert all(array.dtype == np.float32 for array in parameters(run.network))
    assert_allclose(run.network(X), exact.network(X), atol=1e-4)


def test_a_step_allocates_nothing_of_the_size_of_the_weights():
    f = FiniteNetwork.init(nf.MLP(3), 3, 1000, rng=0, dtype=np.float32)  # 4 MB, most of it one matrix
    for momentum, copies in ((0.0, 1), (0.5, 2)):
        tracemalloc.start()
        train(f, X, REAL[:, 0], steps=3, learning_rate=0.1, momentum=momentum)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (copies + 0.4) * 4 * f.n_parameters


def test_the_given_network_is_untouched_even_by_an_interrupt():
    f, before = finite(), finite()

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    train(f, X, REAL, steps=5)
    with pytest.raises(KeyboardInterrupt):
        train(f, X, REAL, steps=5, progress=interrupt)
    for a, b in zip(parameters(f), parameters(before), strict=True):
        assert_array_equal(a, b)


def test_no_steps():
    f = finite()
    run = train(f, X, REAL, steps=0)
    assert_array_equal(run.network(X), f(X))
    assert run.losses.shape == (1,)
    assert_array_equal(run.steps, [0])
    assert_array_equal(run.movement, [0])


# --- dropout


def test_gradients_see_the_masks():
    net = nf.Network([nf.Dropout(0.2), nf.Dense(bias_std=0.1), "tanh", nf.Dropout(0.4), nf.Dense()])
    f = finite(net, 1)
    tape = []
    passes.forward(f, X, tape, np.random.default_rng(5))
    direction = RNG.normal(size=f.weights[0].shape)
    slope = passes.tangent(f, tape, [direction, None], [None, None])
    h = 1e-5
    values = []
    for sign in (1, -1):
        moved = f.copy()
        moved.weights[0] += sign * h * direction
        values.append(passes.forward(moved, X, None, np.random.default_rng(5)))
    assert_allclose(slope, (values[0] - values[1]) / (2 * h), atol=1e-9)
    gradient = next(
        s * g[0].T @ inputs
        for (layer, inputs, g), s in zip(
            passes.backward(f, tape, np.ones((1, 8, 1)), [True, False]), f.weight_scales, strict=False
        )
        if layer == 0
    )
    assert_allclose(np.vdot(gradient, direction), slope.sum())


def test_dropout_acts_in_training_only():
    net = nf.Network([nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()])
    f, without = finite(net, 1, widths=50), finite(nf.MLP(2), 1, widths=50)
    assert_array_equal(f(X), without(X))
    y = REAL[:, 0]
    one, same, other = (train(f, X, y, steps=10, learning_rate=0.1, rng=seed) for seed in (1, 1, 2))
    assert_array_equal(one.losses, same.losses)
    assert not np.array_equal(one.losses, other.losses)
    assert one.losses[0] != train(without, X, y, steps=0).losses[0]


def test_a_first_loss_of_zero_by_a_mask_is_no_divergence():
    f = FiniteNetwork.init(nf.Network([nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()]), 1, 2, rng=0)
    run = train(f, [[1.0], [2.0]], [0.0, 0.0], steps=20, learning_rate=0.1, rng=8)
    assert run.losses[0] == 0
    assert run.losses.max() > 0


def test_masked_outputs_have_the_right_mean():
    """Inverted masks: over 4000 draws the mean of a linear network's outputs, within 5 standard errors."""
    f = finite(nf.Network([nf.Dropout(0.3), nf.Dense()]), 1)
    rng = np.random.default_rng(0)
    draws = np.array([passes.forward(f, X, None, rng) for _ in range(4000)])
    assert np.all(np.abs(draws.mean(axis=0) - f(X)) < 5 * draws.std(axis=0) / math.sqrt(4000))


# --- what is recorded


def test_record():
    f, others = finite(), RNG.normal(size=(5, 3))
    run = train(f, X, REAL, steps=25, record=Record(steps=10, X=others, ntk_X=X))
    assert_array_equal(run.steps, [0, 10, 20, 25])
    assert run.outputs.shape == (4, 5, 2)
    assert run.ntk.shape == (4, 8, 8)
    for k, m in enumerate(run.steps):
        at = train(f, X, REAL, steps=m).network
        assert_array_equal(run.outputs[k], at(others))
        assert_allclose(run.ntk[k], reference_finite.ntk(at, X), rtol=1e-12)
        assert_allclose(
            run.ntk_distance[k], np.linalg.norm(reference_finite.ntk(at, X) - reference_finite.ntk(f, X), 2), atol=1e-12
        )
        moved = [np.ravel(a - b) for a, b in zip(parameters(at), parameters(f), strict=True)]
        assert_allclose(run.movement[k], np.linalg.norm(np.concatenate(moved)))
    listed = train(f, X, REAL, steps=25, record=Record(steps=[20, 3]))
    assert_array_equal(listed.steps, [3, 20])
    assert listed.outputs is None
    assert listed.ntk is None
    assert listed.ntk_distance is None


def test_recorded_steps_of_a_generator():
    record = Record(steps=(m for m in (5, 0)), X=X)
    for _ in range(2):
        assert_array_equal(train(finite(), X, REAL, steps=5, record=record).steps, [0, 5])


def test_no_step_recorded():
    run = train(finite(), X, REAL, steps=5, record=Record(steps=[], X=X[:3], ntk_X=X[:4]))
    shapes = [array.shape for array in (run.steps, run.movement, run.outputs, run.ntk, run.ntk_distance)]
    assert shapes == [(0,), (0,), (0, 3, 2), (0, 4, 4), (0,)]


def test_the_kernel_of_many_points_at_the_first_step():
    """The difference at step 0 is exactly 0, which Lanczos' method does not accept."""
    points = RNG.normal(size=(DENSE + 1, 3))
    run = train(finite(n_outputs=1), X, REAL[:, 0], steps=1, learning_rate=0.1, record=Record(ntk_X=points))
    assert run.ntk_distance[0] == 0 < run.ntk_distance[1]


def test_wide_networks_hardly_move():
    """The kernel moves less as the width grows (Theorem 2); here by a factor of about √16."""
    distances = []
    for width in (100, 1600):
        f = finite(nf.MLP(2, "tanh"), 1, widths=width)
        run = train(f, X, REAL[:, 0], steps=100, record=Record(steps=100, ntk_X=X))
        distances.append(run.ntk_distance[-1])
    assert distances[1] < 0.5 * distances[0]


# --- divergence


def test_the_largest_stable_learning_rate():
    f = finite(nf.MLP(1), 1)
    y = X @ np.array([1.0, -2.0, 0.5])
    limit = max_learning_rate(reference_finite.ntk(f, X))
    assert_allclose(limit, 2 * 8 / np.linalg.eigvalsh(X @ X.T / 3).max())
    stable = train(f, X, y, steps=300, learning_rate=0.99 * limit)
    assert stable.losses[-1] < 1e-3 * stable.losses[0]
    with pytest.raises(DivergenceError, match=rf"diverged at step \d+: the loss grew.*below {limit:.3g} at the start$"):
        train(f, X, y, steps=1000, learning_rate=1.2 * limit)


def test_the_hint_of_many_points_is_an_estimate():
    points = RNG.normal(size=(500, 3))
    f = finite(n_outputs=1)
    with pytest.raises(DivergenceError, match=r"learning_rate is 1000, .*below .* estimated from 167 points"):
        train(f, points, points[:, 0], steps=100, learning_rate=1000)


def test_divergence_beyond_the_numbers():
    own = nf.Activation.from_function(
        lambda x: x + np.sin(x) ** 2, name="snake", derivative=lambda x: 1 + np.sin(2 * x)
    )
    for net in (RELU, nf.MLP(4, "softplus"), nf.MLP(3, own)):
        for dtype in (np.float32, np.float64):
            with pytest.raises(DivergenceError, match="diverged at step"):
                train(finite(net, 1, dtype=dtype), X, REAL[:, 0], steps=100, learning_rate=1e12)
    with pytest.raises(DivergenceError, match="diverged at step 0: the loss is nan"):
        train(finite(), X, REAL, loss=lambda f, y: (math.nan, f))
    with pytest.raises(DivergenceError, match=r"diverged at step \d+: the outputs are not finite"):
        train(finite(), X, direction=lambda t, f: -1e9 * f)
    assert issubclass(DivergenceError, ArithmeticError)


@pytest.mark.parametrize("loss", ["logistic", "huber", "softmax"])
def test_training_that_ends_above_its_start(loss):
    """Losses that grow like |f| do not grow by 1e8 before the end: a warning names them."""
    net = nf.MLP(3, "tanh", bias_std=0.1)
    k = 3 if loss == "softmax" else 2
    points = np.vstack([X, X])  # every point twice, with different targets: nothing fits
    y = np.concatenate([TARGETS[loss], (LABELS + 1) % 3 if loss == "softmax" else -np.asarray(TARGETS[loss])])
    words = (
        r"training did not converge: the loss is .* at step 11, above the .* of the start .* learning_rate is 1000, for"
    )
    with pytest.warns(UserWarning, match=words):
        run = train(finite(net, k, widths=30), points, y, steps=11, learning_rate=1000.0, loss=loss)
    assert run.losses[-1] > run.losses[0]
    with pytest.warns(UserWarning, match=words):
        linearize(finite(net, k, widths=30)).train(points, y, steps=11, learning_rate=1000.0, loss=loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(finite(net, k, widths=30), points, y, steps=11, learning_rate=0.5, loss=loss)


def test_rounding_errors_of_an_exact_fit_may_grow():
    """Errors up to the size of the targets are allowed."""
    f = finite(nf.MLP(1), 1)
    y, rate = f(X) + 1e-15, 1.2 * max_learning_rate(reference_finite.ntk(f, X))
    run = train(f, X, y, steps=80, learning_rate=rate)
    assert 1e8 * run.losses[0] < run.losses[-1] < 1
    with pytest.raises(DivergenceError, match="the loss grew"):
        train(f, X, y, steps=1000, learning_rate=rate)


def test_the_hint_of_a_kernel_of_zero():
    values = iter([1.0, math.nan])
    f = finite(nf.Network([nf.Dense(weight_lr=0)]))
    points = np.repeat(X, 3, axis=0)  # enough for Lanczos' method
    with pytest.raises(DivergenceError, match="learning_rate is 1, the tangent kernel is 0 at the start"):
        train(f, points, steps=2, loss=lambda f, y: (next(values), f))


@pytest.mark.parametrize("n", [5, DENSE + 40])
def test_extreme_eigenvalues(n):
    A = np.random.default_rng(0).normal(size=(n, n))
    A = (A + A.T) / math.sqrt(n) - 0.5 * np.eye(n)
    exact = np.linalg.eigvalsh(A)
    assert_allclose(largest_eigenvalue(A), exact[-1], rtol=1e-10)
    assert_allclose(operator_norm(A), -exact[0], rtol=1e-10)


@pytest.mark.parametrize("n", [3, DENSE + 100])
def test_max_learning_rate_of_zero_and_of_large_matrices(n):
    zero, one = np.zeros((n, n)), np.eye(n)
    assert max_learning_rate(zero) == math.inf
    assert operator_norm(zero) == largest_eigenvalue(zero) == 0
    assert_allclose(max_learning_rate(1e150 * (1 - one)), 2 * n / (n - 1) / 1e150)
    assert_allclose(max_learning_rate(np.float32(1e16) * np.ones((n, n), "f4")), 2e-16, rtol=1e-6)


def test_max_learning_rate_of_several_outputs():
    """It is that of the full kernel, whose largest eigenvalue involves all outputs together; N counts points."""
    f = FiniteNetwork.init(nf.MLP(3, "relu", bias_std=0.1), 3, 30, 2, rng=0)
    X = np.random.default_rng(0).standard_normal((6, 3))
    full = nf.empirical_ntk(f, X, outputs="full")
    top = np.linalg.eigvalsh(np.swapaxes(full, 1, 2).reshape(12, 12))[-1]
    assert_allclose(max_learning_rate(full), 2 * 6 / top, rtol=1e-10)


def test_max_learning_rate_of_other_matrices():
    near = [[1.0, 0.5], [0.5 + 1e-9, 1.0]]
    assert_allclose(max_learning_rate(near), 4 / 1.5, rtol=1e-8)
    for bad, error, words in (
        (np.ones((2, 3)), ValueError, r"K_xx: expected shape \(N, N\) or \(N, N, k, k\), got \(2, 3\)"),
        (np.ones(3), ValueError, "K_xx: expected shape"),
        ([[np.nan]], ValueError, "K_xx: expected finite numbers"),
        ([["a"]], TypeError, "K_xx: expected real numbers"),
        ([[1.0], [1.0, 2.0]], ValueError, "K_xx: expected an array of numbers, got list"),
        (np.ma.array(np.eye(2)), TypeError, "K_xx: expected an array without mask"),
        (-np.eye(3), ValueError, "K_xx: expected a positive semi-definite matrix, but its largest eigenvalue is -1"),
        (
            [[1.0, 2.0], [3.0, 1.0]],
            ValueError,
            r"K_xx: expected a symmetric matrix, got 2.0 at \(0, 1\) and 3.0 at \(1, 0\)",
        ),
    ):
        with pytest.raises(error, match=words):
            max_learning_rate(bad)


# --- convergence in width


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_fall_like_one_over_the_root_of_the_width(dtype):
    calls = []
    points = X.astype(dtype)
    result = convergence(
        RELU, points, [64, 256, 1024], n_seeds=12, rng=0, progress=lambda done, total: calls.append((done, total))
    )
    assert result.errors.shape == (3, 12)
    assert abs(result.slope + 0.5) < 4 * result.slope_error
    assert result.slope_error < 0.1
    assert_array_equal(result.mean, result.errors.mean(axis=1))
    assert_array_equal(result.median, np.median(result.errors, axis=1))
    assert calls[-1] == (36, 36)
    again = convergence(RELU, points, [64, 256], n_seeds=12, rng=np.random.default_rng(0))
    assert_array_equal(again.errors, result.errors[:2])


def test_one_error_on_paper():
    result = convergence(RELU, X, [32], n_seeds=1, rng=7)
    exact = nf.ntk(RELU, X)
    error = np.linalg.norm(reference_finite.ntk(finite(n_outputs=1, widths=32, rng=7), X) - exact, 2) / np.linalg.norm(
        exact, 2
    )
    assert_allclose(result.errors, [[error]], rtol=1e-10)
    assert math.isnan(result.slope)


def test_the_mean_square_is_that_of_theory():
    result = convergence(RELU, X, [100, 400], n_seeds=100, rng=1)
    size = np.linalg.norm(nf.ntk(RELU, X))
    expected = [np.linalg.norm(nf.finite_width(RELU, X, width=n, get="ntk_std")) / size for n in (100, 400)]
    assert_allclose(result.theory, expected, rtol=1e-12)
    assert (abs(result.z_scores) < 4).all()
    one = convergence(RELU, X, [100], n_seeds=1, rng=1)
    assert np.isnan(one.z_scores).all()
    unknown = convergence(nf.Network([nf.Dense(), nf.LayerNorm(), "relu", nf.Dense()]), X, [20], n_seeds=2, rng=1)
    assert np.isnan(unknown.theory).all()
    assert np.isnan(unknown.z_scores).all()
    no_hidden_layer = nf.convergence(nf.MLP(1), [[1.0, 0.0], [0.6, 0.8]], [10, 20], n_seeds=3, rng=0)
    assert np.isnan(no_hidden_layer.z_scores).all()


def test_slope_of_an_exact_power_law():
    widths = np.array([10, 100, 1000])
    errors = 3.0 * widths[:, None] ** -0.5 * np.ones((3, 2))
    result = Convergence(RELU, widths, errors, errors, errors[:, 0])
    assert_allclose(result.slope, -0.5)
    assert_allclose(result.slope_error, 0, atol=1e-12)


def test_plot_of_convergence():
    pytest.importorskip("matplotlib")
    from ntkfast.plotting import plot_convergence

    widths = np.array([10, 100])
    errors = RNG.uniform(0.5, 1, size=(2, 4)) / np.sqrt(widths)[:, None]
    result = Convergence(RELU, widths, errors, errors, 0.75 / np.sqrt(widths))
    ax = plot_convergence(result)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert any("slope" in label for label in labels)
    assert sum("Frobenius" in label for label in labels) == 1
    unknown = Convergence(RELU, widths[:1], errors[:1], errors[:1], np.array([np.nan]))
    assert plot_convergence(unknown, ax=ax) is ax
    labels = [text.get_text() for text in plot_convergence(unknown).get_legend().get_texts()]
    assert not any("Frobenius" in label for label in labels)
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"net": "relu"}, TypeError, "net: expected a Network, got str"),
        ({"X": X[0]}, ValueError, "X: expected a 2-D array"),
        ({"X": np.zeros((2, 3)), "net": nf.MLP(2)}, ValueError, "X: expected points whose limit kernel is not 0"),
        ({"net": nf.Network([nf.Dropout(0.1), nf.Dense()])}, ValueError, "net: expected a network without Dropout"),
        ({"widths": 100}, TypeError, "widths: expected a sequence of integers, got int"),
        ({"widths": []}, ValueError, "widths: expected at least one width, got none"),
        ({"widths": [10, 0]}, ValueError, r"widths\[1\]: expected an integer >= 1, got 0"),
        ({"n_seeds": 0}, ValueError, "n_seeds: expected an integer >= 1, got 0"),
        ({"progress": 3}, TypeError, "progress: expected None"),
    ],
)
def test_bad_arguments_of_convergence(changes, error, words):
    with pytest.raises(error, match=words):
        convergence(**{"net": RELU, "X": X, "widths": [10], **changes})


# --- bad input


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"f": RELU}, TypeError, "f: expected a FiniteNetwork, got Network"),
        ({"X": X[:, :2]}, ValueError, r"X: expected 3 features as in the network, got shape \(8, 2\)"),
        ({"y": REAL[:4]}, ValueError, r"y: expected shape \(8, 2\), got \(4, 2\)"),
        ({"y": None}, TypeError, "y: .* y is needed for loss 'mse'"),
        ({"y": np.full((8, 2), np.nan)}, ValueError, "y: expected finite numbers, got nan in row 0"),
        ({"steps": -1}, ValueError, "steps: expected an integer >= 0, got -1"),
        ({"steps": 1.5}, TypeError, "steps: expected an integer, got float"),
        ({"learning_rate": 0}, ValueError, "learning_rate: expected a number > 0, got 0"),
        ({"learning_rate": "1"}, TypeError, "learning_rate: expected a number, got str"),
        ({"n_threads": 0}, ValueError, "n_threads: expected an integer >= 1, got 0"),
        ({"momentum": 1.0}, ValueError, r"momentum: expected a number in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, ValueError, r"momentum: expected a number in \[0, 1\), got -0.1"),
        ({"loss": "mae"}, ValueError, "loss: 'mae' is unknown"),
        ({"direction": "down"}, TypeError, r"direction: expected a function \(t, outputs\), got str"),
        ({"direction": lambda t, f: 1j * f}, TypeError, "direction: d: expected real numbers, got dtype complex"),
        ({"direction": lambda t, f: f[0]}, ValueError, r"direction: .*return shape \(8, 2\), got \(2,\)"),
        ({"record": 10}, TypeError, "record: expected a Record, got int"),
        ({"record": Record(steps=0)}, ValueError, "record.steps: expected an integer >= 1, got 0"),
        ({"record": Record(steps="all")}, TypeError, "record.steps: expected an integer or a sequence"),
        ({"record": Record(steps=[1, 2.0])}, TypeError, r"record.steps\[1\]: expected an integer, got float"),
        ({"record": Record(steps=[500])}, ValueError, "record.steps: expected steps up to 10, got 500"),
        ({"record": Record(X=X[0])}, ValueError, "record.X: expected a 2-D array"),
        ({"progress": "yes"}, TypeError, "progress: expected None, True, False or a callable, got str"),
        ({"rng": "0"}, TypeError, "rng: expected None, an integer or a numpy.random.Generator, got str"),
    ],
)
def test_bad_arguments(changes, error, words):
    with pytest.raises(error, match=words):
        train(**{"f": finite(), "X": X, "y": REAL, "steps": 10, **changes})


def test_an_activation_without_derivative():
    own = finite(nf.Network([nf.Dense(), nf.Activation.from_function(np.tanh, name="mine"), nf.Dense()]))
    for net in (own, named := finite(nf.MLP(2, "tanh"))):
        train(net, X, REAL, steps=20)
    assert_allclose(own(X), named(X), rtol=1e-10)


@pytest.mark.parametrize("depth", [2, pytest.param(3, marks=pytest.mark.long)])
def test_a_wide_trained_network_stays_in_the_band_of_the_limit(depth):
    """Width 4096, 20 seeds, on the data and elsewhere: each within the simultaneous 99 % band of as many Gaussian
    values (Bonferroni), and with the limit's spread, to within √(2/values) of a χ² if all were independent.
    """
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    points = np.sqrt(2) * np.array([[np.cos(a), np.sin(a)] for a in [*angles, *(angles + 0.3)]])
    data, y = points[:8], np.sin(2 * angles) + 0.5
    net = nf.MLP(depth, "relu", np.sqrt(2), 0.1)
    nngp, ntk = nf.kernels(net, points)
    flow = LeastSquaresFlow(ntk[:8, :8], y, nngp[:8, :8])
    eta, steps = 0.5 * flow.max_learning_rate, (0, 3, 30)
    path = {"steps": steps, "learning_rate": eta, "ntk_tx": ntk[:, :8]}
    mean = flow.mean(**path)
    spread = np.sqrt(flow.variance(nngp_tx=nngp[:, :8], nngp_t=nngp.diagonal(), **path))
    scores = np.empty((20, *mean.shape))
    for seed in range(20):
        f = FiniteNetwork.init(net, 2, 4096, 1, rng=seed, dtype=np.float32)
        for k, n_steps in enumerate(np.diff(steps, prepend=0)):
            f = train(f, data, y, steps=n_steps, learning_rate=eta, progress=False).network
            scores[seed, k] = (f(points)[:, 0] - mean[k]) / spread[k]
    assert np.abs(scores).max() < stats.norm.ppf(1 - 0.01 / 2 / scores[0].size)  # of one seed's values
    assert np.mean(scores**2) == pytest.approx(1, abs=0.3)
    assert spread[2].max() < 0.2 * spread[0].min()  # the band has narrowed
