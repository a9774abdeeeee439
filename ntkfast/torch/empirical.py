"""The empirical tangent kernel of a PyTorch module: layer factors where it is linear, the Jacobian for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.finite.empirical import (
    Outputs,
    bytes_allowed,
    check_outputs,
    gram_from_jacobian,
    kernel_of_factors,
    require_finite,
)
from ntkfast.support import progress as progress_bar
from ntkfast.support.typing import Memory, Progress
from ntkfast.torch import jacobian, linear
from ntkfast.torch.checks import no_chance, no_lost_gradients
from ntkfast.torch.examine import examine
from ntkfast.torch.function import Function

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["empirical_ntk"]


def empirical_ntk(
    module: Module,
    X: Tensor | ArrayLike,
    Y: Tensor | ArrayLike | None = None,
    outputs: Outputs = "mean",
    *,
    n_threads: int | None = None,
    progress: Progress = None,
    memory: Memory = None,
) -> Tensor | NDArray[np.floating]:
    """The tangent kernel of a torch.nn.Module at its present parameters, Θ̂(x_i, y_j).

        Θ̂_kk'(x, x') = Σ_p ∂f_k(x)/∂θ_p ∂f_k'(x')/∂θ_p

    over the parameters that require gradients (Jacot, Gabriel and Hongler 2018, section 4), in the parametrisation of
    the module: torch.nn.Linear has none of the factors 1/√n of NTK parametrisation, so that the kernel grows with
    the width.

    For a torch.nn.Linear z = W α + b that sees one row per point, the sum over its parameters is

        (α(x)·α(x') + 1) (B_k(x)·B_k'(x')),    B_k(x) = ∂f_k(x)/∂z,

    and no derivative with respect to W is formed. This is done for the layers that provably enter the outputs in this
    way only, in the graph that autograd records. For all other parameters (convolutions, norms, embeddings, shared
    weights, layers that act along a sequence) J Jᵀ is summed over blocks of columns of the Jacobian by torch.func. In a
    multilayer perceptron, residual or not, however its forward is written, all layers are of the first kind. Modules
    that torch.func cannot differentiate, as when forward branches on values, contains torch.autograd.grad or uses a
    parameter that a closure holds, take one pass of autograd per point and output. The ways are compared at a few
    points, and autograd decides.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a batch of points as one tensor and returns one tensor of shape (N, k), or (N,). Its parameters are on the
        CPU, those that require gradients all float32 or all float64, and without hooks. Each point is evaluated on its
        own, as a batch of one, so that modules that mix the points of a batch or draw random numbers have no kernel:
        BatchNorm and Dropout are refused in training mode, but not after module.eval(); the message has code for the
        kernel of a whole batch. Reentrant activation checkpoints are refused too. Tensors that are not among the
        module's parameters count as constants. The module is left unchanged; no other thread may call it meanwhile.
    X : torch.Tensor or array_like, shape (N, …)
        Converted to the dtype of the parameters. Integers are for modules with an embedding. A tensor that requires
        gradients, for a forward that differentiates with respect to it, is passed on as such.
    Y : torch.Tensor or array_like, shape (M, …), optional
        Default: X; each pair is then computed once.
    outputs : {"mean", "diagonal", "full"}
        "mean": Σ_k Θ̂_kk/k; "diagonal": all Θ̂_kk; "full": all Θ̂_kk'.
    memory : int or str, optional
        Bytes that the layer factors, and then the blocks of the Jacobian, may take (default: 2 GiB); what PyTorch needs
        to compute them comes on top. With less memory, the passes through the module are repeated more often.
    n_threads : int, optional
        Of the Gram matrices; PyTorch has threads of its own.
    progress : bool or callable, optional
        As in `ntkfast.ntk`.

    Returns
    -------
    torch.Tensor on the CPU if X is a tensor, else ndarray, of the parameters' dtype
        Shape (N, M), (N, M, k) or (N, M, k, k).

    Raises
    ------
    ImportError
        PyTorch is not installed.
    TypeError, ValueError
        An argument is not as described; the message names it.
    RuntimeError
        Autograd cannot differentiate the module.
    MemoryError
        The result is larger than the memory that is available.

    See Also
    --------
    ntkfast.empirical_ntk : The kernel of the library's own networks.
    gram_from_jacobian : J Jᵀ of a Jacobian that you have.
    ntkfast.torch.ntk : The limit kernel of tensors.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> import ntkfast as nf
    >>> module = torch.nn.Linear(2, 1)  # doctest: +SKIP
    >>> nf.torch.empirical_ntk(module, [[1.0, 2.0], [0.0, 1.0]])  # doctest: +SKIP
    array([[6., 3.],
           [3., 2.]], dtype=float32)
    """
    torch = _torch()
    check_outputs(outputs)
    progress_bar.check(progress)
    budget = bytes_allowed(memory)
    # a caller's mode must not decide what autograd can do; where it is needed, it is enabled
    with torch.inference_mode(False), torch.no_grad(), no_lost_gradients():
        f = Function(module)
        points = [f.points(X, "X")]
        if Y is not None and Y is not X:
            points.append(f.points(Y, "Y"))
            shapes = [tuple(tensor.shape[1:]) for tensor in points]
            if shapes[0] != shapes[1]:
                raise ValueError(f"Y: expected points of shape {shapes[0]} as in X, got {shapes[1]}")
        with no_chance(), progress_bar.reporter(progress, "empirical kernel") as report:
            theta = _kernel(f, points, outputs, budget, n_threads, report)
        return torch.from_numpy(theta) if isinstance(X, torch.Tensor) else theta


def _kernel(f, points, outputs, budget, n_threads, report):
    linears = examine(f, points)
    treated = linear.parameters(linears)
    rest = [name for name, parameter in f.own.items() if id(parameter) not in treated]
    parts = []
    if linears:
        parts.append(lambda progress: _of_linears(f, linears, points, outputs, budget, n_threads, progress))
    if rest:
        parts.append(lambda progress: _of_jacobian(f, rest, points, outputs, budget, n_threads, progress))
    theta = parts[0](_share(report, 0, len(parts)))
    if len(parts) == 2:
        theta += parts[1](_share(report, 1, 2))
    return theta


def _torch():
    try:
        import torch
    except ModuleNotFoundError:
        raise ImportError('nf.torch needs PyTorch: pip install "ntkfast[torch]"') from None
    return torch


def _of_linears(f, linears, points, outputs, budget, n_threads, progress):
    """The sum over the parameters of these layers, from their factors."""
    return kernel_of_factors(
        points[0],
        points[1] if len(points) == 2 else None,
        lambda block: linear.factors(f, linears, block),
        linear.numbers_per_point(linears, f.k),
        f.k,
        outputs,
        f.numpy_dtype,
        n_threads=n_threads,
        progress=progress,
        memory=budget,
    )


def _of_jacobian(f, names, points, outputs, budget, n_threads, progress):
    """The sum over all other parameters."""
    blocks = jacobian.blocks(f, names, points, f.k, budget, progress or None)
    theta = gram_from_jacobian(blocks, outputs, n_threads=n_threads)
    require_finite(theta)
    return theta


def _share(report, part, parts, ticks=1000):
    """progress= for one of the parts of a call: False, or a callable that reports in ticks of the whole call."""
    if report is None:
        return False
    return lambda done, total: report(ticks * (part * total + done) // (parts * total), ticks)
