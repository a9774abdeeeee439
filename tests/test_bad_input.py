"""Bad input, all of it: the exception's type, and a message that names the argument and what was given."""

import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import ntkfast as nf

NET = nf.MLP(depth=3, activation="relu", weight_std=1.2, bias_std=0.1)
X = np.random.default_rng(0).normal(size=(6, 3))
FUNCTIONS = [nf.ntk, nf.nngp, nf.kernels, nf.diagonal]


def refused(error, words, call, *args, **kwargs):
    """call raises exactly this error; its message starts with words[0] and contains the other words in this order."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is error
    message = str(caught.value)
    assert re.match(r".*?".join(map(re.escape, words)), message, re.DOTALL), f"{words} not in {message!r}"


def with_entry(value, row, column, dtype=np.float64):
    bad = X.astype(dtype)
    bad[row, column] = value
    return bad


# --- points

NOT_POINTS = {
    "0-D": (3.0, ValueError, ("expected a 2-D array", "got shape ()")),
    "1-D": (X[0], ValueError, ("expected a 2-D array", "got shape (3,)", "[:, None]", "[None, :]")),
    "3-D": (X[None], ValueError, ("expected a 2-D array", "got shape (1, 6, 3)")),
    "ragged": ([[1.0, 2.0, 3.0], [4.0]], ValueError, ("expected a 2-D array", "got list")),
    "no rows": (np.empty((0, 3)), ValueError, ("expected at least one point", "got shape (0, 3)")),
    "no columns": (np.empty((4, 0)), ValueError, ("expected at least one point and one feature", "got shape (4, 0)")),
    "empty list": ([[]], ValueError, ("expected at least one point and one feature", "got shape (1, 0)")),
    "nan": (with_entry(np.nan, 4, 1), ValueError, ("expected finite numbers", "got nan in row 4, column 1")),
    "inf": (with_entry(np.inf, 5, 2), ValueError, ("expected finite numbers", "got inf in row 5, column 2")),
    "-inf": (with_entry(-np.inf, 0, 0), ValueError, ("expected finite numbers", "got -inf in row 0, column 0")),
    "nan float32": (
        with_entry(np.nan, 3, 2, np.float32),
        ValueError,
        ("expected finite", "got nan in row 3, column 2"),
    ),
    "norm overflow": (with_entry(1e200, 2, 1), ValueError, ("the squared norm of row 2 overflows float64",)),
    "complex": (X.astype(complex), TypeError, ("expected real numbers", "got dtype complex128")),
    "object": (X.astype(object), TypeError, ("expected real numbers", "got dtype object")),
    "None": (None, TypeError, ("expected real numbers", "got dtype object")),
    "string": (X.astype(str), TypeError, ("expected real numbers", "got dtype <U")),
    "bytes": (X.astype("S"), TypeError, ("expected real numbers", "got dtype |S")),
    "dates": (np.zeros((4, 3), "M8[s]"), TypeError, ("expected real numbers", "got dtype datetime64[s]")),
    "records": (np.zeros((4, 3), "f8,f8"), TypeError, ("expected real numbers", "got dtype [")),
    "masked": (np.ma.masked_less(X, 0), TypeError, ("expected an array without mask", "got a masked array")),
}


@pytest.mark.parametrize("kind", NOT_POINTS)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_X_that_is_no_set_of_points(function, kind):
    bad, error, words = NOT_POINTS[kind]
    refused(error, ("X: ", *words), function, NET, bad)


@pytest.mark.parametrize("kind", sorted(set(NOT_POINTS) - {"None"}))
@pytest.mark.parametrize("function", [nf.ntk, nf.nngp, nf.kernels], ids=lambda f: f.__name__)
def test_Y_that_is_no_set_of_points(function, kind):
    bad, error, words = NOT_POINTS[kind]
    with_other_features = kind in ("no columns", "empty list")
    refused(error, ("Y: ", *(words[:1] if with_other_features else words)), function, NET, X, bad)


def test_the_first_bad_row_of_many_is_named():
    many = np.zeros((1000, 4))
    many[[937, 700, 999], [3, 2, 0]] = np.nan
    refused(ValueError, ("X: ", "got nan in row 700, column 2"), nf.ntk, NET, many)


@pytest.mark.parametrize("n_features", [1, 2, 4])
def test_Y_with_another_number_of_features(n_features):
    bad = np.ones((5, n_features))
    refused(ValueError, ("Y: expected 3 features", f"got shape (5, {n_features})"), nf.ntk, NET, X, bad)


def test_values_beyond_float32_are_not_finite_there():
    refused(ValueError, ("X: expected finite numbers", "row 2"), nf.ntk, NET, with_entry(1e100, 2, 0), dtype=np.float32)


# --- a kernel that does not fit the dtype


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_kernel_beyond_float32(function):
    bad = with_entry(1e30, 4, 1, np.float32)
    refused(ValueError, ("X: ", "row 4", "overflows float32", "dtype=float64"), function, NET, bad)
    assert np.all(np.isfinite(nf.ntk(NET, bad, dtype=np.float64)))


def test_kernel_beyond_float32_in_Y():
    bad = with_entry(1e30, 1, 1, np.float32)
    refused(ValueError, ("Y: ", "row 1", "overflows float32"), nf.ntk, NET, X.astype(np.float32), bad)


def test_kernel_beyond_float64():
    refused(ValueError, ("X: ", "row 0", "overflows float64"), nf.ntk, nf.MLP(4, weight_std=1e80), X)
    refused(
        ValueError, ("X: ", "row 3", "overflows float64"), nf.nngp, nf.MLP(1, weight_std=10), with_entry(9e153, 3, 0)
    )


WILD = {
    "float32 1e30, small weights": (
        nf.Network([nf.Dense(weight_std=1e-25), "relu", nf.Dense()]),
        (1e30 * X).astype(np.float32),
    ),
    "overflow inside": (nf.Network([nf.Dense(weight_std=1e200), "relu", nf.Dense(weight_std=1e-200)]), X),
    "underflow inside": (nf.Network([nf.Dense(weight_std=1e-200), "relu", nf.Dense(weight_std=1e200)]), X),
    "erf of a huge slope": (nf.Network([nf.Dense(), nf.activations.erf(1.0, 1e200), nf.Dense(weight_std=1e-200)]), X),
    "huge erf, tiny weights": (nf.Network([nf.Dense(), nf.activations.erf(1e200), nf.Dense(weight_std=1e-200)]), X),
}


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("case", WILD)
def test_finite_or_refused_never_nan(case, get):
    net, points = WILD[case]
    for Y in (None, points.copy()):
        try:
            result = nf.kernels(net, points, Y, get=get)
        except ValueError:
            refused(ValueError, ("X: ", "row 0", "overflows"), nf.kernels, net, points, Y, get=get)
        else:
            assert np.all(np.isfinite(result))


def test_no_refusal_for_an_output_that_was_not_asked_for():
    net = nf.Network(
        [nf.Dense(weight_std=1e100, weight_lr=1e200), "relu", nf.Dense(weight_std=1e-100)]
    )  # only ntk is beyond float64
    assert np.all(np.isfinite(nf.diagonal(net, X, get="nngp")))


# --- out


def read_only(array):
    array.flags.writeable = False
    return array


def misaligned(shape):
    return np.zeros(8 * shape[0] * shape[1] + 1, np.uint8)[1:].view(np.float64).reshape(shape)


BAD_OUT = {
    "rows": (lambda: np.empty((5, 6)), ValueError, ("expected shape (6, 6)", "got (5, 6)")),
    "columns": (lambda: np.empty((6, 7)), ValueError, ("expected shape (6, 6)", "got (6, 7)")),
    "flat": (lambda: np.empty(36), ValueError, ("expected shape (6, 6)", "got (36,)")),
    "float32": (lambda: np.empty((6, 6), np.float32), TypeError, ("expected dtype float64", "got float32")),
    "int": (lambda: np.empty((6, 6), int), TypeError, ("expected dtype float64", "got int64")),
    "big-endian": (lambda: np.empty((6, 6), ">f8"), TypeError, ("expected dtype float64", "got >f8")),
    "read-only": (lambda: read_only(np.empty((6, 6))), ValueError, ("expected a writeable array", "got a read-only")),
    "misaligned": (lambda: misaligned((6, 6)), ValueError, ("expected strides in whole elements", "got")),
    "list": (lambda: [[0.0] * 6] * 6, TypeError, ("expected a NumPy array", "got list")),
    "zero strides": (
        lambda: np.lib.stride_tricks.as_strided(np.empty(6), (6, 6), (0, 8)),
        ValueError,
        ("expected one place per entry", "got strides (0, 8)"),
    ),
    "overlapping rows": (
        lambda: np.lib.stride_tricks.as_strided(np.empty(36), (6, 6), (40, 8)),
        ValueError,
        ("expected one place per entry", "got strides (40, 8)"),
    ),
}


@pytest.mark.parametrize("kind", BAD_OUT)
def test_out_that_cannot_be_written(kind):
    make, error, words = BAD_OUT[kind]
    refused(error, ("out: ", *words), nf.ntk, NET, X, out=make())
    refused(error, ("out[1]: ", *words), nf.kernels, NET, X, out=[None, make()])


def test_out_of_float64_for_a_float32_result():
    refused(
        TypeError, ("out: expected dtype float32", "got float64"), nf.ntk, NET, X.astype("f4"), out=np.empty((6, 6))
    )


@pytest.mark.parametrize("shift", [0, 1, 20])
def test_out_overlapping_the_points(shift):
    buffer = np.ones(60)
    points, out = buffer[:18].reshape(6, 3), buffer[shift : shift + 36].reshape(6, 6)
    if shift < 18:
        refused(ValueError, ("out: expected memory apart from X", "got an overlap"), nf.ntk, NET, points, out=out)
        refused(ValueError, ("out: expected memory apart from Y", "got an overlap"), nf.ntk, NET, X, points, out=out)
    else:
        np.testing.assert_array_equal(nf.ntk(NET, points, out=out), nf.ntk(NET, np.ones((6, 3))))


def test_out_is_X_itself():
    square = np.ones((4, 4))
    refused(ValueError, ("out: expected memory apart from X", "got an overlap"), nf.ntk, NET, square, out=square)
    np.testing.assert_array_equal(square, 1.0)


def test_wrong_number_of_outs():
    for out in ([np.empty((6, 6))], [None] * 3, (), np.empty((6, 6))):
        n = len(out) if not isinstance(out, np.ndarray) else 1
        refused(ValueError, ("out: expected 2 arrays", f"got {n}"), nf.kernels, NET, X, out=out)


def test_the_same_array_for_two_outputs():
    out = np.empty((6, 6))
    words = ("out[1]: expected memory apart from the output nngp", "got an overlap")
    refused(ValueError, words, nf.kernels, NET, X, out=[out, out])
    refused(ValueError, words, nf.kernels, NET, X, out=[out, out.T])


# --- networks

BAD_NUMBERS = [
    ("weight_std", 0, ValueError, "> 0, got 0"),
    ("weight_std", -1.5, ValueError, "> 0, got -1.5"),
    ("bias_std", -0.1, ValueError, ">= 0, got -0.1"),
    ("weight_lr", -1, ValueError, ">= 0, got -1"),
    ("bias_lr", -2.0, ValueError, ">= 0, got -2"),
]
for _name in ("weight_std", "bias_std", "weight_lr", "bias_lr"):
    BAD_NUMBERS += [
        (_name, float("nan"), ValueError, "expected a finite number, got nan"),
        (_name, float("inf"), ValueError, "expected a finite number, got inf"),
        (_name, "1", TypeError, "expected a number, got str"),
        (_name, None, TypeError, "expected a number, got NoneType"),
        (_name, True, TypeError, "expected a number, got bool"),
        (_name, 1j, TypeError, "expected a number, got complex"),
        (_name, np.ones(2), TypeError, "expected a number, got ndarray"),
        pytest.param(_name, 10**400, ValueError, "expected a finite number", id=f"{_name}-10**400"),
    ]


@pytest.mark.parametrize(("name", "value", "error", "words"), BAD_NUMBERS)
def test_dense_numbers(name, value, error, words):
    refused(error, (f"{name}: ", words), nf.Dense, **{name: value})
    if name.endswith("_std"):
        refused(error, (f"{name}: ", words), nf.MLP, 3, **{name: value})


@pytest.mark.parametrize(
    ("depth", "error", "words"),
    [
        (0, ValueError, "expected an integer >= 1, got 0"),
        (-3, ValueError, "expected an integer >= 1, got -3"),
        (2.0, TypeError, "expected an integer, got float"),
        ("4", TypeError, "expected an integer, got str"),
        (None, TypeError, "expected an integer, got NoneType"),
        (True, TypeError, "expected an integer, got bool"),
    ],
)
def test_depth(depth, error, words):
    refused(error, ("depth: ", words), nf.MLP, depth)


def test_unknown_activation_lists_the_known_ones():
    known = nf.activations.names()
    assert {"relu", "leaky_relu", "abs", "identity", "erf"} <= set(known)
    for call in (nf.activations.get, lambda name: nf.MLP(3, name), lambda name: nf.Network([nf.Dense(), name])):
        refused(ValueError, ("activation: 'rleu' is unknown", *known), call, "rleu")
    refused(TypeError, ("activation: ", "got NoneType"), nf.MLP, 3, None)
    refused(TypeError, ("activation: ", "is relu() meant?"), nf.MLP, 3, nf.activations.relu)


def test_names_of_activations_as_users_write_them():
    for name, activation in (("ReLU", "relu"), ("LeakyReLU", "leaky_relu"), ("log-cosh", "log_cosh"), ("GELU", "gelu")):
        assert nf.MLP(3, name) == nf.MLP(3, activation)
        assert nf.Network([nf.Dense(), name, nf.Dense()]) == nf.MLP(2, activation)
    refused(ValueError, ("activation: 'rellu' is unknown; did you mean 'relu'",), nf.MLP, 3, "rellu")
    refused(ValueError, ("activation: 'Sigmiod' is unknown; did you mean 'sigmoid'",), nf.activations.get, "Sigmiod")
    assert dir(nf.activations) == sorted(nf.activations.__all__)


def test_a_width_is_not_a_weight_std():
    for unnamed in ((512,), (1.5, 0.1), (None,)):
        words = ("Dense: expected arguments by name", f"got {unnamed[0]!r}", "infinite width", "FiniteNetwork.init")
        refused(TypeError, words, nf.Dense, *unnamed)
    refused(TypeError, ("Dense.__init__() got an unexpected keyword argument 'units'",), nf.Dense, units=512)


@pytest.mark.parametrize("name", ["weight_std", "bias_std", "weight_lr", "bias_lr"])
def test_layers_that_differ_are_for_network(name):
    for values in ([1.0, 2.0], np.ones(2)):
        refused(
            TypeError,
            (f"{name}: expected a number", f"got {type(values).__name__}; ", "Network"),
            nf.MLP,
            3,
            **{name: values},
        )


@pytest.mark.parametrize("make", [nf.activations.leaky_relu, nf.activations.erf], ids=lambda f: f.__name__)
def test_activation_parameters(make):
    name = make().parameters[0][0]
    refused(ValueError, (f"{name}: expected a finite number", "got nan"), make, float("nan"))
    refused(TypeError, (f"{name}: expected a number", "got str"), make, "0.1")


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([], ValueError, ("layers: expected a Dense as the last layer", "got an empty list")),
        (["relu"], ValueError, ("layers[0]: expected a Dense before", "relu()", "got nothing")),
        (["relu", nf.Dense()], ValueError, ("layers[0]: expected a Dense before", "got nothing")),
        ([nf.Dense(), "relu"], ValueError, ("layers: expected a Dense as the last layer", "got relu()")),
        ([nf.Dense(), "relu", "erf", nf.Dense()], ValueError, ("layers[2]: expected a Dense", "got relu()")),
        ([nf.Dense(), 3, nf.Dense()], TypeError, ("layers[1]: expected a Dense, an activation", "got int")),
        ([nf.Dense], TypeError, ("layers[0]: expected a Dense, an activation", "got type; is Dense() meant?")),
        ([nf.Dense(), nf.activations.relu], TypeError, ("layers[1]: ", "got function; is relu() meant?")),
        (nf.Dense(), TypeError, ("layers: expected a list of layers", "got Dense")),
        ("relu", TypeError, ("layers: expected a list of layers", "got str")),
        (5, TypeError, ("layers: expected a list of layers", "got int")),
        (None, TypeError, ("layers: expected a list of layers", "got NoneType")),
    ],
)
def test_layers(layers, error, words):
    refused(error, words, nf.Network, layers)


# --- the other arguments


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_net(function):
    for bad in ("relu", None, nf.Dense(), [nf.Dense()], X):
        refused(TypeError, ("net: expected a Network", f"got {type(bad).__name__}"), function, bad, X)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("n_threads", "error", "words"),
    [
        (0, ValueError, "expected an integer >= 1, got 0"),
        (-1, ValueError, "expected an integer >= 1, got -1"),
        (2.0, TypeError, "expected an integer, got float"),
        ("2", TypeError, "expected an integer, got str"),
        (True, TypeError, "expected an integer, got bool"),
    ],
)
def test_n_threads(function, n_threads, error, words):
    refused(error, ("n_threads: ", words), function, NET, X, n_threads=n_threads)


@pytest.mark.parametrize("n_threads", [10**5, 10**12])
def test_more_threads_than_a_machine_has(n_threads):
    """Fewer are started, or the number is refused; the process survives."""
    code = f"""
