"""Memory: how much is available, and an error before the allocation rather than a killed process after it."""

import os
from pathlib import Path

SMALL = 2**26


def _number(path: Path) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _statistic(path: Path, name: str) -> int:
    """One line of memory.stat, for cached files: they count as used, but are evicted on demand."""
    try:
        return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name + " ")), 0)
    except OSError:
        return 0


def available() -> int | None:
    """Bytes that this process can still get: the system's, lowered to the cgroup's limit. None: unknown."""
    candidates = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                candidates.append(1024 * int(line.split()[1]))
    except OSError:
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
            candidates.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder, limit, usage, cache in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        total, used = _number(Path(folder, limit)), _number(Path(folder, usage))
        if total is not None and used is not None:
            candidates.append(max(0, total - used + _statistic(Path(folder, "memory.stat"), cache)))
    return min(candidates, default=None)


def _lacking(n_bytes: int) -> int | None:
    """The bytes that are available if they are fewer than n_bytes, else None. Small requests are not checked."""
    there = None if n_bytes < SMALL else available()
    return there if there is not None and n_bytes > there else None


def fits(n_bytes: int) -> bool:
    """Whether n_bytes are available."""
    return _lacking(n_bytes) is None


def require(n_bytes: int, what: str, hint: str = "") -> None:
    """Raise MemoryError if n_bytes are not available."""
    there = _lacking(n_bytes)
    if there is not None:
        raise MemoryError(f"{what} needs {n_bytes / 2**30:.2f} GiB, {there / 2**30:.2f} GiB are available{hint}")
