"""Gram matrices on disk, in a Zarr array whose computation can be interrupted at any moment and resumed.

>>> import tempfile
>>> import ntkfast as nf
>>> with tempfile.TemporaryDirectory() as folder:
...     K = nf.store.compute(nf.MLP(depth=2), [[1.0, 0.0], [0.0, 2.0]], folder + "/K.zarr")
...     K[:]
array([[0.5       , 0.15915494],
       [0.15915494, 2.        ]])
"""

try:
    import google_crc32c as _crc32c  # noqa: F401
except ImportError as _error:
    raise ImportError(f"ntkfast.store needs {_error.name}: pip install 'ntkfast[store]'") from None

from ntkfast.store.gram import Check, GramStore, open
from ntkfast.store.job import compute, repair

__all__ = ["Check", "GramStore", "compute", "open", "repair"]
