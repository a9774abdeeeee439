"""What a layer is: the base class of all layers, what flows between them, and the one walk through nested ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ntkfast.support.saved import Saved

__all__ = ["Flow", "Layer", "flow_through", "share_through", "walk"]

INPUTS, GAUSSIAN, FEATURES = "the inputs", "a Gaussian field", "features"


@dataclass(frozen=True)
class Flow:
    """What flows between two layers of a network of infinite width.

    Attributes
    ----------
    kind : str
        INPUTS: the network's own. GAUSSIAN: a Gaussian field of mean 0, which an activation can be applied to.
        FEATURES: anything else with a second moment, which a Dense can be applied to.
    source : str
        The layer that it comes from, for messages.
    centred : bool
        In a branch: whether it has mean 0, apart from a multiple of the branch's input.
    shifted : bool
        In a branch: whether the branch's input has a mean.
    outputs : bool
        Whether it can be the outputs of a network: each a sum over weights of its own, so that any number is possible.
    """

    kind: str = INPUTS
    source: str = "nothing"
    centred: bool = True
    shifted: bool = False
    outputs: bool = False


class Layer(Saved):
    """Base class of the layers, which are immutable values: dataclasses compared by their fields.

    A new layer is a subclass with `after`, `share` and `emit`, and a step class in ntkfast/finite/steps.py for networks
    of finite width. Everything else (nesting, hyperparameters, files, derivatives) follows from its fields.
    """

    @property
    def branches(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers that this layer contains, sequence by sequence."""
        return ()

    def with_branches(self, branches) -> Layer:
        """The same layer containing other layers."""
        return self

    def after(self, flow: Flow, place: str) -> Flow:
        """What flows out when `flow` flows in; raises ValueError, naming the place, if the layer cannot be there."""
        raise NotImplementedError

    def share(self, share: float | None) -> float | None:
        """How a multiple of a field leaves the layer, as a multiple of that field: 0 if what leaves is independent of
        it, None if it depends on it in another way.
        """
        return 0.0 if share == 0 else None

    def in_standard(self, fan_in: int | str, widths: Iterator[int]) -> tuple[Layer, int | str]:
        """The layer with every Dense in it in standard parametrisation, and the width after it.

        fan_in: the width before it.  widths: of each Dense in order of appearance.
        """
        return self, fan_in

    def emit(self, code) -> None:
        """Write the layer's instructions by the methods of `code` (ntkfast/engine/lower.py)."""
        raise NotImplementedError


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Every layer in order of appearance, followed by those that it contains."""
    for layer in layers:
        yield layer
        for branch in layer.branches:
            yield from walk(branch)


def mapped(layers: Iterable[Layer], function) -> list[Layer]:
    """Every layer replaced by function(layer), the layers that it contains first."""
    return [function(layer.with_branches([mapped(branch, function) for branch in layer.branches])) for layer in layers]


def flow_through(layers: Iterable[Layer], flow: Flow, place: str) -> Flow:
    """What flows out of a sequence of layers."""
    for k, layer in enumerate(layers):
        flow = replace(layer.after(flow, f"{place}[{k}]"), source=repr(layer))
    return flow


def in_standard(layers: Iterable[Layer], fan_in: int | str, widths: Iterator[int]) -> tuple[list[Layer], int | str]:
    """`Layer.in_standard`, for a sequence of layers."""
    changed = []
    for layer in layers:
        layer, fan_in = layer.in_standard(fan_in, widths)
        changed.append(layer)
    return changed, fan_in


def share_through(layers: Iterable[Layer], share: float | None = 1.0) -> float | None:
    """The multiple of its input that a sequence of layers passes on; see `Layer.share`."""
    for layer in layers:
        share = layer.share(share)
    return share


def require_gaussian(flow: Flow, place: str, what: str) -> None:
    """Raise unless a Gaussian field flows into a layer."""
    if flow.kind != GAUSSIAN:
        raise ValueError(f"{place}: expected a Dense before {what}, got {flow.source}")
