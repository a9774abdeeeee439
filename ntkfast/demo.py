"""The main job on real data: NTK regression on scikit-learn's handwritten digits, in a few seconds."""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from tqdm import tqdm

from ntkfast import plotting
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP

STEPS = ("load digits", "NTK of the training set", "kernel regression", "RBF kernel ridge", "eigenvalues", "figure")


@dataclass
class Report:
    """What the demo found. Times in seconds, by step."""

    n_train: int = 0
    n_test: int = 0
    accuracy_ntk: float = 0.0
    accuracy_rbf: float = 0.0
    eigenvalues: np.ndarray = None
    seconds: dict = field(default_factory=dict)


def run(path, n_threads=None, seed=0):
    """Run the demo, save its figure at path and return a Report."""
    try:
        from matplotlib.figure import Figure
        from sklearn.datasets import load_digits
        from sklearn.kernel_ridge import KernelRidge
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(f"the demo needs {error.name}: pip install 'ntkfast[all]'") from None

    report = Report()
    net = MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    with tqdm(total=len(STEPS), desc="demo", unit="step") as bar:

        @contextmanager
        def step(name):
            bar.set_description(name)
            start = time.perf_counter()
            yield
            report.seconds[name] = time.perf_counter() - start
            bar.update()

        with step(STEPS[0]):
            digits = load_digits()
            X, X_test, digit, digit_test = train_test_split(
                digits.data / 16, digits.target, test_size=0.25, stratify=digits.target, random_state=seed
            )
            targets = np.eye(10)[digit]
            report.n_train, report.n_test = len(X), len(X_test)
        with step(STEPS[1]):
            K = ntk(net, X, n_threads=n_threads)
        with step(STEPS[2]):
            weights = scipy.linalg.cho_solve(scipy.linalg.cho_factor(K), targets)
            predicted = ntk(net, X_test, X, n_threads=n_threads) @ weights
            report.accuracy_ntk = float(np.mean(predicted.argmax(axis=1) == digit_test))
        with step(STEPS[3]):
            rbf = KernelRidge(kernel="rbf", gamma=1 / (X.shape[1] * X.var()), alpha=1e-3).fit(X, targets)
            report.accuracy_rbf = float(np.mean(rbf.predict(X_test).argmax(axis=1) == digit_test))
        with step(STEPS[4]):
            eigenvalues, vectors = scipy.linalg.eigh(K / len(K))
            report.eigenvalues = eigenvalues[::-1]
            functions = np.sqrt(len(K)) * vectors[:, ::-1]  # orthonormal in <f, g> = mean of f g over the data
        with step(STEPS[5]):
            figure = Figure(figsize=(11, 4.8), layout="constrained")
            left, right = figure.subplots(1, 2)
            plotting.plot_spectrum(report.eigenvalues, left)
            plotting.plot_plane(functions[:, 1:3], digit, right)
            figure.suptitle(f"Depth-4 ReLU NTK of {len(X)} handwritten digits")
            figure.savefig(path, dpi=130)
    return report
