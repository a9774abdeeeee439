"""NTKKernel in GPyTorch's and BoTorch's models: values, derivatives, batches, products without a matrix, training."""

import copy
import pickle

import numpy as np
import pytest

import ntkfast as nf

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ntkfast[gpytorch]'")
gpytorch = pytest.importorskip("gpytorch", reason="needs the extra: pip install 'ntkfast[gpytorch]'")

GENERATOR = torch.Generator().manual_seed(0)
NET = nf.MLP(3, "erf", weight_std=1.2, bias_std=0.3)


def points(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def kernel(net=NET, **options):
    return nf.gpytorch.NTKKernel(net, **options).double()


def close(one, two, rtol=1e-6):
    one, two = (x.detach().numpy() if torch.is_tensor(x) else np.array(x) for x in (one, two))
    return np.allclose(one, two, rtol=rtol, atol=rtol)  # parameters start in float32


class Exact(gpytorch.models.ExactGP):
    def __init__(self, X, y, covariance):
        super().__init__(X, y, gpytorch.likelihoods.GaussianLikelihood())
        self.mean, self.covariance = gpytorch.means.ZeroMean(), covariance

    def forward(self, X):
        return gpytorch.distributions.MultivariateNormal(self.mean(X), self.covariance(X))


class Variational(gpytorch.models.ApproximateGP):
    def __init__(self, Z, covariance):
        distribution = gpytorch.variational.CholeskyVariationalDistribution(len(Z))
        super().__init__(gpytorch.variational.VariationalStrategy(self, Z, distribution))
        self.mean, self.covariance = gpytorch.means.ZeroMean(), covariance

    def forward(self, X):
        return gpytorch.distributions.MultivariateNormal(self.mean(X), self.covariance(X))


def data(n=40):
    X = points(n, 3)
    return X, torch.sin(2 * X[:, 0]) + 0.05 * points(n)


def trained(model, objective, steps=15):
    """Losses of a few steps of Adam."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.05), []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -objective()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["ntk", "nngp"])
def test_values(name):
    X, Y, k = points(6, 3), points(4, 3), kernel(kernel=name)
    value = nf.ntk if name == "ntk" else nf.nngp
    assert close(k(X).to_dense(), value(NET, X.numpy()))
    assert close(k(X, Y).to_dense(), value(NET, X.numpy(), Y.numpy()))
    assert close(k(X, diag=True), nf.diagonal(NET, X.numpy(), name))
    assert close(k(X[:4], Y, diag=True), np.diagonal(value(NET, X[:4].numpy(), Y.numpy())))
    assert close(kernel(kernel=name, active_dims=(0, 2))(X).to_dense(), value(NET, X[:, [0, 2]].numpy()))


def test_parameters():
    k = kernel()
    assert close(k.weight_std, [1.2] * 3)
    assert close(k.bias_std, [0.3] * 3)
    k.weight_std, k.bias_std = 0.7, torch.tensor([0.1, 0.2, 0.3])
    X = points(5, 3)
    moved = nf.with_hyperparameters(NET, [0.7, 0.1, 0.7, 0.2, 0.7, 0.3])
    assert close(k(X).to_dense(), nf.ntk(moved, X.numpy()))
    assert {name for name, _ in k.named_parameters()} == {"raw_weight_std", "raw_bias_std"}
    same = pickle.loads(pickle.dumps(copy.deepcopy(k)))
    assert close(same(X).to_dense(), k(X).to_dense())


def test_a_bias_of_zero_remains():
    k = kernel(nf.Network([nf.Dense(), "relu", nf.Dense(bias_std=0.2)]))
    k(points(5, 3)).to_dense().sum().backward()
    assert k.raw_bias_std.grad[0] == 0
    assert k.raw_bias_std.grad[1] != 0
    k.bias_std = 0.5
    assert k.bias_std.tolist() == [0.0, pytest.approx(0.5)]


def test_priors_and_constraints():
    bounds, prior = gpytorch.constraints.Interval(0.5, 2.0), gpytorch.priors.GammaPrior(2.0, 1.0)
    k = kernel(weight_std_constraint=bounds, weight_std_prior=prior, bias_std_prior=prior)
    assert close(k.weight_std, [1.2] * 3)
    assert {name for name, *_ in k.named_priors()} == {"weight_std_prior", "bias_std_prior"}
    k.sample_from_prior("bias_std_prior")
    assert (k.bias_std > 0).all()


@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_derivatives(diag, symmetric):
    k, X, Y = kernel(nf.MLP(2, "gelu", bias_std=0.3)), points(3, 2).requires_grad_(), points(3, 2).requires_grad_()

    def value(X, Y, weight_std, bias_std):
        found = torch.func.functional_call(
            k, {"raw_weight_std": weight_std, "raw_bias_std": bias_std}, (X, X if symmetric else Y), {"diag": diag}
        )
        return found if diag else found.to_dense()

    assert torch.autograd.gradcheck(value, (X, Y, k.raw_weight_std, k.raw_bias_std))


def test_batches():
    k, X, Y = kernel(batch_shape=torch.Size([2])), points(2, 5, 3), points(4, 3)
    k.weight_std = torch.tensor([[1.0, 1.1, 1.2], [0.8, 0.9, 1.0]])
    nets = [nf.with_hyperparameters(NET, [a, 0.3, b, 0.3, c, 0.3]) for a, b, c in k.weight_std.tolist()]
    for left, right in ((X, None), (X, Y), (Y, None), (points(3, 1, 5, 3), Y)):
        K = k(left, right).to_dense()
        sides = [side.expand(*K.shape[:-2], *side.shape[-2:]) for side in (left, left if right is None else right)]
        for place in np.ndindex(*K.shape[:-2]):
            assert close(K[place], nf.ntk(nets[place[-1]], *(side[place].numpy() for side in sides)))
    assert close(k(X, diag=True), k(X).to_dense().diagonal(dim1=-1, dim2=-2))


@pytest.mark.parametrize("symmetric", [True, False])
def test_products_without_a_matrix(symmetric):
    X, Y, v = points(600, 3), points(7, 3), points(600 if symmetric else 7, 2)
    found = []
    for lazy in (True, False):
        k, x = kernel(lazy=lazy), X.clone().requires_grad_()
        y = x if symmetric else Y
        operator = k.forward(x, y) if lazy else k(x, y)
        assert torch.is_tensor(operator) is False
        product = operator @ v
        (product * torch.cos(product)).sum().backward()
        found.append((product, x.grad, k.raw_weight_std.grad, k.raw_bias_std.grad))
    for one, two in zip(*found, strict=True):
        assert close(one, two, 1e-7)
    operator = kernel(lazy=True)(X, X if symmetric else Y).evaluate_kernel()
    assert operator.shape == (600, len(v))
    assert close(operator[2:5, :3].to_dense(), operator.to_dense()[2:5, :3])
    assert close(operator[torch.tensor([1, 2]), torch.tensor([3, 4])], operator.to_dense()[[1, 2], [3, 4]])
    assert close(operator.mT.to_dense(), operator.to_dense().mT)


def test_exact_gp():
    X, y = data()
    model = Exact(X, y, kernel(kernel="nngp")).double()
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    want = nf.log_marginal_likelihood(nf.nngp(NET, X.numpy()), y.numpy(), noise=model.likelihood.noise.item())
    assert likelihood(model.train()(X), y).item() * len(y) == pytest.approx(want, rel=1e-5)
    losses = trained(model, lambda: likelihood(model(X), y))
    assert losses[-1] < losses[0]
    x = points(5, 3).requires_grad_()
    model.eval()(x).mean.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad != 0).all()


def test_exact_gp_by_products_without_a_matrix():
    X, y = data(300)
    results = []
    for lazy in (True, False):
        model = Exact(X, y, kernel(lazy=lazy)).double()
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
        with gpytorch.settings.max_cholesky_size(0), gpytorch.settings.cg_tolerance(1e-4):
            torch.manual_seed(0)  # of the vectors that log determinants are estimated from
            loss = likelihood(model.train()(X), y)
            loss.backward()
        results.append((loss.item(), *model.covariance.raw_weight_std.grad.tolist()))
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_variational_gp_moves_its_inducing_points():
    X, y = data()
    model, likelihood = (
        Variational(X[:8].clone(), kernel()).double(),
        gpytorch.likelihoods.GaussianLikelihood().double(),
    )
    bound = gpytorch.mlls.VariationalELBO(likelihood, model, len(y))
    losses = trained(model, lambda: bound(model(X), y))
    assert losses[-1] < losses[0]
    assert not torch.equal(model.variational_strategy.inducing_points, X[:8])


def test_sparse_regression():
    X, y = data()
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    covariance = gpytorch.kernels.InducingPointKernel(kernel(kernel="nngp"), X[:8].clone(), likelihood)
    model = Exact(X, y, covariance)
    model.likelihood = likelihood
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model.double())
    losses = trained(model, lambda: objective(model(X), y))
    assert losses[-1] < losses[0]
    assert torch.isfinite(covariance.inducing_points.grad).all()
    assert covariance.inducing_points.grad.abs().max() > 0


def test_botorch():
    botorch = pytest.importorskip("botorch")
    from botorch.acquisition import LogExpectedImprovement
    from botorch.optim import optimize_acqf

    X, y = torch.rand(12, 2, dtype=torch.float64, generator=GENERATOR), points(12, 1)
    model = botorch.models.SingleTaskGP(X, y, covar_module=kernel(nf.MLP(2, "erf", bias_std=0.5), kernel="nngp"))
    botorch.fit.fit_gpytorch_mll(gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model))
    acquisition, bounds = LogExpectedImprovement(model, best_f=y.max()), torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double()
    best, value = optimize_acqf(acquisition, bounds, q=1, num_restarts=2, raw_samples=8, options={"maxiter": 5})
    assert best.shape == (1, 2)
    assert torch.isfinite(value)


def test_refused():
    with pytest.raises(TypeError, match="x1: expected a tensor on the CPU, got one on meta"):
        kernel().forward(torch.ones(2, 3, device="meta"), torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="last_dim_is_batch"):
        kernel().forward(torch.ones(2, 3), torch.ones(2, 3), last_dim_is_batch=True)
    with pytest.raises(ValueError, match="kernel: expected"):
        kernel(kernel="rbf")
