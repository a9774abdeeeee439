"""Stopping gradient descent when it diverges."""

from __future__ import annotations

import contextlib
import math
import warnings

import numpy as np
import scipy

from ntkfast.finite.products import ntk_vector_product
from ntkfast.support.eigenvalues import largest_eigenvalue
from ntkfast.support.errors import ActivationError, DivergenceError

HIGHER = 1.1  # a last loss above this times the first says that training failed, even if it is bounded
GROWTH = 1e8  # a loss that has grown by this factor does not come back
HINT_POINTS = 200  # from which the largest eigenvalue is estimated when a run diverges


class _DivergedError(Exception):
    """Without the hint, which takes a while to find."""


class Watch:
    """Looks at every step of gradient descent from f on X.

    cost: the function outputs ↦ (C, d), whose growth is watched; None if C may be anything.
    """

    def __init__(self, f, X, rate, cost=None, momentum=0.0):
        self.f, self.X, self.rate, self.momentum = f, X, rate, momentum
        self.usual = math.inf
        if cost is not None:  # the first loss alone may be 0, after an exact fit or through a dropout mask
            with np.errstate(over="ignore", invalid="ignore"):
                outputs = f(X)
                self.usual = max(cost(outputs)[0], cost(np.zeros_like(outputs))[0])

    def check(self, step, value, outputs):
        """Raise if the loss or the outputs are not finite, or the loss has grown by GROWTH."""
        if not math.isfinite(value):
            raise _DivergedError(f"the loss is {value}")
        if not np.isfinite(outputs).all():
            raise _DivergedError("the outputs are not finite")
        if step == 0:
            self.usual = max(self.usual, value)
        if value > GROWTH * self.usual > 0:
            raise _DivergedError(f"the loss grew from {self.usual:.3g} to {value:.3g}")

    def finish(self, losses):
        """Warn if training ended above where it started, as with losses that grow slowly: softmax, logistic, huber."""
        last, largest = losses[-1], int(np.argmax(losses))
        if last > HIGHER * self.usual:
            warnings.warn(
                f"training did not converge: the loss is {last:.3g} at step {len(losses) - 1}, above the "
                f"{self.usual:.3g} of the start (the largest was {losses[largest]:.3g} at step {largest}); "
                f"{self._hint()}",
                stacklevel=3,
            )

    @contextlib.contextmanager
    def step(self, step):
        """Turn the errors of a step whose numbers overflow into a DivergenceError with a hint."""
        try:
            yield
        except (_DivergedError, ActivationError) as error:
            if isinstance(error, ActivationError) and step == 0:
                raise
            hint = f"; {self._hint()}" if step else ""
            raise DivergenceError(f"training diverged at step {step}: {error}{hint}") from None

    def _hint(self):
        f, few = self.f, self.X[:: -(-len(self.X) // HINT_POINTS)]
        shape = (len(few), f.n_outputs)
        kernel = scipy.sparse.linalg.LinearOperator(
            2 * [len(few) * f.n_outputs],
            matvec=lambda v: ntk_vector_product(f, few, v.reshape(shape)).reshape(-1),
            dtype=f.dtype,
        )
        largest = largest_eigenvalue(kernel)
        if largest <= 0:
            return f"learning_rate is {self.rate:g}, the tangent kernel is 0 at the start"
        of = "" if len(few) == len(self.X) else f", estimated from {len(few)} points"
        stable = 2 * (1 + self.momentum) * len(few) / largest
        return f"learning_rate is {self.rate:g}, for least squares it must be below {stable:.3g} at the start{of}"
