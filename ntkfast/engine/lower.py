"""Lowering: a network becomes the code of a kernel program, once per network and number of inputs."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ntkfast.engine import _core
from ntkfast.networks import Activation, Network
from ntkfast.networks.instruction import Instruction


class Line(NamedTuple):
    """An instruction, and the four numbers (a, b, c, d) of the affine layer that it ends with."""

    instruction: Instruction
    numbers: tuple
    activation: Activation | None  # whose dual it is


class Parameter(NamedTuple):
    """A hyperparameter: the line whose numbers depend on it, and their derivatives."""

    line: int
    rates: tuple


@dataclass(frozen=True)
class Code:
    """The lines of a program, and which of them sum a series whose data depends on the variances it will meet."""

    lines: tuple[Line, ...]
    parameters: tuple[Parameter, ...]  # weight_std and bias_std of every Dense, in order of appearance
    dot: int  # the line whose derivative is the output nngp_dot, -1 if there is none

    @property
    def series(self) -> tuple[tuple[int, Activation], ...]:
        """Lines whose data `Program.bind` takes, and their activations."""
        return tuple((k, line.activation) for k, line in enumerate(self.lines) if line.instruction.varies)

    def program(self) -> _core.Program:
        return _core.Program(
            [
                (line.instruction.name, () if line.instruction.varies else line.instruction.parameters, line.numbers)
                for line in self.lines
            ],
            self.dot,
        )


@lru_cache(maxsize=256)
def lower(net: Network, n_inputs: int) -> Code:
    """The code of this network for points with n_inputs features."""
    builder = _Builder(np.longdouble(n_inputs))
    for layer in net.layers:
        layer.emit(builder)
    return builder.code()


@dataclass
class _Draft:
    """A line to which layers may still be added."""

    instruction: Instruction
    activation: Activation | None
    is_nested: bool
    numbers: np.ndarray = field(default_factory=lambda: np.array([1, 0, 0, 0], dtype=np.longdouble))
    rates: list = field(default_factory=list)  # of the Dense that the numbers hold

    @property
    def is_full(self):
        return bool(self.rates)


class _Builder:
    """What layers write their instructions into. Numbers are long doubles, for the precision of the diagonal.

    Attributes
    ----------
    fan_in : longdouble
        What the weights of the next Dense are divided by: the number of inputs, 1 after the first one.
    n_inputs : longdouble
        The number of inputs.
    """

    def __init__(self, n_inputs):
        self.fan_in = self.n_inputs = n_inputs
        self._lines, self._nesting = [], 0

    def add(self, name, *parameters):
        """An instruction of this name."""
        self._append(Instruction(name, parameters))

    def dual(self, activation):
        """The instruction of an activation."""
        self._append(activation.instruction, activation)

    def affine(self, numbers, rates):
        """A layer Θ ← aΘ + cΣ + d, then Σ ← aΣ + b, with numbers (a, b, c, d).

        It is merged into the instruction before it, if that has no such layer yet. rates: the derivatives of the
        numbers with respect to each hyperparameter.
        """
        line = self._last(free=True)
        before = np.array([line.numbers[0], 1, line.numbers[0], 1])  # a multiple of Σ and Θ that comes first
        line.numbers = before * np.array(numbers, dtype=np.longdouble)
        line.rates = [before * np.array(rate, dtype=np.longdouble) for rate in rates]
        self.fan_in = np.longdouble(1)

    def scale(self, factor):
        """Σ ← factor Σ and Θ ← factor Θ, as part of the instruction before."""
        if factor == 1:
            return
        line = self._last()
        line.numbers = factor * line.numbers
        line.rates = [factor * rate for rate in line.rates]

    def join(self, branches, of_input, how):
        """All branches, each from what flows in here, and their sum ("add") or product ("multiply").

        branches: one or more pairs of layers and the weight of their Σ and Θ.  of_input: the weight of the input itself
        as one more branch, 0 for none.
        """
        fan_in = self.fan_in
        if of_input:
            self.add("push")
        for k, (layers, weight) in enumerate(branches):
            self.fan_in = fan_in
            if k < len(branches) - 1:
                self.add("push")
            self._nesting += 1
            for layer in layers:
                layer.emit(self)
            self._nesting -= 1
            self.scale(weight)
            if k < len(branches) - 1:
                self.add("swap")
        weights = [1] * (len(branches) - 1) + [of_input] * bool(of_input)
        for weight in weights:
            self.add(how, *([weight] if how == "add" else []))

    def code(self):
        duals = [k for k, line in enumerate(self._lines) if line.activation is not None]
        has_dot = bool(duals) and self._lines[duals[-1]].is_full and not self._lines[duals[-1]].is_nested
        return Code(
            tuple(Line(line.instruction, tuple(line.numbers), line.activation) for line in self._lines),
            tuple(Parameter(k, tuple(rate)) for k, line in enumerate(self._lines) for rate in line.rates),
            duals[-1] if has_dot else -1,
        )

    def _append(self, instruction, activation=None):
        self._lines.append(_Draft(instruction, activation, bool(self._nesting)))

    def _last(self, free=False):
        """The last line; a new one if there is none, or, with `free`, if it already has a layer."""
        if not self._lines or (free and self._lines[-1].is_full):
            self._append(Instruction("affine"))
        return self._lines[-1]
