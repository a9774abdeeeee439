"""The change of the tangent kernel in training: against sums over single neurons, and trained networks."""

import math

import numpy as np
import pytest

import ntkfast as nf

ANGLES = np.array([0.3, 1.7, 3.1, 5.0])
X = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
Y = X[:, 0] * X[:, 1]
ORDER_TWO = 10.0  # terms of order 1/n² relative to those of order 1/n: this over n


class Neuron:
    """One hidden layer without biases: g_k(u, v) = w v sin(s_k), s_k = w u·x_k/√d; f = Σ g/√n over iid neurons.

    Derivatives with respect to (u, v) on a rule of Gauss and Hermite; an axis of nodes first.
    """

    def __init__(self, x, w, n=24):
        z, weight = np.polynomial.hermite_e.hermegauss(n)
        weight = weight / weight.sum()
        few, few_weight = np.polynomial.hermite_e.hermegauss(5)
        few_weight = few_weight / few_weight.sum()
        nodes = np.meshgrid(z, z, few, indexing="ij")
        self.weight = np.einsum("i,j,k->ijk", weight, weight, few_weight).ravel()
        u, v = np.stack([nodes[0].ravel(), nodes[1].ravel()], axis=1), nodes[2].ravel()
        direction = w * x / math.sqrt(x.shape[1])
        s = u @ direction.T
        e = np.concatenate([direction, np.zeros((len(x), 1))], axis=1)  # ∂s_k
        last = np.array([0.0, 0.0, 1.0])
        c, sin = np.cos(s), np.sin(s)
        v = v[:, None]
        ee, eee = np.einsum("ka,kb->kab", e, e), np.einsum("ka,kb,kc->kabc", e, e, e)
        el = np.einsum("ka,b->kab", e, last)
        eel = np.einsum("kab,c->kabc", ee, last)
        self.g = w * v * sin
        self.first = w * (np.einsum("mk,ka->mka", v * c, e) + sin[:, :, None] * last)
        self.second = w * (
            np.einsum("mk,kab->mkab", -v * sin, ee) + np.einsum("mk,kab->mkab", c, el + el.swapaxes(1, 2))
        )
        mixed = eel + eel.transpose(0, 1, 3, 2) + eel.transpose(0, 3, 1, 2)
        self.third = w * (np.einsum("mk,kabc->mkabc", -v * c, eee) + np.einsum("mk,kabc->mkabc", -sin, mixed))

    def expectations(self):
        """Of ∇G_ij·∇g_k g_l, ∇²G_ij(∇g_k, ∇g_l) and ∇G_ij·∇²g_k·∇g_l with G_ij = ∇g_i·∇g_j."""
        m, d1, d2, d3 = self.weight, self.first, self.second, self.third
        rate = np.einsum("miab,mjb->mija", d2, d1)
        rate = rate + rate.swapaxes(1, 2)  # ∇G
        along = np.einsum("mkab,mlb->mkla", d2, d1)
        third = np.einsum("m,mija,mka,ml->ijkl", m, rate, d1, self.g, optimize=True)
        bent = np.einsum("m,miabc,mja,mkb,mlc->ijkl", m, d3, d1, d1, d1, optimize=True)
        twice = np.einsum("m,mika,mjla->ijkl", m, along, along, optimize=True)
        bent = bent + bent.swapaxes(0, 1) + twice + twice.swapaxes(0, 1)
        return third, bent, np.einsum("m,mija,mkla->ijkl", m, rate, along, optimize=True)


@pytest.mark.parametrize("steps", [1, 7])
def test_one_hidden_layer_is_an_expectation_over_a_neuron(steps):
    w, rate = 1.3, 0.4
    net = nf.MLP(2, "sin", w)
    third, bent, crossed = Neuron(X, w).expectations()
    nngp, ntk = nf.nngp(net, X), nf.ntk(net, X)
    step = np.eye(4) - rate * ntk / 4
    # the second moments of ε(s) and a(s), one step after the other, as matrices that act on the first residuals
    residual, total, mixed = np.eye(4), np.zeros((4, 4)), np.zeros((4, 4))
    start = nngp + np.outer(Y, Y)
    for _ in range(steps):
        mixed += rate / 4 * residual @ start @ total.T
        total += rate / 4 * residual
        residual = step @ residual
    expected = -np.einsum("ijkl,kl->ij", third, total) + np.einsum("ijkl,kl->ij", crossed, mixed)
    expected += 0.5 * np.einsum("ijkl,kl->ij", bent, total @ start @ total.T)
    found = nf.kernel_change(net, X, Y, width=50, steps=steps, learning_rate=rate, rng=0)
    np.testing.assert_allclose(50 * found.mean, expected, atol=5e-4 * abs(expected).max())  # of the Sobol points
    np.testing.assert_array_less(abs(50 * found.mean - expected), 50 * 6 * found.error)
    assert found.inflation == pytest.approx(np.trace(found.mean) / np.trace(ntk))
    np.testing.assert_allclose(found.ntk, ntk, rtol=1e-12)


NETWORKS = {
    "biases": (nf.MLP(3, "erf", 1.0, 0.3), 64, "ntk"),
    "widths": (nf.MLP(4, "tanh", 1.3, 0.1), [40, 80, 60], "ntk"),
    "rates": (nf.MLP(3, "sin", 1.0, 0.3, weight_lr=0.5, bias_lr=2.0), 64, "ntk"),
    "linear": (nf.Network([nf.Dense(bias_std=0.3), nf.Dense(weight_std=1.2), nf.Scale(-1.2), nf.Dense()]), 64, "ntk"),
    "gelu": (nf.MLP(4, "gelu", math.sqrt(2), 0.1), 64, "ntk"),
    "standard": (  # with rates of 1/n, at which Θ is of order 1
        nf.MLP(3, "erf", 1.0, 0.3, parametrization="standard", widths=[64, 64], weight_lr=1 / 64),
        [64, 64],
        "standard",
    ),
}


