"""Duals of piecewise-linear φ in mpmath, from the distribution function of a Gaussian pair."""

from functools import lru_cache

from ntkfast.accuracy.formulas import mp

DIGITS = 45


def clipped(low, high, slope, at_zero):
    """at_zero + slope x, held between low and high, as (offset, kinks): offset + Σ jump max(x - at, 0)."""
    low, high, slope, at_zero = (mp.mpf(value) for value in (low, high, slope, at_zero))
    return low, (((low - at_zero) / slope, slope), ((high - at_zero) / slope, -slope))


PIECES = {
    "hardtanh": lambda low, high: clipped(low, high, 1, 0),
    "hardsigmoid": lambda: clipped(0, 1, mp.mpf(1) / 6, 0.5),
    "relu6": lambda: clipped(0, 6, 1, 0),
}


@lru_cache(maxsize=4096)
@mp.workdps(DIGITS)
def dual(name, parameters, q1, q2, c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] of an activation in PIECES; `parameters` as in Activation."""
    offset, kinks = PIECES[name](**dict(parameters))
    value, slope = offset**2, 0 * c
    for at, jump in kinks:
        value += offset * jump * (mean_above(q1, at) + mean_above(q2, at))
        for other, its_jump in kinks:
            both, product = above(q1, q2, c, at, other)
            value += jump * its_jump * product
            slope += jump * its_jump * both
    return value, slope


def mean_above(q, t):
    """E[(u - t)₊]."""
    root = mp.sqrt(q)
    return root * mp.npdf(t / root) - t * mp.ncdf(-t / root)


def above(q1, q2, c, s, t):
    """P(u > s, v > t) and E[(u - s)₊ (v - t)₊].

    A negative covariance is taken to a positive one by v = -w, where the integral of `upper` begins at its smooth end.
    """
    r1, r2 = mp.sqrt(q1), mp.sqrt(q2)
    if c < 0:
        both, product = above(q1, q2, -c, s, -t)
        tail = mp.ncdf(-s / r1)
        return tail - both, c * tail - t * mean_above(q1, s) + product
    rest = q1 * q2 - c * c
    if rest <= 0:
        a, b = sorted((s / r1, t / r2))  # (z - a)₊(z - b)₊ = (z - b)₊² + (b - a)(z - b)₊
        tail = mp.ncdf(-b)
        return tail, r1 * r2 * ((1 + b * b) * tail - b * mp.npdf(b) + (b - a) * (mp.npdf(b) - b * tail))
    root = mp.sqrt(rest)
    both = upper(s / r1, t / r2, mp.atan2(root, c))
    at_s = mp.npdf(s / r1) / r1, (c * s / q1 - t), root / r1  # density of u at s; mean and deviation of v - t there
    at_t = mp.npdf(t / r2) / r2, (c * t / q2 - s), root / r2
    second = c * at_s[0] * mp.ncdf(at_s[1] / at_s[2]) + q2 * at_t[0] * mp.ncdf(at_t[1] / at_t[2]) - t * both
    density, mean, deviation = at_s
    positive = deviation * mp.npdf(mean / deviation) + mean * mp.ncdf(mean / deviation)
    return both, q1 * density * positive + c * both - s * second  # Stein's lemma


def upper(h, k, theta):
    """P(z1 > h, z2 > k) at correlation cos θ: that at correlation 1 less the integral of the density over the angle."""
    gap, product = (h - k) ** 2, h * k

    def density(angle):
        sine = mp.sin(angle)
        return mp.exp(-gap / (2 * sine * sine) - product / (1 + mp.cos(angle))) if sine > 0 else mp.mpf(0)

    return mp.ncdf(-max(h, k)) - mp.quad(density, [0, theta]) / (2 * mp.pi)
