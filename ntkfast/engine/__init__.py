"""The engine: from a network value to numbers. Only this package imports the compiled module."""

from importlib.util import find_spec
from pathlib import Path

if find_spec("ntkfast.engine._core") is None:
    tree = Path(__file__).parents[2]
    raise ImportError(
        f"{tree / 'ntkfast'} is a source tree without the compiled engine, and hides any ntkfast that is installed: "
        "run Python in another directory or as `python -P` to import that one, or build the engine in this tree with "
        f"`pip install -e {tree}`"
    )

from ntkfast.engine import _core

if _core.isa_in_use() is None:
    import os

    raise ImportError(
        f"NTKFAST_ISA: expected one of {', '.join(_core.isa_available())} on this machine, "
        f"got {os.environ['NTKFAST_ISA']!r}"
    )
