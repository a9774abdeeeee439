"""Progress of long calls: a tqdm bar, or whatever the caller gave."""

import contextlib

from tqdm.auto import tqdm


@contextlib.contextmanager
def reporter(progress, description):
    """A callable (done, total), or None.

    progress: None shows a bar on a terminal once a call has taken a second; True always, False never; a callable
    (done, total) is called as it is.
    """
    if progress is False:
        yield None
    elif callable(progress):
        yield progress
    elif progress is None or progress is True:
        hidden = None if progress is None else False  # None: hidden where stderr is not a terminal
        with tqdm(
            desc=description, unit="tile", leave=False, delay=1 if progress is None else 0, disable=hidden
        ) as bar:

            def report(done, total):
                bar.total = total
                bar.update(done - bar.n)

            yield None if bar.disable else report
    else:
        raise TypeError(f"progress: expected None, True, False or a callable, got {type(progress).__name__}")
