"""What an attack method is: how it moves a picture, given the gradient of the objective or only its values so far.

`foclip.attacks.loop` drives every method. One step is one query of the score per picture, and one per view.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import FeatureAlignment, Objective, check_kind

Init = Literal["image", "noise"]
#: A differentiable transformation of a picture that the objective sees beside the picture itself: from float
#: (1, 3, H, W) in [0, 1] to (1, 3, any height, any width); values outside [0, 1] are clamped. Its `repr`, as that of a
#: frozen dataclass, must say all that it does: unfinished work is found again by it.
View = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A method that raises the score of pictures for prompts.

    Attributes:
        objective: What is minimised.
        init: Start from the picture itself or from uniform noise of its size.
        seed: Seeds what is random, together with the picture's content.
        views: With views, the objective gets the mean of the raw scores of the picture and of its 8-bit views: the
            adaptive attack on a detector that looks at transformed pictures too. The target and the recorded scores
            stay those of the picture itself.

    Raises:
        UsageError: A value, here or of a method's own, is out of its range.
    """

    name: ClassVar[str]  #: What the command line and `AttackPlan.config` call it.
    default_steps: ClassVar[int] = 1000  #: Updates per picture unless a number is given.
    uses_gradient: ClassVar[bool] = True  #: Whether `update` needs the gradient; that of a black-box method does not.
    needs_budget: ClassVar[bool] = False  #: Whether it works only within a budget.

    objective: Objective = field(default_factory=FeatureAlignment)
    init: Init = "image"
    seed: int = 0
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        check_kind("init", self.init, Init)

    @abstractmethod
    def update(self, state: AttackState, gradient: Tensor) -> None:
        """Move `state.space.pixels` in place; the objective's last value is the last of `state.losses`.

        Its gradient (3, h, w) may be overwritten; it is 0 unless the method `uses_gradient`.
        """

    @property
    def sums_gradients(self) -> bool:
        """Whether every move is a sum of gradients: then a picture can move at the model's resolution."""
        return False

    def automatic_step(self, state: AttackState, first: float, last: float) -> float:
        """How far a picture moves in this step, RMS in [0, 1] units: along a cosine from `first` to `last`.

        Both are fractions of the change that the budget allows; where budgets are measured, of what they have left.
        """
        fall = 0.5 * (1 + math.cos(math.pi * state.step / state.steps))
        length = state.constraint.radius * (last + (first - last) * fall)
        return length * state.radius_fraction if state.constraint.measured else length


def check_lr(lr: float | str) -> None:
    """Refuse, with a `UsageError`, a learning rate that is neither "auto" nor a number above 0."""
    if lr != "auto" and (isinstance(lr, str) or not 0 < lr < math.inf):
        raise UsageError(f"lr: {lr} is neither 'auto' nor a number above 0")
