"""Whether a module has a tangent kernel, point by point, and which ways of computing it are right."""

from __future__ import annotations

import itertools

from ntkfast.torch import proof
from ntkfast.torch.checks import NO_FUNCTION, OF_THE_BATCH, no_chance


def examine(f, sets):
    """Find f.k and f.vectorised from a few points; return {name: Linear} of the layers for which factors suffice."""
    import torch

    # not the last: on a closed curve it is the first again
    sample = torch.stack([points[i] for points in sets for i in (0, len(points) // 2)])
    with torch.enable_grad():
        with no_chance():
            outputs, together = _outputs(f, sample, sets[0].shape)
        f.k = outputs.numel() // len(outputs)
        outputs = outputs.reshape(-1, f.k)
        apart = together and _are_apart(f, sample, outputs)
        if not apart:
            outputs = torch.stack([f.alone(point) for point in sample])
        found = proof.linears(f, sample, outputs)
        f.vectorised = found is not None
        # otherwise forward may branch on values of the batch, which is no reason to refuse it
        if together and not apart and (f.vectorised or _mixes(f, sample)):
            raise ValueError(OF_THE_BATCH.format("one that mixes points"))
        return proof.linears_alone(f, sets) if found is None else found


def _outputs(f, sample, shape):
    """The outputs of the points as one batch and True, or of the first alone and False if the module takes no batch."""
    import torch

    try:
        outputs, together = f.plain(sample), True
    except UserWarning:  # of `no_lost_gradients`
        raise
    except Exception as error:  # a module may say no with any
        try:
            outputs, together = f.plain(sample[:1]), False
        except Exception:
            raise ValueError(
                "X: expected points that the module takes, in one tensor, "
                f"got shape {tuple(shape)}, {sample.dtype}; it says: {error}"
            ) from error
    if not isinstance(outputs, torch.Tensor):
        raise TypeError(
            f"module: expected one that returns a tensor, got {type(outputs).__name__}; "
            "wrap it in a module that returns one of its tensors"
        )
    n = len(sample) if together else 1
    if outputs.ndim not in (1, 2) or len(outputs) != n or outputs.numel() == 0:
        raise ValueError(
            f"module: expected outputs of shape (N, k) or (N,), got {tuple(outputs.shape)} for a batch of {n} points"
        )
    if outputs.dtype != f.dtype:
        raise TypeError(f"module: expected outputs in {f.dtype} as its parameters, got {outputs.dtype}")
    return outputs, together


def _are_apart(f, sample, outputs):
    """Whether each point has the same outputs (n, k) if it is the only one in the batch, n times."""
    if not _same(f.plain(sample), outputs):
        raise ValueError(NO_FUNCTION.format("one with other outputs in a second call"))
    return all(_same(f.plain(point.expand_as(sample)), outputs, i) for i, point in enumerate(sample))


def _mixes(f, sample):
    """Whether the outputs of a point follow every small change of the others, not only which way forward takes."""
    import torch

    if not sample.is_floating_point():
        return False
    noise = torch.rand(sample.shape, dtype=f.dtype, generator=torch.Generator().manual_seed(0)) / 100
    for i, point in enumerate(sample):
        others = [sample * (1 + times * noise) for times in (1, 2, 3)]
        results = [f.plain(torch.cat([other[:i], point[None], other[i + 1 :]])) for other in others]
        if not any(_same(one, other, i) for one, other in itertools.combinations(results, 2)):
            return True
    return False


def _same(got, expected, row=slice(None)):
    """Whether these outputs are the same up to the last bits, as they are in batches of one shape."""
    import torch

    pair = [{"": tensor.detach().reshape(len(got), -1)[row].nan_to_num(0, 0, 0)} for tensor in (got, expected)]
    return proof.agree(*pair, torch.finfo(expected.dtype).eps ** 0.75)
