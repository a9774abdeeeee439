"""The household power data: files as they are published, features, the experiment and its command."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from ntkfast.cli import main
from ntkfast.experiments import household

pytest.importorskip("pandas")

COLUMNS = ("Date", "Time", "Global_active_power", *household.MEASUREMENTS)
UCI = f"""{";".join(COLUMNS)}
16/12/2006;17:24:00;4.216;0.418;234.840;18.400;0.000;1.000;17.000
16/12/2006;17:26:00;5.374;0.498;233.290;23.000;0.000;2.000;17.000
16/12/2006;17:25:00;5.360;0.436;233.630;23.000;0.000;1.000;16.000
16/12/2006;17:27:00;?;?;?;?;?;?;
16/12/2006;17:28:00;3.666;0.528;235.680;15.800;0.000;1.000;17.000
"""


def as_csv(path, n=600):
    """Minutes whose power is a known function of the measurements."""
    rng = np.random.default_rng(0)
    lines = ["date_time,Global_active_power," + ",".join(household.MEASUREMENTS)]
    start = np.datetime64("2007-01-01T00:00")
    for k in range(n):
        reactive, voltage, intensity = rng.random(), 230 + 10 * rng.random(), 20 * rng.random()
        power = np.hypot(voltage * intensity / 1000, reactive)
        time = str(start + k).replace("T", " ")
        lines.append(f"{time}:00,{power:.6f},{reactive:.6f},{voltage:.6f},{intensity:.6f},0.0,1.0,{k % 18}.0")
    path.write_text("\n".join(lines))
    return path


def test_the_file_as_uci_publishes_it(tmp_path):
    (tmp_path / "power.txt").write_text(UCI)
    data = household.read(tmp_path / "power.txt")
    assert data.power.tolist() == [4.216, 5.36, 5.374, 3.666]  # in the order of time, without the missing minute
    assert np.diff(data.minutes).tolist() == [1, 1, 2]
    assert data.measurements[0].tolist() == [0.418, 234.84, 18.4, 0, 1, 17]


def test_features_of_a_row(tmp_path):
    (tmp_path / "power.txt").write_text(UCI)
    X, names = household.features(household.read(tmp_path / "power.txt"), "row")
    assert names[:5] == ("year", "month", "day", "hour", "minute")
    assert X[:, :5].tolist() == [[2006, 12, 16, 17, minute] for minute in (24, 25, 26, 28)]


def test_neighbors_are_one_minute_away_or_left_out(tmp_path):
    (tmp_path / "power.txt").write_text(UCI)
    data = household.read(tmp_path / "power.txt")
    X, names = household.features(data)
    before, after = (names.index(f"Voltage, minute {where} minus this one") for where in ("before", "after"))
    np.testing.assert_allclose(X[:, before], [0, 234.84 - 233.63, 233.63 - 233.29, 0], atol=1e-5)
    np.testing.assert_allclose(X[:, after], [233.63 - 234.84, 233.29 - 233.63, 0, 0], atol=1e-5)
    assert not any("active_power" in name.replace("reactive", "") for name in names)  # never the target


def test_the_command(tmp_path):
    path = as_csv(tmp_path / "power.csv")
    arguments = ["household", str(path), "--centers", "200", "--features", "row"]
    ran = CliRunner().invoke(main, [*arguments, "--json", "--out", str(tmp_path / "test.npz")])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    with np.load(tmp_path / "test.npz") as saved:
        errors = (saved["actual"] - saved["predicted"]) / saved["standard_deviation"]
    assert found["n_test"] == len(errors) == 60
    np.testing.assert_allclose(found["rmse"], np.sqrt(np.mean(errors**2)), rtol=1e-5)
    assert found["rmse"] < 0.3
    assert np.isfinite(found["nll"])
    table = CliRunner().invoke(main, arguments).stdout
    assert "ADASAP" in table
    assert f"{found['rmse']:.4f}" in table


def test_too_many_centers_are_refused_before_the_pilot(tmp_path):
    path = as_csv(tmp_path / "power.csv")
    ran = CliRunner().invoke(main, ["household", str(path), "--centers", "100000"])
    assert ran.exit_code == 2
    assert re.fullmatch(
        r"ntkfast: --centers: expected at most the number of training minutes, \d+, got 100000\n", ran.stderr
    )


def test_the_matern_kernel_is_that_of_scikit_learn():
    Matern = pytest.importorskip("sklearn.gaussian_process.kernels").Matern
    X, Y = np.random.default_rng(0).normal(size=(2, 30, 4))
    np.testing.assert_allclose(household.Matern(2.5)(X, Y), Matern(2.5, nu=1.5)(X, Y), rtol=1e-12)


def test_the_matern_kernel_takes_the_same_road(tmp_path):
    data = household.read(as_csv(tmp_path / "power.csv"))
    result = household.run(data, "row", 200, kernel="matern")
    assert result.rmse < 0.3
    with pytest.raises(ValueError, match="kernel: expected one of ntk, nngp, matern"):
        household.run(data, kernel="rbf")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n", "Global_active_power is missing"),
        (UCI.replace("234.840", "high"), "expected the household power data"),
        (UCI.replace("16/12/2006;17:26", "16/12/2006;17:25"), "expected each minute once"),
        (UCI.replace("16/12/2006;17:26", "soon;17:26"), "expected the household power data"),
        ("", "Global_active_power is missing"),
        (UCI, "expected at least 20 minutes"),
        (UCI.replace("\n", "\r"), "expected at least 20 minutes"),
        ("a,b\rc,d\r", "Global_active_power is missing"),
    ],
)
def test_other_files(tmp_path, text, problem):
    (tmp_path / "power.txt").write_text(text)
    ran = CliRunner().invoke(main, ["household", str(tmp_path / "power.txt")])
    assert ran.exit_code == 2
    assert problem in ran.output
    assert ran.output.count("\n") == 1
