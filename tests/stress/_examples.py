"""A process that runs the example of every public name, those of the layers too: python -P -W error _examples.py

Examples of libraries that are not installed, and those that download, are left out. It prints a line of JSON: how many
names had an example that ran, which had none, and what failed, which any warning does.
"""

import contextlib
import doctest
import importlib.util
import inspect
import io
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import neural_tangents_cases
import numpy as np
import test_api

import ntkfast as nf

MODULES = ("neural_tangents", "neural_tangents.stax", "neural_tangents.predict", "experiments")
DOWNLOADS = ("datasets.mnist", "datasets.download_mnist")
NEEDS = {"torch": "torch", "gpytorch": "gpytorch", "distributed": "distributed", "plotting": "matplotlib"}


def names():
    """Name -> object, of everything public that has a docstring of its own."""
    found = dict(test_api.PUBLIC)
    for module in MODULES:
        space = nf
        for part in module.split("."):
            space = getattr(space, part)
        found |= {f"{module}.{name}": getattr(space, name) for name in space.__all__}
    return {name: thing for name, thing in found.items() if not inspect.ismodule(thing)}


def example(name, thing):
    """The example of a name."""
    thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    text = re.sub(r"# doctest: \+SKIP", "", inspect.getdoc(thing) or "")
    return doctest.DocTestParser().get_doctest(text, {}, name, None, 0)


def others():
    """What has no example of its own: the layers of neural_tangents, in the networks of the tests, and its functions of
    networks of finite width.
    """
    nt, rng = nf.neural_tangents, np.random.default_rng(0)
    for _, _, kernel in neural_tangents_cases.networks(nt.stax).values():
        kernel(rng.normal(size=(4, 2)), None, ("nngp", "ntk"))
    for name, (init, apply, kernel) in neural_tangents_cases.finite(nt.stax).items():
        X = rng.normal(size=(4, 2, 2, 1) if name == "flatten" else (4, 3))
        parameters = init(0, X.shape)[1]
        values = apply(parameters, X, rng=0)
        nt.empirical_kernel_fn(apply)(X, None, ("nngp", "ntk"), parameters)
        nt.empirical_nngp_fn(apply)(X, None, parameters)
        nt.empirical_ntk_vp_fn(apply, X, None, parameters)(values)
        nt.taylor_expand(apply, parameters, 2)(parameters, X)
        nt.batch(kernel, 2)(X, None, "ntk")


def main():
    runner, report = doctest.DocTestRunner(verbose=False), io.StringIO()
    ran, without = 0, []
    for name, thing in names().items():
        missing = importlib.util.find_spec(NEEDS.get(name.partition(".")[0], "ntkfast")) is None
        if missing or name in DOWNLOADS:
            continue
        found = example(name, thing)
        with contextlib.redirect_stdout(io.StringIO()):
            runner.run(found, out=report.write)
        ran += bool(found.examples)
        without += [] if found.examples else [name]
    others()
    print(json.dumps({"names": ran, "without": without, "failed": report.getvalue()}))


if __name__ == "__main__":
    main()
