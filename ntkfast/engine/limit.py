"""Running the limit kernels: inputs are checked and lowered, points prepared, tiles run, outputs handed back."""

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import _core, series, threads
from ntkfast.engine.lower import lower
from ntkfast.networks import Activation
from ntkfast.support import arrays, memory, progress

OUTPUTS = _core.OUTPUTS
MAX_TILE_FLOPS = 2e9  # about 50 ms on one core: Ctrl-C is looked at between tiles
FLOPS_PER_LAYER = 60  # of one dual
MAX_TILE_BYTES = 3 * 2**20  # scratch of one thread
MIN_TILES = 12  # of the whole n x m matrix, so that several threads find work


def tile_size(n: int, m: int, entry_flops: float, entry_bytes: int) -> int:
    """Rows and columns of one rectangle, for entries of that cost and size, all outputs together.

    GEMM is fastest on large rectangles. The size depends on the problem alone, so that results do not depend on
    threads.
    """
    for size in range(512, _core.LANES, -_core.LANES):
        area = size * size
        if MIN_TILES * area <= n * m and entry_flops * area <= MAX_TILE_FLOPS and entry_bytes * area <= MAX_TILE_BYTES:
            return size
    return _core.LANES


@dataclass
class _Side:
    """The points on one side of the matrix: data, point table, diagonals (3, n) in long double."""

    x: np.ndarray
    table: np.ndarray
    diagonals: np.ndarray


def _load(array, name, dtype, n_threads):
    """The points as BLAS wants them, and their squared norms."""
    x = arrays.for_blas(array, name, dtype)
    squared_norms = _core.norms(x, n_threads)
    arrays.require_finite(x, squared_norms, name)
    return x, squared_norms


def _bind(code, all_norms, dtype, n_threads, gradient=False):
    """The program of the code, its series bound to data for the variances that these points have where they meet them;
    instruction -> the arguments of `series.data`. gradient: data that derivatives can be made of.
    """
    program, bound, done = code.program(), {}, 0
    states = [_core.start(program, norms) for norms in all_norms] if code.series else []
    for k, activation in code.series:
        for state in states:
            _core.points(program, state, done, k, dtype, n_threads, False, None)
        done = k
        q = np.concatenate([state[0] for state in states])
        q = np.asarray(q[(q > 0) & np.isfinite(q)], dtype=float)
        q = q[(q > 0) & np.isfinite(q)]
        bound[k] = activation, *((q.min(), q.max()) if len(q) else (1.0, 1.0)), dtype, gradient
        program.bind(k, series.data(*bound[k]))
    return program, bound


def _prepare(program, x, squared_norms, name, get, dtype, n_threads, with_table=True, report=None):
    state = _core.start(program, squared_norms)
    table = _core.points(program, state, 0, len(program), dtype, n_threads, with_table, report)
    diagonals, peaks = state[:3], {"nngp": state[3], "ntk": state[4], "nngp_dot": state[2]}
    for output in dict.fromkeys(("nngp", *get)):  # Σ is on every way
        arrays.require_fitting(peaks[output], dtype, name)
    return _Side(x, table, diagonals)


def _check_get(net, get):
    """get as a tuple of names that this network can give."""
    if not isinstance(get, str | tuple | list):
        raise TypeError(f"get: expected a name or a tuple of names, got {type(get).__name__}")
    get = (get,) if isinstance(get, str) else tuple(get)
    for output in get:
        if output not in OUTPUTS:
            raise ValueError(f"get: expected names out of {', '.join(OUTPUTS)}, got {output!r}")
    if len(get) != len(set(get)) or not get:
        raise ValueError(f"get: expected one or more different outputs, got {get!r}")
    if "nngp_dot" in get and not any(isinstance(layer, Activation) for layer in net.layers):
        raise ValueError("get: 'nngp_dot' is the derivative kernel of the last activation, and the network has none")
    return get


def _check_out(out, get, shape, dtype, inputs):
    """out as a list with one entry per output, None where there is none."""
    if out is None:
        return [None] * len(get)
    if len(out) != len(get):
        raise ValueError(f"out: expected {len(get)} arrays, one per output in get, got {len(out)}")
    for k, (given, name) in enumerate(zip(out, get, strict=True)):
        if given is not None:
            arrays.check_out(given, shape, dtype, inputs, "out" if len(get) == 1 else f"out[{k}]")
            inputs.append((given, f"the output {name}"))
    return list(out)


