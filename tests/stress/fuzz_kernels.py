"""Kernels of any networks and points agree with the slow twin of the tests: both precisions, any shape, any layout of
the arrays in memory (strided, reversed, of Fortran's order, unaligned and read-only, of other dtypes), whose bits are
those of a plain copy, with one thread or several.
"""

from collections import Counter

import numpy as np

import ntkfast as nf

from . import frame

ROW = 13
CASES = {"small": 60, "full": 5000}
LAYOUTS = {
    "plain": lambda x: x,
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "offset": lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "swapped": lambda x: x.astype(x.dtype.newbyteorder()),
}
DTYPES = (np.float32, np.float64, np.float32, np.float16, np.int32, np.int8, np.uint8, np.bool_)
ACCURACY = {np.float64: 1e-6, np.float32: 2e-3}  # relative to both points; the twin loses half its digits near |ρ| = 1


def run(scale):
    frame.require("hypothesis")
    import random_networks
    import reference_layers
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    seen, worst = Counter(), {np.float64: 0.0, np.float32: 0.0}

    @settings(
        max_examples=CASES[scale],
        deadline=None,
        database=None,
        derandomize=scale == "small",
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(
        network=st.integers(0, 2**32 - 1),
        n=st.integers(1, 12),
        m=st.integers(0, 12),
        d=st.integers(1, 12),
        dtype=st.sampled_from(DTYPES),
        layouts=st.tuples(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(LAYOUTS))),
        power=st.integers(-3, 3),
        near=st.booleans(),
        n_threads=st.sampled_from([1, 2, 3]),
        get=st.sampled_from(["ntk", "nngp"]),
    )
    def agree(network, n, m, d, dtype, layouts, power, near, n_threads, get):
        rng = np.random.default_rng(network)
        net = random_networks.network(rng)
        X, Y = (_points(rng, rows, d, dtype, power) for rows in (n, m))
        if near and m:
            Y[0] = X[0]
        if not X.any(axis=1).all() or (m and not Y.any(axis=1).all()):
            return  # rows of zeros: LayerNorm has no value there
        given_X, given_Y = (LAYOUTS[name](part) for name, part in zip(layouts, (X, Y), strict=True))
        other = (given_Y,) if m else ()
        try:
            found = nf.kernels(net, given_X, *other, get=get, n_threads=n_threads, progress=False)
        except nf.Error:
            seen["refused"] += 1
            return
        plain = nf.kernels(net, X, *((Y,) if m else ()), get=get, n_threads=1, progress=False)
        assert found.tobytes() == plain.tobytes(), f"other bits than for a plain copy: {layouts}"
        points = np.concatenate([X, Y]).astype(np.float64)
        whole = reference_layers.exact(net, points)[("nngp", "ntk").index(get)]
        right = whole[:n, n:] if m else whole
        scales = np.sqrt(np.diagonal(whole))
        unit = scales[:n, None] * (scales[n:] if m else scales)
        error = float(np.max(np.abs(found - right) / np.where(unit > 0, unit, 1)))
        kind = found.dtype.type
        assert error <= ACCURACY[kind], f"{net} at {X.tolist()}, {Y.tolist()}: {error:.1e} from the slow twin"
        seen[kind.__name__] += 1
        worst[kind] = max(worst[kind], error)

    agree()
    twin = "largest difference from the twin, which loses half its digits near |ρ| = 1"
    errors = {f"{twin}, {kind.__name__}": error for kind, error in worst.items()}
    return {"cases": CASES[scale]} | dict(seen) | errors


def _points(rng, n, d, dtype, power):
    x = rng.normal(size=(n, d)) * 2.0**power
    return x.astype(dtype) if np.issubdtype(dtype, np.floating) else np.abs(30 * x).astype(np.int64).astype(dtype)
