"""A module as a function of its parameters and of one point, which is what torch.func differentiates."""

from __future__ import annotations

import numpy as np

from ntkfast.support import arrays
from ntkfast.torch.checks import check_parts, require_all_gradients


class Function:
    """f(θ, x) of single points, with the module's own parameters and buffers where θ does not replace them.

    Attributes
    ----------
    module : torch.nn.Module
    own, trained : dict of str to torch.Tensor
        The parameters that require gradients: the module's own, and the same without autograd.
    dtype : torch.dtype
    numpy_dtype : numpy.dtype
    k : int
        The number of outputs, once it is known.
    vectorised : bool
        Whether torch.func can take many points at once, and rightly; else autograd takes one at a time.
    """

    def __init__(self, module):
        import torch

        if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
        check_parts(module)
        named = dict(module.named_parameters())
        self.module = module
        self.own = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
        self.trained = {name: parameter.detach() for name, parameter in self.own.items()}
        self._frozen = {name: parameter.detach() for name, parameter in named.items() if name not in self.own}
        self._points_require_grad = False
        self.k, self.vectorised = None, False
        if not self.trained:
            raise ValueError(f"module: expected parameters that require gradients, got none in {type(module).__name__}")
        dtypes = {parameter.dtype for parameter in self.trained.values()}
        if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
            got = ", ".join(sorted(map(str, dtypes)))
            raise TypeError(
                f"module: expected parameters in float32 or float64, one for all, got {got}; module.float() converts"
            )
        (self.dtype,) = dtypes
        self.numpy_dtype = np.dtype(str(self.dtype).removeprefix("torch."))
        for name, parameter in named.items():
            if not (torch.isfinite(parameter.sum()) or torch.isfinite(parameter).all()):
                raise ValueError(f"module: expected finite parameters, got NaN or inf in {name!r}")

    def __call__(self, parameters, point):
        """The outputs (k,) at one point, for torch.func: no derivative but with respect to these parameters."""
        state = {**self._frozen, **self.trained, **parameters}
        return self._call(state, point[None].clone()).reshape(-1)

    def plain(self, points):
        """What the module returns for a batch of points, as if its owner called it."""
        points = points.clone()
        return self._call({}, points.requires_grad_() if self._points_require_grad else points)

    def alone(self, point):
        """The outputs (k,) at one point, for autograd on the module's own parameters."""
        outputs = self.plain(point[None]).reshape(-1)
        require_all_gradients(outputs)
        if len(outputs) != self.k:
            raise ValueError(f"module: expected {self.k} outputs at every point, got {len(outputs)} at one of them")
        return outputs

    def _call(self, parameters, points):
        import torch

        # a forward may write to its input, to buffers and to attributes, but must not change those of the caller
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        attributes = [(vars(part), dict(vars(part))) for part in self.module.modules()]
        try:
            return torch.func.functional_call(self.module, {**buffers, **parameters}, (points,))
        finally:
            for now, before in attributes:
                now.clear()
                now.update(before)

    def jacobians(self, names, points, outputs):
        """{name: (n, k, *shape)}: the derivatives of these outputs (a slice) with respect to parameters."""
        if self.vectorised:
            return self.vmapped_jacobians(names, points, outputs)
        own = {name: self.own[name] for name in names}
        return _stacked([self._jacobian(own, point, outputs) for point in points])

    def vmapped_jacobians(self, names, points, outputs):
        """`jacobians` by torch.func, which `proof` must have found to be right."""
        import torch

        # one output at a time: vmap in vmap silently gets the derivative of PReLU wrong if n = k
        derivative = torch.func.jacrev(lambda parameters, x: self(parameters, x)[outputs], chunk_size=1)
        return torch.func.vmap(derivative, in_dims=(None, 0))({name: self.trained[name] for name in names}, points)

    def _jacobian(self, parameters, point, outputs):
        """{name: (k, *shape)} by autograd, one output at a time."""
        import torch

        try:
            with torch.enable_grad():
                return _stacked([gradients(output, parameters) for output in self.alone(point)[outputs]])
        except RuntimeError as error:
            raise RuntimeError(f"module: expected one that autograd can differentiate; it says: {error}") from error

    def points(self, X, name):
        """X as a tensor (N, …) of the parameters' dtype, or of integers for an embedding; a copy."""
        import torch

        if isinstance(X, torch.Tensor):
            self._points_require_grad |= X.requires_grad
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


def gradients(outputs, tensors, cotangents=None):
    """{name: derivative} of the outputs, times the cotangents, with respect to the tensors {name: tensor}."""
    import torch

    if not outputs.requires_grad:
        return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    found = torch.autograd.grad(outputs, list(tensors.values()), cotangents, retain_graph=True, materialize_grads=True)
    return dict(zip(tensors, found, strict=True))


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
