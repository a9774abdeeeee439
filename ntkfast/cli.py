"""The command line: ntkfast info, demo, bench, accuracy, paper."""

import contextlib
import math
import signal
import sys
from pathlib import Path

import click

from ntkfast.engine.config import show_config
from ntkfast.experiments.paper import EXPERIMENTS, FIGURES
from ntkfast.support.errors import DivergenceError


def say(line):
    """Tell how far a long run is; nobody may be reading."""
    with contextlib.suppress(OSError):
        click.echo(line)


def fail(message):
    """One line on stderr and exit code 2."""
    click.echo(f"ntkfast: {message}", err=True)
    sys.exit(2)


class Commands(click.Group):
    """A group that tells what it cannot take in one line, on any terminal."""

    def main(self, args=None, **options):
        for stream in (sys.stdout, sys.stderr):  # not every terminal has Θ
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            code = super().main(args, **(options | {"prog_name": "ntkfast", "standalone_mode": False}))
        except click.UsageError as error:
            if not error.message or error.message.startswith("Usage:"):  # a group without a command
                click.echo(error.ctx.get_help(), err=True)
                sys.exit(2)
            where = error.ctx.command_path.removeprefix("ntkfast").strip() if error.ctx else ""
            fail(f"{where}: {error.format_message()}" if where else error.format_message())
        except click.Abort:
            sys.exit(130)
        sys.exit(code or 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ntkfast")
def main():
    """Neural tangent kernels at the speed of the hardware."""


@main.command()
def info():
    """Print version, instruction set, OpenMP, BLAS, caches and tile size."""
    show_config()


threads = click.option("--threads", type=click.IntRange(1, 4096), help="Number of threads.  [default: all]")


@main.command()
@click.option(
    "--out", default="ntkfast_demo.png", show_default=True, type=click.Path(dir_okay=False), help="The figure."
)
@threads
def demo(out, threads):
    """NTK regression on scikit-learn's handwritten digits, with a figure."""
    from ntkfast import demo as module

    path = Path(out).with_suffix(Path(out).suffix or ".png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        fail(f"--out: expected a file name that ends in .png, .pdf or .svg, got {out}")
    try:
        path.open("ab").close()
    except OSError as error:  # before the work, not after
        fail(f"--out: {path} cannot be written: {error.strerror}")
    try:
        report = module.run(path, n_threads=threads)
    except (ImportError, OSError) as error:
        fail(error)
    click.echo(f"{report.n_train} digits to train on, {report.n_test} to test; depth-4 ReLU network, bias_std 0.1")
    click.echo(f"test accuracy, NTK regression         {report.accuracy_ntk:8.2%}")
    click.echo(f"test accuracy, RBF kernel ridge       {report.accuracy_rbf:8.2%}  (scikit-learn)")
    click.echo("leading eigenvalues of K/N            " + "  ".join(f"{value:.4g}" for value in report.eigenvalues[:6]))
    for name, seconds in report.seconds.items():
        click.echo(f"{name:<36} {1000 * seconds:8.1f} ms")
    click.echo(f"figure: {path}")


@main.command()
@click.option("--n", default=8000, show_default=True, type=click.IntRange(min=2), help="Number of points.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="Timed runs of each side.")
def bench(n, repeats):
    """Time ntkfast beside NumPy and scikit-learn.

    Every line is a ratio of two things timed in turn. The goals are the project's own, for n=8000.
    """
    from ntkfast import benchmarks

    show_config()
    click.echo(f"\nn={n}; depth-4 ReLU, float64 unless named; medians of {repeats} in ms\n")
    click.echo(f"{'A / B':<68} {'A':>8} {'B':>8} {'A/B':>7}   goal (of the limit kernels: at n=8000)")
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
def accuracy():
    """Print the errors of every named activation's dual, as the table of docs/accuracy.md. Takes minutes."""
    from ntkfast import accuracy as module

    click.echo("| activation | method | E[φφ] | E[φ'φ'] | both at ρ = 1 |")
    click.echo("|---|---|---|---|---|")
    for row in module.rows():
        click.echo(f"| {row.name} | {row.method} | {row.value:.0e} | {row.slope:.0e} | {row.diagonal:.0e} |")


class Figures(click.Group):
    """The figures in their order, and what is known beside an unknown one."""

    def resolve_command(self, ctx, args):
        if args[0] not in self.commands:
            single = [name for name in self.commands if name not in self.list_commands(ctx)]
            known = f"{', '.join(self.list_commands(ctx))}, and of these {', '.join(single)}"
            fail(f"paper: {args[0]} is unknown; the known ones are {known}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx):
        return [name for name, command in self.commands.items() if not command.hidden]


@main.group(cls=Figures)
def paper():
    """The figures and statements of Jacot, Gabriel and Hongler (2018), with our numbers beside theirs."""


def paper_options(command):
    """The options that all commands of the group have."""
    for option in (
        threads,
        click.option("--download", is_flag=True, help="Fetch MNIST from OpenML into that folder first."),
        click.option("--data", type=click.Path(), help="Folder of the MNIST files.  [default: $NTKFAST_DATA]"),
        click.option("--out", default="paper", show_default=True, type=click.Path(), help="Folder of the results."),
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def one_line(when_stopped):
    """What can go wrong with files, memory and extras, and Ctrl-C, in one line."""
    from numpy.linalg import LinAlgError

    from ntkfast.datasets import DataError

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's way to say Ctrl-C
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"ntkfast: stopped; {when_stopped}", err=True)
        sys.exit(130)
    except MemoryError as error:
        fail(str(error) or "out of memory")
    except (DataError, ImportError, OSError, LinAlgError, DivergenceError) as error:
        fail(error)
    finally:
        signal.signal(signal.SIGTERM, before)


def add_figure(name, text, hidden=False):
    @paper.command(name, help=text, hidden=hidden)
    @paper_options
    @click.option("--full/--quick", default=False, help="The paper's sizes, or small ones.  [default: quick]")
    @click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
    def command(out, full, data, download, seed, threads):
        from ntkfast import datasets
        from ntkfast.experiments import paper as module

        with one_line("the same command continues with the networks that are done"):
            with module.folder(out):  # before the download, not after
                data = datasets.download_mnist(data) if download else data
            found = module.run_all(name, out, data=data, full=full, seed=seed, threads=threads, say=say)
        judged = [finding for _, finding in found if finding.ok is not None]
        wrong = [(title, finding) for title, finding in found if finding.ok is False]
        click.echo(f"{Path(out) / 'report.md'}: {len(judged) - len(wrong)} of {len(judged)} within their tolerance")
        for title, finding in wrong:
            click.echo(f"{title}; {finding}")
        sys.exit(1 if wrong else 0)


for name, text in {
    "fig1": "Figure 1: the tangent kernel of two widths before and after training.",
    "fig2": "Figure 2: trained networks and the limit Gaussian.",
    "fig3": f"Figure 3: principal components of MNIST, and training along one.  [{' + '.join(FIGURES['fig3'])}]",
    "theory": f"The theorems and propositions, measured.  [{' + '.join(FIGURES['theory'])}]",
    "all": "All of these: minutes; with --full about a day.",
}.items():
    add_figure(name, text)
for name in EXPERIMENTS:
    if name not in paper.commands:
        add_figure(name, EXPERIMENTS[name][0], hidden=True)


def finite(ctx, parameter, value):
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
    help="Over the mean of Θ(x, x).",
)
def mnist(n, depth, ridge, out, data, download, threads):
    """Exact NTK regression on all of MNIST: one float32 Gram matrix (14.4 GB for all), factored in place."""
    from threadpoolctl import threadpool_limits

    from ntkfast import datasets
    from ntkfast.experiments import mnist as module
    from ntkfast.experiments import paper, running

    with one_line("nothing is kept"), paper.folder(out) as folder:
        data = datasets.download_mnist(data) if download else data
        train, test = datasets.mnist("train", data), datasets.mnist("test", data)
        with threadpool_limits(threads):
            result = module.run(train, test, n, depth, ridge, say=say)
        running.save(folder / "mnist.npz", running.as_dict(result) | {"accuracy": result.accuracy})
    click.echo(f"test accuracy {result.accuracy:.2%} ({result.n} training images, depth {result.depth}, float32)")
    click.echo(f"outputs, labels and times: {Path(out) / 'mnist.npz'}")
