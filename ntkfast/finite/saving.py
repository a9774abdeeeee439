"""Networks of finite width in .npz files: arrays and a description in JSON, nothing that is executed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from ntkfast.networks import Network
from ntkfast.networks.layer import Layer, NotDescribedError
from ntkfast.networks.network import check_network
from ntkfast.support.files import replacing


def write(f, path) -> None:
    """See `FiniteNetwork.save`."""
    if not os.fspath(path):
        raise ValueError("path: expected the name of a file, got an empty one")
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not target.is_file():
        what = "a directory" if target.is_dir() else "not a regular file"
        raise ValueError(f"path: expected the name of a file, got {os.fspath(path)!r}, which is {what}")
    arrays = {f"weight_{k}": weight for k, weight in enumerate(f.weights)}
    arrays |= {f"bias_{k}": bias for k, bias in enumerate(f.biases) if bias is not None}
    text = json.dumps({"parametrization": f.parametrization, "layers": [*map(_described, f.net.layers)]})
    with replacing(path) as file:
        np.savez(file, network=np.array(text), **arrays)


def read(path, net, make):
    """make(net, weights, biases, parametrization=…) of what is in the file; see `FiniteNetwork.load`."""
    described = None if net is None else [*map(_described, check_network(net).layers)]
    with open(os.fspath(path), "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            description = json.loads(str(arrays.pop("network")))
            layers = description["layers"]
            if net is None:
                net = Network([_rebuilt(layer) for layer in layers])
            elif described != layers:
                raise _NetError(f"net: expected the network of {path}, {json.dumps(layers)}, got {net!r}")
            return make(net, *_parameters(arrays, net), parametrization=description["parametrization"])
        except NotDescribedError as error:
            raise ValueError(f"net: {error} and is not in the file; load(path, net=…) takes the network") from None
        except _NetError as error:
            raise ValueError(error) from None
        except MemoryError as error:
            raise MemoryError(f"path: the arrays of {path} do not fit ({error})") from None
        except Exception as error:  # a damaged file can make zipfile, NumPy, json and the constructors raise anything
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"path: expected a file that FiniteNetwork.save wrote, got {path} ({reason})") from None


class _NetError(ValueError):
    """The argument net of load is not the network of the file."""


def _parameters(arrays, net):
    """The weights and biases of net from the arrays of a file, found by name."""
    denses = net.dense_layers
    weights = [f"weight_{k}" for k in range(len(denses))]
    biases = [f"bias_{k}" if dense.bias_std else None for k, dense in enumerate(denses)]
    expected = {*weights, *biases} - {None}
    if expected != arrays.keys():
        missing, surplus = sorted(expected - arrays.keys()), sorted(arrays.keys() - expected)
        raise ValueError(f"missing arrays: {missing}, arrays of no layer: {surplus}")
    return [arrays[name] for name in weights], [None if name is None else arrays[name] for name in biases]


def _described(value):
    """A layer, or part of one, for JSON: layers as lists [name, {field: value}], tuples as {"tuple": list}."""
    if isinstance(value, Layer):
        return [type(value).__name__, {name: _described(part) for name, part in value.described().items()}]
    if isinstance(value, tuple):
        return {"tuple": [_described(part) for part in value]}
    return value


def _rebuilt(value):
    """The inverse of `_described`."""
    if isinstance(value, list):
        kind, described = value
        if kind not in Layer.kinds:
            raise ValueError(f"a layer of kind {kind!r}")
        return Layer.kinds[kind].rebuilt(**{name: _rebuilt(part) for name, part in described.items()})
    if isinstance(value, dict):
        return tuple(_rebuilt(part) for part in value["tuple"])
    return value
