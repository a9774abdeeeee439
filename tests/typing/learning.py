"""As user.py: training networks, and learning with kernels."""

import numpy as np

import ntkfast as nf

X = np.ones((4, 3))
y = np.ones(4)


def training(f: nf.FiniteNetwork) -> None:
    run = nf.train(f, X, y, steps=10, learning_rate=nf.max_learning_rate(nf.empirical_ntk(f, X)), record=nf.Record(5))
    print(run)
    linearized = nf.linearize(f)
    print(isinstance(linearized, nf.LinearizedNetwork))
    nf.convergence(f.net, X, [8, 16], n_seeds=2)


def learning(net: nf.Network) -> None:
    K = nf.ntk(net, X)
    nf.LeastSquaresFlow(K, y, nf.nngp(net, X)).mean(1.0)
    nf.kernel_flow(K, y, loss="logistic", t=[1.0, 2.0])
    nf.GaussianProcess(K, y, noise=0.1).mean(K)
    nf.log_marginal_likelihood(K, y, noise=0.1)
    nf.network_likelihood(net, X, y, noise=0.1)
    nf.fit_hyperparameters(net, X, y, noise=0.1)
    nf.kernel_pca(K, 2)
    nf.hermite_certificate("relu")
    nf.smallest_eigenvalue(net, X)
    nf.random_feature_model(K, 100)
    nf.random_feature_convergence(K)
