"""Runs experiments into a folder: data, figures, and one report of all that is there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

from importlib.metadata import version

from threadpoolctl import threadpool_limits

from ntkfast.datasets import mnist
from ntkfast.experiments.figures import new_figure
from ntkfast.experiments.running import Parts, as_dict, load, save
from ntkfast.support.files import replacing

__all__ = ["FIGURES", "folder", "read", "report", "run", "run_all"]

FIGURES = {
    "fig1": ("fig1",),
    "fig2": ("fig2",),
    "fig3": ("fig3a", "fig3bc"),
    "theory": ("theorem1", "theorem2", "proposition1", "proposition2", "random_features", "early_stopping"),
}
FIGURES["all"] = tuple(name for names in FIGURES.values() for name in names)

FIGURES |= {name: (name,) for name in FIGURES["all"]}

# name: title, what run returns
EXPERIMENTS = {
    "fig1": ("Figure 1: convergence of the NTK", "Figure1"),
    "fig2": ("Figure 2: kernel regression", "Figure2"),
    "fig3a": ("Figure 3(a): kernel principal components of MNIST", "Figure3a"),
    "fig3bc": ("Figures 3(b), 3(c): convergence along a principal component", "Figure3bc"),
    "theorem1": ("Theorem 1: the NTK at initialisation", "Convergence"),
    "theorem2": ("Theorem 2: the NTK during training", "Theorem2"),
    "proposition1": ("Proposition 1: outputs at initialisation", "Proposition1"),
    "proposition2": ("Proposition 2: positive definiteness", "Proposition2"),
    "random_features": ("Section 3.1: random features", "FeatureConvergence"),
    "early_stopping": ("Section 5: early stopping", "Stopping"),
}


def _module(name):
    return importlib.import_module(f"ntkfast.experiments.{name}")


@contextlib.contextmanager
def folder(out):
    """Make the folder of the results if need be, and keep it to this process: two would mix theirs.

    Raises
    ------
    OSError
        Nothing can be written there, or another process is at work there.
    """
    if not os.fspath(out):
        raise OSError("--out: expected a folder, got an empty name")
    out = Path(out)
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(out))
            tempfile.TemporaryFile(dir=out).close()
        except BlockingIOError:
            raise OSError(f"--out: another process is at work in {out}; wait for it, or give another folder") from None
        except OSError as error:
            raise OSError(f"--out: {out} cannot be written: {error.strerror}") from None
        for left in (*out.glob(".ntkfast-*.tmp"), *out.glob("parts/*/.ntkfast-*.tmp")):  # of a process that was killed
            left.unlink(missing_ok=True)
        yield out


@contextlib.contextmanager
def _locked(path):
    """BlockingIOError if another process has it. The system frees the lock when the process ends, however it ends."""
    if fcntl is None:
        yield
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(opened)


def run_all(figure, out, *, data=None, full=False, seed=0, threads=None, progress=None, say=print):
    """Run the experiments of a figure (or "theory", or "all") and write the report of the folder.

    Parameters
    ----------
    figure : str
        One of FIGURES: "fig1", "fig2", "fig3", "theory", "all", or an experiment by its own name.
    out : path-like
        Made if it is not there.
    data : path-like, optional
        Folder of the MNIST files; default: what NTKFAST_DATA names.
    threads : int, optional
        Of BLAS and of the engine.
    full, seed, progress, say
        As in `run`.

    Returns
    -------
    list of (title, Finding)
        Of these experiments; the report has all that are in the folder.

    Raises
    ------
    OSError
        The folder cannot be written, or holds data of a full run that this one would replace.
    ntkfast.datasets.DataError
        MNIST is needed and missing or damaged.
    """
    with folder(out) as out, threadpool_limits(threads):
        for name in FIGURES[figure]:  # before the work, not after, as all that follows
            _keep_full(out / f"{name}.npz", _settings(name, full, seed))
        wanted = any("data" in _parameters(_module(name)) for name in FIGURES[figure])
        digits = mnist("train", data) if wanted else None
        for name in FIGURES[figure]:
            run(name, out, digits, full, seed, progress, say)
        titles = {EXPERIMENTS[name][0] for name in FIGURES[figure]}
        return [(title, finding) for title, finding in report(out) if title in titles]


def run(name, out, data=None, full=False, seed=0, progress=None, say=print) -> None:
    """Run an experiment, or find its data in the folder, and write its data and figure there.

    Data of the same sizes, seed and version are taken as they are; a run that was stopped continues.

    Parameters
    ----------
    name : str
        One of EXPERIMENTS.
    out : path-like
        A folder that is there.
    data : ntkfast.datasets.MNIST, optional
        For figure 3.
    full : bool
        The paper's sizes, and large ones where it has none; else those that are the defaults of the experiment's
        `run`.
    seed : int
    progress : bool or callable, optional
        As in `ntkfast.ntk`.
    say : callable
        Gets a line of text when the experiment begins and when it is done.
    """
    new_figure(1, 1)  # matplotlib is missed before the work, not after
    from matplotlib import style

    out, module = Path(out), _module(name)
    title, _ = EXPERIMENTS[name]
    settings = _settings(name, full, seed)
    path = out / f"{name}.npz"
    parts = out / "parts" / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    _keep_full(path, settings)
    found = _stored(out, name)
    if found is not None and found["settings"] == settings:
        say(f"{title}: found in {path}; without that file it is run again")
    else:
        say(title if found is None else f"{title}, in place of {path} of other sizes or another seed")
        start = time.perf_counter()
        given = {"data": data, "seed": seed, "parts": Parts(parts), "progress": progress}
        given = {key: given[key] for key in given if key in _parameters(module)}
        result = module.run(**given, **(module.FULL if full else {}))
        found = {**as_dict(result), "settings": settings, "seconds": time.perf_counter() - start}
        save(path, found)
        say(f"  {found['seconds']:.0f} s")
    shutil.rmtree(parts, ignore_errors=True)
    with contextlib.suppress(OSError):  # there is none, or it has parts of other runs
        parts.parent.rmdir()
    with style.context("default"):  # whatever the user's matplotlibrc has
        figure = module.plot(_result(name, found))
        for suffix in ("png", "pdf"):
            with replacing(out / f"{name}.{suffix}") as file:
                figure.savefig(file, format=suffix, dpi=150)


def _settings(name, full, seed):
    """All that the data depend on, as text that is the same in every process."""
    module = _module(name)
    parameters = _parameters(module).items()
    defaults = {key: p.default for key, p in parameters if key not in ("data", "seed", "parts", "progress")}
    given = {"version": version("ntkfast"), "seed": seed, "full": full, **(module.FULL if full else {})}
    return json.dumps({**defaults, **given}, default=repr)


def _parameters(module):
    return inspect.signature(module.run).parameters


def _read(found) -> dict:
    """The settings of stored data; {} if they have none."""
    try:
        return dict(json.loads(found["settings"]))
    except (TypeError, KeyError, ValueError):
        return {}


def _stored(out, name):
    """The data of an experiment; None if there are none, or of another version: they may mean other things."""
    found = load(Path(out) / f"{name}.npz")
    settings = _read(found)
    needed = {"seconds", *_kind(name).__dataclass_fields__} - {"net"}
    good = settings.get("version") == version("ntkfast") and {"seed", "full"} <= set(settings) and needed <= set(found)
    return found if good else None


def _keep_full(path, settings):
    """Raise if the data of a full run, which took hours, are not those of these settings."""
    there = _read(load(path))
    if there.get("full") and there != _read({"settings": settings}):
        raise FileExistsError(
            f"--out: {path} is of a --full run (seed {there.get('seed')}, version {there.get('version')}) of other "
            "settings, which this one would replace; give another folder"
        )


def read(out, name):
    """What the `run` of an experiment returned, from the folder of its results.

    Parameters
    ----------
    out : path-like
    name : str
        One of EXPERIMENTS.

    Returns
    -------
    Its dataclass of arrays, for its `plot` and `findings`.

    Raises
    ------
    FileNotFoundError
        There are no such data, or they are damaged or of another version.
    """
    found = _stored(out, name)
    if found is None:
        raise FileNotFoundError(f"out: expected data of this version of ntkfast in {Path(out) / name}.npz")
    return _result(name, found)


def _kind(name):
    """The dataclass of an experiment's data."""
    return getattr(_module(name), EXPERIMENTS[name][1])


