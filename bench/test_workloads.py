"""pytest bench/test_workloads.py: the workloads of `ntkfast bench` with pytest-benchmark, and its other libraries.

NTKFAST_BENCH_N is the n of the workloads. Groups compare within one run; no test depends on timing. `ntkfast bench` has
shares of what the machine can do, ratios timed in turn and the goals of the project.
"""

import os

import pytest

from ntkfast.benchmarks.peers import PEERS
from ntkfast.benchmarks.workloads import WORKLOADS

N = int(os.environ.get("NTKFAST_BENCH_N", "2000"))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_workload(benchmark, workload):
    benchmark.group = f"{workload.group}, n={N}"
    benchmark.pedantic(workload.make(N), rounds=3, warmup_rounds=1)


JOBS = [(peer, job) for peer in PEERS if peer.installed for job in peer.scaled(N / 8000)]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize(("peer", "job"), JOBS, ids=[f"{peer.distribution}: {job.name}" for peer, job in JOBS])
def test_peer(benchmark, peer, job, whose):
    benchmark.group = f"{peer.distribution}: {job.name}"
    benchmark.pedantic(getattr(job, whose), rounds=3, warmup_rounds=1)
