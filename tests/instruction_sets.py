"""The same call with each instruction set that this machine supports, in one process."""

from ntkfast.engine import _core


def each_isa(function):
    """What function() returns, by the name of the instruction set."""
    before, results = _core.isa_in_use(), {}
    for isa in _core.isa_available():
        _core.use_isa(isa)
        try:
            results[isa] = function()
        finally:
            _core.use_isa(before)
    return results
