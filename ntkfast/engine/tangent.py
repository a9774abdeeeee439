"""Running the empirical kernels: sums of Hadamard products of Gram matrices in the tile driver."""

from ntkfast.engine import _core, threads
from ntkfast.engine.problem import tile_size


def hadamard_sum(terms, out, symmetric, n_threads, report):
    """Write Σ (weight a·a' + bias) (Σ_k b_k·b'_k) into out (n, m); terms as in `_core.TangentMap`."""
    flops = max(
        2 * (0 if a is None else a.shape[1]) + 2 * (0 if b is None else b.shape[0] * b.shape[2])
        for a, _, b, _, _, _ in terms
    )
    tile = tile_size(*out.shape, flops, 3 * out.itemsize)  # two of the three planes are scratch
    grid = _core.Grid(*out.shape, tile, symmetric, out.dtype)
    tangent, sink = _core.TangentMap(terms, out.itemsize == 4), _core.ArraySink([out])
    with threads.single_threaded_blas():
        _core.run(tangent, sink, grid, 0, grid.tiles, n_threads, report)
