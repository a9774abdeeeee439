"""What the tests of promises share: the list of them, processes of their own, and the page, docs/reliability.md."""

import datetime
import importlib.util
import os
import pkgutil
import platform
import re
import shutil
import subprocess
import sys
import time
import unittest
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCALES = ("small", "full")
INTRODUCTION = """\
# Reliability

What ntkfast promises about long computations, files, memory and bad input, each promise tested by one module of
`tests/stress`. The ordinary test suite runs all of them at a small scale. One command runs them at length and writes
this page, on which rows that were not asked for stay as they were:

    python -m tests.stress [ROW ...] [--full] [--out docs/reliability.md]

Numbers are what the row printed: what was tried, counted or measured. A row ends at the first broken promise.
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a row: how it ended ("held", "broken" or "skipped"), its numbers or the reason, and seconds."""

    how: str
    numbers: dict[str, object]
    reason: str
    seconds: float


def rows():
    """The modules with a promise, by name, in the order of the page."""
    names = [info.name for info in pkgutil.iter_modules([str(HERE)]) if not info.name.startswith("_")]
    modules = {name: importlib.import_module(f"{__package__}.{name}") for name in names}
    found = {name: module for name, module in modules.items() if hasattr(module, "run")}
    return dict(sorted(found.items(), key=lambda item: (item[1].ROW, item[0])))


def promise(module):
    return " ".join(module.__doc__.partition("\n\n")[0].split())


def outcome(module, scale):
    """Run a row."""
    start = time.perf_counter()
    try:
        how, numbers, reason = "held", module.run(scale), ""
    except unittest.SkipTest as error:
        how, numbers, reason = "skipped", {}, str(error)
    except Exception as error:  # what broke the promise may be anything
        how, numbers, reason = "broken", {}, f"{type(error).__name__}: {error}"
    return Outcome(how, numbers, reason, time.perf_counter() - start)


def require(*modules, programs=(), linux=False):
    """Raise SkipTest unless these modules and programs are here."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    missing += [name for name in programs if shutil.which(name) is None]
    missing += ["Linux"] if linux and not sys.platform.startswith("linux") else []
    if missing:
        raise unittest.SkipTest(f"needs {', '.join(missing)}")


def environment(**variables):
    """The environment of a process that imports what this one does and opens no windows, with these variables; None:
    without.
    """
    given = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MPLBACKEND": "agg"} | variables
    return {name: value for name, value in given.items() if value is not None}


def python(*arguments, before=(), cwd=None, timeout=None, **variables):
    """Run Python in a process of its own: a CompletedProcess, with its output as text.

    before: a command that runs it, such as an emulator. variables: of its environment.
    """
    return subprocess.run(
        [*before, sys.executable, "-P", *map(str, arguments)],
        cwd=cwd, timeout=timeout, env=environment(**variables), capture_output=True, text=True,
    )  # fmt: skip


def shared_object(source, folder, *flags):
    """A C file of this package, compiled in this folder to a shared library, which LD_PRELOAD takes."""
    require(programs=["gcc"], linux=True)
    built = Path(folder, source).with_suffix(".so")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", *flags, "-o", built, HERE / source, "-ldl"], check=True)
    return built


def machine():
    """This machine in words, without names."""
    from ntkfast.benchmarks.run import processor

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def commit():
    """Of the source tree, and whether files differ from it."""
    given = {"cwd": HERE, "capture_output": True, "text": True}
    name = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], **given).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", "..", "../../ntkfast"], **given
    )
    return (name or "unknown") + (" and changes" if changed.stdout.strip() else "")


def section(name, module, found, scale):
    """A row of the page."""
    when = datetime.datetime.now(datetime.UTC).date()
    lines = [f"## {module.ROW}. {name}", "", promise(module), ""]
    lines += [f"**{found.how}**, {scale} scale, {found.seconds:.0f} s, {when}, commit {commit()}; {machine()}", ""]
    if found.numbers:
        lines += [
            "| | |",
            "|---|---|",
            *(f"| {shown(key)} | {shown(value)} |" for key, value in found.numbers.items()),
            "",
        ]
    if found.reason:
        lines += [*(f"    {line}" for line in found.reason.splitlines()), ""]
    return "\n".join(lines)


def shown(value):
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(part)}" for key, part in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def page(before, sections):
    """The page with these sections, by (ROW, name), in place of those that it had."""
    kept = {}
    for part in re.split(r"^(?=## )", before, flags=re.MULTILINE)[1:]:
        number, name = re.match(r"## (\d+)\. (\S+)", part).groups()
        kept[int(number), name] = part.strip() + "\n"
    parts = kept | {key: text.strip() + "\n" for key, text in sections.items()}
    return "\n".join([INTRODUCTION, *(parts[key] for key in sorted(parts))])
