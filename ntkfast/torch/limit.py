"""Limit kernels of tensors, differentiable with respect to points and hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from ntkfast.networks import Network
from ntkfast.networks.hyperparameters import hyperparameters as values_of
from ntkfast.networks.network import check_network

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["nngp", "ntk"]


def ntk(
    net: Network,
    X: Tensor | ArrayLike,
    Y: Tensor | ArrayLike | None = None,
    *,
    hyperparameters: Tensor | Mapping[tuple[int, str], Tensor | float] | None = None,
    n_threads: int | None = None,
) -> Tensor:
    """The limit neural tangent kernel Θ(x_i, y_j) as a tensor that autograd differentiates.

    Values are those of `nf.ntk`; first derivatives with respect to X, Y and the hyperparameters are those of
    `nf.kernel_vjp`, and one backward pass gives all of them. Tensors are read where they are, without a copy.

    Parameters
    ----------
    net : Network
        The network.
    X : torch.Tensor or array_like, shape (n, d)
        On the CPU. float32 or float64; other numbers count as float64.
    Y : torch.Tensor or array_like, shape (m, d), optional
        If left out, or X itself, the matrix is that of X with itself, and each pair is computed once.
    hyperparameters : torch.Tensor, shape (2L,), or mapping, optional
        Values in place of the network's, in the order of `nf.hyperparameters`, whose keys a mapping has: those that it
        leaves out remain. With `nf.hyperparameters(net, activations=True)`, parameters of activations as well, which
        take six kernels each (see `kernel_vjp`).
    n_threads : int, optional
        As in `ntkfast.ntk`.

    Returns
    -------
    torch.Tensor, shape (n, m)
        float32 if X and Y are, else float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described: tensors on a GPU among them.
    RuntimeError
        In a second derivative, which these kernels do not have; and as PyTorch does, if a tensor was changed in place
        between the forward and the backward pass.

    See Also
    --------
    ntkfast.ntk : The same of arrays.
    kernel_vjp : Its derivatives in NumPy.
    ntkfast.torch.empirical_ntk : The kernel of a module.
    ntkfast.gpytorch.NTKKernel : A kernel for GPyTorch.

    Notes
    -----
    Where points coincide, and near them, see the notes of `kernel_vjp`. Gradients that are not finite make all of these
    NaN.

    Examples
    --------
    >>> import ntkfast as nf
    >>> import torch  # doctest: +SKIP
    >>> net = nf.MLP(depth=3, bias_std=0.1)
    >>> X = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)  # doctest: +SKIP
    >>> nf.torch.ntk(net, X).sum().backward()  # doctest: +SKIP
    >>> X.grad.shape  # doctest: +SKIP
    torch.Size([5, 2])
    """
    return _kernel("ntk", net, X, Y, hyperparameters, n_threads)


def nngp(
    net: Network,
    X: Tensor | ArrayLike,
    Y: Tensor | ArrayLike | None = None,
    *,
    hyperparameters: Tensor | Mapping[tuple[int, str], Tensor | float] | None = None,
    n_threads: int | None = None,
) -> Tensor:
    """Σ(x_i, y_j), the covariance of the network at initialisation, as `ntk` gives Θ.

    Parameters
    ----------
    net, X, Y, hyperparameters, n_threads
        As in `ntk`.

    Returns
    -------
    torch.Tensor, shape (n, m)
        float32 if X and Y are, else float64.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As in `ntk`.

    See Also
    --------
    ntkfast.nngp : The same of arrays.
    ntk : Θ.

    Examples
    --------
    >>> import ntkfast as nf
    >>> import torch  # doctest: +SKIP
    >>> nf.torch.nngp(nf.MLP(depth=2), torch.eye(2)).shape  # doctest: +SKIP
    torch.Size([2, 2])
    """
    return _kernel("nngp", net, X, Y, hyperparameters, n_threads)


def _kernel(kernel, net, X, Y, hyperparameters, n_threads):
    from ntkfast.torch import autograd

    check_network(net)
    x = autograd.tensor(X, "X")
    y = None if Y is None or Y is X else autograd.tensor(Y, "Y")
    return autograd.limit_kernel(net, kernel, x, y, _values(net, hyperparameters), n_threads=n_threads)


def _values(net, given):
    """One tensor of all hyperparameters, None: those of the network."""
    import torch

    from ntkfast.torch import autograd

    if given is None:
        return None
    if not isinstance(given, Mapping):
        values = autograd.tensor(given, "hyperparameters")
        if values.ndim != 1:
            raise ValueError(f"hyperparameters: expected shape (2L,), got {tuple(values.shape)}")
        return values
    known = values_of(net, activations=True)
    for key in given:
        if key not in known:
            raise ValueError(f"hyperparameters: expected keys as of nf.hyperparameters, got {key!r}")
    of_dense = values_of(net)
    known = known if any(key not in of_dense for key in given) else of_dense
    parts = [autograd.tensor(given.get(key, value), f"hyperparameters[{key!r}]") for key, value in known.items()]
    return torch.stack([part.reshape(()).double() for part in parts])
