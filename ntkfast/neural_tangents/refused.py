"""Layers of neural-tangents that fully connected networks have not: each says so when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = [
    "Aggregate",
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "GlobalAvgPool",
    "GlobalSelfAttention",
    "GlobalSumPool",
    "ImageResize",
    "Index",
    "SumPool",
]


def _refused(name: str) -> Callable[..., NoReturn]:
    def layer(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"{name}: ntkfast has fully connected networks only: Flatten, Dense, activations, LayerNorm, Dropout, and "
            "branches by FanOut, parallel and FanInSum, FanInProd or FanInConcat"
        )

    layer.__name__ = layer.__qualname__ = name
    layer.__doc__ = "Not here: raises NotImplementedError."
    return layer


Aggregate = _refused("Aggregate")
AvgPool = _refused("AvgPool")
Conv = _refused("Conv")
ConvLocal = _refused("ConvLocal")
ConvTranspose = _refused("ConvTranspose")
GlobalAvgPool = _refused("GlobalAvgPool")
GlobalSelfAttention = _refused("GlobalSelfAttention")
GlobalSumPool = _refused("GlobalSumPool")
ImageResize = _refused("ImageResize")
Index = _refused("Index")
SumPool = _refused("SumPool")
