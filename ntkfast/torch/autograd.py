"""The limit kernels as functions that PyTorch differentiates: values and first derivatives come from one `Problem`.

Importing this imports PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd import Function

from ntkfast.engine import parameters
from ntkfast.engine.problem import Problem
from ntkfast.networks import Network
from ntkfast.networks.hyperparameters import with_hyperparameters
from ntkfast.support import arrays

SECOND = "ntkfast: kernels have first derivatives only; detach() these, or take differences of them"


@dataclass
class Call:
    """Which kernel of which network, and, from the forward pass on, the problem that the backward pass goes on with.

    diagonal: K(x_i, x_i), without the matrix.  differentiable: whether there will be a backward pass.  apart: whether X
    and Y have derivatives of their own, even if they are the same numbers in memory.
    """

    net: Network
    kernel: str
    n_threads: int | None
    diagonal: bool
    differentiable: bool
    apart: bool
    problem: Problem | None = None

    def value(self, X, Y, values):
        net = self.net if values is None else with_hyperparameters(self.net, values.tolist())
        x, y = (None if points is None else points.detach().numpy() for points in (X, Y))
        if y is not None and self.apart and np.may_share_memory(x, y):
            y = y.copy()  # or the problem would be symmetric
        problem = Problem(net, x, y, derivatives=self.differentiable, n_threads=self.n_threads)
        compute = problem.diagonals if self.diagonal else problem.matrices
        (result,) = compute((self.kernel,), show=False)
        self.problem = problem if self.differentiable else None
        return torch.from_numpy(result)

    def derivatives(self, weights, X, Y, values, wanted):
        """With respect to X, Y and values, None where they are not wanted."""
        of_x, of_y, of_values = wanted
        weights = weights.detach().numpy()
        if not np.isfinite(weights).all():  # PyTorch's users look for NaN in the result
            return tuple(
                torch.full_like(to, torch.nan) if want else None
                for to, want in zip((X, Y, values), wanted, strict=True)
            )
        problem, activations = self.problem, None
        if self.diagonal:
            total, *points = problem.diagonal_vjp(weights, self.kernel)
        else:
            total, points = problem.vjp(weights, self.kernel, inputs=of_x or of_y, show=False)
        if of_values and len(values) > len(total):
            full = np.diag(weights) if self.diagonal else weights
            activations = parameters.gradient(problem, full, self.kernel)
        points += [None] * (2 - len(points))
        found = [*points, total if activations is None else np.concatenate([total, activations])]
        return tuple(
            torch.from_numpy(result).to(to.dtype) if want else None
            for result, to, want in zip(found, (X, Y, values), wanted, strict=True)
        )


class Kernel(Function):
    """(X, Y, values of the hyperparameters or None, call) -> the kernel's matrix, or its diagonal."""

    @staticmethod
    def forward(X: Any, Y: Any, values: Any, call: Call) -> Any:
        return call.value(X, Y, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.call = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, weights: Any) -> Any:
        return (*Derivatives.apply(weights, *ctx.saved_tensors, ctx.call, ctx.needs_input_grad[:3]), None)


class Derivatives(Function):
    """The backward pass of `Kernel`, itself without one."""

    @staticmethod
    def forward(weights: Any, X: Any, Y: Any, values: Any, call: Call, wanted: Any) -> Any:
        return call.derivatives(weights, X, Y, values, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *weights: Any) -> Any:
        raise RuntimeError(SECOND)


def limit_kernel(net, kernel, X, Y, values, *, diagonal=False, n_threads=None):
    """The kernel (n, m) of tensors X (n, d), Y (m, d) or None, with values (2L,) of the hyperparameters or None; its
    diagonal (n,) with `diagonal`.
    """
    Y = None if Y is X else Y
    apart, varied = (
        torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given)
        for given in ((X, Y), (values,))
    )
    return Kernel.apply(X, Y, values, Call(net, kernel, n_threads, diagonal, apart or varied, apart))


def tensor(values: object, name: str) -> torch.Tensor:
    """values as a dense tensor on the CPU, float32 or float64; an array is copied."""
    if not isinstance(values, torch.Tensor):
        array = arrays.real(values, name)
        return torch.tensor(array, dtype=torch.float32 if array.dtype == np.float32 else torch.float64)
    if values.device.type != "cpu":
        raise TypeError(f"{name}: expected a tensor on the CPU, got one on {values.device}; pass {name}.cpu()")
    if values.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {values.layout}; {name}.to_dense()")
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{name}: expected real numbers, got dtype {values.dtype}")
    return values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float64)
