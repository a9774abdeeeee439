"""The errors of one activation over all networks and pairs of cases.py."""

import time
from typing import NamedTuple

import numpy as np

from ntkfast.accuracy import cases, oracle
from ntkfast.accuracy.formulas import mp
from ntkfast.infinite.kernels import kernels
from ntkfast.networks import MLP

RANGE = {"float64": 1e300, "float32": 1e37}


class Cell(NamedTuple):
    """The largest error of Σ or Θ of one kind of pairs, relative to the diagonal, or why there is none."""

    activation: str
    phase: str
    weight_std: float
    bias_std: float
    hidden: int
    kind: str
    dtype: str
    error: float = 0.0
    at: str = ""  # the kernel, and the number of the pair
    refused: str = ""


class Measured(NamedTuple):
    """All cells of an activation; `left`: how many were not reached in the time."""

    activation: str
    cells: list
    left: int = 0
    problem: str = ""


def measure(name: str, full: bool = False, seconds: float = float("inf")) -> Measured:
    """The errors of an activation. Cells after `seconds` of CPU time are left out, and counted."""
    activation, cells, left = cases.made(name), [], 0
    if not oracle.is_known(activation):
        return Measured(repr(activation), [], problem="no formula to compare with in ntkfast/accuracy")
    slow = not full and oracle.is_integrated(activation)
    data = cases.cases(1 if slow else 3 if full else 2)
    end = time.process_time() + seconds
    with mp.workdps(oracle.DIGITS):
        # the shallow networks first, of all phases and kinds of data, in case time is short
        for limit in ((0, 4), (4, 20)) if slow else ((0, 4), (4, 20), (20, 100)):
            depths = [hidden for hidden in cases.HIDDEN if limit[0] < hidden <= limit[1]]
            if not depths:
                continue
            for phase, (weight_std, bias_std) in cases.phases(name).items():
                for case in data:
                    exact = exact_values(activation, weight_std, bias_std, case, depths, end)
                    if exact is None:
                        left += len(depths) * (1 + case.single)
                        continue
                    for dtype in ("float64", "float32") if case.single else ("float64",):
                        for hidden in depths:
                            cell = Cell(repr(activation), phase, weight_std, bias_std, hidden, case.kind, dtype)
                            cells.append(filled(cell, activation, case, exact[hidden]))
    return Measured(repr(activation), [cell for cell in cells if cell is not None], left)


def exact_values(activation, weight_std, bias_std, case, depths, end=float("inf")):
    """{hidden: [Pair or None, of every pair]}, None where values leave float64; None if it is later than `end`."""
    values = {hidden: [] for hidden in depths}
    for x, y in case.pairs:
        walk = enumerate(oracle.layers(activation, weight_std, bias_std, x, y))
        found = {}
        for hidden, pair in walk:
            if time.process_time() > end:
                return None
            found[hidden] = pair
            if hidden == max(depths):
                break
        for hidden in depths:
            values[hidden].append(found.get(hidden))
    return values


def filled(cell, activation, case, exact):
    """The cell with its error or refusal; None if all of its values are out of range."""
    largest = RANGE[cell.dtype]
    inside = [k for k, pair in enumerate(exact) if pair is not None and in_range(pair, largest)]
    if not inside:
        return None
    net = MLP(cell.hidden + 1, activation, cell.weight_std, cell.bias_std)
    X, Y = (np.array([case.pairs[k][side] for k in inside], cell.dtype) for side in (0, 1))
    try:
        found = kernels(net, X, Y, progress=False)
    except Exception as error:  # whatever it is, it is a result to report
        return cell._replace(refused=f"{type(error).__name__}: {error}")
    worst = []
    for row, k in enumerate(inside):
        pair = exact[k]
        for kernel, value, right, square in (
            ("Σ", found.nngp, pair.xy, pair.xx * pair.yy),
            ("Θ", found.ntk, pair.ntk_xy, pair.ntk_xx * pair.ntk_yy),
        ):
            got = float(value[row, row])
            error = float(abs(mp.mpf(got) - right) / mp.sqrt(square)) if np.isfinite(got) else float("inf")
            worst.append((error, f"{kernel}, pair {k}"))
    error, at = max(worst)
    return cell._replace(error=error, at=at)


def in_range(pair, largest):
    return max(pair) < largest and min(pair.xx, pair.yy, pair.ntk_xx, pair.ntk_yy) > 1 / largest
