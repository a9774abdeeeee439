"""The data of instructions that sum a Hermite series: coefficients as functions of the variance, and how many terms are
enough.

A coefficient a_k(q) is a smooth function of log q. It is computed at the Chebyshev points of panels (a factor 4 in q,
or less if that does not resolve it) and interpolated in C for every point, so that the quadratures do not depend on how
many points there are. The panels of the last 64 activations are kept: layers of a deep network share them.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ntkfast.engine import _core, quadrature, threads
from ntkfast.networks.activation import Activation

DEGREE = 18  # Chebyshev points of a panel
FINEST = 16  # panels a factor 4, if they must be so small
N_TERMS = 256  # coefficients at most
TAIL = {  # of the series, relative to the diagonal: dtype, whether φ has kinks
    (np.dtype(np.float64), False): 2e-11,
    (np.dtype(np.float64), True): 1e-10,
    (np.dtype(np.float32), False): 3e-8,
    (np.dtype(np.float32), True): 3e-8,
}
PROMISED = {False: 1e-10, True: 1e-8}  # of a dual, relative to the diagonal: whether φ has kinks
NEAR_RHO = 0.9  # the tables near |ρ| = 1 begin here; every series reaches further
NEAR_DEGREE = 13  # Chebyshev points in θ = arccos |ρ| on each of these panels, and in each log q
NEAR_EDGES = math.acos(NEAR_RHO) * np.array([0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
MAX_TOGETHER = 8  # panels whose tables are made at once
LOWEST = {False: -26, True: -40}  # log4 of the variance below which φ is affine to rounding; whether it has kinks


class PrecisionError(ArithmeticError):
    """A dual activation cannot be computed to the accuracy that is promised; says what was reached."""


def varies(activation: Activation) -> bool:
    """Whether the activation's instruction needs `data`."""
    return activation.instruction[0] in ("polynomial", "kinks", "series")


def jumps(activation: Activation) -> bool:
    """Whether φ itself jumps at a kink."""
    t = np.array(activation.kinks)
    step = 1e-9 * np.maximum(1, np.abs(t))
    left, right = activation(t - step), activation(t + step)
    return bool(np.any(np.abs(right - left) > 1e-5 * np.maximum(1, np.abs(left) + np.abs(right))))


@dataclass
class _Panel:
    coefficients: np.ndarray  # (DEGREE, terms) values at the Chebyshev points
    moments: np.ndarray  # (2, DEGREE): E φ², E φ'²
    weight: np.ndarray  # (2, N_TERMS): largest a_k²/E φ², k a_k²/(q E φ'²) on the panel
    rest: np.ndarray  # (2,): what is left of 1 of their sums
    error: float  # of the interpolation in log q, relative to the diagonal


def data(activation: Activation, low: float, high: float, dtype, near=()) -> _core.Series:
    """The data for variances in [low, high].

    near: pairs of panels that need a table near |ρ| = 1, as `Program.missing` names them; tables that have been
    computed before are there in any case.
    """
    return _family(activation).data(low, high, np.dtype(dtype), near)


@lru_cache(maxsize=64)
def _family(activation):
    return Family(activation)


def gaussian(activation: Activation) -> quadrature.Gaussian:
    """Expectations of this activation."""
    return _family(activation).gaussian


