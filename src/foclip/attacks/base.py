"""What an attack is: its settings, and how it moves a picture.

An attack adds `update`: how a picture moves, given the gradient of the objective or, for a
black-box attack, nothing but the values seen so far. `foclip.attacks.loop` drives every attack; one step is one
query of the score per picture (and one per view) in either case.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Protocol, get_args

from torch import Tensor

from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import Alignment, Objective
from foclip.perceptual.budget import Budget

#: Without a budget the automatic step is a fraction of this change (RMS, [0, 1] units): 35 dB.
TYPICAL_CHANGE = 10 ** (-35 / 20)

#: Highest PSNR that a change of an 8-bit picture can have: one level in one of 300 million values.
MOST_PSNR = 130.0
#: Where only other figures are bounded, no change is larger than this, dB.
LEAST_PSNR = 20.0

#: Steps that retouch at most, and pixels of a picture that is retouched: of more, a step takes seconds and gigabytes.
RETOUCHES, MOST_RETOUCHED = 30, 2**22

#: Pictures in flight at most.
MOST_LANES = 4096

Init = Literal["image", "noise"]
MaskKind = Literal["none", "visible"]
Precision = Literal["float32", "bfloat16"]


def check_lr(lr: float | str) -> None:
    """Refuse a learning rate that is neither "auto" nor a number above 0.

    Raises:
        UsageError: It is such a one.
    """
    if lr != "auto" and (isinstance(lr, str) or not 0 < lr < math.inf):
        raise UsageError(f"lr: {lr} is neither 'auto' nor a number above 0")


class View(Protocol):
    """A differentiable transformation of a picture that the objective sees beside the picture itself.

    Its `repr` must say all that it does: it is written into configurations,
    and unfinished work is found again by it. A frozen dataclass has such a one.
    """

    def __call__(self, picture: Tensor) -> Tensor:
        """The transformed picture.

        Args:
            picture: float (1, 3, H, W) in [0, 1].

        Returns:
            float (1, 3, any height, any width); what lies outside [0, 1] is clamped.
        """


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack on the score of pictures for prompts.

    Attributes:
        name: What the command line and `config` call it.
        uses_gradient: Whether `update` needs the gradient; a black-box attack does not.
        objective: What is minimised.
        steps: Updates per picture at most.
        target: Stop once the mean figure of the 8-bit picture over its prompts,
            through the model's own preprocessing, reaches this.
        rise: Stop once it is this much above that of the start, likewise.
        patience: Stop once the objective has not fallen within so many steps; None for never.
        min_psnr: Fidelity budget in dB that the result never violates; None for none.
        budgets: Further budgets, on any figure of fidelity, likewise.
        mask: "visible" moves pixels where it is seen least (`foclip.perceptual.mask`); "none" all alike.
        init: Start from the picture itself or from uniform noise of its size.
        seed: Seeds what is random, together with the picture's content.
        batch_size: Pictures in flight; None chooses by the score.
        precision: What the image tower computes in while the picture is on its way; the files are read in float32.
        compiled: Whether `torch.compile` makes the image tower faster meanwhile; where it cannot, a `CompileWarning`
            says so. On a GPU with CUDA graphs.
        views: With views, the objective gets the mean of the values of the
            picture and of its 8-bit views: the adaptive attack on a score or a
            detector that looks at transformed pictures too. `target` and the
            recorded scores stay those of the picture itself.

    Raises:
        UsageError: A value is out of its range, or a budget is set for a noise start.
    """

    name: ClassVar[str]
    uses_gradient: ClassVar[bool] = True

    objective: Objective = field(default_factory=Alignment)
    steps: int = 1000
    target: float | None = None
    rise: float | None = None
    patience: int | None = None
    min_psnr: float | None = None
    budgets: tuple[Budget, ...] = ()
    mask: MaskKind = "none"
    init: Init = "image"
    seed: int = 0
    batch_size: int | None = None
    precision: Precision = "float32"
    compiled: bool = False
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UsageError(f"steps: {self.steps} is negative")
        if self.batch_size is not None and not 1 <= self.batch_size <= MOST_LANES:
            raise UsageError(f"batch_size: {self.batch_size} is no number of pictures in flight from 1 to {MOST_LANES}")
        if self.target is not None and not 0 <= self.target < math.inf:
            raise UsageError(f"target: {self.target} is no score of at least 0")
        if self.rise is not None and not 0 < self.rise < math.inf:
            raise UsageError(f"rise: {self.rise} is no rise of the score above 0")
        if self.target is not None and self.rise is not None:
            raise UsageError("rise: give either a target or a rise, not both")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience: {self.patience} is no number of steps from 1 up")
        if self.min_psnr is not None and not 0 < self.min_psnr <= MOST_PSNR:
            raise UsageError(f"min_psnr: {self.min_psnr} is no budget in dB above 0, up to {MOST_PSNR:g}")
        if self.init not in get_args(Init):
            raise UsageError(f"init: {self.init!r} is none of {', '.join(get_args(Init))}")
        if self.precision not in get_args(Precision):
            raise UsageError(f"precision: {self.precision!r} is none of {', '.join(get_args(Precision))}")
        if self.mask not in get_args(MaskKind):
            raise UsageError(f"mask: {self.mask!r} is none of {', '.join(get_args(MaskKind))}")
        bounded = {"min_psnr": self.min_psnr is not None, "budget": self.budgets, "mask": self.mask != "none"}
        for name in [name for name, given in bounded.items() if given and self.init == "noise"]:
            raise UsageError(f"{name}: a start from noise has no original to stay close to; leave it out")

    def config(self) -> dict[str, Any]:
        """Every setting as plain JSON values, to write beside a result."""
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        as_text = {"objective": str(self.objective), "views": [repr(view) for view in self.views]}
        as_text |= {"budgets": [str(budget) for budget in self.budgets]}
        return {"attack": self.name} | settings | as_text

    @abstractmethod
    def update(self, state: AttackState, gradient: Tensor) -> None:
        """Move `state.pixels` in place.

        Args:
            state: The picture, its last value in `losses`.
            gradient: The objective's gradient (3, H, W), which may be
                overwritten; a mere 0 unless the attack `uses_gradient`.
        """

    @property
    def sums_gradients(self) -> bool:
        """Whether all moves are sums of gradients, made by `AttackState.move`: then the model's small space will do."""
        return False

    @property
    def budget(self) -> float | None:
        """Largest mean squared change in [0, 1] units that PSNR's budgets allow; None without any budget."""
        bounds = [budget.limit for budget in self.budgets if budget.metric == "psnr"] or [LEAST_PSNR] * bool(
            self.budgets
        )
        bounds += [] if self.min_psnr is None else [self.min_psnr]
        return 10 ** (-max(bounds) / 10) if bounds else None

    @property
    def measured(self) -> tuple[Budget, ...]:
        """Budgets that take a look at the picture; PSNR is a sum of squares, and always known."""
        return tuple(budget for budget in self.budgets if budget.metric != "psnr")

    def retouches(self, pixels: int) -> int:
        """Steps, the last of a run, that make the change of so many pixels less visible (`foclip.attacks.refine`).

        Those that a look can tell the gain of: with the mask, within budgets that are measured.
        """
        possible = self.mask == "visible" and self.measured and self.uses_gradient and pixels <= MOST_RETOUCHED
        return min(RETOUCHES, self.steps // 4) if possible else 0

    def goal(self, start: float) -> float | None:
        """Mean figure at which a picture that started at `start` is done; None for none."""
        return self.target if self.rise is None else start + self.rise

    def automatic_step(self, step: int, first: float, last: float) -> float:
        """How far a picture moves in this step, RMS in [0, 1] units; falls along a cosine over the attack's steps.

        Args:
            step: The step.
            first: The first step as a fraction of the change allowed.
            last: The last one.
        """
        change = TYPICAL_CHANGE if self.budget is None else math.sqrt(self.budget)
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return change * (last + (first - last) * fall)
