"""The types that a user's type checker sees: files in tests/typing, under mypy --strict."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ntkfast

PACKAGE = Path(ntkfast.__file__).parent
FOLDER = Path(__file__).parent / "typing"
FILES = ["learning.py", "user.py"]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """Lines that mypy prints about all files, in a folder where it treats ntkfast as an installed package."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("mypy")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", folder, FOLDER],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", FILES)
def test_strict_user(complaints, name):
    assert [line for line in complaints if f"{name}:" in line] == []


def test_the_files_name_everything_public():
    named = set()
    for path in FOLDER.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        named |= {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    assert {f"nf.{name}" for name in ntkfast.__all__} <= named


def test_activations_lists_all_of_them():
    assert set(ntkfast.activations.__all__) == {"get", "names", *ntkfast.activations.names()}
