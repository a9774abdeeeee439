"""The table of the README: kernels and forests on scikit-learn's own tables, by five-fold cross-validation.

Every model is tuned on the training folds alone: the RBF kernel by an inner grid search over its width and ridge, the
ridge of the NTK by leave-one-out; forests and boosting have scikit-learn's defaults.

    python examples/small_tables.py
"""

import time

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import ntkfast as nf


def standardised(model):
    return make_pipeline(StandardScaler(), model)


def centred(model):
    return TransformedTargetRegressor(standardised(model), transformer=StandardScaler())


def regressors(d):
    rbf = GridSearchCV(
        KernelRidge(kernel="rbf"), {"gamma": np.array([0.03, 0.1, 0.3, 1]) / d, "alpha": [0.01, 0.1, 1, 10]}
    )
    return {
        "NTK": centred(nf.sklearn.NTKRegressor(depth=2, bias_std=0.1, alpha="loo")),
        "RBF kernel, tuned": centred(rbf),
        "random forest": RandomForestRegressor(random_state=0),
        "gradient boosting": HistGradientBoostingRegressor(random_state=0),
    }


def classifiers(d):
    rbf = GridSearchCV(SVC(), {"gamma": np.array([0.03, 0.1, 0.3, 1]) / d, "C": [1, 10, 100]})
    return {
        "NTK": standardised(nf.sklearn.NTKClassifier(depth=2, bias_std=0.1, alpha="loo")),
        "RBF kernel, tuned": standardised(rbf),
        "random forest": RandomForestClassifier(random_state=0),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }


def main():
    sets = {
        "diabetes (R²)": (load_diabetes, regressors, KFold),
        "breast cancer": (load_breast_cancer, classifiers, StratifiedKFold),
        "digits": (load_digits, classifiers, StratifiedKFold),
    }
    for name, (load, models, folds) in sets.items():
        X, y = load(return_X_y=True)
        for label, model in models(X.shape[1]).items():
            start = time.perf_counter()
            scores = cross_val_score(model, X, y, cv=folds(5, shuffle=True, random_state=0))
            print(
                f"{name:14} {label:18} {scores.mean():.3f} ± {scores.std():.3f}  {time.perf_counter() - start:5.1f} s"
            )


if __name__ == "__main__":
    main()
