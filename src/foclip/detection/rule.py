r"""The paper's rule: two thresholds on grayscale sensitivity decide "tampered".

FoCLIP (arXiv 2511.06947) thresholds the sensitivity to grayscale with τ₁ and τ₂ (91 %
accuracy). Where it leaves open what the two are compared with, we chose

.. math:: \text{tampered} \iff \text{drop} \ge \tau_1 \ \text{and} \ \text{drift} \ge \tau_2

The drop is the paper's quantity, score lost in gray. It looks at the picture
along the prompts only, so a clean photo that barely matches its prompts can lose a
large share of little. The drift looks at the whole embedding and needs no prompt: a
picture whose score fell because its meaning hangs on colour moves
less than one whose perturbation vanished. Asking for both keeps false alarms low.
Without prompts the rule is drift ≥ τ₂ alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foclip.detection.probes import Sensitivity
from foclip.errors import UsageError

Floats = npt.NDArray[np.float64]

#: Thresholds tried by default, on each axis.
GRID = np.round(np.arange(0.02, 1.0, 0.02), 2)


@dataclass(frozen=True)
class TwoThresholds:
    """The paper's rule as one number: tampered where the `statistic` is at least 1.

    Attributes:
        tau1: Threshold on the grayscale drop, above 0.
        tau2: Threshold on the grayscale drift, above 0.

    Raises:
        UsageError: A threshold is not in (0, 2].
    """

    tau1: float
    tau2: float

    def __post_init__(self) -> None:
        for name, value in (("tau1", self.tau1), ("tau2", self.tau2)):
            if not 0 < value <= 2:
                raise UsageError(f"{name}: {value} is no threshold in (0, 2]")

    @property
    def inputs(self) -> list[str]:
        """Names as in `features`."""
        return ["drop_gray", "drift_gray"]

    def statistic(self, sensitivity: Sensitivity) -> float:
        """min(drop / τ₁, drift / τ₂), or drift / τ₂ without prompts; at least 1 means tampered."""
        moved = sensitivity.drifts["gray"] / self.tau2
        return min(sensitivity.drops["gray"] / self.tau1, moved) if sensitivity.drops else moved


@dataclass(frozen=True)
class Sweep:
    """Accuracy of the rule over a grid of thresholds.

    Attributes:
        tau1: (N,) thresholds on the drop.
        tau2: (M,) thresholds on the drift.
        accuracy: (N, M) balanced accuracy.
    """

    tau1: Floats
    tau2: Floats
    accuracy: Floats

    def best(self) -> TwoThresholds:
        """The middle of the best thresholds: as far as possible from where accuracy falls."""
        rows, columns = np.nonzero(self.accuracy >= self.accuracy.max() - 1e-12)
        center = np.array([np.median(rows), np.median(columns)])
        nearest = np.argmin(((np.stack([rows, columns], axis=1) - center) ** 2).sum(axis=1))
        return TwoThresholds(float(self.tau1[rows[nearest]]), float(self.tau2[columns[nearest]]))


def sweep(
    clean: Sequence[Sensitivity], fooled: Sequence[Sensitivity], tau1: Floats = GRID, tau2: Floats = GRID
) -> Sweep:
    """Balanced accuracy of the rule on pictures whose truth is known, for every τ₁ × τ₂.

    Args:
        clean: Sensitivities of untouched pictures, measured with prompts.
        fooled: Those of fooled pictures.
        tau1: Thresholds on the drop.
        tau2: Thresholds on the drift.
    """
    both = [*clean, *fooled]
    drops = np.array([s.drops["gray"] for s in both])
    drifts = np.array([s.drifts["gray"] for s in both])
    tampered = np.arange(len(both)) >= len(clean)
    flagged = (drops[:, None, None] >= tau1[None, :, None]) & (drifts[:, None, None] >= tau2[None, None, :])
    caught, alarms = flagged[tampered].mean(axis=0), flagged[~tampered].mean(axis=0)
    return Sweep(tau1, tau2, (caught + 1 - alarms) / 2)
