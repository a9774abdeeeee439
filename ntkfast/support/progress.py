"""Progress of long calls: a tqdm bar, or the caller's own function."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

from ntkfast.support.typing import Progress


def check(progress: Progress) -> None:
    """Raise unless `reporter` accepts this."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress: expected None, True, False or a callable, got {type(progress).__name__}")


@contextlib.contextmanager
def reporter(progress: Progress, description: str) -> Iterator[Callable[[int, int], object] | None]:
    """A callable (done, total), or None.

    progress: None shows a bar on a terminal once a call has taken a second; True always, False never; a callable
    (done, total) is called directly.
    """
    if progress is False or (progress is None and not _has_viewer()):
        yield None
    elif callable(progress):
        yield progress
    else:
        # Takes longer to import than many a call. Not tqdm.auto, which imports asyncio: an interrupt there would break
        # that module for the rest of the process.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in notebooks it says that it is experimental
            from tqdm.autonotebook import tqdm

        hidden = None if progress is None else False  # None: hidden where stderr is not a terminal
        with tqdm(desc=description, leave=False, delay=1 if progress is None else 0, disable=hidden) as bar:
            yield None if bar.disable else _Report(bar, description)


def _has_viewer() -> bool:
    """Whether a bar may be seen. tqdm would hide it, too, but leave a thread behind."""
    is_terminal = getattr(sys.stderr, "isatty", None)
    return "IPython" in sys.modules or (is_terminal is not None and is_terminal())


class _Report:
    """Moves a bar."""

    def __init__(self, bar, description: str) -> None:
        self._bar, self._description = bar, description

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show this in place of the description meanwhile; where the bar waits before it appears, only once it has."""
        self._bar.set_description(what, refresh=self._bar.delay == 0)
        yield
        self._bar.set_description(self._description, refresh=False)


def doing(report: Callable[[int, int], object] | None, what: str) -> contextlib.AbstractContextManager[None]:
    """A context in which a bar says what is being done; other reports have no words."""
    return report.doing(what) if isinstance(report, _Report) else contextlib.nullcontext()
