"""Types of the compiled module; what the functions do is said in _core.pyx and src_c/ntkfast.h."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

LANES: int
OUTPUTS: tuple[str, str, str]
INSTRUCTIONS: dict[str, tuple[int, int, int]]

class Program:
    def __init__(self, code: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> None: ...
    @property
    def n_rows(self) -> int: ...

def isa_available() -> tuple[str, ...]: ...
def isa_in_use() -> str | None: ...
def has_openmp() -> bool: ...
def max_threads() -> int: ...
def norms(x: NDArray[np.floating], n_threads: int) -> NDArray[np.float64]: ...
def points(
    program: Program,
    squared_norms: NDArray[np.float64],
    dtype: DTypeLike,
    n_threads: int,
    with_table: bool,
    progress: Callable[[int, int], object] | None,
) -> tuple[NDArray[np.floating], NDArray[np.longdouble]]: ...
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
