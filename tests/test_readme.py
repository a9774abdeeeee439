"""README and docs: their Python runs as written, block after block, as typed; their links lead somewhere."""

import re
import shlex
from pathlib import Path

import matplotlib
import pytest
from click.testing import CliRunner

from ntkfast.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
LINKING = {*PAGES, *(path.relative_to(ROOT).as_posix() for room in ("", "bench/") for path in ROOT.glob(f"{room}*.md"))}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name):
    """The code marked python; fragments, which do not run by themselves, are marked py."""
    return re.findall(r"```python\n(.*?)```", read(name), re.DOTALL)


def run_blocks(name):
    for module in re.findall(r"^(?:import|from) (\w+)", "\n".join(blocks(name)), re.MULTILINE):
        pytest.importorskip(module)  # such as torch, which the extra `test` lacks
    names = {}
    for number, block in enumerate(blocks(name)):
        exec(compile(block, f"{name}, block {number} of Python", "exec"), names)
    return len(blocks(name))


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name)])
def test_every_block_runs(name, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    assert run_blocks(name) >= 1


def headings(name):
    """The anchors of a page, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", read(name), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", sorted(LINKING))
def test_every_link_leads_somewhere(name):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", read(name), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:|(gallery|reference)/", target):  # another site, or what the build of the site makes
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in headings(file.resolve().relative_to(ROOT.resolve()).as_posix()), target


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) < 200


def test_the_commands_for_a_table_print_what_the_page_says(tmp_path, monkeypatch):
    """But for times, and for a forest, whose numbers depend on scikit-learn's version."""
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    section = read("docs/tables.md").split("## An example")[1]
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


def test_every_command_is_described():
    text = read("docs/commands.md")
    assert [name for name in main.commands if f"`ntkfast {name}" not in text] == []
