"""The one list of what is timed: by `ntkfast bench`, and by `pytest bench` with pytest-benchmark.

A workload makes its data and the call to be timed for a size n, which is 8000 unless one is given. What it cannot do
without (`Work`) gives its limit on a machine. Those of NumPy, SciPy and scikit-learn are to be compared with (`goals`).
"""

from ntkfast.benchmarks import finite, learning, limit

WORKLOADS = (*limit.WORKLOADS, *finite.WORKLOADS, *learning.WORKLOADS)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
