"""Derivatives of the limit kernels by the weight_std and bias_std of every Dense layer.

What belongs to pairs is done in C, backwards through the program (src_c/backward.h): derivatives by the four numbers of
each layer, and by log q of both points before each dual. What belongs to points is done here, forwards along the
diagonal: the rate of log q by each hyperparameter. Their product is the derivative.
"""

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import _core, arrays, limit, memory, progress, series, threads
from ntkfast.engine.lower import Code, lower
from ntkfast.networks import Network

OUTPUTS = ("nngp", "ntk")
FLOPS_PER_LAYER = 4 * limit.FLOPS_PER_LAYER


@dataclass
class _Problem:
    """A program with the points on both sides, and the parameters as C wants them.

    at: the instruction whose layer a parameter belongs to.  layer (parameters, 4): the rates of that layer's numbers.
    """

    code: Code
    program: _core.Program
    bound: dict
    sides: list  # of limit._Side, one if symmetric
    norms: list
    at: np.ndarray
    layer: np.ndarray
    dtype: np.dtype
    n_threads: int

    @property
    def symmetric(self):
        return len(self.sides) == 1

    @property
    def shape(self):
        return len(self.sides[0].x), len(self.sides[-1].x)

    @property
    def arguments(self):
        x, y = self.sides[0], self.sides[-1]
        return self.program, x.x, x.table, y.x, y.table, self.symmetric

    @property
    def tile(self):
        flops = 2 * self.sides[0].x.shape[1] + FLOPS_PER_LAYER * len(self.code.dense)
        return limit.tile_size(*self.shape, flops, self.dtype.itemsize)

    def along(self, side):
        """The rates of log q before each instruction, a list of arrays (parameters that come before it, n); those of
        Σ(x, x) and Θ(x, x), each (parameters, n).
        """
        numbers = _core.rates(self.program, self.norms[side], self.n_threads).astype(float)
        all_by_q = np.zeros((len(self.at), len(self.norms[side])))
        all_by_theta, copies, rates = all_by_q.copy(), [], []
        for k, (name, parameters, layer) in enumerate(self.code.instructions):
            a, c = float(layer[0]), float(layer[2])
            before, after = np.searchsorted(self.at, [k, k + 1])
            by_q, by_theta = all_by_q[:before], all_by_theta[:before]
            if name == "push":
                copies.append((by_q.copy(), by_theta.copy()))
            elif name == "add":
                scale = float(parameters[0])
                by_q *= scale
                by_theta *= scale
                for array, copy in zip((by_q, by_theta), copies.pop(), strict=True):
                    array[: len(copy)] += copy
            q, theta, value, slope, value_rate, slope_rate = numbers[k]
            rate = np.divide(by_q, q, out=np.zeros_like(by_q), where=q > 0)
            rates.append(rate)
            by_theta[:] = a * slope * by_theta + (a * theta * slope_rate + c * value_rate) * rate
            by_q[:] = a * value_rate * rate
            da, db, dc, dd = self.layer[before:after].T[..., None]
            all_by_q[before:after] = da * value + db
            all_by_theta[before:after] = da * theta * slope + dc * value + dd
        return rates, (all_by_q, all_by_theta)

    def check_reach(self):
        """Raise if a pair lies where no derivative is known."""
        for k in self.program.missing():
            activation, low, high = self.bound[k]
            reach = series.gradient_reach(activation, low, high, self.dtype)
            raise series.PrecisionError(
                f"activation {activation.name!r}: derivatives by hyperparameters come from its Hermite series, which "
                f"serves |ρ| <= {reach:.4f} for these variances; a pair of points is closer"
            )


def _problem(net, X, Y, dtype, n_threads, outputs):
    n_threads = threads.resolve(n_threads)
    x_given = arrays.as_points(X, "X")
    y_given = x_given if Y is None or Y is X else arrays.as_points(Y, "Y", n_features=x_given.shape[1])
    dtype = arrays.working_dtype(dtype, x_given, y_given)
    code = lower(net, x_given.shape[1])
    for _, activation in code.series:
        if series.jumping(activation):
            raise ValueError(
                f"gradient: activation {activation.name!r} jumps and is known by its Hermite series only, which has no "
                "derivatives; step, sign and rectified_monomial(0) have them"
            )
    loaded = [("X", *limit._load(x_given, "X", dtype, n_threads))]
    if not limit._same_points(x_given, y_given):
        loaded.append(("Y", *limit._load(y_given, "Y", dtype, n_threads)))
    norms = [squares for _, _, squares in loaded]
    program, bound = limit._bind(code, norms, dtype, n_threads, gradient=True)
    sides = [
        limit._prepare(program, points, squares, name, outputs, dtype, n_threads) for name, points, squares in loaded
    ]
    at, layer = _parameters(code)
    return _Problem(code, program, bound, sides, norms, at, layer, dtype, n_threads)


