"""Lets the tests import their helpers (`import reference`) in any import mode of pytest; one thread per worker."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy loads OpenMP and BLAS: the workers are the threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")
