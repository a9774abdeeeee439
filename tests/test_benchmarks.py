"""`ntkfast bench`: what it measures, what it writes, and what it makes of two runs. No test depends on timing."""

import itertools
import json
import math

import pytest
from click.testing import CliRunner

from ntkfast import cli
from ntkfast.benchmarks import compare, goals, growth, limit, limits, memory, peers, run
from ntkfast.benchmarks.limits import Rates, Work
from ntkfast.benchmarks.peers import PEERS
from ntkfast.benchmarks.workloads import BY_NAME, WORKLOADS


def bench(*arguments):
    return CliRunner().invoke(cli.main, ["bench", *map(str, arguments)])


def test_names_are_unique_and_goals_are_of_workloads():
    assert len(BY_NAME) == len(WORKLOADS)
    assert {name for goal in goals.GOALS for name in (goal.over, goal.under)} <= set(BY_NAME)
    assert len({goal.name for goal in goals.GOALS}) == len(goals.GOALS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_runs(workload):
    if "sklearn" in workload.name:
        pytest.importorskip("sklearn")
    workload.make(64)()
    if workload.work is not None:
        small, large = ([sum(vars_of(work)) for work in workload.work(n)] for n in (800, 1600))
        assert all(0 < a < b for a, b in zip(small, large, strict=True))


def vars_of(work):
    return work.gemm, work.syrk, work.written, work.operations, work.roots


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.distribution)
def test_peers_that_claim_the_same_numbers_have_them(peer):
    if not peer.installed:
        pytest.skip(f"needs {peer.distribution}")
    found = list(peers.measure(peer, 0.02, 1))
    assert found
    assert all(one.same is not False for one in found)
    assert [one.difference is None for one in found] == [one.same is None for one in found]


def test_the_limit_is_the_work_at_the_speed_of_the_machine():
    rates = [Rates("f8", 2, gemm=4e9, syrk=2e9, written=1e9, roots=1e8), Rates("f8", 1, 1.0, 1.0, 1.0, 1.0)]
    work = (Work(gemm=4e9, syrk=1e9, written=5e8, operations=2e9, roots=5e7), Work(gemm=2e9, roots=2e8))
    # the map: operations at half the rate of GEMM, unless roots take longer
    assert limits.parts(work, rates, 2) == {"products": 2.0, "memory": 0.5, "map": 1.0 + 2.0}


def test_work_of_a_kernel():
    """By hand: 3 hidden layers of 37 operations and a root for each of n²/2 pairs, after an affine layer."""
    work = limit.kernel_work(100, d=7)
    assert (work.syrk, work.gemm, work.written) == (100 * 100 * 7, 0, 100 * 100 * 8)
    assert (work.operations, work.roots) == (5000 * (3 * 37 + 2), 5000 * 3)
    assert limit.kernel_work(100, 50, d=7, dtype="f4").gemm == 2 * 100 * 50 * 7


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rates_of_this_machine(dtype):
    rates = limits.measure(dtype, 1, quick=True)
    assert 1e8 < rates.syrk < 1e13
    assert 1e8 < rates.gemm < 1e13
    assert 1e7 < rates.written < 1e12
    assert 1e6 < rates.roots < 1e12


def test_exponents():
    assert growth.Growth("N", (10, 20, 40), (3.0, 12.0, 48.0), 2.0).exponent == pytest.approx(2.0)
    assert growth.Growth("threads", (1, 2, 4), (1.0, 0.5, 0.25), -1.0).exponent == pytest.approx(-1.0)
    assert math.isnan(growth.Growth("threads", (1,), (1.0,), -1.0).exponent)


def test_goals_are_met_at_the_size_they_are_meant_for():
    goal = goals.Goal("a", "b", 2.0)
    assert [goal.met(ratio, 8000) for ratio in (1.9, 2.1)] == [True, False]
    assert goal.met(2.1, 1000) is None
    assert goals.Goal("a", "b", 2.0, at_least=True, size=None).met(2.1, 1000) is True


