"""Several sensitivities combined by logistic regression: small, and its weights can be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from foclip.detection.sensitivity import Sensitivity, features

#: Inverse strength of the L2 penalty on standardised inputs: a few hundred pictures carry no large weights.
PENALTY = 0.3


@dataclass(frozen=True)
class Logistic:
    """Log-odds of "tampered": intercept + Σ weight · (input - mean) / scale.

    Attributes:
        inputs: Names as in `features` (`drop_gray`, `drift_blur`, …).
        mean: Mean of each input over the pictures it was fitted on.
        scale: Standard deviation of each.
        weight: Weight of each standardised input.
        intercept: Constant.
    """

    inputs: list[str]
    mean: list[float]
    scale: list[float]
    weight: list[float]
    intercept: float

    def statistic(self, sensitivity: Sensitivity) -> float:
        """Log-odds that the picture was tampered with, as in the pictures it was fitted on."""
        values = features(sensitivity, self.inputs)
        terms = zip(values, self.mean, self.scale, self.weight, strict=True)
        return self.intercept + sum(weight * (value - mean) / scale for value, mean, scale, weight in terms)


def fit(clean: Sequence[Sensitivity], fooled: Sequence[Sensitivity], inputs: Sequence[str]) -> Logistic:
    """Fit on pictures whose truth is known; both kinds weigh the same.

    Args:
        clean: Sensitivities of untouched pictures.
        fooled: Those of fooled pictures.
        inputs: Names as in `features`.
    """
    table = np.array([features(sensitivity, inputs) for sensitivity in (*clean, *fooled)])
    scaler = StandardScaler().fit(table)
    model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000)
    model.fit(scaler.transform(table), np.arange(len(table)) >= len(clean))
    return Logistic(
        list(inputs), scaler.mean_.tolist(), scaler.scale_.tolist(), model.coef_[0].tolist(), float(model.intercept_[0])
    )
