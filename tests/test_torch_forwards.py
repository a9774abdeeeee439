"""Tangent kernels of PyTorch modules whose forward is more than a walk over layers: right, or refused by name.

The Jacobian of every point by autograd on the module's own parameters is the reference.
"""

import copy
import random
import re

import numpy as np
import pytest
from test_bad_input import refused

import ntkfast as nf

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ntkfast[torch]'")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from ntkfast.torch.examine import examine  # noqa: E402
from ntkfast.torch.function import Function  # noqa: E402

TOLERANCE = 1e-12  # of the largest entry
D, K = 5, 3


def points(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X = points(6, D)
TOKENS = torch.arange(12).reshape(4, 3)


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Forward(nn.Module):
    """Parts, and a function of them and of a batch."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function
        self.double()

    def forward(self, x):
        return self.function(self, x)


def net(k=K):
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, k))


def two_layers(function, **parts):
    return Forward(function, a=nn.Linear(D, 4), b=nn.Linear(4, K), **parts)


def plain(m, x):
    return m.b(torch.tanh(m.a(x)))


def autograd_kernel(module, X, points_require_grad=False):
    """Θ̂_kk'(x, x') (n, n, k, k), one backward pass per point and output."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    rows = []
    for x in X:
        outputs = torch.func.functional_call(  # with buffers of its own
            module,
            {name: buffer.clone() for name, buffer in buffers.items()},
            (x[None].clone().requires_grad_(points_require_grad),),
        )
        for output in outputs.reshape(-1):
            gradients = (
                torch.autograd.grad(output, parameters, retain_graph=True, materialize_grads=True)
                if output.requires_grad
                else map(torch.zeros_like, parameters)
            )
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    J = torch.stack(rows).reshape(len(X), -1, sum(parameter.numel() for parameter in parameters))
    return torch.einsum("nap,mbp->nmab", J, J)


def close(a, b):
    return abs(a - b).max() <= TOLERANCE * abs(b).max()


# --- numbers known by hand


