"""Networks of finite width in .npz files: arrays and a description in JSON, nothing that is executed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from ntkfast.networks import Activation, Dense, Dropout, LayerNorm, Network, Residual
from ntkfast.networks.activation import FACTORIES
from ntkfast.networks.network import check_network, dense_layers
from ntkfast.support.files import replacing


def write(f, path) -> None:
    """See `FiniteNetwork.save`."""
    if not os.fspath(path):
        raise ValueError("path: expected the name of a file, got an empty one")
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not target.is_file():
        what = "a directory" if target.is_dir() else "no regular file"
        raise ValueError(f"path: expected the name of a file, got {os.fspath(path)!r}, which is {what}")
    arrays = {f"weight_{k}": weight for k, weight in enumerate(f.weights)}
    arrays |= {f"bias_{k}": bias for k, bias in enumerate(f.biases) if bias is not None}
    text = json.dumps({"parametrization": f.parametrization, "layers": _described(f.net.layers)})
    with replacing(path) as file:
        np.savez(file, network=np.array(text), **arrays)


def read(path, net, make):
    """make(net, weights, biases, parametrization) of what is in the file; see `FiniteNetwork.load`."""
    described = None if net is None else _described(check_network(net).layers)
    with open(os.fspath(path), "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            description = json.loads(str(arrays.pop("network")))
            layers = description["layers"]
            if net is None:
                net = Network(_rebuilt(layers))
            elif described != layers:
                raise _NetError(f"net: expected the network of {path}, {json.dumps(layers)}, got {net!r}")
            return make(net, *_parameters(arrays, net), description["parametrization"])
        except _NetError as error:
            raise ValueError(error) from None
        except MemoryError as error:
            raise MemoryError(f"path: the arrays of {path} do not fit ({error})") from None
        except Exception as error:  # what a damaged file makes zipfile, NumPy, json and the constructors raise
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"path: expected a file that FiniteNetwork.save wrote, got {path} ({reason})") from None


class _NetError(ValueError):
    """The argument net of load is missing, or is not the network of the file."""


def _parameters(arrays, net):
    """The weights and biases of net by the names that they have in a file."""
    denses = list(dense_layers(net.layers))
    weights = [f"weight_{k}" for k in range(len(denses))]
    biases = [f"bias_{k}" if dense.bias_std else None for k, dense in enumerate(denses)]
    expected = {*weights, *biases} - {None}
    if expected != arrays.keys():
        missing, surplus = sorted(expected - arrays.keys()), sorted(arrays.keys() - expected)
        raise ValueError(f"missing arrays: {missing}, arrays of no layer: {surplus}")
    return [arrays[name] for name in weights], [None if name is None else arrays[name] for name in biases]


def _described(layers):
    """The layers as lists, strings and numbers, as JSON has them."""
    described = []
    for layer in layers:
        if isinstance(layer, Dense):
            fields = ("weight_std", "bias_std", "weight_lr", "bias_lr")
            described.append(["Dense", {name: getattr(layer, name) for name in fields}])
        elif isinstance(layer, Activation):
            kind = "Activation" if layer.source is None else "from_function"
            described.append([kind, layer.name, [[key, value] for key, value in layer.parameters]])
        elif isinstance(layer, LayerNorm):
            described.append(["LayerNorm"])
        elif isinstance(layer, Dropout):
            described.append(["Dropout", layer.rate])
        else:
            described.append(["Residual", layer.scale, _described(layer.layers)])
    return json.loads(json.dumps(described))  # tuples become lists, as in a file


def _rebuilt(layers):
    rebuilt = []
    for kind, *arguments in layers:
        if kind == "Dense":
            rebuilt.append(Dense(**arguments[0]))
        elif kind == "Activation":
            name, parameters = arguments
            rebuilt.append(FACTORIES[name](**dict(parameters)))
        elif kind == "from_function":
            raise _NetError(
                f"net: the activation {arguments[0]!r} was made by Activation.from_function and is not in the file; "
                "load(path, net=…) takes the network"
            )
        elif kind == "LayerNorm":
            rebuilt.append(LayerNorm())
        elif kind == "Dropout":
            rebuilt.append(Dropout(*arguments))
        elif kind == "Residual":
            scale, body = arguments
            rebuilt.append(Residual(*_rebuilt(body), scale=scale))
        else:
            raise ValueError(f"a layer of kind {kind!r}")
    return rebuilt
