"""What a fooled picture must keep to, and when its attack ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foclip.errors import UsageError
from foclip.objective import check_kind
from foclip.perceptual.budget import Budget

#: Root mean squared change, in [0, 1] units, that automatic steps are fractions of where there is no budget: 35 dB.
TYPICAL_CHANGE = 10 ** (-35 / 20)
#: Where only other figures than PSNR are bounded, no change is larger than this, dB.
LEAST_PSNR = 20.0
#: Two passes round differently. A score this close to its target, as a part of the score's scale, has reached it.
TOLERANCE = 1e-5
#: The objective must fall by this within `Stopping.patience` steps.
LEAST_FALL = 1e-4
MaskKind = Literal["none", "visible"]


@dataclass(frozen=True)
class Constraint:
    """What a fooled picture must keep to. Its pixels always lie in [0, 1].

    Attributes:
        budgets: Limits on figures of fidelity, such as `Budget("psnr", 35)`. The written file never violates one.
        mask: "visible" moves pixels where a change is seen least (`foclip.perceptual.mask`); "none" moves all alike.

    Raises:
        UsageError: There is no such mask.
    """

    budgets: tuple[Budget, ...] = ()
    mask: MaskKind = "none"

    def __post_init__(self) -> None:
        check_kind("mask", self.mask, MaskKind)

    @property
    def psnr(self) -> float | None:
        """The least PSNR that is allowed, dB; None without any budget."""
        bounds = [budget.limit for budget in self.budgets if budget.metric == "psnr"]
        return max(bounds or [LEAST_PSNR]) if self.budgets else None

    @property
    def limit(self) -> float | None:
        """The largest mean squared change, in [0, 1] units, that `psnr` allows; None without any budget."""
        return None if self.psnr is None else 10 ** (-self.psnr / 10)

    @property
    def radius(self) -> float:
        """The root mean squared change that automatic steps are fractions of."""
        return TYPICAL_CHANGE if self.limit is None else math.sqrt(self.limit)

    @property
    def measured(self) -> tuple[Budget, ...]:
        """The budgets that must be measured on the file; PSNR is a sum of squares, and always known."""
        return tuple(budget for budget in self.budgets if budget.metric != "psnr")


@dataclass(frozen=True)
class Stopping:
    """When the attack on a picture ends: at whichever of these comes first.

    Attributes:
        steps: Most updates per picture; None for the method's own number (`Attack.default_steps`).
        target: The mean figure over the prompts that the 8-bit picture, read like a file, must reach.
        rise: The same, counted from the figure of the original.
        patience: The number of steps within which the objective must fall; None never ends an attack for that.

    Raises:
        UsageError: A value is out of its range, or both a target and a rise are given.
    """

    steps: int | None = None
    target: float | None = None
    rise: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 0:
            raise UsageError(f"steps: {self.steps} is negative")
        if self.target is not None and not 0 <= self.target < math.inf:
            raise UsageError(f"target: {self.target} is no score of at least 0")
        if self.rise is not None and not 0 < self.rise < math.inf:
            raise UsageError(f"rise: {self.rise} is no rise of the score above 0")
        if self.target is not None and self.rise is not None:
            raise UsageError("rise: give either a target or a rise, not both")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience: {self.patience} is no number of steps from 1 up")

    @property
    def has_target(self) -> bool:
        """Whether a score ends the attack."""
        return self.target is not None or self.rise is not None

    def reached(self, figure: float, first: float, scale: float) -> bool:
        """Whether a mean figure, `first` at the start, has reached the target, but for rounding at this scale."""
        target = self.target if self.rise is None else first + self.rise
        return target is not None and figure >= target - TOLERANCE * scale

    def stalled(self, losses: Sequence[float]) -> bool:
        """Whether the objective has not fallen by more than `LEAST_FALL` within the last `patience` steps."""
        if self.patience is None or len(losses) <= self.patience:
            return False
        return min(losses[-self.patience :]) > min(losses[: -self.patience]) - LEAST_FALL
