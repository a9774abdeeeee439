"""The hyperparameters of a program, and the rates of the points' numbers along it.

The derivative of a limit kernel with respect to a weight_std or bias_std has two parts. The part of the pairs is
computed in C, backwards through the program (src_c/backward.h): derivatives with respect to the four numbers of each
layer, and to log q of both points before each dual. The part of the points is computed here, forwards along the
diagonal: the rate of log q. The product of the two is the derivative.

The kernel depends on the points themselves by the inner products x.y, whose derivatives come from C as well, and by
the squared norms, at which log q changes at rates of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import series
from ntkfast.engine.lower import Code
from ntkfast.support import arrays

FLOPS_PER_LAYER = 240  # of one dual, forwards and backwards


@dataclass(frozen=True)
class Parameters:
    """weight_std and bias_std of each Dense; or log |x|² alone, each point's own.

    at: the instruction whose layer each of them changes, -1: none.  layer (parameters, 4): the rates of that layer's
    numbers.
    """

    code: Code
    at: np.ndarray
    layer: np.ndarray

    @classmethod
    def norms(cls, code: Code) -> Parameters:
        return cls(code, np.array([-1], dtype=np.intc), np.zeros((1, 4)))

    @classmethod
    def of(cls, code: Code) -> Parameters:
        for _, activation in code.series:
            if series.jumping(activation):
                raise ValueError(
                    f"gradient: activation {activation.name!r} jumps and has only its Hermite series, which "
                    "has no derivatives; step, sign and rectified_monomial(0) have them"
                )
        at, rates = zip(*code.parameters, strict=True)
        return cls(code, np.array(at, dtype=np.intc), np.array(rates, dtype=float))

    def along(self, numbers):
        """From what `_core.rates` gives for n points: the rates of log q before each instruction, a list of arrays
        (parameters that come before it, n); those of Σ(x, x) and Θ(x, x), each (parameters, n).
        """
        numbers = numbers.astype(float)
        by_q, by_theta = (np.zeros((len(self.at), numbers.shape[2])) for _ in range(2))
        now, stack, rates = tuple(numbers[0, :2]), [], []  # now: Σ(x, x) and Θ(x, x)
        by_q[self.at < 0] = now[0]
        for k, line in enumerate(self.code.lines):
            a, b, c, d = map(float, line.numbers)
            now, by_q, by_theta = BRANCHING.get(line.instruction.name, _stay)(line, stack, (now, by_q, by_theta))
            q, theta, value, slope, value_rate, slope_rate = numbers[k]
            before, after = np.searchsorted(self.at, [k, k + 1])
            rate = np.divide(by_q[:before], q, out=np.zeros_like(by_q[:before]), where=q > 0)
            rates.append(rate)
            by_theta[:before] = a * slope * by_theta[:before] + (a * theta * slope_rate + c * value_rate) * rate
            by_q[:before] = a * value_rate * rate
            da, db, dc, dd = self.layer[before:after].T[..., None]
            by_q[before:after] = da * value + db
            by_theta[before:after] = da * theta * slope + dc * value + dd
            now = a * value + b, a * slope * theta + c * value + d
        return rates, (by_q, by_theta)

    def layers(self):
        """The rates of all layers' numbers, (parameters, instructions, 4)."""
        result = np.zeros((len(self.at), len(self.code.lines), 4))
        result[np.arange(len(self.at)), self.at] = self.layer
        return result

    def padded(self, rates, n):
        """The rates of `along` as one array (parameters, instructions, n)."""
        result = np.zeros((len(self.at), len(self.code.lines), n))
        for k, rate in enumerate(rates):
            result[: len(rate), k] = rate
        return result


def _stay(line, stack, state):
    return state


def _push(line, stack, state):
    now, *rates = state
    stack.append((now, *map(np.copy, rates)))
    return state


def _swap(line, stack, state):
    top = stack.pop()
    stack.append(state)
    return top


def _add(line, stack, state):
    (weight,) = map(float, line.instruction.parameters)
    _, top_q, top_theta = stack.pop()
    now, by_q, by_theta = state
    return now, by_q + weight * top_q, by_theta + weight * top_theta


def _multiply(line, stack, state):
    (top_sigma, top_theta), by_top_q, by_top_theta = stack.pop()
    (sigma, theta), by_q, by_theta = state
    return (
        (sigma, theta),
        sigma * by_top_q + top_sigma * by_q,
        theta * by_top_q + top_sigma * by_theta + sigma * by_top_theta + top_theta * by_q,
    )


# What instructions that work on the stack do to Σ(x, x) and Θ(x, x) and to their rates. The values after a sum or a
# product come from C.
BRANCHING = {"push": _push, "swap": _swap, "add": _add, "multiply": _multiply}


def add_norms(by_input, by_norm, points):
    """Add 2x/|x|² times the derivative with respect to log |x|², (n,), to the rows of by_input (n, d)."""
    norm = np.sqrt(points.norms)  # divided by twice: |x|² may be as small as floats are
    inverse = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
    for rows in arrays.blocks(len(norm)):
        unit = points.x[rows] * inverse[rows, None]
        by_input[rows] += (2 * by_norm[rows] * inverse[rows])[:, None] * unit