def _result(name, found):
    """From stored fields; the network is the one that `run` takes by default."""
    kind = _kind(name)
    values = {field: found[field] for field in kind.__dataclass_fields__ if field != "net"}
    if "net" in kind.__dataclass_fields__:
        values["net"] = _module(name).PAPER
    return kind(**values)


def report(out) -> list[tuple[str, object]]:
    """Write report.md, of every experiment whose data are in the folder and from this version.

    Parameters
    ----------
    out : path-like

    Returns
    -------
    list of (title, Finding)
    """
    out, every = Path(out), []
    lines = [
        "# The experiments of Jacot, Gabriel and Hongler (2018)",
        "",
        f"ntkfast {version('ntkfast')}. ReLU networks in NTK parametrisation, one output, w = 1, β = 0.1, full-batch "
        "gradient descent on ½‖f - f*‖². A line without verdict claims nothing.",
        "",
    ]
    for name, (title, _) in EXPERIMENTS.items():
        found = _stored(out, name)
        if found is None:
            continue
        settings = _read(found)
        module = _module(name)
        result = _result(name, found)
        findings = module.findings(result)
        every += [(title, finding) for finding in findings]
        sizes = "full sizes (--full)" if settings["full"] else "small sizes (--quick)"
        lines += [f"## {title}", "", f"![{title}]({name}.png)", "", module.caption(result), ""]
        lines += [f"Seed {settings['seed']}, {sizes}, {found['seconds']:.0f} s, the last run if it was stopped.", ""]
        lines += ["| | paper or theory | here | tolerance | verdict |", "|---|---|---|---|---|"]
        for f in findings:
            verdict = {None: "", True: "ok", False: "**out**"}[f.ok]
            lines.append(f"| {_cell(f.what)} | {_cell(f.expected)} | {_cell(f.found)} | {f.tolerance} | {verdict} |")
        lines.append("")
    with replacing(out / "report.md") as file:
        file.write("\n".join(lines).encode())
    return every


def _cell(text):
    return text.replace("|", "\\|")
