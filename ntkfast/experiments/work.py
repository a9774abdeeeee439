"""One progress bar for a run of many parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ntkfast.support.progress import reporter

__all__ = ["Progress", "Report", "Work", "working"]

Report = Callable[[int, int], object]  # called with (done, total)
Progress = bool | Report | None


class Work:
    """A run of many parts, each of which is a share of the work."""

    def __init__(self, report: Report | None, total: float) -> None:
        self.report, self.total, self.done = report, total, 0.0

    def part(self, amount: float) -> Report:
        """A callable (done, total) for the next part."""
        start, self.done = self.done, self.done + amount

        def report(done: int, total: int) -> None:
            if self.report is not None:
                self.report(int(1000 * (start + amount * done / max(total, 1)) / self.total), 1000)

        return report


@contextlib.contextmanager
def working(progress: Progress, description: str, total: float) -> Iterator[Work]:
    """The work of a whole run, whose parts add up to `total` in any unit."""
    with reporter(progress, description) as report:
        yield Work(report, total)
