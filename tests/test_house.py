"""The house: which part may use which, that the catalogue of tests is complete, and that documented examples run."""

import ast
import doctest
import importlib.util
import inspect
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import catalogue
import pytest

import ntkfast
from ntkfast.engine import _core
from ntkfast.learning import rounding

PACKAGE = Path(ntkfast.__file__).parent
ROOT = Path(__file__).parent.parent
C_SOURCES = ROOT / "src_c"
FLOORS = (  # rooms, from the ground up; an import goes to a lower floor or stays in its room
    {"support"},
    {"networks"},
    {"engine"},
    {"infinite", "finite"},
    {"learning"},
    {"datasets", "distributed", "neural_tangents", "plotting", "saving", "sklearn", "store", "torch"},  # faces
    {"gpytorch"},  # a face that stands on another
    {"accuracy", "benchmarks", "demo", "experiments", "tabular"},  # programs built from them
    {"cli"},
    {"", "__main__"},  # the package's own __init__ re-exports
)

GPYTORCH = ("ntkfast.gpytorch.kernel", "ntkfast.gpytorch.operator")
NEEDS = {"ntkfast.torch.autograd": "torch", **dict.fromkeys(GPYTORCH, "gpytorch")}  # what `test` does not install


def room(module):
    return [*module.split("."), ""][1]


def floor(module):
    return next(k for k, rooms in enumerate(FLOORS) if room(module) in rooms)


def python_files():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path):
    parts = ("ntkfast", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name):
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").exists() or path.with_suffix(".pyi").exists()


def imported(path):
    """(line, module) for every import of ntkfast in this file, those inside functions included."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found = [f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in node.names]
        else:
            continue
        yield from ((node.lineno, module) for module in found if module.split(".")[0] == "ntkfast")


def test_the_walk_sees_imports():
    found = {module for _, module in imported(PACKAGE / "engine" / "problem.py")}
    assert {"ntkfast.engine._core", "ntkfast.engine.lower"} <= found
    hidden = {module for _, module in imported(PACKAGE / "networks" / "activation.py")}
    assert "ntkfast.networks.functions" in hidden


def test_every_room_has_a_floor():
    rooms = {room(module_name(path)) for path in python_files()}
    assert rooms == set().union(*FLOORS)


def test_imports_go_down_or_stay_in_their_room():
    wrong = []
    for path in python_files():
        here = module_name(path)
        for line, module in imported(path):
            if room(module) != room(here) and floor(module) >= floor(here) and here != "ntkfast":
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert not wrong


def test_the_reference_of_accuracy_owes_nothing_to_the_engine():
    for name in ("formulas", "piecewise", "polar", "oracle"):
        used = {module for _, module in imported(PACKAGE / "accuracy" / f"{name}.py")}
        assert all(room(module) == "accuracy" for module in used), name


def test_no_name_shadows_a_module():
    for info in pkgutil.walk_packages(ntkfast.__path__, "ntkfast."):
        if info.name.endswith("__main__") or importlib.util.find_spec(NEEDS.get(info.name, "ntkfast")) is None:
            continue
        module = importlib.import_module(info.name)
        parent, _, name = info.name.rpartition(".")
        assert getattr(sys.modules[parent], name) is module, info.name


def test_only_the_engine_knows_the_compiled_module():
    wrong = []
    for path in python_files():
        for line, module in imported(path):
            if "_core" in module.split(".") and path.parent.name != "engine":
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert not wrong


def test_c_knows_neither_python_nor_blas():
    if not C_SOURCES.is_dir():
        pytest.skip("no source tree")
    sources = [path for path in C_SOURCES.rglob("*") if path.suffix in (".c", ".h")]
    assert sources
    wrong = []
    for path in sources:
        for header in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE):
            if re.search(r"python|numpy|blas|lapack|mkl|cython", header, re.IGNORECASE):
                wrong.append(f"{path.name} includes {header}")
    assert not wrong


def test_every_activation_is_in_the_catalogue():
    assert {activation.name for activation in catalogue.ALL + catalogue.APART} == set(ntkfast.activations.names())


def test_every_instruction_is_used():
    used = {activation.instruction.name for activation in catalogue.ALL + catalogue.APART}
    assert set(_core.INSTRUCTIONS) == used | set(rounding.OTHERS)


def read(name):
    """A file of the source tree that an sdist may lack."""
    if not (ROOT / name).exists():
        pytest.skip(f"no {name}")
    return (ROOT / name).read_text(encoding="utf-8")


def test_pre_commit_has_the_versions_of_the_extra_lint():
    lint = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["lint"]
    hook = r"/(?:mirrors-)?(ruff|clang-format)(?:-pre-commit)?\n +rev: v(\S+)"
    hooks = re.findall(hook, read(".pre-commit-config.yaml"))
    assert [name for name, _ in hooks] == ["ruff", "clang-format"]
    assert {f"{name}=={version}" for name, version in hooks} <= set(lint)


def test_the_same_pythons_everywhere():
    """In the classifiers, as the oldest one, in the wheels and in the tests' workflow."""
    settings = tomllib.loads(read("pyproject.toml"))
    listed = re.findall(r"Python :: 3\.(\d+)", "\n".join(settings["project"]["classifiers"]))
    assert settings["project"]["requires-python"] == f">=3.{listed[0]}"
    assert settings["tool"]["ruff"]["target-version"] == f"py3{listed[0]}"
    assert settings["tool"]["cibuildwheel"]["build"] == [f"cp3{minor}-*" for minor in listed]
    tested = re.findall(r'"3\.(\d+)"', read(".github/workflows/tests.yml"))
    assert sorted(set(tested)) == listed


def modules():
    names = [info.name for info in pkgutil.walk_packages(ntkfast.__path__, "ntkfast.")]
    return ["ntkfast", *(name for name in names if not name.endswith("__main__"))]


@pytest.mark.parametrize("name", modules())
def test_doctests(name):
    pytest.importorskip(NEEDS.get(name, "ntkfast"))
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_public_names_exist_and_are_documented():
    for name in ntkfast.__all__:
        assert inspect.getdoc(getattr(ntkfast, name))
