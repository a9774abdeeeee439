"""The Python of README and docs runs as written, block after block, as a reader would type it."""

import re
from pathlib import Path

import matplotlib

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
