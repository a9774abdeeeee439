"""The outputs of a kernel program by name."""

from __future__ import annotations

from ntkfast.engine import _core

OUTPUTS = _core.OUTPUTS
KERNELS = OUTPUTS[:2]  # those that are kernels, and have derivatives


def names(get: object, known: tuple[str, ...] = OUTPUTS) -> tuple[str, ...]:
    """A name or a sequence of names as a tuple; raise if one is unknown or repeated."""
    if not isinstance(get, str | tuple | list):
        raise TypeError(f"get: expected a name or a tuple of names, got {type(get).__name__}")
    given = (get,) if isinstance(get, str) else tuple(get)
    for output in given:
        if output not in known:
            raise ValueError(f"get: expected names out of {', '.join(known)}, got {output!r}")
    if len(given) != len(set(given)) or not given:
        raise ValueError(f"get: expected one or more different outputs, got {given!r}")
    return given


def kernel(name: object) -> str:
    """The name of one kernel, "nngp" or "ntk"."""
    if not isinstance(name, str) or name not in KERNELS:
        got = repr(name) if isinstance(name, str) else type(name).__name__
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {got}")
    return name
