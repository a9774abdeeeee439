"""One activation of every kind, with non-default parameters where it has any, and what is special about it."""

from dataclasses import dataclass

import ntkfast as nf

A = nf.activations


@dataclass(frozen=True)
class Entry:
    """An activation, and what a test over all activations must know about it.

    promised : error of the dual relative to the diagonal, for variances in [0.01, 100] up to `largest_variance`
    largest_variance : beyond it quadrature in float64 cannot compute E φ(u)²
    jumps : φ jumps, and the delta in φ' does not count: E[φ'φ'] is not the derivative of E[φφ]
    """

    activation: nf.Activation
    promised: float
    largest_variance: float = 100.0
    jumps: bool = False

    def __repr__(self):
        return repr(self.activation)


def entries(promised, *activations, **facts):
    return tuple(Entry(activation, promised, **facts) for activation in activations)


CLOSED_ENTRIES = (
    *entries(
        1e-12,
        A.relu(),
        A.leaky_relu(0.2),
        A.abrelu(-0.4, 1.3),
        A.abs(),
        A.identity(),
        A.erf(1.2, 0.7, 0.2),
        A.sigmoid_like(),
        A.gelu(),
        A.sin(1.3, 0.8, 0.4),
        A.cos(0.7, 1.1, 0.3),
        A.rbf(0.6),
        A.gaussian(1.1, -0.7),
        A.monomial(3),
        A.polynomial((0.3, -1.0, 0.5, 0.2, -0.1)),
        A.hermite(4),
        *(A.rectified_monomial(order) for order in range(1, 6)),
    ),
    *entries(1e-12, A.exp(0.9, 0.4), A.cosh(0.8, 0.5), A.sinh(1.1, 0.4), largest_variance=4.0),
    *entries(1e-12, A.rectified_monomial(0), A.sign(), A.step(), jumps=True),
)
PIECEWISE_ENTRIES = entries(1e-8, A.hardtanh(), A.hardsigmoid(), A.relu6(), A.softshrink(0.3))
SMOOTH_ENTRIES = entries(
    1e-10,
    A.tanh(),
    A.sigmoid(),
    A.softplus(),
    A.silu(),
    A.swish(),
    A.mish(),
    A.arctan(),
    A.log_cosh(),
    A.gelu_tanh(),
)
KINKED_ENTRIES = (
    *entries(1e-10, A.elu(1.3), A.selu(), A.celu(0.7), A.softsign()),
    *entries(1e-10, A.squared_relu(0.2), A.hard_swish(), A.smelu(0.8)),
    *entries(1e-10, A.hardshrink(0.3), A.threshold(0.4, -0.2), jumps=True),
)
ENTRIES = CLOSED_ENTRIES + PIECEWISE_ENTRIES + SMOOTH_ENTRIES + KINKED_ENTRIES
# whose kernels have derivatives: a series has none where φ jumps
DIFFERENTIABLE_ENTRIES = tuple(
    entry for entry in ENTRIES if not (entry.jumps and entry.activation.instruction.is_series)
)

CLOSED, PIECEWISE, SMOOTH, KINKED, ALL = (
    tuple(entry.activation for entry in group)
    for group in (CLOSED_ENTRIES, PIECEWISE_ENTRIES, SMOOTH_ENTRIES, KINKED_ENTRIES, ENTRIES)
)
APART = (A.exp_normalized(0.7, -0.4),)  # not functions of one number: test_exp_normalized.py
