"""Progress of long calls: a tqdm bar, or the caller's own function."""

from __future__ import annotations

import contextlib
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
    if progress is False:
        yield None
    elif callable(progress):
        yield progress
    else:
        from tqdm.auto import tqdm  # takes longer to import than many calls

        hidden = None if progress is None else False  # None: hidden where stderr is not a terminal
        with tqdm(desc=description, leave=False, delay=1 if progress is None else 0, disable=hidden) as bar:

            def report(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield None if bar.disable else report
