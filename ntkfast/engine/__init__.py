"""The engine: from a network value to numbers. Only this package knows the compiled module."""

from ntkfast.engine import _core

if _core.isa_in_use() is None:
    import os

    raise ImportError(
        f"NTKFAST_ISA: expected one of {', '.join(_core.isa_available())} on this machine, "
        f"got {os.environ['NTKFAST_ISA']!r}"
    )
