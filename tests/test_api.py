"""One table of arguments: docs/api.md against the signatures, and the signatures against the conventions."""

import ast
import dataclasses
import importlib.util
import inspect
import math
import re
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import pytest

import ntkfast as nf
from ntkfast.networks.layer import Layer
from ntkfast.support.saved import Saved

TABLE = Path(__file__).parent.parent / "docs" / "api.md"
MODULES = (
    "activations",
    "datasets",
    "distributed",
    "gpytorch",
    "plotting",
    "sklearn",
    "sklearn.scikit_ntk",
    "store",
    "torch",
)  # whose functions have rows of their own
HAS_GPYTORCH = importlib.util.find_spec("gpytorch") is not None  # which the extra `test` lacks
SHARED = ("rng", "out", "dtype", "n_threads", "progress", "memory")  # options of many functions, in this order
OBJECTS = ("net", "f", "K_xx", "activation", "module")  # what may come before X
BANNED = {"beta", "gamma", "K", "lr", "num_threads", "repeats", "ridge", "seed", "sigma", "threads", "verbose"}
BANNED |= {"largest_learning_rate", "max_steps", "n", "ntk_vx"}
DEFAULTS = {"noise": 0.0, "overwrite": False, "levels": (10, 50, 90), "n_seeds": 10}
DEFAULTS |= {"steps": 1000, "learning_rate": 1.0, "loss": "mse"}

# Arrays that may be left out but are not options; `get` and `outputs` say what is returned.
OPERANDS = {"X", "Y", "y", "f0", "f0_t", "t", "ntk_tx", "nngp_xx", "nngp_tx", "nngp_tt", "nngp_t", "K_tx", "K_t"}
OPERANDS |= {"displacement", "eigenvalues", "get", "outputs", "std", "theta"}
OPERANDS |= {"widths", "n_outputs"}  # sizes of a network, which follow n_inputs

# Values, whose numbers are in the order of their formula, and constructors and files with an order of their own.
FREE = {"MLP", "Dense", "Dropout", "Residual", "Network", "Activation"}
FREE |= {
    "FiniteNetwork.points",
    "datasets.mnist",
    "datasets.download_mnist",
}
FREE |= {"LayerNorm", "Parallel", "Scale"}
FREE |= {"store.compute", "store.repair"}  # the path of what X gives
FREE |= {"gpytorch.NTKKernel.forward"}  # as GPyTorch calls it
FREE |= {"KernelOperator", "distributed.KernelOperator"}  # as LinearOperators have it
FREE |= {"sklearn.NTKKernel.__call__", "sklearn.scikit_ntk.NeuralTangentKernel.__call__"}  # as scikit-learn calls it
FREE |= {"sklearn.scikit_ntk.NeuralTangentKernel"}  # as in scikit-ntk


