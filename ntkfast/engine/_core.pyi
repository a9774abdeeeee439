"""Types of the compiled module; the functions are documented in _core.pyx and src_c/ntkfast.h."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from typing_extensions import disjoint_base

_Array = NDArray[np.floating[Any]]

LANES: int
EDGE: int
OUTPUTS: tuple[str, str, str]
STATISTICS: tuple[str, ...]
INSTRUCTIONS: dict[str, tuple[int, int, int]]

BINS: int
NEAR_DEGREES: int
NEAR_STEP: int
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
        first: float,
        per_unit: float,
        coef: NDArray[np.float64],
        moment: NDArray[np.float64],
        zero: float,
        zero_slope: float,
        jumps_at_zero: bool,
    ) -> Series: ...
    def powers(
        self,
        at: NDArray[np.float64],
        side: NDArray[np.float64],
        coef: NDArray[np.float64],
        window: float,
        exact: bool,
        start: float,
        upto: float,
    ) -> Series: ...
    def near(
        self,
        cells: Sequence[tuple[Sequence[int], NDArray[np.float64]] | None],
        parts: int,
        edge: NDArray[np.float64],
        root: bool,
    ) -> Series: ...

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
def use_isa(name: str) -> str: ...
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
def trace(program: Program, q: float, delta: float) -> NDArray[np.float64]: ...
def pair(program: Program, x: _Array, y: _Array, output: str, ranges: NDArray[np.float64]) -> float: ...
def rates(program: Program, squared_norms: NDArray[np.float64], n_threads: int) -> NDArray[np.longdouble]: ...

@disjoint_base
class Grid:
    def __init__(self, n: int, m: int, tile: int, symmetric: bool, dtype: DTypeLike, width: int = 0) -> None: ...
    @property
    def tiles(self) -> int: ...

@disjoint_base
class Map: ...

@disjoint_base
class LimitMap(Map):
    def __init__(
        self,
        program: Program,
        x: _Array,
        x_table: _Array,
        y: _Array,
        y_table: _Array,
        diagonals: _Array | None,
        get: Sequence[str],
    ) -> None: ...
    def nearby(
        self,
        x_norms: NDArray[np.float64],
        x_inverse: _Array,
        y_norms: NDArray[np.float64],
        y_inverse: _Array,
        shift: float,
        bound: float,
    ) -> LimitMap: ...

@disjoint_base
class GradientMap(Map):
    def __init__(
        self, program: Program, x: _Array, x_table: _Array, y: _Array, y_table: _Array, output: str
    ) -> None: ...
    def weighted(self, weights: _Array, sink: GradientSink) -> GradientMap: ...
    def matrices(
        self, first: NDArray[np.intc], layer: _Array, of_row: _Array, of_column: _Array, out: _Array
    ) -> GradientMap: ...

@disjoint_base
class TangentMap(Map):
    def __init__(
        self,
        terms: Sequence[tuple[_Array | None, _Array | None, _Array | None, _Array | None, float, float]],
        single: bool,
    ) -> None: ...

@disjoint_base
class FiniteWidthMap(Map):
    def __init__(
        self,
        x: _Array,
        x_numbers: NDArray[np.float64],
        y: _Array,
        y_numbers: NDArray[np.float64],
        first: Sequence[float],
        hidden: NDArray[np.float64],
        n_outputs: float,
        get: Sequence[str],
    ) -> None: ...

@disjoint_base
class Sink: ...

@disjoint_base
class ArraySink(Sink):
    def __init__(self, outs: Sequence[_Array | None]) -> None: ...

@disjoint_base
class VectorSink(Sink):
    def __init__(self, output: str, n: int, v: _Array) -> None: ...
    def result(self) -> _Array: ...

class NormalSink(VectorSink):
    def __init__(self, output: str, v: _Array) -> None: ...

@disjoint_base
class GradientSink(Sink):
    layers: NDArray[np.float64]
    by_row: NDArray[np.float64]
    by_column: NDArray[np.float64]
    of_rows: NDArray[np.float64] | None
    of_columns: NDArray[np.float64] | None
    def __init__(self, inputs: bool = False) -> None: ...

def run(
    map: Map,
    sink: Sink,
    grid: Grid,
    first: int,
    last: int,
    n_threads: int,
    progress: Callable[[int, int], object] | None,
) -> None: ...
