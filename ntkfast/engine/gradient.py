"""Derivatives of the limit kernels by the weight_std and bias_std of every Dense layer.

What belongs to pairs is done in C, backwards through the program (src_c/backward.h): derivatives by the four numbers of
each layer, and by log q of both points before each dual. What belongs to points is done here, forwards along the
diagonal: the rate of log q by each hyperparameter. Their product is the derivative.
"""

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import _core, limit, series, threads
from ntkfast.engine.lower import Code, lower
from ntkfast.networks import Network
from ntkfast.support import arrays, memory, progress

OUTPUTS = ("nngp", "ntk")
FLOPS_PER_LAYER = 4 * limit.FLOPS_PER_LAYER


@dataclass
class _Problem:
    """A network's code, the points on both sides, and the parameters as C wants them.

    at: the instruction whose layer a parameter belongs to.  layer (parameters, 4): the rates of that layer's numbers.
    """

    code: Code
    loaded: list  # of (name, points, squared norms), one if symmetric
    at: np.ndarray
    layer: np.ndarray
    dtype: np.dtype
    n_threads: int

    @property
    def symmetric(self):
        return len(self.loaded) == 1

    @property
    def shape(self):
        return len(self.loaded[0][1]), len(self.loaded[-1][1])

    @property
    def tile(self):
        flops = 2 * self.loaded[0][1].shape[1] + FLOPS_PER_LAYER * len(self.code.parameters) // 2
        return limit.tile_size(*self.shape, flops, self.dtype.itemsize)

    def arguments(self, program, outputs):
        """What every call of C begins with."""
        sides = [
            limit._prepare(program, points, squares, name, outputs, self.dtype, self.n_threads)
            for name, points, squares in self.loaded
        ]
        x, y = sides[0], sides[-1]
        return program, x.x, x.table, y.x, y.table, self.symmetric

    def with_tables(self, run):
        """run(program), see `limit.with_tables`."""
        norms = [squares for _, _, squares in self.loaded]
        return limit.with_tables(run, self.code, norms, self.dtype, self.n_threads, gradient=True)

    def along(self, program, norms):
        """The rates of log q before each instruction, a list of arrays (parameters that come before it, n); those of
        Σ(x, x) and Θ(x, x), each (parameters, n).
        """
        numbers = _core.rates(program, norms, self.n_threads).astype(float)
        by_q, by_theta = (np.zeros((len(self.at), len(norms))) for _ in range(2))
        now, stack, rates = (np.asarray(norms), 0.0), [], []  # now: Σ(x, x) and Θ(x, x)
        for k, line in enumerate(self.code.lines):
            a, b, c, d = map(float, line.numbers)
            now, by_q, by_theta = BRANCHING.get(line.instruction.name, _stay)(line, stack, (now, by_q, by_theta))
            q, theta, value, slope, value_rate, slope_rate = numbers[k]
            before, after = np.searchsorted(self.at, [k, k + 1])
            rate = np.divide(by_q[:before], q, out=np.zeros_like(by_q[:before]), where=q > 0)
            rates.append(rate)
            by_theta[:before] = a * slope * by_theta[:before] + (a * theta * slope_rate + c * value_rate) * rate
            by_q[:before] = a * value_rate * rate
            da, db, dc, dd = self.layer[before:after].T[..., None]
            by_q[before:after] = da * value + db
            by_theta[before:after] = da * theta * slope + dc * value + dd
            now = a * value + b, a * slope * theta + c * value + d
        return rates, (by_q, by_theta)


def _stay(line, stack, state):
    return state


def _push(line, stack, state):
    now, *rates = state
    stack.append((now, *map(np.copy, rates)))
    return state


def _swap(line, stack, state):
    top = stack.pop()
    stack.append(state)
    return top


def _add(line, stack, state):
    (weight,) = map(float, line.instruction.parameters)
    _, top_q, top_theta = stack.pop()
    now, by_q, by_theta = state
    return now, by_q + weight * top_q, by_theta + weight * top_theta


def _multiply(line, stack, state):
    (top_sigma, top_theta), by_top_q, by_top_theta = stack.pop()
    (sigma, theta), by_q, by_theta = state
    return (
        (sigma, theta),
        sigma * by_top_q + top_sigma * by_q,
        theta * by_top_q + top_sigma * by_theta + sigma * by_top_theta + top_theta * by_q,
    )


