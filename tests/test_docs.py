"""The pages of the site: that what they name exists, and that their Python runs."""

import ast
import importlib.util
import re
import runpy
from operator import attrgetter
from pathlib import Path

import pytest
import test_api

import ntkfast as nf

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
THEORY = (DOCS / "theory.md").read_text(encoding="utf-8")
ROWS = [line for line in THEORY.splitlines() if line.startswith("|") and "---" not in line and "| paper |" not in line]


def names_of_tests(name):
    return {node.name for node in ast.parse((ROOT / "tests" / name).read_text(encoding="utf-8")).body if is_test(node)}


def is_test(node):
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_theory_names_functions_and_tests(row):
    _, here, checked = (cell.strip() for cell in row.strip("|").replace(r"\|", "/").split(" | "))
    functions = re.findall(r"`nf\.([\w.]+)`", here)
    tests = re.findall(r"`(test_\w+\.py)::(test_\w+)`", checked)
    assert functions
    assert tests
    for function in functions:
        attrgetter(function)(nf)
    for file, test in tests:
        assert test in names_of_tests(file), test


def test_theory_has_every_theorem_and_figure():
    for name in (
        "Theorem 1",
        "Theorem 2",
        "Theorem 3",
        "Proposition 1",
        "Proposition 2",
        "Lemma 1",
        "Lemma 2",
        "Remark 1",
    ):
        assert name in THEORY
    for figure in ("Figure 1", "Figure 2", "Figure 3(a)", "Figures 3(b), 3(c)"):
        assert figure in THEORY


def test_the_quick_start_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "quickstart.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "quickstart.md", "exec"), names)
    assert names["run"].losses[-1] < names["run"].losses[0]


def test_every_page_is_in_a_table_of_contents():
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    listed = set()
    for path in DOCS.glob("*.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            listed |= set(block.split())
    assert pages <= listed


def test_the_reference_has_a_page_for_every_public_name():
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "_ext" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    found = reference.sections((DOCS / "api.md").read_text(encoding="utf-8"))
    named = {name for pages in found.values() for names in pages.values() for name in names}
    assert set(test_api.PUBLIC) <= named
    text = reference.page("LeastSquaresFlow", found["Learning with kernels"]["LeastSquaresFlow"])
    assert ".. automethod:: ntkfast.LeastSquaresFlow.mean" in text
    assert ".. autoproperty:: ntkfast.LeastSquaresFlow.eigenvalues" in text


@pytest.mark.parametrize("path", sorted((DOCS / "examples").glob("plot_*.py")), ids=lambda path: path.stem)
def test_examples_compile_and_begin_with_a_title(path):
    module = ast.parse(path.read_text(encoding="utf-8"))
    title, line = ast.get_docstring(module).splitlines()[:2]
    assert line == "=" * len(title)


def test_a_stored_result_is_read(monkeypatch, capsys):
    """A page whose example takes minutes, or data of others, shows numbers that are part of the repository."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.delenv("NTKFAST_DATA", raising=False)
    runpy.run_path(str(DOCS / "examples" / "plot_mnist_plane.py"))
    assert "λ1, λ2, λ3: 0.04565" in capsys.readouterr().out
