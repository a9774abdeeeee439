"""Networks as users of neural-tangents write them, for whatever module `stax` is: that package or ours.

tests/data/make_neural_tangents.py computes their kernels with neural-tangents, test_neural_tangents.py with ntkfast.
"""


def hidden(stax, activation):
    """Two hidden layers of one activation."""
    dense = {"W_std": 1.3, "b_std": 0.2}
    return stax.serial(stax.Dense(8, **dense), activation, stax.Dense(8, **dense), activation, stax.Dense(2, **dense))


def residual(stax, activation, width=16, **dense):
    body = stax.serial(activation, stax.Dense(width, 1.1, 0.1, **dense), stax.LayerNorm())
    return stax.serial(stax.FanOut(2), stax.parallel(body, stax.Identity()), stax.FanInSum())


def activations(stax):
    """Name -> layer."""
    return {
        "Relu": stax.Relu(),
        "Relu_stabilized": stax.Relu(do_stabilize=True),
        "LeakyRelu": stax.LeakyRelu(0.1),
        "ABRelu": stax.ABRelu(-0.4, 1.2),
        "Abs": stax.Abs(),
        "Erf": stax.Erf(),
        "Erf_abc": stax.Erf(0.7, 1.4, 0.2),
        "Sigmoid_like": stax.Sigmoid_like(),
        "Gelu": stax.Gelu(),
        "Sin": stax.Sin(),
        "Sin_abc": stax.Sin(0.8, 1.2, 0.3),
        "Cos": stax.Cos(),
        "Cos_abc": stax.Cos(0.8, 1.2, 0.3),
        "Rbf": stax.Rbf(),
        "Rbf_gamma": stax.Rbf(0.4),
        "Exp": stax.Exp(0.5, 0.3),
        "Gaussian": stax.Gaussian(),
        "Gaussian_ab": stax.Gaussian(1.5, -0.3),
        "Gabor": stax.Gabor(),
        "ExpNormalized": stax.ExpNormalized(),
        "ExpNormalized_gamma": stax.ExpNormalized(0.6, -0.5, do_clip=True),
        "Monomial_2": stax.Monomial(2),
        "Monomial_3": stax.Monomial(3),
        "Polynomial": stax.Polynomial([0.2, 1.0, -0.3, 0.1]),
        "RectifiedMonomial_0": stax.RectifiedMonomial(0),
        "RectifiedMonomial_2": stax.RectifiedMonomial(2),
        "RectifiedMonomial_3": stax.RectifiedMonomial(3),
        "Sign": stax.Sign(),
        "Identity": stax.Identity(),
    }


