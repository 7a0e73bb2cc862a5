"""Several probes combined: a logistic regression with weights that can be read, and a cascade of it.

The probe that tells most comes first, the next one only for pictures that are still in doubt (a soft cascade: Bourdev
and Brandt, CVPR 2005). A picture whose score is too low to have gained anything is not probed at all.
"""

from dataclasses import dataclass
from typing import ClassVar

from foclip.detection.conformal import Statistic
from foclip.detection.features import FEATURES, Sensitivity, feature_values, split_name
from foclip.detection.probes import SOME_ROWS
from foclip.errors import UsageError

#: Parts the statistics of pictures that left the cascade early from those of the others: more than any log-odds.
BEYOND_DOUBT = 1e4


@dataclass(frozen=True)
class Logistic:
    """Log-odds of "tampered": intercept + Σ weight · (input - mean) / scale.

    A `UsageError` says if an input is no feature, numbers are missing, or a scale is not above 0.
    """

    inputs: list[str]  #: Names of features (`foclip.detection.features`): `heading_webp`, `log_drift_shift`, …
    mean: list[float]  #: Mean of each input over the pictures it was fitted on.
    scale: list[float]  #: Standard deviation of each, above 0.
    weight: list[float]  #: Weight of each standardised input.
    intercept: float  #: Constant.

    def __post_init__(self) -> None:
        if unknown := [name for name in self.inputs if split_name(name)[0] not in FEATURES]:
            raise UsageError(f"unknown inputs {unknown[:3]}")
        if not self.inputs or {len(self.mean), len(self.scale), len(self.weight)} != {len(self.inputs)}:
            raise UsageError("as many means, scales and weights as inputs are needed, and at least one")
        if min(self.scale) <= 0:
            raise UsageError("a scale is not above 0")

    @property
    def probes(self) -> list[str]:
        """Names of the probes it needs."""
        return list(dict.fromkeys(split_name(name)[1] for name in self.inputs))

    def log_odds(self, measured: Sensitivity) -> float:
        """Log-odds that the picture was tampered with, as in the pictures it was fitted on."""
        return self.intercept + sum(self._terms(measured))

    def evidence(self, measured: Sensitivity) -> dict[str, float]:
        """The part of the log-odds that each probe adds."""
        parts = dict.fromkeys(self.probes, 0.0)
        for name, term in zip(self.inputs, self._terms(measured), strict=True):
            parts[split_name(name)[1]] += term
        return parts

    def _terms(self, measured: Sensitivity) -> list[float]:
        terms = zip(feature_values(measured, self.inputs), self.mean, self.scale, self.weight, strict=True)
        return [weight * (value - mean) / scale for value, mean, scale, weight in terms]


@dataclass(frozen=True)
class Cascade(Statistic):
    """One probe after another, as long as there is doubt.

    The statistic is one number per picture: one that left early lies below all that took more probes. Split-conformal
    p-values of it therefore bound the false alarms of the whole, however many probes a picture took.
    A `UsageError` says if the numbers of steps, thresholds and probes do not fit together.
    """

    skip_below: float  #: Normalised score (`Sensitivity.normalised_score`) below which no probe is taken.
    steps: list[Logistic]  #: Log-odds by the first probe, by the first two, and so on up to all.
    exit_thresholds: list[float]  #: From which of these log-odds the next probe is taken; one less than `steps`.
    rows: ClassVar[int] = SOME_ROWS

    def __post_init__(self) -> None:
        if not self.steps or len(self.exit_thresholds) != len(self.steps) - 1:
            raise UsageError("a cascade needs one exit threshold less than steps")
        if any(step.probes != self.probes[:count] for count, step in enumerate(self.steps, start=1)):
            raise UsageError("every step of a cascade takes one probe more than the one before")

    @property
    def probes(self) -> list[str]:
        return self.steps[-1].probes

    def taken(self, measured: Sensitivity) -> int:
        """How many probes the picture takes, as far as the probes so far can tell: a further one may be needed."""
        if measured.normalised_score < self.skip_below:
            return 0
        stages = zip(self.probes, self.steps, self.exit_thresholds, strict=False)
        for count, (probe, step, doubt) in enumerate(stages, start=1):
            if probe not in measured.drifts or step.log_odds(measured) < doubt:
                return count
        return len(self.steps)

    def next_probes(self, measured: Sensitivity) -> tuple[str, ...]:
        taken = self.taken(measured)
        return () if not taken or self.probes[taken - 1] in measured.drifts else (self.probes[taken - 1],)

    def value(self, measured: Sensitivity) -> float:
        """Log-odds by the probes taken, so much lower for every probe that was not needed that it orders pictures."""
        taken = self.taken(measured)
        value = self.steps[taken - 1].log_odds(measured) if taken else measured.normalised_score
        return value - BEYOND_DOUBT * (len(self.steps) - taken)

    def evidence(self, measured: Sensitivity) -> dict[str, float]:
        taken = self.taken(measured)
        return self.steps[taken - 1].evidence(measured) if taken else {}