def rows():
    """Name -> (signature or None, description)."""
    found = re.findall(r"^\| `([^`(]+)(\(.*\))?` \| (.+) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    found = [row for row in found if HAS_GPYTORCH or not row[0].startswith("gpytorch.")]
    assert len({name for name, _, _ in found}) == len(found)
    return {name: (signature or None, text) for name, signature, text in found}


def public():
    """Name -> object, of everything that should have a row."""
    found = {name: getattr(nf, name) for name in nf.__all__ if name not in MODULES}
    for module in MODULES:
        if module == "gpytorch" and not HAS_GPYTORCH:
            continue
        if module == "torch":
            found |= {f"torch.{name}": getattr(nf.torch, name) for name in nf.torch.__all__}
            continue
        space = attrgetter(module)(nf)
        names = getattr(space, "__all__", None) or ["get", *sorted({*space.names(), "names"})]
        found |= {f"{module}.{name}": getattr(space, name) for name in names}
    for name, thing in list(found.items()):
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            members = {key: value for key, value in vars(thing).items() if key == "__call__" or key[0] != "_"}
            for base in (Layer, Saved):  # what these have is not part of the users' interface
                if issubclass(thing, base):
                    members = {key: value for key, value in members.items() if key not in vars(base)}
            own = fields(thing)
            found |= {
                f"{name}.{key}": value
                for key, value in members.items()
                if callable(value)
                or isinstance(value, classmethod | staticmethod)
                or (isinstance(value, property) and own is None)
            }
    return found


def fields(thing):
    """The public attributes of a result that only the library makes, None for every other class."""
    if thing is nf.Record or issubclass(thing, nf.Network | Layer):
        return None
    if dataclasses.is_dataclass(thing):
        names = [field.name for field in dataclasses.fields(thing) if field.name[0] != "_"]
        return {*names, *(key for key, value in vars(thing).items() if isinstance(value, property | cached_property))}
    return {name for name in thing.__annotations__ if name[0] != "_"} if issubclass(thing, tuple) else None


def parameters(thing):
    """(name, kind, default) of each parameter, self left out."""
    if isinstance(thing, classmethod):
        found = list(inspect.signature(thing.__func__).parameters.values())[1:]
    elif isinstance(thing, staticmethod):
        found = list(inspect.signature(thing.__func__).parameters.values())
    else:
        found = list(inspect.signature(thing).parameters.values())
        found = found[1:] if found and found[0].name == "self" else found
    return [(p.name, p.kind, p.default) for p in found]


def value(default):
    """The value of a default in the table."""
    return {"inf": math.inf, "2 ** 0.5": 2**0.5}.get(ast.unparse(default)) or ast.literal_eval(default)


def written(signature):
    """The same for a row of the table."""
    a = ast.parse(f"def f{signature}: pass").body[0].args
    empty, P = inspect.Parameter.empty, inspect.Parameter
    defaults = [empty] * (len(a.args) - len(a.defaults)) + [value(d) for d in a.defaults]
    found = [(arg.arg, P.POSITIONAL_OR_KEYWORD, d) for arg, d in zip(a.args, defaults, strict=True)]
    found += [(a.vararg.arg, P.VAR_POSITIONAL, empty)] if a.vararg else []
    keywords = zip(a.kwonlyargs, a.kw_defaults, strict=True)
    found += [(arg.arg, P.KEYWORD_ONLY, empty if d is None else value(d)) for arg, d in keywords]
    return found + ([(a.kwarg.arg, P.VAR_KEYWORD, empty)] if a.kwarg else [])


PUBLIC = public()
SIGNATURES = {name: parameters(thing) for name, thing in PUBLIC.items() if rows().get(name, (None,))[0]}


def test_every_public_name_has_a_row_and_the_reverse():
    assert sorted(set(PUBLIC) - set(rows())) == []
    assert sorted(set(rows()) - set(PUBLIC)) == []


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_row(name):
    thing, (signature, text) = PUBLIC[name], rows()[name]
    attributes = fields(thing) if inspect.isclass(thing) and not issubclass(thing, Exception) else None
    if attributes:
        assert signature is None
        assert attributes == set(re.findall(r"`(\w+)`", text))
    elif inspect.isclass(thing) and issubclass(thing, Exception):
        assert signature is None
        assert issubclass(thing, nf.Error)
    elif isinstance(thing, property) or inspect.ismodule(thing):
        assert signature is None
    else:
        assert written(signature) == parameters(thing)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_names_of_arguments(name):
    names = [argument for argument, _, _ in SIGNATURES[name]]
    if not name.lower().startswith("activation"):  # where the letters of formulas are names
        assert not BANNED & set(names)
    assert "get" not in names or name in ("kernels", "diagonal", "finite_width")
    assert all(argument == argument.strip("_") for argument in names)


@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - FREE))
def test_order_of_arguments(name):
    names = [argument for argument, _, _ in SIGNATURES[name]]
    if "X" in names and name != "Record":
        assert names.index("X") <= 1
        assert names[0] in OBJECTS or "." in name
    if "Y" in names:
        assert names.index("Y") == names.index("X") + 1
    shared = [argument for argument in names if argument in SHARED]
    assert shared == sorted(shared, key=SHARED.index)
    assert names[len(names) - len(shared) :] == shared


@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - FREE))
def test_options(name):
    for argument, kind, default in SIGNATURES[name]:
        is_option = default is not inspect.Parameter.empty and argument not in OPERANDS
        if is_option and not name.startswith("activations."):
            assert kind is inspect.Parameter.KEYWORD_ONLY, argument
        if argument in SHARED:
            assert kind is inspect.Parameter.KEYWORD_ONLY
            assert default is None
        if argument == "kernel":
            assert kind is inspect.Parameter.KEYWORD_ONLY
            assert default in ("ntk", "nngp")


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_one_default_for_one_name(name):
    for argument, _, default in SIGNATURES[name]:
        if argument in DEFAULTS and (name, argument) not in {("fit_hyperparameters", "noise"), ("Record", "steps")}:
            assert default in (DEFAULTS[argument], None, inspect.Parameter.empty)


def test_a_row_that_differs_is_seen():
    assert written("(net, X, *, kernel='ntk')") != written("(net, X, kernel='ntk')")
    assert written("(t, *, rtol=1e-8)") == written("(t, *, rtol=1e-08)")
    assert written("(*layers, scale=1.0)")[0] == ("layers", inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.empty)
