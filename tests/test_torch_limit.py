"""Limit kernels that PyTorch differentiates: against autograd on a plain recursion, gradcheck, and refused input."""

import math

import numpy as np
import pytest
import random_networks
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkfast as nf

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ntkfast[torch]'")

D = 3
GENERATOR = torch.Generator().manual_seed(0)
KERNELS = (nf.torch.ntk, nf.torch.nngp)


def points(n, dtype=torch.float64):
    return torch.randn(n, D, dtype=dtype, generator=GENERATOR).requires_grad_()


def values_of(net, **options):
    return torch.tensor(list(nf.hyperparameters(net, **options).values()), dtype=torch.float64, requires_grad=True)


def relu(q1, q2, c):
    rho = c / torch.sqrt(q1 * q2)
    angle = torch.arccos(rho)
    slope = (math.pi - angle) / (2 * math.pi)
    return c * slope + torch.sqrt(q1 * q2) * torch.sqrt(1 - rho**2) / (2 * math.pi), slope


def erf(q1, q2, c):
    product = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / math.pi * torch.arcsin(2 * c / torch.sqrt(product)), 4 / math.pi / torch.sqrt(product - 4 * c**2)


def recursion(dual, X, Y, values):
    """Σ and Θ of an MLP for points that differ, from the values of its hyperparameters."""
    fan_in = D
    q1, q2, c = (X**2).sum(1)[:, None], (Y**2).sum(1)[None, :], X @ Y.T
    theta = torch.zeros_like(c)
    for k in range(0, len(values), 2):
        slope = 1
        if k:
            diagonals = [dual(q, q, q * (1 - 1e-14))[0] for q in (q1, q2)]
            (c, slope), (q1, q2) = dual(q1, q2, c), diagonals
        w2, b2 = values[k] ** 2 / fan_in, values[k + 1] ** 2
        q1, q2, c = (w2 * q + b2 for q in (q1, q2, c))
        theta = w2 * slope * theta + c
        fan_in = 1
    return c, theta


@pytest.mark.parametrize("dual", [relu, erf], ids=["relu", "erf"])
def test_against_autograd_on_a_plain_recursion(dual):
    net = nf.MLP(3, dual.__name__, weight_std=1.2, bias_std=0.3)
    sides = points(6), points(4), values_of(net)
    weights = torch.randn(6, 4, dtype=torch.float64, generator=GENERATOR)
    X, Y, values = sides
    sigma, theta = recursion(dual, *sides)
    for kernel, want in ((nf.torch.nngp, sigma), (nf.torch.ntk, theta)):
        found = kernel(net, X, Y, hyperparameters=values)
        assert torch.allclose(found, want, rtol=0, atol=1e-6)
        gradients = [torch.autograd.grad((K * weights).sum(), sides, retain_graph=True) for K in (found, want)]
        for one, two in zip(*gradients, strict=True):
            assert torch.allclose(one, two, rtol=1e-5, atol=1e-6)  # of the recursion at correlations of nearly 1


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["relu", "gelu", "erf", "sin", "tanh", "hardtanh"])
def test_gradcheck(kernel, name):
    net = nf.MLP(2, name, bias_std=0.3)
    X, Y, values = points(3), points(2), values_of(net)
    tolerance = {"atol": 1e-4, "rtol": 1e-3} if name in ("tanh", "hardtanh") else {}
    assert torch.autograd.gradcheck(lambda *t: kernel(net, *t[:2], hyperparameters=t[2]), (X, Y, values), **tolerance)
    assert torch.autograd.gradcheck(lambda X, v: kernel(net, X, hyperparameters=v), (X, values), **tolerance)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), rectangular=st.booleans())
def test_any_network(seed, rectangular):
    """What kernel_vjp gives, whose own tests are differences."""
    net = random_networks.network(np.random.default_rng(seed))
    X, Y, values = points(4), points(2) if rectangular else None, values_of(net)
    K = nf.torch.ntk(net, X, Y, hyperparameters=values)
    weights = torch.randn(K.shape, dtype=torch.float64, generator=GENERATOR)
    K.backward(weights)
    arrays = [None if side is None else side.detach().numpy() for side in (X, Y)]
    want = nf.kernel_vjp(net, *arrays, weights=weights.numpy(), inputs=True)
    assert np.allclose(K.detach().numpy(), nf.ntk(net, *arrays))  # series have more terms for derivatives
    for side, gradient in zip((values, X, Y), want, strict=True):
        assert side is None or np.array_equal(side.grad.numpy(), gradient)


