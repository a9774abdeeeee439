"""Results on disk: `.npz` files, and the finished parts from which an interrupted run resumes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ntkfast.networks import Network
from ntkfast.support import archive
from ntkfast.support.files import opened, replacing

__all__ = ["NO_PARTS", "Parts", "Values", "as_dict", "load", "save"]

Values = dict[str, Any]  # arrays, numbers and strings by name, as in an .npz file


def save(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write arrays, numbers and strings to an .npz file, atomically."""
    with replacing(path) as file:
        np.savez(file, **values)


def load(path: str | os.PathLike[str]) -> Values | None:
    """What `save` wrote; None if the file is missing, damaged, or of another kind."""
    if not os.path.exists(path):
        return None
    with opened(path) as file:
        try:
            found = archive.read_arrays(file)
        except MemoryError:
            raise
        except Exception:  # a damaged file can make zipfile and NumPy raise anything
            return None
    return {name: value if value.ndim else value.item() for name, value in found.items()}


def as_dict(data: Any) -> Values:
    """The fields of a result, without its network, which is not an array: the `Experiment` has it."""
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    return {name: value for name, value in values.items() if not isinstance(value, Network)}


class Parts:
    """The finished parts of a run, one file each, so that an interrupted run can resume. No folder: none is kept.

    Parameters
    ----------
    folder : path-like, optional
        Created if it does not exist.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"Parts({self.folder})"

    def get(self, name: str, compute: Callable[[], Values]) -> Values:
        """The part of this name: from its file if there is one, else from `compute`."""
        found = None if self.folder is None else load(self.folder / f"{name}.npz")
        if found is None:
            found = compute()
            if self.folder is not None:
                save(self.folder / f"{name}.npz", found)
        return found


NO_PARTS = Parts()
