"""The command line, the demo and the plots, as a user sees them."""

import itertools

import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import cli, plotting
from ntkfast.plotting.axes import name_widths


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


def test_demo_refuses_an_empty_path():
    result = run("demo", "--out", "")
    assert (result.exit_code, result.output) == (2, "ntkfast: --out: expected the name of a file, got '.'\n")


def test_a_demo_that_is_stopped_leaves_no_figure(tmp_path, monkeypatch):
    from ntkfast import demo

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "ntk", stopped)
    result = run("demo", "--out", str(tmp_path / "figure.png"))
    assert (result.exit_code, result.output) == (130, "ntkfast: stopped; nothing was saved\n")
    assert not list(tmp_path.iterdir())


def test_plots_draw_into_given_axes():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    left, right = figure.subplots(1, 2)
    assert plotting.plot_spectrum([1.0, 0.1, 0.0, -1e-17], ax=left) is left
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [1.0, 0.1])
    assert plotting.plot_plane(np.eye(4)[:, :2], [0, 1, 1, 2], ax=right) is right
    assert plotting.plot_spectrum([1.0]).get_xlabel()


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_spectrum_is_drawn_from_the_largest_on():
    pytest.importorskip("matplotlib")
    line = plotting.plot_spectrum([-1e-17, 0.1, 1.0, 0.5]).lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [1.0, 0.5, 0.1])
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])


def test_plane_explains_labels_that_are_words():
    pytest.importorskip("matplotlib")
    points = np.eye(4)[:, :2]
    ax = plotting.plot_plane(points, ["cat", "dog", "dog", "cat"])
    assert legend_of(ax) == ["cat", "dog"]
    assert [line.get_marker() for line in ax.lines[:2]] == ["o", "o"]
    ax = plotting.plot_plane(points, [3, 8, 8, 3])
    assert ax.get_legend() is None
    assert [line.get_marker() for line in ax.lines[:2]] == ["$3$", "$8$"]


@pytest.mark.parametrize(
    ("t", "scale"),
    [
        (np.geomspace(0.1, 1e4, 20), "log"),
        ([1.0, 10.0, 100.0, np.inf], "log"),
        ([0.0, *np.geomspace(0.1, 1e4, 20)], "symlog"),
        (np.linspace(0, 100, 20), "linear"),
        ([1.0, 2.0, 3.0], "linear"),
        ([1.0, 10.0], "linear"),
    ],
)
def test_axis_of_times_suits_their_spacing(t, scale):
    pytest.importorskip("matplotlib")
    ax = plotting.plot_components(t, np.exp(-np.asarray(t))[:, None])
    assert ax.get_xscale() == scale
    ax.figure.draw_without_rendering()


def test_bands_are_in_the_legend():
    pytest.importorskip("matplotlib")
    bands = np.outer(np.arange(5.0), np.ones(3))
    assert legend_of(plotting.plot_percentiles(range(3), bands)) == ["median", "band of percentiles"]
    assert legend_of(plotting.plot_percentiles(range(3), bands, levels=(1, 12, 50, 88, 99))) == [
        "median",
        "1st to 99th percentile",
        "12th to 88th percentile",
    ]
    assert legend_of(plotting.plot_percentiles(range(3), bands[1:4], levels=(2.5, 50, 93)))[1] == (
        "2.5th to 93rd percentile"
    )


@pytest.mark.parametrize("widths", [2 ** np.arange(4, 16), [100, 150, 200, 250, 300], [64, 72, 1024, 4096], [32, 32]])
def test_widths_on_an_axis_do_not_overlap(widths):
    ax = pytest.importorskip("matplotlib.figure").Figure(figsize=(6, 4.5), layout="constrained").subplots()
    ax.loglog(widths, widths)
    name_widths(ax, widths)
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert len(boxes) >= min(len(set(widths)), 3)


def test_predictions_over_a_line():
    pytest.importorskip("matplotlib")
    x = np.array([2.0, 0.0, 1.0])
    ax = plotting.plot_predictions([4.0, 0.0, 1.0], [0.5, 0.1, 0.2], x=x, data=([0.5], [0.2]))
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0], [1, 1], [2, 4]])
    band = ax.collections[0].get_paths()[0].vertices
    assert {(2.0, 4 - 0.98), (2.0, 4 + 0.98)} <= {(float(u), round(float(v), 6)) for u, v in band}
    assert legend_of(ax) == ["95 %", "mean", "data"]


def test_predictions_against_true_values():
    pytest.importorskip("matplotlib")
    y = np.array([1.0, 2.0, 3.0, 4.0])
    ax = plotting.plot_predictions([1.0, 2.0, 4.0, 4.0], np.full(4, 0.1), y=y)
    assert ax.get_title() == "Predictions: $R^2$ = 0.800, RMSE 0.5"
    assert "95 % intervals, which hold 75%" in legend_of(ax)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "x: expected one of x and y, got neither"),
        ({"x": [1.0], "y": [1.0]}, "x: expected one of x and y, got both"),
        ({"y": [1.0], "data": ([1.0], [1.0])}, "data: expected only together with x"),
        ({"x": [1.0, 2.0]}, "x: expected shape"),
        ({"x": [1.0], "std": [-1.0]}, "std: expected numbers >= 0, got -1"),
        ({"x": [np.nan]}, "x: expected finite numbers"),
    ],
)
def test_predictions_refuse(arguments, message):
    pytest.importorskip("matplotlib")
    with pytest.raises((TypeError, ValueError), match=message):
        plotting.plot_predictions([1.0], **arguments)


def test_loo_path():
    pytest.importorskip("matplotlib")
    ax = plotting.plot_loo_path([10.0, 0.1, 1.0], [-0.5, -0.6, -0.2])
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0.1, 0.6], [1, 0.2], [10, 0.5]])
    assert legend_of(ax) == [r"smallest, $\alpha$ = 1"]
    ax = plotting.plot_loo_path([1.0], [[-0.5], [-0.4], [-0.3]], [1.0, 10.0, np.inf])
    assert legend_of(ax) == [r"$t = \infty$", r"smallest, $t$ = $\infty$"]
    ax = plotting.plot_loo_path([0.0], [[-0.5], [-0.4], [-0.3]], [0.0, 10.0, 20.0])  # no ridge; at t = 0, nothing
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[10, 0.4], [20, 0.3]])
    scores = -np.array([[3.0, 2.0], [2.0, 0.5], [1.0, 0.6]])
    ax = plotting.plot_loo_path([1.0, 2.0], scores, [1.0, 10.0, np.inf])
    assert legend_of(ax) == [r"smallest, $\alpha$ = 2, $t$ = 10"]
    np.testing.assert_array_equal(ax.collections[0].get_array(), -scores)
    assert ax.get_yticklabels()[-1].get_text() == r"$\infty$"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 0.0], [-1.0, -1.0]), "alphas: expected numbers > 0, got 0"),
        (([1.0, 2.0], [-1.0]), r"scores: expected shape \(2,\), got \(1,\)"),
        (([1.0, 2.0], [-1.0, 1.0]), "scores: expected minus mean squared errors, got 1"),
        (([1.0], [[-1.0]], [-1.0]), "t: expected numbers >= 0, got -1"),
        (([1.0], [-1.0], [1.0, 2.0]), r"scores: expected shape \(2, 1\), got \(1,\)"),
    ],
)
def test_loo_path_refuses(arguments, message):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message):
        plotting.plot_loo_path(*arguments)
