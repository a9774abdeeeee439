"""One activation of every kind, with parameters that are not the defaults where there are any."""

import ntkfast as nf

A = nf.activations
CLOSED = (
    A.relu(),
    A.leaky_relu(0.2),
    A.abs(),
    A.identity(),
    A.erf(1.2, 0.7, 0.2),
    A.sigmoid_like(),
    A.gelu(),
    A.sin(1.3, 0.8, 0.4),
    A.cos(0.7, 1.1, 0.3),
    A.rbf(0.6),
    A.exp(0.9, 0.4),
    A.gaussian(1.1, -0.7),
    A.monomial(3),
    A.polynomial((0.3, -1.0, 0.5, 0.2, -0.1)),
    A.hermite(4),
    *(A.rectified_monomial(order) for order in range(6)),
    A.sign(),
    A.step(),
)
PIECEWISE = (A.hardtanh(), A.hardsigmoid(), A.relu6())
SMOOTH = (
    A.tanh(),
    A.sigmoid(),
    A.softplus(),
    A.silu(),
    A.swish(),
    A.mish(),
    A.arctan(),
    A.log_cosh(),
)
KINKED = (A.elu(1.3), A.selu(), A.celu(0.7), A.softsign())
ALL = CLOSED + PIECEWISE + SMOOTH + KINKED
