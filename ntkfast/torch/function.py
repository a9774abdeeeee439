"""A module as a function of its parameters and of one point, which is what torch.func differentiates."""

from __future__ import annotations

import numpy as np

from ntkfast.support import arrays

NO_FUNCTION = "module: expected one whose outputs are a function of the point, got {}; call module.eval()"


class Function:
    """f(θ, x), with the module's own parameters and buffers where θ does not replace them.

    Attributes
    ----------
    module : torch.nn.Module
    own, trained : dict of str to torch.Tensor
        The parameters that require gradients: the module's own, and the same without autograd.
    dtype : torch.dtype
    numpy_dtype : numpy.dtype
    """

    def __init__(self, module):
        import torch

        if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
        _check_parts(module)
        named = dict(module.named_parameters())
        self.module = module
        self.own = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
        self.trained = {name: parameter.detach() for name, parameter in self.own.items()}
        self._frozen = {name: parameter.detach() for name, parameter in named.items() if name not in self.own}
        self._vectorised = True
        if not self.trained:
            raise ValueError(f"module: expected parameters that require gradients, got none in {type(module).__name__}")
        dtypes = {parameter.dtype for parameter in self.trained.values()}
        if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
            got = ", ".join(sorted(map(str, dtypes)))
            raise TypeError(f"module: expected parameters in float32 or float64, one for all, got {got}")
        (self.dtype,) = dtypes
        self.numpy_dtype = np.dtype(str(self.dtype).removeprefix("torch."))
        for name, parameter in named.items():
            if not torch.isfinite(parameter).all():
                raise ValueError(f"module: expected finite parameters, got NaN or inf in {name!r}")

    def call(self, parameters, points):
        """The outputs at a batch of points, as the module returns them."""
        import torch

        # a forward may write to its input and to buffers, but must not change those of the caller
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        state = {**buffers, **self._frozen, **self.trained, **parameters}
        return torch.func.functional_call(self.module, state, (points.clone(),))

    def __call__(self, parameters, point):
        """The outputs (k,) at one point."""
        return self.call(parameters, point[None]).reshape(-1)

    def jacobians(self, function, parameters, points):
        """The derivatives of function(parameters, x) = (outputs (k,), {name: more}) at each of the points.

        Returns {name: (n, k, *shape of the parameter)} and {name: (n, *shape of more)}.
        """
        import torch

        if self._vectorised:
            try:
                # one output at a time: vmap in vmap silently gets the derivative of PReLU wrong if n = k
                derivative = torch.func.jacrev(function, has_aux=True, chunk_size=1)
                return torch.func.vmap(derivative, in_dims=(None, 0))(parameters, points)
            except RuntimeError:  # forward branches on values, or has an operation that torch.func does not support
                self._vectorised = False
        jacobians, more = zip(*(_jacobian(function, parameters, point) for point in points), strict=True)
        return _stacked(jacobians), _stacked(more)

    def points(self, X, name):
        """X as a tensor (N, …) of the parameters' dtype, or of integers for an embedding; a copy."""
        import torch

        if isinstance(X, torch.Tensor):
            tensor = X.detach()
            if tensor.device.type != "cpu" or tensor.layout != torch.strided:
                raise TypeError(f"{name}: expected a dense tensor on the CPU, got {tensor.layout} on {tensor.device}")
        else:
            tensor = _tensor(X, name)
        if tensor.ndim < 2 or 0 in tensor.shape:
            hint = f"; one point is {name}.reshape(1, -1)" if tensor.ndim == 1 and len(tensor) else ""
            raise ValueError(f"{name}: expected points (N, …), N > 0, got shape {tuple(tensor.shape)}{hint}")
        if tensor.dtype in (torch.int32, torch.int64) and self._has_embedding():
            return tensor.clone()
        if not tensor.is_floating_point():
            raise TypeError(
                f"{name}: expected floating-point numbers, got {tensor.dtype}; integers are for torch.nn.Embedding"
            )
        tensor = tensor.to(self.dtype, copy=True)
        rows = tensor.reshape(len(tensor), -1).numpy()
        with np.errstate(over="ignore"):
            arrays.require_finite(rows, np.einsum("ij,ij->i", rows, rows), name)
        return tensor

    def _has_embedding(self):
        import torch

        return any(isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag) for part in self.module.modules())


def _jacobian(function, parameters, point):
    """The derivatives at one point by autograd alone, one output at a time."""
    import torch

    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    with torch.enable_grad():
        outputs, more = function(leaves, point)
        rows = [
            torch.autograd.grad(output, list(leaves.values()), retain_graph=True, materialize_grads=True)
            if output.requires_grad
            else [torch.zeros_like(leaf) for leaf in leaves.values()]
            for output in outputs
        ]
    jacobian = {name: torch.stack(gradients) for name, gradients in zip(leaves, zip(*rows, strict=True), strict=True)}
    return jacobian, {name: tensor.detach() for name, tensor in more.items()}


def _stacked(dicts):
    import torch

    return {name: torch.stack([one[name] for one in dicts]) for name in dicts[0]}


def _tensor(X, name):
    """An array-like as a tensor with its own memory."""
    import torch

    array = arrays.real(X, name)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _check_parts(module):
    """Raise for parameters that do not exist yet or are not on the CPU, and for batch statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.parameter import is_lazy

    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"module: expected parameters of known shape, got {name!r} of a lazy layer; call it once")
        if tensor.device.type != "cpu":
            raise TypeError(f"module: expected parameters on the CPU, got {name!r} on {tensor.device}; module.cpu()")
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            if part.training:
                raise ValueError(NO_FUNCTION.format(f"{type(part).__name__} {name!r} in training mode"))
            if part.running_mean is None:
                raise ValueError(
                    "module: expected one whose outputs are a function of the point, got "
                    f"{type(part).__name__} {name!r} without running statistics (track_running_stats=False)"
                )