def test_a_matrix_with_itself_is_computed_once():
    net, X = nf.MLP(3), points(5)
    for other in (None, X):
        K = nf.torch.ntk(net, X, other)
        assert torch.equal(K, K.T)
        (gradient,) = torch.autograd.grad(K.sum(), X)
        want = nf.kernel_vjp(net, X.detach().numpy(), weights=np.ones((5, 5)), inputs=True).X
        assert np.array_equal(gradient.numpy(), want)


def test_the_same_numbers_may_be_two_variables():
    """A derivative with respect to one side only, though both are in one place in memory."""
    net, X = nf.MLP(3, "erf", bias_std=0.1), points(5)
    (one,) = torch.autograd.grad(nf.torch.ntk(net, X, X.detach()).sum(), X)
    (both,) = torch.autograd.grad(nf.torch.ntk(net, X).sum(), X)
    assert torch.allclose(2 * one, both)
    found = torch.func.grad(lambda Z: nf.torch.ntk(net, Z, X.detach()).sum())(X.detach())
    assert torch.allclose(found, one)


def test_precision_follows_the_tensors():
    net, X, Y = nf.MLP(3), points(5, torch.float32), points(4)
    values = torch.tensor(list(nf.hyperparameters(net).values()), requires_grad=True)
    assert nf.torch.ntk(net, X).dtype == torch.float32
    K = nf.torch.ntk(net, X, Y, hyperparameters=values)
    assert K.dtype == torch.float64
    K.sum().backward()
    assert [t.grad.dtype for t in (X, Y, values)] == [torch.float32, torch.float64, torch.float32]
    assert nf.torch.ntk(net, np.eye(2, dtype="f4"), [[1, 0]]).dtype == torch.float64


def test_hyperparameters_by_name():
    net, X = nf.MLP(2, "rbf", bias_std=0.1), points(4)
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    K = nf.torch.ntk(net, X, hyperparameters={(1, "weight_std"): w, (0, "gamma"): gamma})
    moved = nf.with_hyperparameters(net, [1.0, 0.1, 1.3, 0.1, 0.7])
    assert np.array_equal(K.detach().numpy(), nf.ntk(moved, X.detach().numpy()))
    K.sum().backward()
    want = nf.kernel_vjp(moved, X.detach().numpy(), weights=np.ones((4, 4)), activations=True)
    assert [w.grad.item(), gamma.grad.item()] == pytest.approx([want[2], want[4]], rel=1e-10)


def test_only_what_is_needed():
    net, X = nf.MLP(2), points(4).detach()
    assert not nf.torch.ntk(net, X).requires_grad
    with torch.no_grad():
        assert not nf.torch.ntk(net, X.requires_grad_()).requires_grad
    K = nf.torch.ntk(nf.MLP(2, "hardshrink"), X)  # a series that jumps has no derivatives
    with pytest.raises(ValueError, match="activation 'hardshrink' jumps"):
        K.sum().backward()


def test_a_tensor_is_not_copied():
    """Nor may it change before the backward pass."""
    net, X = nf.MLP(2), points(4)
    base = torch.zeros(4, 2 * D, dtype=torch.float64)
    Y = base[:, ::2]
    K = nf.torch.ntk(net, X, Y)
    with torch.no_grad():
        X += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        K.sum().backward()


def test_not_finite_gradients_are_passed_on():
    net, X = nf.MLP(2), points(4)
    (nf.torch.ntk(net, X).sum() * torch.inf).backward()
    assert torch.isnan(X.grad).all()


def test_second_derivatives_are_refused():
    X = points(4)
    (first,) = torch.autograd.grad(nf.torch.ntk(nf.MLP(2), X).sum(), X, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "X: expected a tensor on the CPU, got one on meta; pass X.cpu", (torch.ones(2, 2, device="meta"),)),
        (TypeError, "Y: expected a dense tensor", (torch.ones(2, 2), torch.eye(2).to_sparse())),
        (TypeError, "X: expected real numbers", (torch.ones(2, 2, dtype=torch.complex64),)),
        (ValueError, "X: expected a 2-D array", (torch.ones(2),)),
        (ValueError, "Y: expected 2 features", (torch.ones(2, 2), torch.ones(2, 3))),
    ],
)
def test_refused_points(error, message, arguments):
    with pytest.raises(error, match=message):
        nf.torch.ntk(nf.MLP(2), *arguments)


@pytest.mark.parametrize(
    ("values", "words"),
    [({(5, "weight_std"): 1.0}, "keys"), (torch.ones(2, 2), "shape"), (torch.ones(3), "expected 4")],
)
def test_refused_hyperparameters(values, words):
    with pytest.raises(ValueError, match=f"(hyperparameters|values): .*{words}"):
        nf.torch.ntk(nf.MLP(2), torch.ones(2, 2), hyperparameters=values)
