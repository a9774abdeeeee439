"""Loops that numba compiles once: they are cached next to this file (or in numba's cache directory)."""

import functools

import numpy as np
from numba import njit

from ntkfast.support import forks


def compiled(**options):
    """njit whose first call, which compiles, is made as all that is compiled here."""

    def decorate(function):
        kernel = njit(cache=True, nogil=True, **options)(function)

        @functools.wraps(function)
        def call(*args):
            return kernel(*args) if kernel.signatures else forks.compiler.run(kernel, *args)

        return call

    return decorate


@compiled()
def hermite_sums(z, weighted, n):
    """Σ_i weighted_i h_k(z_i) for k < n, h_k the normalised probabilists' Hermite polynomials."""
    out = np.empty(n)
    before, h = np.zeros_like(z), np.ones_like(z)
    for k in range(n):
        total = 0.0
        up, down = 1.0 / np.sqrt(k + 1.0), np.sqrt(k / (k + 1.0))
        for i in range(len(z)):
            total += weighted[i] * h[i]
            following = z[i] * h[i] * up - down * before[i]
            before[i] = h[i]
            h[i] = following
        out[k] = total
    return out


@compiled(fastmath={"reassoc", "contract", "nsz"})
def long_hermite_sums(z, weighted, n):
    """The same for several functions, weighted (functions, len(z)), with sums in any order: (functions, n)."""
    out = np.empty((len(weighted), n))
    before, h = np.zeros_like(z), np.ones_like(z)
    for k in range(n):
        up, down = 1.0 / np.sqrt(k + 1.0), np.sqrt(k / (k + 1.0))
        for f in range(len(weighted)):
            total = 0.0
            for i in range(len(z)):
                total += weighted[f, i] * h[i]
            out[f, k] = total
        for i in range(len(z)):
            following = z[i] * h[i] * up - down * before[i]
            before[i] = h[i]
            h[i] = following
    return out


@compiled()
def piecewise_chebyshev(x, breaks, coefficients):
    """Σ_k coefficients[p, k] T_k(ξ), with ξ in [-1, 1] the position of x on the panel p of breaks that contains it."""
    out = np.empty_like(x)
    panel, last = 0, len(breaks) - 2
    for i in range(len(x)):
        if not (breaks[panel] <= x[i] < breaks[panel + 1]):  # neighbours are often on the same panel
            panel = min(max(np.searchsorted(breaks, x[i], side="right") - 1, 0), last)
        low, high = breaks[panel], breaks[panel + 1]
        place = (2 * x[i] - low - high) / (high - low)
        before, now = 0.0, 0.0
        for k in range(coefficients.shape[1] - 1, 0, -1):
            before, now = now, coefficients[panel, k] + 2 * place * now - before
        out[i] = coefficients[panel, 0] + place * now - before
    return out