import numpy as np, ntkfast as nf
try:
    nf.ntk(nf.MLP(2), np.random.default_rng(0).normal(size=(6000, 4)), n_threads={n_threads})
except ValueError as error:
    assert "n_threads: " in str(error) and "{n_threads}" in str(error)
print("alive")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "alive\n", done.stderr


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("dtype", "came"),
    [
        (int, "int64"),
        (np.float16, "float16"),
        (complex, "complex128"),
        (object, "object"),
        (">f8", ">f8"),
        ("f9", "f9"),
    ],
)
def test_dtype(function, dtype, came):
    refused(TypeError, ("dtype: expected float32 or float64", "got", came), function, NET, X, dtype=dtype)


@pytest.mark.parametrize("function", [nf.kernels, nf.diagonal], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("get", "error", "words"),
    [
        ("NTK", ValueError, ("nngp, ntk, nngp_dot", "got 'NTK'")),
        ("", ValueError, ("nngp, ntk, nngp_dot", "got ''")),
        (("nngp", "theta"), ValueError, ("nngp, ntk, nngp_dot", "got 'theta'")),
        ((), ValueError, ("expected one or more different outputs", "got ()")),
        (("ntk", "ntk"), ValueError, ("expected one or more different outputs", "got ('ntk', 'ntk')")),
        ((3,), ValueError, ("nngp, ntk, nngp_dot", "got 3")),
        (3, TypeError, ("expected", "got int")),
        (None, TypeError, ("expected", "got NoneType")),
    ],
)
def test_get(function, get, error, words):
    refused(error, ("get: ", *words), function, NET, X, get=get)


