"""Networks as immutable values: layers, and nothing about how they are computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ntkfast.networks.activation import Activation
from ntkfast.networks.activations import get
from ntkfast.networks.layer import Flow, Layer, flow_through, in_standard, walk
from ntkfast.networks.layers import Dense, Dropout, as_layers
from ntkfast.support.reprs import listed
from ntkfast.support.saved import Saved
from ntkfast.support.scalars import positive_integer

__all__ = ["MLP", "Network", "check_network", "refuse_dropout"]


MEAN_KERNELS = (
    "without it the tangent kernel does not converge, as every output keeps a random factor of its own; append "
    "Dense(weight_lr=0) for its mean, and that of f(x) f(y), over random networks"
)


@dataclass(frozen=True)
class Network(Saved):
    """A fully connected network of any width: `Dense` layers, with at most one activation between two of them.

    Parameters
    ----------
    layers : iterable of Dense, Activation, str, Dropout, LayerNorm, Parallel, Residual and Scale
        Starts with a `Dense` (or a `Dropout` or `Scale` of the inputs, or branches that do) and ends with a `Dense`, a
        multiple of its outputs, or a sum of branches that do. An activation follows a `Dense`, or layers that leave its
        outputs Gaussian: `LayerNorm`, `Scale`, `Residual` and sums of Gaussian branches. An activation may be given by
        its name.
    parametrization : {"ntk", "standard"}
        How the network is trained. In standard parametrisation there are no factors weight_std/√n: the tangent kernel
        of n units grows like n. Its limit for `widths` has this factor and no others (`fan_in` of `Dense`): it is what
        neural-tangents gives for parameterization="standard". Σ does not depend on it.
    widths : int or sequence of int
        With parametrization="standard": the number of units of the hidden layers, as in `FiniteNetwork.init`; one
        for each `Dense` except the last if there are concatenations.

    Attributes
    ----------
    layers : tuple of layers
        As given, names of activations replaced by activations.
    depth : int
        Number of `Dense` layers, those in branches included (L of the paper, which has L-1 hidden layers).

    Raises
    ------
    ValueError, TypeError
        The layers are not of this form; the message names the position.

    See Also
    --------
    MLP : Equal layers.
    Dense : The affine layer.
    FiniteNetwork.init : A network of finite width with these layers.
    hyperparameters : The standard deviations as numbers.

    Notes
    -----
    A network that ends in an activation φ of the outputs z has the tangent kernel φ'(z(x)) φ'(z(y)) Θ(x, y), which is
    random however wide it is and changes in training: it is refused. Its mean over random networks, E[φ'φ'] Θ, is the
    kernel with a frozen layer appended, `Dense(weight_lr=0)`; Σ is then E[f(x) f(y)]. For `LayerNorm` these are the
    means over many outputs.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Network([nf.Dense(bias_std=0.1), nf.activations.erf(), nf.Dense(weight_std=1.4), "relu", nf.Dense()])
    >>> net.depth
    3
    >>> layers = [nf.Dense(weight_std=2.0), "relu", nf.Dense(weight_std=2.0)]
    >>> standard = nf.Network(layers, parametrization="standard", widths=512)
    >>> standard.layers[2]
    Dense(weight_std=2.0, fan_in=512)
    >>> nf.ntk(standard, [[1.0, 0.0]]) - 512 * nf.nngp(nf.Network(layers), [[1.0, 0.0]]) / 4
    array([[2.]])
    """

    layers: tuple[Layer, ...]

    def __init__(
        self,
        layers: Iterable[Layer | str],
        *,
        parametrization: Literal["ntk", "standard"] = "ntk",
        widths: int | Sequence[int] | None = None,
    ) -> None:
        layers = as_layers(layers)
        if parametrization == "standard":
            layers = _in_standard(layers, widths)
        elif parametrization != "ntk":
            raise ValueError(f"parametrization: expected 'ntk' or 'standard', got {parametrization!r}")
        elif widths is not None:
            raise ValueError(
                "widths: expected None in NTK parametrisation, whose limit does not depend on them, got "
                f"{widths!r}; FiniteNetwork.init takes widths"
            )
        if not flow_through(layers, Flow(), "layers").outputs:
            raise ValueError(
                "layers: expected a Dense as the last layer, or a sum of branches that end in one, "
                + (f"got {layers[-1]!r}; {MEAN_KERNELS}" if layers else "got an empty list")
            )
        object.__setattr__(self, "layers", layers)

    def walk(self) -> Iterator[Layer]:
        """Every layer in order of appearance, followed by those that it contains.

        Returns
        -------
        iterator of layers
            A layer comes before those that it contains.

        See Also
        --------
        Network.dense_layers : The `Dense` layers only.

        Examples
        --------
        >>> import ntkfast as nf
        >>> [type(layer).__name__ for layer in nf.Network([nf.Dense(), nf.Residual("relu", nf.Dense())]).walk()]
        ['Dense', 'Residual', 'Activation', 'Dense']
        """
        return walk(self.layers)

    @property
    def dense_layers(self) -> tuple[Dense, ...]:
        """Every `Dense` in order of appearance, those in branches included.

        See Also
        --------
        Network.walk : All layers.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.Network([nf.Dense(), nf.Residual("relu", nf.Dense(bias_std=0.1))]).dense_layers
        (Dense(), Dense(bias_std=0.1))
        """
        return tuple(layer for layer in self.walk() if isinstance(layer, Dense))

    @property
    def depth(self) -> int:
        """Number of `Dense` layers, those in branches included: L of the paper.

        See Also
        --------
        Network.dense_layers : These layers.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.MLP(depth=4).depth
        4
        """
        return len(self.dense_layers)

    def _brief(self):
        return f"Network of depth {self.depth}"

    def __repr__(self):
        return f"Network([{listed(self.layers)}])"


def _in_standard(layers, widths):
    """The layers in standard parametrisation for networks of these widths."""
    depth = sum(isinstance(layer, Dense) for layer in walk(layers))
    if isinstance(widths, int | np.integer) and not isinstance(widths, bool):
        if any(getattr(layer, "how", None) == "concat" for layer in walk(layers)):
            raise TypeError(f"widths: expected one number per hidden Dense with concatenations, got {widths!r}")
        listed = [positive_integer(widths, "widths")] * depth
    elif widths is None or isinstance(widths, str) or not isinstance(widths, Iterable):
        raise TypeError(
            "widths: expected a number, or one per hidden Dense, for the standard parametrisation, whose tangent "
            f"kernel is proportional to them, got {widths!r}"
        )
    else:
        listed = [positive_integer(width, f"widths[{k}]") for k, width in enumerate(widths)]
        if len(listed) != depth - 1:
            raise ValueError(f"widths: expected a number, or {depth - 1}, one per hidden Dense, got {len(listed)}")
        listed.append(1)  # the outputs, to which nothing is connected
    return tuple(in_standard(layers, "inputs", iter(listed))[0])


def MLP(
    depth: int,
    activation: str | Activation = "relu",
    weight_std: float = 1.0,
    bias_std: float = 0.0,
    *,
    weight_lr: float = 1.0,
    bias_lr: float = 1.0,
    parametrization: Literal["ntk", "standard"] = "ntk",
    widths: int | Sequence[int] | None = None,
) -> Network:
    """The network of the paper: `depth` equal affine layers with an activation between each two, infinitely wide.

    Parameters
    ----------
    depth : int
        L >= 1, the number of affine layers; L-1 hidden layers.
    activation : str or Activation
        One of `ntkfast.activations.names()`, in capitals or not, or an activation.
    weight_std, bias_std, weight_lr, bias_lr : float
        As in `Dense`, the same for all layers; for layers that differ see `Network`. The paper's experiments have
        standard deviations of 1 and 0.1.
    parametrization : {"ntk", "standard"}
        As in `Network`: with "standard", the limit is that of networks of the given widths without factors 1/√n.
    widths : int or sequence of int, optional
        With parametrization="standard": the number of units of the hidden layers, as in `Network`.

    Returns
    -------
    Network
        `Dense`, then activation and `Dense` depth - 1 times.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.

    See Also
    --------
    Network : Layers that differ, branches, normalisation.
    activations : The names of activations.
    ntk : The kernel of the network.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    >>> nf.diagonal(net, [[1.0, 0.0]])
    array([0.2825])
    """
    depth = positive_integer(depth, "depth")
    numbers = {"weight_std": weight_std, "bias_std": bias_std, "weight_lr": weight_lr, "bias_lr": bias_lr}
    for name, value in numbers.items():
        if isinstance(value, list | tuple | np.ndarray):
            raise TypeError(
                f"{name}: expected a number, got {type(value).__name__}; layers that differ are for Network, as in "
                f"Network([Dense({name}=…), 'relu', Dense({name}=…)])"
            )
    dense = Dense(**numbers)
    activation = get(activation)
    layers = [dense] + [activation, dense] * (depth - 1)
    return Network(layers, parametrization=parametrization, widths=widths)


def check_network(net):
    """net, if it is a Network."""
    if not isinstance(net, Network):
        hint = "; its own kernel is empirical_ntk, its Network .net" if hasattr(net, "net") else ""
        raise TypeError(f"net: expected a Network, got {type(net).__name__}{hint}")
    return net


def refuse_dropout(net):
    """For comparisons with the limit kernel, which includes Dropout; finite networks apply it in training only."""
    if any(isinstance(layer, Dropout) and layer.rate > 0 for layer in check_network(net).walk()):
        raise ValueError(f"net: expected a network without Dropout, as the empirical kernel leaves it out, got {net!r}")
