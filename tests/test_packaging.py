"""The package as a package: the cost of importing it, and the message when it cannot be imported."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path, PurePosixPath

import pytest

import ntkfast

PACKAGE = Path(ntkfast.__file__).parent


def run_python(code, *options, **where):
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        **where,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_source_tree_says_that_it_is_not_built(tmp_path):
    """As after `pip install .` with Python started in the checkout."""
    shutil.copytree(
        PACKAGE, tmp_path / "ntkfast", ignore=lambda _, names: [name for name in names if name.startswith("_core.")]
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = run_python("import ntkfast", cwd=tmp_path, env=environment)
    last = done.stderr.splitlines()[-1]
    assert done.returncode != 0
    assert last.startswith(f"ImportError: {tmp_path / 'ntkfast'} is a source tree without the compiled engine")
    assert "python -P" in last
    assert f"pip install -e {tmp_path}" in last


def test_import_leaves_out_what_only_some_calls_need():
    code = "import sys, ntkfast; print(*(name for name in sys.modules if '.' not in name or name.startswith('scipy.')))"
    done = run_python(code, "-P")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"ntkfast", "numpy"} <= loaded
    costly = {f"scipy.{name}" for name in ("integrate", "linalg", "optimize", "sparse", "special", "stats")}
    assert not loaded & (costly | {"matplotlib", "numba", "sklearn", "threadpoolctl", "torch", "tqdm"})


def test_import_warns_of_nothing():
    done = run_python("import ntkfast", "-P", "-W", "error")
    assert done.returncode == 0, done.stderr


def test_version():
    assert ntkfast.__version__[0].isdigit()
    assert "__version__" in dir(ntkfast)


def test_an_installation_holds_what_runs_and_nothing_else():
    """After `pip install .` the engine's sources are only in the source tree, and its symbols are not exported."""
    distribution = importlib.metadata.distribution("ntkfast")
    files = [file for file in distribution.files if file.parts[0] == "ntkfast"]
    if not files or not distribution.read_text("RECORD"):
        pytest.skip("ntkfast runs from its source tree")
    assert {file.suffix for file in files} <= {".py", ".pyc", ".pyi", ".typed", *EXTENSION_SUFFIXES[-1:]}
    [engine] = [file for file in files if file.name.startswith("_core.") and file.suffix != ".pyi"]
    assert engine.parent == PurePosixPath("ntkfast/engine")
    if sys.platform.startswith("linux"):
        assert b".debug_info" not in engine.read_binary()
