"""When the attack on a picture ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foclip.errors import UsageError

#: Two passes round differently. A score this close to its target, as a part of the score's scale, has reached it.
TOLERANCE = 1e-5
#: The objective must fall by this within `patience` steps.
LEAST_FALL = 1e-4


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
        """Whether a mean figure has reached the target, but for rounding.

        Args:
            figure: The figure.
            first: That of the picture at the start.
            scale: The score's scale.
        """
        target = self.target if self.rise is None else first + self.rise
        return target is not None and figure >= target - TOLERANCE * scale

    def stalled(self, losses: Sequence[float]) -> bool:
        """Whether the objective has not fallen by more than `LEAST_FALL` within the last `patience` steps."""
        if self.patience is None or len(losses) <= self.patience:
            return False
        return min(losses[-self.patience :]) > min(losses[: -self.patience]) - LEAST_FALL
