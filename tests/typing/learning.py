"""Like user.py: training networks, and learning with kernels."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import ntkfast as nf

Array = NDArray[np.floating[Any]]
X = np.ones((4, 3))
y = np.ones(4)


def training(f: nf.FiniteNetwork) -> None:
    rate = assert_type(nf.max_learning_rate(nf.empirical_ntk(f, X)), float)
    run = assert_type(nf.train(f, X, y, steps=10, learning_rate=rate, record=nf.Record(steps=5)), nf.Run)
    assert_type(run.network, nf.FiniteNetwork)
    linearized = assert_type(nf.linearize(f), nf.LinearizedNetwork)
    assert_type(linearized(X), Array)
    assert_type(nf.convergence(f.net, X, [8, 16], n_seeds=2), nf.Convergence)


def flows(net: nf.Network) -> None:
    K = nf.ntk(net, X)
    flow = assert_type(nf.LeastSquaresFlow(K, y, nf.nngp(net, X)), nf.LeastSquaresFlow)
    assert_type(nf.LeastSquaresFlow.of_initial_kernel(net, X, y, width=64), nf.LeastSquaresFlow)
    assert_type(flow.mean(1.0), Array)
    assert_type(flow.mean([1.0, np.inf], K), Array)
    flow.covariance(1.0, ntk_tx=K, nngp_tx=K, nngp_tt=K).sum()
    flow.loss([0.0, 1.0])
    flow.components(1.0, n_components=2)
    assert_type(flow.early_stopping(K, y), nf.EarlyStopping)
    path = assert_type(nf.kernel_flow(K, y, loss="logistic", t=[1.0, 2.0]), nf.KernelFlow)
    assert_type(path.f, Array)
    path.predict(1.0, K).sum()
    nf.kernel_flow(K, ["a", "b", "a", "b"], loss="softmax", t=1.0, n_threads=1)
    nf.kernel_flow(K, y, loss=lambda f, y: float(np.mean(f**4)), t=1.0)


def coupled(f: nf.FiniteNetwork) -> None:
    pairs = nf.empirical_ntk(f, X, outputs="full")
    matrix = assert_type(nf.empirical_ntk(f, X, outputs="full", layout="matrix"), Array)
    nf.LeastSquaresFlow(pairs, np.ones((4, 2)), n_threads=2).mean(1.0, matrix)


def processes(net: nf.Network) -> None:
    K = nf.ntk(net, X)
    process = assert_type(nf.GaussianProcess(K, y, noise=0.1), nf.GaussianProcess)
    assert_type(process.mean(K), Array)
    assert_type(process.predict(K), Array)
    _, std = process.predict(K, np.diagonal(K), return_std=True, observations=True)
    assert_type(std, Array)
    assert_type(process.percentiles(K, np.diagonal(K), observations=True), Array)
    assert_type(process.leave_one_out(), nf.LeaveOneOut)
    nf.log_marginal_likelihood(K, y, noise=0.1)
    assert_type(nf.network_likelihood(net, X, y, noise=0.1), nf.MarginalLikelihood)
    iterated = nf.GaussianProcess(nf.KernelOperator(net, X), y, noise=0.1, tol=1e-6, rng=0, memory="1GB")
    assert_type(iterated.variance(K, K.diagonal()), Array)
    fitted = assert_type(nf.fit_hyperparameters(net, X, y, noise=0.1), nf.FittedHyperparameters)
    nf.fit_hyperparameters(net, X, y, n_centers=2, rng=0)
    print(fitted.flat or "every direction is determined")


def spectra(net: nf.Network) -> None:
    K = nf.ntk(net, X)
    pca = assert_type(nf.kernel_pca(K, 2), nf.KernelPCA)
    assert_type(pca.eigenvalues, Array)
    nf.kernel_pca(nf.KernelOperator(net, X), 2).transform(K).sum()
    assert_type(nf.hermite_certificate("relu", bias_std=0.1), nf.HermiteCertificate)
    assert_type(nf.smallest_eigenvalue(net, X), nf.SmallestEigenvalue)
    assert_type(nf.random_feature_model(K, n_features=100), nf.RandomFeatureModel)
    assert_type(nf.random_feature_convergence(K), nf.FeatureConvergence)


def many_points(net: nf.Network) -> None:
    assert_type(nf.solve(nf.ntk(net, X), y, 0.1).log_determinant, float)
    assert_type(nf.solve(nf.KernelOperator(net, X), y, 0.1, method="cg", checkpoint="state"), nf.Solution)
    assert_type(nf.solve(nf.KernelOperator(net, X), y, 0.1, method="cg", rank=2, rng=0).dual_coefficients, Array)
    model = nf.NystromRegression(net, 2, alpha="loo", kernel="nngp", rng=0, memory=10**9).fit(X, y)
    assert_type(model, nf.NystromRegression)
    assert_type(model.predict(X), Array)
    _, std = model.with_alpha(0.1).predict(X, return_std=True, observations=True)
    assert_type(std, Array)
    assert_type(model.leave_one_out(), Array)
    assert_type(model.log_marginal_likelihood(), float)
    assert_type(nf.NystromRegression(net, X[:2], [0.1, 1.0], method="direct").fit(X, y).solution, nf.Solution)


def on_disk(net: nf.Network) -> None:
    store = assert_type(nf.store.compute(net, X, "K.zarr", kernel="nngp", memory="4GB"), nf.store.GramStore)
    assert_type(nf.store.open("K.zarr").verify(progress=False), nf.store.Check)
    assert_type(nf.store.repair(net, X, store.path).damaged, list[tuple[int, int]])
    assert_type(nf.solve(store, y, 0.1), nf.Solution)
    assert_type(store.complete, bool)
    assert_type(nf.StoreError("elsewhere").args, tuple[Any, ...])


def on_a_cluster(net: nf.Network) -> None:
    K = nf.distributed.KernelOperator(net, X, kernel="nngp", client=object())
    assert_type(nf.solve(K, y, 0.1), nf.Solution)
    _ = nf.distributed.ntk(net, X, chunks=512)
    model = nf.distributed.NystromRegression(net, 10, "loo", client=object())
    assert_type(model.fit(X, y).predict(X), Array)


def scikit_learn() -> None:
    regressor = nf.sklearn.NTKRegressor(
        depth=2, activation=nf.activations.erf(), kernel="nngp", alpha=[0.1, 1.0], t=10.0
    )
    regressor.fit(X, y).predict(X)
    nf.sklearn.NTKRegressor(t="loo", early_stopping=0.2, solver="eigh", random_state=0)
    nf.sklearn.NTKRegressor(network=nf.MLP(2), alpha="loo").predict([[1.0, 0.0]], return_std=True)
    nf.plotting.plot_predictions([1.0], [0.5], x=[0.0], data=([0.0], [1.0])).set_title("f")
    nf.plotting.plot_loo_path([0.1, 1.0], [[-0.3, -0.2]], t=[1.0])
    classifier = nf.sklearn.NTKClassifier(alpha=0.1, n_threads=1)
    classifier.fit(X, y, sample_weight=y)
    assert_type(classifier.predict_proba(X), Array)
    assert_type(classifier.decision_function(X), Array)
    features = nf.sklearn.NTKFeatures(n_components=2, method="sketch", random_state=0)
    features.fit(X)
    assert_type(features.transform(X), Array)
    kernel = nf.sklearn.NTKKernel(weight_std=[1.0, 2.0, 1.5], bias_std_bounds="fixed")
    assert_type(kernel.diag(X), Array)
    assert_type(kernel.theta, Array)
    nf.sklearn.NTKKernel(network=nf.MLP(2))
    assert_type(nf.sklearn.scikit_ntk.NeuralTangentKernel(2, 0.1, "fixed").diag(X), Array)


def code_for_neural_tangents() -> None:
    nt = nf.neural_tangents
    stax = nt.stax
    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(512, 1.5, b_std=0.1), stax.Relu(), stax.Dense(1))
    _, params = init_fn(0, (-1, 3))
    k = kernel_fn(X, None, ("nngp", "ntk"))
    nt.predict.gradient_descent_mse(k.ntk, y, diag_reg=1e-3)(t=1.0)
    nt.predict.gradient_descent_mse_ensemble(kernel_fn, X, y)(x_test=X, get="ntk", compute_cov=True)
    nt.empirical_ntk_fn(apply_fn, trace_axes=(), implementation=nt.NtkImplementation.AUTO)(X, None, params)
    nt.taylor_expand(apply_fn, params, 2)(params, X)
    assert_type(nt.predict.max_learning_rate(k.ntk), float)
