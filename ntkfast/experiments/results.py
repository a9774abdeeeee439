"""A folder of results: reserved for one process, its data read and checked against the settings of a run."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.storage import Values, load
from ntkfast.support.files import locked

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["data_path", "exclusive", "keep_full", "read", "settings", "settings_of", "stored"]

Data = TypeVar("Data", bound="DataclassInstance")
PathLike = str | os.PathLike[str]
Settings = dict[str, Any]


@contextlib.contextmanager
def exclusive(out: PathLike) -> Iterator[Path]:
    """Create the folder of the results if needed, and reserve it for this process: two would mix up their results.

    Raises
    ------
    OSError
        The folder cannot be written to, or another process is using it.
    """
    if not os.fspath(out):
        raise OSError("out: expected a folder, got an empty name")
    folder = Path(out)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
            tempfile.TemporaryFile(dir=folder).close()
        except BlockingIOError:
            raise OSError(f"out: another process is using {folder}; wait for it, or choose another folder") from None
        except OSError as error:
            raise OSError(f"out: cannot write to {folder}: {error.strerror}") from None
        for pattern in (".ntkfast-*.tmp", "parts/*/.ntkfast-*.tmp"):  # left by a process that was killed
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
        yield folder


def data_path(out: PathLike, experiment: Experiment[Any]) -> Path:
    """The file of an experiment's data."""
    return Path(out) / f"{experiment.name}.npz"


def settings(experiment: Experiment[Any], *, full: bool, seed: int) -> Settings:
    """Everything that the data depend on, in the form in which `settings_of` reads it back from the data."""
    values = {**experiment.sizes(full), "version": version("ntkfast"), "seed": seed, "full": full}
    return dict(json.loads(json.dumps(values, default=repr)))


def settings_of(values: Values | None) -> Settings:
    """The settings in stored data; {} if there are none."""
    try:
        return dict(json.loads((values or {})["settings"]))
    except (TypeError, KeyError, ValueError):
        return {}


def stored(out: PathLike, experiment: Experiment[Any]) -> Values | None:
    """The stored data of an experiment; None if there are none, or if they are from another version and may differ."""
    values = load(data_path(out, experiment))
    found = settings_of(values)
    if values is None or found.get("version") != version("ntkfast") or not {"seed", "full"} <= set(found):
        return None
    return values if {"seconds", *experiment.stored} <= set(values) else None


def keep_full(out: PathLike, experiment: Experiment[Any], settings: Settings) -> None:
    """Raise rather than replace the data of a full run, which took hours, with data of other settings."""
    path = data_path(out, experiment)
    there = settings_of(load(path))
    if there.get("full") and there != settings:
        raise FileExistsError(
            f"out: {path} holds the data of a full run (seed {there.get('seed')}, version {there.get('version')}) with "
            "other settings, which this run would replace; choose another folder"
        )


def read(out: PathLike, experiment: Experiment[Data]) -> Data:
    """What the `run` of an experiment returned, from the folder of its results.

    Parameters
    ----------
    out : path-like
    experiment : Experiment

    Returns
    -------
    Its dataclass of arrays, for its `plot` and `findings`.

    Raises
    ------
    FileNotFoundError
        There are no such data, or they are damaged or from another version.
    """
    values = stored(out, experiment)
    if values is None:
        raise FileNotFoundError(f"out: expected data of this version of ntkfast in {data_path(out, experiment)}")
    return experiment.restore(values)