def derivative_of_square():
    """u_x of u = (w x + b)², w = 2, b = 1."""

    def forward(m, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad((m.layer(x) ** 2).sum(), x, create_graph=True)[0]

    module = Forward(forward, layer=nn.Linear(1, 1))
    module.layer.weight.data.fill_(2)
    module.layer.bias.data.fill_(1)
    return module


def test_derivatives_inside_forward():
    # u_x = 2 (w x + b) w, with the derivatives 2 (2 w x + b) = 10, 26 and 2 w = 4
    theta = nf.torch.empirical_ntk(derivative_of_square(), [[1.0], [3.0]])
    np.testing.assert_array_equal(theta, [[116, 276], [276, 692]])


@pytest.mark.parametrize("order", [1, -1])
def test_a_layer_used_more_often_for_some_points(order):
    def forward(m, x):
        h = m.layer(x)
        return h if x.sum() > 0 else m.layer(h)

    module = Forward(forward, layer=nn.Linear(1, 1, bias=False))
    module.layer.weight.data.fill_(3)
    theta = nf.torch.empirical_ntk(module, np.array([[1.0], [-1.0]])[::order])
    np.testing.assert_array_equal(theta, np.array([[1, -6], [-6, 36]])[::order, ::order])


# --- all kinds of forward


def gradient_of_net(m, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(m.net(x).sum(), x, create_graph=True)[0]


def laplacian(m, x):
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(m.net(x).sum(), x, create_graph=True)
    second = [torch.autograd.grad(gradient[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(D)]
    return sum(second)[:, None]


def while_large(m, x):
    h = x
    for _ in range(4):
        if h.norm() < 0.5:
            break
        h = 0.5 * torch.tanh(m.a(h))
    return m.b(h)


def assigned(m, x):
    h = torch.zeros(len(x), 6, dtype=x.dtype)
    h[:, :4], h[:, 4:] = m.a(x), m.c(x)
    return m.b(torch.tanh(h))


def saved_elsewhere(m, x):
    with torch.autograd.graph.save_on_cpu():
        return m.b(m.norm(m.a(x)))


class Tripled(TorchFunctionMode):
    """Linear layers are something else than they seem."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is functional.linear:
            args = (3 * args[0], *args[1:])
        return function(*args, **(kwargs or {}))


def tripled(m, x):
    with Tripled():
        return plain(m, x)


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnRule(torch.autograd.Function):
    """A backward pass that is not the derivative, as in straight-through estimators."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.sign(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return g


def held_parameter():
    module = two_layers(None)
    weight = module.a.weight
    module.function = lambda m, x: m.b(torch.tanh(functional.linear(x, weight))) + (m.a(x) @ m.b.weight.T)
    return module


def held_graph():
    module = two_layers(None)
    factor = torch.sin(module.a(X[:1])).mean()  # leads to the module's parameters
    module.function = lambda m, x: plain(m, x) * factor
    return module


def held_leaf():  # not among the module's parameters: a constant
    factor = points(4, seed=9).requires_grad_()
    return two_layers(lambda m, x: m.b(torch.tanh(m.a(x)) * factor))


def tied(**parts):
    module = Forward(lambda m, x: functional.linear(torch.tanh(m.a(x)), m.b.weight.T), a=nn.Linear(D, 4), **parts)
    module.b.weight = module.a.weight
    return module


def with_hook(register, hook, forward=plain):
    module = two_layers(forward)
    getattr(module.a, register)(hook)
    return module


def hooked_backwards(layer):
    layer.register_full_backward_hook(lambda layer, inputs, outputs: (2 * inputs[0],))
    return layer


def result_kept_by_a_hook():
    kept = {}
    hook = lambda layer, inputs, output: kept.update(result=output)  # noqa: E731
    return with_hook("register_forward_hook", hook, lambda m, x: plain(m, x) + kept["result"][:, :K] ** 2)


def hook_on_a_tensor(m, x):
    h = m.a(x)
    if h.requires_grad:
        h.register_hook(lambda g: 3 * g)
    return m.b(torch.tanh(h))


def frozen_and_branching():
    module = two_layers(lambda m, x: plain(m, x) if x.sum() > 0 else m.b(m.a(x)))
    module.a.requires_grad_(False)
    return module


def mixture(m, x):
    return torch.stack([m.experts[int(i)](row) for i, row in zip(m.gate(x).argmax(1), x, strict=True)])


FORWARDS = {
    "gradient": lambda: Forward(gradient_of_net, net=net(1)),
    "gradient, then layers": lambda: Forward(lambda m, x: m.a(gradient_of_net(m, x)), net=net(1), a=nn.Linear(D, K)),
    "Laplacian": lambda: Forward(laplacian, net=net(1)),
    "torch.func.grad": lambda: Forward(
        lambda m, x: torch.func.vmap(torch.func.grad(lambda point: m.net(point).sum()))(x), net=net(1)
    ),
    "torch.func.jvp": lambda: Forward(lambda m, x: torch.func.jvp(m.net, (x,), (torch.ones_like(x),))[1], net=net()),
    "some points do not reach a layer": lambda: Forward(
        lambda m, x: m.a(x) if x.sum() > 0 else m.b(x), a=nn.Linear(D, K), b=nn.Linear(D, K)
    ),
    "constant for some points": lambda: two_layers(
        lambda m, x: plain(m, x) if x.sum() > 0 else torch.ones(len(x), K, dtype=x.dtype)
    ),
    "constant": lambda: two_layers(lambda m, x: torch.ones(len(x), K, dtype=x.dtype)),
    "loop until small": lambda: Forward(while_large, a=nn.Linear(D, D), b=nn.Linear(D, K)),
    "single points only": lambda: two_layers(lambda m, x: plain(m, x) * x.norm(dim=1).item()),
    "masked second use": lambda: Forward(
        lambda m, x: torch.where(x.sum(1, keepdim=True) > 100, functional.linear(x, m.a.weight**2), m.a(x)),
        a=nn.Linear(D, K),
    ),
    "experts": lambda: Forward(
        mixture, experts=nn.ModuleList([nn.Linear(D, K), nn.Linear(D, K)]), gate=nn.Linear(D, 2)
    ),
    "checkpoint": lambda: Forward(
        lambda m, x: m.a(checkpoint(m.net, x, use_reentrant=False)), net=net(), a=nn.Linear(K, K)
    ),
    "saved elsewhere": lambda: two_layers(saved_elsewhere, norm=nn.LayerNorm(4)),
    "parameter of a closure": held_parameter,
    "graph of a closure": held_graph,
    "leaf of a closure": held_leaf,
    "weight used directly": lambda: two_layers(
        lambda m, x: functional.linear(torch.tanh(m.a(x)), m.b.weight - m.b.weight.mean(), m.b.bias)
    ),
    "bias used again": lambda: two_layers(lambda m, x: plain(m, x) + m.a.bias[:K]),
    "tied and transposed": lambda: tied(b=nn.Linear(D, 4)),
    "weight norm": lambda: Forward(plain, a=parametrizations.weight_norm(nn.Linear(D, 4)), b=nn.Linear(4, K)),
    "weight norm by hooks": lambda: Forward(plain, a=nn.utils.weight_norm(nn.Linear(D, 4).double()), b=nn.Linear(4, K)),
    "spectral norm": lambda: Forward(plain, a=parametrizations.spectral_norm(nn.Linear(D, 4)), b=nn.Linear(4, K)),
    "in place": lambda: two_layers(lambda m, x: m.b(m.a(x.mul_(2)).relu_())),
    "assignment": lambda: Forward(assigned, a=nn.Linear(D, 4), b=nn.Linear(6, K), c=nn.Linear(D, 2)),
    "forward hook": lambda: with_hook("register_forward_hook", lambda layer, inputs, output: 2 * output),
    "forward pre-hook": lambda: with_hook("register_forward_pre_hook", lambda layer, inputs: (inputs[0] ** 2,)),
    "backward hook": lambda: Forward(
        lambda m, x: m.b(m.a(m.c(x))), a=nn.Linear(D, 4), b=hooked_backwards(nn.Linear(4, K)), c=nn.Linear(D, D)
    ),
    "kept by a hook": result_kept_by_a_hook,
    "hook on a tensor": lambda: two_layers(hook_on_a_tensor),
    "no_grad": lambda: two_layers(lambda m, x: plain(m, x) * torch.no_grad()(m.a)(x)[:, :1]),
    "straight through": lambda: two_layers(lambda m, x: m.b(OwnRule.apply(m.a(x)))),
    "subclass": lambda: Forward(plain, a=Scaled(D, 4), b=nn.Linear(4, K)),
    "other linear": lambda: two_layers(tripled),
    "frozen, branching": frozen_and_branching,
    "squeezed": lambda: Forward(lambda m, x: m.net(x.squeeze()).squeeze(), net=net(1)),
    "complex": lambda: two_layers(lambda m, x: torch.fft.rfft(m.b(torch.fft.fft(m.a(x)).abs())).abs()),
    "PReLU": lambda: two_layers(lambda m, x: m.b(m.slope(m.a(x))), slope=nn.PReLU()),
    "batch norm in eval": lambda: nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Linear(4, K)).double().eval(),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:There is a performance drop")
@pytest.mark.parametrize("make", FORWARDS.values(), ids=FORWARDS)
def test_forwards(make):
    module = make()
    expected = autograd_kernel(module, X)
    assert close(nf.torch.empirical_ntk(module, X, outputs="full"), expected)
    order = torch.tensor([3, 1, 0, 2, 5, 4])
    assert close(nf.torch.empirical_ntk(module, X[order], outputs="full"), expected[order][:, order])
    assert close(nf.torch.empirical_ntk(module, X[:2], X[2:], "full", memory=10_000), expected[:2, 2:])


OTHER_POINTS = {
    "3-D": (lambda: two_layers(lambda m, x: plain(m, x).mean(1)), points(4, 2, D)),
    "tokens through a checkpoint": (
        lambda: Forward(
            lambda m, x: m.a(checkpoint(lambda x: torch.tanh(m.words(x).mean(1)), x, use_reentrant=False)),
            words=nn.Embedding(12, 4), a=nn.Linear(4, K),
        ),
        TOKENS,
    ),
    "one point": (lambda: two_layers(plain), X[:1]),
    "one point many times": (lambda: two_layers(plain), X[:1].expand(4, D)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_POINTS)
def test_other_points(name):
    make, X = OTHER_POINTS[name]
    module = make()
    assert close(nf.torch.empirical_ntk(module, X, outputs="full"), autograd_kernel(module, X))


def test_points_that_require_gradients():
    """As for modules that differentiate with respect to the points they are given."""
    module = Forward(lambda m, x: torch.autograd.grad(m.net(x).sum(), x, create_graph=True)[0], net=net(1))
    got = nf.torch.empirical_ntk(module, X.clone().requires_grad_(), outputs="full")
    assert close(got, autograd_kernel(module, X, points_require_grad=True))


FAST = {  # all by factors; by factors and torch.func; one point at a time
    "layers": (lambda: two_layers(plain), True, ["a", "b"]),
    "layers and a norm": (lambda: two_layers(lambda m, x: m.b(m.norm(m.a(x))), norm=nn.LayerNorm(4)), True, ["a", "b"]),
    "without biases": (lambda: Forward(plain, a=nn.Linear(D, 4, False), b=nn.Linear(4, K, False)), True, ["a", "b"]),
    "weight twice": (FORWARDS["weight used directly"], True, ["a"]),
    "other linear": (FORWARDS["other linear"], True, []),
    "derivative": (FORWARDS["gradient"], False, ["net.0", "net.2", "net.4"]),  # for the biases
    "branches": (FORWARDS["some points do not reach a layer"], False, ["a", "b"]),
    "loop": (FORWARDS["loop until small"], False, ["b"]),
    "closure": (FORWARDS["parameter of a closure"], False, ["a", "b"]),  # for the biases
}


@pytest.mark.parametrize("name", FAST)
def test_which_way_is_proven(name):
    make, vectorised, linears = FAST[name]
    f = Function(make())
    assert list(examine(f, [X])) == linears
    assert f.vectorised == vectorised


def test_the_module_is_left_as_it_was():
    """Attributes that forward sets, buffers, gradients and random numbers too; each point starts from that state."""

    def forward(m, x):
        m.calls += 1
        m.state = m.state + m.a(x)
        m.count += 1
        return m.b(torch.tanh(m.state)) * m.calls * m.count

    module = two_layers(forward, state=torch.zeros(4, dtype=torch.float64), calls=1)
    module.register_buffer("count", torch.zeros(()))
    chance, state = torch.get_rng_state(), module.state
    expected = autograd_kernel(copy.deepcopy(module), X[:1])
    theta = nf.torch.empirical_ntk(module, X, outputs="full")
    assert close(theta[:1, :1], expected)
    assert (module.calls, module.count.item()) == (1, 0)
    assert module.state is state
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), chance)


# --- refusals


def reentrant(where):
    return lambda: two_layers(
        lambda m, x: m.b(checkpoint(m.a, x, use_reentrant=True)) if where(x) else plain(m, x)
    )  # of a layer whose input needs no gradient


def inner_reentrant(m, x):
    return m.b(checkpoint(torch.tanh, m.a(x), use_reentrant=True))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(D, K).double()

    def forward(self, x, t):
        return self.a(x) * t


def parameter_with_hook():
    module = two_layers(plain)
    module.a.weight.register_hook(torch.zeros_like)
    return module


def drawing(m, x):
    return plain(m, x) * torch.rand(()) if len(x) == 1 and x.sum() > 0 else plain(m, x)


def attention_over_the_batch(m, x):
    return plain(m, torch.softmax(x @ x.T, 1) @ x)


def branching_and_mixing(m, x):
    return plain(m, x - x.mean(0)) if x.sum() > 0 else plain(m, 2 * (x - x.mean(0)))


MIXES = ("module: ", "one that mixes points", "module.eval()", "nf.gram_from_jacobian")
HIDDEN = ("module: ", "use_reentrant=False", "got use_reentrant=True")
REFUSED = {
    "dict": (lambda: two_layers(lambda m, x: {"y": plain(m, x)}), TypeError, ("module: ", "got dict", "wrap it")),
    "tuple": (lambda: two_layers(lambda m, x: (plain(m, x), x)), TypeError, ("module: ", "got tuple", "wrap it")),
    "two inputs": (TwoInputs, ValueError, ("X: expected points that the module takes", "in one tensor", "missing 1")),
    "bfloat16": (lambda: net().bfloat16(), TypeError, ("module: ", "got torch.bfloat16", "module.float()")),
    "hook on a parameter": (parameter_with_hook, ValueError, ("module: ", "hooks", "'a.weight'", "copy.deepcopy")),
    "reentrant": (reentrant(lambda x: True), ValueError, HIDDEN),
    "reentrant for some points": (reentrant(lambda x: len(x) == 1 and x.sum() > 0), ValueError, HIDDEN),
    "reentrant, inside": (lambda: two_layers(inner_reentrant), ValueError, HIDDEN),
    "random numbers for some points": (lambda: two_layers(drawing), ValueError, ("module: ", "random numbers")),
    "Python's random numbers": (
        lambda: two_layers(lambda m, x: plain(m, x) * random.random()), ValueError, ("module: ", "second call")
    ),
    "mean of the batch": (lambda: two_layers(lambda m, x: plain(m, x - x.mean(0))), ValueError, MIXES),
    "detached mean": (lambda: two_layers(lambda m, x: plain(m, x - x.mean(0).detach())), ValueError, MIXES),
    "little mixing": (lambda: two_layers(lambda m, x: plain(m, x + 1e-5 * x.mean(0))), ValueError, MIXES),
    "maximum of the batch": (lambda: two_layers(lambda m, x: plain(m, x / x.abs().max())), ValueError, MIXES),
    "attention over the batch": (lambda: two_layers(attention_over_the_batch), ValueError, MIXES),
    "branching and mixing": (lambda: two_layers(branching_and_mixing), ValueError, MIXES),
    "not finite": (lambda: two_layers(lambda m, x: plain(m, x) / 0), ValueError, ("X: the kernel of row 0",)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    make, error, words = REFUSED[name]
    module, chance = make(), torch.get_rng_state()
    refused(error, words, nf.torch.empirical_ntk, module, X)
    assert torch.equal(torch.get_rng_state(), chance)


def test_mixing_on_a_closed_curve():
    """The last point is the first again."""
    angles = torch.linspace(0, 2 * torch.pi, 9, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    module = Forward(lambda m, x: m.a(x - x.mean(0)), a=nn.Linear(2, K))
    refused(ValueError, MIXES, nf.torch.empirical_ntk, module, circle)


def test_hooks_are_not_copied():
    module = parameter_with_hook()
    theta = nf.torch.empirical_ntk(copy.deepcopy(module), X, outputs="full")
    assert close(theta, autograd_kernel(two_layers_like(module), X))


def two_layers_like(module):
    other = two_layers(plain)
    other.load_state_dict(module.state_dict())
    return other


def test_the_way_out_for_batch_norm_in_training():
    """The message has code for the kernel of one batch; it runs, and its numbers are right."""
    module = nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, K)).double()
    with pytest.raises(ValueError, match=r"got BatchNorm1d '1' in training mode") as caught:
        nf.torch.empirical_ntk(module, X)
    first, second = re.search(r"(names, .*); (nf\.gram.*)", str(caught.value)).groups()
    names = {"torch": torch, "module": module, "X": X, "nf": nf}
    exec(first, names)
    got = eval(second, names)

    parameters = list(module.parameters())
    outputs = module(X)
    rows = [torch.autograd.grad(output, parameters, retain_graph=True) for output in outputs.flatten()]
    J = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows]).reshape(len(X), K, -1)
    expected = torch.einsum("nap,map->nm", J, J) / K
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * expected.abs().max())


def test_the_other_empirical_ntk_points_here():
    refused(
        TypeError, ("f: expected a FiniteNetwork", "Sequential", "nf.torch.empirical_ntk"), nf.empirical_ntk, net(), X
    )
