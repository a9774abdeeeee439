"""E[φ(√q1 z) φ(√q2 z')] near |ρ| = 1 for a φ with kinks at 0, or so steep there that no uniform grid resolves it.

As in networks/smoothing.py, the dual is the integral of S f_q1(x) S f_q2(x) with the density of N(0, ρ), where
f_q(x) = φ(√q x) and S smooths by a Gaussian of variance δ = 1-ρ. In units of that width, x = √δ η,

    S f_q(√δ η) = E[φ(√w (η + y))],   y ~ N(0, 1),  w = qδ,

is a function of η and w alone. It bends where η or √w η is about 1, and so one grid of η, graded outwards from 0,
serves all variances and correlations. On it the function is interpolated in log w, and kept: tables of other variances
find it, and the time they take hardly depends on the variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ntkfast.networks import quadrature
from ntkfast.networks.quadrature import Array, Function, Gaussian
from ntkfast.support import forks

NODES = 12  # Gauss points on a panel of η
POINTS = 16  # Chebyshev points in log w on a panel, a factor of 4
NEAR, MIDDLE = 10, 80  # |η| beyond which no kink is within reach of y, and beyond which φ varies slowly with y
REACH = 9.5  # of a standard Gaussian: exp(-REACH²/2) = 3e-20
FAR_NODES = 6  # Gauss-Hermite points in y for |η| > MIDDLE
LEAST = 1e-30  # qδ that stands for 0: the jumps of φ' are off by its root
FINENESS = (1, 2, 4)  # how many parts each of the panels has
MOST_KEPT = 2**25  # bytes of a flow's coefficients; twelve layers with variances up to 1e12 take 2e7


@lru_cache
def _ring(k: int, fineness: int) -> tuple[Array, Array]:
    """η and weights of part k of the grid: up to NEAR on panels of length 1, then two panels for each factor of 2."""
    ends = np.arange(NEAR + 1.0) if k == 0 else NEAR * 2.0 ** (k - 1) * np.array([1, 1.5, 2])
    return quadrature.rule(_split(ends, fineness), NODES)


@lru_cache
def _grid(doublings: int, fineness: int) -> tuple[Array, Array]:
    """η from 0 to NEAR 2^doublings and weights."""
    eta, weight = (
        np.concatenate(each) for each in zip(*(_ring(k, fineness) for k in range(doublings + 1)), strict=True)
    )
    return eta, weight


def _split(ends: Array, parts: int) -> Array:
    steps = np.diff(ends)[:, None] * (np.arange(parts) / parts)
    return np.append((ends[:-1, None] + steps).ravel(), ends[-1])


class Flow(forks.Guarded):
    """E[f(√w (±η + y))] of some functions, which may have kinks at 0, on the grid of η.

    fineness: how many times finer than usual all of the grids are.
    """

    def __init__(self, functions: Sequence[Function], fineness: int) -> None:
        self.functions, self.fineness = functions, fineness
        self.points = POINTS * fineness
        # panel of w -> Chebyshev coefficients (functions, 2 signs, points, η) of each ring, the latest in use last
        self._kept: dict[int, list[Array]] = {}
        self.guard()

    def abandoned(self) -> None:
        self.guard()  # what is kept is whole

    def grid(self, reach: float) -> tuple[Array, Array]:
        """η from 0 to `reach` and weights, the beginning of one grid."""
        eta, weight = _grid(max(0, math.ceil(math.log2(reach / NEAR))), self.fineness)
        n = np.searchsorted(eta, reach)
        return eta[:n], weight[:n]

    def at(self, w: Array, eta: Array) -> Array:
        """For these w and a grid: (functions, 2 signs, len(w), len(eta))."""
        place = np.log2(w) / 2
        panels = np.floor(place).astype(int)
        result = np.empty((len(self.functions), 2, len(w), len(eta)))
        for panel in np.unique(panels):
            here = panels == panel
            angles = np.arccos(np.clip(2 * (place[here] - panel) - 1, -1, 1))
            basis = np.cos(np.outer(angles, np.arange(self.points)))
            result[:, :, here] = basis @ self._coefficients(int(panel), len(eta))
        return result

    def _coefficients(self, panel, n):
        """For the first n η. Rings are computed one by one: what was asked for before changes no last digits."""
        root = 2.0 ** (panel + (quadrature.chebyshev_points(self.points) + 1) / 2)
        to_chebyshev = quadrature.chebyshev_matrix(self.points)
        with self._lock:
            known = self._kept.pop(panel, [])
            while sum(ring.shape[-1] for ring in known) < n:
                known.append(to_chebyshev @ self._values(root, _ring(len(known), self.fineness)[0]))
            self._kept[panel] = known
            while (
                len(self._kept) > 1 and sum(ring.nbytes for rings in self._kept.values() for ring in rings) > MOST_KEPT
            ):
                del self._kept[next(iter(self._kept))]
            return np.concatenate(known, axis=-1)[..., :n]

    def _values(self, root, eta):
        """At these √w and the η of one ring."""
        if eta[0] < NEAR:
            return self._near(root, eta)
        if eta[0] < MIDDLE:
            step = 0.5 / self.fineness
            y = step * np.arange(-18 * self.fineness, 18 * self.fineness + 1)
            return self._local(root, eta, y, step * _density(y))
        y, weight = np.polynomial.hermite_e.hermegauss(FAR_NODES * self.fineness)
        return self._local(root, eta, y, weight / math.sqrt(2 * math.pi))

    def _near(self, root, eta):
        """Where the kink is in reach, at panel ends; the panels resolve φ(√w σ) and the density of σ - η."""
        levels = max(0, math.ceil(math.log2(2 * self.fineness * root.max())))
        ends = np.concatenate([[0.0], 2.0 ** np.arange(-levels, 0.0), np.arange(1.0, NEAR + 10)])
        sigma, weight = quadrature.rule(_split(ends, self.fineness), NODES)
        same, other = (_density(np.subtract.outer(sigma, side * eta)) * weight[:, None] for side in (1, -1))
        plus, minus = (self._evaluated(side * np.multiply.outer(root, sigma)) for side in (1, -1))
        return np.stack([plus @ same + minus @ other, plus @ other + minus @ same], axis=1)

    def _local(self, root, eta, y, weight):
        x = np.multiply.outer(root, np.add.outer(eta, y))
        return np.stack([self._evaluated(side * x) @ weight for side in (1, -1)], axis=1)

    def _evaluated(self, x):
        return np.array([f(x) for f in self.functions])


def _density(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


@lru_cache(maxsize=16)
def flow(gaussian: Gaussian, fineness: int) -> Flow:
    """That of φ and φ'."""
    return Flow((gaussian.function, gaussian.derivative), fineness)


class Graded:
    """The functions f(√q x) of a flow for all variances q."""

    def __init__(self, flow: Flow, q: Array) -> None:
        self.flow, self.q = flow, q

    def matrices(self, delta: float) -> Array:
        """E[f(√q1 z) f(√q2 z')] (2, functions, len(q), len(q)) for correlations 1-δ and δ-1, δ up to 0.4."""
        root = max(math.sqrt(delta), math.sqrt(LEAST) / math.sqrt(self.q.max()))  # LEAST/q may leave float64
        rho = 1 - root**2
        eta, weight = self.flow.grid(REACH / root)
        x = root * eta
        weight = root * weight * np.exp(-x * x / (2 * rho)) / math.sqrt(2 * math.pi * rho)
        values = self.flow.at((root * np.sqrt(self.q)) ** 2, eta)
        weighted, turned = values * weight, values.swapaxes(-1, -2)
        return np.array([(weighted @ turned[:, order]).sum(axis=1) for order in (slice(None), slice(None, None, -1))])