def z_scores(name, n_networks, *, size=3, steps=30, points=3):
    """Of the trace of the change on targets 0, and of what targets add; each network is trained on 0, y and -y."""
    net, widths, parametrization = NETWORKS[name]
    x, y = X[:points], size * Y[:points]
    rate = points / np.linalg.eigvalsh(nf.ntk(net, x))[-1]
    options = {"steps": steps, "learning_rate": rate}
    chosen = {"widths": widths} if isinstance(widths, list) else {"width": widths}
    changes = [nf.kernel_change(net, x, target, **chosen, **options, rng=0).mean for target in (0 * y, y)]
    expected = np.array([np.trace(changes[0]), np.trace(changes[1] - changes[0])])
    found = np.empty((n_networks, 2))
    for k in range(n_networks):
        f = nf.FiniteNetwork.init(net, 2, widths, parametrization=parametrization, rng=k)
        after = [nf.train(f, x, sign * y, **options, progress=False).network for sign in (0, 1, -1)]
        start, zero, plus, minus = (np.trace(nf.empirical_ntk(g, x, progress=False)) for g in (f, *after))
        found[k] = zero - start, (plus + minus) / 2 - zero
    error = found.std(axis=0, ddof=1) / math.sqrt(n_networks)
    return (found.mean(axis=0) - expected) / np.hypot(error, ORDER_TWO / np.mean(widths) * abs(expected))


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_networks(name):
    assert max(abs(z_scores(name, 40))) < 4


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_many_trained_networks(name):
    assert max(abs(z_scores(name, 600))) < 4


def test_gradient_flow_and_its_end():
    net = nf.MLP(3, "gelu", bias_std=0.2)
    options = {"width": 100, "rng": 0}
    x, y = X[:2], Y[:2]
    flow = nf.kernel_change(net, x, y, steps=10**7, learning_rate=1e-3, **options)
    end = nf.kernel_change(net, x, y, steps=math.inf, learning_rate=1e-3, **options)
    np.testing.assert_allclose(flow.mean, end.mean, rtol=1e-10)
    more = nf.kernel_change(net, x, y, steps=10**400, learning_rate=1e-3, **options)
    np.testing.assert_allclose(more.mean, end.mean, rtol=1e-10)
    few = nf.kernel_change(net, x, y, steps=0, **options)
    assert (few.mean == 0).all()
    assert few.inflation == 0


def test_widths_and_permutations():
    """The change is linear in the 1/n_l, and points may come in any order."""
    net = nf.MLP(3, "tanh", bias_std=0.2)
    x, y = X[:3], Y[:3]

    def change(order=(0, 1, 2), **widths):
        return nf.kernel_change(net, x[list(order)], y[list(order)], steps=20, rng=0, **widths)

    both, first, second = (change(widths=widths).mean for widths in ([50, 100], [50, 10**12], [10**12, 100]))
    np.testing.assert_allclose(both, first + second, rtol=1e-6)
    turned = change((2, 0, 1), width=50)
    straight = change(width=50)
    expected = straight.mean[np.ix_([2, 0, 1], [2, 0, 1])]
    assert (abs(turned.mean - expected) < 8 * (turned.error + straight.error)).all()


def test_no_hidden_layers_no_change():
    found = nf.kernel_change(nf.MLP(1), np.eye(2), [1.0, 2.0], width=10)
    assert (found.mean == 0).all()
    assert (found.error == 0).all()
    assert found.inflation == found.inflation_error == 0


def test_bad_input():
    net = nf.MLP(2, "erf", bias_std=0.2)
    cases = [
        ({"width": 1}, r"width: expected at least 2"),
        ({"width": 10, "X": np.zeros((31, 2)), "y": np.zeros(31)}, r"X: expected at most 30 points"),
        ({"width": 10, "X": X[[0, 0]], "y": [1, 2]}, r"X: expected points whose limit kernel is positive definite"),
        ({"width": 10, "learning_rate": 1e3}, r"learning_rate: expected less than 2N/λ_max"),
        ({"width": 10, "y": np.zeros((4, 2))}, r"y: expected"),
        ({"width": 10, "y": np.zeros(3)}, r"y: expected"),
        ({"width": 10, "y": np.full(4, 1e200)}, r"y: expected targets whose squares fit into float64, got .* 1e\+200"),
        ({"width": 10, "steps": -1}, r"steps"),
        ({"width": 10, "steps": -math.inf}, r"steps"),
        ({"width": 10, "learning_rate": 0}, r"learning_rate"),
        ({"width": 10, "net": nf.Network([nf.Dense(), nf.LayerNorm(), nf.Dense()])}, r"net: expected a chain"),
    ]
    for options, words in cases:
        given = {"net": net, "X": X, "y": Y} | options
        with pytest.raises((ValueError, TypeError), match=words):
            nf.kernel_change(given.pop("net"), given.pop("X"), given.pop("y"), **given)
    for activation in ("relu", "abs", nf.activations.leaky_relu(0.1)):
        with pytest.raises(nf.ActivationError, match=r"smooth activations, got .* E\[φ''\(u\)²\] diverges"):
            nf.kernel_change(nf.MLP(2, activation), X, Y, width=10)
    with pytest.warns(RuntimeWarning, match=r"times itself: at this width the first order in 1/n says nothing"):
        nf.kernel_change(nf.MLP(3, "gelu", 0.7, 0.1), X, 10 * Y, width=2, steps=math.inf)
