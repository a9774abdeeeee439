"""Findings: numbers of the paper or the theory beside ours, and whether they are within their tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Finding", "PowerLaw", "below", "exponent", "less", "near", "power_law", "told", "within"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: a number of the paper or the theory, ours, and whether it is within its tolerance."""

    what: str
    expected: str
    found: str
    tolerance: str = ""
    ok: bool | None = None  # None: nothing is claimed

    def __str__(self):
        expected = f" (expected {self.expected}{f', tolerance {self.tolerance}' if self.tolerance else ''})"
        verdict = {None: "", True: ": ok", False: ": out"}[self.ok]
        return f"{self.what}: {self.found}{expected if self.expected else ''}{verdict}"


def near(what, expected, found, tolerance) -> Finding:
    if np.isnan(tolerance) and not np.isnan(found):  # of a single sample
        return Finding(what, f"{expected:.4g}", f"{found:.4g}", "too few to tell")
    ok = bool(abs(found - expected) <= tolerance)
    return Finding(what, f"{expected:.4g}", f"{found:.4g}", f"±{tolerance:.2g}", ok)


def within(what, low, high, found, expected="") -> Finding:
    return Finding(what, expected, f"{found:.4g}", f"{low:.3g} to {high:.3g}", bool(low <= found <= high))


def below(what, bound, found, expected="") -> Finding:
    return Finding(what, expected, f"{found:.4g}", f"≤ {bound:.3g}", bool(found <= bound))


def told(what, found, expected="") -> Finding:
    return Finding(what, expected, found if isinstance(found, str) else f"{found:.4g}")


class PowerLaw(NamedTuple):
    """An exponent, its standard error, and the degrees of freedom from which that error is known."""

    slope: float
    error: float
    freedom: int


TOO_FEW = PowerLaw(np.nan, np.inf, 0)


def power_law(widths, samples) -> PowerLaw:
    """The exponent of mean(samples) as a power of the width, and its standard error from the spread over samples.

    The spread is taken to be the same share of the mean at all widths, so that a few samples of each will do.

    Parameters
    ----------
    widths : array_like, shape (W,)
    samples : array_like, shape (W, S)
        S >= 2.

    Returns
    -------
    PowerLaw
        Its exponent nan if some mean is not positive; its error inf if there are too few widths or samples.

    Examples
    --------
    >>> from ntkfast.experiments.verdicts import power_law
    >>> law = power_law([10, 1000], [[0.1, 0.1], [0.001, 0.001]])
    >>> round(law.slope, 6), round(law.error, 6), law.freedom
    (-1.0, 0.0, 2)
    """
    x, samples = np.log(widths), np.asarray(samples)
    mean = samples.mean(axis=1)
    if not (mean > 0).all():
        return PowerLaw(np.nan, np.nan, 0)
    x = x - x.mean()
    if len(set(x)) < 2:
        return TOO_FEW
    slope, error = x @ np.log(mean) / (x @ x), _relative(samples) / np.sqrt(x @ x)
    return PowerLaw(float(slope), float(error), samples.size - len(samples))


def _reach(error, freedom, level):
    """What a number of this standard error exceeds by chance with this probability, on either side."""
    return stats.t.ppf(1 - level, freedom) * error if error < np.inf else error


def _relative(samples):
    """The standard error of the means of the rows over these means, the same for all rows; inf for one column."""
    if samples.shape[1] < 2:
        return np.inf
    return np.sqrt(np.mean(samples.var(axis=1, ddof=1) / samples.mean(axis=1) ** 2) / samples.shape[1])


def exponent(what, expected, law, slower=0.1, faster=0.1) -> Finding:
    """Whether a power law has the expected exponent, up to chance and terms of higher order.

    Of right exponents 1 in 200 is out by chance, by Student's distribution (a few more where the relative spread
    differs much between widths). Where the tolerance would reach from the exponent to 0, nothing is claimed.

    Parameters
    ----------
    what : str
    expected : float
        Negative.
    law : PowerLaw
    slower, faster : float
        How much nearer to 0 and farther from it the exponent may be for other reasons than chance.
    """
    found = f"{law.slope:.3g}, standard error {law.error:.1g}"
    chance = _reach(law.error, law.freedom, 0.0025)
    if np.isnan(chance):
        return Finding(what, f"{expected:g}", "some mean is not positive", "", False)
    if slower + chance >= -expected:
        return Finding(what, f"{expected:g}", found, "too few or too like widths to tell")
    low, high = expected - faster - chance, expected + slower + chance
    return Finding(what, f"{expected:g}", found, f"{low:.2f} to {high:.2f}", bool(low <= law.slope <= high))


def less(what, samples) -> Finding:
    """Whether the first row of positive numbers is smaller on average than the last, at a level of 1 in 20.

    Parameters
    ----------
    what : str
    samples : array_like, shape (W, S)
        S >= 2. The spread is taken to be the same share of the mean in all rows.
    """
    samples = np.asarray(samples, dtype=float)
    if not (samples > 0).all():
        return Finding(what, "< 1", "some are not positive", "", False)
    if np.isinf(samples).any():
        return Finding(what, "< 1", "some are infinite")
    ratio = samples[0].mean() / samples[-1].mean()
    chance = np.exp(_reach(np.sqrt(2) * _relative(samples), samples.size - len(samples), 0.05))
    if 1 / chance < ratio < chance:
        return Finding(what, "< 1", f"{ratio:.3g}", f"{1 / chance:.2g} to {chance:.2g} may be chance")
    return Finding(what, "< 1", f"{ratio:.3g}", f"≤ {1 / chance:.2g}", bool(ratio < 1))
