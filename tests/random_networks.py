"""Random small networks of all layers that `Network` accepts and for which there are widths that suit their shares."""

import ntkfast as nf

A = nf.activations
ACTIVATIONS = (A.relu(), A.erf(), A.gelu(), A.tanh(), A.abs(), A.sigmoid_like())


def layers(rng, depth, n_most=3):
    """A list of up to n_most random layers, nested up to depth; their order may not be acceptable."""
    return [layer(rng, depth) for _ in range(rng.integers(1, n_most + 1))]


def layer(rng, depth):
    kind = rng.choice(8 if depth else 6)
    if kind < 2:
        return dense(rng)
    if kind == 2:
        return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    if kind == 3:
        return nf.Scale(rng.choice([0.5, -0.7, 1.3]))
    if kind == 4:
        return nf.LayerNorm(rng.choice([1.0, 0.8]))
    if kind == 5:
        return nf.Dropout(0.25)
    if kind == 6:
        return nf.Residual(layers(rng, depth - 1), scale=rng.choice([0.5, 1.0]))
    branches = [layers(rng, depth - 1, 2) if rng.random() < 0.8 else [] for _ in range(rng.integers(2, 4))]
    how = rng.choice(["sum", "product", "concat"])
    if not any(branches):
        return layer(rng, depth)
    return nf.Parallel(*branches, how=str(how))


def dense(rng):
    rate = [0.0, 1.0, 2.0]
    return nf.Dense(
        weight_std=rng.choice([0.7, 1.0, 1.2]),
        bias_std=rng.choice([0.0, 0.3]),
        weight_lr=rng.choice(rate),
        bias_lr=rng.choice(rate),
    )


def network(rng, depth=2):
    """The first acceptable one: nested layers between two `Dense`, or after the first one."""
    while True:
        ends = [[dense(rng)], []][rng.random() < 0.15]
        some = layers(rng, depth)
        if not any(part.branches for part in some):
            continue
        try:
            net = nf.Network([dense(rng), *some, *ends])
            nf.FiniteNetwork.init(net, 1, 48, 48)
        except ValueError:
            continue
        return net