class Family:
    """Everything about one activation that does not depend on the points."""

    def __init__(self, activation):
        self.activation = activation
        self.kinked = bool(activation.kinks)
        self.mesh = quadrature.Mesh(activation.function, activation.kinks)
        derivative = activation.derivative or quadrature.InterpolatedDerivative(self.mesh)
        self.gaussian = quadrature.Gaussian(activation.name, activation.function, derivative, self.mesh)
        self.per_unit = 4 if any(activation.kinks) else 1  # panels a factor 4
        self.slopes = activation.instruction[0] == "series" and jumps(activation)
        self._panels, self._near, self._lock = {}, {}, threading.RLock()

    def data(self, low, high, dtype, near):
        name, parameters = self.activation.instruction
        if name == "polynomial":
            return _polynomial(parameters)
        with self._lock:
            first, last, panels = self._resolved(low, high)
            weight = np.max([panel.weight for panel in panels], axis=0)
            rest = np.max([panel.rest for panel in panels], axis=0)
            reach, terms = _terms(weight, rest, TAIL[dtype, self.kinked])
            even, odd = terms[-1]
            if name == "kinks":
                return _kinks(parameters, (even, odd), reach, terms)
            chosen = [2 * k for k in range(even)] + [2 * k + 1 for k in range(odd)]
            chosen += [N_TERMS + k for k in chosen] if self.slopes else []
            to_chebyshev = quadrature.chebyshev_matrix(DEGREE)
            coef = np.array([to_chebyshev @ panel.coefficients[:, chosen] for panel in panels])
            moment = np.array([panel.moments @ to_chebyshev.T for panel in panels])
            sides = np.array([-1e-12, 1e-12])  # where φ or φ' jumps at 0 the mean of both counts
            value = self.gaussian.function(sides if self.slopes else np.zeros(1)).mean()
            zero = float(value), float(self.gaussian.derivative(sides).mean())
            result = _core.Series("series", (even, odd), reach, terms, self.slopes)
            result.panels(first, self.per_unit, coef, moment, *zero)
            numbers = range(first, last + 1)
            if near:
                self._make_tables(near, reach, rest)
            blocks = [self._near.get((sign, p, q)) for sign in (0, 1) for p in numbers for q in numbers]
            if any(block is not None for block in blocks):
                result.near(blocks, NEAR_EDGES)
            return result

    def _resolved(self, low, high):
        """Numbers of the first and last panel, and all of them, fine enough for the coefficients."""
        while True:
            first, last = (self._panel_number(q) for q in (low, high))
            panels = [self._panel(p) for p in range(first, last + 1)]
            if self.mesh.found:
                raise PrecisionError(
                    f"activation {self.activation.name!r}: φ is not smooth near x={self.mesh.found[0][0]:.9g}, which "
                    f"variances up to {high:.3g} reach; give that kink as kinks="
                )
            reached = max(self.mesh.unresolved, *(panel.error for panel in panels))
            if reached <= PROMISED[self.kinked] / 10:
                return first, last, panels
            if self.per_unit == FINEST:
                raise PrecisionError(
                    f"activation {self.activation.name!r}: its dual for variances in [{low:.3g}, {high:.3g}] is only "
                    f"known to {reached:.1e} of the diagonal, {PROMISED[self.kinked]:.0e} are promised"
                )
            self.per_unit *= 2
            self._panels, self._near = {}, {}

    def _panel_number(self, q):
        return max(math.floor(self.per_unit * math.log2(q) / 2), self.per_unit * LOWEST[self.kinked])

    def _variances(self, panel, degree):
        xi = quadrature.chebyshev_points(degree)
        return 4.0 ** ((panel + (xi + 1) / 2) / self.per_unit)

    def _panel(self, number):
        if number not in self._panels:
            q = self._variances(number, DEGREE)
            results = [self.gaussian.coefficients(value, N_TERMS, self.slopes) for value in q]
            a, value, slope = (np.array([result[k] for result in results]) for k in range(3))
            b = np.array([result[3] for result in results]) if self.slopes else None
            slope[slope * q < 1e-20 * value] = 0  # a constant φ: rounding errors only
            slope_terms = np.arange(N_TERMS) * a**2 / q[:, None] if b is None else b**2
            parts = [_shares(a**2, value), _shares(slope_terms, slope)]
            self._panels[number] = _Panel(
                a if b is None else np.hstack([a, b]),
                np.array([value, slope]),
                np.array([part.max(axis=0) for part in parts]),
                np.array([max(0.0, (1 - part.sum(axis=1)).max()) if part.any() else 0.0 for part in parts]),
                self._interpolation_error(a, value),
            )
        return self._panels[number]

    def _interpolation_error(self, a, value):
        if self.activation.instruction[0] == "kinks":  # its coefficients have a closed form
            return 0.0
        tail = quadrature.chebyshev_matrix(DEGREE)[-2:] @ a
        return float(np.abs(tail).max() / np.sqrt(value.max())) if value.any() else 0.0

    def _make_tables(self, pairs, reach, rest):
        """Chebyshev coefficients of E[φφ] and E[φ'φ'] in ξ1, θ, ξ2 for pairs of panels, as in nf_panels."""
        if any(self.activation.kinks):
            raise PrecisionError(
                f"activation {self.activation.name!r}: its kinks away from 0 allow no table near |ρ| = 1, and it is "
                f"not piecewise linear; pairs with |ρ| > {reach:.3f} are only known to {max(rest):.1e} of the "
                f"diagonal, {PROMISED[True]:.0e} are promised"
            )
        pairs = [pair for pair in pairs if (0, *pair) not in self._near]
        numbers = sorted({number for pair in pairs for number in pair})
        if len(numbers) <= MAX_TOGETHER:
            self._tabulate(numbers)
        else:
            for pair in {tuple(sorted({*pair})) for pair in pairs}:
                self._tabulate(pair)

    def _tabulate(self, numbers):
        """The tables of all pairs of these panels."""
        if not numbers:
            return
        n, r, n_theta = len(numbers), NEAR_DEGREE, len(NEAR_EDGES) - 1
        q = np.concatenate([self._variances(number, r) for number in numbers])
        low, high = NEAR_EDGES[:-1, None], NEAR_EDGES[1:, None]
        angles = low + (quadrature.chebyshev_points(r) + 1) / 2 * (high - low)
        functions = self.gaussian.function, self.gaussian.derivative
        self._check_tables(numbers, functions)
        with ThreadPoolExecutor(threads.resolve(None)) as pool:  # NumPy's loops release the GIL
            values = list(pool.map(lambda theta: quadrature.pair_matrices(functions, q, theta), angles.ravel()))
        values = np.array(values).reshape(n_theta, r, 2, 2, n, r, n, r)  # θ, sign, function, q1, q2
        matrix = quadrature.chebyshev_matrix(r)
        tables = np.einsum("mx,ai,bj,pxsfuivj->suvpafmb", matrix, matrix, matrix, values, optimize=True)
        for sign in (0, 1):
            for u, first in enumerate(numbers):
                for v, second in enumerate(numbers):
                    self._near[sign, first, second] = np.ascontiguousarray(tables[sign, u, v])

    def _check_tables(self, numbers, functions):
        """The rule that fills the tables against the series, where they meet; raise if it does not resolve φ."""
        k = np.arange(N_TERMS)
        for number in numbers:
            q = self._variances(number, DEGREE)
            panel = self._panel(number)
            a = panel.coefficients[:, :N_TERMS]
            value = (a * NEAR_RHO**k) @ a.T
            if self.slopes:
                b = panel.coefficients[:, N_TERMS:]
                slope = (b * NEAR_RHO**k) @ b.T
            else:
                slope = (a * k * NEAR_RHO ** np.maximum(k - 1, 0)) @ a.T / np.sqrt(np.outer(q, q))
            rule = quadrature.pair_matrices(functions, q, math.acos(NEAR_RHO))[0]
            scale = np.sqrt(panel.moments[:, :, None] * panel.moments[:, None, :])
            error = np.abs(rule - [value, slope]) / np.where(scale > 0, scale, 1)
            promised = PROMISED[self.kinked] * (1 if q.min() < 100 else 1e4)  # beyond 100 there is no promise
            if error.max() > promised:
                raise PrecisionError(
                    f"activation {self.activation.name!r}: its dual near |ρ| = 1 for variances about {q.mean():.3g} is "
                    f"only known to {error.max():.1e} of the diagonal, {promised:.0e} are required"
                )


