"""The README's Python runs as it stands, block after block, as a reader would type it."""

import re
from pathlib import Path

import matplotlib

README = Path(__file__).parent.parent / "README.md"


def test_every_block_of_python_runs(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 10
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, block {number} of Python", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {"phase.png", "convergence.png"}
