"""Which pairs of points are so near that their inner product no longer tells them apart.

Rounding leaves an error ε in a correlation ρ. Through a kink, where the dual of φ' is a square root at |ρ| = 1, it
becomes ε/√(2δ) with δ = 1 - |ρ|; where the dual changes on a scale of 1/q, or in a chaotic network, which drives near
points apart, ε/δ. A pair for which this exceeds the accuracy wanted is computed by `src_c/pair.c`, which carries δ
itself. Traces through the program, of a pair at a right angle and of nearly equal points of the median and of the
largest norm, tell which of these happens, and where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ntkfast.engine import _core
from ntkfast.engine.lower import Code

ROUNDING = {np.dtype(np.float64): 3e-15, np.dtype(np.float32): 2.5e-7}  # of a correlation, by BLAS and some layers
WANTED = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 2e-6}  # relative to the diagonal
THETA = 4  # Θ, which sums over the layers, is up to so many times as sensitive to ρ as Σ in a network that expands
LEAST = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}  # equal points are recognised in any network
PROBE = 1e-9  # δ of the nearly equal pair
ALL = -1.0  # the bound below which no pair is
SCALE_FREE = {"piecewise_linear", "arc_cosine"}  # duals that depend on ρ alone, up to a power of the variances
STIFFNESS = {  # a dual that depends on the scale changes over a δ of 1/(q times this); 1 if not named here
    "erf": lambda a, b, offset: b * b,
    "sine": lambda a, b, cosine: b * b,
    "hyperbolic": lambda a, b, c: c * c,
    "exponential": lambda a, b: b * b,
    "gaussian": lambda a, b: 2 * abs(b),
}


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


def search(code: Code, program: _core.Program, squared_norms, dtype, arithmetic) -> Search | None:
    """How to find the near pairs of points with these norms; None if there are none.

    program: of this code, bound and not yet run.  dtype: of the points.  arithmetic: the dtype in which it acts.
    """
    dtype, arithmetic = np.dtype(dtype), np.dtype(arithmetic)
    first = code.lines[0] if code.lines else None
    scale, shift = first.numbers[:2] if first and first.instruction.name == "affine" else (1, 0)
    usable = squared_norms[(squared_norms > 0) & np.isfinite(squared_norms)]
    if not scale > 0 or not len(usable):
        return None
    q = float(np.median(usable))
    apart, near = (_core.trace(program, q, delta) for delta in (1.0, PROBE))
    largest = _core.trace(program, float(usable.max()), PROBE)[:, 0]
    tau, early = LEAST[dtype], True
    for k, line in enumerate(code.lines):
        if line.activation is None:
            continue
        rounding = ROUNDING[dtype if early else arithmetic]
        tolerated = WANTED[dtype] / (THETA if arithmetic == np.float64 else 1)  # few layers in float32 need no more
        needed = _needed(line.activation, near[k:], max(near[k, 0], largest[k]), rounding, WANTED[dtype], tolerated)
        if early:  # the first dual: its δ is that of the points
            tau, early = max(tau, needed), False
        elif apart[k, 1] < needed and not line.instruction.varies:  # a series takes too long for every pair
            return Search(float(shift / scale), ALL)
        elif near[k, 1] < needed:
            tau = max(tau, PROBE * needed / max(near[k, 1], 1e-300))
    return Search(float(shift / scale), 1 - min(tau, 0.5))


def _needed(activation, near, largest, rounding, wanted, tolerated):
    """The δ before this dual below which rounding, here, spoils the result.

    largest: variance, of any point.  rounding: of ρ here.  wanted: of the result.  tolerated: of Σ, where errors of ρ
    grow. A dual that changes over δ = 1/s does so about like (1 + 2 s δ)^(-1/2), which turns an error ε of ρ into
    ε s (1 + 2 s δ)^(-3/2); the δ at which this is as wanted has a maximum over s.
    """
    growth = near[:, 1].max() / max(near[0, 1], 1e-300)
    ratio, stiff = rounding / wanted, 0.0
    instruction = activation.instruction
    if instruction.name not in SCALE_FREE:
        stiffness = STIFFNESS[instruction.name](*instruction.parameters) if instruction.name in STIFFNESS else 1
        change = min(ratio * float(stiffness) * largest, 3**1.5)
        stiff = ratio * (change ** (2 / 3) - 1) / (2 * change) if change > 1 else 0.0
    expanding = ratio if rounding * growth > tolerated else 0.0
    kinked = ratio**2 / 2 if activation.kinks else 0.0
    return max(expanding, stiff, kinked)
