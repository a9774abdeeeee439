"""ntkfast.neural_tangents against values that neural-tangents 0.6.5 computed in float64 (tests/data)."""

import warnings
from pathlib import Path

import neural_tangents_cases as cases
import numpy as np
import pytest
import scipy.special

from ntkfast.neural_tangents import stax

VALUES = np.load(Path(__file__).parent / "data" / "neural_tangents.npz")
X1, X2 = VALUES["x1"], VALUES["x2"]

# Rounding, also of polynomials of degree 5, and the eps of 1e-12 of LayerNorm, which we leave out.
CLOSE = 1e-10
# There ρ = 1 of a point with itself is rounded to 1 - 1e-16, where slopes with kinks have an infinite derivative.
SAME_POINT = 1e-8
# ElementwiseNumerical: of tanh at these variances a rule of 200 points has errors of 4e-9, without df exact.
QUADRATURE = 1e-8


def silu(x):
    return x * scipy.special.expit(x)


def erf_dual(c, q1, q2):
    return np.arcsin(2 * c / np.sqrt((1 + 2 * q1) * (1 + 2 * q2))) * 2 / np.pi


def limits():
    """Name -> (kernel_fn, first points, second points, accuracy)."""
    found = {name: (layer[2], X1, X2, CLOSE) for name, layer in cases.networks(stax).items()}
    images = VALUES["images1"], VALUES["images2"]
    found |= {name: (layer[2], *images, CLOSE) for name, layer in cases.flattened(stax).items()}
    for name, fn in (("tanh", np.tanh), ("swish", silu)):
        layer = cases.hidden(stax, stax.ElementwiseNumerical(fn, 200))
        found[f"numerical/{name}"] = layer[2], X1, X2, QUADRATURE
    found["given"] = cases.hidden(stax, stax.Elementwise(scipy.special.erf, erf_dual))[2], X1, X2, CLOSE
    return found


LIMITS = limits()


@pytest.fixture(autouse=True)
def no_warnings_of_fans():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FanIn")
        yield


def close(value, name, accuracy):
    """Whether it is the stored value, to this accuracy relative to the largest entry; any number for NaN."""
    expected = VALUES[name]
    assert value.shape == expected.shape
    assert np.isfinite(value).all()
    known = np.isfinite(expected)  # RectifiedMonomial has NaN for variances and at ρ = 1
    return (np.abs(value - expected)[known] <= accuracy * np.abs(value).max()).all()


def require_kernels(k, name, accuracy):
    for field in ("nngp", "ntk"):
        assert close(getattr(k, field), f"{name}:{field}", accuracy), field
    for field in ("cov1", "cov2"):
        if VALUES[f"{name}:{field}"].ndim == 1:  # a matrix after DotGeneral
            assert close(getattr(k, field), f"{name}:{field}", accuracy), field
    assert k.is_gaussian == VALUES[f"{name}:is_gaussian"]
    if "ExpNormalized" not in name:  # whose widths are lost there
        assert k.shape1 == tuple(VALUES[f"{name}:shape"])


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name):
    kernel_fn, a, b, accuracy = LIMITS[name]
    k = kernel_fn(a, b, None)
    require_kernels(k, name, accuracy)
    assert not k.x1_is_x2
    both = kernel_fn(a, b, ("ntk", "nngp"))
    assert both._fields == ("ntk", "nngp")
    np.testing.assert_array_equal(both.ntk, k.ntk)
    np.testing.assert_array_equal(kernel_fn(a, b, "nngp"), k.nngp)


@pytest.mark.parametrize("name", LIMITS)
def test_limit_of_a_set_with_itself(name):
    kernel_fn, a, _, accuracy = LIMITS[name]
    k = kernel_fn(a, None, None)
    assert k.x1_is_x2
    assert k.cov2 is None
    for field in ("nngp", "ntk"):
        value, expected = getattr(k, field), VALUES[f"{name}/symmetric:{field}"]
        off = ~np.eye(len(a), dtype=bool)
        size = np.abs(value).max()
        assert np.abs(value - expected)[off].max() <= accuracy * size
        known = np.isfinite(expected)
        assert np.abs(value - expected)[known].max() <= max(accuracy, SAME_POINT) * size
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, value.T)
    np.testing.assert_allclose(k.nngp.diagonal(), k.cov1, rtol=1e-14)


@pytest.mark.parametrize("name", LIMITS)
def test_limit_layer_by_layer(name):
    """The matrices of a Kernel go through the layers as the points do."""
    kernel_fn, a, b, accuracy = LIMITS[name]
    for second in (b, None):
        start = stax.Identity()[2](a.reshape(len(a), -1), None if second is None else b.reshape(len(b), -1), None)
        start = start.replace(shape1=a.shape, shape2=a.shape if second is None else b.shape)
        k = kernel_fn(start)
        if second is not None:
            require_kernels(k, name, accuracy)
        else:
            expected = kernel_fn(a, None, None)
            np.testing.assert_allclose(k.ntk, expected.ntk, atol=max(1e-10, accuracy) * np.abs(expected.ntk).max())


def test_every_layer_is_compared():
    used = {name.split("/")[-1].split("_")[0] for name in LIMITS}
    used |= {"Dense", "DotGeneral", "Dropout", "Flatten", "LayerNorm", "FanOut", "Sigmoid", "ABRelu"}
    missing = set(stax.__all__) - used - {"layer", "parallel", "serial", "repeat", "Sigmoid_like"}
    missing -= {"Elementwise", "ElementwiseNumerical"}  # given, numerical
    refused = {name for name in missing if "Not here" in getattr(stax, name).__doc__}
    assert missing == refused
