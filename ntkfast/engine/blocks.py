"""Square blocks of a kernel matrix, of whole tiles, so that they have its bits; one triangle of them if symmetric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ntkfast.engine.problem import Problem, Window

SIDE = 4096  # about, by default
Block: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of `side` rows and columns, numbered in both directions."""

    shape: tuple[int, int]
    side: int
    symmetric: bool

    @classmethod
    def of(cls, problem: Problem, most: int = SIDE) -> BlockGrid:
        """With at most this many rows and columns, or of one tile."""
        tile = problem.tile()
        side = max(1, min(most // tile, -(-max(problem.shape) // tile))) * tile
        return cls(problem.shape, side, problem.symmetric)

    @property
    def counts(self) -> tuple[int, int]:
        n, m = (-(-size // self.side) for size in self.shape)
        return n, m

    def blocks(self) -> Iterator[Block]:
        """All that are kept, row by row."""
        n, m = self.counts
        return ((i, j) for i in range(n) for j in range(i if self.symmetric else 0, m))

    def __len__(self) -> int:
        n, m = self.counts
        return n * (n + 1) // 2 if self.symmetric else n * m

    def __contains__(self, block: object) -> bool:
        if not (isinstance(block, tuple) and len(block) == 2):
            return False
        (i, j), (n, m) = block, self.counts
        return (i if self.symmetric else 0) <= j < m and 0 <= i < n

    def window(self, block: Block) -> Window:
        """Its rows and columns."""
        rows, columns = (
            slice(k * self.side, min((k + 1) * self.side, size)) for k, size in zip(block, self.shape, strict=True)
        )
        return rows, columns

    def area(self, block: Block) -> int:
        rows, columns = self.window(block)
        return (rows.stop - rows.start) * (columns.stop - columns.start)
