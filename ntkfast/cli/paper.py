"""ntkfast paper: the figures and statements of the paper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from ntkfast.cli.shared import fail, finite, one_line, say, threads

FIGURES = {
    "fig1": "Figure 1: the tangent kernel at two widths, before and after training.",
    "fig2": "Figure 2: trained networks and the limit Gaussian.",
    "fig3": "Figure 3: principal components of MNIST, and training along one of them.",
    "theory": "The theorems and propositions, measured.",
    "beyond": "Beyond the paper: finite networks against the theory of order 1/n.",
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


@click.group(cls=Figures)
def paper() -> None:
    """The figures and statements of Jacot, Gabriel and Hongler (2018), with our numbers next to theirs.

    Example:

        ntkfast paper fig1 --out results
    """


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


def figure_command(name: str, text: str) -> click.Command:
    """The command that runs the experiments of a figure."""

    @click.command(name, help=f"{text}\n\nExample:\n\n    ntkfast paper {name} --out results")
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


@paper.command()
@paper_options
@click.option("--n", type=click.IntRange(min=10, max=60000), help="The first n training images.  [default: all 60000]")
@click.option(
    "--augment",
    type=click.IntRange(min=10),
    metavar="N",
    help="With shifted and rotated copies, N images in all: conjugate gradients without a matrix, for hours; resumes.",
)
@click.option(
    "--tol",
    default=1e-3,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    callback=finite,
    help="Of --augment.",
)
@click.option("--memory", metavar="BYTES", help="Of --augment: memory that may be used.  [default: what is free]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of --augment.")
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
    n: int | None,
    augment: int | None,
    tol: float,
    memory: str | None,
    seed: int,
    depth: int,
    ridge: float,
    out: str,
    data: str | None,
    download: bool,
    n_threads: int | None,
) -> None:
    """Exact NTK regression on all of MNIST: one float32 Gram matrix (14.4 GB for all), factored in place.

    With --augment, no matrix is kept; run the same command again to go on from the last iteration.

    Example:

        ntkfast paper mnist --n 10000 --data mnist

        ntkfast paper mnist --augment 300000 --data mnist
    """
    from ntkfast import datasets
    from ntkfast.datasets import MNIST
    from ntkfast.engine.threads import limited
    from ntkfast.experiments import augmentation
    from ntkfast.experiments import mnist as module
    from ntkfast.experiments.results import exclusive
    from ntkfast.experiments.storage import as_dict, save

    stopped = "nothing was saved" if augment is None else "run the same command again to go on"
    with one_line(stopped), exclusive(out) as folder:
        source = datasets.download_mnist(data) if download else data
        train, test = datasets.mnist("train", source), datasets.mnist("test", source)
        if augment is None:
            with limited(n_threads):
                result = module.run(train, test, n, depth, ridge, say=say)
        else:
            images = train.images[:n]
            result = augmentation.run(
                MNIST(images, train.labels[:n]),
                test,
                augment,
                depth,
                ridge,
                tol=tol,
                seed=seed,
                checkpoint=folder / f"augmented-{len(images)}-{augment}-seed{seed}-depth{depth}-ridge{ridge:g}.state",
                n_threads=n_threads,
                memory=memory,
                say=say,
            )
        name = "mnist.npz" if augment is None else "augmented.npz"
        save(folder / name, as_dict(result) | {"accuracy": result.accuracy})
    click.echo(f"test accuracy {result.accuracy:.2%} ({result.n} training images, depth {result.depth}, float32)")
    click.echo(f"outputs, labels and times: {Path(out) / name}")
