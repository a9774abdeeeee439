"""Limit kernels of tensors for GPyTorch: dense, diagonals, and a LinearOperator that keeps no matrix."""

from __future__ import annotations

from typing import Any

import torch
from linear_operator import LinearOperator

from ntkfast.engine.problem import Problem
from ntkfast.infinite.operator import KernelOperator
from ntkfast.networks.hyperparameters import with_hyperparameters
from ntkfast.support import arrays
from ntkfast.support.forks import cached_property
from ntkfast.torch.autograd import limit_kernel

ROWS = 512  # for which the weights of derivatives are a matrix at a time
PAIRS = 128  # of which a diagonal takes all rows and columns at a time


def is_symmetric(x1: torch.Tensor, x2: torch.Tensor) -> bool:
    """Whether both sides are one variable, or equal and constant."""
    if x1 is x2:
        return True
    return not (x1.requires_grad or x2.requires_grad) and x1.shape == x2.shape and torch.equal(x1, x2)


def dense(x1, x2, values, *, net, kernel, n_threads):
    """K(x1_i, x2_j), (n, m)."""
    x2 = None if is_symmetric(x1, x2) else x2
    return limit_kernel(net, kernel, x1, x2, values, n_threads=n_threads)


def diagonal(x1, x2, values, *, net, kernel, n_threads):
    """K(x1_i, x2_i), (n,)."""
    if is_symmetric(x1, x2):
        return limit_kernel(net, kernel, x1, None, values, diagonal=True, n_threads=n_threads)
    parts = [
        limit_kernel(net, kernel, x1[rows], x2[rows], values, n_threads=n_threads).diagonal()
        for rows in arrays.blocks(len(x1), PAIRS)
    ]
    return torch.cat(parts)


class LimitKernelOperator(LinearOperator):  # type: ignore[misc]  # linear_operator has no types
    """K(x1, x2) for x1 (n, d), x2 (m, d) and the values (2L,) of the hyperparameters; options as of `dense`.

    Products go through `KernelOperator`. Derivatives of Σ_t l_t·(K r_t) are those of K weighted by l rᵀ, which is
    formed for some rows at a time.
    """

    def __init__(self, x1: Any, x2: Any, values: Any, **options: Any) -> None:
        super().__init__(x1, x2, values, **options)
        self.x1, self.x2, self.values, self.options = x1, x2, values, options

    @cached_property
    def _operator(self):
        net, kernel, n_threads = (self.options[name] for name in ("net", "kernel", "n_threads"))
        x1, x2 = (x.detach() for x in (self.x1, self.x2))
        other = None if is_symmetric(x1, x2) else x2.numpy()
        net = with_hyperparameters(net, self.values.tolist())
        return KernelOperator(net, x1.numpy(), other, kernel, n_threads=n_threads, progress=False)

    def _matmul(self, rhs):
        return torch.from_numpy(self._operator @ rhs.detach().numpy()).to(rhs.dtype)

    def _size(self):
        return torch.Size([len(self.x1), len(self.x2)])

    def _transpose_nonbatch(self):
        return LimitKernelOperator(self.x2, self.x1, self.values, **self.options)

    def _bilinear_derivative(self, left_vecs, right_vecs):
        left, right = (v.detach().reshape(len(v), -1).numpy() for v in (left_vecs, right_vecs))
        x1, x2 = (x.detach().numpy() for x in (self.x1, self.x2))
        net = with_hyperparameters(self.options["net"], self.values.tolist())
        of_x1, of_x2, of_values = (torch.zeros_like(to) for to in (self.x1, self.x2, self.values))
        for rows in arrays.blocks(len(x1), ROWS):
            # a copy, since each side has derivatives of its own even if it is the other
            part = Problem(net, x1[rows].copy(), x2, derivatives=True, n_threads=self.options["n_threads"])
            weights = left[rows] @ right.T
            total, points = part.vjp(weights, self.options["kernel"], inputs=True, show=False)
            for to, found in ((of_x1[rows], points[0]), (of_x2, points[1]), (of_values, total)):
                to += torch.from_numpy(found).to(to.dtype)
        return of_x1, of_x2, of_values

    def _diagonal(self):
        return diagonal(self.x1, self.x2, self.values, **self.options)

    def _get_indices(self, row_index, col_index, *batch_indices):
        return diagonal(self.x1[row_index], self.x2[col_index], self.values, **self.options)

    def _getitem(self, row_index, col_index, *batch_indices):
        return LimitKernelOperator(self.x1[row_index], self.x2[col_index], self.values, **self.options)

    def to_dense(self):
        return dense(self.x1, self.x2, self.values, **self.options)
