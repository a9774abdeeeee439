"""Saved models: `save` and `load`, whatever the model. What is saved of it is up to its class, a `Saved`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ntkfast.networks import Activation
from ntkfast.support import archive, memory
from ntkfast.support.files import opened
from ntkfast.support.saved import GivenError, Reader, Saved, Writer

__all__ = ["load", "save"]

# Where classes are that `import ntkfast` leaves out. Other files' classes must have been imported: a file names none.
LAZY = {
    "NTKClassifier": "ntkfast.sklearn.classifier",
    "NTKFeatures": "ntkfast.sklearn.features",
    "NTKRegressor": "ntkfast.sklearn.regressor",
    "TableModel": "ntkfast.tabular.model",
}


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model to one file, from which `load` makes an equal one: to the last bit, on any machine.

    The file is a zip archive of JSON and .npy arrays with their SHA-256; nothing in it is executed. It holds what the
    model needs for new points: the parameters of a `FiniteNetwork`, the points and dual coefficients of an estimator,
    the eigenfunctions of a `KernelPCA`, the dual coefficients of a `KernelFlow` at all times. Of the N² numbers of a
    kernel matrix it holds none, but for two classes that cannot do without: a `GaussianProcess` has its Cholesky
    factor, N²/2 numbers, for variances; a `LeastSquaresFlow` its eigendecomposition, N² numbers, for all times, which
    is computed if nothing has been (if it has been used for t = inf only, its Cholesky factor and the kernel, N²
    numbers together), and a factor of `nngp_xx`. Of m centres, a `NystromRegression` by the direct method and
    `NTKFeatures` hold the m² numbers of a factor.

    The file is either complete or absent: it is written next to `path` as .ntkfast-….tmp and then renamed. A file that
    is replaced keeps its permissions; if `path` is a link, its target is replaced.

    Parameters
    ----------
    model : Network, Activation, Dense and the other layers, FiniteNetwork, LinearizedNetwork, LeastSquaresFlow, \
KernelFlow, GaussianProcess, NystromRegression, KernelPCA, RandomFeatureModel, sklearn.NTKRegressor, NTKClassifier or \
NTKFeatures
        Activations made by `Activation.from_function` are saved by name and must be given to `load`.
    path : str or path-like
        Used unchanged; no suffix is added.

    Raises
    ------
    TypeError, ValueError
        The model is of another class, or path is not a path or names something other than a regular file.
    OSError
        The file cannot be written.

    See Also
    --------
    load : Reads it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import ntkfast as nf
    >>> net = nf.MLP(depth=3, activation="erf", bias_std=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nf.save(net, pathlib.Path(folder) / "net.ntk")
    ...     nf.load(pathlib.Path(folder) / "net.ntk") == net
    True
    """
    writer = Writer()
    try:
        if not isinstance(model, Saved):
            raise TypeError(f"expected one of the models that `save` names, got {type(model).__name__}")
        tree = writer.value(model)
    except (TypeError, ValueError) as error:
        raise type(error)(f"model: {error}") from None
    except RecursionError:
        raise ValueError("model: expected layers that are nested less deeply") from None
    try:
        archive.write(path, tree, list(writer.given), writer.arrays)
    except Exception as error:
        if memory.ran_out(error):
            raise MemoryError(f"path: there is no memory to write {path} with ({error})") from error
        raise


def load(path: str | os.PathLike[str], *, activations: Mapping[str, Activation] | None = None) -> Any:
    """The model that `save` wrote. Nothing in the file is executed, whoever made it.

    Parameters
    ----------
    path : str or path-like
        The file.
    activations : dict of Activation, optional
        By name, those of the model that `Activation.from_function` made.

    Returns
    -------
    The model
        Of the class that was saved, equal to it.

    Raises
    ------
    ValueError
        The file was not written by `save`, is damaged, is no regular file, or is of a newer version; or an activation
        is missing or is another one. The message says which.
    MemoryError
        The arrays do not fit.
    ImportError
        The model needs a library that is not installed.
    OSError
        The file cannot be opened.

    See Also
    --------
    save : Writes it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> snake = nf.Activation.from_function(lambda x: x + np.sin(x) ** 2, name="snake")
    >>> f = nf.FiniteNetwork.init(nf.MLP(2, snake), n_inputs=3, widths=10, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nf.save(f, pathlib.Path(folder) / "f.ntk")
    ...     again = nf.load(pathlib.Path(folder) / "f.ntk", activations={"snake": snake})
    >>> bool((f([[1, 2, 3]]) == again([[1, 2, 3]])).all())
    True
    """
    own = _checked(activations)
    with opened(path) as file:
        try:
            tree, names, arrays = archive.read(file)
            _require(own, names)
            return Reader(arrays, own, _find).value(tree)
        except GivenError as error:
            raise ValueError(f"activations: {error}, for {path}") from None
        except ImportError:
            raise
        except Exception as error:  # a damaged file can make zipfile, NumPy, json and the classes raise anything
            if memory.ran_out(error):
                raise MemoryError(f"path: the arrays of {path} do not fit ({error})") from None
            raise ValueError(f"path: expected a file that ntkfast.save wrote, got {path} ({_reason(error)})") from error


def _checked(activations: Mapping[str, Activation] | None) -> Mapping[str, Activation]:
    own = {} if activations is None else activations
    if not isinstance(own, Mapping):
        raise TypeError(f"activations: expected a dict of Activation by name, got {type(own).__name__}")
    for name, activation in own.items():
        if not isinstance(activation, Activation):
            raise TypeError(f"activations[{name!r}]: expected an Activation, got {type(activation).__name__}")
    return own


def _require(own: Mapping[str, Activation], names: list[str]) -> None:
    """Raise, with the call to make, unless all activations that files cannot hold are given."""
    if any(name not in own for name in names):
        call = ", ".join(f"{name!r}: {name if name.isidentifier() else '…'}" for name in names)
        raise GivenError(
            f"expected {', '.join(map(repr, names))}, which Activation.from_function made and no file can hold, "
            f"got {', '.join(map(repr, own)) or 'none'}; load(path, activations={{{call}}})"
        )


def _find(kind: Any) -> type[Saved]:
    if kind in LAZY:
        import_module(LAZY[kind])
    if kind not in Saved.kinds:
        hint = f"; import {kind.rpartition('.')[0]} first if that is your own module" if "." in kind else ""
        raise ValueError(f"an object of kind {kind!r}{hint}")
    return Saved.kinds[kind]


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
