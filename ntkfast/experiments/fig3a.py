"""Figure 3(a) of the paper: kernel principal components of 512 digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ntkfast.datasets import MNIST
from ntkfast.experiments.blas import blas_threads
from ntkfast.experiments.experiment import Experiment
from ntkfast.experiments.figures import COLOURS, new_figure
from ntkfast.experiments.networks import described, network, relu_network
from ntkfast.experiments.storage import NO_PARTS, Parts, Values
from ntkfast.experiments.verdicts import SQUARES, Finding, below, mean_near, near, reported, within
from ntkfast.experiments.work import Progress, working
from ntkfast.finite.empirical import empirical_ntk
from ntkfast.infinite.corrections import where_known
from ntkfast.infinite.kernels import ntk
from ntkfast.learning.spectrum import kernel_pca
from ntkfast.networks import Network
from ntkfast.networks.hyperparameters import hyperparameters, with_hyperparameters
from ntkfast.plotting import plot_plane
from ntkfast.support.reprs import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Figure3a", "batch", "caption", "findings", "plot", "run"]

PAPER = relu_network(5)
POINTS = 512
PUBLISHED = (0.0457, 0.00108, 0.00078)
ORDER_TWO = 20.0  # allowance for terms of order 1/n²: this over n, relative to those of order 1/n


@dataclass(frozen=True)
class Figure3a:
    """The result of `run`: N digits, 3 components.

    Attributes
    ----------
    net : Network
    digits : ndarray, shape (N,)
        Their labels; `batch(data, N, seed)` has their pixels.
    eigenvalues, components : ndarray, shapes (3,) and (N, 3)
        λ_i of K/N and f^(i) on the batch, K the limit kernel.
    wide : int
    wide_eigenvalues, wide_components : ndarray
        The same for the kernel of a network of this width, by power iteration, with the signs of the limit's.
    batches : ndarray, shape (B, 3)
        λ_i of the limit kernel for other batches: how much they depend on the digits drawn.
    fluctuation : ndarray, shape (3,)
        Relative standard deviation of λ_i over random networks of width n, times √n.
    beta_one : ndarray, shape (3,)
        λ_i of the limit kernel with β = 1.0.
    narrow : int
        n.
    squares : ndarray, shape (M,)
        ‖Θ̂ - Θ‖²/‖Θ‖² in Frobenius norm of M random networks of width n.
    squares_theory : float
        Its mean to order 1/n; nan if that is not known.
    rows : ndarray, shape (M, N)
        Θ̂(x_0, ·) of these networks, x_0 the first digit.
    row_theory : ndarray, shape (2, N)
        Its mean and standard deviation to order 1/n.
    """

    net: Network
    digits: np.ndarray
    eigenvalues: np.ndarray
    components: np.ndarray
    wide: int
    wide_eigenvalues: np.ndarray
    wide_components: np.ndarray
    batches: np.ndarray
    fluctuation: np.ndarray
    beta_one: np.ndarray
    narrow: int
    squares: np.ndarray
    squares_theory: float
    rows: np.ndarray
    row_theory: np.ndarray

    __repr__ = short


def batch(data: MNIST, n: int, *key: int) -> tuple[np.ndarray, np.ndarray]:
    """n random digits: pixels in [0, 1), shape (n, 784), and labels, shape (n,)."""
    rows = np.random.default_rng(key).choice(len(data.images), n, replace=False)
    return data.images[rows] / 256, data.labels[rows]


def run(
    data: MNIST,
    n: int = POINTS,
    wide: int = 2000,
    narrow: int = 500,
    n_networks: int = 20,
    n_batches: int = 50,
    *,
    net: Network = PAPER,
    seed: int = 0,
    parts: Parts = NO_PARTS,
    progress: Progress = None,
) -> Figure3a:
    """The first three kernel principal components of n digits, not centred.

    The paper gives neither the depth nor the scale of the pixels: L = 5 and pixels/256 reproduce its eigenvalues.

    Parameters
    ----------
    data : ntkfast.datasets.MNIST
    n : int
        Number of digits.
    wide : int
        Width of the network that represents the limit, alongside the exact kernel; 10000 in the paper.
    narrow, n_networks : int
        Width and number of the networks that measure the fluctuation of the eigenvalues.
    n_batches : int
        Number of other batches, to see how much depends on the digits drawn.
    net : Network, optional
        Default: L = 5, ReLU, β = 0.1.
    seed, parts, progress
        As in `ntkfast.experiments.fig1.run`.

    Returns
    -------
    Figure3a

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.datasets import MNIST
    >>> from ntkfast.experiments import fig3a
    >>> rng = np.random.default_rng(0)
    >>> noise = MNIST(rng.integers(0, 256, (90, 784), dtype=np.uint8), rng.integers(0, 10, 90, dtype=np.uint8))
    >>> fig3a.run(noise, n=30, wide=50, narrow=20, n_networks=2, n_batches=2).components.shape
    (30, 3)
    """
    X, digits = batch(data, n, seed)
    exact = ntk(net, X, progress=False)
    limit, size = kernel_pca(exact, 3), np.linalg.norm(exact)

    def kernel(width: int, k: int) -> np.ndarray:
        with blas_threads(width, n):
            return empirical_ntk(network(net, X.shape[1], width, seed, k), X, progress=False)

    def of_network() -> Values:
        K = kernel(wide, 0)
        pca = kernel_pca(K.astype(float), 3, method="power", rng=seed)
        return {"eigenvalues": pca.eigenvalues, "components": pca.eigenfunctions}

    with working(progress, "figure 3a", wide**2 + n_networks * narrow**2 + n_batches * n**2) as work:
        report = work.part(wide**2)
        found = parts.get("wide", of_network)
        report(1, 1)
        networks, squares, rows, batches = [], [], [], []
        for k in range(n_networks):
            report = work.part(narrow**2)
            K = kernel(narrow, k).astype(float)
            networks.append(kernel_pca(K, 3).eigenvalues)
            squares.append((np.linalg.norm(K - exact) / size) ** 2)
            rows.append(K[0])
            report(1, 1)
        for k in range(n_batches):
            report = work.part(n**2)
            K = ntk(net, batch(data, n, seed, 1, k)[0], progress=False)
            batches.append(kernel_pca(K, 3).eigenvalues)
            report(1, 1)
    fluctuation = np.std(networks, axis=0, ddof=1) / np.mean(networks, axis=0) * np.sqrt(narrow)
    beta_one = kernel_pca(ntk(_with_bias(net, 1.0), X, progress=False), 3).eigenvalues
    squares_theory, row_theory = np.nan, np.full((2, n), np.nan)
    if (theory := where_known(net, X, width=narrow, get=("ntk_mean", "ntk_std"))) is not None:
        squares_theory = float((np.linalg.norm(theory.ntk_std) / size) ** 2)
        row_theory = np.array([theory.ntk_mean[0], theory.ntk_std[0]])
    signs = np.sign(np.einsum("ni,ni->i", found["components"], limit.eigenfunctions))
    return Figure3a(
        net, digits, limit.eigenvalues, limit.eigenfunctions, wide, found["eigenvalues"], signs * found["components"],
        np.array(batches), fluctuation, beta_one, narrow, np.array(squares), squares_theory, np.array(rows), row_theory,
    )  # fmt: skip


def _with_bias(net: Network, bias_std: float) -> Network:
    values = hyperparameters(net).items()
    return with_hyperparameters(net, [bias_std if name == "bias_std" else value for (_, name), value in values])


def plot(data: Figure3a) -> Figure:
    """The batch in the plane of the 2nd and 3rd component, for both kernels; a row of the kernel and theory's band."""
    known = bool(np.isfinite(data.squares_theory))
    figure = new_figure(16 if known else 11, 5)
    axes = figure.subplots(1, 2 + known)
    axes[1].sharex(axes[0])
    axes[1].sharey(axes[0])
    limit = rf"limit kernel $\Theta^{{({data.net.depth})}}_\infty$"
    names = limit, f"network of width $n = {data.wide}$, power iteration"
    for ax, name, components in zip(axes[:2], names, (data.components, data.wide_components), strict=True):
        plot_plane(components[:, 1:], data.digits, ax=ax)
        ax.set_title(name)
    if known:
        _draw_row(axes[2], data)
    return figure


