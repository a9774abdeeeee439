"""checkpoint=: whatever ends a process, the next goes on to the same bits, and never with another problem."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import aslinearoperator

import ntkfast as nf
from ntkfast import cli

NET = nf.MLP(4, "relu", 2**0.5, 0.1)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 20))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
K = nf.ntk(NET, X)
OPERATOR = nf.KernelOperator(NET, X)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


def solve(given=OPERATOR, y=Y, alpha=0.01, **options):
    return nf.solve(given, y, alpha, **({"method": "cg", "rank": 20, "rng": 0, "n_threads": 1} | options))


def interrupt_at(iteration):
    """A progress that presses Ctrl-C after so many iterations; of the preconditioner there are 20 columns."""

    def progress(done, total):
        if total != 20 and done == iteration:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("given", [OPERATOR, K, aslinearoperator(K)], ids=["operator", "matrix", "of SciPy"])
def test_what_was_interrupted_goes_on_to_the_same_bits(given, path):
    whole = solve(given)
    assert whole.iterations > 12
    for iteration in (3, 11):
        with pytest.raises(KeyboardInterrupt):
            solve(given, checkpoint=path, progress=interrupt_at(iteration))
    seen = []
    found = solve(given, rng=5, checkpoint=path, progress=lambda *at: seen.append(at))
    assert_array_equal(found.dual_coefficients, whole.dual_coefficients)
    assert_array_equal(found.residuals, whole.residuals)
    assert next(done for done, total in seen if total != 20) == 12
    assert found.converged
    assert os.listdir(path.parent) == ["state"]


WRITER = """
import sys
import numpy as np, ntkfast as nf
from ntkfast.learning.solvers import checkpoint
checkpoint.EVERY = 0
X = np.random.default_rng(0).standard_normal((1500, 20))
K = nf.KernelOperator(nf.MLP(4, "relu", 2**0.5, 0.1), X, n_threads=1)
found = nf.solve(K, X[:, :3], 1e-3, method="cg", rank=50, rng=0, n_threads=1, checkpoint=sys.argv[1], progress=False)
np.save(sys.argv[2], found.dual_coefficients)
print(found.iterations)
"""


FALKON_WRITER = """
import sys
import numpy as np, ntkfast as nf
from ntkfast.learning.solvers import checkpoint
checkpoint.EVERY = 0
X = np.random.default_rng(0).standard_normal((8000, 3))
net = nf.MLP(4, "relu", 2**0.5, 0.1)
options = {"method": "falkon", "tol": 1e-9, "rng": 0, "n_threads": 1, "progress": False}
model = nf.NystromRegression(net, 300, 1e-6, **options)
model.fit(X, np.sin(X), checkpoint=sys.argv[1])
np.save(sys.argv[2], model.dual_coefficients)
print(model.solution.iterations)
"""


@pytest.mark.skipif(not hasattr(os, "kill"), reason="no signals")
@pytest.mark.parametrize("writer", [WRITER, FALKON_WRITER], ids=["solve", "FALKON"])
def test_killed_at_any_moment(writer, path, tmp_path):
    def start(state, out):
        return subprocess.Popen([sys.executable, "-P", "-c", writer, state, out], stdout=subprocess.PIPE, text=True)

    def written(state):
        return state.stat().st_mtime_ns if state.exists() else None

    right = start(tmp_path / "other", tmp_path / "right.npy")
    n_iterations = int(right.communicate()[0])
    assert n_iterations > 30
    sizes = []
    for moment in RNG.uniform(0, 0.1, 4):
        before, process = written(path), start(path, tmp_path / "a.npy")
        while written(path) == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        sizes.append(path.stat().st_size)
    assert not (tmp_path / "a.npy").exists()
    assert sizes[-1] > sizes[0]  # its history has grown
    assert start(path, tmp_path / "a.npy").wait() == 0
    assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "right.npy"))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def falkon(y=Y, net=NET, centers=50, points=X, checkpoint=None, **options):
    given = {"alpha": 1e-4, "method": "falkon", "n_threads": 1, "rng": 0, "tol": 1e-9} | options
    return nf.NystromRegression(net, centers, **given).fit(points, y, checkpoint=checkpoint)


@pytest.mark.parametrize("centers", [50, X[:50]], ids=["drawn", "given"])
@pytest.mark.parametrize("net", [NET, lambda x, y: nf.ntk(NET, x, y)], ids=["network", "own kernel"])
def test_falkon_goes_on_to_the_same_bits(net, centers, path):
    whole = falkon(net=net, centers=centers)
    assert whole.solution.iterations > 6
    passes = []

    def interrupt(done, total):
        passes.append(done)
        if done == total == len(X) and passes.count(total) == 5:  # the first of them is that of the targets
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        falkon(net=net, centers=centers, checkpoint=path, progress=interrupt)
    with pytest.warns(UserWarning, match="max_iterations=6 was reached"):
        falkon(net=net, centers=centers, checkpoint=path, rng=7, max_iterations=6)
    found = falkon(net=net, centers=centers, checkpoint=path, rng=8)
    assert_array_equal(found.dual_coefficients, whole.dual_coefficients)
    assert_array_equal(found.solution.residuals, whole.solution.residuals)
    assert_array_equal(found.centers, whole.centers)
    again = found.with_alpha(1e-3, checkpoint=path.with_name("next")).dual_coefficients
    assert_array_equal(falkon(net=net, centers=centers).with_alpha(1e-3).dual_coefficients, again)


FALKON_OTHERS = {
    "alpha is 0.0001, not 0.02": {"alpha": 0.02},
    "y has other numbers": {"y": Y + 1},
    "outputs is 2, not 1": {"y": Y[:, 0]},
    "n is 400, not 399": {"points": X[:-1], "y": Y[:-1]},
    "centers is 50, not 40": {"centers": 40},
    "dtype is float64, not float32": {"dtype": np.float32},
    "K_nm has other entries": {"net": nf.MLP(3, "relu", 2**0.5, 0.1)},
    "X has other numbers": {"points": X + 1e-13 * (np.arange(400) == 177)[:, None]},
}


@pytest.mark.parametrize("message", FALKON_OTHERS)
def test_another_problem_of_falkon_is_refused(message, path):
    falkon(checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"checkpoint: .* is of another problem: .*{message}"):
        falkon(**FALKON_OTHERS[message], checkpoint=path)
    assert path.read_bytes() == before


def test_files_of_solve_and_of_falkon_are_told_apart(path):
    solve(checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint: expected a file that NystromRegression wrote"):
        falkon(checkpoint=path)
    assert falkon(method="direct", checkpoint=path).solution.method == "direct"
    falkon(checkpoint=path.with_name("other"))
    with pytest.raises(ValueError, match=r"checkpoint: expected a file that ntkfast\.solve wrote"):
        solve(checkpoint=path.with_name("other"))


def test_another_tolerance_goes_on(path):
    loose = solve(tol=1e-3, checkpoint=path)
    with pytest.warns(UserWarning, match="max_iterations=25 was reached"):
        stopped = solve(tol=1e-9, max_iterations=25, checkpoint=path)
    assert loose.iterations < stopped.iterations == 25
    tight = solve(tol=1e-9, checkpoint=path)
    assert tight.iterations > 25
    assert_array_equal(tight.residuals[: len(stopped.residuals)], stopped.residuals)
    again = solve(tol=1e-9, checkpoint=path)
    assert again.iterations == tight.iterations
    assert_array_equal(again.dual_coefficients, tight.dual_coefficients)


def test_another_rank_starts_from_the_solution(path):
    solve(tol=1e-4, checkpoint=path)
    found, cold = solve(rank=100, tol=1e-10, checkpoint=path), solve(tol=1e-4)
    assert found.rank == 100
    assert cold.iterations < found.iterations
    assert_array_equal(found.residuals[: len(cold.residuals)], cold.residuals)
    assert_allclose(K @ found.dual_coefficients + 0.01 * found.dual_coefficients, Y, atol=1e-8)
    assert solve(tol=1e-10, rank=None, checkpoint=path).rank == 100


OTHERS = {
    "alpha is 0.01, not 0.02": {"alpha": 0.02},
    "y has other numbers": {"y": Y + 1},
    "outputs is 2, not 1": {"y": Y[:, 0]},
    "n is 400, not 399": {"given": K[:-1, :-1], "y": Y[:-1]},
    "dtype is float64, not float32": {"given": nf.KernelOperator(NET, X, dtype=np.float32)},
    "K_xx has other entries": {"given": nf.ntk(nf.MLP(3, "relu", 2**0.5, 0.1), X)},
    "; y has other": None,
}


@pytest.mark.parametrize("message", OTHERS)
def test_another_problem_is_refused(message, path):
    solve(checkpoint=path)
    before = path.read_bytes()
    points = X.copy()
    points[177, 3] += 1e-3  # a point that is none of the columns that are compared
    other = OTHERS[message] or {"given": nf.KernelOperator(NET, points)}
    words = message if OTHERS[message] else "K_xx has other entries"
    with pytest.raises(ValueError, match=f"checkpoint: .* is of another problem: {words}"):
        solve(**other, checkpoint=path)
    assert path.read_bytes() == before


def test_a_kernel_that_was_rounded_otherwise_is_the_same(path):
    solve(tol=1e-3, checkpoint=path)
    assert solve(K * (1 + 1e-14), checkpoint=path).converged


def test_a_finished_solution_is_compared_with_the_kernel_of_this_call(path):
    """Numbers in float32 may differ by more than tol allows, and yet be of the same kernel."""
    single = K.astype(np.float32)
    other = single * np.float32(1 + 1e-4)
    solve(single, checkpoint=path)
    for _ in range(5):
        found = solve(other, checkpoint=path)
        a = found.dual_coefficients
        left = np.linalg.norm(Y - other.astype(float) @ a - 0.01 * a, axis=0) / np.linalg.norm(Y, axis=0)
        assert found.converged
        assert left.max() < 1e-8
        assert_allclose(found.residual, left.max(), rtol=1e-3)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign", "model"])
def test_damage(damage, path):
    solve(checkpoint=path)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    changed = {"flip": contents, "truncate": contents[:-100], "empty": b"", "foreign": b"text"}
    if damage == "model":
        nf.save(NET, path)
    else:
        path.write_bytes(changed[damage])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint: expected a file that ntkfast\.solve wrote, got .*state"):
        solve(checkpoint=path)
    assert path.read_bytes() == before


def test_paths_that_cannot_be_written(tmp_path):
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "state", FileNotFoundError), (3, TypeError)):
        with pytest.raises(error, match="checkpoint: "):
            solve(checkpoint=path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="checkpoint: expected a path"):
        solve(checkpoint=str(tmp_path / "a\0b"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"checkpoint: expected a file, got .*state, which is not a regular one"):
        solve(checkpoint=path)


def test_a_disk_that_is_full_keeps_the_last_state(path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        solve(checkpoint=path, progress=interrupt_at(5))
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        solve(checkpoint=path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert_array_equal(solve(checkpoint=path).dual_coefficients, solve().dual_coefficients)


def test_methods_in_memory_take_no_notice(path):
    nf.solve(K, Y, 0.1, checkpoint=path)
    assert not path.exists()


def test_the_command(path, tmp_path):
    pytest.importorskip("google_crc32c")
    nf.store.compute(NET, X, tmp_path / "K.zarr")
    np.save(tmp_path / "y.npy", Y)
    given = ["solve", tmp_path / "K.zarr", tmp_path / "y.npy", "--alpha", 0.01, "-o", tmp_path / "a.npy"]
    given += ["--method", "cg", "--checkpoint", path, "--threads", 1]
    for _ in range(2):
        found = CliRunner().invoke(cli.main, [str(argument) for argument in given])
        assert (found.exit_code, found.stderr) == (0, "")
        assert path.exists()
    right = nf.solve(K, Y, 0.01).dual_coefficients
    assert_allclose(np.load(tmp_path / "a.npy"), right, atol=1e-6 * np.abs(right).max())
    path.write_text("something else")
    found = CliRunner().invoke(cli.main, [str(argument) for argument in given])
    assert found.exit_code == 2
    assert "--checkpoint: expected a file that ntkfast.solve wrote" in found.stderr
    path = tmp_path / "state.npy"
    given[-3] = given[given.index("-o") + 1] = path
    found = CliRunner().invoke(cli.main, [str(argument) for argument in given])
    assert (found.exit_code, found.stderr) == (
        2,
        f"ntkfast: --checkpoint: {path} is also --out, and would be replaced\n",
    )
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x93NUMPY\x01"])
def test_targets_that_are_none(content, tmp_path):
    pytest.importorskip("google_crc32c")
    nf.store.compute(NET, X, tmp_path / "K.zarr")
    (tmp_path / "y.npy").write_bytes(content)
    given = ["solve", tmp_path / "K.zarr", tmp_path / "y.npy", "--alpha", 1, "-o", tmp_path / "a.npy"]
    found = CliRunner().invoke(cli.main, [str(argument) for argument in given])
    assert found.exit_code == 2
    assert found.stderr.startswith(f"ntkfast: {tmp_path / 'y.npy'}: expected a .npy file of numbers or text, got a")