def _shares(parts, whole):
    return np.divide(parts, whole[:, None], out=np.zeros_like(parts), where=whole[:, None] > 0)


def _terms(weight, rest, tolerance):
    """How far the series reaches in |ρ|, and how many even and odd terms leave less than the tolerance of the value's
    and the slope's series up to the end of each bin of |ρ|. weight, rest: as in _Panel.
    """
    k = np.arange(N_TERMS)
    powers = np.array([k, np.maximum(k - 1, 0)])
    reach = min(1.0, np.min((tolerance / 4 / np.maximum(rest, 1e-300)) ** (1 / (N_TERMS - 1))))
    terms = np.zeros((_core.BINS, 2), dtype=np.intc)
    for row in range(_core.BINS):
        shares = weight * min((row + 1) / _core.BINS, reach) ** powers
        for parity in (0, 1):
            tails = np.cumsum(shares[:, parity::2][:, ::-1], axis=1)[:, ::-1]
            terms[row, parity] = _rounded(np.count_nonzero((tails > tolerance / 4).any(axis=0)))
    return reach, terms


def _rounded(n_terms):
    return -(-n_terms // _core.STEP) * _core.STEP


def _polynomial(coefficients):
    """x^j = Σ_k basis[k, j] h_k(x/√q) √q^j with basis[k, j] = j!/(((j-k)/2)! 2^((j-k)/2) √k!), j-k even."""
    degree = len(coefficients) - 1
    basis = np.zeros((degree + 1, degree + 1), dtype=np.longdouble)
    for j, c in enumerate(coefficients):
        for k in range(j % 2, j + 1, 2):
            m = (j - k) // 2
            number = math.factorial(j) // (math.factorial(m) * 2**m)
            basis[k, j] = np.longdouble(c) * np.longdouble(str(number)) / np.sqrt(np.longdouble(str(math.factorial(k))))
    even = _rounded(degree // 2 + 1) if any(coefficients[0::2]) else 0
    odd = _rounded((degree + 1) // 2) if any(coefficients[1::2]) else 0
    terms = np.full((_core.BINS, 2), (even, odd), dtype=np.intc)
    return _core.Series("polynomial", (even, odd), 1.0, terms).polynomial(basis)


def _kinks(parameters, counts, reach, terms):
    offset, slope, kinks = parameters
    at, jump = np.array(kinks, dtype=np.longdouble).T.copy()
    root = np.sqrt(np.arange(2 * max(counts) + 2, dtype=float))
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    return _core.Series("kinks", counts, reach, terms).kinks(at, jump, offset, slope, root, inverse)
