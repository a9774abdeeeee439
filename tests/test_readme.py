"""The Python of README and docs runs as written, block after block, as a reader would type it."""

import re
import shlex
from pathlib import Path

import matplotlib
import pytest
from click.testing import CliRunner

from ntkfast.cli import main

ROOT = Path(__file__).parent.parent


def run_blocks(name):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{name}, block {number} of Python", "exec"), names)
    return len(blocks)


def test_every_block_of_the_readme_runs(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    assert run_blocks("README.md") >= 10
    assert {path.name for path in tmp_path.iterdir()} >= {"phase.png", "convergence.png"}


def test_the_block_of_the_paper_runs():
    assert run_blocks("docs/paper.md") == 1


def test_the_commands_for_a_table_print_what_the_readme_says(tmp_path, monkeypatch):
    """But for times, and for a forest, whose numbers depend on scikit-learn's version."""
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own table")[1]
    commands, expected = re.findall(r"```(?:bash|text)\n(.*?)```", section, re.DOTALL)[:2]
    python, *calls = commands.splitlines()
    exec(re.search('"(.*)"', python).group(1), {})
    results = [CliRunner().invoke(main, shlex.split(call)[1:]) for call in calls]
    printed = "".join(result.stdout for result in results).splitlines()
    for ours, theirs in zip(printed, expected.splitlines(), strict=True):
        cells, wanted = re.split(" {2,}", ours), re.split(" {2,}", theirs)
        if theirs.startswith("random forest"):
            continue
        if len(wanted) == 6:  # a model: its name, three scores, seconds, a note
            assert [float(cell) for cell in cells[1:4]] == pytest.approx(
                [float(cell) for cell in wanted[1:4]], rel=0.01
            )
            cells[1:5] = wanted[1:5] = []
        assert cells == wanted