# What instructions that work on the stack do to Σ(x, x) and Θ(x, x) and to their rates. The values after a sum or a
# product come from C.
BRANCHING = {"push": _push, "swap": _swap, "add": _add, "multiply": _multiply}


def _problem(net, X, Y, dtype, n_threads):
    n_threads = threads.resolve(n_threads)
    x, y, dtype = limit.points_of(X, Y, dtype)
    code = lower(net, x.shape[1])
    for _, activation in code.series:
        if series.jumping(activation):
            raise ValueError(
                f"gradient: activation {activation.name!r} jumps and is known by its Hermite series only, which has no "
                "derivatives; step, sign and rectified_monomial(0) have them"
            )
    at = np.array([parameter.line for parameter in code.parameters], dtype=np.intc)
    rates = np.array([parameter.rates for parameter in code.parameters], dtype=float)
    return _Problem(code, limit.load(x, y, dtype, n_threads), at, rates, dtype, n_threads)


def weighted(net: Network, X, weights, Y, get, dtype, n_threads, show):
    """Σ_ij weights[i, j] ∂K[i, j]/∂p for every hyperparameter p."""
    progress.check(show)
    output = _core.OUTPUTS.index(get)
    problem = _problem(net, X, Y, dtype, n_threads)
    given = arrays.real(weights, "weights")
    weights = _check_weights(given, problem)

    def run(program):
        arguments = problem.arguments(program, (get,))
        return program, *_core.weighted_gradient(*arguments, output, weights, problem.tile, problem.n_threads, report)

    with threads.single_threaded_blas(), progress.reporter(show, f"gradient of {get}") as report:
        program, layers, *by_points = problem.with_tables(run)
    total = np.einsum("pr,pr->p", problem.layer, layers[problem.at])
    if problem.symmetric:
        by_points = [sum(by_points)]
    for (_, _, norms), by_point in zip(problem.loaded, by_points, strict=True):
        rates, diagonals = problem.along(program, norms)
        for rate, weight in zip(rates, by_point, strict=True):
            total[: len(rate)] += rate @ weight
        if problem.symmetric:
            total += diagonals[output] @ weights.diagonal()
    if not np.isfinite(total).all():
        arrays.finite(given, "weights")
    return total.astype(problem.dtype)


def matrices(net: Network, X, Y, get, dtype, n_threads, show):
    """∂K/∂p (parameters, n, m) of each output in get."""
    progress.check(show)
    problem = _problem(net, X, Y, dtype, n_threads)
    shape = (len(problem.at), *problem.shape)
    memory.require(
        len(get) * int(np.prod(shape)) * problem.dtype.itemsize,
        f"X: the derivatives, {len(get)} x {' x '.join(map(str, shape))} {problem.dtype},",
    )
    results = [np.empty(shape, problem.dtype) for _ in get]

    def run(program):
        """Fill the results; the rates of the diagonal's outputs, if symmetric."""
        arguments, rates = problem.arguments(program, get), []
        for _, points, norms in problem.loaded:
            all_rates = np.zeros((len(problem.at), len(problem.code.lines), len(points)))
            of_points, of_outputs = problem.along(program, norms)
            for k, rate in enumerate(of_points):
                all_rates[: len(rate), k] = rate
            rates.append(all_rates)
        for name, out in zip(get, results, strict=True):
            _core.gradient_matrices(
                *arguments,
                _core.OUTPUTS.index(name),
                problem.at,
                problem.layer,
                rates[0],
                rates[-1],
                out,
                problem.tile,
                problem.n_threads,
                report,
            )
        return of_outputs

    with threads.single_threaded_blas(), progress.reporter(show, "gradient") as report:
        diagonals = problem.with_tables(run)
    if problem.symmetric:
        for name, out in zip(get, results, strict=True):
            for matrix, diagonal in zip(out, diagonals[_core.OUTPUTS.index(name)], strict=True):
                arrays.mirror(matrix.T)
                np.fill_diagonal(matrix, diagonal)
    return results


def _check_weights(weights, problem):
    """weights as a matrix of the working dtype with contiguous rows; transposed if the kernel is symmetric and that is
    contiguous.
    """
    if weights.shape != problem.shape:
        raise ValueError(f"weights: expected shape {problem.shape} as the kernel's, got {weights.shape}")
    if problem.symmetric and weights.flags.f_contiguous:
        weights = weights.T
    return np.ascontiguousarray(weights, dtype=problem.dtype)
