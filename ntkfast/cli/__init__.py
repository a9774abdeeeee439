"""The command line."""

import click

from ntkfast.cli import bench, machine, matrix, paper, stored, table, uci
from ntkfast.cli.shared import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ntkfast")
def main() -> None:
    """Neural tangent kernels at the speed of the hardware.

    Example:

        ntkfast fit table.csv --target price -o price.ntk
    """


for command in (
    table.fit,
    table.predict,
    matrix.gram,
    matrix.spectrum,
    stored.verify,
    stored.solve,
    machine.info,
    machine.demo,
    bench.bench,
    machine.accuracy,
    paper.paper,
    uci.uci,
    uci.uci_regression,
    uci.household,
):
    main.add_command(command)
