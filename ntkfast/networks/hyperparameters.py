"""The hyperparameters of a network as numbers: weight_std and bias_std of every Dense layer, in order of appearance."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ntkfast.networks.layer import mapped
from ntkfast.networks.layers import Dense
from ntkfast.networks.network import Network, check_network

__all__ = ["hyperparameters", "with_hyperparameters", "with_one_layer_trained"]

NAMES = ("weight_std", "bias_std")  # of every Dense


def hyperparameters(net: Network) -> dict[tuple[int, str], float]:
    """weight_std and bias_std of every `Dense`: (number of the Dense, name) -> value.

    Every place in the network counts separately, even if the same `Dense` value is used in several. The derivatives of
    kernels are in this order.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.hyperparameters(nf.MLP(depth=2, bias_std=0.1))
    {(0, 'weight_std'): 1.0, (0, 'bias_std'): 0.1, (1, 'weight_std'): 1.0, (1, 'bias_std'): 0.1}
    """
    check_network(net)
    return {(k, name): getattr(dense, name) for k, dense in enumerate(net.dense_layers) for name in NAMES}


def with_hyperparameters(net: Network, values: Iterable[float] | Mapping[tuple[int, str], float]) -> Network:
    """The network with other values, given in the order of `hyperparameters`.

    Parameters
    ----------
    net : Network
    values : iterable of float, 2L of them, or a dict as `hyperparameters` returns it

    Returns
    -------
    Network

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.with_hyperparameters(nf.MLP(depth=2), [2.0, 0.0, 3.0, 0.5]).layers[2]
    Dense(weight_std=3.0, bias_std=0.5)
    """
    check_network(net)
    values = values.values() if isinstance(values, Mapping) else values
    values = [value if isinstance(value, int) else float(value) for value in values]
    if len(values) != 2 * net.depth:
        raise ValueError(f"values: expected {2 * net.depth}, two for each Dense, got {len(values)}")
    pairs = iter(zip(values[::2], values[1::2], strict=True))

    def moved(layer):
        return replace(layer, **dict(zip(NAMES, next(pairs), strict=True))) if isinstance(layer, Dense) else layer

    return Network(mapped(net.layers, moved))


def with_one_layer_trained(net: Network, number: int) -> Network:
    """The network with every `Dense` frozen except this one, counted in order of appearance."""
    numbers = itertools.count()

    def moved(layer):
        is_other = isinstance(layer, Dense) and next(numbers) != number
        return replace(layer, weight_lr=0.0, bias_lr=0.0) if is_other else layer

    return Network(mapped(net.layers, moved))
