"""Kernels on a cluster: the bits of one machine, one triangle, points sent once, and workers that are killed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast import cli

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(900, 4)), RNG.normal(size=(500, 4))
NET = nf.MLP(3, "relu", 1.3, 0.1)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("other", [None, Y])
@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_matrices_have_the_bits_of_one_machine(kernel, other, dtype, activation):
    net = nf.MLP(3, activation, 1.3, 0.1)
    K = getattr(nf.distributed, kernel)(net, X, other, chunks=300, dtype=dtype)
    right = getattr(nf, kernel)(net, X, other, dtype=dtype)
    assert K.npartitions > 4
    with dask.config.set(scheduler="threads"):
        assert_array_equal(K.compute(), right, strict=True)
        assert_array_equal(K[5:400:3, 100].compute(), right[5:400:3, 100])


def test_one_triangle_is_computed(monkeypatch):
    made = []
    window = nf.distributed._window
    monkeypatch.setattr(nf.distributed, "_window", lambda *given: made.append(given[-1]) or window(*given))
    K = nf.distributed.ntk(NET, X, chunks=256)
    with dask.config.set(scheduler="synchronous"):
        K.compute()
    assert len(made) == 10
    assert all(rows.start <= columns.start for rows, columns in made)


def test_on_a_cluster(client):
    with client.as_current():
        K = nf.distributed.ntk(NET, X, chunks=300)
        assert_array_equal(client.compute(K).result(), nf.ntk(NET, X))


@pytest.mark.parametrize("other", [None, Y])
def test_products(other, client):
    K, right = nf.distributed.KernelOperator(NET, X, other, client=client), nf.ntk(NET, X, other)
    V, W = RNG.normal(size=(right.shape[1], 3)), RNG.normal(size=len(right))
    assert_allclose(K @ V, right @ V, atol=1e-10)
    assert_allclose(K.T @ W, right.T @ W, atol=1e-10)
    assert_array_equal(K @ V, K @ V)
    assert_allclose(K[[3, 5]], right[[3, 5]], atol=1e-13)


def test_solvers_take_the_operator(client):
    K, y = nf.distributed.KernelOperator(NET, X, client=client), np.sin(X[:, 0])
    found = nf.solve(K, y, 0.1, method="cg", rng=0)
    assert found.converged
    right = nf.solve(nf.ntk(NET, X), y, 0.1).dual_coefficients
    assert_allclose(found.dual_coefficients, right, atol=1e-6 * abs(right).max())
    largest = nf.kernel_pca(K, 3, rng=0).eigenvalues
    assert_allclose(largest, np.linalg.eigvalsh(nf.ntk(NET, X) / len(X))[:-4:-1], rtol=1e-8)


def test_an_operator_needs_a_client():
    with pytest.raises(ValueError, match=r"client: expected a distributed\.Client"):
        nf.distributed.KernelOperator(NET, X)


def test_workers_write_a_store(client, tmp_path):
    pytest.importorskip("zarr")
    stores = [
        nf.store.compute(NET, X, tmp_path / name, memory="2MB", client=one)
        for name, one in (("alone", None), ("cluster", client))
    ]
    assert_array_equal(stores[1][:], nf.ntk(NET, X))
    assert stores[1].verify() == ([], [], len(list((stores[0].path / "c").rglob("*/*"))))
    for file in (stores[0].path / "c").rglob("*/*"):
        assert file.read_bytes() == (stores[1].path / file.relative_to(stores[0].path)).read_bytes()


def test_a_killed_worker_costs_its_tasks_only(tmp_path):
    pytest.importorskip("zarr")
    points = np.random.default_rng(0).normal(size=(3000, 300))
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killed = []

        def kill(done, total):
            if not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        store = nf.store.compute(NET, points, tmp_path / "K.zarr", memory="5MB", client=client, progress=kill)
    assert killed
    assert store.verify().damaged == []
    assert_array_equal(store[:], nf.ntk(NET, points))


def test_an_operator_outlives_its_workers():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        K, y = nf.distributed.KernelOperator(NET, X, client=client), X[:, 0]
        before = K @ y
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
        while K._there.status == "finished":
            time.sleep(0.05)
        client.wait_for_workers(2, timeout=60)
        assert_array_equal(K @ y, before)


def test_the_command(tmp_path):
    pytest.importorskip("zarr")
    pytest.importorskip("pandas")
    np.save(tmp_path / "X.npy", X)
    gram = [sys.executable, "-P", "-m", "ntkfast", "gram", tmp_path / "X.npy", "-o", tmp_path / "K.zarr"]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        subprocess.run([*gram, "--dask", cluster.scheduler_address], check=True)
    assert nf.store.open(tmp_path / "K.zarr").complete


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    pytest.importorskip("pandas")
    np.save(tmp_path / "X.npy", X)
    monkeypatch.setattr("ntkfast.tabular.matrix.SECONDS", 0.5)
    gram = ["gram", str(tmp_path / "X.npy"), "-o", str(tmp_path / "K.zarr")]
    done = CliRunner().invoke(cli.main, [*gram, "--dask", "tcp://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "--dask: no scheduler answers at tcp://127.0.0.1:1" in done.stderr
    assert not (tmp_path / "K.zarr").exists()
