"""Networks of finite width with every kind of layer and block, small enough for Jacobians."""

import ntkfast as nf
from ntkfast.finite.network import FiniteNetwork


def block(scale=0.7):
    inner = nf.Residual("tanh", nf.Dense(weight_std=0.8), scale=0.5)
    return nf.Residual(
        "gelu", nf.Dense(weight_std=1.2, bias_std=0.3), inner, "erf", nf.Dense(weight_std=0.9), scale=scale
    )


GATE = nf.Parallel(["tanh", nf.Dense(weight_std=0.8)], [nf.Dense(bias_std=0.2), "sigmoid"], [], how="product")
CONCAT = nf.Parallel(
    ["erf", nf.Dropout(0.5)],
    [nf.Dense(weight_std=1.2, bias_std=0.1), "tanh", nf.Scale(-0.5)],
    how="concat",
    shares=(1, 2),
)
BRANCHED = {
    "sum": nf.Network(
        [
            nf.Scale(1.5),
            nf.Parallel(
                [nf.Dense(), "tanh", nf.Dense(bias_std=0.1)], nf.Dense(weight_std=0.7, bias_std=0.2), nf.Dense()
            ),
            nf.Parallel([], nf.LayerNorm(0.5), how="concat"),
            nf.Dense(weight_std=1.2),
            nf.Parallel(
                [], ["sin", nf.Dense()], [nf.Residual("tanh", nf.Dense(weight_std=0.9, bias_std=0.1)), nf.Scale(0.5)]
            ),
            "erf",
            nf.Dense(),
        ]
    ),
    "product": nf.Network(
        [nf.Dense(bias_std=0.1), GATE, nf.Dense(), nf.LayerNorm(2.0), "tanh", nf.Dense(weight_std=0.9, bias_std=0.2)]
    ),
    "product of inputs": nf.Network([nf.Parallel(nf.Dense(), nf.Dense(bias_std=0.3), how="product"), nf.Dense()]),
    "concat": nf.Network([nf.Dense(weight_std=1.3), CONCAT, nf.Dense(bias_std=0.3), "gelu", nf.Dense()]),
    "ends in branches": nf.Network(
        [
            nf.Dense(bias_std=0.2),
            nf.Parallel(
                ["tanh", nf.Dense(weight_std=1.1)], ["erf", nf.Dense(weight_std=0.9, bias_std=0.4), nf.Scale(0.5)], []
            ),
            nf.Scale(2.0),
        ]
    ),
}

NETWORKS = {
    "linear": nf.MLP(depth=1, bias_std=0.5),
    "two linear layers": nf.Network([nf.Dense(), nf.Dense(bias_std=0.2)]),
    "relu": nf.MLP(depth=4, activation="relu", weight_std=1.3, bias_std=0.1),
    "mixed": nf.Network(
        [
            nf.Dense(bias_std=0.1),
            "erf",
            nf.Dense(weight_std=1.4),
            nf.activations.leaky_relu(0.2),
            nf.Dense(weight_std=0.7, bias_std=0.3),
        ]
    ),
    "residual": nf.Network([nf.Dense(), block(), block(1.0), "relu", nf.Dense(bias_std=0.1)]),
    "ends in a block": nf.Network(
        [nf.Dense(bias_std=0.1), "tanh", nf.Dense(), nf.Residual("sin", nf.Dense(), scale=0.5)]
    ),
    "ends in nested blocks": nf.Network([nf.Dense(), nf.Residual("tanh", nf.Dense(), nf.Residual("sin", nf.Dense()))]),
    "block of one layer": nf.Network([nf.Dense(), nf.Residual(nf.Dense(), scale=2.0), "tanh", nf.Dense()]),
    "layer norm": nf.Network(
        [nf.Dense(weight_std=2.0, bias_std=0.1), nf.LayerNorm(), "tanh", nf.Dense(), nf.LayerNorm(), nf.Dense()]
    ),
    "norm in a block": nf.Network([nf.Dense(), nf.Residual(nf.LayerNorm(), "relu", nf.Dense()), "relu", nf.Dense()]),
    "dropout": nf.Network([nf.Dropout(0.1), nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()]),
    **BRANCHED,
}


def finite(net, n_outputs=2, parametrization="ntk", n_inputs=3, rng=0, widths=6):
    return FiniteNetwork.init(net, n_inputs, widths, n_outputs, rng=rng, parametrization=parametrization)
