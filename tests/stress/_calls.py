"""Public calls on small problems, each of which returns numbers: what the tests of reliability put under stress."""

import tempfile
from pathlib import Path

import numpy as np

import ntkfast as nf

rng = np.random.default_rng(0)
X, Z = rng.normal(size=(40, 3)), rng.normal(size=(9, 3))
y, Y2 = X[:, 0] + 0.1 * rng.normal(size=40), rng.normal(size=(40, 2))
near = np.concatenate([X[:6], X[:6] + 1e-3])
NET = nf.MLP(3, "relu", weight_std=1.2, bias_std=0.1)
TANH = nf.MLP(3, "tanh", bias_std=0.1)
SKIP = nf.Network([nf.Dense(), nf.Residual("erf", nf.Dense(bias_std=0.1)), nf.LayerNorm(), "gelu", nf.Dense()])
K, S = nf.kernels(NET, X, get=("ntk", "nngp"))
K_tx, S_tx = nf.kernels(NET, Z, X, get=("ntk", "nngp"))
S_tt = nf.nngp(NET, Z)
f = nf.FiniteNetwork.init(nf.MLP(3, "erf", bias_std=0.1), 3, widths=8, n_outputs=2, rng=0)
f1 = nf.FiniteNetwork.init(nf.MLP(3, "tanh", bias_std=0.1), 3, widths=8, rng=0)
flow = nf.LeastSquaresFlow(K, y, S)
operator = nf.KernelOperator(NET, X)


def in_folder(call):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            return call(Path(folder))

    return run


def saved(folder):
    nf.save(flow, folder / "flow")
    return nf.load(folder / "flow").mean(1.0, K_tx)


def stored(folder):
    return nf.store.compute(NET, X, folder / "K")[:]


def verified(folder):
    store = nf.store.compute(NET, X, folder / "K")
    return np.array([store.verify().n_blocks]), store @ y


def nystrom(method):
    model = nf.NystromRegression(NET, 12, 0.1, method=method, rng=0).fit(X, y)
    return model.dual_coefficients, model.predict(Z)


def trained():
    run = nf.train(f1, X, y, steps=5, learning_rate=0.1)
    return run.losses, run.network(Z)


def fitted():
    found = nf.fit_hyperparameters(NET, X[:15], y[:15], max_iterations=1)
    return found.value, found.noise


def gaussian():
    process = nf.GaussianProcess(S, y, noise=0.1)
    return process.mean(S_tx), process.covariance(S_tx, S_tt), process.leave_one_out().mean


def smallest():
    return nf.smallest_eigenvalue(NET, X[:12]).value


def linearized():
    return nf.linearize(f).train(X, Y2, steps=4, learning_rate=0.1)(Z)


def regressor():
    return nf.sklearn.NTKRegressor(alpha=0.1).fit(X, y).predict(Z, return_std=True)


def classifier():
    return nf.sklearn.NTKClassifier(alpha=0.1).fit(X, y > 0).predict_proba(Z)


CALLS = {
    "ntk": lambda: nf.ntk(NET, X),
    "ntk of two sets in float32": lambda: nf.ntk(NET, X.astype("f4"), Z.astype("f4")),
    "ntk by layer": lambda: nf.ntk(NET, X, per_layer=True),
    "nngp": lambda: nf.nngp(SKIP, X),
    "kernels": lambda: nf.kernels(NET, X, get=("nngp", "ntk", "nngp_dot")),
    "kernels with gradients": lambda: nf.kernels(NET, X, gradient=True).gradients.ntk,
    "ntk of a series": lambda: nf.ntk(TANH, X),
    "ntk of near points": lambda: nf.ntk(TANH, near),
    "diagonal": lambda: nf.diagonal(NET, X, get=("nngp", "ntk")),
    "kernel_vjp": lambda: nf.kernel_vjp(NET, X, weights=K),
    "kernel_vjp of points": lambda: tuple(nf.kernel_vjp(NET, X, Z, weights=K_tx.T, inputs=True)),
    "dual": lambda: (nf.dual("gelu", 1.0, [2.0], 0.5), nf.dual_derivative("tanh", 1.0, [2.0], 0.5)),
    "operator": lambda: nf.KernelOperator(NET, X) @ Y2,
    "operator's columns": lambda: (operator.columns([1, 5]), operator.diagonal(), operator[2:4]),
    "phase": lambda: nf.phase(NET).q_star,
    "finite_width": lambda: nf.finite_width(NET, X, width=64),
    "empirical_ntk": lambda: nf.empirical_ntk(f, X),
    "empirical_ntk in full": lambda: nf.empirical_ntk(f, X, Z, outputs="full"),
    "empirical_nngp": lambda: nf.empirical_nngp(f, X),
    "jacobian": lambda: f.jacobian(X),
    "products with J": lambda: (nf.ntk_vector_product(f, X, Y2), nf.vjp(f, X, Y2)),
    "train": trained,
    "linearize": linearized,
    "LeastSquaresFlow": lambda: nf.LeastSquaresFlow(K, y, S).mean(1.0, K_tx),
    "percentiles": lambda: flow.percentiles(2.0, K_tx, S_tx, np.diag(S_tt)),
    "kernel_flow": lambda: nf.kernel_flow(K, y, t=[0.5, 1.0]).f,
    "kernel_flow by BDF": lambda: nf.kernel_flow(K, y, t=[1e-3, 2e-3], method="BDF").f,
    "GaussianProcess": gaussian,
    "log_marginal_likelihood": lambda: nf.log_marginal_likelihood(S, y, noise=0.1),
    "network_likelihood": lambda: nf.network_likelihood(NET, X, y, noise=0.1).gradient,
    "fit_hyperparameters": fitted,
    "solve": lambda: nf.solve(K, y, 0.1).dual_coefficients,
    "solve with an operator": lambda: nf.solve(operator, y, 0.1, method="cg", rng=0).dual_coefficients,
    "NystromRegression, direct": lambda: nystrom("direct"),
    "NystromRegression, falkon": lambda: nystrom("falkon"),
    "kernel_pca": lambda: nf.kernel_pca(K, 3).eigenvalues,
    "smallest_eigenvalue": smallest,
    "random_feature_model": lambda: nf.random_feature_model(K, n_features=20, rng=0).features,
    "save": in_folder(saved),
    "store.compute": in_folder(stored),
    "store.verify": in_folder(verified),
    "NTKRegressor": regressor,
    "NTKClassifier": classifier,
}


def numbers(result):
    """What a call returned as a list of arrays."""
    if isinstance(result, tuple | list):
        return [array for part in result for array in numbers(part)]
    return [np.array(result, dtype=float)]


def same(left, right):
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
