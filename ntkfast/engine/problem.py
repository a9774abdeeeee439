"""A plan: a network and its points, prepared once and run any number of times.

Creating a Problem checks and converts the points, computes their norms, and lowers the network. The first run binds the
data of Hermite series and fills the point tables; later runs reuse them. `with_network` keeps the points and replaces
the network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ntkfast.engine import _core, gradient, nearness, outputs, series, threads
from ntkfast.engine.lower import Code, lower
from ntkfast.engine.outputs import OUTPUTS
from ntkfast.networks import Network
from ntkfast.networks.network import check_network
from ntkfast.support import arrays, progress

MAX_TILE_FLOPS = 2e9  # about 50 ms on one core: Ctrl-C is checked between tiles
FLOPS_PER_LAYER = 60  # of one dual
MAX_TILE_BYTES = 3 * 2**20  # scratch of one thread
MOST_VECTORS = 128  # of one pass: each tile that is being made holds two sums for each of them
MIN_TILES = 12  # of the whole n x m matrix, so that several threads find work
STRIP_BYTES = 2**22  # of a tile of whole rows, which is read twice: from the last cache
LEAST_OF_STRIP, MOST_OF_STRIP = 16, 128  # rows: the products of a strip copy all columns' points once
WITHOUT_MEMORY = (  # ends the error about a matrix that does not fit
    "; store.compute(net, X, path) computes it on disk, KernelOperator(net, X) its products, NystromRegression learns "
    "without it, and out= can be a numpy.memmap"
)
DEEP = 6  # with more activations than this, programs on float32 act in float64: rounding would add up beyond 2e-6


def tile_size(n: int, m: int, entry_flops: float, entry_bytes: int) -> int:
    """Rows and columns of one rectangle, for entries of that cost and size, all outputs together.

    GEMM is fastest on large rectangles. The size depends only on the problem, so that results do not depend on the
    number of threads.
    """
    for size in range(512, _core.LANES, -_core.LANES):
        area = size * size
        if MIN_TILES * area <= n * m and entry_flops * area <= MAX_TILE_FLOPS and entry_bytes * area <= MAX_TILE_BYTES:
            return size
    return _core.LANES


def strip_height(row_bytes: int) -> int:
    """Of a tile of whole rows; a multiple of the rows that BLAS rounds alike."""
    return max(LEAST_OF_STRIP, min(MOST_OF_STRIP, STRIP_BYTES // row_bytes // _core.EDGE * _core.EDGE))


Window: TypeAlias = tuple[slice, slice]  # rows and columns of a part of the matrix, with start and stop


@dataclass(frozen=True)
class Points:
    """The points on one side of the matrix in the layout that BLAS needs, and their squared norms."""

    name: str
    x: np.ndarray
    norms: np.ndarray


@dataclass(frozen=True)
class Side:
    """Points with their table, their diagonals (3, n) and the largest value of each output anywhere in the program."""

    points: Points
    table: np.ndarray
    diagonals: np.ndarray
    peaks: dict[str, np.ndarray]
    inverse: np.ndarray | None = None  # see `nearness.Search`

    def part(self, rows: slice) -> Side:
        """Some of the points, from a multiple of the lanes on."""
        blocks = slice(rows.start // _core.LANES, -(-rows.stop // _core.LANES))
        points = Points(self.points.name, self.points.x[rows], self.points.norms[rows])
        inverse = None if self.inverse is None else self.inverse[rows.start : blocks.stop * _core.LANES]
        return Side(points, self.table[blocks], self.diagonals[:, rows], self.peaks, inverse)


@dataclass(frozen=True)
class _Ready(series.Prepared):
    """A program bound to its data, and both sides (the same one twice if symmetric)."""

    sides: tuple[Side, Side]
    search: nearness.Search | None

    def part(self, window: Window) -> _Ready:
        """For the points of a window."""
        sides = tuple(side.part(points) for side, points in zip(self.sides, window, strict=True))
        return replace(self, sides=sides)

    def limit(self, diagonals, get):
        """The map of these outputs."""
        x, y = self.sides
        limit = _core.LimitMap(self.program, x.points.x, x.table, y.points.x, y.table, diagonals, get)
        if self.search is not None:
            limit.nearby(x.points.norms, x.inverse, y.points.norms, y.inverse, self.search.shift, self.search.bound)
        return limit

    def gradient(self, kernel):
        """The map of the derivatives of this kernel, which has the precision of the points at any depth."""
        x, y = self.sides
        with np.errstate(over="ignore"):  # to inf: what is not finite in the end is refused
            tables = [side.table.astype(side.points.x.dtype, copy=False) for side in self.sides]
        return _core.GradientMap(self.program, x.points.x, tables[0], y.points.x, tables[1], kernel)


class Problem:
    """A network and its points.

    Parameters
    ----------
    net : Network
    X, Y : array_like, shapes (n, d) and (m, d)
        Y None, or X itself: symmetric, each pair once.
    derivatives : bool
        Whether `gradient` or `gradients` will be called: Hermite series then have the terms that these need, so that
        everything is prepared once.
    dtype : {float32, float64}, optional
    n_threads : int, optional

    Attributes
    ----------
    net, n_threads
    given : list of (ndarray, str)
        The points as passed in, and their names: what `out` must not overlap.
    shape : (int, int)
    symmetric : bool
    dtype : numpy.dtype
    """

    def __init__(self, net: Network, X, Y=None, *, derivatives=False, dtype=None, n_threads=None):
        self.net = check_network(net)
        threads.resolve(n_threads)
        self._n_threads = n_threads
        x = arrays.as_points(X, "X")
        y = x if Y is None or Y is X else arrays.as_points(Y, "Y", n_features=x.shape[1])
        self.dtype = arrays.working_dtype(dtype, x, y)
        self.given = [(x, "X"), (y, "Y")]
        self.shape, self.symmetric = (len(x), len(y)), _same_points(x, y)
        self._points: list[Points] | None = None
        self._derivatives = derivatives
        self._ready: _Ready | None = None

    @property
    def n_threads(self) -> int:
        """Of this process: a child that was forked has one."""
        return threads.resolve(self._n_threads)

    def __getstate__(self):  # programs and their tables are made again, and so are points
        return self.__dict__ | {"_ready": None, "_points": None}

    def __setstate__(self, state):
        self.__dict__ = state
        (x, x_name), (y, y_name) = self.given
        left = arrays.aligned(x)
        self.given = [(left, x_name), (left if y is x else arrays.aligned(y), y_name)]

    @property
    def code(self) -> Code:
        return lower(self.net, self.given[0][0].shape[1])

    @property
    def arithmetic(self) -> np.dtype:
        """What the program computes in."""
        is_deep = sum(line.activation is not None for line in self.code.lines) > DEEP
        return np.dtype(np.float64) if is_deep else self.dtype

    @property
    def points(self) -> list[Points]:
        """Of both sides, one if symmetric; loaded on first use."""
        if self._points is None:
            self._points = [self._load(*side) for side in (self.given[:1] if self.symmetric else self.given)]
        return self._points

    def load(self) -> None:
        """Check that all numbers are finite, and that the program can be made, before anything is asked for."""
        _ = self.points, self.code.program()

    def _load(self, array, name):
        x = arrays.for_blas(array, name, self.dtype)
        norms = _core.norms(x, self.n_threads)
        arrays.require_finite(x, norms, name)
        return Points(name, x, norms)

    def with_network(self, net: Network) -> Problem:
        """The same points under another network."""
        other = copy.copy(self)
        other.net, other._points, other._ready = check_network(net), self.points, None
        return other

    @property
    def _is_tall(self):
        """Whether the transpose is computed instead, with the long side along the lanes."""
        n, m = self.shape
        return m < _core.LANES and n > m

    @property
    def _has_tiny_points(self) -> bool:
        """Whether products of float32 points underflow: these lose digits, of which derivatives by the points consist.

        (The kernels of such points leave float32, too; their derivatives by the points do not.)
        """
        least = np.finfo(np.float32).tiny / np.finfo(np.float32).eps
        tiny = (((points.norms > 0) & (points.norms < least)).any() for points in self.points)
        return self.dtype == np.float32 and any(tiny)

    def in_float64(self) -> Problem:
        """The same network and points in float64."""
        if self.dtype == np.float64:
            return self
        other = copy.copy(self)
        other.dtype, other._points, other._ready = np.dtype(np.float64), None, None
        return other

    def transposed(self) -> Problem:
        """The problem whose matrix is the transpose of this one's."""
        other = copy.copy(self)
        other.given, other.shape = self.given[::-1], self.shape[::-1]
        other._points = self.points[::-1]
        if self._ready is not None:
            other._ready = replace(self._ready, sides=self._ready.sides[::-1])
        return other

    def rows(self, indices: np.ndarray) -> Problem:
        """The problem of some of the rows; never symmetric."""
        other = copy.copy(self)
        left, right = self.points[0], self.points[-1]
        chosen = Points("X", np.ascontiguousarray(left.x[indices]), left.norms[indices])
        other.given, other.shape = [(chosen.x, "X"), (right.x, "Y")], (len(chosen.x), self.shape[1])
        other._points, other.symmetric = [chosen, right], False
        if self._ready is None:
            self._ready = self._make_ready()
        side = self._side(self._ready.program, chosen, search=self._ready.search)
        other._ready = replace(self._ready, sides=(side, self._ready.sides[1]))
        return other

    # ---- preparation ---------------------------------------------------------------------------------------------

    def _bind(self):
        """The program, its series bound to data for the variances that these points have on reaching them."""
        norms = [points.norms for points in self.points]
        return series.bind(self.code, norms, self.arithmetic, self._derivatives, self.n_threads)

    def _side(self, program, points, with_table=True, report=None, search=None):
        arithmetic, state = self.arithmetic, _core.start(program, points.norms)
        table = _core.points(program, state, 0, len(program), arithmetic, self.n_threads, with_table, report)
        peaks = {"nngp": state[3], "ntk": state[4], "nngp_dot": state[2]}
        return Side(points, table, state[:3], peaks, search and search.inverse(points.norms, arithmetic))

    def _make_ready(self):
        prepared = self._bind()
        program = prepared.program
        norms = np.concatenate([points.norms for points in self.points])
        search = nearness.search(self.code, program, norms, self.dtype, self.arithmetic)
        sides = [self._side(program, points, search=search) for points in self.points]
        return _Ready(program, prepared.bound, (sides[0], sides[-1]), search)

    def _require_fitting(self, sides, get):
        for side in sides:
            for output in dict.fromkeys(("nngp", *get)):  # every output is computed from Σ
                arrays.require_fitting(side.peaks[output], self.dtype, side.points.name)

    def _until_complete(self, run, report):
        """run(ready), see `series.until_complete`; the prepared data are kept."""
        kept = self._ready

        def prepare():
            nonlocal kept
            ready, kept = kept or self._make_ready(), None
            return ready

        self._ready, result = series.until_complete(prepare, run, self.n_threads, report)
        return result

    def _with_derivatives(self):
        """This problem if its series have the terms that derivatives need, else one whose series have."""
        if self._derivatives or not self.code.series:
            return self
        other = copy.copy(self)
        other._points, other._derivatives, other._ready = self.points, True, None
        return other

    # ---- running -------------------------------------------------------------------------------------------------

    def check(self, get) -> tuple[str, ...]:
        """get as a tuple of names of outputs that this network has."""
        get = outputs.names(get)
        if "nngp_dot" in get and self.code.dot < 0:
            raise ValueError(
                "get: 'nngp_dot' is the derivative kernel of the last activation, with a Dense right after it, and the "
                "network has none"
            )
        return get

    def tile(self, n_outputs: int = 1, flops_per_layer: float = FLOPS_PER_LAYER) -> int:
        """Rows and columns of a tile."""
        flops = 2 * self.given[0][0].shape[1] + flops_per_layer * len(self.code.parameters) // 2
        return tile_size(*self.shape, flops, n_outputs * self.dtype.itemsize)

    def grid(self, n_outputs: int = 1, flops_per_layer: float = FLOPS_PER_LAYER, window: Window | None = None):
        """How the matrix, or a window of it, is divided into tiles."""
        shape, symmetric = self.shape, self.symmetric
        if window is not None:
            shape = tuple(side.stop - side.start for side in window)
            symmetric = symmetric and window[0] == window[1]
        return _core.Grid(*shape, self.tile(n_outputs, flops_per_layer), symmetric, self.dtype)

    def run(
        self,
        sink: _core.Sink | None,
        get,
        *,
        tiles: slice | None = None,
        window: Window | None = None,
        grid: _core.Grid | None = None,
        show=None,
    ) -> None:
        """Send the outputs named in get to a sink; None: nowhere. show: see `progress.reporter`.

        window: only these rows and columns, which begin and end where tiles do; the sink counts from there. Of a
        symmetric matrix: on the diagonal, or above it. grid: of the sink, else `self.grid(len(get), window=window)`.
        tiles: only those with these numbers.
        """
        progress.check(show)
        get = self.check(get)
        grid = grid or self.grid(len(get), window=window)
        tiles = slice(0, grid.tiles) if tiles is None else tiles

        def fill(ready):
            self._require_fitting(ready.sides, get)
            ready = ready if window is None else ready.part(window)
            diagonals = None
            if self.symmetric:
                with np.errstate(over="ignore"):  # of an output that was not requested
                    diagonals = ready.sides[0].diagonals.astype(self.dtype)
            limit, sink_ = ready.limit(diagonals, get), sink or _core.Sink()
            _core.run(limit, sink_, grid, tiles.start, tiles.stop, self.n_threads, report)

        with threads.single_threaded_blas(), progress.reporter(show, " ".join(get)) as report:
            self._until_complete(fill, report)

    def matrices(self, get, out=None, show=None, window: Window | None = None) -> list[np.ndarray]:
        """The outputs named in get, each (n, m), in that order. out: a sequence with an array or None for each.

        window: only this part, see `run`; to the last bit that of the whole matrices.
        """
        progress.check(show)
        get = self.check(get)
        shape = self.shape if window is None else tuple(side.stop - side.start for side in window)
        results = self._results(get, shape, out, WITHOUT_MEMORY)
        planes = [results[get.index(output)] if output in get else None for output in OUTPUTS]
        if self._is_tall:
            turned = [None if plane is None else plane.T for plane in planes]
            if self._ready is None:
                self._ready = self._make_ready()  # kept here
            self.transposed().run(_core.ArraySink(turned), get, window=window and window[::-1], show=show)
        else:
            self.run(_core.ArraySink(planes), get, window=window, show=show)
        return results

    def product(self, kernel: str, vectors, show=None, tiles: slice | None = None) -> np.ndarray:
        """K V (n, k) in float64 for vectors V (m, k), without the matrix. tiles: what these contribute, see `run`."""
        result = np.empty((self.shape[0], vectors.shape[1]))
        for columns in arrays.blocks(vectors.shape[1], MOST_VECTORS):
            sink = _core.VectorSink(kernel, self.shape[0], vectors[:, columns])
            self.run(sink, (kernel,), tiles=tiles, show=show)
            result[:, columns] = sink.result()
        return result

    def normal_product(self, kernel: str, vectors, show=None) -> np.ndarray:
        """Kᵀ (K V), (m, k), in float64 for vectors V (m, k), in one pass over a matrix that is not kept."""
        (n, m), result = self.shape, np.empty(vectors.shape)
        width = -(-m // _core.LANES) * _core.LANES
        grid = _core.Grid(n, m, strip_height(width * self.dtype.itemsize), False, self.dtype, width)
        for columns in arrays.blocks(vectors.shape[1], MOST_VECTORS):
            sink = _core.NormalSink(kernel, vectors[:, columns])
            self.run(sink, (kernel,), grid=grid, show=show)
            result[:, columns] = sink.result()
        return result

    def diagonals(self, get, out=None, show=None) -> list[np.ndarray]:
        """The outputs named in get for the pairs (x_i, x_i), each (n,). out: as in `matrices`."""
        progress.check(show)
        get = self.check(get)
        results = self._results(get, self.shape[:1], out, "")
        if self._ready is not None:
            side = self._ready.sides[0]
        else:
            with progress.reporter(show, "diagonal") as report:
                side = self._side(self._bind().program, self.points[0], with_table=False, report=report)
        self._require_fitting([side], get)
        for result, output in zip(results, get, strict=True):
            result[:] = side.diagonals[OUTPUTS.index(output)]
        return results

    def results(self, names, out=None, hint="; out= can be a numpy.memmap") -> list[np.ndarray]:
        """An array (n, m) for each of these names: that of out, or a new one."""
        return self._results(names, self.shape, out, hint)

    def _results(self, get, shape, out, hint):
        """An array for each output: the given one, or a new one."""
        out = [None] * len(get) if out is None else list(out)
        if len(out) != len(get):
            raise ValueError(f"out: expected {len(get)} arrays, one per output in get, got {len(out)}")
        apart = list(self.given)
        for k, (given, name) in enumerate(zip(out, get, strict=True)):
            if given is not None:
                arrays.check_out(given, shape, self.dtype, apart, "out" if len(get) == 1 else f"out[{k}]")
                apart.append((given, f"the output {name}"))
        return arrays.fill_up(out, shape, self.dtype, hint)

    # ---- derivatives ---------------------------------------------------------------------------------------------

    def gradient(self, weights, kernel: str, show=None) -> np.ndarray:
        """Σ_ij weights[i, j] ∂K[i, j]/∂p for every hyperparameter p, in the order of `hyperparameters`."""
        return self.vjp(weights, kernel, inputs=False, show=show)[0]

    def vjp(self, weights, kernel: str, *, inputs: bool, show=None) -> tuple[np.ndarray, list[np.ndarray]]:
        """Σ_ij weights[i, j] ∂K[i, j] with respect to every hyperparameter, as in `gradient`, and, with `inputs`, with
        respect to the points of each side, in one array if symmetric.
        """
        progress.check(show)
        output = OUTPUTS.index(outputs.kernel(kernel))
        parameters = gradient.Parameters.of(self.code)
        given = arrays.real(weights, "weights")
        weights = self._check_weights(given)
        if inputs and self._has_tiny_points:
            total, by_inputs = self.in_float64().vjp(weights, kernel, inputs=True, show=show)
            return total.astype(self.dtype), [result.astype(self.dtype) for result in by_inputs]
        if self._is_tall:
            total, by_inputs = self.transposed().vjp(weights.T, kernel, inputs=inputs, show=show)
            return total, by_inputs[::-1]

        def run(ready):
            self._require_fitting(ready.sides, (kernel,))
            grid = self.grid(1, gradient.FLOPS_PER_LAYER)
            sink = _core.GradientSink(inputs)
            derivatives = ready.gradient(kernel).weighted(weights, sink)
            _core.run(derivatives, sink, grid, 0, grid.tiles, self.n_threads, report)
            return ready.program, sink

        with threads.single_threaded_blas(), progress.reporter(show, f"gradient of {kernel}") as report:
            program, sums = self._with_derivatives()._until_complete(run, report)
        total = np.einsum("pr,pr->p", parameters.layer, sums.layers[parameters.at])
        by_points, by_inputs = [sums.by_row, sums.by_column], [sums.of_rows, sums.of_columns]
        if self.symmetric:
            by_points, by_inputs = [sum(by_points)], by_inputs[:1]
        for points, by_point, by_input in zip(self.points, by_points, by_inputs, strict=True):
            numbers = _core.rates(program, points.norms, self.n_threads)
            rates, diagonals = parameters.along(numbers)
            for rate, weight in zip(rates, by_point, strict=True):
                total[: len(rate)] += rate @ weight
            if self.symmetric:
                total += diagonals[output] @ weights.diagonal()
            if inputs:
                (rates, diagonals) = gradient.Parameters.norms(self.code).along(numbers)
                by_norm = sum(rate[0] * weight for rate, weight in zip(rates, by_point, strict=True))
                if self.symmetric:
                    by_norm += diagonals[output][0] * weights.diagonal()
                gradient.add_norms(by_input, by_norm, points)
        results = [total, *(by_inputs if inputs else [])]
        if not all(np.isfinite(result).all() for result in results):
            arrays.finite(given, "weights")
        total, *by_inputs = (result.astype(self.dtype, copy=False) for result in results)
        return total, by_inputs

    def diagonal_vjp(self, weights, kernel: str) -> tuple[np.ndarray, np.ndarray]:
        """Σ_i weights[i] ∂K(x_i, x_i), as `vjp` gives it: with respect to every hyperparameter, and to the points."""
        output = OUTPUTS.index(outputs.kernel(kernel))
        parameters, points = gradient.Parameters.of(self.code), self.points[0]
        with threads.single_threaded_blas():
            program = self._with_derivatives()._bind().program
        numbers = _core.rates(program, points.norms, self.n_threads)
        total = parameters.along(numbers)[1][output] @ weights
        by_norm = gradient.Parameters.norms(self.code).along(numbers)[1][output][0] * weights
        by_input = np.zeros(points.x.shape)
        gradient.add_norms(by_input, by_norm, points)
        return total.astype(self.dtype), by_input.astype(self.dtype, copy=False)

    def gradients(self, get, show=None, directions=None) -> list[np.ndarray]:
        """∂K/∂p (parameters, n, m) of each output in get.

        directions (k, parameters): instead Σ_p directions[i, p] ∂K/∂p for each of them, (k, n, m).
        """
        progress.check(show)
        get = outputs.names(get, outputs.KERNELS)
        parameters = gradient.Parameters.of(self.code)

        def towards(rates):
            return rates if directions is None else np.tensordot(directions, rates, 1)

        layers = towards(parameters.layers())
        first = layers.any(axis=2).argmax(axis=1).astype(np.intc)
        shape = (len(layers), *self.shape)
        results = arrays.fill_up([None] * len(get), shape, self.dtype, "", what="the derivatives")

        def run(ready):
            """Fill the results; the rates of the diagonal's outputs, if symmetric."""
            self._require_fitting(ready.sides, get)
            grid, rates = self.grid(1, gradient.FLOPS_PER_LAYER), []
            for points in self.points:
                of_points, of_outputs = parameters.along(_core.rates(ready.program, points.norms, self.n_threads))
                rates.append(towards(parameters.padded(of_points, len(points.x))))
            for name, result in zip(get, results, strict=True):
                derivatives = ready.gradient(name)
                derivatives.matrices(first, layers, rates[0], rates[-1], result)
                _core.run(derivatives, _core.Sink(), grid, 0, grid.tiles, self.n_threads, report)
            return [towards(of_output) for of_output in of_outputs]

        with threads.single_threaded_blas(), progress.reporter(show, "gradient") as report:
            diagonals = self._with_derivatives()._until_complete(run, report)
        if self.symmetric:
            for name, result in zip(get, results, strict=True):
                for matrix, diagonal in zip(result, diagonals[OUTPUTS.index(name)], strict=True):
                    arrays.mirror(matrix.T)
                    np.fill_diagonal(matrix, diagonal)
        return results

    def _check_weights(self, weights):
        """weights as a matrix of the working dtype with contiguous rows; transposed if the kernel is symmetric and the
        transpose is contiguous.
        """
        if weights.shape != self.shape:
            raise ValueError(f"weights: expected shape {self.shape} as of the kernel, got {weights.shape}")
        if self.symmetric and weights.flags.f_contiguous:
            weights = weights.T
        return arrays.contiguous(weights, self.dtype)


def _same_points(a, b):
    return a is b or (
        a.__array_interface__["data"] == b.__array_interface__["data"]
        and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
    )
