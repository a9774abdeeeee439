"""The command line, the demo and the plots, as a user sees them."""

import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import benchmarks, cli, plotting


def run(*arguments):
    return CliRunner().invoke(cli.main, list(arguments))


def test_info_is_show_config(capsys):
    nf.show_config()
    printed = capsys.readouterr().out
    result = run("info")
    assert result.exit_code == 0
    for name in ("ntkfast", "instruction set", "OpenMP", "BLAS", "caches", "tile"):
        assert name in result.output
    assert [line[:16] for line in printed.splitlines()] == [line[:16] for line in result.output.splitlines()]


def test_demo(tmp_path):
    figure = tmp_path / "figure"
    result = run("demo", "--out", str(figure), "--threads", "1")
    assert result.exit_code == 0, result.output
    written = figure.with_suffix(".png")
    assert written.read_bytes().startswith(b"\x89PNG")
    assert str(written) in result.output
    accuracy = [float(line.split("%")[0].split()[-1]) for line in result.output.splitlines() if "accuracy" in line]
    assert len(accuracy) == 2
    assert accuracy[0] >= accuracy[1] - 1 > 95
    assert result.stderr == ""  # no bar is drawn where there is no terminal


@pytest.mark.parametrize("name", ["missing/x.png", "x.xyz"])
def test_demo_refuses_a_bad_path_at_once(tmp_path, name):
    result = run("demo", "--out", str(tmp_path / name))
    assert result.exit_code == 2
    assert result.output.startswith("ntkfast: --out: ")
    assert result.output.count("\n") == 1


def test_bench_prints_every_ratio():
    result = run("bench", "--n", "200", "--repeats", "1")
    assert result.exit_code == 0, result.output
    for case in benchmarks.cases(200):
        assert case.name in result.output
        if "n=100" not in case.name:  # the goals do not apply to smaller sizes
            assert case.size >= 8000
    assert "MiB" in result.output


def test_memory_above_input_and_output():
    assert benchmarks.peak_memory(2000, 100) < 64


def test_plots_draw_into_given_axes():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    left, right = figure.subplots(1, 2)
    assert plotting.plot_spectrum([1.0, 0.1, 0.0, -1e-17], ax=left) is left
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [1.0, 0.1])
    assert plotting.plot_plane(np.eye(4)[:, :2], [0, 1, 1, 2], ax=right) is right
    assert plotting.plot_spectrum([1.0]).get_xlabel()
