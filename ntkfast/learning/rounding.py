"""How accurate the entries of a limit kernel are in float64: a bound carried through the program alongside the kernel.

If the correlation of two points before an activation is accurate to s, and |ρ| is at most r, the error of the dual
V(ρ) = Σ_k a_k² ρ^k (the same variance q for both) is at most V(r) - V(r - s), as no power ρ^k changes by more; likewise
for the dual D of φ'. For variances q1 and q2, by the Cauchy-Schwarz inequality, that holds relative to √(V(1) V(1)) of
both, with the worse of the two. A kink of φ makes D(1) - D(1 - s) proportional to √s: the √(2 eps)/π of a relu.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.engine import series
from ntkfast.engine.duals import duals
from ntkfast.engine.lower import lower
from ntkfast.networks import Network
from ntkfast.support import arrays
from ntkfast.support.errors import PrecisionError
from ntkfast.support.typing import Array

EPS = np.finfo(np.float64).eps
CLOSED = 16 * EPS  # error of a closed form at the given ρ, relative to the diagonal
POLYNOMIAL = 1e-12  # of any degree


@dataclass(frozen=True)
class Known:
    """Bounds for all pairs of points, in one layer: |δΣ_ij| <= nngp √(Σ_ii Σ_jj) and |δΘ_ij| <= ntk √(Θ_ii Θ_jj)."""

    q: Array  # (N,) Σ_ii
    rho: float  # |ρ_ij| is at most this for i ≠ j
    nngp: float
    ntk: float


def known(net: Network, X: ArrayLike) -> Known:
    """The bounds for the kernels of this network on these points, (N, d)."""
    X = np.asarray(X, dtype=np.float64)
    length = np.linalg.norm(X, axis=1)
    U = X / np.where(length > 0, length, 1)[:, None]
    rho = 0.0
    for rows in arrays.blocks(len(U)):
        cosines = np.abs(U[rows] @ U.T)
        cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = 0
        rho = max(rho, float(cosines.max()))
    d = X.shape[1]
    now, stack = Known(length**2, rho, (d / 2 + 2) * EPS, 0.0), []  # d terms, half a unit each
    for line in lower(net, d).lines:
        name, parameters = line.instruction.name, map(float, line.instruction.parameters)
        now = _activation(line.activation, now) if line.activation else OTHERS[name](now, stack, *parameters)
        now = _affine(*map(float, line.numbers), now)
    return now


def _affine(a, b, c, d, now):
    """Σ ← aΣ + b, Θ ← aΘ + cΣ + d. With the shares p_i = a Σ_ii/q_i of the first term,
    ρ ← √(p_i p_j) ρ + √((1 - p_i)(1 - p_j)).
    """
    if (a, b, c, d) == (1, 0, 0, 0):
        return now
    first = a * now.q
    q = first + b
    share = first[q > 0] / q[q > 0]
    least, most = (share.min(), share.max()) if len(share) else (1.0, 1.0)
    nngp = most * now.nngp + 2 * EPS
    return Known(q, 1 - least * (1 - now.rho), nngp, max(now.ntk, now.nngp) + 3 * EPS)


def _unchanged(now, stack):
    return now


def _push(now, stack):
    stack.append(now)
    return now


def _swap(now, stack):
    top = stack.pop()
    stack.append(now)
    return top


def _add(now, stack, weight):
    """A sum is as accurate as the worse term, by Cauchy-Schwarz; where it cancels, relative to what remains."""
    top = stack.pop()
    q = now.q + weight * top.q
    some = q > 0
    grows = float(((now.q + abs(weight) * top.q)[some] / q[some]).max(initial=1.0))
    nngp, ntk = (grows * (max(getattr(now, name), getattr(top, name)) + EPS) for name in ("nngp", "ntk"))
    return Known(q, max(now.rho, top.rho), nngp, ntk)


def _multiply(now, stack):
    """Σ ← Σ Σ', Θ ← Θ Σ' + Σ Θ'."""
    top = stack.pop()
    nngp = now.nngp + top.nngp + EPS
    return Known(now.q * top.q, now.rho * top.rho, nngp, max(now.ntk + top.nngp, now.nngp + top.ntk) + 3 * EPS)


def _layer_norm(now, stack):
    return Known(np.sign(now.q), now.rho, now.nngp + 2 * EPS, now.ntk + 2 * EPS)


def _dropout(now, stack, factor):
    return replace(now, q=factor * now.q)  # of the diagonal alone


OTHERS = {  # the instructions that do not belong to an activation
    "affine": _unchanged,
    "push": _push,
    "swap": _swap,
    "add": _add,
    "multiply": _multiply,
    "layer_norm": _layer_norm,
    "dropout": _dropout,
}


def _activation(phi, now):
    s = now.nngp + 4 * EPS  # the rounding errors of ρ, and 1 - 2 eps counting as 1
    top = min(1.0, now.rho + s)
    try:
        values = duals(phi, now.q, now.q, now.q * np.array([[1.0], [top], [top - s]]))
    except PrecisionError:  # nothing is known about pairs so near, if there are any
        values = duals(phi, now.q, now.q, now.q * np.array([[1.0], [1.0], [0.0]]))
    (q, at_top, _), _ = values
    some = q > 0
    changes = [((a - b)[one > 0] / one[one > 0]).max(initial=0) for one, a, b in values]
    value, slope = (max(0.0, float(change)) + 3 * _promise(phi) for change in changes)  # of a, b and K
    rho = min(1.0, float((at_top[some] / q[some]).max(initial=0)))
    return Known(q, rho, value, now.ntk + slope)


def _promise(phi):
    """The promised error of a dual at the given ρ, relative to the diagonal."""
    if not phi.instruction.varies:
        return CLOSED
    if phi.instruction.is_polynomial:
        return POLYNOMIAL
    return series.PROMISED  # as the engine requires of its tables
