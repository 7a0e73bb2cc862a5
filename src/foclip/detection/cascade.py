"""Ensemble probes combined: logistic regression, small and with weights that can be read, and a cascade of it.

A cascade takes one look at a time, the one that tells most first, and the next only at pictures that are still in doubt
(a soft cascade: Bourdev and Brandt, CVPR 2005). What scores too low to have gained anything is not looked at at all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from foclip.detection.probes import Sensitivity, features, probes_of

#: Inverse strength of the L2 penalty on standardised inputs: a few hundred pictures carry no large weights.
PENALTY = 1.0
#: What parts the statistics of pictures beyond doubt from those of the others: more than any log-odds.
BEYOND_DOUBT = 1e4


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

    @property
    def probes(self) -> list[str]:
        """Names of the probes it needs."""
        return probes_of(self.inputs)

    def statistic(self, sensitivity: Sensitivity) -> float:
        """Log-odds that the picture was tampered with, as in the pictures it was fitted on."""
        values = features(sensitivity, self.inputs)
        terms = zip(values, self.mean, self.scale, self.weight, strict=True)
        return self.intercept + sum(weight * (value - mean) / scale for value, mean, scale, weight in terms)

    def evidence(self, sensitivity: Sensitivity) -> dict[str, float]:
        """The part of the log-odds that each probe adds."""
        parts = dict.fromkeys(self.probes, 0.0)
        values = features(sensitivity, self.inputs)
        for name, value, mean, scale, weight in zip(
            self.inputs, values, self.mean, self.scale, self.weight, strict=True
        ):
            parts[probes_of([name])[0]] += weight * (value - mean) / scale
        return parts


@dataclass(frozen=True)
class Cascade:
    """One probe after another, as long as there is doubt.

    The statistic is one number per picture and a fixed function of it: a picture about which doubt ended early lies
    below all that were looked at longer. Split-conformal p-values of it therefore bound the false alarms of the
    whole, however many probes a picture took.

    Attributes:
        worth: Level of the score (`Sensitivity.level`) below which nothing was gained, and nothing is looked at.
        steps: Log-odds by the first probe, by the first two, and so on up to all.
        doubts: From which of these log-odds the next probe is taken; one less than `steps`.
    """

    worth: float
    steps: list[Logistic]
    doubts: list[float]

    @property
    def probes(self) -> list[str]:
        """Names of the probes in their order."""
        return self.steps[-1].probes

    def taken(self, sensitivity: Sensitivity) -> int:
        """How many probes the picture takes, as far as can be told from those there are: a further one may be due."""
        if sensitivity.level < self.worth:
            return 0
        for count, (step, doubt) in enumerate(zip(self.steps, self.doubts, strict=False), start=1):
            if self.probes[count - 1] not in sensitivity.drifts or step.statistic(sensitivity) < doubt:
                return count
        return len(self.steps)

    def due(self, sensitivity: Sensitivity) -> str | None:
        """The probe that the picture needs next; None if it needs none."""
        taken = self.taken(sensitivity)
        return None if not taken or self.probes[taken - 1] in sensitivity.drifts else self.probes[taken - 1]

    def statistic(self, sensitivity: Sensitivity) -> float:
        """Log-odds by the probes taken, so much lower for every probe that was not needed that it orders pictures."""
        taken = self.taken(sensitivity)
        value = self.steps[taken - 1].statistic(sensitivity) if taken else sensitivity.level
        return value - BEYOND_DOUBT * (len(self.steps) - taken)

    def evidence(self, sensitivity: Sensitivity) -> dict[str, float]:
        """The part of the log-odds that each probe taken adds."""
        taken = self.taken(sensitivity)
        return self.steps[taken - 1].evidence(sensitivity) if taken else {}


def fit(
    clean: Sequence[Sensitivity],
    fooled: Sequence[Sensitivity],
    inputs: Sequence[str],
    kinds: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Logistic:
    """Fit on pictures whose truth is known; clean and fooled ones weigh the same, and so does each kind of either.

    Args:
        clean: Sensitivities of untouched pictures.
        fooled: Those of fooled pictures.
        inputs: Names as in `features`.
        kinds: The kind of each clean picture, and of each fooled one; all are of one kind unless given.
    """
    table = np.array([features(sensitivity, inputs) for sensitivity in (*clean, *fooled)])
    clean_kinds, fooled_kinds = kinds or ([""] * len(clean), [""] * len(fooled))
    weights = np.array([*_weights(clean_kinds), *_weights(fooled_kinds)])
    scaler = StandardScaler().fit(table)
    model = LogisticRegression(C=PENALTY, max_iter=5000)
    model.fit(scaler.transform(table), np.arange(len(table)) >= len(clean), sample_weight=weights * len(table) / 2)
    return Logistic(
        list(inputs), scaler.mean_.tolist(), scaler.scale_.tolist(), model.coef_[0].tolist(), float(model.intercept_[0])
    )


def _weights(kinds: Sequence[str]) -> list[float]:
    """A weight for each picture, 1 in all, so that every kind weighs the same."""
    counts = Counter(kinds)
    return [1 / (len(counts) * counts[kind]) for kind in kinds]
