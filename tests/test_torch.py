"""Tangent kernels of PyTorch modules against the contraction of torch.func's own Jacobian, and refused input."""

import doctest
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bad_input import refused

import ntkfast as nf

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ntkfast[torch]'")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

import ntkfast.torch.jacobian  # noqa: E402
from ntkfast.torch.examine import examine  # noqa: E402
from ntkfast.torch.function import Function  # noqa: E402

TOLERANCE = 1e-11  # of the largest entry: sums of up to 10⁴ products, each exact to 1e-16, leave a factor of 10
D, K = 5, 3


def contraction(module, X, Y=None):
    """Θ̂_kk'(x, x') of all outputs as in the torch.func tutorial: (n, m, k, k)."""
    parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def f(parameters, x):
        return torch.func.functional_call(module, parameters, (x[None],)).reshape(-1)

    def jacobian(X):
        return torch.func.vmap(torch.func.jacrev(f), (None, 0))(parameters, X)

    with torch.no_grad():
        left = jacobian(X)
        right = left if Y is None else jacobian(Y)
        left, right = ({name: g.reshape(*g.shape[:2], -1) for name, g in side.items()} for side in (left, right))
    return sum(torch.einsum("nap,mbp->nmab", left[name], right[name]) for name in left)


def reduced(theta, outputs):
    if outputs == "full":
        return theta
    diagonal = torch.diagonal(theta, dim1=2, dim2=3)
    return diagonal if outputs == "diagonal" else diagonal.mean(2)


def agrees(module, X, Y=None, outputs="full", **options):
    got = nf.torch.empirical_ntk(module, X, Y, outputs, **options)
    expected = reduced(contraction(module, X, Y), outputs)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert close(got, expected)


def close(a, b):
    return abs(a - b).max() <= TOLERANCE * abs(b).max()


