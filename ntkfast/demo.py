"""The main use on real data: NTK regression on scikit-learn's handwritten digits, in a few seconds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
from tqdm import tqdm

from ntkfast import plotting
from ntkfast.infinite.kernels import ntk
from ntkfast.networks import MLP
from ntkfast.plotting.axes import new_figure
from ntkfast.support.files import replacing
from ntkfast.support.reprs import short

__all__ = ["Report", "run"]

N_STEPS = 6


@dataclass(frozen=True)
class Report:
    """The result of `run`.

    Attributes
    ----------
    n_train, n_test : int
        Numbers of digits.
    accuracy_ntk, accuracy_rbf : float
        Fraction of the test digits classified correctly.
    eigenvalues : ndarray, shape (n_train,)
        Of K/N, largest first.
    seconds : dict of str: float
        The time of each step.
    """

    n_train: int
    n_test: int
    accuracy_ntk: float
    accuracy_rbf: float
    eigenvalues: np.ndarray
    seconds: dict[str, float]

    __repr__ = short


def run(path: str | os.PathLike[str], n_threads: int | None = None, seed: int = 0) -> Report:
    """Compare NTK regression with RBF kernel ridge on handwritten digits, and draw the spectrum and two components.

    Parameters
    ----------
    path : path-like
        Where to save the figure.
    n_threads : int, optional
        As in `ntkfast.ntk`.
    seed : int
        Of the split into training and test digits.

    Returns
    -------
    Report

    Raises
    ------
    ImportError
        scikit-learn or matplotlib is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.kernel_ridge import KernelRidge
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(f"the demo needs {error.name}: pip install 'ntkfast[all]'") from None

    figure = new_figure(11, 4.8)
    seconds: dict[str, float] = {}
    net = MLP(depth=4, activation="relu", weight_std=1.0, bias_std=0.1)
    with tqdm(total=N_STEPS, desc="demo", unit="step", disable=None) as bar:  # None: drawn on a terminal only

        @contextlib.contextmanager
        def step(name: str) -> Iterator[None]:
            bar.set_description(name)
            start = time.perf_counter()
            yield
            seconds[name] = time.perf_counter() - start
            bar.update()

        with step("load digits"):
            digits = load_digits()
            X, X_test, digit, digit_test = train_test_split(
                digits.data / 16, digits.target, test_size=0.25, stratify=digits.target, random_state=seed
            )
            targets = np.eye(10)[digit]
        with step("NTK of the training set"):
            K = ntk(net, X, n_threads=n_threads)
        with step("kernel regression"):
            weights = scipy.linalg.cho_solve(scipy.linalg.cho_factor(K), targets)
            predicted = ntk(net, X_test, X, n_threads=n_threads) @ weights
            accuracy_ntk = float(np.mean(predicted.argmax(axis=1) == digit_test))
        with step("RBF kernel ridge"):
            rbf = KernelRidge(kernel="rbf", gamma=1 / (X.shape[1] * X.var()), alpha=1e-3).fit(X, targets)
            accuracy_rbf = float(np.mean(rbf.predict(X_test).argmax(axis=1) == digit_test))
        with step("eigenvalues"):
            ascending, vectors = scipy.linalg.eigh(K / len(K))
            eigenvalues = ascending[::-1]
            functions = np.sqrt(len(K)) * vectors[:, ::-1]  # orthonormal in <f, g> = mean of f g over the data
        with step("figure"):
            left, right = figure.subplots(1, 2)
            plotting.plot_spectrum(eigenvalues, ax=left)
            plotting.plot_plane(functions[:, 1:3], digit, ax=right)
            figure.suptitle(f"Depth-4 ReLU NTK of {len(X)} handwritten digits")
            with replacing(path) as file:
                figure.savefig(file, format=Path(path).suffix[1:], dpi=130)
    return Report(len(X), len(X_test), accuracy_ntk, accuracy_rbf, eigenvalues, seconds)
