"""
Small tables: against an RBF kernel, a forest and boosting
==========================================================

Three-fold cross-validation on two of scikit-learn's own tables. The network has one hidden layer for both, and its
ridge is chosen by leave-one-out errors within each fold; the RBF kernel's width and ridge by grid search; forests and
boosting have scikit-learn's defaults. ``examples/small_tables.py`` of the repository has a longer comparison.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import ntkfast as nf

grid = {"gamma": np.geomspace(1e-3, 0.1, 4)}
X, y = load_diabetes(return_X_y=True)
diabetes = X, (y - y.mean()) / y.std()
tables = {
    "diabetes, R²": (
        diabetes,
        {
            "NTK": nf.sklearn.NTKRegressor(depth=2, alpha="loo"),
            "RBF kernel, tuned": GridSearchCV(KernelRidge(kernel="rbf"), {**grid, "alpha": np.geomspace(0.01, 10, 4)}),
            "random forest": RandomForestRegressor(random_state=0),
            "gradient boosting": HistGradientBoostingRegressor(random_state=0),
        },
    ),
    "breast cancer, accuracy": (
        load_breast_cancer(return_X_y=True),
        {
            "NTK": nf.sklearn.NTKClassifier(depth=2, alpha="loo"),
            "RBF kernel, tuned": GridSearchCV(SVC(), {**grid, "C": np.geomspace(0.1, 100, 4)}),
            "random forest": RandomForestClassifier(random_state=0),
            "gradient boosting": HistGradientBoostingClassifier(random_state=0),
        },
    ),
}

# %%
# Scores on the rows that were left out, and the time for all three folds.

fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, (title, ((X, y), models)) in zip(axes, tables.items(), strict=True):
    scores = []
    for name, model in models.items():
        start = time.perf_counter()
        scores.append(cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=3))
        print(f"{title}: {name:<18} {scores[-1].mean():.3f}  {time.perf_counter() - start:5.1f} s")
    for name, score in zip(models, scores, strict=True):
        color = "C1" if name == "NTK" else "0.5"
        ax.plot(score, [name] * 3, ".", color=color)
        ax.plot(score.mean(), [name], "|", color=color, markersize=26, markeredgewidth=3)
    ax.invert_yaxis()
    ax.margins(y=0.2)
    ax.set(title=title, xlabel="dots: folds; bar: their mean")
    ax.grid(alpha=0.3)
