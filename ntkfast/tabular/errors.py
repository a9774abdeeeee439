"""The error of a table, and suggestions for names that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ntkfast.support.errors import Error

SHOWN = 8  # names in a message


class TableError(Error, ValueError):
    """A table cannot be read or does not fit. The message names the file or the columns."""


def listed(names: Iterable[str]) -> str:
    """Names for a message, the first of many."""
    every = [repr(name) for name in names]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def suggestion(name: str, known: Sequence[str]) -> str:
    """'; did you mean …?', or nothing."""
    folded = {other.casefold(): other for other in known}
    close = [folded[found] for found in difflib.get_close_matches(name.casefold(), list(folded), 2)]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def find(name: str, known: Sequence[str], argument: str) -> str:
    """The name, if the table has it."""
    if name not in known:
        hint = suggestion(name, known) or f"; the columns are {listed(known)}"
        raise TableError(f"{argument}: the table has no column {name!r}{hint}")
    return name
