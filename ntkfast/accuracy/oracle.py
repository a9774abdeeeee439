"""Σ and Θ of pairs under an MLP by the plain recursion over layers, in mpmath's digits, without the engine.

Jacot, Gabriel and Hongler (2018), Proposition 1 and Theorem 1; the duals are closed forms from the literature where
they exist, and integrals elsewhere.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ntkfast.accuracy import formulas, piecewise, polar
from ntkfast.accuracy.formulas import mp

DIGITS = 100  # of closed forms; they cancel where points are near
LARGEST = 1e300


class Pair(NamedTuple):
    """Σ and Θ of both points with themselves and of the pair."""

    xx: object
    yy: object
    xy: object
    ntk_xx: object
    ntk_yy: object
    ntk_xy: object


def dual(activation, q1, q2, c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)]."""
    if activation.name in piecewise.PIECES:
        return piecewise.dual(activation.name, activation.parameters, q1, q2, c)
    if activation.name in polar.PHI:
        return polar.dual(activation.name, activation.parameters, q1, q2, c)
    return formulas.dual(activation, q1, q2, c)


def is_known(activation) -> bool:
    return any(activation.name in table for table in (piecewise.PIECES, polar.PHI, formulas.DUALS))


def is_integrated(activation) -> bool:
    """Whether its duals take an integral, which is slow."""
    return activation.name in polar.PHI or activation.name in piecewise.PIECES


def layers(activation, weight_std, bias_std, x, y) -> Iterator[Pair]:
    """The Pair after every affine layer; ends where variances leave float64."""
    w2, b2 = mp.mpf(weight_std) ** 2, mp.mpf(bias_std) ** 2
    x, y = ([mp.mpf(float(value)) for value in point] for point in (x, y))
    sigma = [w2 * mp.fdot(a, b) / len(x) + b2 for a, b in ((x, x), (y, y), (x, y))]
    theta = sigma
    while max(*sigma, *theta) < LARGEST and min(*sigma[:2]) > 1 / LARGEST:
        yield Pair(*sigma, *theta)
        xx, yy, xy = sigma
        duals = [dual(activation, *pair) for pair in ((xx, xx, xx), (yy, yy, yy), (xx, yy, xy))]
        sigma = [w2 * value + b2 for value, _ in duals]
        theta = [w2 * slope * t + s for (_, slope), t, s in zip(duals, theta, sigma, strict=True)]
