"""Memory: how much is available, and an error before the allocation rather than a killed process after it."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ntkfast.support.scalars import positive_integer
from ntkfast.support.typing import Memory

SMALL = 2**26
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
CGROUPS = (  # mount point, entry of /proc/self/cgroup, limit, usage, and the line of memory.stat for cached files
    ("/sys/fs/cgroup", "", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def amount(memory: Memory) -> int | None:
    """The argument memory= in bytes: a number, or a text such as "4GB" (4e9), "4GiB" (2^32) or "0.5 TB"."""
    if not isinstance(memory, str):
        return None if memory is None else positive_integer(memory, "memory")
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]?i?)B?\s*", memory, re.IGNORECASE)
    found = float(match[1]) * UNITS.get(match[2].capitalize(), 0) if match else 0
    n_bytes = int(found) if math.isfinite(found) else 0
    if n_bytes < 1:
        raise ValueError(f"memory: expected a number of bytes, or a text such as '4GB' or '500MiB', got {memory!r}")
    return n_bytes


def allowed(memory: Memory) -> float:
    """The argument memory= in bytes; by default what is available, inf where that is unknown."""
    return amount(memory) or available() or math.inf


def in_words(n_bytes: float) -> str:
    """Bytes in words: "5 bytes", "3.20 MiB"."""
    if n_bytes < 1024:
        return f"{n_bytes:.0f} bytes"
    power = min((int(n_bytes).bit_length() - 1) // 10, 4)
    return f"{n_bytes / 1024**power:.2f} {' KMGT'[power]}iB"


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _statistic(path: Path, name: str) -> int:
    """One line of memory.stat, for cached files: they count as used, but are evicted on demand."""
    return next((int(line.split()[1]) for line in _lines(path) if line.startswith(name + " ")), 0)


def _left_in_cgroups() -> Iterator[int]:
    """Bytes left in the groups of this process and in those around them, each of which may have a limit of its own."""
    own = {kind: path for _, kind, path in (line.split(":", 2) for line in _lines(Path("/proc/self/cgroup")))}
    for mount, kind, limit, usage, cache in CGROUPS:
        folder = Path(mount, own.get(kind, "").lstrip("/"))
        for group in (folder, *folder.parents):
            total, used = _number(group / limit), _number(group / usage)
            if total is not None and used is not None:
                yield max(0, total - used + _statistic(group / "memory.stat", cache))
            if group == Path(mount):
                break


def _left_of_addresses() -> int | None:
    """Bytes up to RLIMIT_AS (ulimit -v)."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = next(iter(_lines(Path("/proc/self/statm"))), "").split()
    if limit == resource.RLIM_INFINITY or not used:
        return None
    return max(0, limit - int(used[0]) * os.sysconf("SC_PAGE_SIZE"))


def available() -> int | None:
    """Bytes that this process can still get: the system's, lowered to the limits of cgroups and of the process. None:
    unknown.
    """
    candidates = [
        1024 * int(line.split()[1]) for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")
    ]
    if not candidates and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        candidates.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    addresses = _left_of_addresses()
    return min((*candidates, *_left_in_cgroups(), *(() if addresses is None else (addresses,))), default=None)


def _lacking(n_bytes: int) -> int | None:
    """The bytes that are available if they are fewer than n_bytes, else None. Small requests are not checked."""
    there = None if n_bytes < SMALL else available()
    return there if there is not None and n_bytes > there else None


def fits(n_bytes: int) -> bool:
    """Whether n_bytes are available."""
    return _lacking(n_bytes) is None


def require(n_bytes: int, what: str, hint: str = "", most: float = math.inf) -> None:
    """Raise MemoryError if n_bytes are not available, or more than the argument memory= allows (`most`)."""
    there = _lacking(n_bytes)
    if there is not None:
        raise MemoryError(f"{what} needs {in_words(n_bytes)}, {in_words(there)} are available{hint}")
    if n_bytes > most:
        raise MemoryError(f"{what} needs {in_words(n_bytes)}, memory={most} was given{hint}")


def ran_out(error: BaseException) -> bool:
    """Whether a lack of memory is behind an error.

    Libraries answer it with errors of their own (NumPy with a SystemError, OpenSSL and locks with words), or raise
    others when they clean up.
    """
    found: BaseException | None = error
    while found is not None:
        words = str(found).startswith(("[digital envelope routines]", "can't allocate"))
        if words or isinstance(found, MemoryError | SystemError) or getattr(found, "errno", None) == errno.ENOMEM:
            return True
        found = found.__cause__ or found.__context__
    return False
