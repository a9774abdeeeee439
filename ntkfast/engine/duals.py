"""The dual of a single activation: of some pairs, or of whole matrices of covariances."""

import numpy as np

from ntkfast.engine import _core, series, threads
from ntkfast.networks.activation import Activation
from ntkfast.support import arrays

BLOCK = 4 * _core.LANES  # columns of a matrix at a time


def dual_matrices(act: Activation, q1, q2, c, n_threads=None):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] (n, m) for variances q1 (n,), q2 (m,) and covariances c (n, m), in float64.

    As accurate as covariances are, a thousandth of the time of `duals`: the tile driver takes the rows of c as points
    and unit vectors as the others, whose inner products are the entries of c.
    """
    n_threads, (n, m) = threads.resolve(n_threads), c.shape
    value, slope = np.empty((n, m)), np.empty((n, m))
    instruction = act.instruction
    parameters = () if instruction.varies else instruction.parameters
    q = np.concatenate([q1, q2])
    q = q[q > 0]
    bound = act, *((q.min(), q.max()) if len(q) else (1.0, 1.0)), np.dtype(float), False

    def prepare():
        program = _core.Program([(instruction.name, parameters, (1, 0, 0, 0))], 0)
        if instruction.varies:
            program.bind(0, series.data(*bound))
        return series.Prepared(program, {0: bound})

    def run(prepared):
        program = prepared.program
        tables = [
            _core.points(program, _core.start(program, side), 0, len(program), float, n_threads, True, None)
            for side in (q1, q2)
        ]
        for columns in arrays.blocks(m, BLOCK):
            x, y = arrays.contiguous(c[:, columns], np.dtype(float)), np.eye(min(columns.stop, m) - columns.start)
            table = tables[1][columns.start // _core.LANES : -(-columns.stop // _core.LANES)]
            limit = _core.LimitMap(program, x, tables[0], y, table, None, ("nngp", "nngp_dot"))
            grid = _core.Grid(n, len(y), _core.LANES, False, np.dtype(float))
            sink = _core.ArraySink([value[:, columns], None, slope[:, columns]])
            _core.run(limit, sink, grid, 0, grid.tiles, n_threads, None)

    if c.size:
        with threads.single_threaded_blas():
            series.until_complete(prepare, run, n_threads)
    return value, slope


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