def points(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, Y = points(6, D), points(4, D, seed=1)


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small problems, and perhaps other work on the machine
    yield
    torch.set_num_threads(threads)


def mlp(activation=nn.Tanh, n=8, k=K, bias=True):
    return nn.Sequential(
        nn.Linear(D, n, bias), activation(), nn.Linear(n, n + 1, bias), activation(), nn.Linear(n + 1, k, bias)
    ).double()


@pytest.fixture
def no_jacobian(monkeypatch):
    """Fails where a Jacobian is formed."""
    monkeypatch.setattr(ntkfast.torch.jacobian, "blocks", None)


# --- layers that are linear

ACTIVATIONS = [
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.SELU, nn.CELU, nn.Mish,
    nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign, nn.ReLU6, nn.LogSigmoid, nn.Tanhshrink, nn.Identity,
]  # fmt: skip


@pytest.mark.usefixtures("no_jacobian")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    agrees(mlp(activation), X)


class Residual(nn.Module):
    def __init__(self, in_place=False):
        super().__init__()
        self.first, self.last, self.in_place = nn.Linear(D, 7), nn.Linear(7, K), in_place
        self.block = nn.Sequential(nn.Linear(7, 8), nn.GELU(), nn.Linear(8, 7))
        self.double()

    def forward(self, x):
        x = self.first(input=x)
        if self.in_place:
            x += self.block(x)
        else:
            x = x + self.block(x)
        return self.last(torch.relu(x))


class Product(nn.Module):
    """Branches that are multiplied, a layer called as a function, an output without an axis."""

    def __init__(self):
        super().__init__()
        self.gate, self.value, self.last = nn.Linear(D, 7), nn.Linear(D, 7, bias=False), nn.Linear(7, 1)
        self.double()

    def forward(self, x):
        return self.last(torch.sigmoid(self.gate(x)) * self.value(x)).squeeze(-1)


def frozen(*names):
    module = mlp()
    for name in names:
        module.get_parameter(name).requires_grad_(False)
    return module


LINEAR = {
    "no biases": lambda: mlp(bias=False),
    "one layer": lambda: nn.Linear(D, K).double(),
    "one output": lambda: mlp(k=1),
    "no axis of outputs": lambda: nn.Sequential(mlp(k=1), nn.Flatten(0)),
    "nested": lambda: nn.Sequential(nn.Flatten(), nn.Sequential(mlp(), nn.ReLU()), nn.Linear(K, 2).double()),
    "dropout": lambda: nn.Sequential(nn.Dropout(), mlp(), nn.Dropout()).eval(),
    "in place": lambda: mlp(lambda: nn.ReLU(inplace=True)),
    "input in place": lambda: nn.Sequential(nn.SELU(inplace=True), mlp()),
    "frozen weight": lambda: frozen("2.weight"),
    "frozen bias": lambda: frozen("0.bias", "4.bias"),
    "frozen layers": lambda: frozen("0.weight", "0.bias", "4.weight", "4.bias"),
    "all but a bias": lambda: frozen("0.weight", "0.bias", "2.weight", "2.bias", "4.weight"),
    "norm without parameters": lambda: nn.Sequential(nn.LayerNorm(D, elementwise_affine=False), mlp()),
    "batch norm of fixed statistics": lambda: nn.Sequential(mlp(), nn.BatchNorm1d(K, affine=False).double()).eval(),
    "residual": Residual,
    "product": Product,
}  # fmt: skip


@pytest.mark.usefixtures("no_jacobian")
@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_linear_layers_need_no_jacobian(make):
    agrees(make(), X)
    agrees(make(), X, Y)


def test_residual_in_place():  # autograd cannot do it, as the layer's inputs are gone
    module = Residual()
    expected = nf.torch.empirical_ntk(module, X)
    module.in_place = True
    assert torch.equal(nf.torch.empirical_ntk(module, X), expected)


# --- layers that only look linear, or are something else


class Twice(nn.Module):
    """One layer twice, and one whose weight is used again where no hook sees it."""

    def __init__(self):
        super().__init__()
        self.inner, self.tied = nn.Linear(D, D), nn.Linear(D, 4)
        self.double()

    def forward(self, x):
        x = torch.tanh(self.tied(torch.tanh(self.inner(self.inner(x)))))
        return functional.linear(x, self.tied.weight.T)


class Detached(nn.Module):
    """A layer that is called once without gradient, its weight used once with it."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(D, K).double(), how

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                fixed = self.layer(x)
        else:
            fixed = self.layer(x).detach()
        return fixed * functional.linear(x, self.layer.weight)


class Idle(nn.Module):
    """A layer that the outputs do not depend on."""

    def __init__(self):
        super().__init__()
        self.net, self.idle = mlp(), nn.Linear(D, K).double()

    def forward(self, x):
        self.idle(x)
        return self.net(x)


class Generated(nn.Module):
    """Weights that a layer generates from the rows of a table."""

    def __init__(self, rows):
        super().__init__()
        self.table, self.layer = nn.Parameter(torch.randn(rows, 4)), nn.Linear(4, D)
        self.double()

    def forward(self, x):
        return x @ torch.tanh(self.layer(self.table)).T


class Sequence(nn.Module):
    """Layers along a sequence, and a head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.words, self.head = nn.Embedding(12, 4), nn.Linear(4, K)
        self.double()

    def forward(self, tokens):
        return self.head(self.encoder(self.words(tokens)).mean(1))


def tied():
    module = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D), nn.Tanh(), nn.Linear(D, K)).double()
    module[2].weight = module[0].weight
    return module


def scaled_weights():
    module = mlp()
    nn.utils.parametrizations.weight_norm(module[2])
    return module


def pruned():
    module = mlp()
    prune.l1_unstructured(module[0], "weight", 0.5)
    return module


def patched():
    module = mlp()
    module[0].forward = lambda x: 2 * functional.linear(x, module[0].weight)
    return module


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, K)
    ).double()  # fmt: skip


