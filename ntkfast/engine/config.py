"""What this installation runs on, for `ntkfast info` and bug reports."""

import platform
from pathlib import Path

from ntkfast.engine import _core, threads
from ntkfast.engine.problem import tile_size


def _cache_sizes() -> str:
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:  # some virtual machines do not say
            continue
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "unknown"


def instruction_set() -> str | None:
    """The one in use."""
    name: str | None = _core.isa_in_use()
    return name


def configuration() -> dict[str, str]:
    """Name and value of everything that `show_config` prints, in its order."""
    from importlib.metadata import version  # slow to import, and used only here

    tile = tile_size(10**4, 10**4, 1, 8)
    blas = [
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', 'unknown')}, "
        f"{pool['num_threads']} threads; 1 during a call)"
        for pool in threads.blas_controller().info()
    ]
    openmp = f"{threads.resolve(None)} threads" if _core.has_openmp() else "not compiled in: 1 thread"
    return {
        "ntkfast": version("ntkfast"),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "numpy, scipy": f"{version('numpy')}, {version('scipy')}",
        "instruction set": f"{instruction_set()} (available: {', '.join(_core.isa_available())})",
        "OpenMP": openmp,
        "BLAS": "; ".join(blas) or "unknown to threadpoolctl",
        "caches": _cache_sizes(),
        "tile": f"{tile} x {tile} entries, {_core.LANES} at a time "
        f"({tile * tile * 8 // 1024} KiB per thread in float64)",
    }


def show_config() -> None:
    """Print version, instruction set, OpenMP, BLAS, caches and tile size.

    The same as `ntkfast info` on the command line. The instruction set can be set by the environment variable
    NTKFAST_ISA (base, avx2, avx512), the threads by OMP_NUM_THREADS.

    See Also
    --------
    ntk : Its n_threads overrides the threads.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.show_config()  # doctest: +ELLIPSIS
    ntkfast          ...
    """
    for name, value in configuration().items():
        print(f"{name:<16} {value}")