def test_ratios_are_of_calls_timed_in_turn():
    order = []
    seconds, ratio = goals.compare([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert order == ["a", "b"] * 4  # one of them a warm-up
    assert min(*seconds, ratio) > 0


def test_memory_above_input_and_output():
    assert memory.above_output(2000, 100) < 64


@pytest.fixture
def short(monkeypatch):
    """A run of a few workloads."""
    monkeypatch.setattr(run, "WORKLOADS", [BY_NAME["relu, d=20, float64"], BY_NAME["relu, d=20, n=100, 20 calls"]])
    of_threads = goals.Goal("relu, d=784, 1 thread", "relu, d=784, 2 threads", 1.8, at_least=True)
    one = goals.Goal("relu, d=20, float64", "numpy X @ X.T, d=20, float64", 0.74)
    monkeypatch.setattr(goals, "GOALS", [one, of_threads])


def test_table_json_page_and_comparison(short, tmp_path):
    pytest.importorskip("matplotlib")
    file, page = tmp_path / "a.json", tmp_path / "a.html"
    result = bench("--n", 64, "--repeats", 1, "--peers", "--json", file, "--html", page)
    assert result.exit_code == 0, result.output
    for name in ("relu, d=20, float64", "GEMM", "exponent", "<= 0.74", "MiB", "scikit-learn"):
        assert name in result.stdout
    found = json.loads(file.read_text())
    [counted, uncounted] = found["workloads"]
    assert counted["share"] == pytest.approx(sum(counted["parts"].values()) / counted["seconds"])
    assert uncounted["share"] is None
    assert len(found["goals"]) == min(2, found["n_threads"])  # none of more threads than there are
    assert [one["of"] for one in found["growth"]] == ["N", "d", "depth", "threads"]
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    assert not any(f"{name}=" in text for name in ("src", "<link"))  # nothing from elsewhere

    same = bench("--compare", file, file)
    assert same.exit_code == 0
    assert same.stdout.splitlines()[-1].startswith("0 of ")
    found["workloads"][0]["seconds"] *= 1.5
    slow = tmp_path / "b.json"
    slow.write_text(json.dumps(found))
    result = bench("--compare", file, slow)
    assert result.exit_code == 1
    [line] = [line for line in result.stdout.splitlines() if line.endswith("  slower")]
    assert line.startswith("relu, d=20, float64  ")
    assert bench("--compare", file, slow, "--tolerance", 1.6).exit_code == 0
    assert bench("--compare", slow, file).exit_code == 0  # faster


def run_of(**changed):
    there = {"version": run.VERSION, "machine": {}, "n": 10, "n_threads": 1}
    return there | {name: [] for name in ("limits", "workloads", "growth", "goals")} | changed


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("no JSON", "", "expected JSON that ntkfast bench wrote"),
        ("[]", "", "expected a run of ntkfast bench, version 1, got list"),
        (json.dumps(run_of(version=0)), "", "version 1, got 0"),
        ("[" * 100000, "", "expected JSON that ntkfast bench wrote"),
        (json.dumps({"version": run.VERSION}), "", "expected a whole run of ntkfast bench, got KeyError"),
        (json.dumps(run_of(machine=[])), "", "expected a whole run of ntkfast bench, got AttributeError"),
        (json.dumps(run_of(workloads=[{"name": "a", "seconds": 0}])), "", "a whole run of ntkfast bench, got Zero"),
        (json.dumps(run_of(workloads=[{"name": "a", "seconds": None}])), "", "a whole run of ntkfast bench, got Type"),
        (json.dumps(run_of()), json.dumps(run_of(n=20)), "n: expected runs of the same size, got 10 and 20"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, message, tmp_path):
    files = tmp_path / "a.json", tmp_path / "b.json"
    for file, text in zip(files, (a, b or a), strict=True):
        file.write_text(text)
    result = bench("--compare", *files)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_comparison_is_of_what_both_runs_have():
    one = {"name": "a", "seconds": 2.0}
    before = run_of(workloads=[one, {"name": "gone", "seconds": 1.0}])
    after = run_of(workloads=[{"name": "new", "seconds": 1.0}, one | {"seconds": 3.0}])
    assert compare.ratios(before, after) == {"a": (2.0, 3.0, 1.5)}
    goals_of = [
        [{"name": "g", "ratio": ratio, "at_least": at_least}] for ratio, at_least in ((1.0, False), (2.0, True))
    ]
    slower_goals = [[{"name": "g", "ratio": ratio}] for ratio in (1.5, 1.0)]
    factors = [
        compare.turned(run_of(goals=a), run_of(goals=b))["g"][2] for a, b in zip(goals_of, slower_goals, strict=True)
    ]
    assert factors == [1.5, 2.0]
    rate = dict(zip(("gemm", "syrk", "written", "roots"), itertools.repeat(2.0), strict=False))
    rates = {"limits": [{"dtype": "f8", "n_threads": 1} | rate]}
    slower = {"limits": [{"dtype": "f8", "n_threads": 1} | rate | {"gemm": 1.0}]}
    assert compare.machine(rates, slower)["gemm f8, 1 threads"] == 2.0
    assert compare.machine(rates, slower)["syrk f8, 1 threads"] == 1.0


def test_options_that_cannot_be_are_refused_before_the_work(tmp_path):
    file = tmp_path / "a"
    for options, message in (
        (("--json", file, "--html", file), "--html: "),
        (("--compare", __file__, __file__, "--tolerance", "nan"), "expected a finite number, got nan"),
    ):
        result = bench(*options)
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path):
    result = bench("--json", tmp_path / "none" / "a.json")
    assert result.exit_code == 2
    assert "--json: there is no folder" in result.stderr