def _draw_row(ax: Axes, data: Figure3a) -> None:
    """Θ̂(x_0, x_j) of the narrow networks over the digits x_j, sorted by theory's mean, and theory's band."""
    order = np.argsort(data.row_theory[0])
    mean, std = data.row_theory[:, order]
    place, style = np.arange(len(order)), {"color": COLOURS[5], "linewidth": 0.6, "alpha": 0.8}
    for k, row in enumerate(data.rows[:, order]):
        ax.plot(place, row, label=None if k else f"networks of $n = {data.narrow}$", **style)
    ax.fill_between(place, mean - 2 * std, mean + 2 * std, color="black", alpha=0.12, linewidth=0)
    for sign in (-2, 2):  # over the networks, which hide most of the band
        label = r"theory $\pm 2$ std" if sign < 0 else None
        ax.plot(place, mean + sign * std, "--", color="black", linewidth=1, label=label)
    ax.plot(place, mean, color="black", linewidth=1.5, label="theory to order $1/n$")
    ax.set(xlim=(0, len(order) - 1), xlabel="digit $j$, sorted", title=r"$\hat\Theta(x_0, x_j)$ at $t = 0$")
    ax.legend(loc="upper left")


def findings(data: Figure3a) -> list[Finding]:
    """The published eigenvalues compared with ours, and the remark on β."""
    lines = []
    published = PUBLISHED if data.net == PAPER and len(data.digits) == POINTS else None
    spread = data.batches.std(axis=0, ddof=1)
    # the published ones differ from ours because of the digits drawn, there and here, and their network of width 10000
    of_paper = np.hypot(np.sqrt(2) * spread, data.fluctuation / np.sqrt(10000) * data.eigenvalues)
    of_network = np.hypot(of_paper, data.fluctuation / np.sqrt(data.wide) * data.eigenvalues)
    for name, eigenvalues, tolerance in (
        ("limit kernel", data.eigenvalues, of_paper),
        (f"network of width {data.wide}, power iteration", data.wide_eigenvalues, of_network),
    ):
        for i, value in enumerate(eigenvalues):
            what = f"λ{i + 1}, {name}"
            lines.append(near(what, published[i], value, 3 * tolerance[i]) if published else reported(what, value))
    for i, mean in enumerate(data.batches.mean(axis=0)):
        what = f"λ{i + 1}, limit kernel, mean of {len(data.batches)} batches ± standard deviation"
        lines.append(reported(what, f"{mean:.4g} ± {spread[i]:.2g}", f"{published[i]:.4g}" if published else ""))
    shares = np.abs(np.mean(data.components * data.wide_components, axis=0))
    lines.append(
        reported(
            "overlap of the two kernels' f^(2), and of their f^(3)", f"{shares[1]:.3f}, {shares[2]:.3f}", "1 as n → ∞"
        )
    )
    constant = abs(data.components[:, 0].mean())
    lines.append(below("first component: distance of its overlap with a constant from 1", 0.05, 1 - constant, "≈ 0"))
    ratio, ratio_one = data.eigenvalues[0] / data.eigenvalues[1], data.beta_one[0] / data.beta_one[1]
    what, both = "gap λ1/λ2 with β = 1.0, over that with the network's β", f"{ratio:.1f}, {ratio_one:.1f}"
    if published:
        lines.append(within(what, 5, 20, ratio_one / ratio, "about 10"))
        lines.append(reported("λ1/λ2 with β = 0.1 and with β = 1.0", both, "42.3 from λ1 and λ2"))
    else:
        lines.append(reported(what, ratio_one / ratio))
    if np.isfinite(data.squares_theory):
        what = f"n = {data.narrow}, {len(data.squares)} networks: mean of ‖Θ̂ - Θ‖² in Frobenius norm over theory"
        samples = data.squares / data.squares_theory
        lines.append(mean_near(what, 1.0, samples, ORDER_TWO / data.narrow, SQUARES))
    return lines


def caption(data: Figure3a) -> str:
    chosen = (
        " The paper gives neither L nor the scale nor the digits: L = 5 and 256 were chosen to match λ1, so that only "
        "λ2 and λ3 are tests. Tolerances are three standard deviations over other digits and networks."
    )
    return (
        f"{len(data.digits)} MNIST digits in the plane of their 2nd and 3rd kernel principal component: from the limit "
        f"kernel, and from the kernel of a network of width {data.wide} by power iteration (10000 in the paper). "
        f"{described(data.net)}, pixels/256, digits from the training set. Right: a row of the kernel of "
        f"{len(data.rows)} networks of width {data.narrow} and its mean and standard deviation to order 1/n; these do "
        "not say how eigenvalues scatter, which depends on the covariances of different entries."
        + (chosen if data.net == PAPER else "")
    )


EXPERIMENT = Experiment(
    name="fig3a",
    figure="fig3",
    title="Figure 3(a): kernel principal components of MNIST",
    result=Figure3a,
    run=run,
    plot=plot,
    findings=findings,
    caption=caption,
    full={"wide": 10000},
    network=PAPER,
    needs_mnist=True,
    resumable=True,
)
