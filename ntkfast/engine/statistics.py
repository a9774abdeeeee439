"""Statistics of networks of finite width to order 1/n, for activations with two slopes: the map of src_c/widths.h.

docs/beyond.md derives the recursions. Here are the numbers that each point brings, and the run.
"""

from __future__ import annotations

import numpy as np

from ntkfast.engine import _core, threads
from ntkfast.engine.lower import Code
from ntkfast.engine.problem import Problem
from ntkfast.support import arrays, progress

NAMES = _core.STATISTICS
FLOPS_PER_LAYER = 1000


def slopes(line) -> tuple[float, float] | None:
    """a and b if the line's φ is a min(x, 0) + b max(x, 0), else None."""
    if line.activation is None:
        return (1.0, 1.0)
    return line.instruction.parameters if line.instruction.is_two_slopes else None


def diagonals(code: Code, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K and H (layers, n) of each point with itself after each affine layer."""
    a, b, c, d = (float(number) for number in code.lines[0].numbers)
    K, H = [a * norms + b], [c * norms + d]
    with np.errstate(over="ignore", invalid="ignore"):  # reported by the caller
        for line in code.lines[1:]:
            (below, above), (a, b, c, d) = slopes(line), map(float, line.numbers)
            mean = (below**2 + above**2) / 2
            K.append(a * mean * K[-1] + b)
            H.append(a * mean * H[-1] + c * mean * K[-2] + d)
    return np.array(K), np.array(H)


def _numbers(code, points):
    """The numbers of nf_width_side; raise if a kernel overflows."""
    K, H = diagonals(code, points.norms)
    arrays.require_fitting(np.maximum(K.max(axis=0), H.max(axis=0)), np.dtype(np.float64), points.name)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(K > 0, 1 / np.sqrt(K), 0.0)
        rows = [inverse[0]]
        for k, line in enumerate(code.lines[1:]):
            (below, above), (a, b, _, _) = slopes(line), map(float, line.numbers)
            alpha = np.sqrt(a * (below**2 + above**2) / 2 * (K[k] / K[k + 1]))
            rows += [np.where(K[k + 1] > 0, alpha, 1.0), np.sqrt(b) * inverse[k + 1], inverse[k + 1]]
    rows.append(np.sqrt(K[-1]))
    numbers = np.zeros((len(rows), -(-len(points.norms) // _core.LANES) * _core.LANES))
    numbers[:, : len(points.norms)] = rows
    return numbers


def _hidden(code, inverse_widths):
    rows = []
    for line, inverse_width in zip(code.lines[1:], inverse_widths, strict=True):
        (below, above), (a, _, c, d) = slopes(line), map(float, line.numbers)
        norm = np.sqrt((below**2 + above**2) / 2)
        rows.append((below / norm, above / norm, c / a, d, inverse_width))
    return np.array(rows, dtype=float).reshape(len(rows), 5)


def run(problem: Problem, inverse_widths, n_outputs: int, get, results, show=None) -> None:
    """Write the statistics named in get into arrays (n, m), in that order.

    The problem is in float64, and all of its activations have two slopes. inverse_widths: 1/n of each hidden layer.
    """
    n, m = problem.shape
    if m < _core.LANES and n > m:  # the long side along the lanes
        run(problem.transposed(), inverse_widths, n_outputs, get, [result.T for result in results], show)
        return
    code = problem.code
    numbers = [_numbers(code, points) for points in problem.points]
    first = [float(number) for number in code.lines[0].numbers]
    x, y = problem.points[0].x, problem.points[-1].x
    statistics = _core.FiniteWidthMap(
        x, numbers[0], y, numbers[-1], first, _hidden(code, inverse_widths), n_outputs, get
    )
    sink = _core.ArraySink([results[get.index(name)] if name in get else None for name in NAMES])
    grid = problem.grid(len(get), FLOPS_PER_LAYER)
    with threads.single_threaded_blas(), progress.reporter(show, "finite width") as report:
        _core.run(statistics, sink, grid, 0, grid.tiles, problem.n_threads, report)
