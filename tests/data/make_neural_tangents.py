"""Compute neural_tangents.npz with neural-tangents 0.6.5, in float64: kernels, predictions and empirical kernels.

    python3.11 -m venv reference
    reference/bin/pip install 'jax==0.4.23' 'jaxlib==0.4.23' 'numpy<2' 'scipy<1.13' 'neural-tangents==0.6.5'
    reference/bin/python tests/data/make_neural_tangents.py

The file was made by neural-tangents 0.6.5, jax 0.4.23, numpy 1.26.4 and scipy 1.12.0; it has these versions in it.
"""

import sys
import warnings
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
import scipy  # noqa: E402
from jax import random  # noqa: E402
from neural_tangents import stax  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import neural_tangents_cases as cases  # noqa: E402

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
found = {
    "versions": np.array([nt.__version__, jax.__version__, np.__version__, scipy.__version__]),
    "x1": rng.standard_normal((6, 5)) * rng.uniform(0.5, 2, (6, 1)),
    "x2": rng.standard_normal((4, 5)),
    "images1": rng.standard_normal((4, 3, 2, 2)),
    "images2": rng.standard_normal((3, 3, 2, 2)),
    "y": rng.standard_normal((6, 2)),
}
x1, x2, y = found["x1"], found["x2"], found["y"]


def keep(name, **arrays):
    for key, array in arrays.items():
        array = np.asarray(array)
        assert array.dtype != np.float32, name
        found[f"{name}:{key}"] = array


def kernels(name, kernel_fn, a, b):
    k = kernel_fn(a, b, None)
    keep(name, nngp=k.nngp, ntk=k.ntk, cov1=k.cov1, cov2=k.cov2, is_gaussian=k.is_gaussian, shape=k.shape1)
    k = kernel_fn(a, None, ("nngp", "ntk"))
    keep(f"{name}/symmetric", nngp=k.nngp, ntk=k.ntk)


# ---- limits

for name, (_, _, kernel_fn) in cases.networks(stax).items():
    kernels(name, kernel_fn, x1, x2)
for name, (_, _, kernel_fn) in cases.flattened(stax).items():
    kernels(name, kernel_fn, found["images1"], found["images2"])
for name, fn in (("tanh", jnp.tanh), ("swish", jax.nn.swish)):
    kernels(f"numerical/{name}", cases.hidden(stax, stax.ElementwiseNumerical(fn, 200))[2], x1, x2)


def erf_dual(c, q1, q2):
    return jnp.arcsin(2 * c / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2))) * 2 / jnp.pi


kernels("given", cases.hidden(stax, stax.Elementwise(jax.scipy.special.erf, erf_dual))[2], x1, x2)

# ---- predictions

init_fn, apply_fn, kernel_fn = cases.networks(stax)["dense/ntk/value"]
k_dd, k_td, k_tt = (kernel_fn(a, b, ("nngp", "ntk")) for a, b in ((x1, None), (x2, x1), (x2, None)))
f_d, f_t = rng.standard_normal((6, 2)), rng.standard_normal((4, 2))
found["f_d"], found["f_t"] = f_d, f_t
t = np.array(cases.TIMES)
for name, options in (
    ("mse", {}),
    ("mse/reg", {"learning_rate": 0.3, "diag_reg": 1e-2}),
    ("mse/absolute", {"diag_reg": 0.1, "diag_reg_absolute_scale": True}),
):
    predict = nt.predict.gradient_descent_mse(k_dd.ntk, y, **options)
    train, test = predict(t, f_d, f_t, k_td.ntk)
    keep(f"predict/{name}", train=train, test=test, zero=predict(t), zero_test=predict(t, None, 0.0, k_td.ntk))
    train, test = predict(None, f_d, f_t, k_td.ntk)
    keep(f"predict/{name}/inf", train=train, test=test)
coupled = nt.empirical_ntk_fn(apply_fn, trace_axes=())
params = init_fn(random.PRNGKey(3), (-1, 5))[1]
y3 = rng.standard_normal((6, 3))
c_dd, c_td = coupled(x1, None, params), coupled(x2, x1, params)
keep("coupled", y=y3, k_dd=c_dd, k_td=c_td)
predict = nt.predict.gradient_descent_mse(c_dd, y3, trace_axes=())
train, test = predict(t, 0.0, 0.0, c_td)
keep("predict/coupled", train=train, test=test)
train, test = predict(None, 0.0, 0.0, c_td)
keep("predict/coupled/inf", train=train, test=test)


