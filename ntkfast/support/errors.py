"""The project's own errors: all derive from `Error`, so that one `except` catches them."""

__all__ = ["ActivationError", "DivergenceError", "Error", "PrecisionError", "StoreError"]


class Error(Exception):
    """The base class of the errors that only ntkfast raises.

    See Also
    --------
    ActivationError, DivergenceError, PrecisionError, StoreError : What derives from it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> try:
    ...     nf.Activation.from_function(lambda x: x * float("nan"))
    ... except nf.Error as error:
    ...     print(type(error).__name__)
    ActivationError
    """


class ActivationError(Error, ValueError):
    """A function cannot serve as an activation. The message says what it returned, where, and what was expected.

    See Also
    --------
    Activation.from_function : Raises it for a function of your own.
    finite_width : Raises it where a moment diverges.

    Examples
    --------
    >>> import ntkfast as nf
    >>> issubclass(nf.ActivationError, ValueError)
    True
    """


class PrecisionError(Error, ArithmeticError):
    """A dual activation cannot be computed to the promised accuracy. The message reports the accuracy reached.

    See Also
    --------
    Activation.from_function : Says what is promised.

    Examples
    --------
    >>> import ntkfast as nf
    >>> issubclass(nf.PrecisionError, ArithmeticError)
    True
    """


class DivergenceError(Error, ArithmeticError):
    """Training or a flow diverged. The message says when.

    See Also
    --------
    train : Raises it where steps are too large.
    kernel_flow : Raises it where a solver gives up.

    Examples
    --------
    >>> import ntkfast as nf
    >>> f = nf.FiniteNetwork.init(nf.MLP(2, "identity"), n_inputs=1, widths=20, rng=0)
    >>> try:
    ...     nf.train(f, [[1.0]], [2.0], learning_rate=100.0)
    ... except nf.DivergenceError as error:
    ...     print("diverged")
    diverged
    """


class StoreError(Error, ValueError):
    """A store on disk is not what was expected: damaged, incomplete, or of another kernel. The message says how.

    See Also
    --------
    ntkfast.store.open : Raises it for what is no store.
    ntkfast.store.compute : Raises it for a store of another kernel.

    Examples
    --------
    >>> import ntkfast as nf
    >>> issubclass(nf.StoreError, nf.Error)
    True
    """
