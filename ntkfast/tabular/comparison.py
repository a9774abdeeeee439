"""Models that the kernel is compared with, on the same split: ridge regression, RBF kernel ridge, a random forest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ntkfast.engine import threads
from ntkfast.learning.gaussian import GaussianProcess
from ntkfast.learning.ridge import Residuals
from ntkfast.plotting.axes import new_figure
from ntkfast.support.typing import Array
from ntkfast.tabular.scores import Predictions, as_columns, decided
from ntkfast.tabular.selection import select
from ntkfast.tabular.target import Target

SEARCHED = 600  # rows on which the RBF kernel's parameters are searched
WIDTHS = (0.0625, 0.25, 1.0, 4.0)  # γ times the variance of a point
N_TREES = 100


def load(compare: bool, figure: bool) -> None:
    """Import the estimators of scikit-learn that a fit uses, and matplotlib for its figure."""
    import ntkfast.sklearn  # noqa: F401

    if figure:
        new_figure(1, 1)

    if compare:
        import sklearn.ensemble
        import sklearn.linear_model
        import sklearn.metrics.pairwise  # noqa: F401


def ridge_regression(target: Target, X: Array, y: Any, X_new: Array, seed: int, n_threads: int | None) -> Predictions:
    """Linear ridge regression with its leave-one-out choice of α."""
    from sklearn.linear_model import RidgeCV

    start = time.perf_counter()
    Y = as_columns(target, y)
    model = RidgeCV(alphas=np.geomspace(1e-3, 1e5, 33)).fit(X, Y)
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    leverages = 1 / len(X) + np.square(U) @ (s**2 / (s**2 + model.alpha_))
    fitted = model.predict(X).reshape(Y.shape)
    left_out = decided(target, Y - Residuals(Y - fitted, np.maximum(1 - leverages, 1e-12)).left_out())
    held_out = decided(target, model.predict(X_new).reshape(len(X_new), -1))
    seconds = time.perf_counter() - start
    return Predictions("ridge", left_out, held_out, seconds, f"alpha {model.alpha_:.3g}")


def rbf_kernel_ridge(target: Target, X: Array, y: Any, X_new: Array, seed: int, n_threads: int | None) -> Predictions:
    """Kernel ridge regression with exp(-γ ‖x - y‖²): γ and α by leave-one-out errors of some rows.

    The solution is that of scikit-learn's KernelRidge; a `GaussianProcess` has its leave-one-out predictions too.
    """
    from sklearn.metrics.pairwise import rbf_kernel

    start = time.perf_counter()
    Y = as_columns(target, y)
    some = np.random.default_rng(seed).permutation(len(X))[:SEARCHED]
    found = []
    for width in WIDTHS:
        gamma = width / (float(X.var(axis=0).sum()) or 1.0)
        chosen = select(rbf_kernel(X[some], gamma=gamma), Y[some], None, n_threads)
        found.append((float(chosen.errors.min()), gamma, chosen.alpha))
    _, gamma, alpha = min(found)
    process = GaussianProcess(rbf_kernel(X, gamma=gamma), Y, noise=alpha, overwrite=True, n_threads=n_threads)
    left_out = decided(target, process.leave_one_out().mean)
    held_out = decided(target, process.mean(rbf_kernel(X_new, X, gamma=gamma)))
    seconds = time.perf_counter() - start
    return Predictions("RBF kernel ridge", left_out, held_out, seconds, f"gamma {gamma:.3g}, alpha {alpha:.3g}")


def random_forest(target: Target, X: Array, y: Any, X_new: Array, seed: int, n_threads: int | None) -> Predictions:
    """A forest, whose trees predict the rows that they have not seen."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    start = time.perf_counter()
    options = {"n_estimators": N_TREES, "oob_score": True, "random_state": seed}
    options["n_jobs"] = threads.resolve(n_threads)
    if target.classes is None:
        model = RandomForestRegressor(max_features=1 / 3, **options)
    else:
        model = RandomForestClassifier(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows that every tree has seen
        model.fit(X, y)
    if target.classes is None:
        left_out, held_out = model.oob_prediction_, model.predict(X_new)
    else:
        left_out, held_out = model.classes_[model.oob_decision_function_.argmax(axis=1)], model.predict(X_new)
    note = f"out of bag instead of leave-one-out, {N_TREES} trees"
    return Predictions("random forest", left_out, held_out, time.perf_counter() - start, note)


Model = Callable[[Target, Array, Any, Array, int, int | None], Predictions]
MODELS: dict[str, Model] = {
    "ridge": ridge_regression,
    "RBF kernel ridge": rbf_kernel_ridge,
    "random forest": random_forest,
}
