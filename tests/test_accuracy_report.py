"""`ntkfast accuracy`: its oracle agrees with the twins of the tests, and the page reports whatever happens."""

import catalogue
import numpy as np
import pytest
import reference
from click.testing import CliRunner

import ntkfast as nf
from ntkfast.accuracy import cases, measure, oracle, piecewise, polar, report
from ntkfast.accuracy.formulas import mp
from ntkfast.cli import main

INTEGRATED = [
    entry
    for entry in catalogue.ENTRIES
    if entry.activation.name in (*polar.PHI, *piecewise.PIECES) and entry.activation.name != "swish"  # which is silu
]


@pytest.mark.parametrize("name", nf.activations.names())
def test_every_name_has_a_reference(name):
    assert oracle.is_known(cases.made(name))


@pytest.mark.parametrize("name", ["relu", "abrelu", "erf", "gelu", "sin", "gaussian", "sign"])
def test_recursion_of_closed_forms(name):
    """Against the twin that walks the layers of the network."""
    activation, x, y = cases.made(name), np.array([1.0, 2.0, -0.5]), np.array([0.3, -1.0, 0.8])
    with mp.workdps(50):
        *_, pair = (state for state, _ in zip(oracle.layers(activation, 1.3, 0.2, x, y), range(5), strict=False))
        right = reference.pair(nf.MLP(5, activation, 1.3, 0.2), x, y)
        for field in pair._fields:
            assert abs(getattr(pair, field) / getattr(right, field) - 1) < 1e-40


@pytest.mark.parametrize(("q", "rho"), [((0.3, 7.0), 0.99), ((40.0, 50.0), -0.95)])
@pytest.mark.parametrize("entry", INTEGRATED, ids=repr)
def test_integrals(entry, q, rho):
    """Against quadrature in float64 that knows neither polar coordinates nor distribution functions."""
    activation = entry.activation
    f, slope = activation.function, activation.derivative
    size = np.sqrt(reference.pair_expectation(f, q[0], q[0], 1, activation.kinks))
    size *= np.sqrt(reference.pair_expectation(f, q[1], q[1], 1, activation.kinks))
    found = oracle.dual(activation, *map(mp.mpf, q), rho * mp.sqrt(mp.mpf(q[0]) * q[1]))
    for value, function, scale in zip(found, (f, slope), (size, 1), strict=True):
        assert abs(value - reference.pair_expectation(function, *q, rho, activation.kinks)) < 3e-13 * scale


@pytest.mark.parametrize("at", [(0.3, -1.2), (0.0, 0.7), (-0.4, 0.0), (0.0, 0.0), (2.0, 2.0), (-9.0, 8.0)])
def test_distribution_function(at):
    """P(z1 > h, z2 > k) against the integral of the density over the correlation, from 0 on (Plackett, 1954)."""
    h, k = map(mp.mpf, at)
    with mp.workdps(30):
        for rho in (mp.mpf("0.6"), mp.mpf("-0.95")):

            def density(angle):
                return mp.exp(-(h * h + k * k - 2 * h * k * mp.sin(angle)) / (2 * mp.cos(angle) ** 2))

            right = mp.ncdf(-h) * mp.ncdf(-k) + mp.quad(density, [0, mp.asin(rho)]) / (2 * mp.pi)
            assert abs(piecewise.upper(h, k, rho, mp.sqrt(1 - rho**2)) - right) < mp.mpf("1e-25")


@pytest.mark.parametrize("h", [0.7, 3, 7])
def test_distribution_function_at_the_end_of_its_series(h):
    """T(h, 1) = Φ(h) Φ(-h) / 2 (Owen, 1956), at several precisions: the series in rounded integers ends."""
    for digits in (15, 60, 300, 420):
        with mp.workdps(digits):
            right = mp.ncdf(h) * mp.ncdf(-h) / 2
            assert abs(piecewise.owen(mp.mpf(h), mp.mpf(h)) - right) < mp.mpf(10) ** (3 - digits)


@pytest.mark.parametrize("entry", [entry for entry in INTEGRATED if not entry.jumps], ids=repr)
def test_near_pairs_keep_their_digits(entry):
    """K(q, q) - K(q, c) = (q - c) E[φ'φ'] + O((q - c)^1.5), by Price's theorem; so at -c for odd φ."""
    activation, q, gap = entry.activation, mp.mpf(1.7), mp.mpf("1e-24")
    whole, _ = oracle.dual(activation, q, q, q)
    value, slope = oracle.dual(activation, q, q, q - gap)
    assert abs((whole - value) / (gap * slope) - 1) < 1e-6
    if activation.name in ("tanh", "arctan", "softsign"):
        assert oracle.dual(activation, q, q, gap - q)[0] == -value


def test_what_fails_is_reported(monkeypatch):
    def fails(*args, **options):
        raise nf.PrecisionError("dual: not today")

    monkeypatch.setattr(measure, "kernels", fails)
    found = measure.measure("relu", seconds=0)
    assert not found.cells
    assert found.left > 0
    monkeypatch.setattr(cases, "HIDDEN", (1,))
    found = measure.measure("relu")
    assert all(cell.refused == "PrecisionError: dual: not today" for cell in found.cells)
    page = report.page([found, measure.Measured("new()", [], problem="no formula")], [("relu()", None, "too slow")])
    assert "hidden layers): PrecisionError: dual: not today" in page
    assert "new(): no formula" in page
    assert "| relu() | too slow |" in page


def test_errors_are_measured(monkeypatch):
    """A kernel that is off by 1e-6 of its value is found to be."""
    exact = measure.kernels

    def wrong(*args, **options):
        found = exact(*args, **options)
        return found._replace(ntk=found.ntk * (1 + 1e-6))

    monkeypatch.setattr(measure, "kernels", wrong)
    monkeypatch.setattr(cases, "HIDDEN", (1,))
    cells = [cell for cell in measure.measure("erf").cells if cell.kind == "1e-3 apart" and cell.dtype == "float64"]
    assert cells
    assert all(cell.error == pytest.approx(1e-6, rel=1e-2) and "Θ" in cell.at for cell in cells)


@pytest.mark.long
def test_command(tmp_path):
    out = tmp_path / "accuracy.md"
    result = CliRunner().invoke(main, ["accuracy", "relu", "softsign", "--seconds", "5", "--out", str(out)])
    assert result.exit_code == 0, result.output
    page = out.read_text(encoding="utf-8")
    assert page.count("\n| relu() | ") == 2
    assert page.count("\n| softsign() | ") == 2
    assert "| 1e-12 apart | float64 |" in page


def test_command_with_an_unknown_name():
    result = CliRunner().invoke(main, ["accuracy", "rulu"])
    assert result.exit_code == 2
    assert "rulu" in result.output
