"""Kernels on a cluster, by Dask: matrices as dask arrays, products without a matrix, regression on centres.

Points go to the workers once, not with every task. A task computes a part that depends on the problem alone, so that
results have the same bits however many workers there are, and a worker that is killed costs its tasks, which Dask gives
to others. Each task runs on one thread unless n_threads= says otherwise: a worker has as many tasks at a time as it has
threads. What it takes, and when to use what: docs/scale.md.

>>> import dask
>>> import numpy as np
>>> import ntkfast as nf
>>> net, X = nf.MLP(depth=3), np.random.default_rng(0).standard_normal((300, 4))
>>> K = nf.distributed.ntk(net, X)
>>> with dask.config.set(scheduler="synchronous"):
...     bool(np.array_equal(K.compute(), nf.ntk(net, X)))
True
"""

try:
    import dask.array as _array  # noqa: F401
except ImportError as _error:
    raise ImportError("ntkfast.distributed needs Dask: pip install 'ntkfast[dask]'") from _error

from ntkfast.distributed.matrices import nngp, ntk
from ntkfast.distributed.nystrom import NystromRegression
from ntkfast.distributed.operator import KernelOperator

__all__ = ["KernelOperator", "NystromRegression", "nngp", "ntk"]
