"""An instruction of a kernel program as a value: its name in the registry of src_c/ntkfast.h, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Instruction"]


@dataclass(frozen=True)
class Instruction:
    """One instruction, without the affine layer that it ends with.

    Attributes
    ----------
    name : str
        As in the registry.
    parameters : tuple
        Numbers for the closed forms. If the instruction `varies`, what its data are computed from.
    """

    name: str
    parameters: tuple = ()

    @property
    def varies(self) -> bool:
        """Whether it sums a Hermite series, whose data depend on the variances that occur in the program."""
        return self.is_polynomial or self.is_piecewise_linear or self.is_series

    @property
    def is_polynomial(self) -> bool:
        """Whether the series is finite; the parameters are the coefficients of φ."""
        return self.name == "polynomial"

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether φ(x) = offset + slope x + Σ_j jump_j max(x - at_j, 0), parameters offset, slope, ((at, jump), …)."""
        return self.name == "kinks"

    @property
    def is_two_slopes(self) -> bool:
        """Whether φ(x) = a min(x, 0) + b max(x, 0), parameters (a, b)."""
        return self.name == "piecewise_linear"

    @property
    def has_offset(self) -> bool:
        """Whether the parameters are an amplitude, a frequency, and an offset, which may be 0."""
        return self.name in ("sine", "erf")

    @property
    def is_series(self) -> bool:
        """Whether φ and φ' are given only as functions: their coefficients come from quadrature."""
        return self.name == "series"