def points_of(X, Y, dtype):
    """X and Y (None: X again) as arrays, as they came, and the dtype to work in."""
    x = arrays.as_points(X, "X")
    y = x if Y is None or Y is X else arrays.as_points(Y, "Y", n_features=x.shape[1])
    return x, y, arrays.working_dtype(dtype, x, y)


def load(x, y, dtype, n_threads):
    """(name, points as BLAS wants them, squared norms) of X, and of Y unless it is the same."""
    loaded = [("X", *_load(x, "X", dtype, n_threads))]
    if not _same_points(x, y):
        loaded.append(("Y", *_load(y, "Y", dtype, n_threads)))
    return loaded


def _same_points(a, b):
    return a is b or (
        a.__array_interface__["data"] == b.__array_interface__["data"]
        and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
    )


def matrices(net, X, Y, get, out, dtype, n_threads, show):
    """The outputs named in get, each (n, m), in that order. Y None, or X itself: symmetric, each pair once."""
    progress.check(show)
    get = _check_get(net, get)
    n_threads = threads.resolve(n_threads)
    x_given, y_given, dtype = points_of(X, Y, dtype)
    shape = (len(x_given), len(y_given))
    out = _check_out(out, get, shape, dtype, [(x_given, "X"), (y_given, "Y")])
    missing = sum(given is None for given in out)
    what = f"X: the result of {missing} x {shape[0]} x {shape[1]} {dtype}"
    memory.require(missing * shape[0] * shape[1] * dtype.itemsize, what, "; out= can be a numpy.memmap")

    loaded = load(x_given, y_given, dtype, n_threads)
    symmetric = len(loaded) == 1
    code = lower(net, x_given.shape[1])
    if "nngp_dot" in get and code.dot < 0:
        raise ValueError("get: 'nngp_dot' needs a network with a Dense right after its last activation")
    results = [np.empty(shape, dtype) if given is None else given for given in out]
    planes = [results[get.index(output)] if output in get else None for output in OUTPUTS]
    swap = shape[1] < _core.LANES and shape[0] > shape[1]  # the long side along the lanes
    if swap:
        planes = [None if plane is None else plane.T for plane in planes]
    flops = 2 * x_given.shape[1] + FLOPS_PER_LAYER * net.depth
    tile = tile_size(*shape, flops, len(get) * dtype.itemsize)

    def fill(program):
        sides = [_prepare(program, points, norms, name, get, dtype, n_threads) for name, points, norms in loaded]
        x, y = (sides[-1], sides[0]) if swap else (sides[0], sides[-1])
        with np.errstate(over="ignore"):  # of an output that was not asked for
            diagonals = x.diagonals.astype(dtype) if symmetric else None
        _core.limit(program, x.x, x.table, y.x, y.table, diagonals, planes, tile, n_threads, report)

    with threads.single_threaded_blas(), progress.reporter(show, " ".join(get)) as report:
        with_tables(fill, code, [norms for _, _, norms in loaded], dtype, n_threads)
    return results


def with_tables(run, code, norms, dtype, n_threads, gradient=False):
    """run(program), again and again until no pair lacks a table near |ρ| = 1: they are made when a pair needs them."""
    while True:
        program, bound = _bind(code, norms, dtype, n_threads, gradient)
        result = run(program)
        missing = program.missing()
        if not missing:
            return result
        for k, pairs in missing.items():
            series.make_tables(*bound[k], pairs, n_threads)


def diagonals(net, X, get, out, dtype, n_threads, show):
    """The outputs named in get for the pairs (x_i, x_i), each (n,)."""
    progress.check(show)
    get = _check_get(net, get)
    n_threads = threads.resolve(n_threads)
    x = arrays.as_points(X, "X")
    dtype = arrays.working_dtype(dtype, x)
    out = _check_out(out, get, (len(x),), dtype, [(x, "X")])
    with progress.reporter(show, "diagonal") as report:
        points, norms = _load(x, "X", dtype, n_threads)
        program, _ = _bind(lower(net, x.shape[1]), [norms], dtype, n_threads)
        side = _prepare(program, points, norms, "X", get, dtype, n_threads, with_table=False, report=report)
    results = [np.empty(len(x), dtype) if given is None else given for given in out]
    for result, output in zip(results, get, strict=True):
        result[:] = side.diagonals[OUTPUTS.index(output)]
    return results