class Scaled(nn.Module):
    """A parameter without axes."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(D, K).double(), nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x):
        return self.scale * self.layer(x)


OTHERS = {
    "scalar": (Scaled, X, ["layer"]),  # module, points, names of the layers that are treated as linear
    "norms": (lambda: nn.Sequential(mlp(), nn.LayerNorm(K)).double(), X, ["0.0", "0.2", "0.4"]),
    "batch norm": (lambda: nn.Sequential(mlp(), nn.BatchNorm1d(K)).double().eval(), X, ["0.0", "0.2", "0.4"]),
    "conv": (conv, points(5, 36), ["5"]),
    "used twice": (Twice, X, ["tied"]),  # its bias is used once
    "shared weight": (tied, X, ["0", "2", "4"]),  # for the biases
    "no_grad": (lambda: Detached("no_grad"), X, ["layer"]),
    "detach": (lambda: Detached("detach"), X, ["layer"]),
    "idle": (Idle, X, ["net.0", "net.2", "net.4", "idle"]),
    "weights from one row": (lambda: Generated(1), X, ["layer"]),
    "weights from two rows": (lambda: Generated(2), X, []),
    "patched": (patched, X, ["2", "4"]),
    "weight norm": (scaled_weights, X, ["0", "4"]),
    "pruned": (pruned, X, ["2", "4"]),
    "sequence": (Sequence, torch.arange(12).reshape(4, 3), ["head"]),
    "3-D": (lambda: nn.Sequential(nn.Linear(D, 4), nn.Flatten(), nn.Linear(8, K)).double(), points(4, 2, D), ["2"]),
    "bilinear": (lambda: nn.Sequential(nn.Unflatten(1, (1, D)), nn.Conv1d(1, K, D), nn.Flatten()).double(), X, []),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_modules(name):
    make, X, linear = OTHERS[name]
    module = make()
    found = examine(Function(module), [X])
    assert list(found) == linear
    for outputs in ("mean", "diagonal", "full"):
        agrees(module, X, outputs=outputs)
    agrees(module, X, X[1:3])


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.net, self.function = mlp(), function

    def forward(self, x):
        return self.function(self.net(x))


class Cube(torch.autograd.Function):
    """Without what torch.func needs."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class Recurrent(nn.Module):
    def __init__(self, idle=None):
        super().__init__()
        self.idle = idle
        self.steps, self.head = nn.GRU(1, 3, batch_first=True), nn.Linear(3, K)
        self.double()

    def forward(self, x):
        return self.head(self.steps(x[..., None])[0][:, -1])


NOT_FOR_TORCH_FUNC = {
    "branches": lambda: Returns(lambda z: z if z.sum() > 0 else z**2),
    "function of its own": lambda: Returns(Cube.apply),
    "recurrent": Recurrent,
    "idle": lambda: Recurrent(idle=nn.Conv1d(2, 2, 1)),  # the outputs do not depend on some parameters
    "PReLU": lambda: mlp(nn.PReLU).double(),  # which vmap in vmap gets wrong
}


