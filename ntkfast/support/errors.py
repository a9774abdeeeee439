"""The project's own errors: all derive from `Error`, so that one `except` catches them."""

__all__ = ["ActivationError", "DivergenceError", "Error", "PrecisionError", "StoreError"]


class Error(Exception):
    """The base class of the errors that only ntkfast raises."""


class ActivationError(Error, ValueError):
    """A function cannot serve as an activation. The message says what it returned, where, and what was expected."""


class PrecisionError(Error, ArithmeticError):
    """A dual activation cannot be computed to the promised accuracy. The message reports the accuracy reached."""


class DivergenceError(Error, ArithmeticError):
    """Training or a flow diverged. The message says when."""


class StoreError(Error, ValueError):
    """A store on disk is not what was expected: damaged, incomplete, or of another kernel. The message says how."""
