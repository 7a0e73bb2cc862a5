"""What a fooled picture must keep to: fidelity budgets, and a mask that says where it may move."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from foclip.errors import UsageError
from foclip.perceptual.budget import Budget

#: Root mean squared change, in [0, 1] units, that automatic steps are fractions of where there is no budget: 35 dB.
TYPICAL_CHANGE = 10 ** (-35 / 20)
#: Where only other figures than PSNR are bounded, no change is larger than this, dB.
LEAST_PSNR = 20.0

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
        if self.mask not in get_args(MaskKind):
            raise UsageError(f"mask: {self.mask!r} is none of {', '.join(get_args(MaskKind))}")

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
