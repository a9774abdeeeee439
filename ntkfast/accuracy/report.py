"""docs/accuracy.md: everything measured, as Markdown."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ntkfast.accuracy import cases, measure, timing
from ntkfast.networks import activations

DTYPES = ("float64", "float32")
PROMISED = {"float64": 1e-12, "float32": 2e-6}
SECONDS = 30.0  # for the errors, and for the times, of one activation

HEAD = """\
# Accuracy and times

`ntkfast accuracy` measures all of this and writes this page; `--full` takes more pairs and depths for activations
without a closed form.

## Errors of the kernels

The largest error of Σ and Θ of a pair of different points, relative to √(K(x,x) K(y,y)), under networks with
{hidden} hidden layers in the ordered, the critical and the chaotic (for unbounded activations: divergent)
phase. The data: Gaussian points, {mnist}pairs 1e-3, 1e-8 and 1e-12 apart, antipodes and nearly so, points far from the
origin ({far}), and images with pixels from 0 to 255 ({pixels}). The goal is 1e-12 in float64 and 2e-6 in float32, for
points that are numbers of that precision; what misses it is in bold.

The reference is the recursion over layers in mpmath at 100 digits. Its duals are closed forms from the literature; for
polynomials between kinks they come from the distribution function of a Gaussian pair, at 45 digits; for the others from
Gaussian quadrature in polar coordinates, in long double, of φ(u) - φ(v) where points are near. None of it uses the
engine. Networks whose kernels leave the range of the numbers are left out.
"""


def report(
    names: Sequence[str] | None = None,
    full: bool = False,
    seconds: float = SECONDS,
    say: Callable[[str], object] = lambda line: None,
) -> str:
    """The page for these activations (all), within some `seconds` for each unless `full`."""
    names = activations.names() if names is None else names
    found = list(measured(names, full, seconds, say))
    return page(found, list(times(names, 20 * seconds if full else seconds, say)))


def page(found, timed):
    """Markdown of what `measured` and `times` found."""
    cells = [cell for one in found for cell in one.cells]
    return "\n".join([head(), *by_activation(found), *by_data(cells), *refused(found), *time_table(timed)]) + "\n"


def measured(names, full, seconds, say) -> Iterator[measure.Measured]:
    """What `measure` finds for each name, in order; two processes at a time, since most of it is Python."""
    limit = float("inf") if full else seconds
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 16)
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawned) as pool, ending_children():
        waiting = [pool.submit(measure.measure, name, full, limit) for name in names]
        for number, (name, future) in enumerate(zip(names, waiting, strict=True), start=1):
            try:
                one = future.result()
            except Exception as error:  # one activation that fails does not cost the others
                one = measure.Measured(repr(cases.made(name)), [], problem=f"{type(error).__name__}: {error}")
            say(f"errors: {name}, {number} of {len(names)}")
            yield one


@contextlib.contextmanager
def ending_children() -> Iterator[None]:
    """End the processes of this one if it is interrupted: a pool would wait for what they are doing."""
    try:
        yield
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise


def times(names, seconds, say):
    """(activation, first, second or reason) of relu and all names."""
    for number, name in enumerate(dict.fromkeys(("relu", *names)), start=1):
        activation = cases.made(name)
        try:
            weight_std = 0.3 if name in cases.GROWING else 1.2
            yield repr(activation), *timing.times(activation, seconds, weight_std)
        except RuntimeError as error:
            yield repr(activation), None, str(error)
        say(f"times: {name}, {number}")


def head():
    hidden = ", ".join(map(str, cases.HIDDEN))
    images, mnist = ("MNIST", "MNIST, ") if cases.has_mnist() else ("random; NTKFAST_DATA is not set", "")
    return HEAD.format(hidden=hidden, mnist=mnist, far="500, 1e4, 1e8", pixels=images)


def worst(cells):
    """The cell with the largest error; None without cells."""
    return max((cell for cell in cells if not cell.refused), key=lambda cell: cell.error, default=None)


def place(cell):
    return f"{cell.kind}, {cell.hidden} hidden, {cell.phase}, {cell.at.partition(',')[0]}"


def number(cell):
    if cell is None:
        return "-"
    text = f"{cell.error:.0e}"
    return f"**{text}**" if cell.error > PROMISED[cell.dtype] else text


def by_activation(found):
    yield "| activation | float64 | where | float32 | where | refused |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        best = [worst([cell for cell in one.cells if cell.dtype == dtype]) for dtype in DTYPES]
        places = ["" if cell is None else place(cell) for cell in best]
        n_refused = sum(bool(cell.refused) for cell in one.cells)
        share = f"{n_refused} of {len(one.cells)}" if n_refused else ""
        row = f"{number(best[0])} | {places[0]} | {number(best[1])} | {places[1]} | {share}"
        yield f"| {one.activation} | {row} |"
    left = {one.activation: one.left for one in found if one.left}
    if left:
        yield f"\nNot reached in the time, of all networks, kinds and precisions: {counted(left)}."


def counted(numbers):
    return ", ".join(f"{count} of {name}" for name, count in numbers.items())


def by_data(cells):
    yield "\n## By data and depth\n\nThe largest error over all activations and phases, and the activation.\n"
    yield "| data | precision | " + " | ".join(f"{hidden} hidden" for hidden in cases.HIDDEN) + " |"
    yield "|---|---|" + "---|" * len(cases.HIDDEN)
    for kind in dict.fromkeys(cell.kind for cell in cells):
        for dtype in DTYPES:
            row = []
            for hidden in cases.HIDDEN:
                cell = worst([c for c in cells if (c.kind, c.dtype, c.hidden) == (kind, dtype, hidden)])
                row.append("-" if cell is None else f"{number(cell)} {cell.activation.partition('(')[0]}")
            if any(entry != "-" for entry in row):
                yield f"| {kind} | {dtype} | {' | '.join(row)} |"


def refused(found):
    """Refusals with their reasons; equal ones of an activation once."""
    yield "\n## Refused\n"
    lines = [f"- {one.activation}: {one.problem}" for one in found if one.problem]
    for one in found:
        reasons = {}
        for cell in one.cells:
            if cell.refused:
                reasons.setdefault(shortened(cell.refused), []).append(cell)
        for kind, of_kind in _grouped(reasons).items():
            reason, those = of_kind
            kinds = ", ".join(dict.fromkeys(cell.kind for cell in those))
            depths = ", ".join(map(str, sorted({cell.hidden for cell in those})))
            lines.append(f"- {one.activation}, {len(those)} times ({kinds}; {depths} hidden layers): {reason}{kind}")
    yield from lines or ["Nothing of what was measured."]


def _grouped(reasons):
    """{"": (reason, cells)}, one for each class of error: messages differ by their numbers."""
    groups = {}
    for reason, found in reasons.items():
        head = reason.partition(":")[0]
        groups.setdefault(head, []).append((reason, found))
    result = {}
    for k, found in enumerate(groups.values()):
        more = f" (and {len(found) - 1} similar messages)" if len(found) > 1 else ""
        result[more + " " * k] = found[0][0], [cell for _, those in found for cell in those]
    return result


def shortened(text, size=300):
    text = " ".join(text.split())
    return text if len(text) <= size else text[:size] + " ..."


def time_table(rows):
    yield f"""
## Times

`ntk` of {timing.SIZE} points with {timing.FEATURES} features, depth {timing.DEPTH}, float64, in a new process for each
activation: the first call, and a second one with other data at another scale. {machine()}.

| activation | first call, ms | second call, ms | second / relu's |
|---|---|---|---|"""
    relu = rows[0][2] if rows and rows[0][1] is not None else None
    for name, first, second in rows:
        if first is None:
            yield f"| {name} | {shortened(second, 160)} | | |"
            continue
        ratio = f"{second / relu:.1f}" if relu else ""
        yield f"| {name} | {1000 * first:.1f} | {1000 * second:.1f} | {ratio} |"


def machine():
    """Cores and the family of the CPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":") for line in info.read_text().splitlines()]
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), model)
    return f"{cores} cores, {model}"
