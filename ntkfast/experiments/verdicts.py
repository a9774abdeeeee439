"""Findings: numbers of the paper or the theory compared with ours, and whether ours are within tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = [
    "SQUARES",
    "TOO_FEW",
    "Finding",
    "PowerLaw",
    "below",
    "exponent",
    "less",
    "mean_near",
    "near",
    "power_law",
    "reported",
    "within",
]


@dataclass(frozen=True)
class Finding:
    """One line of the report: a number of the paper or the theory, ours, and whether ours is within tolerance.

    Attributes
    ----------
    what : str
    expected, found : str
    tolerance : str
    ok : bool or None
        None if nothing is claimed.
    """

    what: str
    expected: str
    found: str
    tolerance: str = ""
    ok: bool | None = None

    def __str__(self) -> str:
        expected = f" (expected {self.expected}{f', tolerance {self.tolerance}' if self.tolerance else ''})"
        verdict = {None: "", True: ": ok", False: ": out"}[self.ok]
        return f"{self.what}: {self.found}{expected if self.expected else ''}{verdict}"


def near(what: str, expected: float, found: float, tolerance: float) -> Finding:
    """Whether a number is within the tolerance of the expected one."""
    if np.isnan(tolerance) and not np.isnan(found):  # from a single sample
        return Finding(what, f"{expected:.4g}", f"{found:.4g}", "too few to tell")
    ok = bool(abs(found - expected) <= tolerance)
    return Finding(what, f"{expected:.4g}", f"{found:.4g}", f"±{tolerance:.2g}", ok)


def mean_near(what: str, expected: float, samples: ArrayLike, higher: float, least: float = 0.0) -> Finding:
    """Whether the mean of samples is within 3.5 standard errors of the expected one; the z-score is reported.

    Parameters
    ----------
    what : str
    expected : float
    samples : array_like, shape (S,)
        Of fewer than 20 nothing is claimed.
    higher : float
        How far off the expected mean may be, as it leaves out terms of higher order.
    least : float
        What the standard deviation of a sample is at least. That of skewed samples, such as squares, comes out too
        small where their mean does.
    """
    samples = np.asarray(samples)
    mean = samples.mean()
    if len(samples) < 20:
        return reported(what, mean, f"{expected:.4g}")
    error = max(samples.std(ddof=1), least) / np.sqrt(len(samples))
    tolerance, found = 3.5 * error + higher, f"{mean:.4g}, z-score {(mean - expected) / error:.1f}"
    return Finding(what, f"{expected:.4g}", found, f"±{tolerance:.2g}", bool(abs(mean - expected) <= tolerance))


SQUARES = 2**0.5  # the standard deviation of the square of a standard Gaussian: `least` for squares over their means


def within(what: str, low: float, high: float, found: float, expected: str = "") -> Finding:
    """Whether a number is between two bounds."""
    return Finding(what, expected, f"{found:.4g}", f"{low:.3g} to {high:.3g}", bool(low <= found <= high))


def below(what: str, bound: float, found: float, expected: str = "") -> Finding:
    """Whether a number is at most the bound."""
    return Finding(what, expected, f"{found:.4g}", f"≤ {bound:.3g}", bool(found <= bound))


def reported(what: str, found: float | str, expected: str = "") -> Finding:
    """A number about which nothing is claimed."""
    return Finding(what, expected, found if isinstance(found, str) else f"{found:.4g}")


class PowerLaw(NamedTuple):
    """An exponent, its standard error, and the degrees of freedom of that error."""

    slope: float
    error: float
    freedom: int


TOO_FEW = PowerLaw(np.nan, np.inf, 0)


def power_law(widths: ArrayLike, samples: ArrayLike) -> PowerLaw:
    """The exponent of mean(samples) as a power of the width, and its standard error from the spread of the samples.

    The spread relative to the mean is taken to be the same at all widths, so that a few samples of each are enough.

    Parameters
    ----------
    widths : array_like, shape (W,)
    samples : array_like, shape (W, S)
        S >= 2.

    Returns
    -------
    PowerLaw
        Its exponent is nan if some mean is not positive; its error is inf if there are too few widths or samples.

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


def _reach(error: float, freedom: int, level: float) -> float:
    """The deviation that a number with this standard error exceeds by chance with this probability, on either side."""
    return float(stats.t.ppf(1 - level, freedom) * error if error < np.inf else error)


def _relative(samples: np.ndarray) -> float:
    """The standard error of the means of the rows relative to them, the same for all rows; inf for a single column."""
    if samples.shape[1] < 2:
        return np.inf
    return float(np.sqrt(np.mean(samples.var(axis=1, ddof=1) / samples.mean(axis=1) ** 2) / samples.shape[1]))


def exponent(what: str, expected: float, law: PowerLaw, slower: float = 0.1, faster: float = 0.1) -> Finding:
    """Whether a power law has the expected exponent, up to chance and terms of higher order.

    Of correct exponents, 1 in 200 is out of tolerance by chance, by Student's distribution (a few more if the relative
    spread differs a lot between widths). If the tolerance would extend from the exponent to 0, nothing is claimed.

    Parameters
    ----------
    what : str
    expected : float
        Negative.
    law : PowerLaw
    slower, faster : float
        How much closer to 0, and how much farther from it, the exponent may be for reasons other than chance.
    """
    found = f"{law.slope:.3g}, standard error {law.error:.1g}"
    chance = _reach(law.error, law.freedom, 0.0025)
    if np.isnan(chance):
        return Finding(what, f"{expected:g}", "some mean is not positive", "", False)
    if slower + chance >= -expected:
        return Finding(what, f"{expected:g}", found, "widths too few or too close to tell")
    low, high = expected - faster - chance, expected + slower + chance
    return Finding(what, f"{expected:g}", found, f"{low:.2f} to {high:.2f}", bool(low <= law.slope <= high))


def less(what: str, samples: Sequence[ArrayLike] | np.ndarray) -> Finding:
    """Whether the first row of positive numbers has a smaller mean than the last, at a significance level of 1 in 20.

    Parameters
    ----------
    what : str
    samples : array_like, shape (W, S)
        S >= 2. The spread relative to the mean is taken to be the same in all rows.
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
