"""Networks that several tests take: equal layers, layers of which no two are the same, one activation twice."""

import ntkfast as nf

NET = nf.MLP(depth=4, activation="relu", weight_std=1.2, bias_std=0.1)
MIXED = nf.Network(
    [
        nf.Dense(weight_std=1.1, bias_std=0.2),
        "erf",
        nf.Dense(weight_std=1.3),
        "abs",
        nf.Dense(weight_std=0.9, bias_std=0.1),
        nf.Dense(weight_std=1.2, weight_lr=0.5),
    ]
)


def deep(activation):
    return nf.Network(
        [
            nf.Dense(weight_std=1.1, bias_std=0.3),
            activation,
            nf.Dense(weight_std=0.9, bias_std=0.2, weight_lr=0.5),
            activation,
            nf.Dense(weight_std=1.2, bias_std=0.1),
        ]
    )
