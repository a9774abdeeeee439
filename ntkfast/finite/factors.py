"""The factors whose Gram matrices are the empirical kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.finite import passes
from ntkfast.finite.network import FiniteNetwork, check_finite_network
from ntkfast.finite.steps import DenseStep, affine
from ntkfast.support import memory

__all__ = ["LayerFactors", "layer_factors"]


@dataclass(frozen=True)
class LayerFactors:
    """What one Dense adds to the empirical tangent kernel; see `layer_factors`.

    Attributes
    ----------
    inputs : ndarray, shape (N, n_in)
        α, the inputs of the layer.
    sensitivities : ndarray, shape (k, N, n_out), or None
        B_k(x) = ∂f_k/∂(pre-activation). None where the pre-activations are the outputs themselves, so that
        B_k(x)·B_k'(x') is 1 for k = k' and 0 otherwise.
    weight, bias : float
        weight_lr w²/n_in and bias_lr β² in NTK parametrisation; weight_lr and bias_lr (0 without bias) in standard
        parametrisation.
    """

    inputs: NDArray[np.floating]
    sensitivities: NDArray[np.floating] | None
    weight: float
    bias: float


def layer_factors(f: FiniteNetwork, X: ArrayLike) -> list[LayerFactors]:
    """The factors of the empirical tangent kernel, layer by layer.

        Θ̂_kk'(x, x') = Σ_l (weight_l α^l(x)·α^l(x') + bias_l) (B^l_k(x)·B^l_k'(x'))

    so that the kernel is a sum of products of Gram matrices, and no Jacobian is formed (Jacot, Gabriel and Hongler
    2018, section 4). As in all derivatives outside of training, `Dropout` is left out.

    Parameters
    ----------
    f : FiniteNetwork
    X : array_like, shape (N, n_inputs)

    Returns
    -------
    list of LayerFactors, from the last layer to the first
        Frozen layers are left out. The arrays are C-contiguous and must not be written to.

    Raises
    ------
    ValueError, TypeError
        X does not suit the network.
    MemoryError
        The sensitivities do not fit.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.finite.factors import layer_factors
    >>> f = nf.FiniteNetwork.init(nf.MLP(depth=3), n_inputs=2, widths=8, rng=0)
    >>> [factors.inputs.shape for factors in layer_factors(f, [[1.0, 0.0]])]
    [(1, 8), (1, 8), (1, 2)]
    """
    check_finite_network(f)
    X = f.points(X)
    units = sum(map(len, f.weights))
    memory.require(
        X.itemsize * len(X) * units * (2 + f.n_outputs),
        f"X: the sensitivities of {len(X)} points, {f.n_outputs} outputs",
        "; fewer points at a time need less",
    )
    tape, last = [], f.steps[-1]
    passes.forward(f, X, tape)
    factors = []
    for layer, inputs, g in passes.backward(f, tape, passes.identity(f), passes.trained(f)):
        is_output = last == DenseStep(layer)
        if not is_output and g.shape[1] != len(X):
            g = np.repeat(g, len(X), axis=1)
        weight = f.weight_lrs[layer] * f.weight_scales[layer] ** 2
        bias = f.bias_lrs[layer] * f.bias_scales[layer] ** 2
        factors.append(LayerFactors(inputs, None if is_output else g, weight, bias))
    return factors


def covariance_factors(f: FiniteNetwork, X: ArrayLike) -> list[LayerFactors]:
    """Factors of the second moment of an output over the parameters of the last Dense; what branches add to its outputs
    is fixed, and enters as its mean over the outputs.
    """
    X = f.points(X)
    tape, last = [], len(f.weights) - 1
    outputs = passes.forward(f, X, tape)
    wanted = [layer == last for layer in range(len(f.weights))]
    ((_, inputs, g),) = passes.backward(f, tape, passes.identity(f), wanted)
    scale = float(g[0, 0, 0])  # the outputs are scale times those of the last Dense, and the rest
    dense = f.net.dense_layers[-1]
    weight = (scale * dense.weight_std) ** 2 / inputs.shape[1]
    factors = [LayerFactors(inputs, None, weight, (scale * dense.bias_std) ** 2)]
    if f.steps[-1] != DenseStep(last):
        rest = outputs - inputs.dtype.type(scale) * affine(f, last, inputs)
        factors.append(LayerFactors(rest, None, 1 / f.n_outputs, 0.0))
    return factors
