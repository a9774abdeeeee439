"""neural-tangents 0.6.5 for fully connected networks: its names, arguments, defaults and results.

Change the import and keep the code; docs/neural-tangents.md lists what differs. Importing this does not import JAX.

>>> from ntkfast import neural_tangents as nt
>>> from ntkfast.neural_tangents import stax
>>> init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(512), stax.Relu(), stax.Dense(1))
>>> kernel_fn([[1.0, 0.0]], None, "ntk")
array([[0.5]])
"""

from ntkfast.neural_tangents import predict, stax
from ntkfast.neural_tangents.empirical import (
    NtkImplementation,
    empirical_kernel_fn,
    empirical_nngp_fn,
    empirical_ntk_fn,
    empirical_ntk_vp_fn,
    linearize,
    taylor_expand,
)
from ntkfast.neural_tangents.kernel import Kernel
from ntkfast.neural_tangents.monte_carlo import batch, monte_carlo_kernel_fn

__all__ = [
    "Kernel",
    "NtkImplementation",
    "batch",
    "empirical_kernel_fn",
    "empirical_nngp_fn",
    "empirical_ntk_fn",
    "empirical_ntk_vp_fn",
    "linearize",
    "monte_carlo_kernel_fn",
    "predict",
    "stax",
    "taylor_expand",
]
