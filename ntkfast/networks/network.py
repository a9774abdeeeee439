"""Networks as immutable values: layers, and nothing about how they are computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass

from ntkfast.networks.activation import Activation
from ntkfast.networks.activations import get
from ntkfast.support.scalars import non_negative_number, positive_integer, positive_number, rate_below_one

__all__ = ["MLP", "Dense", "Dropout", "LayerNorm", "Network", "Residual"]


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
class LayerNorm:
    """Division by the standard deviation over the features of a layer, once their mean is subtracted.

    Before an activation the features have mean 0 in the limit, and Σ ↦ Σ/√(q1 q2), Θ ↦ Θ/√(q1 q2) with q = Σ(x, x).

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Network([nf.Dense(2.0, 0.5), nf.LayerNorm(), "tanh", nf.Dense()])
    >>> nf.diagonal(nf.Network([nf.Dense(2.0), nf.LayerNorm(), "identity", nf.Dense()]), [[3.0, 4.0]], "nngp")
    array([1.])
    """


@dataclass(frozen=True)
class Dropout:
    """Dropout in training: every feature is 0 with probability `rate`, else divided by 1 - rate.

    The masks of two inputs are independent: Σ(x, x) and Θ(x, x) grow by 1/(1 - rate), nothing else changes. Points that
    stand in both X and Y of a rectangular kernel count as different inputs.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Network([nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()])
    >>> nf.nngp(net, [[1.0], [1.0]])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    rate: float

    def __post_init__(self):
        object.__setattr__(self, "rate", rate_below_one(self.rate, "rate"))


@dataclass(frozen=True)
class Residual:
    """A residual block x ↦ x + scale · body(x); blocks may be nested.

    Parameters
    ----------
    *layers : Dense, Activation, str, LayerNorm, Dropout or Residual
        The body, as in `Network`; its last layer is a `Dense` or a `Residual`. The weights of that layer make body(x)
        independent of x with mean 0: Σ ↦ Σ + scale² Σ_body, and Θ likewise.
    scale : float
        > 0.

    Examples
    --------
    >>> import ntkfast as nf
    >>> block = nf.Residual("relu", nf.Dense(), scale=0.5)
    >>> net = nf.Network([nf.Dense(), *[block] * 10, "relu", nf.Dense()])
    >>> net.depth
    12
    """

    layers: tuple[Layer, ...]
    scale: float

    def __init__(self, *layers, scale: float = 1.0):
        layers = layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers
        object.__setattr__(self, "layers", _as_layers(layers))
        object.__setattr__(self, "scale", positive_number(scale, "scale"))
        if not self.layers:
            raise ValueError("layers: expected at least one layer in a Residual, got none")

    def __repr__(self):
        return f"Residual({', '.join(map(repr, self.layers))}, scale={self.scale!r})"


Layer = Dense | Activation | LayerNorm | Dropout | Residual


def _as_layers(layers):
    """The layers as a tuple, names of activations replaced by activations."""
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise TypeError(f"layers: expected a list of layers, got {type(layers).__name__}")
    checked = []
    for k, given in enumerate(layers):
        layer = get(given) if isinstance(given, str) else given
        if not isinstance(layer, Layer):
            raise TypeError(
                f"layers[{k}]: expected a Dense, an activation, a Residual, LayerNorm or Dropout, "
                f"got {type(layer).__name__}"
            )
        checked.append(layer)
    return tuple(checked)


# What flows between layers: the network's inputs; a Gaussian field of mean 0; what an activation made of one.
_INPUTS, _GAUSSIAN, _FEATURES = "inputs", "gaussian", "features"


def _flow(layers, state, place):
    """Check the order of the layers, from what flows into them; return what flows out."""
    before = "nothing"
    for k, layer in enumerate(layers):
        here = f"{place}[{k}]"
        if isinstance(layer, Dense):
            state = _GAUSSIAN
        elif isinstance(layer, Activation):
            if state != _GAUSSIAN:
                raise ValueError(f"{here}: expected a Dense before the activation {layer!r}, got {before}")
            state = _FEATURES
        elif isinstance(layer, LayerNorm):
            if state != _GAUSSIAN:
                raise ValueError(f"{here}: expected a Dense before the LayerNorm, got {before}")
        elif isinstance(layer, Residual):
            if state == _INPUTS:
                raise ValueError(f"{here}: expected a Dense before the Residual, got {before}")
            _flow(layer.layers, state, f"{here}.layers")
            _check_end(layer.layers, f"{here}.layers")
        before = f"{layer!r}"
    return state


def _check_end(layers, place):
    """The last layer draws the outputs from weights of their own, independent of what came before."""
    last = layers[-1] if layers else None
    if not isinstance(last, Dense | Residual):
        raise ValueError(
            f"{place}: expected a Dense as the last layer, got {repr(last) if layers else 'an empty list'}"
        )


def _count_dense(layers):
    return sum(
        _count_dense(layer.layers) if isinstance(layer, Residual) else isinstance(layer, Dense) for layer in layers
    )


@dataclass(frozen=True)
class Network:
    """A fully connected network of any width: `Dense` layers, with at most one activation between two of them.

    Parameters
    ----------
    layers : iterable of Dense, Activation, str, Residual, LayerNorm and Dropout
        Starts with a `Dense` (or a `Dropout` of the inputs) and ends with a `Dense` or a `Residual`; an activation
        follows a `Dense`, or what leaves its outputs Gaussian: `Residual`, `LayerNorm`, `Dropout`. An activation may be
        given by its name.

    Attributes
    ----------
    depth : int
        Number of `Dense` layers, those in residual blocks included (L of the paper, which has L-1 hidden layers).

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

    layers: tuple[Layer, ...]

    def __init__(self, layers: Iterable[Layer | str]):
        layers = _as_layers(layers)
        _flow(layers, _INPUTS, "layers")
        _check_end(layers, "layers")
        object.__setattr__(self, "layers", layers)

    @property
    def depth(self) -> int:
        return _count_dense(self.layers)

    def _brief(self):
        return f"Network of depth {self.depth}"

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


def check_network(net):
    """net, if it is a Network."""
    if not isinstance(net, Network):
        hint = "; its own kernel is empirical_ntk, its Network .net" if hasattr(net, "net") else ""
        raise TypeError(f"net: expected a Network, got {type(net).__name__}{hint}")
    return net


def dense_layers(layers):
    """Every `Dense` in order of appearance, those in residual blocks included."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from dense_layers(layer.layers)
        elif isinstance(layer, Dense):
            yield layer


def refuse_dropout(net):
    """For comparisons with the limit kernel, which knows of Dropout; networks have it in training only."""
    if _drops(check_network(net).layers):
        raise ValueError(f"net: expected a network without Dropout, as the empirical kernel leaves it out, got {net!r}")


def _drops(layers):
    return any(
        _drops(layer.layers) if isinstance(layer, Residual) else isinstance(layer, Dropout) and layer.rate > 0
        for layer in layers
    )
