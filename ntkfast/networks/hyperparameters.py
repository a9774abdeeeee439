"""The hyperparameters of a network as numbers: those of every Dense layer and, on request, of every activation."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ntkfast.networks.activation import Activation
from ntkfast.networks.layer import mapped, walk
from ntkfast.networks.layers import Dense
from ntkfast.networks.network import Network, check_network

__all__ = ["hyperparameters", "with_hyperparameters", "with_one_layer_trained"]

NAMES = ("weight_std", "bias_std")  # of every Dense


def hyperparameters(net: Network, *, activations: bool = False) -> dict[tuple[int, str], float]:
    """weight_std and bias_std of every `Dense`: (number of the Dense, name) -> value.

    Every place in the network counts separately, even if the same `Dense` value is used in several. The derivatives of
    kernels are in this order.

    Parameters
    ----------
    net : Network
        The network.
    activations : bool
        Also the parameters of the activations that are real numbers, such as gamma of rbf, after those of the `Dense`
        layers: (number of the activation, name) -> value.

    Returns
    -------
    dict
        (number of the layer, name) -> value, in the order of all derivatives.

    See Also
    --------
    with_hyperparameters : The network with other values.
    kernel_vjp : Derivatives in this order.
    fit_hyperparameters : Values of largest likelihood.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.hyperparameters(nf.MLP(depth=2, bias_std=0.1))
    {(0, 'weight_std'): 1.0, (0, 'bias_std'): 0.1, (1, 'weight_std'): 1.0, (1, 'bias_std'): 0.1}
    >>> list(nf.hyperparameters(nf.MLP(2, "rbf"), activations=True).items())[4:]
    [((0, 'gamma'), 1.0)]
    """
    check_network(net)
    values = {(k, name): getattr(dense, name) for k, dense in enumerate(net.dense_layers) for name in NAMES}
    if activations:
        values |= {
            (k, name): value for k, layer in enumerate(activations_of(net)) for name, value in numbers(layer).items()
        }
    return values


def activations_of(net: Network) -> list[Activation]:
    """The activations of a network, in order of appearance."""
    return [layer for layer in walk(net.layers) if isinstance(layer, Activation)]


def numbers(activation: Activation) -> dict[str, float]:
    """The parameters of an activation that are real numbers: not degrees, nor tuples."""
    return {name: value for name, value in activation.parameters if isinstance(value, float)}


def signs_kept(net: Network) -> list[bool]:
    """Whether each parameter of the activations may not change its sign, as gamma of rbf; in their order."""
    return [_keeps_sign(layer, name) for layer in activations_of(net) for name in numbers(layer)]


def _keeps_sign(activation, name):
    try:
        changed(activation, {name: -numbers(activation)[name]})
    except ValueError:
        return True
    return False


def changed(activation: Activation, values: Mapping[str, float]) -> Activation:
    """The activation with other values of these parameters."""
    if not values:
        return activation
    return Activation.rebuilt(activation.name, {**dict(activation.parameters), **values})


def with_hyperparameters(net: Network, values: Iterable[float] | Mapping[tuple[int, str], float]) -> Network:
    """The network with other values, given in the order of `hyperparameters`.

    Parameters
    ----------
    net : Network
        The network whose layers are kept; it is not changed.
    values : iterable of float, or a dict as `hyperparameters` returns it
        The 2L numbers of the `Dense` layers, or those and the parameters of the activations.

    Returns
    -------
    Network
        A new one.

    Raises
    ------
    TypeError, ValueError
        Another number of values, or one that its layer does not allow.

    See Also
    --------
    hyperparameters : The values of a network.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.with_hyperparameters(nf.MLP(depth=2), [2.0, 0.0, 3.0, 0.5]).layers[2]
    Dense(weight_std=3.0, bias_std=0.5)
    >>> nf.with_hyperparameters(nf.MLP(2, "rbf"), [1.0, 0.0, 1.0, 0.0, 0.3]).layers[1]
    rbf(gamma=0.3)
    """
    check_network(net)
    values = values.values() if isinstance(values, Mapping) else values
    values = [value if isinstance(value, int) else float(value) for value in values]
    n_dense, n_all = 2 * net.depth, len(hyperparameters(net, activations=True))
    if len(values) not in (n_dense, n_all):
        more = f", or {n_all} with the parameters of the activations" if n_all > n_dense else ""
        raise ValueError(f"values: expected {n_dense}, two for each Dense{more}, got {len(values)}")
    pairs, of_activations = iter(zip(values[:n_dense:2], values[1:n_dense:2], strict=True)), iter(values[n_dense:])

    def moved(layer):
        if isinstance(layer, Dense):
            return replace(layer, **dict(zip(NAMES, next(pairs), strict=True)))
        if isinstance(layer, Activation) and len(values) > n_dense:
            return changed(layer, {name: next(of_activations) for name in numbers(layer)})
        return layer

    return Network(mapped(net.layers, moved))


def with_one_layer_trained(net: Network, number: int) -> Network:
    """The network with every `Dense` frozen except this one, counted in order of appearance."""
    numbers = itertools.count()

    def moved(layer):
        is_other = isinstance(layer, Dense) and next(numbers) != number
        return replace(layer, weight_lr=0.0, bias_lr=0.0) if is_other else layer

    return Network(mapped(net.layers, moved))
