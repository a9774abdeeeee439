"""The empirical tangent kernel of a PyTorch module: layer factors where it is linear, the Jacobian for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.finite.empirical import Outputs, bytes_allowed, check_outputs, gram_from_jacobian, kernel_of_factors
from ntkfast.support import progress as progress_bar
from ntkfast.support.typing import Progress
from ntkfast.torch import jacobian, linear
from ntkfast.torch.function import NO_FUNCTION, Function

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
    memory: int | None = None,
) -> Tensor | NDArray[np.floating]:
    """The tangent kernel of a torch.nn.Module at its present parameters, Θ̂(x_i, y_j).

        Θ̂_kk'(x, x') = Σ_p ∂f_k(x)/∂θ_p ∂f_k'(x')/∂θ_p

    over the parameters that require gradients (Jacot, Gabriel and Hongler 2018, section 4), in the parametrisation of
    the module: torch.nn.Linear has none of the factors 1/√n of NTK parametrisation, so that the kernel grows with
    the width.

    For a torch.nn.Linear z = W α + b that sees one row per point, the sum over its parameters is

        (α(x)·α(x') + 1) (B_k(x)·B_k'(x')),    B_k(x) = ∂f_k(x)/∂z,

    and no derivative with respect to W is formed; for all other parameters (convolutions, norms, embeddings, shared
    weights, layers that act along a sequence) J Jᵀ is summed over blocks of columns of the Jacobian. In a multilayer
    perceptron, residual or not, however its forward is written, all layers are of the first kind. Modules that
    torch.func cannot differentiate, as when forward branches on values, take one pass per point and output.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a batch of points and returns shape (N, k), or (N,). Its parameters are on the CPU, those that require
        gradients all float32 or all float64. Each point is evaluated on its own, as a batch of one, so that modules
        that depend on the batch or on chance have no kernel: BatchNorm and Dropout are refused in training mode, but
        not after module.eval(). The module is left unchanged; no other thread may call it meanwhile.
    X : torch.Tensor or array_like, shape (N, …)
        Converted to the dtype of the parameters. Integers are for modules with an embedding.
    Y : torch.Tensor or array_like, shape (M, …), optional
        Default: X; each pair is then computed once.
    outputs : {"mean", "diagonal", "full"}
        "mean": Σ_k Θ̂_kk/k; "diagonal": all Θ̂_kk; "full": all Θ̂_kk'.
    memory : int, optional
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
        PyTorch cannot differentiate the module.
    MemoryError
        The result is larger than the memory that is available.

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
    f = Function(module)
    points = [f.points(X, "X")]
    if Y is not None and Y is not X:
        points.append(f.points(Y, "Y"))
        shapes = [tuple(tensor.shape[1:]) for tensor in points]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Y: expected points of shape {shapes[0]} as in X, got {shapes[1]}")
    # torch.func keeps what it needs; with autograd enabled around it, more would be kept
    with torch.no_grad(), progress_bar.reporter(progress, "empirical kernel") as report:
        k, linears = _examined(f, points[0])
        treated = linear.parameters(linears)
        rest = [name for name, parameter in f.own.items() if id(parameter) not in treated]
        parts = []
        if linears:
            parts.append(lambda progress: _of_linears(f, linears, points, k, outputs, budget, n_threads, progress))
        if rest:
            parts.append(lambda progress: _of_jacobian(f, rest, points, k, outputs, budget, n_threads, progress))
        theta = parts[0](_share(report, 0, len(parts)))
        if len(parts) == 2:
            theta += parts[1](_share(report, 1, 2))
    return torch.from_numpy(theta) if isinstance(X, torch.Tensor) else theta


def _torch():
    try:
        import torch
    except ModuleNotFoundError:
        raise ImportError('nf.torch needs PyTorch: pip install "ntkfast[torch]"') from None
    return torch


def _examined(f, X):
    """The number of outputs, and the layers for which factors suffice."""
    import torch

    chance = torch.get_rng_state()
    try:
        outputs = f.call({}, X[torch.arange(2) % len(X)])
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"X: expected points that the module takes, got shape {tuple(X.shape)}, {X.dtype}; it says: {error}"
        ) from error
    if not torch.equal(chance, torch.get_rng_state()):
        torch.set_rng_state(chance)
        raise ValueError(NO_FUNCTION.format("one that draws random numbers, as Dropout does in training mode"))
    if not isinstance(outputs, torch.Tensor):
        raise TypeError(f"module: expected one that returns a tensor, got {type(outputs).__name__}")
    if outputs.ndim not in (1, 2) or len(outputs) != 2 or outputs.numel() == 0:
        raise ValueError(
            f"module: expected outputs of shape (N, k) or (N,), got {tuple(outputs.shape)} for a batch of 2 points"
        )
    if outputs.dtype != f.dtype:
        raise TypeError(f"module: expected outputs in {f.dtype} as its parameters, got {outputs.dtype}")
    return outputs.numel() // 2, linear.probe(f, X[:1])


def _of_linears(f, linears, points, k, outputs, budget, n_threads, progress):
    """The sum over the parameters of these layers, from their factors."""
    return kernel_of_factors(
        points[0],
        points[1] if len(points) == 2 else None,
        lambda block: linear.factors(f, linears, block),
        linear.numbers_per_point(linears, k),
        k,
        outputs,
        f.numpy_dtype,
        n_threads=n_threads,
        progress=progress,
        memory=budget,
    )


def _of_jacobian(f, names, points, k, outputs, budget, n_threads, progress):
    """The sum over all other parameters."""
    blocks = jacobian.blocks(f, names, points, k, budget, progress or None)
    return gram_from_jacobian(blocks, outputs, n_threads=n_threads)


def _share(report, part, parts, ticks=1000):
    """progress= for one of the parts of a call: False, or a callable that reports in ticks of the whole call."""
    if report is None:
        return False
    return lambda done, total: report(ticks * (part * total + done) // (parts * total), ticks)
