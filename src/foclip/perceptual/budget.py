"""Budgets: limits on how far a fooled picture may be from its original, by any figure of fidelity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.perceptual.fidelity import Comparison

#: What can be bounded: the values a limit may have, both ends excluded, and how the figure grows with a change's size.
#: FLIP takes colour differences to the power of 0.7; the exponents tell how far to pull back, not what is allowed.
BOUNDS: dict[str, tuple[float, float, float]] = {
    "psnr": (0, 130, 1),
    "ssim": (0, 1, 2),
    "linf": (0, 256, 1),
    "delta_e": (0, math.inf, 1),
    "delta_e99": (0, math.inf, 1),
    "flip": (0, 1, 0.7),
    "flip99": (0, 1, 0.7),
    "contrast": (0, math.inf, 1),
}
#: This part of every limit is left free, so that another order of summation never finds a file beyond the limit; and
#: of limits of FLIP so much, since the authors' program may give as much more than `foclip.perceptual.flip`.
TOLERANCE, FLIP_TOLERANCE = 1e-4, 1e-4


#: Budgets that have a name: a change that has to be searched for even beside the original, enlarged three times; and
#: one that few notice at FLIP's distance, but whose colours show in hair and fur from nearer, or enlarged.
NAMED = {"invisible": "contrast:0.425", "discreet": "flip99:0.2"}


@dataclass(frozen=True)
class Budget:
    """One figure of fidelity and its limit: at least, for PSNR and SSIM, and at most for the others.

    It holds on the whole picture and on the part that the model sees. Pictures too small for SSIM have none to keep to.

    Attributes:
        metric: Name of the figure in `foclip.perceptual.fidelity.Fidelity`.
        limit: The limit.

    Raises:
        UsageError: There is no such figure, or the limit is none of its values.
    """

    metric: str
    limit: float

    def __post_init__(self) -> None:
        if self.metric not in BOUNDS:
            raise UsageError(f"budget: {self.metric!r} is none of {', '.join(BOUNDS)}")
        low, high, _ = BOUNDS[self.metric]
        if not low < self.limit < high:
            raise UsageError(f"budget: {self.metric} of {self.limit:g} is not between {low:g} and {high:g}")

    def __str__(self) -> str:
        return f"{self.metric}:{self.limit:g}"

    def utilisation(self, value: float) -> float:
        """The share of the budget that a figure takes, about proportional to the change; above 1 it is violated."""
        if math.isnan(value):
            return 0.0
        if self.metric == "psnr":
            return float(10 ** ((self.limit - value) / 20))
        value, limit = (1 - value, 1 - self.limit) if self.metric == "ssim" else (value, self.limit)
        if self.metric in ("flip", "flip99"):
            limit = max(limit - FLIP_TOLERANCE, limit / 2)
        return float((max(value, 0) / (limit * (1 - TOLERANCE))) ** (1 / BOUNDS[self.metric][2]))


def parse(text: str) -> Budget:
    """`metric:limit`, as in ``flip99:0.2``, or a name in `NAMED`.

    Raises:
        UsageError: It is written otherwise, or is no budget.
    """
    metric, colon, limit = NAMED.get(text, text).partition(":")
    try:
        return Budget(metric, float(limit))
    except ValueError:
        missing = "" if colon else f": write {' or '.join(NAMED)}, or METRIC:LIMIT"
        raise UsageError(f"budget: {text!r}{missing or f': {limit!r} is no number'}, as in flip99:0.2") from None


def utilisation(budgets: Sequence[Budget], comparison: Comparison, region: tuple[slice, slice]) -> float:
    """The share of the scarcest budget that a picture takes; above 1, one is violated. The model sees `region`."""
    names = tuple(budget.metric for budget in budgets)
    parts = [comparison.figures(names), comparison.figures(names, region)]
    return max(budget.utilisation(part[budget.metric]) for part in parts for budget in budgets)