def networks(stax):
    """Name -> network of two-dimensional inputs."""
    found = {}
    for name, layer in activations(stax).items():
        if name.startswith("RectifiedMonomial"):  # whose variances are NaN there, and everything that comes later
            found[f"activation/{name}"] = stax.serial(stax.Dense(8, 1.3, 0.2), layer, stax.Dense(2, 1.2, 0.1))
        else:
            found[f"activation/{name}"] = hidden(stax, layer)
    for degree in (0, 1, 2, 5):  # of values of variance 1
        found[f"activation/Hermite_{degree}"] = stax.serial(
            stax.Dense(8), stax.LayerNorm(), stax.Hermite(degree), stax.Dense(1, 1.2, 0.1)
        )
    standard = {"parameterization": "standard"}
    for name, b_std in (("none", None), ("zero", 0.0), ("value", 0.3)):
        for kind in ("ntk", "standard"):
            found[f"dense/{kind}/{name}"] = stax.serial(
                stax.Dense(16, 1.4, b_std, parameterization=kind),
                stax.Relu(),
                stax.Dense(24, 1.2, b_std, parameterization=kind),
                stax.Erf(),
                stax.Dense(3, 0.9, b_std, parameterization=kind),
            )
    found["dense/standard/s"] = stax.serial(
        stax.Dense(16, 1.4, 0.1, s=(1, 3), **standard),
        stax.Relu(),
        stax.Dense(24, 1.2, 0.2, s=(3, 2), **standard),
        stax.Erf(),
        stax.Dense(3, 0.9, None, s=(2, 1), **standard),
    )
    found["residual"] = stax.serial(
        stax.Dense(16, 1.3, 0.1), residual(stax, stax.Relu()), residual(stax, stax.Erf()), stax.Relu(), stax.Dense(1)
    )
    found["residual/standard"] = stax.serial(
        stax.Dense(16, 1.3, 0.1, **standard),
        residual(stax, stax.Relu(), **standard),
        stax.Relu(),
        stax.Dense(1, **standard),
    )
    wide, narrow = stax.serial(stax.Erf(), stax.Dense(12)), stax.serial(stax.Relu(), stax.Dense(4, 1.5, 0.2))
    for fan in ("FanInSum", "FanInProd"):
        found[fan] = stax.serial(
            stax.Dense(16),
            stax.FanOut(3),
            stax.parallel(wide, stax.serial(stax.Relu(), stax.Dense(12)), stax.serial(stax.Gelu(), stax.Dense(12))),
            getattr(stax, fan)(),
            stax.Dense(1),
        )
    found["FanInConcat"] = stax.serial(
        stax.Dense(16, 1.2), stax.FanOut(2), stax.parallel(wide, narrow), stax.FanInConcat(), stax.Dense(1)
    )
    found["FanInConcat/standard"] = stax.serial(
        stax.Dense(16, 1.2),
        stax.FanOut(2),
        stax.parallel(wide, narrow),
        stax.FanInConcat(),
        stax.Dense(1, **standard),
    )
    found["dense_block"] = stax.serial(
        stax.Dense(16, 1.2),
        stax.FanOut(2),
        stax.parallel(stax.serial(stax.Relu(), stax.Dense(8)), stax.Identity()),
        stax.FanInConcat(),
        stax.Dense(8),
        stax.Erf(),
        stax.Dense(1),
    )
    found["LayerNorm"] = stax.serial(
        stax.Dense(8, 1.5, 0.5), stax.LayerNorm(), stax.Relu(), stax.Dense(8), stax.LayerNorm(eps=0.1), stax.Dense(1)
    )
    found["Dropout"] = stax.serial(stax.Dense(8, 1.5), stax.Relu(), stax.Dropout(0.7), stax.Dense(1, 1.0, 0.1))
    found["Dropout/test"] = stax.serial(stax.Dense(8, 1.5), stax.Relu(), stax.Dropout(0.7, mode="test"), stax.Dense(1))
    found["DotGeneral"] = stax.serial(stax.Dense(8), stax.DotGeneral(rhs=1.7), stax.Erf(), stax.DotGeneral(lhs=-0.5))
    block = stax.serial(stax.Dense(5, 1.2, 0.1), stax.Relu())
    found["repeat"] = stax.serial(stax.repeat(block, 4), stax.Dense(1))
    found["ends_in_activation"] = stax.serial(stax.Dense(8, 1.2, 0.1), stax.Gelu())
    found["nested"] = stax.serial(stax.serial(stax.Dense(8), stax.serial(stax.Relu())), stax.serial(stax.Dense(1)))
    return found


def flattened(stax):
    """Name -> network of inputs (3, 2, 2)."""
    return {
        "Flatten": stax.serial(stax.Flatten(), stax.Dense(8, 1.5, 0.1), stax.Relu(), stax.Dense(1)),
        "Flatten/standard": stax.serial(
            stax.Flatten(), stax.Dense(8, 1.5, 0.1, parameterization="standard"), stax.Relu(), stax.Dense(1)
        ),
        "Flatten/branches": stax.serial(
            stax.FanOut(2),
            stax.parallel(
                stax.serial(stax.Flatten(), stax.Dense(4)),
                stax.serial(stax.Flatten(), stax.Dense(4), stax.Relu(), stax.Dense(4)),
            ),
            stax.FanInSum(),
            stax.Relu(),
            stax.Dense(1),
        ),
    }


def finite(stax):
    """Name -> network with parameters, for empirical kernels and Taylor expansions."""
    return {
        "plain": stax.serial(stax.Dense(7, 1.4, 0.3), stax.Erf(), stax.Dense(6, 1.2, 0.2), stax.Relu(), stax.Dense(3)),
        "standard": stax.serial(
            stax.Dense(7, 1.4, 0.3, parameterization="standard"),
            stax.Gelu(),
            stax.Dense(6, 1.2, s=(1, 2), parameterization="standard"),
            stax.Sin(),
            stax.Dense(2, s=(2, 1), parameterization="standard"),
        ),
        "residual": stax.serial(stax.Dense(6), residual(stax, stax.Erf(), width=6), stax.Gabor(), stax.Dense(2)),
        "concat": stax.serial(
            stax.Dense(6),
            stax.FanOut(2),
            stax.parallel(stax.serial(stax.Exp(0.5, 0.3), stax.Dense(3)), stax.serial(stax.Gaussian(), stax.Dense(2))),
            stax.FanInConcat(),
            stax.Dense(2, b_std=0.5),
        ),
        "product": stax.serial(
            stax.FanOut(2),
            stax.parallel(stax.serial(stax.Dense(4), stax.Polynomial([0.1, 1.0, 0.4])), stax.Dense(4, b_std=0.2)),
            stax.FanInProd(),
            stax.Dense(2),
        ),
        "ends_in_activation": stax.serial(stax.Dense(5, 1.1, 0.1), stax.Erf(), stax.Dense(3), stax.Cos()),
        "flatten": stax.serial(stax.Flatten(), stax.Dense(5), stax.Rbf(0.3), stax.Dense(1)),
    }


TIMES = (0.0, 0.7, 12.0, 300.0)
