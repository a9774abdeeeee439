"""Kernels on a cluster: the bits of one machine, one triangle, points sent once, and workers that are killed."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from importlib import import_module

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

import ntkfast as nf
from ntkfast import cli
from ntkfast.engine import workers
from ntkfast.engine.problem import Problem
from ntkfast.learning.solvers import checkpoint

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
matrices = pytest.importorskip("ntkfast.distributed.matrices")

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
    window = matrices._window
    monkeypatch.setattr(matrices, "_window", lambda *given: made.append(given[-1]) or window(*given))
    K = nf.distributed.ntk(NET, X, chunks=256)
    with dask.config.set(scheduler="synchronous"):
        K.compute()
    assert len(made) == 10
    assert all(rows.start <= columns.start for rows, columns in made)


def test_on_a_cluster(client):
    with client.as_current():
        K = nf.distributed.ntk(NET, X, chunks=300)
        assert_array_equal(client.compute(K).result(), nf.ntk(NET, X))


@pytest.mark.parametrize("small", [0, 2**22])  # bytes: groups are added up by workers, or here
@pytest.mark.parametrize("other", [None, Y])
def test_products(other, small, client, monkeypatch):
    monkeypatch.setattr("ntkfast.distributed.operator.LEAST", 1)
    monkeypatch.setattr(workers, "SMALL", small)
    K, right = nf.distributed.KernelOperator(NET, X, other, client=client), nf.ntk(NET, X, other)
    V, W = RNG.normal(size=(right.shape[1], 3)), RNG.normal(size=len(right))
    assert_allclose(K @ V, right @ V, atol=1e-10)
    assert_allclose(K.T @ W, right.T @ W, atol=1e-10)
    assert_array_equal(K @ V, K @ V)
    assert_allclose(K[[3, 5]], right[[3, 5]], atol=1e-13)


def test_solvers_take_the_operator(client, monkeypatch):
    monkeypatch.setattr("ntkfast.distributed.operator.LEAST", 4)
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


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("ntkfast.learning.solvers.panels.LEAST_OF_PART", 30)  # 16 parts of 56 points in two groups


OPTIONS = {
    "direct": {"alpha": 0.1, "method": "direct"},
    "float32": {"alpha": 0.1, "method": "direct", "dtype": np.float32},
    "loo": {"alpha": "loo"},
    "falkon": {"alpha": 1.0, "method": "falkon", "tol": 1e-5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_nystrom_regression_has_the_bits_of_one_machine(name, client, small_parts, monkeypatch):
    monkeypatch.setattr(workers, "SMALL", 2**10 if name == "direct" else workers.SMALL)
    y = np.stack([np.sin(X[:, 0]), X[:, 1] ** 2], axis=1)
    given = {"net": NET, "n_centers": 60, "rng": 0, **OPTIONS[name]}
    ours, right = nf.distributed.NystromRegression(client=client, **given), nf.NystromRegression(n_threads=1, **given)
    for model in (ours, right):
        model.fit(X, y)
    assert_array_equal(ours.dual_coefficients, right.dual_coefficients)
    assert_array_equal(ours.predict(Y), right.predict(Y))
    assert ours.alpha == right.alpha
    if name == "falkon":
        assert ours.solution.iterations == right.solution.iterations > 1
        assert_array_equal(ours.with_alpha(0.2).dual_coefficients, right.with_alpha(0.2).dual_coefficients)
    else:
        if name == "loo":
            assert_array_equal(ours.loo_errors, right.loo_errors)
        assert_array_equal(ours.leave_one_out(), right.leave_one_out())
        assert_array_equal(ours.variance(Y), right.variance(Y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("other", [None, Y[:30]])
def test_points_that_arrive_misaligned_are_aligned(other, dtype):
    problem = Problem(NET, X[:40], other, dtype=dtype)
    right = problem.matrices(("ntk",))[0]
    buffers = []
    message = pickle.dumps(problem, protocol=5, buffer_callback=buffers.append)
    there = pickle.loads(message, buffers=[memoryview(b"." + buffer.raw().tobytes())[1:] for buffer in buffers])
    for array in [given for given, _ in there.given] + [points.x for points in there.points]:
        assert array.flags.aligned
    assert there.symmetric == (other is None)
    assert_array_equal(there.matrices(("ntk",))[0], right)


def test_a_pass_reports_and_is_saved_as_one_of_this_machine(client, small_parts, tmp_path):
    seen = []
    model = nf.distributed.NystromRegression(
        NET, 40, 0.1, rng=0, client=client, progress=lambda done, total: seen.append((done, total))
    ).fit(X, X[:, 0])
    assert len(seen) == 16
    assert seen[-1] == (900, 900)
    nf.save(model, tmp_path / "model")
    again = nf.load(tmp_path / "model")
    assert type(again) is nf.NystromRegression
    assert_array_equal(again.predict(Y), model.predict(Y))


def test_workers_write_a_store(client, tmp_path):
    pytest.importorskip("google_crc32c")
    stores = [
        nf.store.compute(NET, X, tmp_path / name, memory="2MB", client=one)
        for name, one in (("alone", None), ("cluster", client))
    ]
    assert_array_equal(stores[1][:], nf.ntk(NET, X))
    assert stores[1].verify() == ([], [], len(list((stores[0].path / "c").rglob("*/*"))))
    for file in (stores[0].path / "c").rglob("*/*"):
        assert file.read_bytes() == (stores[1].path / file.relative_to(stores[0].path)).read_bytes()


def test_a_killed_worker_costs_its_tasks_only(tmp_path):
    pytest.importorskip("google_crc32c")
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


@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_a_killed_worker_costs_nystrom_its_tasks_only(method, monkeypatch):
    monkeypatch.setattr("ntkfast.learning.solvers.panels.LEAST_OF_PART", 250)
    points = np.random.default_rng(0).normal(size=(4000, 300))
    given = {"net": NET, "n_centers": 200, "alpha": 10.0, "method": method, "tol": 1e-3, "rng": 0}
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

        model = nf.distributed.NystromRegression(client=client, progress=kill, **given).fit(points, points[:, 0])
    assert killed
    right = nf.NystromRegression(n_threads=1, **given).fit(points, points[:, 0])
    assert_array_equal(model.dual_coefficients, right.dual_coefficients)


def test_points_that_are_lost_are_sent_again(monkeypatch):
    monkeypatch.setattr("ntkfast.learning.solvers.panels.LEAST_OF_PART", 30)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pids, killed = list(client.run(os.getpid).values()), []

        def kill_all(done, total):
            if not killed:
                killed.extend(pids)
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)

        model = nf.distributed.NystromRegression(NET, 40, 0.1, rng=0, client=client, progress=kill_all).fit(X, X[:, 0])
    assert killed
    right = nf.NystromRegression(NET, 40, 0.1, rng=0, n_threads=1).fit(X, X[:, 0])
    assert_array_equal(model.dual_coefficients, right.dual_coefficients)


@pytest.mark.parametrize("method", ["direct", "falkon"])
def test_a_kernel_of_ones_own(method, client):
    def rbf(x, y):
        return np.exp(-np.square(x[:, None] - y).sum(axis=2) / 10)

    given = {"net": rbf, "n_centers": 20, "alpha": 0.1, "method": method, "rng": 0}
    model = nf.distributed.NystromRegression(client=client, **given).fit(X, X[:, 0])
    right = nf.NystromRegression(n_threads=1, **given).fit(X, X[:, 0])
    assert_array_equal(model.dual_coefficients, right.dual_coefficients)


def test_points_that_one_worker_has_are_sent_again(client, monkeypatch):
    """The other one died during the broadcast."""
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: None)
    scatter, copies, sent = client.scatter, iter([1, 0, 2]), []
    monkeypatch.setattr(client, "nthreads", lambda: {"tcp://a": 1, "tcp://b": 1})
    monkeypatch.setattr(client, "who_has", lambda future: {future.key: ["tcp://there"] * next(copies)})
    monkeypatch.setattr(client, "scatter", lambda *given, **options: sent.append(1) or scatter(*given, **options))
    K = nf.distributed.KernelOperator(NET, X, client=client)
    assert len(sent) == 3
    assert_allclose(K @ X[:, 0], nf.ntk(NET, X) @ X[:, 0], rtol=1e-10)


@pytest.mark.parametrize("name", ["ntkfast", "numpy", "Python", "instruction set"])
def test_workers_that_differ_are_refused(name, client, monkeypatch):
    """Before work starts, and by workers that join later."""
    there = workers.described()
    monkeypatch.setattr(client, "run", lambda function, on_error: {"tcp://there": there | {name: "another"}})
    message = f"client: expected workers with {name} .* as here, got another on tcp://there"
    with pytest.raises(ValueError, match=message):
        nf.distributed.KernelOperator(NET, X, client=client)
    with pytest.raises(ValueError, match=message):
        nf.distributed.NystromRegression(NET, 20, 0.1, client=client).fit(X, X[:, 0])
    monkeypatch.setattr(workers, "require_same", lambda client: None)
    K = nf.distributed.KernelOperator(NET, X, client=client)
    monkeypatch.setattr(workers, "described", lambda: there | {name: "another"})
    with pytest.raises(ValueError, match=f"client: expected workers with {name} another"):
        K @ X[:, 0]


def test_workers_without_ntkfast_are_refused(client, monkeypatch):
    run, missing = client.run, functools.partial(import_module, "ntkfast_of_another_environment")
    monkeypatch.setattr(client, "run", lambda _, on_error: run(missing, on_error=on_error))
    with pytest.raises(
        ValueError, match=r"client: expected workers with ntkfast, got ModuleNotFoundError.* from tcp://"
    ):
        nf.distributed.KernelOperator(NET, X, client=client)


def test_a_cluster_that_is_gone():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False
    ) as cluster:
        client = distributed.Client(cluster, set_as_default=False)
        K = nf.distributed.KernelOperator(NET, X, client=client)
        model = nf.distributed.NystromRegression(NET, 20, 0.1, client=client)
        client.close()
    for use in (
        lambda: K @ X[:, 0],
        lambda: model.fit(X, X[:, 0]),
        lambda: nf.distributed.KernelOperator(NET, X, client=client),
    ):
        with pytest.raises(ConnectionError, match="expected a cluster that answers, got a client that is closed"):
            use()


def test_a_cluster_without_workers_is_refused():
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, processes=False) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(ConnectionError, match="client: expected a cluster with workers, got none"),
    ):
        nf.distributed.KernelOperator(NET, X, client=client)


def test_a_store_outlives_all_workers_that_had_the_points(tmp_path):
    pytest.importorskip("google_crc32c")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        killed = []

        def kill(done, total):
            if not killed:
                killed.extend(client.run(os.getpid).values())
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

        store = nf.store.compute(NET, X, tmp_path / "K.zarr", memory="2MB", client=client, progress=kill)
    assert len(killed) == 2
    assert_array_equal(store[:], nf.ntk(NET, X))


def test_an_operator_outlives_its_workers():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        K, y = nf.distributed.KernelOperator(NET, X, client=client), X[:, 0]
        before = K @ y
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
        while K._workers._there.status == "finished":
            time.sleep(0.05)
        client.wait_for_workers(2, timeout=60)
        assert_array_equal(K @ y, before)


def test_the_command(tmp_path):
    pytest.importorskip("google_crc32c")
    pytest.importorskip("pandas")
    np.save(tmp_path / "X.npy", X)
    gram = [sys.executable, "-P", "-m", "ntkfast", "gram", tmp_path / "X.npy", "-o", tmp_path / "K.zarr"]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        subprocess.run([*gram, "--dask", cluster.scheduler_address], check=True)
    assert nf.store.open(tmp_path / "K.zarr").complete


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("google_crc32c")
    pytest.importorskip("pandas")
    np.save(tmp_path / "X.npy", X)
    monkeypatch.setattr("ntkfast.distributed.client.SECONDS", 0.5)
    gram = ["gram", str(tmp_path / "X.npy"), "-o", str(tmp_path / "K.zarr")]
    done = CliRunner().invoke(cli.main, [*gram, "--dask", "tcp://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "--dask: no scheduler answers at tcp://127.0.0.1:1" in done.stderr
    assert not (tmp_path / "K.zarr").exists()


def stored(tmp_path, y=X[:, :2], **options):
    pytest.importorskip("zarr")
    np.save(tmp_path / "y.npy", y)
    return nf.store.compute(NET, X, tmp_path / "K.zarr", memory="2MB", **options)


def solve(tmp_path, *options):
    given = ["solve", tmp_path / "K.zarr", tmp_path / "y.npy", "--alpha", 0.01, "-o", tmp_path / "a.npy", *options]
    return CliRunner().invoke(cli.main, [str(argument) for argument in given])


@pytest.mark.parametrize("other", [None, Y])
def test_workers_multiply_a_store_to_the_same_bits(other, client, tmp_path):
    K = stored(tmp_path, Y=other)
    there = nf.store.open(K.path, client=client)
    assert len(there._folder.grid) > 5
    V, W = RNG.normal(size=(K.shape[1], 3)), RNG.normal(size=len(X))
    assert_array_equal(there @ V, K @ V)
    assert_array_equal(there.T @ W, K.T @ W)


def test_solve_on_a_cluster(client, tmp_path):
    stored(tmp_path)
    found = []
    for options in (["--method", "cg"], ["--dask", client.scheduler.address], ["--dask", "1", "--method", "cg"]):
        done = solve(tmp_path, *options)
        assert done.exit_code == 0, done.stderr
        assert "by cg" in done.output
        found.append(np.load(tmp_path / "a.npy"))
    assert_array_equal(found[1], found[0])
    assert_array_equal(found[2], found[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dask", "tcp://127.0.0.1:1"], "--dask: no scheduler answers at tcp://127.0.0.1:1"),
        (["--dask", "two"], "--dask: no scheduler answers at two"),
        (["--dask", "0"], "expected tcp://HOST:PORT or a number of workers"),
        (["--dask", "2", "--method", "eigh"], "--dask: expected --method cg"),
    ],
)
def test_solve_without_a_cluster(options, message, tmp_path, monkeypatch):
    stored(tmp_path)
    monkeypatch.setattr("ntkfast.distributed.client.SECONDS", 0.5)
    done = solve(tmp_path, *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.npy").exists()


def test_a_cluster_that_goes_while_it_solves(tmp_path, monkeypatch):
    """One line, and what the iterations came to is in the checkpoint, from which this machine goes on alone."""
    K = stored(tmp_path)
    monkeypatch.setattr("ntkfast.learning.solvers.checkpoint.EVERY", 0)
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=True)
    keep, kept = checkpoint.Kept.keep, []

    def gone(self, what, last):
        keep(self, what, last)
        kept.append(what)
        if len(kept) == 3:
            cluster.close()

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.Kept, "keep", gone)
        given = ["--dask", cluster.scheduler_address, "--checkpoint", tmp_path / "state"]
        done = solve(tmp_path, *given)
    assert done.exit_code == 2
    assert "--dask: " in done.stderr
    assert not (tmp_path / "a.npy").exists()
    assert len(kept) == 3
    assert solve(tmp_path, "--method", "cg", "--checkpoint", tmp_path / "state").exit_code == 0
    assert_array_equal(np.load(tmp_path / "a.npy"), nf.solve(K, X[:, :2], 0.01, method="cg", rng=0).dual_coefficients)


QUIET = """
import logging
from ntkfast.distributed.client import connected
if __name__ == "__main__":
    with connected("1") as client:
        logging.getLogger("distributed.nanny").warning("Worker process still alive after 3.2 seconds, killing")
        print(client.submit(sum, [1, 2]).result())
        logging.getLogger("distributed.nanny").error("the worker died")
"""


def test_a_cluster_of_this_machine_warns_of_no_slow_workers(tmp_path):
    (tmp_path / "quiet.py").write_text(QUIET)
    command = [sys.executable, "-P", tmp_path / "quiet.py"]
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | path)
    assert done.stdout == "3\n"
    assert "still alive" not in done.stderr
    assert "the worker died" in done.stderr