@pytest.mark.parametrize("n", [K, 6])
@pytest.mark.parametrize("make", NOT_FOR_TORCH_FUNC.values(), ids=NOT_FOR_TORCH_FUNC)
def test_modules_that_torch_func_cannot_differentiate(make, n):
    module = make()
    parameters = list(module.parameters())

    def gradient(output):
        gradients = torch.autograd.grad(output, parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    J = torch.stack([torch.stack([gradient(output) for output in module(x[None])[0]]) for x in X[:n]])
    expected = torch.einsum("nap,mbp->nmab", J, J)
    assert close(nf.torch.empirical_ntk(module, X[:n], outputs="full"), expected)
    assert close(nf.torch.empirical_ntk(module, X[:n], outputs="full", memory=2000), expected)


# --- outputs, sets of points, memory


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(0, 7),
    k=st.integers(1, 4),
    outputs=st.sampled_from(["mean", "diagonal", "full"]),
    memory=st.sampled_from([None, 1, 700, 3000, 10_000]),
    mixed=st.booleans(),
)
def test_memory_does_not_change_the_answer(n, m, k, outputs, memory, mixed):
    module = mlp(k=k)
    if mixed:
        module = nn.Sequential(
            nn.Unflatten(1, (1, D)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(8, D), module
        ).double()
    agrees(module, points(n, D), points(m, D, seed=1) if m else None, outputs, memory=memory)


@pytest.mark.parametrize("memory", [5000, 20_000, 80_000, 10**6])
def test_memory_is_kept_to(memory, monkeypatch):
    """Blocks of the Jacobian, and the gradients that they are cut from; one gradient takes 1152 bytes at most."""
    module = nn.Sequential(nn.Unflatten(1, (4, 3)), nn.Conv1d(4, 12, 3), nn.LeakyReLU(), nn.Conv1d(12, K, 1))
    module = nn.Sequential(module, nn.Flatten()).double()
    f, sets, widths = Function(module), [points(6, 12), points(4, 12)], []
    examine(f, sets)
    jacobians = f.jacobians

    def spy(*args):
        gradients = jacobians(*args)
        assert sum(8 * gradient.numel() for gradient in gradients.values()) <= memory / 4
        return gradients

    monkeypatch.setattr(f, "jacobians", spy)
    for arrays in ntkfast.torch.jacobian.blocks(f, list(f.trained), sets, K, memory, None):
        assert sum(array.nbytes for array in arrays) <= memory / 2
        widths.append(arrays[0].shape[2])
    assert sum(widths) == sum(p.numel() for p in module.parameters())
    assert (len(widths) == 1) == (memory == 10**6)


def test_symmetric_to_the_bit():
    module = nn.Sequential(mlp(), nn.LayerNorm(K)).double()
    full = nf.torch.empirical_ntk(module, X, outputs="full")
    assert torch.equal(full, full.permute(1, 0, 3, 2))
    assert torch.equal(nf.torch.empirical_ntk(module, X, X), nf.torch.empirical_ntk(module, X))


def test_threads_do_not_change_a_bit():
    module = nn.Sequential(mlp(), nn.LayerNorm(K)).double()
    one = nf.torch.empirical_ntk(module, X, n_threads=1)
    assert torch.equal(nf.torch.empirical_ntk(module, X, n_threads=2), one)


def test_float32():
    module = mlp().float()
    got = nf.torch.empirical_ntk(module, X.float(), outputs="full")
    assert got.dtype == torch.float32
    expected = contraction(module.double(), X.float().double())
    assert (got - expected).abs().max() < 3 * 2 * 30 * np.finfo(
        "f4"
    ).eps * expected.abs().max()  # layers, factors, terms


def test_finite_network_of_the_same_parameters():
    net = nf.MLP(depth=3, activation="tanh", bias_std=0.3)
    f = nf.FiniteNetwork.init(net, D, 8, K, rng=0, parametrization="standard")
    module = mlp(n=8)
    module[2], module[4] = nn.Linear(8, 8), nn.Linear(8, K)
    for layer, weight, bias in zip(module[::2], f.weights, f.biases, strict=True):
        layer.weight, layer.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))
    expected = nf.empirical_ntk(f, X.numpy(), outputs="full")
    np.testing.assert_allclose(
        nf.torch.empirical_ntk(module, X.numpy(), outputs="full"), expected, rtol=1e-12, atol=1e-13
    )


# --- inputs and outputs


