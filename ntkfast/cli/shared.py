"""What all commands share: errors and interrupts in one line, common options."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import click

from ntkfast.support import starting
from ntkfast.support.errors import Error

FIGURES = (".png", ".pdf", ".svg")


def say(line: str) -> None:
    """Report the progress of a long run; nobody may be reading."""
    with contextlib.suppress(OSError):
        click.echo(line)


def fail(message: object) -> NoReturn:
    """Print one line on stderr and exit with code 2."""
    click.echo(f"ntkfast: {message}", err=True)
    sys.exit(2)


def in_options(error: Exception) -> str:
    """The message of an error; if it begins with an argument name, that becomes the command-line option.

    The library says "out: expected a folder"; the corresponding option is --out.
    """
    message = str(error)
    argument, colon, rest = message.partition(": ")
    context = click.get_current_context(silent=True)
    options = {} if context is None else {p.name: p.opts[-1] for p in context.command.params}
    return f"{options.get(argument, argument)}{colon}{rest}"


class Commands(click.Group):
    """A group that reports invalid input in one line, on any terminal."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> NoReturn:  # type: ignore[override]
        for stream in (sys.stdout, sys.stderr):  # not every terminal has Θ
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        starting.end()
        try:
            code = super().main(args, **(options | {"prog_name": "ntkfast", "standalone_mode": False}))
            sys.stdout.flush()
        except click.UsageError as error:
            if error.ctx and (not error.message or error.message.startswith("Usage:")):  # a group without a command
                click.echo(error.ctx.get_help(), err=True)
                sys.exit(2)
            where = error.ctx.command_path.removeprefix("ntkfast").strip() if error.ctx else ""
            fail(f"{where}: {error.format_message()}" if where else error.format_message())
        except click.Abort:  # Ctrl-C, after which click has ended the line
            click.echo("ntkfast: stopped", err=True)
            sys.exit(130)
        except OSError as error:  # of standard output, on a disk that is full or when nobody reads any more
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # Python flushes it at the end
            if error.errno == errno.EPIPE:
                sys.exit(1)
            fail(f"cannot write the output: {error.strerror or error}")
        sys.exit(code or 0)


threads = click.option(
    "--threads", "n_threads", type=click.IntRange(1, 4096), help="Number of threads.  [default: all]"
)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"ntkfast: {message}", err=True)


@contextlib.contextmanager
def one_line(when_stopped: str, **outputs: Path | None) -> Iterator[None]:
    """Report errors with files, memory and extras, warnings, and Ctrl-C, in one line.

    An OSError of one of the outputs, which are given by the names of their options, names the option.
    """
    from numpy.linalg import LinAlgError

    from ntkfast.datasets import DataError

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's Ctrl-C
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # which reports what a cluster was doing
        click.echo(f"ntkfast: stopped; {when_stopped}", err=True)
        sys.exit(130)
    except MemoryError as error:
        fail(str(error) or "out of memory")
    except DataError as error:
        advice = "; name the folder of the four MNIST files with --data or NTKFAST_DATA, or fetch them with --download"
        fail(error.problem + (advice if error.remedy else ""))
    except (ImportError, OSError, LinAlgError, Error, ValueError) as error:
        if isinstance(error, OSError):
            for option, path in outputs.items():
                if path is not None and error.filename == os.fspath(path):
                    fail(f"--{option}: cannot write {path}: {error.strerror}")
        fail(in_options(error))
    finally:
        signal.signal(signal.SIGTERM, before)


def finite(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"expected a finite number, got {value}")
    return value


def finite_or_none(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    return None if value is None else finite(ctx, parameter, value)


def network_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that describe a network and its kernel."""
    positive = click.FloatRange(min=0, max=1e6)
    for option in (
        click.option("--kernel", type=click.Choice(["ntk", "nngp"]), default="ntk", show_default=True),
        click.option("--bias-std", default=0.1, show_default=True, type=positive, callback=finite),
        click.option("--weight-std", default=2**0.5, show_default="√2", type=positive, callback=finite),
        click.option("--activation", default="relu", show_default=True, metavar="NAME"),
        click.option(
            "--depth", default=3, show_default=True, type=click.IntRange(1, 1000), help="Number of affine layers."
        ),
    ):
        command = option(command)
    return command


dask = click.option(
    "--dask",
    "client",
    metavar="ADDRESS|N",
    help="The workers of a Dask scheduler (tcp://HOST:PORT) do it, or N of this machine, of one thread each.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
table_file = click.Path(exists=True, dir_okay=False, path_type=Path)
new_file = click.Path(dir_okay=False, path_type=Path)


def print_json(values: dict[str, Any]) -> None:
    """One JSON object; what is not a finite number is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    click.echo(json.dumps(plain(values), ensure_ascii=False, allow_nan=False))


def require_writable(path: Path, option: str, sources: Sequence[Path] = ()) -> None:
    """Fail, before the work, unless a file can be written there that is none of the sources."""
    if not path.name:
        fail(f"{option}: expected the name of a file, got {str(path)!r}")
    folder = path.resolve().parent
    if not folder.is_dir():
        fail(f"{option}: there is no folder {path.parent}")
    if not os.access(folder, os.W_OK):
        fail(f"{option}: cannot write to the folder {path.parent}")
    if any(path.resolve() == source.resolve() for source in sources):
        fail(f"{option}: {path} would replace the input")


def require_figure(path: Path) -> None:
    """Fail unless a figure can be written there and matplotlib is installed."""
    if path.suffix.lower() not in FIGURES:
        fail(f"--figure: expected a file name that ends in {', '.join(FIGURES)}, got {path}")
    require_writable(path, "--figure")
    if find_spec("matplotlib") is None:
        fail("plots need matplotlib: pip install 'ntkfast[plot]', or pass --no-figure")


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words, aligned: numbers to the right, words to the left."""
    columns = []
    for k, words in enumerate(zip(*rows, strict=True)):
        width = max(map(len, words))
        to_left = k == 0 or not any(word[:1].isdigit() or word[:1] == "-" for word in words[1:])
        columns.append([word.ljust(width) if to_left else word.rjust(width) for word in words])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))
