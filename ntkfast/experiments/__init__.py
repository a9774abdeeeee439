"""The experiments of Jacot, Gabriel and Hongler (2018).

Each is a module with `run`, which returns a dataclass of arrays; `plot`, `findings` and `caption`, which take that
dataclass; and `EXPERIMENT`, the value that gathers them: `fig1`, `fig2`, `fig3a`, `fig3bc`, `theorem1`, `theorem2`,
`proposition1`, `proposition2`, `random_features`, `early_stopping`, `beyond`, `inflation`. `paper` runs them all into
a folder and writes the report; `mnist` is exact regression on all of MNIST, `augmentation` the same on shifted and
rotated copies, `household` regression on two million points, `uci` classification of small data sets as in Arora et al.
(2020), `uci_regression` a comparison on small tables. Each module is imported on first use.

>>> import ntkfast as nf
>>> nf.experiments.theorem1.run(widths=(10, 20), n_seeds=2, n=4).errors.shape
(2, 2)
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from ntkfast.experiments import (
        augmentation,
        beyond,
        early_stopping,
        fig1,
        fig2,
        fig3a,
        fig3bc,
        household,
        inflation,
        mnist,
        paper,
        proposition1,
        proposition2,
        random_features,
        theorem1,
        theorem2,
        uci,
        uci_regression,
    )

__all__ = [
    "augmentation",
    "beyond",
    "early_stopping",
    "fig1",
    "fig2",
    "fig3a",
    "fig3bc",
    "household",
    "inflation",
    "mnist",
    "paper",
    "proposition1",
    "proposition2",
    "random_features",
    "theorem1",
    "theorem2",
    "uci",
    "uci_regression",
]


# Imported on first use (PEP 562), like the lazy modules of ntkfast itself.
def __getattr__(name: str) -> object:
    if name in __all__:
        return _import_module(f"ntkfast.experiments.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
