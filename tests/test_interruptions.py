"""Long calls: Ctrl-C and exceptions end them early and leave the engine intact; what is reported to progress."""

import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from numpy.testing import assert_array_equal

import ntkfast as nf
from ntkfast.engine import problem, threads
from ntkfast.support import progress

NET = nf.MLP(depth=4, activation="relu", weight_std=1.2, bias_std=0.1)
LONG = nf.MLP(depth=50, weight_std=2**0.5)  # 0.6 s for N = 3000: the points stay apart, so no pair takes the slow path
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def points(n, d=5, dtype=np.float64, seed=0):
    return np.random.default_rng((seed, n, d)).normal(size=(n, d)).astype(dtype)


def interrupt(call, begun):
    """Ctrl-C, once begun() is true, ends the call with KeyboardInterrupt."""
    ended = threading.Event()

    def press():
        while not begun() and not ended.is_set():
            time.sleep(0.001)
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        ended.set()
        presser.join()
        signal.signal(signal.SIGINT, previous)


@linux_only
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("depth", [50, 600])
def test_ctrl_c(depth, n_threads):
    """The call ends before the matrix does; at depth 600 one tile alone takes long."""
    X, small = points(6000, 4), points(30)
    expected, out = nf.ntk(NET, small), np.full((6000, 6000), np.nan)
    net = nf.MLP(depth, bias_std=0.1)
    interrupt(lambda: nf.ntk(net, X, out=out, n_threads=n_threads), begun=lambda: not np.isnan(out[0, 0]))
    assert np.isnan(out[-1, -1])
    assert_array_equal(nf.ntk(NET, small), expected)


@linux_only
def test_ctrl_c_before_the_first_tile():
    """Many points of a deep network, no pairs. No Python runs during the call in which an interrupt could surface."""
    X, net = points(400_000, 3), nf.MLP(50, "erf", bias_std=0.1)
    totals = {}  # by what is done
    interrupt(lambda: nf.diagonal(net, X, progress=totals.__setitem__), begun=lambda: totals)
    assert max(totals) < len(X)


COMPILING = """
import os, signal
import llvmlite.binding.executionengine as engine
import numpy as np
import ntkfast as nf
from ntkfast.networks import recurrence

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
string_at, pressing = engine.string_at, False
def press(*given):  # in the callback by which LLVM hands over what it compiled
    global pressing
    if pressing:
        pressing = False
        os.kill(os.getpid(), signal.SIGINT)
    return string_at(*given)
engine.string_at = press

def leaky(x):
    return x if x > 0 else 0.25 * x

x = np.linspace(-1, 1, 5)
for call in (lambda: nf.Activation.from_function(leaky)(x), lambda: recurrence.hermite_sums(x, x, 9)):
    pressing = True
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted")
assert np.array_equal(nf.Activation.from_function(leaky)(x), [-0.25, -0.125, 0, 0.5, 1])
assert abs(recurrence.hermite_sums(x, x, 9)[1] - x @ x) < 1e-15
"""


@linux_only
def test_ctrl_c_while_numba_compiles(tmp_path):
    """LLVM's callbacks swallow it, and numba then fails in another way: that is not what the caller sees."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", COMPILING], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["interrupted"] * 2), done.stderr


@pytest.mark.parametrize("n_threads", [1, 2])
def test_exception_in_progress_comes_out(n_threads):
    class OurError(Exception):
        pass

    def progress(done, total):
        raise OurError(done, total)

    small = points(30)
    expected = nf.ntk(NET, small)
    with pytest.raises(OurError) as caught:
        nf.ntk(LONG, points(2500), progress=progress, n_threads=n_threads)
    done, total = caught.value.args
    assert 0 <= done < total
    assert_array_equal(nf.ntk(NET, small), expected)


def test_progress_gets_done_and_total():
    seen, X = [], points(2500)
    silent = nf.ntk(LONG, X, progress=False)
    assert_array_equal(silent, nf.ntk(LONG, X, progress=lambda *args: seen.append(args)))
    dones, totals = zip(*seen, strict=True)
    tile = problem.tile_size(2500, 2500, 5, 8)
    blocks = -(-2500 // tile)
    assert set(totals) == {blocks * (blocks + 1) // 2}
    assert list(dones) == sorted(dones)
    assert dones[-1] <= totals[0]


def test_progress_may_call_the_engine():
    small, X, seen = points(20), points(1500), []
    expected = nf.ntk(NET, small), nf.ntk(LONG, X)
    result = nf.ntk(LONG, X, progress=lambda done, total: seen.append(nf.ntk(NET, small)))
    assert_array_equal(result, expected[1])
    assert seen
    for inner in seen:
        assert_array_equal(inner, expected[0])


def test_progress_bar(capsys):
    nf.ntk(LONG, points(1500), progress=True)
    assert "ntk" in capsys.readouterr().err
    nf.ntk(LONG, points(1500), progress=False)
    nf.ntk(LONG, points(1500))  # no terminal
    assert capsys.readouterr().err == ""


def test_an_interrupted_caller_does_not_hold_blas_back():
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    with pytest.raises(KeyboardInterrupt), threads.single_threaded_blas():
        raise KeyboardInterrupt
    after = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert after == before


LONG_CALLS = {
    "ntk": lambda X, y, path: nf.ntk(LONG, points(2000), progress=True),
    "fit_hyperparameters": lambda X, y, path: nf.fit_hyperparameters(NET, X[:50], y[:50], progress=True),
    "NystromRegression": lambda X, y, path: nf.NystromRegression(NET, 50, 0.1, progress=True).fit(X, y),
    "solve": lambda X, y, path: nf.solve(nf.KernelOperator(NET, X), y, 0.1, method="cg", progress=True),
    "store.compute": lambda X, y, path: nf.store.compute(NET, X, path / "K", memory="2MB", progress=True),
}


@pytest.mark.parametrize("call", LONG_CALLS)
def test_bars_show_the_time_left(call, monkeypatch, capsys, tmp_path):
    from tqdm.std import tqdm

    monkeypatch.setattr("tqdm.autonotebook.tqdm", functools.partial(tqdm, mininterval=0))  # however short the call is
    X = np.random.default_rng(0).standard_normal((700, 3))
    LONG_CALLS[call](X, X[:, 0], tmp_path)
    shown = capsys.readouterr().err
    assert re.search(r"[1-9]\d*/\d+ \[\d\d:\d\d<\d\d:\d\d", shown), shown


def test_no_bars_where_there_is_no_terminal(capsys, monkeypatch):
    from tqdm.std import tqdm

    monkeypatch.setattr("tqdm.autonotebook.tqdm", functools.partial(tqdm, mininterval=0))
    with progress.reporter(None, "long") as report:
        assert report is None
    assert capsys.readouterr().err == ""


def test_calls_without_a_terminal_leave_no_thread():
    """tqdm starts one for any bar, hidden or not."""
    code = "import threading, ntkfast as nf; nf.ntk(nf.MLP(2), [[1.0]], n_threads=1); print(threading.active_count())"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("options", [["-mntkfast"], ["-Bm", "ntkfast"], ["-B", "-m", "ntkfast"]])
def test_however_python_is_told_the_module(options, tmp_path):
    command = [sys.executable, *options, "--version"]  # not where the sources are, which may not be built
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ntkfast, version")
