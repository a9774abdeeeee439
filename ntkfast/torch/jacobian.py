"""The Jacobian of a module with respect to some of its parameters, one block of columns at a time."""

from __future__ import annotations

import numpy as np


def blocks(f, names, sets, k, budget, report):
    """Yield tuples of arrays (n, k, p), one for each set of points: ∂f_k(x_i)/∂θ_p for the next p columns.

    names: the parameters that form the columns, in this order. budget: bytes; half of them for the arrays, which are
    reused for each block, the rest for the gradients from which they are cut. report: None, or called with the numbers
    of finished entries and of all entries.
    """
    size = f.numpy_dtype.itemsize
    rows = k * sum(map(len, sets))
    width = max(1, min(sum(f.trained[name].numel() for name in names), budget // (2 * size * rows)))
    stores = [np.empty(len(points) * k * width, f.numpy_dtype) for points in sets]
    pieces = list(_pieces(f, names, width))
    done, total = 0, len(pieces) * rows
    for block in pieces:
        columns = sum(stop - start for _, start, stop in block)
        arrays = tuple(
            store[: len(points) * k * columns].reshape(len(points), k, columns)
            for store, points in zip(stores, sets, strict=True)
        )
        # a gradient comes whole, and may be copied once
        at_once = max(1, budget // (4 * size * sum(f.trained[name].numel() for name, _, _ in block)))
        for points, array in zip(sets, arrays, strict=True):
            for count in _fill(f, block, points, array, at_once):
                done += count
                if report is not None:
                    report(done, total)
        yield arrays


def _pieces(f, names, width):
    """Lists of (name, first column, end) that cover all parameters, `width` columns per list."""
    block, room = [], width
    for name in names:
        start, n = 0, f.trained[name].numel()
        while start < n:
            stop = min(n, start + room)
            block.append((name, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield block
                block, room = [], width
    if block:
        yield block


def _fill(f, block, points, out, at_once):
    """Write the columns of the block into out (n, k, p), about `at_once` gradients at a time; yield how many."""
    k = out.shape[1]
    n_outputs = min(k, at_once)
    n_points = max(1, at_once // n_outputs)
    names = [name for name, _, _ in block]
    for first in range(0, k, n_outputs):
        rows = slice(first, first + n_outputs)
        for start in range(0, len(points), n_points):
            here = slice(start, start + n_points)
            gradients = f.jacobians(names, points[here], rows)
            place, column = out[here, rows], 0
            for name, begin, end in block:
                gradient = gradients[name].reshape(*gradients[name].shape[:2], -1)[..., begin:end]  # scalars too
                place[..., column : column + end - begin] = gradient.numpy()
                column += end - begin
            yield place.shape[0] * place.shape[1]