def test_as_it_came():
    module = mlp()
    expected = nf.torch.empirical_ntk(module, X)
    read_only = X.numpy().copy()
    read_only.setflags(write=False)
    backwards = X.numpy()[::-1].copy()[::-1]
    for came in (read_only, backwards, X.numpy().astype(">f8"), X.tolist(), X.T.contiguous().T.numpy()):
        got = nf.torch.empirical_ntk(module, came)
        assert type(got) is np.ndarray
        assert close(got, expected.numpy())
    for came in (X.clone().requires_grad_(), X.T.contiguous().T):
        got = nf.torch.empirical_ntk(module, came)
        assert not got.requires_grad
        assert close(got, expected)
    assert torch.equal(nf.torch.empirical_ntk(module, X, Y.numpy()), nf.torch.empirical_ntk(module, X, Y))
    assert nf.torch.empirical_ntk(module.float(), X.numpy()).dtype == np.float32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_mode_of_autograd(mode):
    module = nn.Sequential(mlp(), nn.LayerNorm(K)).double()
    expected = nf.torch.empirical_ntk(module, X)
    with mode():
        assert close(nf.torch.empirical_ntk(module, X.clone()), expected)


class Counting(nn.Module):
    """Writes to a buffer, and to its input, in training mode too."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = mlp(), nn.Buffer(torch.zeros(())) if hasattr(nn, "Buffer") else None

    def forward(self, x):
        if self.calls is not None:
            self.calls += 1
        return self.net(x.mul_(2))


def test_nothing_is_changed():
    module, X = Counting(), points(6, D)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    kept = X.clone()
    nf.torch.empirical_ntk(module, X, memory=2000)
    assert torch.equal(X, kept)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())


def test_progress():
    calls = []
    module = nn.Sequential(mlp(), nn.LayerNorm(K)).double()
    nf.torch.empirical_ntk(module, X, memory=1000, progress=lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert len({total for _, total in calls}) == 1
    assert calls[-1][0] == calls[-1][1]
    assert len(calls) > 3


# --- refusals


def lazy():
    return nn.Sequential(nn.LazyLinear(K))


def not_finite():
    module = mlp()
    module[2].bias.data[1] = torch.nan
    return module


REFUSED = {
    "no module": (lambda: torch.relu, TypeError, ("module: expected a torch.nn.Module", "got builtin_function")),
    "no parameters": (nn.ReLU, ValueError, ("module: expected parameters that require gradients", "got none in ReLU")),
    "all frozen": (lambda: mlp().requires_grad_(False), ValueError, ("module: expected parameters that require",)),
    "float16": (lambda: mlp().half(), TypeError, ("module: expected parameters in float32 or float64", "float16")),
    "two dtypes": (
        lambda: nn.Sequential(mlp(), nn.Linear(K, K)), TypeError, ("module: expected", "torch.float32, torch.float64")
    ),
    "meta": (lambda: mlp().to("meta"), TypeError, ("module: expected parameters on the CPU", "'0.weight' on meta")),
    "lazy": (lazy, ValueError, ("module: expected parameters of known shape", "0.weight")),
    "nan": (not_finite, ValueError, ("module: expected finite parameters", "'2.bias'")),
    "batch norm": (
        lambda: nn.Sequential(mlp(), nn.BatchNorm1d(K)), ValueError, ("module: ", "BatchNorm1d '1'", "module.eval()")
    ),
    "batch statistics": (
        lambda: nn.Sequential(mlp(), nn.BatchNorm1d(K, track_running_stats=False)).eval(),
        ValueError,
        ("module: ", "track_running_stats=False"),
    ),
    "dropout": (lambda: nn.Sequential(mlp(), nn.Dropout()), ValueError, ("module: ", "as Dropout", "module.eval()")),
    "noise": (lambda: Returns(lambda z: z + torch.randn_like(z)), ValueError, ("module: ", "random numbers")),
    "scalar": (lambda: Returns(torch.sum), ValueError, ("module: expected outputs of shape (N, k)", "got ()")),
    "3-D outputs": (lambda: Returns(lambda z: z[..., None]), ValueError, ("module: expected outputs", "(2, 3, 1)")),
    "mean of the batch": (lambda: Returns(lambda z: z.mean(0)), ValueError, ("module: expected outputs", "got (3,)")),
    "tuple": (lambda: Returns(lambda z: (z, z)), TypeError, ("module: expected one that returns a tensor", "tuple")),
    "other dtype": (lambda: Returns(torch.Tensor.float), TypeError, ("module: expected outputs in torch.float64",)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_modules_that_are_refused(name):
    make, error, words = REFUSED[name]
    module = make()
    refused(error, words, nf.torch.empirical_ntk, module, X)
    if isinstance(module, nn.Module):
        assert not any(part._forward_hooks for part in module.modules() if type(part) is nn.Linear)


def with_entry(value):
    bad = X.clone()
    bad[4, 1] = value
    return bad


NOT_POINTS = {
    "1-D": (X[0], ValueError, ("expected points (N, …)", "got shape (5,)", "reshape(1, -1)")),
    "number": (3.0, ValueError, ("expected points (N, …)", "got shape ()")),
    "empty": (X[:0], ValueError, ("expected points (N, …)", "got shape (0, 5)")),
    "features": (X[:, :4], ValueError, ("expected points that the module takes", "got shape (6, 4), torch.float64")),
    "integers": (X.long(), TypeError, ("expected floating-point numbers", "torch.int64")),
    "bool": ((X > 0).numpy(), TypeError, ("expected floating-point numbers", "torch.bool")),
    "complex": (X + 0j, TypeError, ("expected floating-point numbers", "torch.complex128")),
    "object": (X.numpy().astype(object), TypeError, ("expected real numbers", "object")),
    "None": (None, TypeError, ("expected real numbers", "object")),
    "ragged": ([[1.0], [1.0, 2.0]], ValueError, ("expected an array", "list")),
    "masked": (np.ma.masked_less(X.numpy(), 0), TypeError, ("expected an array without mask",)),
    "nan": (with_entry(np.nan), ValueError, ("expected finite numbers", "nan in row 4, column 1")),
    "inf": (with_entry(np.inf).numpy(), ValueError, ("expected finite numbers", "inf in row 4, column 1")),
    "meta": (X.to("meta"), TypeError, ("expected a dense tensor on the CPU", "meta")),
    "sparse": (X.to_sparse(), TypeError, ("expected a dense tensor on the CPU", "sparse")),
}


@pytest.mark.parametrize("name", NOT_POINTS)
def test_points_that_are_refused(name):
    bad, error, (start, *words) = NOT_POINTS[name]
    refused(error, (f"X: {start}", *words), nf.torch.empirical_ntk, mlp(), bad)
    if name == "features":
        start, words = "expected points of shape (5,) as in X", ["got (4,)"]
    refused(error, (f"Y: {start}", *words), nf.torch.empirical_ntk, mlp(), X, bad) if bad is not None else None


def test_options_that_are_refused():
    call = nf.torch.empirical_ntk
    refused(ValueError, ("outputs: expected 'mean'", "got 'trace'"), call, mlp(), X, outputs="trace")
    refused(ValueError, ("memory: expected an integer >= 1", "got 0"), call, mlp(), X, memory=0)
    refused(TypeError, ("progress: expected",), call, mlp(), X, progress=3)
    refused(ValueError, ("n_threads",), call, mlp(), X, n_threads=0)


# --- the extra


def python(code):
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout


def test_torch_is_imported_when_it_is_needed():
    code = "import sys, ntkfast as nf; nf.torch.empirical_ntk; print('torch' in sys.modules, nf.torch.__name__)"
    assert python(code).split() == ["False", "ntkfast.torch"]


def test_without_torch():
    code = """
import sys
sys.modules["torch"] = None  # as if not installed
import ntkfast as nf
try:
    nf.torch.empirical_ntk(None, [[1.0]])
except ImportError as error:
    print(error)
"""
    assert 'pip install "ntkfast[torch]"' in python(code)


def test_other_attributes_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'jax'"):
        nf.jax  # noqa: B018


def test_the_example():
    text = nf.torch.empirical_ntk.__doc__.replace("  # doctest: +SKIP", "")
    example = doctest.DocTestParser().get_doctest(text, {}, "empirical_ntk", None, 0)
    results = doctest.DocTestRunner().run(example)
    assert results.attempted == 4
    assert results.failed == 0
