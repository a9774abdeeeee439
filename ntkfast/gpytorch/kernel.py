"""The limit kernels as kernels of GPyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from gpytorch.constraints import Interval, Positive
from gpytorch.kernels import Kernel
from gpytorch.priors import Prior

from ntkfast.engine import outputs
from ntkfast.gpytorch.operator import LimitKernelOperator, dense, diagonal
from ntkfast.networks import Network
from ntkfast.networks.network import check_network
from ntkfast.support.typing import KernelName
from ntkfast.torch.autograd import tensor

__all__ = ["NTKKernel"]

NAMES = ("weight_std", "bias_std")
MOST_ENTRIES = 2**28  # of a matrix that is kept, 2 GiB


class NTKKernel(Kernel):  # type: ignore[misc]  # GPyTorch has no types
    """The kernel of an infinitely wide network for GPyTorch's and BoTorch's models.

    weight_std and bias_std of every `Dense` are parameters; derivatives with respect to them and to the points are
    exact. Variances need no ScaleKernel: that of the last `Dense` does its work.

    Parameters
    ----------
    net : Network
        Where training starts. A bias_std of 0 remains 0.
    kernel : {"ntk", "nngp"}
        "nngp": the prior of a Bayesian network; "ntk": the one whose mean is what gradient descent learns.
    lazy : bool, optional
        Keep no matrix: products compute its entries anew, and take as long as the kernel does. Default: if it has more
        than 2²⁸ entries. Not for batches.
    weight_std_constraint, bias_std_constraint : gpytorch.constraints.Interval, optional
        Default: Positive().
    weight_std_prior, bias_std_prior : gpytorch.priors.Prior, optional
        Registered for the marginal likelihood.
    batch_shape : torch.Size, optional
        Of parameters for several models at a time.
    active_dims : sequence of int, optional
        The features that the kernel sees.
    n_threads : int, optional
        As in `ntkfast.ntk`.

    Attributes
    ----------
    weight_std, bias_std : torch.Tensor, shape (*batch_shape, L)
        In the order of `net.dense_layers`; they can be set.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; points on a GPU.
    RuntimeError
        In a second derivative.

    See Also
    --------
    ntkfast.torch.ntk : The kernel as a function of tensors.
    fit_hyperparameters : A fit without GPyTorch.

    Examples
    --------
    >>> import gpytorch
    >>> import ntkfast as nf
    >>> import torch
    >>> covariance = nf.gpytorch.NTKKernel(nf.MLP(depth=3, bias_std=0.1), kernel="nngp")
    >>> covariance(torch.eye(2)).to_dense().shape, covariance.weight_std.shape
    (torch.Size([2, 2]), torch.Size([3]))
    """

    has_lengthscale = False

    def __init__(
        self,
        net: Network,
        *,
        kernel: KernelName = "ntk",
        lazy: bool | None = None,
        weight_std_constraint: Interval | None = None,
        bias_std_constraint: Interval | None = None,
        weight_std_prior: Prior | None = None,
        bias_std_prior: Prior | None = None,
        batch_shape: torch.Size | None = None,
        active_dims: Sequence[int] | None = None,
        n_threads: int | None = None,
    ) -> None:
        active_dims = None if active_dims is None else tuple(active_dims)
        super().__init__(batch_shape=batch_shape, active_dims=active_dims)
        self.net, self.kernel, self.lazy, self.n_threads = check_network(net), outputs.kernel(kernel), lazy, n_threads
        given = {name: torch.tensor([getattr(layer, name) for layer in net.dense_layers]) for name in NAMES}
        self.register_buffer("has_bias", given["bias_std"] != 0)
        constraints = weight_std_constraint, bias_std_constraint
        priors = weight_std_prior, bias_std_prior
        for name, constraint, prior in zip(NAMES, constraints, priors, strict=True):
            start = torch.zeros(*self.batch_shape, net.depth)
            self.register_parameter(f"raw_{name}", torch.nn.Parameter(start))
            self.register_constraint(f"raw_{name}", Positive() if constraint is None else constraint)
            if prior is not None:
                self.register_prior(f"{name}_prior", prior, partial(_get, name), partial(_set, name))
            setattr(self, name, given[name].abs())

    @property
    def weight_std(self) -> torch.Tensor:
        """weight_std of every `Dense`, a tensor (*batch_shape, L), which can be set.

        See Also
        --------
        NTKKernel.bias_std : Those of the biases.

        Examples
        --------
        >>> import ntkfast as nf
        >>> covariance = nf.gpytorch.NTKKernel(nf.MLP(depth=2, bias_std=0.1))
        >>> covariance.weight_std.shape
        torch.Size([2])
        """
        return self.raw_weight_std_constraint.transform(self.raw_weight_std)

    @weight_std.setter
    def weight_std(self, value: Any) -> None:
        self._set("weight_std", value)

    @property
    def bias_std(self) -> torch.Tensor:
        """bias_std of every `Dense`, a tensor (*batch_shape, L), which can be set; zeros remain.

        See Also
        --------
        NTKKernel.weight_std : Those of the weights.

        Examples
        --------
        >>> import ntkfast as nf
        >>> covariance = nf.gpytorch.NTKKernel(nf.MLP(depth=2, bias_std=0.1))
        >>> covariance.bias_std.shape
        torch.Size([2])
        """
        return self.raw_bias_std_constraint.transform(self.raw_bias_std) * self.has_bias

    @bias_std.setter
    def bias_std(self, value: Any) -> None:
        value = torch.as_tensor(value).to(self.raw_bias_std)
        self._set("bias_std", torch.where(self.has_bias, value, torch.ones_like(value)))

    def _set(self, name, value):
        raw = getattr(self, f"raw_{name}")
        value = torch.as_tensor(value).to(raw).expand(raw.shape)
        self.initialize(**{f"raw_{name}": getattr(self, f"raw_{name}_constraint").inverse_transform(value)})

    def forward(self, x1: Any, x2: Any, diag: bool = False, last_dim_is_batch: bool = False, **params: Any) -> Any:
        """K(x1, x2), as GPyTorch calls it.

        Parameters
        ----------
        x1, x2 : torch.Tensor, shapes (..., n, d) and (..., m, d)
            Points, one per row.
        diag : bool
            The diagonal only, for n = m.
        last_dim_is_batch : bool
            Must be False: one kernel for each feature has `active_dims`.
        **params
            What else GPyTorch passes on; without meaning.

        Returns
        -------
        torch.Tensor or LinearOperator, shape (..., n, m), or (..., n) with `diag`
            Differentiable once.

        Raises
        ------
        RuntimeError
            last_dim_is_batch is True.

        See Also
        --------
        ntkfast.torch.ntk : The function of tensors.

        Examples
        --------
        >>> import ntkfast as nf
        >>> import torch
        >>> nf.gpytorch.NTKKernel(nf.MLP(depth=2)).forward(torch.eye(2), torch.eye(2), diag=True).shape
        torch.Size([2])
        """
        if last_dim_is_batch:
            raise RuntimeError(
                "NTKKernel: expected last_dim_is_batch=False; one kernel for each feature has active_dims"
            )
        x1, x2 = tensor(x1, "x1"), x1 if x2 is x1 else tensor(x2, "x2")
        values = torch.stack([self.weight_std, self.bias_std], dim=-1).flatten(-2)
        options = {"net": self.net, "kernel": self.kernel, "n_threads": self.n_threads}
        compute, size = (diagonal if diag else dense), x1.shape[-2] * x2.shape[-2]
        batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2], values.shape[:-1])
        if not batch:
            lazy = size > MOST_ENTRIES if self.lazy is None else self.lazy
            return (LimitKernelOperator if lazy and not diag else compute)(x1, x2, values, **options)
        sides = [x1.expand(*batch, *x1.shape[-2:]).flatten(0, -3)]
        sides += sides if x2 is x1 else [x2.expand(*batch, *x2.shape[-2:]).flatten(0, -3)]
        values = values.expand(*batch, values.shape[-1]).flatten(0, -2)
        each = [(left, left if x2 is x1 else right) for left, right in zip(*sides, strict=True)]
        results = [compute(*points, value, **options) for points, value in zip(each, values, strict=True)]
        return torch.stack(results).unflatten(0, batch)


def _get(name, kernel):
    return getattr(kernel, name)


def _set(name, kernel, value):
    setattr(kernel, name, value)
