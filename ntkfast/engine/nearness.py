"""Which pairs of points are so near that their inner product no longer tells them apart.

Rounding leaves an error ε in a correlation ρ. Through a kink, where the dual of φ' is a square root at |ρ| = 1, it
becomes ε/√(2δ) with δ = 1 - |ρ|; where the dual changes on a scale of 1/q, or in a chaotic network, which drives near
points apart, ε/δ. A pair for which this exceeds the accuracy wanted is computed by `src_c/pair.c`, which carries δ
itself. Two traces through the program, of a pair at a right angle and of one that is nearly equal, tell which of these
happens, and where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import _core
from ntkfast.engine.lower import Code

ROUNDING = {np.dtype(np.float64): 1e-15, np.dtype(np.float32): 2.5e-7}  # of a correlation, products by BLAS included
WANTED = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 2e-6}  # relative to the diagonal
LEAST = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}  # equal points are recognised in any network
PROBE = 1e-9  # δ of the nearly equal pair
ALL = -1.0  # the bound below which no pair is
SCALE_FREE = {"piecewise_linear", "arc_cosine"}  # duals that depend on ρ alone, up to a power of the variances


@dataclass(frozen=True)
class Search:
    """Pairs with |x·y + shift| x_inverse y_inverse > bound are near: their correlation after the first layer."""

    shift: float
    bound: float

    def inverse(self, squared_norms, dtype):
        """What |x·y + shift| is multiplied by for each point, padded to a multiple of the lanes."""
        q = squared_norms.astype(np.longdouble) + self.shift
        result = np.zeros(-(-len(q) // _core.LANES) * _core.LANES, dtype=dtype)
        positive = q > 0
        result[: len(q)][positive] = 1 / np.sqrt(q[positive])
        return result


def search(code: Code, program: _core.Program, squared_norms, dtype) -> Search | None:
    """How to find the near pairs of points with these norms; None if there are none.

    program: of this code, bound and not yet run.
    """
    dtype = np.dtype(dtype)
    first = code.lines[0] if code.lines else None
    scale, shift = first.numbers[:2] if first and first.instruction.name == "affine" else (1, 0)
    usable = squared_norms[(squared_norms > 0) & np.isfinite(squared_norms)]
    if not scale > 0 or not len(usable):
        return None
    q = float(np.median(usable))
    apart, near = (_core.trace(program, q, delta) for delta in (1.0, PROBE))
    tau, early = LEAST[dtype], True
    for k, line in enumerate(code.lines):
        if line.activation is None:
            continue
        needed = _needed(line.activation, near[k:], dtype)
        if early:  # the first dual: its δ is that of the points
            tau, early = max(tau, needed), False
        elif apart[k, 1] < needed:
            return Search(float(shift / scale), ALL)
        elif near[k, 1] < needed:
            tau = max(tau, PROBE * needed / max(near[k, 1], 1e-300))
    return Search(float(shift / scale), 1 - min(tau, 0.5))


def _needed(activation, near, dtype):
    """The δ before this dual below which rounding, here, spoils the result."""
    rounding, wanted = ROUNDING[dtype], WANTED[dtype]
    growth = near[:, 1].max() / max(near[0, 1], 1e-300)
    if activation.instruction.name not in SCALE_FREE:
        growth = max(growth, near[0, 0])
    expanding = rounding / wanted if rounding * growth > wanted else 0.0
    kinked = (rounding / wanted) ** 2 / 2 if activation.kinks else 0.0
    return max(expanding, kinked)
