"""What a module must not be for its kernel to exist or to be computed, and the ways out."""

from __future__ import annotations

import contextlib
import warnings

NO_FUNCTION = "module: expected one whose outputs are a function of the point, got {}"
OF_THE_BATCH = (
    NO_FUNCTION + ", where a point's outputs depend on the rest of its batch; call module.eval(), or compute the "
    "kernel of this one batch: names, p = zip(*((n, p) for n, p in module.named_parameters() if p.requires_grad)); "
    "J = torch.autograd.functional.jacobian("
    "lambda *p: torch.func.functional_call(module, dict(zip(names, p)), X), p); "
    "nf.gram_from_jacobian(j.flatten(2).numpy() for j in J)"
)
LOST = "None of the inputs have requires_grad=True"  # torch.utils.checkpoint's warning
REENTRANT = (
    "module: expected torch.utils.checkpoint with use_reentrant=False, which gives the same kernel, "
    "got use_reentrant=True, which hides parameters from torch.autograd.grad"
)


def check_parts(module):
    """Raise for parameters that do not exist yet, are not on the CPU or have hooks, and for batch statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.parameter import is_lazy

    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"module: expected parameters of known shape, got {name!r} of a lazy layer; call it once")
        if tensor.device.type != "cpu":
            raise TypeError(f"module: expected parameters on the CPU, got {name!r} on {tensor.device}; module.cpu()")
        if tensor._backward_hooks:
            raise ValueError(
                f"module: expected parameters without hooks, got {name!r} with one, which may change its gradient; "
                "remove it, or pass copy.deepcopy(module), which has none"
            )
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            if part.training:
                raise ValueError(OF_THE_BATCH.format(f"{type(part).__name__} {name!r} in training mode"))
            if part.running_mean is None:
                without = "without running statistics (track_running_stats=False)"
                raise ValueError(OF_THE_BATCH.format(f"{type(part).__name__} {name!r} {without}"))


@contextlib.contextmanager
def no_chance():
    """Raise ValueError if PyTorch's random numbers are drawn; its generator is then set back."""
    import torch

    before, drawn = torch.get_rng_state(), False
    try:
        yield
    finally:
        if not torch.equal(before, torch.get_rng_state()):
            torch.set_rng_state(before)
            drawn = True
    if drawn:
        raise ValueError(
            NO_FUNCTION.format("one that draws random numbers, as Dropout does in training mode; call module.eval()")
        )


@contextlib.contextmanager
def no_lost_gradients():
    """Raise ValueError for a reentrant checkpoint whose inputs need no gradients; PyTorch only warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=LOST)
        try:
            yield
        except UserWarning as error:
            if not str(error).startswith(LOST):
                raise
            raise ValueError(REENTRANT) from error


def require_all_gradients(outputs):
    """Raise ValueError if a reentrant checkpoint hides parameters from the graph behind the outputs."""
    seen, todo = set(), [outputs.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            if type(node).__name__ == "CheckpointFunctionBackward":
                raise ValueError(REENTRANT)
            seen.add(node)
            todo.extend(child for child, _ in node.next_functions)
