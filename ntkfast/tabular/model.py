"""The model of a table: how columns become features, the estimator, how its outputs become values of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast.support.saved import Saved, checked
from ntkfast.tabular import columns
from ntkfast.tabular.columns import Encoder, NumberColumn, TextColumn
from ntkfast.tabular.table import Column, Table
from ntkfast.tabular.target import Target

if TYPE_CHECKING:
    from ntkfast.sklearn import NTKClassifier, NTKRegressor

KINDS: Any = (NumberColumn, TextColumn)


@dataclass(frozen=True)
class TableModel(Saved):
    """A fitted model of one column of a table, given the others.

    Attributes
    ----------
    encoders : tuple of Encoder
        In the order of the features.
    target : Target
    estimator : NTKRegressor or NTKClassifier
    std_scale : float
        s: the deviation of a new value is s times that of the Gaussian process, with its noise. Leave-one-out errors
        then have mean square 1 relative to their deviations.
    dropped : tuple of str
        Columns of the table that are not used.
    """

    encoders: tuple[Encoder, ...]
    target: Target
    estimator: NTKRegressor | NTKClassifier
    std_scale: float
    dropped: tuple[str, ...]

    def __post_init__(self) -> None:
        from ntkfast.sklearn import NTKClassifier, NTKRegressor  # takes seconds to import

        for encoder in checked(self.encoders, tuple, "encoders"):
            checked(encoder, KINDS, "encoders")
        classes = checked(self.target, Target, "target").classes
        checked(self.estimator, NTKRegressor if classes is None else NTKClassifier, "estimator")
        checked(self.std_scale, float, "std_scale")
        checked(self.dropped, tuple, "dropped")
        width = sum(encoder.width for encoder in self.encoders)
        if width != self.estimator.n_features_in_:
            raise ValueError(f"encoders: expected {self.estimator.n_features_in_} features, got {width}")

    @property
    def text(self) -> tuple[str, ...]:
        """The columns to be read as text."""
        return tuple(encoder.name for encoder in self.encoders if encoder.as_text)

    @property
    def n_points(self) -> int:
        """The number of rows that the model was fitted to."""
        return len(self.estimator.X_fit_)

    def match(self, table: Table) -> None:
        """Raise unless the columns of a table are those that the model was fitted to."""
        wanted = [encoder.name for encoder in self.encoders]
        columns.match(wanted, table.names, "the table that the model was fitted to", (self.target.name, *self.dropped))

    def predict(self, table: Table, std: bool = False) -> dict[str, Column]:
        """Predicted columns: the target; of numbers, its deviation on request; of classes, their probabilities."""
        X = columns.encode(self.encoders, table)
        name, classes = self.target.name, self.target.classes
        if classes is not None:
            probabilities = self.estimator.predict_proba(X)
            chosen = self.estimator.classes_[probabilities.argmax(axis=1)]
            return {name: self.target.decode(chosen)} | {
                f"{name}={classes[k]}": probabilities[:, place] for place, k in enumerate(self.estimator.classes_)
            }
        if not std:
            return {name: self.target.decode(self.estimator.predict(X))}
        mean, deviation = self.estimator.predict(X, return_std=True)
        total = self.std_scale * np.sqrt(deviation**2 + self.estimator.alpha_)
        return {name: self.target.decode(mean), f"{name}_std": self.target.scale * total}
