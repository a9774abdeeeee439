"""E[φ(√q1 z) φ(√q2 z')] near |ρ| = 1 for a smooth φ, for many variances at once (`Smoothed`).

With f_q(x) = φ(√q x) and the Gaussian smoothing S f(x) = E[f(x + √(1-ρ) y)], y ~ N(0, 1), the pair (z, z') is a common
Gaussian of variance ρ plus independent ones of variance 1-ρ, so that

    E[φ(√q1 z) φ(√q2 z')] = ∫ S f_q1(x) S f_q2(x) exp(-x²/2ρ)/√(2πρ) dx,   and S f_q2(-x) for the correlation -ρ.

S multiplies the Fourier transform by exp(-(1-ρ) ω²/2), and for functions that are analytic around the real line the
trapezoidal rule converges exponentially: one FFT for each variance, one more for each variance and ρ.

At large variances the grid need be fine only near 0, where φ bends; away from there most φ are straight lines
(`Localised`). With A the two lines, smoothed by a Gaussian of variance 1, the dual of A is that of the lines at the
variances q + 1, in closed form, and φ - A vanishes outside a few units of x, whatever the variance is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from ntkfast.networks.quadrature import Array, Function

HALF = 16.0  # the grid covers [-HALF, HALF]; the density reaches to |x| of 9√ρ, and S by 8√(1-ρ) further
SIZES = tuple(2**k for k in range(7, 18))


def _taper(x: Array) -> Array:
    """1 up to |x| of 12, 0 at the ends of the grid, so that a function times this is periodic."""
    return 0.5 * scipy.special.erfc(3.6 * (np.abs(x) - HALF + 2.2))


def _density(x: Array, rho: float) -> Array:
    return np.exp(-x * x / (2 * rho)) / math.sqrt(2 * math.pi * rho)


class Smoothed:
    """The functions f(√q x) for all variances q, smooth enough for `matrices`.

    moments: E[f²] (functions, len(q)), which the trapezoidal rule has to reproduce to `tolerance`.
    """

    def __init__(self, functions: Sequence[Function], q: Array, moments: Array, tolerance: float) -> None:
        scale = np.where(moments > 0, moments, 1)
        s = np.sqrt(q)[:, None]
        for self.n in SIZES:
            step = 2 * HALF / self.n
            x = step * (np.arange(self.n) - self.n // 2)
            values = np.array([f(s * x) for f in functions]) * _taper(x)
            # The integrand of the squares has twice the frequencies of f: it is the hardest to resolve.
            errors = np.abs(step * (values**2 @ _density(x, 1.0)) - moments) / scale
            self.error = float(errors.max())
            if self.error <= tolerance:
                break
        self.transforms = np.fft.rfft(values, axis=-1)

    def matrices(self, delta: float) -> Array:
        """E[f(√q1 z) f(√q2 z')] (2, functions, len(q), len(q)) for correlations 1-δ and δ-1, δ up to 0.4."""
        n, rho = self._size(delta), 1 - delta
        omega = np.arange(n // 2 + 1) * (math.pi / HALF)
        smooth = self.transforms[..., : n // 2 + 1] * (np.exp(-0.5 * delta * omega**2) * (n / self.n))
        values = np.fft.irfft(smooth, n, axis=-1)[..., 1:]  # the grid without its first point is symmetric
        step = 2 * HALF / n
        weighted = values * (step * _density(step * (np.arange(1, n) - n // 2), rho))
        return np.array([weighted @ other.swapaxes(-1, -2) for other in (values, values[..., ::-1])])

    def _size(self, delta: float) -> int:
        """Of the grid: the frequencies that remain after smoothing, twice, and those of the density."""
        highest = 2 * math.sqrt(80 / max(delta, 1e-300)) + 10
        return min(self.n, next((size for size in SIZES if size * math.pi / HALF >= highest), self.n))


FAR = 64.0  # where φ must have become a straight line
STEPS = (0.5, 0.25, 0.125, 0.0625)  # of the grid, in units of x


class Lines(NamedTuple):
    """α + β x + γ sgn x + κ |x|"""

    alpha: float
    beta: float
    gamma: float
    kappa: float


def _smoothed(lines: Sequence[Lines], x: Array, std: Array | float) -> Array:
    """E of each of the lines at x + std y, y ~ N(0, 1)."""
    step, peak = scipy.special.erf(x / (math.sqrt(2) * std)), np.exp(-0.5 * (x / std) ** 2)
    absolute = x * step + std * math.sqrt(2 / math.pi) * peak
    return np.array([a + b * x + c * step + d * absolute for a, b, c, d in lines])


def _duals(lines: Sequence[Lines], q: Array, c: Array) -> Array:
    """E[A(u) A(v)] of each of the lines, for all pairs of the variances q, with covariances c."""
    s = np.sqrt(q)
    std = np.outer(s, s)
    angle, mean = np.arcsin(np.clip(c / std, -1, 1)), math.sqrt(2 / math.pi)
    turning = np.sqrt(np.maximum(std - c, 0)) * np.sqrt(np.maximum(std + c, 0)) + c * angle  # no squares of variances
    sums, ratios = np.add.outer(s, s), c * np.add.outer(1 / s, 1 / s)
    return np.array(
        [
            alpha * (alpha + kappa * mean * sums)
            + beta * (beta * c + gamma * mean * ratios)
            + 2 / math.pi * (gamma**2 * angle + kappa**2 * turning)
            for alpha, beta, gamma, kappa in lines
        ]
    )


def lines_of(function: Function, derivative: Function) -> tuple[Lines, Lines] | None:
    """The straight lines that φ approaches, and those of φ'; None if it is not on them beyond FAR."""
    x = FAR * np.array([-1.0, 1.0])
    slope, value = derivative(x), function(x)
    offset = value - slope * x
    alpha, gamma, beta, kappa = (offset.sum() / 2, np.diff(offset)[0] / 2, slope.sum() / 2, np.diff(slope)[0] / 2)
    far = x * np.array([[1.0], [1.5], [3.0], [20.0], [1000.0]])
    left = function(far) - offset - slope * far
    if np.abs(left).max() > 1e-13 * max(1.0, np.abs(offset).max(), 1000 * FAR * np.abs(slope).max()):
        return None
    return Lines(alpha, beta, gamma, kappa), Lines(beta, 0.0, kappa, 0.0)


class Localised:
    """As `Smoothed`, for φ and φ' with these lines, and for variances that differ by a small factor."""

    def __init__(
        self, functions: Sequence[Function], lines: Sequence[Lines], q: Array, moments: Array, tolerance: float
    ) -> None:
        self.lines, self.q = lines, q
        x = np.arange(-FAR, FAR, 1 / 16)
        rest = np.abs([f(x) for f in functions] - _smoothed(lines, x, 1.0))
        seen = [np.abs(x[part > 1e-16 * part.max()]).max(initial=1.0) for part in rest]
        self.reach = max(seen) / math.sqrt(q.min())  # of φ - A, in z
        s = np.sqrt(q)[:, None]
        self.error = math.inf
        for step in STEPS:
            before = self.error
            self.step = step / math.sqrt(q.max())
            n = math.ceil(self.reach / self.step)
            self.z = self.step * np.arange(-n, n + 1)
            self.rest = [f(s * self.z) for f in functions] - _smoothed(lines, s * self.z, 1.0)
            self._modes: dict[float, tuple[Array, Array]] = {}
            diagonal = np.einsum("fii->fi", self.matrices(0.0)[0])
            self.error = float((np.abs(diagonal - moments) / np.where(moments > 0, moments, 1)).max())
            if self.error <= tolerance or self.error > before / 10:  # a finer grid squares the error, or is of no use
                break

    def matrices(self, delta: float) -> Array:
        """See `Smoothed`."""
        rho, s = 1 - delta, np.sqrt(self.q)[:, None]
        half = 2 * self.reach
        while half < self.reach + 8.5 * math.sqrt(delta):
            half *= 2
        omega, transforms = self._transforms(half, delta)
        n = 2 ** math.ceil(math.log2(2.5 * len(omega)))
        smooth = np.zeros((*transforms.shape[:-1], n // 2 + 1), dtype=complex)
        smooth[..., : len(omega)] = transforms * np.exp(-0.5 * delta * omega**2)
        x = 2 * half / n * np.arange(1 - n // 2, n // 2)
        parts = np.fft.fftshift(np.fft.irfft(smooth, n, axis=-1), axes=-1)[..., 1:] * (n / (2 * half))
        lines = _smoothed(self.lines, s * x, np.sqrt(1 + self.q * delta)[:, None])
        weight = 2 * half / n * _density(x, rho)
        covariances = rho * np.outer(s, s)
        results = []
        for sign in (1, -1):
            turned_lines, turned = lines[..., ::sign].swapaxes(-1, -2), parts[..., ::sign].swapaxes(-1, -2)
            local = (parts * weight) @ (turned_lines + turned) + (lines * weight) @ turned
            results.append(_duals(self.lines, self.q + 1, sign * covariances) + local)
        return np.array(results)

    def _transforms(self, half: float, delta: float) -> tuple[Array, Array]:
        """The frequencies of the grid on [-half, half] that remain after smoothing, and φ - A at them."""
        most = int(half / self.step)
        n = min(most, math.ceil(math.sqrt(80 / max(delta, 1e-300)) * half / math.pi) + 1)
        key, size = half, 2 ** math.ceil(math.log2(n))
        known = self._modes.get(key)
        if known is None or len(known[0]) < n:
            omega = np.arange(min(size, most)) * (math.pi / half)
            phase = np.outer(self.z, omega)
            known = omega, self.step * (self.rest @ np.cos(phase) - 1j * (self.rest @ np.sin(phase)))
            self._modes[key] = known
        return known[0][:n], known[1][..., :n]
