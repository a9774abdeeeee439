"""The project's own errors: all of them are `Error`, so that one `except` takes them."""

__all__ = ["ActivationError", "DivergenceError", "Error", "PrecisionError"]


class Error(Exception):
    """The base class of the errors that only ntkfast raises."""


class ActivationError(Error, ValueError):
    """A function cannot serve as an activation: what it returned, where, and what was expected."""


class PrecisionError(Error, ArithmeticError):
    """A dual activation cannot be computed to the promised accuracy; says what was reached."""


class DivergenceError(Error, ArithmeticError):
    """Training, or a flow, grew beyond all bounds. The message says when."""
