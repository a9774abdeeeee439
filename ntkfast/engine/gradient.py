"""The hyperparameters of a program, and the rates of the points' numbers along it.

A derivative of a limit kernel by a weight_std or bias_std has two parts. What belongs to pairs is done in C, backwards
through the program (src_c/backward.h): derivatives with respect to the four numbers of each layer, and to log q of both
points before each dual. What belongs to points is done here, forwards along the diagonal: the rate of log q. Their
product is the derivative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import series
from ntkfast.engine.lower import Code

FLOPS_PER_LAYER = 240  # of one dual there and back


@dataclass(frozen=True)
class Parameters:
    """weight_std and bias_std of each Dense.

    at: which instruction's layer each of them changes.  layer (parameters, 4): the rates of the numbers of that layer.
    """

    code: Code
    at: np.ndarray
    layer: np.ndarray

    @classmethod
    def of(cls, code: Code) -> Parameters:
        for _, activation in code.series:
            if series.jumping(activation):
                raise ValueError(
                    f"gradient: activation {activation.name!r} jumps and is known by its Hermite series only, which "
                    "has no derivatives; step, sign and rectified_monomial(0) have them"
                )
        at, rates = [], []
        for k, dense in code.dense:
            a, _, c, _ = code.instructions[k][2]
            w, beta = np.longdouble(dense.weight_std), np.longdouble(dense.bias_std)
            at += [k, k]
            rates += [[2 * a / w, 0, 2 * c / w, 0], [0, 2 * beta, 0, 2 * beta * dense.bias_lr]]
        return cls(code, np.array(at, dtype=np.intc), np.array(rates, dtype=float))

    def along(self, numbers):
        """From what `_core.rates` gives for n points: the rates of log q before each instruction, a list of arrays
        (parameters that come before it, n); those of Σ(x, x) and Θ(x, x), each (parameters, n).
        """
        numbers = numbers.astype(float)
        all_by_q = np.zeros((len(self.at), numbers.shape[2]))
        all_by_theta, copies, rates = all_by_q.copy(), [], []
        for k, (name, parameters, layer) in enumerate(self.code.instructions):
            a, c = float(layer[0]), float(layer[2])
            before, after = np.searchsorted(self.at, [k, k + 1])
            by_q, by_theta = all_by_q[:before], all_by_theta[:before]
            if name == "push":
                copies.append((by_q.copy(), by_theta.copy()))
            elif name == "add":
                scale = float(parameters[0])
                by_q *= scale
                by_theta *= scale
                for array, copy in zip((by_q, by_theta), copies.pop(), strict=True):
                    array[: len(copy)] += copy
            q, theta, value, slope, value_rate, slope_rate = numbers[k]
            rate = np.divide(by_q, q, out=np.zeros_like(by_q), where=q > 0)
            rates.append(rate)
            by_theta[:] = a * slope * by_theta + (a * theta * slope_rate + c * value_rate) * rate
            by_q[:] = a * value_rate * rate
            da, db, dc, dd = self.layer[before:after].T[..., None]
            all_by_q[before:after] = da * value + db
            all_by_theta[before:after] = da * theta * slope + dc * value + dd
        return rates, (all_by_q, all_by_theta)

    def padded(self, rates, n):
        """The rates of `along` as one array (parameters, instructions, n)."""
        result = np.zeros((len(self.at), len(self.code.instructions), n))
        for k, rate in enumerate(rates):
            result[: len(rate), k] = rate
        return result
