"""Networks as immutable values: layers, and nothing about how they are computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass

from ntkfast.networks.activations import Activation, get
from ntkfast.networks.checks import non_negative_number, positive_integer, positive_number

__all__ = ["MLP", "Dense", "Network"]


@dataclass(frozen=True)
class Dense:
    """An affine layer in NTK parametrisation: x ↦ (weight_std/√n) W x + bias_std b, all entries of W and b iid N(0, 1).

    Parameters
    ----------
    weight_std : float
        w: standard deviation of the weights, > 0. The paper has 1.
    bias_std : float
        β: standard deviation of the biases, >= 0.
    weight_lr, bias_lr : float
        Learning rate of this layer's weights and biases relative to the global one; 0 freezes them, so that they add
        nothing to the tangent kernel.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Dense(1.5, 0.1)
    Dense(weight_std=1.5, bias_std=0.1, weight_lr=1.0, bias_lr=1.0)
    """

    weight_std: float = 1.0
    bias_std: float = 0.0
    _: KW_ONLY
    weight_lr: float = 1.0
    bias_lr: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "weight_std", positive_number(self.weight_std, "weight_std"))
        for name in ("bias_std", "weight_lr", "bias_lr"):
            object.__setattr__(self, name, non_negative_number(getattr(self, name), name))


@dataclass(frozen=True)
class Network:
    """A fully connected network of any width: `Dense` layers, with at most one activation between two of them.

    Parameters
    ----------
    layers : iterable of Dense and Activation
        Starts and ends with a `Dense`; an activation follows a `Dense`. An activation may be given by its name.

    Attributes
    ----------
    depth : int
        Number of `Dense` layers (L of the paper, which has L-1 hidden layers).

    Raises
    ------
    ValueError, TypeError
        The layers are not of this form; the message names the position.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Network([nf.Dense(1.0, 0.1), nf.activations.erf(), nf.Dense(1.4), "relu", nf.Dense()])
    >>> net.depth
    3
    """

    layers: tuple[Dense | Activation, ...]

    def __init__(self, layers: Iterable[Dense | Activation | str]):
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise TypeError(f"layers: expected a list of layers, got {type(layers).__name__}")
        checked = []
        for k, given in enumerate(layers):
            layer = get(given) if isinstance(given, str) else given
            if not isinstance(layer, Dense | Activation):
                raise TypeError(f"layers[{k}]: expected a Dense or an activation, got {type(layer).__name__}")
            if isinstance(layer, Activation) and not (checked and isinstance(checked[-1], Dense)):
                before = f"{checked[-1]!r}" if checked else "nothing"
                raise ValueError(f"layers[{k}]: expected a Dense before the activation {layer!r}, got {before}")
            checked.append(layer)
        if not checked or not isinstance(checked[-1], Dense):
            last = f"{checked[-1]!r}" if checked else "an empty list"
            raise ValueError(f"layers: expected a Dense as the last layer, got {last}")
        object.__setattr__(self, "layers", tuple(checked))

    @property
    def depth(self) -> int:
        return sum(isinstance(layer, Dense) for layer in self.layers)

    def __repr__(self):
        return f"Network([{', '.join(map(repr, self.layers))}])"


def MLP(
    depth: int,
    activation: str | Activation = "relu",
    weight_std: float = 1.0,
    bias_std: float = 0.0,
) -> Network:
    """The network of the paper: `depth` equal affine layers with an activation between each two, infinitely wide.

    Parameters
    ----------
    depth : int
        L >= 1, the number of affine layers; L-1 hidden layers.
    activation : str or Activation
        One of `ntkfast.activations.names()`, or an activation.
    weight_std, bias_std : float
        As in `Dense`, the same for all layers. The paper's experiments have 1 and 0.1.

    Returns
    -------
    Network

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    >>> nf.diagonal(net, [[1.0, 0.0]])
    array([0.2825])
    """
    depth = positive_integer(depth, "depth")
    dense, activation = Dense(weight_std, bias_std), get(activation)
    return Network([dense] + [activation, dense] * (depth - 1))
