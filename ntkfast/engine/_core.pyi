"""Types of the compiled module; what the functions do is said in _core.pyx and src_c/ntkfast.h."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from typing_extensions import disjoint_base

LANES: int
OUTPUTS: tuple[str, str, str]
INSTRUCTIONS: dict[str, tuple[int, int, int]]

BINS: int
STEP: int

@disjoint_base
class Series:
    name: str
    n_rows: int
    def __init__(
        self, name: str, counts: Sequence[int], reach: float, terms: NDArray[np.intc], slopes: bool = False
    ) -> None: ...
    def polynomial(self, basis: NDArray[np.longdouble]) -> Series: ...
    def kinks(
        self,
        at: NDArray[np.longdouble],
        jump: NDArray[np.longdouble],
        offset: float,
        slope: float,
        root: NDArray[np.float64],
        inverse_root: NDArray[np.float64],
    ) -> Series: ...
    def panels(
        self,
        first: int,
        per_unit: int,
        coef: NDArray[np.float64],
        moment: NDArray[np.float64],
        zero: float,
        zero_slope: float,
        jumps_at_zero: bool,
    ) -> Series: ...
    def near(self, blocks: Sequence[NDArray[np.float64] | None], edge: NDArray[np.float64]) -> Series: ...

@disjoint_base
class Program:
    def __new__(cls, code: Sequence[tuple[str, Sequence[float], Sequence[float]]], dot: int = -1) -> Self: ...
    def bind(self, k: int, series: Series) -> None: ...
    def missing(self) -> dict[int, set[tuple[int, int]]]: ...
    @property
    def n_rows(self) -> int: ...
    def __len__(self) -> int: ...

def isa_available() -> tuple[str, ...]: ...
def isa_in_use() -> str | None: ...
def has_openmp() -> bool: ...
def max_threads() -> int: ...
def norms(x: NDArray[np.floating], n_threads: int) -> NDArray[np.float64]: ...
def start(program: Program, squared_norms: NDArray[np.float64]) -> NDArray[np.longdouble]: ...
def points(
    program: Program,
    state: NDArray[np.longdouble],
    first: int,
    last: int,
    dtype: DTypeLike,
    n_threads: int,
    with_table: bool,
    progress: Callable[[int, int], object] | None,
) -> NDArray[np.floating]: ...
def dual(
    program: Program, q1: NDArray[np.float64], q2: NDArray[np.float64], c: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def limit(
    program: Program,
    x: NDArray[np.floating],
    x_table: NDArray[np.floating],
    y: NDArray[np.floating],
    y_table: NDArray[np.floating],
    diagonals: NDArray[np.floating] | None,
    outs: Sequence[NDArray[np.floating] | None],
    tile: int,
    n_threads: int,
    progress: Callable[[int, int], object] | None,
) -> None: ...
def rates(program: Program, squared_norms: NDArray[np.float64], n_threads: int) -> NDArray[np.longdouble]: ...
def weighted_gradient(
    program: Program,
    x: NDArray[np.floating],
    x_table: NDArray[np.floating],
    y: NDArray[np.floating],
    y_table: NDArray[np.floating],
    symmetric: bool,
    output: int,
    weights: NDArray[np.floating],
    tile: int,
    n_threads: int,
    progress: Callable[[int, int], object] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def gradient_matrices(
    program: Program,
    x: NDArray[np.floating],
    x_table: NDArray[np.floating],
    y: NDArray[np.floating],
    y_table: NDArray[np.floating],
    symmetric: bool,
    output: int,
    at: NDArray[np.intc],
    layer: NDArray[np.float64],
    of_row: NDArray[np.float64],
    of_column: NDArray[np.float64],
    out: NDArray[np.floating],
    tile: int,
    n_threads: int,
    progress: Callable[[int, int], object] | None,
) -> None: ...
def tangent(
    terms: Sequence[tuple[NDArray | None, NDArray | None, NDArray | None, NDArray | None, float, float]],
    out: NDArray[np.floating],
    symmetric: bool,
    tile: int,
    n_threads: int,
    progress: Callable[[int, int], object] | None,
) -> None: ...