@pytest.mark.parametrize("function", [nf.kernels, nf.diagonal], ids=lambda f: f.__name__)
def test_nngp_dot_needs_an_activation(function):
    linear = nf.Network([nf.Dense(), nf.Dense()])
    refused(ValueError, ("get: 'nngp_dot'", "the network has none"), function, linear, X, get="nngp_dot")


@pytest.mark.parametrize("progress", [1, "yes", []])
def test_progress(progress):
    words = ("progress: expected None, True, False or a callable", f"got {type(progress).__name__}")
    refused(TypeError, words, nf.ntk, NET, X, progress=progress)


# --- more than there is


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_result_larger_than_memory(dtype):
    many = np.broadcast_to(np.ones((1, 1), dtype), (10**7, 1))
    tracemalloc.start()
    try:
        with pytest.raises(MemoryError, match=r"10000000 x 10000000.* needs \d+\.\d+ TiB, .* available"):
            nf.ntk(NET, many)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_two_results_larger_than_memory():
    many = np.broadcast_to(np.ones((1, 3)), (10**11, 3))
    with pytest.raises(MemoryError, match=r"2 x 100000000000 x 6 .* needs .* available"):
        nf.kernels(NET, many, X)


@pytest.mark.parametrize("function", [nf.ntk, nf.diagonal], ids=lambda f: f.__name__)
def test_points_larger_than_memory(function):
    wide = np.broadcast_to(np.ones((1, 1)), (2**10, 2**30))  # would have to be copied
    with pytest.raises(MemoryError, match=r"X.* needs .* available"):
        function(NET, wide)