def _parameters(code):
    """weight_std and bias_std of each Dense: which instruction's layer they change, and the rates of its numbers."""
    at, rates = [], []
    for k, dense in code.dense:
        a, _, c, _ = code.instructions[k][2]
        w, beta = np.longdouble(dense.weight_std), np.longdouble(dense.bias_std)
        at += [k, k]
        rates += [[2 * a / w, 0, 2 * c / w, 0], [0, 2 * beta, 0, 2 * beta * dense.bias_lr]]
    return np.array(at, dtype=np.intc), np.array(rates, dtype=float)


def weighted(net: Network, X, weights, Y, get, dtype, n_threads, show):
    """Σ_ij weights[i, j] ∂K[i, j]/∂p for every hyperparameter p."""
    progress.check(show)
    output = _core.OUTPUTS.index(get)
    problem = _problem(net, X, Y, dtype, n_threads, (get,))
    weights = _check_weights(weights, problem)
    with threads.single_threaded_blas(), progress.reporter(show, f"gradient of {get}") as report:
        layers, *by_points = _core.weighted_gradient(
            *problem.arguments, output, weights, problem.tile, problem.n_threads, report
        )
    problem.check_reach()
    total = np.einsum("pr,pr->p", problem.layer, layers[problem.at])
    if problem.symmetric:
        by_points = [sum(by_points)]
    for side, by_point in enumerate(by_points):
        rates, diagonals = problem.along(side)
        for rate, weight in zip(rates, by_point, strict=True):
            total[: len(rate)] += rate @ weight
        if problem.symmetric:
            total += diagonals[output] @ weights.diagonal()
    if not np.isfinite(total).all():
        _require_finite(weights)
    return total.astype(problem.dtype)


def matrices(net: Network, X, Y, get, dtype, n_threads, show):
    """∂K/∂p (parameters, n, m) of each output in get."""
    progress.check(show)
    problem = _problem(net, X, Y, dtype, n_threads, get)
    shape = (len(problem.at), *problem.shape)
    memory.require(
        len(get) * int(np.prod(shape)) * problem.dtype.itemsize,
        f"X: the derivatives, {len(get)} x {' x '.join(map(str, shape))} {problem.dtype},",
    )
    rates, diagonals = [], []
    for side, points in enumerate(problem.sides):
        all_rates = np.zeros((len(problem.at), len(problem.code.instructions), len(points.x)))
        of_points, of_outputs = problem.along(side)
        for k, rate in enumerate(of_points):
            all_rates[: len(rate), k] = rate
        rates.append(all_rates)
        diagonals.append(of_outputs)
    results = []
    with threads.single_threaded_blas(), progress.reporter(show, "gradient") as report:
        for name in get:
            output, out = _core.OUTPUTS.index(name), np.empty(shape, problem.dtype)
            _core.gradient_matrices(
                *problem.arguments,
                output,
                problem.at,
                problem.layer,
                rates[0],
                rates[-1],
                out,
                problem.tile,
                problem.n_threads,
                report,
            )
            problem.check_reach()
            if problem.symmetric:
                for matrix, diagonal in zip(out, diagonals[0][output], strict=True):
                    _mirror(matrix, problem.tile)
                    np.fill_diagonal(matrix, diagonal)
            results.append(out)
    return results


def _mirror(matrix, tile):
    """Copy what is above the diagonal to below it, tile by tile."""
    for start in range(0, len(matrix), tile):
        stop = start + tile
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
        block = matrix[start:stop, start:stop]
        block[:] = np.triu(block) + np.triu(block, 1).T


def _check_weights(weights, problem):
    """weights as a matrix of the working dtype with contiguous rows; transposed if the kernel is symmetric and that is
    contiguous.
    """
    given = np.asarray(weights)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"weights: expected real numbers, got dtype {given.dtype}")
    if given.shape != problem.shape:
        raise ValueError(f"weights: expected shape {problem.shape} as the kernel's, got {given.shape}")
    if problem.symmetric and given.flags.f_contiguous:
        given = given.T
    return np.ascontiguousarray(given, dtype=problem.dtype)


def _require_finite(weights):
    """Raise for the first weight that is not finite."""
    bad = np.argwhere(~np.isfinite(weights))
    if len(bad):
        place = tuple(int(k) for k in bad[0])
        raise ValueError(f"weights: expected finite numbers, got {weights[place]} at index {place}")
