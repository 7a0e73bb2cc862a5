r"""The paper's rule: two thresholds on grayscale sensitivity decide "tampered".

FoCLIP (arXiv 2511.06947) thresholds the sensitivity to grayscale with τ₁ and τ₂ (91 % accuracy). Where it leaves open
what the two are compared with, we chose

.. math:: \text{tampered} \iff \text{drop} \ge \tau_1 \ \text{and} \ \text{drift} \ge \tau_2

The drop is the paper's quantity, score lost in gray: a clean photo that barely matches its prompts can lose a large
share of little. The drift sees the whole embedding: a picture whose score fell because its meaning hangs on colour
moves less than one whose perturbation vanished. Asking for both keeps false alarms low. Without prompts, drift alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from foclip.detection.conformal import Statistic
from foclip.detection.features import Sensitivity
from foclip.detection.probes import ROWS
from foclip.errors import UsageError

Floats = npt.NDArray[np.float64]

#: Thresholds tried by default, on each axis.
GRID = np.round(np.arange(0.02, 1.0, 0.02), 2)


class _GrayThresholds(Statistic):
    """Both forms of the rule take one probe, the picture in gray, and refuse thresholds outside (0, 2]."""

    rows: ClassVar[int] = ROWS
    needs_colour: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= 2:
                raise UsageError(f"{name}: {value} is no threshold in (0, 2]")

    @property
    def probes(self) -> list[str]:
        return ["gray"]

    def next_probes(self, measured: Sensitivity) -> tuple[str, ...]:
        return () if "gray" in measured.drifts else ("gray",)

    def evidence(self, measured: Sensitivity) -> dict[str, float]:
        return {"gray": measured.drifts["gray"]}


@dataclass(frozen=True)
class TwoThresholds(_GrayThresholds):
    """The paper's rule as one number: tampered where it is at least 1."""

    tau1: float  #: Threshold on the grayscale drop, in (0, 2].
    tau2: float  #: Threshold on the grayscale drift, in (0, 2].
    threshold: ClassVar[float | None] = 1.0

    def value(self, measured: Sensitivity) -> float:
        return self.ratio(measured.drops["gray"], measured.drifts["gray"])

    def ratio(self, drop: float, drift: float) -> float:
        """min(drop / τ₁, drift / τ₂)."""
        return min(drop / self.tau1, drift / self.tau2)


@dataclass(frozen=True)
class DriftThreshold(_GrayThresholds):
    """What is left of the rule without prompts: drift / τ₂, with τ₂ in (0, 2]. Its p-value decides."""

    tau2: float

    def value(self, measured: Sensitivity) -> float:
        return measured.drifts["gray"] / self.tau2


@dataclass(frozen=True)
class Sweep:
    """Accuracy of the rule over a grid of thresholds."""

    tau1: Floats  #: (N,) thresholds on the drop.
    tau2: Floats  #: (M,) thresholds on the drift.
    accuracy: Floats  #: (N, M) balanced accuracy.

    def best(self) -> TwoThresholds:
        """The middle of the best thresholds: as far as possible from where accuracy falls."""
        rows, columns = np.nonzero(self.accuracy >= self.accuracy.max() - 1e-12)
        center = np.array([np.median(rows), np.median(columns)])
        nearest = np.argmin(((np.stack([rows, columns], axis=1) - center) ** 2).sum(axis=1))
        return TwoThresholds(float(self.tau1[rows[nearest]]), float(self.tau2[columns[nearest]]))


def in_gray(measured: Sequence[Sensitivity]) -> Floats:
    """Drop and drift in gray of pictures measured with prompts, (N, 2)."""
    return np.array([(each.drops["gray"], each.drifts["gray"]) for each in measured]).reshape(-1, 2)


def sweep(clean: Floats, fooled: Floats, tau1: Floats = GRID, tau2: Floats = GRID) -> Sweep:
    """Balanced accuracy for every τ₁ × τ₂ on clean and fooled pictures, given their drops and drifts in gray (N, 2)."""
    drops, drifts = np.concatenate([clean, fooled]).T
    tampered = np.arange(len(drops)) >= len(clean)
    flagged = (drops[:, None, None] >= tau1[None, :, None]) & (drifts[:, None, None] >= tau2[None, None, :])
    caught, alarms = flagged[tampered].mean(axis=0), flagged[~tampered].mean(axis=0)
    return Sweep(tau1, tau2, (caught + 1 - alarms) / 2)
