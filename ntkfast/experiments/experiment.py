"""An experiment as a value: its name, how it is run, and how its result is presented."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ntkfast.datasets import MNIST
from ntkfast.experiments.storage import Parts, Values
from ntkfast.experiments.verdicts import Finding
from ntkfast.experiments.work import Progress
from ntkfast.networks import Network

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from matplotlib.figure import Figure

__all__ = ["Experiment"]

Data = TypeVar("Data", bound="DataclassInstance")  # what `run` returns


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[Data]):
    """One experiment of the paper.

    Attributes
    ----------
    name : str
        The name of its module, and of its files in a folder of results.
    figure : str
        The figure of the paper to which it belongs, or "theory".
    title : str
    result : type
        The dataclass that `run` returns.
    run : callable
        Its defaults are the quick sizes. Takes `seed` and `progress`.
    plot : callable
        From the result to a matplotlib Figure.
    findings : callable
        From the result to a list of Finding.
    caption : callable
        From the result to a str.
    full : mapping
        The arguments of `run` for the paper's sizes, or for large ones where the paper gives none.
    network : Network, optional
        The `net` that `run` takes by default.
    needs_mnist : bool
        Whether the first argument of `run` is MNIST's training set.
    resumable : bool
        Whether `run` takes `parts`, from which an interrupted run continues.
    """

    name: str
    figure: str
    title: str
    result: type[Data]
    run: Callable[..., Data]
    plot: Callable[[Data], Figure]
    findings: Callable[[Data], list[Finding]]
    caption: Callable[[Data], str]
    full: Mapping[str, object] = field(default_factory=dict)
    network: Network | None = None
    needs_mnist: bool = False
    resumable: bool = False

    def sizes(self, full: bool) -> dict[str, object]:
        """The arguments of `run`, including defaults, on which the result depends, apart from the seed and MNIST."""
        call = inspect.signature(self.run).bind_partial(**(self.full if full else {}))
        call.apply_defaults()
        return {name: value for name, value in call.arguments.items() if name not in ("seed", "parts", "progress")}

    def compute(self, *, digits: MNIST | None, full: bool, seed: int, parts: Parts, progress: Progress) -> Data:
        """Call `run` with those of these arguments that it takes.

        Raises
        ------
        ValueError
            digits are needed but None.
        """
        if self.needs_mnist and digits is None:
            raise ValueError(f"digits: {self.name} expected MNIST's training set, got None")
        given = (digits,) if self.needs_mnist else ()
        options = {"parts": parts} if self.resumable else {}
        return self.run(*given, **(self.full if full else {}), **options, seed=seed, progress=progress)

    @property
    def stored(self) -> set[str]:
        """The fields of the result that are on disk: all except the network."""
        return {field.name for field in fields(self.result)} - {"net"}

    def restore(self, values: Values) -> Data:
        """The result from its stored fields; its network is the one that `run` takes by default."""
        stored: dict[str, Any] = {name: values[name] for name in self.stored}
        if any(field.name == "net" for field in fields(self.result)):
            stored["net"] = self.network
        return self.result(**stored)
