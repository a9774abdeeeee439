"""Workers of a Dask cluster are killed one after another, every few seconds, at once (SIGKILL) or after they have hung
for a while (SIGSTOP): a store that they write and a matrix that they compute have the SHA-256 of one machine, or end in
Dask's KilledWorker or, a matrix that Dask was asked for, CancelledError, within a time limit.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np

import ntkfast as nf

from . import _server, frame

ROW = 11
SIZES = {"small": (3, 2500, 1.0, 1), "full": (6, 12000, 3.0, 5)}  # workers, points, seconds between kills, rounds
LIMIT = 300  # seconds for each job
HANGING = 2.0  # seconds, of every third worker


def run(scale):
    frame.require("distributed", "dask.array", "google_crc32c", linux=True)
    import dask
    from distributed import Client, KilledWorker, LocalCluster

    n_workers, n, pause, rounds = SIZES[scale]
    X, net = np.random.default_rng(0).normal(size=(n, 10)), nf.MLP(4, "relu", 1.3, 0.1)
    killed, ended = [], Counter()
    worst = 0.0
    settings = {"distributed.scheduler.allowed-failures": 50, "distributed.comm.timeouts.connect": "20s"}
    given = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0", "processes": True}
    given["silence_logs"] = logging.CRITICAL  # every death
    with tempfile.TemporaryDirectory() as folder, dask.config.set(settings):

        def store(name, client=None):
            return _server.digests(
                nf.store.compute(net, X, Path(folder) / name, memory="8MiB", client=client, progress=False).path
            )

        def matrix(name, client=None):
            K = nf.ntk(net, X) if client is None else client.compute(nf.distributed.ntk(net, X, chunks=1024)).result()
            return hashlib.sha256(np.ascontiguousarray(K).data).hexdigest()

        right = {job: job("right") for job in (store, matrix)}
        for number, (job, wanted) in itertools.product(range(rounds), right.items()):
            with LocalCluster(**given) as cluster, Client(cluster, set_as_default=False) as client:
                start = time.perf_counter()
                with _killing(cluster, pause, killed), _limited():
                    try:
                        how = "same bits" if job(str(number), client) == wanted else "other bits"
                    except (KilledWorker, CancelledError) as error:
                        how = type(error).__name__
                worst = max(worst, time.perf_counter() - start)
            ended[f"{job.__name__}: {how}"] += 1
    wrong = [how for how in ended if "other bits" in how or (how.startswith("store") and "Cancelled" in how)]
    assert not wrong, dict(ended)
    return {"workers": n_workers, "points": n, "killed": len(killed)} | ended | {"longest job, seconds": worst}


@contextlib.contextmanager
def _limited():
    def stop(*_):
        raise AssertionError(f"a job takes more than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class _killing:
    """Another worker is killed every so often, from soon after the beginning, unless too many are still starting."""

    def __init__(self, cluster, pause, killed):
        self.cluster, self.pause, self.killed, self.ended = cluster, pause, killed, threading.Event()
        self.n_workers = len(cluster.workers)
        self.thread = threading.Thread(target=self.kill)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def kill(self):
        rng = np.random.default_rng(len(self.killed))
        wait = self.pause / 4
        for number in itertools.count():
            if self.ended.wait(wait):
                return
            wait = self.pause
            processes = [worker.pid for worker in self.cluster.workers.values() if worker.pid]
            if processes and 2 * len(self.cluster.scheduler.workers) > self.n_workers:
                victim = processes[rng.integers(len(processes))]
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    if number % 3 == 2:
                        os.kill(victim, signal.SIGSTOP)
                        time.sleep(HANGING)
                    os.kill(victim, signal.SIGKILL)
                    self.killed.append(victim)
