"""What counts as an array: layouts of NumPy, and the arrays of other libraries as far as they are installed."""

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.support import arrays

NET = nf.MLP(3, bias_std=0.1)
X = np.random.default_rng(0).normal(size=(5, 4))
K = nf.ntk(NET, X)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    wide = np.zeros((2 * len(array), 3 * array.shape[1]))
    wide[::2, ::3] = array
    return wide[::2, ::3]


def unaligned(array):
    found = np.ndarray(array.shape, array.dtype, np.zeros(array.nbytes + 1, np.uint8).data, offset=1)
    found[:] = array
    return found


class OnlyDLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def backwards(array):
    return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]


LAYOUTS = [read_only, strided, backwards, np.asfortranarray, unaligned, memoryview, OnlyDLPack, OnlyArray]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(layout):
    assert np.array_equal(nf.ntk(NET, layout(X)), K)


@pytest.mark.parametrize("dtype", [">f8", ">f4", "f2", "g", ">i4", "?"])
def test_dtypes(dtype):
    """float32 of any byte order remains float32; the rest becomes float64."""
    given = (10 * X).astype(dtype)
    found, native = nf.ntk(NET, given), given.astype("f4" if dtype == ">f4" else "f8")
    assert found.dtype == native.dtype.newbyteorder("=")
    assert np.array_equal(found, nf.ntk(NET, native))


def frame(pd):
    return pd.DataFrame(X)


def nullable(pd):
    return pd.DataFrame(X).astype("Float64")


def arrow_backed(pd):
    pytest.importorskip("pyarrow")
    return pd.DataFrame(X).astype("double[pyarrow]")


@pytest.mark.parametrize("make", [frame, nullable, arrow_backed], ids=lambda make: make.__name__)
def test_pandas(make):
    assert np.array_equal(nf.ntk(NET, make(pytest.importorskip("pandas"))), K)


def test_columns_of_several_dtypes():
    pd = pytest.importorskip("pandas")
    mixed = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 0.25]})
    assert np.array_equal(nf.ntk(NET, mixed), nf.ntk(NET, [[1, 1, 0.5], [2, 0, 0.25]]))
    assert arrays.real(pd.DataFrame({"a": [1.0], "b": [2.0]}).astype("Float32"), "X").dtype == np.float32
    assert arrays.real(pd.Series([1, 2], dtype="Int64"), "y").tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="X: expected real numbers, got dtype object"):
        nf.ntk(NET, mixed.assign(d=["1", "2"]))
    with pytest.raises(ValueError, match="got nan in row 1, column 0"):
        nf.ntk(NET, pd.DataFrame({"a": [1.0, None]}, dtype="Float64"))


def test_arrow():
    pa = pytest.importorskip("pyarrow")
    columns = {str(k): column for k, column in enumerate(X.T)}
    assert np.array_equal(nf.ntk(NET, pa.table(columns)), K)
    assert np.array_equal(nf.ntk(NET, pa.record_batch(columns)), K)


def test_polars():
    assert np.array_equal(nf.ntk(NET, pytest.importorskip("polars").DataFrame(X)), K)


def test_xarray():
    assert np.array_equal(nf.ntk(NET, pytest.importorskip("xarray").DataArray(X)), K)


def test_jax():
    jax = pytest.importorskip("jax")
    found = nf.ntk(NET, jax.numpy.asarray(X, dtype="float32"))
    assert np.array_equal(found, nf.ntk(NET, X.astype("f4")))
    with pytest.raises(TypeError, match="X: expected a 2-D array"):
        jax.jit(lambda x: nf.ntk(NET, x))(X)


def test_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    assert np.shares_memory(arrays.real(x, "X"), x.numpy())
    assert np.array_equal(nf.ntk(NET, x), K)
    for bad in (x.clone().requires_grad_(), x.to("meta"), x.to_sparse(), x.bfloat16()):
        with pytest.raises(TypeError, match="X: expected a 2-D array, got Tensor that is not one"):
            nf.ntk(NET, bad)


@pytest.mark.parametrize("format", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse_matrices_are_refused(format):
    sparse = getattr(pytest.importorskip("scipy.sparse"), format)(X)
    with pytest.raises(TypeError, match=rf"X: expected a dense array, got a {format}; X.toarray\(\) is one"):
        nf.ntk(NET, sparse)
    with pytest.raises(TypeError, match=rf"ntk_xx: expected a dense array, got a {format}"):
        nf.LeastSquaresFlow(sparse, X[:, 0])
