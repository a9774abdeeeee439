"""The dual of a single activation."""

import numpy as np

from ntkfast.engine import _core, series, threads
from ntkfast.networks.activation import Activation
from ntkfast.support import arrays


def duals(act: Activation, q1, q2, c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)]; see `ntkfast.dual`."""
    q1, q2, c = (arrays.finite_array(*given, float) for given in ((q1, "q1"), (q2, "q2"), (c, "c")))
    for name, q in (("q1", q1), ("q2", q2)):
        if (q < 0).any():
            raise ValueError(f"{name}: expected variances >= 0, got {q.min()}")
    try:
        q1, q2, c = np.broadcast_arrays(q1, q2, c)
    except ValueError:
        raise ValueError(f"q1, q2, c: expected shapes that broadcast, got {q1.shape}, {q2.shape}, {c.shape}") from None
    limit = np.sqrt(q1) * np.sqrt(q2)
    wrong = np.abs(c) > limit * (1 + 1e-12)
    if wrong.any():
        raise ValueError(f"c: expected |c| <= √(q1 q2) = {limit[wrong].flat[0]}, got {c[wrong].flat[0]}")
    flat = [array.flatten() for array in (q1, q2, c)]
    if q1.size == 0:
        return np.zeros(q1.shape), np.zeros(q1.shape)

    instruction = act.instruction
    parameters = () if instruction.varies else instruction.parameters
    q = np.concatenate(flat[:2])
    q = q[q > 0]
    bound = act, *((q.min(), q.max()) if len(q) else (1.0, 1.0)), float, False

    def prepare():
        program = _core.Program([(instruction.name, parameters, (1, 0, 0, 0))])
        if instruction.varies:
            program.bind(0, series.data(*bound))
        return series.Prepared(program, {0: bound})

    with threads.single_threaded_blas():  # the tables have threads of their own
        _, (value, slope) = series.until_complete(
            prepare, lambda prepared: _core.dual(prepared.program, *flat), threads.resolve(None)
        )
    lost = ~(np.isfinite(value) & np.isfinite(slope))
    if lost.any():
        k = np.flatnonzero(lost)[0]
        raise ValueError(f"q1, q2: the dual of {act!r} leaves float64 at q1={flat[0][k]:.6g}, q2={flat[1][k]:.6g}")
    if q1.ndim == 0:
        return float(value[0]), float(slope[0])
    return value.reshape(q1.shape), slope.reshape(q1.shape)