def cross_entropy(fx, targets):
    return -jnp.mean(jax.nn.log_softmax(fx) * targets)


def squares(fx, targets):
    return 0.5 * jnp.mean((fx - targets) ** 2)


labels = np.eye(2)[rng.integers(0, 2, 6)]
found["labels"] = labels
for name, loss, targets in (("squares", squares, y), ("cross_entropy", cross_entropy, labels)):
    for momentum in (None, 0.9):
        predict = nt.predict.gradient_descent(loss, k_dd.ntk, targets, 0.5, momentum)
        train, test = predict(t[:3], f_d, f_t, k_td.ntk)
        keep(f"predict/{name}/{momentum}", train=train, test=test)
        state = predict(t[:3], nt.predict.ODEState(f_d, f_t), None, k_td.ntk)
        keep(
            f"predict/{name}/{momentum}", **({"qx_train": state.qx_train, "qx_test": state.qx_test} if momentum else {})
        )

inference = nt.predict.gp_inference(k_dd, y, diag_reg=1e-3)
for get in ("nngp", "ntk", "ntkgp"):
    mean, covariance = inference(get, k_td, k_tt)
    keep(f"gp/{get}", mean=mean, covariance=covariance)
for options in ({}, {"diag_reg": 1e-2, "learning_rate": 2.0}):
    name = f"ensemble/{len(options)}"
    predict = nt.predict.gradient_descent_mse_ensemble(kernel_fn, x1, y, **options)
    for get in ("nngp", "ntk"):
        for points, where in ((None, "train"), (x2, "test")):
            mean, covariance = predict(t, points, get, compute_cov=True)
            keep(f"{name}/{get}/{where}", mean=mean, covariance=covariance)
            mean, covariance = predict(None, points, get, compute_cov=True)
            keep(f"{name}/{get}/{where}/inf", mean=mean, covariance=covariance)
largest = float(np.linalg.eigvalsh(k_dd.ntk)[-1])  # max_learning_rate there calls an argument that SciPy has no more
keep("max_learning_rate", plain=2 * 12 / (largest + 1e-12), momentum=2 * 1.9 * 12 / (largest + 1e-12))

# ---- finite width


for name, (init_fn, apply_fn, _) in cases.finite(stax).items():
    a, b = (found["images1"], found["images2"]) if name == "flatten" else (x1, x2)
    shape, params = init_fn(random.PRNGKey(1), a.shape)
    _, moved = init_fn(random.PRNGKey(2), a.shape)
    moved = jax.tree_util.tree_map(lambda p, q: p + 0.2 * q, params, moved)
    for k, (leaf, other) in enumerate(zip(*map(jax.tree_util.tree_leaves, (params, moved)), strict=True)):
        keep(f"finite/{name}/params/{k}", at=leaf, moved=other)
    keep(f"finite/{name}", f1=apply_fn(params, a), f2=apply_fn(params, b))
    for kind, trace_axes, diagonal_axes in (
        ("trace", (-1,), ()),
        ("full", (), ()),
        ("diagonal", (), (-1,)),
        ("points", (-1,), (0,)),
        ("all", (0, 1), ()),
    ):
        kernel = nt.empirical_kernel_fn(apply_fn, trace_axes, diagonal_axes)
        for where, other in (("rectangle", b), ("symmetric", None)):
            if where == "rectangle" and kind in ("points", "all"):
                continue
            k = kernel(a, other, ("nngp", "ntk"), params)
            keep(f"finite/{name}/{kind}/{where}", nngp=k.nngp, ntk=k.ntk)
    for where, other in (("rectangle", b), ("symmetric", None)):
        cotangents = np.cos(np.arange((a if other is None else other).shape[0] * shape[-1])).reshape(-1, shape[-1])
        vp = nt.empirical_ntk_vp_fn(apply_fn, a, other, params)(cotangents)
        keep(f"finite/{name}/product/{where}", value=vp)
    keep(f"finite/{name}/taylor/1", value=nt.linearize(apply_fn, params)(moved, a))
    for degree in (2, 3):
        keep(f"finite/{name}/taylor/{degree}", value=nt.taylor_expand(apply_fn, params, degree)(moved, a))

np.savez_compressed(HERE / "neural_tangents.npz", **found)
print(len(found), (HERE / "neural_tangents.npz").stat().st_size)
