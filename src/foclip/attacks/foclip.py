"""FoCLIP (arXiv 2511.06947): stochastic gradient descent with momentum on the pixels.

The paper runs 1,000 steps with learning rate 7 and momentum 0.5 on ViT-L/14 at
336 px. Gradients of other encoders have other sizes, so by default the step
size follows the gradient: see `FoCLIP.lr`.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foclip.attacks.base import Attack, Trajectory
from foclip.errors import UsageError
from foclip.objective import Alignment, Balance, Objective, PixelGuard

#: Without a budget the automatic step is a fraction of this change (RMS, [0, 1] units): 35 dB.
TYPICAL_CHANGE = 10 ** (-35 / 20)
#: First and last automatic step as fractions of the change allowed.
FIRST_STEP, LAST_STEP = 0.1, 0.002


def objective(
    alpha: float = 1.0,
    beta: float = 1.0,
    balance: Literal["variance", "kl"] = "variance",
    guard: Literal["range", "l2"] = "range",
) -> Objective:
    """The paper's objective: alignment + α · balance + β · guard.

    Raises:
        UsageError: A weight is negative or not finite.
    """
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not 0 <= weight < math.inf:
            raise UsageError(f"{name}: {weight} is no weight of at least 0")
    return Alignment() + alpha * Balance(balance) + beta * PixelGuard(guard)


@dataclass(frozen=True, kw_only=True)
class FoCLIP(Attack):
    r"""SGD with momentum on pixels.

    .. math:: v \leftarrow \mu v + g, \qquad x \leftarrow x - \eta v

    Attributes:
        objective: The paper's, with weights of 1, unless given.
        lr: A number is the step size :math:`\eta`, taken literally. ``"auto"``
            divides each gradient by its root mean square and lets :math:`\eta`
            fall along a cosine from 10 % to 0.2 % of the change the budget
            allows (35 dB without one), so it suits any encoder and size.
        momentum: :math:`\mu`, in [0, 1).
    """

    name: ClassVar[str] = "foclip"

    objective: Objective = field(default_factory=objective)
    lr: float | Literal["auto"] = "auto"
    momentum: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr != "auto" and not 0 < self.lr < math.inf:
            raise UsageError(f"lr: {self.lr} is neither 'auto' nor a number above 0")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: {self.momentum} is not in [0, 1)")

    def update(self, trajectory: Trajectory, gradient: Tensor) -> None:
        velocity = trajectory.buffer("velocity").mul_(self.momentum)
        if self.lr == "auto":
            inverse_rms = math.sqrt(gradient.numel()) / torch.linalg.vector_norm(gradient).clamp(min=1e-30)
            velocity.addcmul_(gradient, inverse_rms)
            trajectory.pixels.add_(velocity, alpha=-automatic_step(self, trajectory.step))
        else:
            velocity.add_(gradient)
            trajectory.pixels.add_(velocity, alpha=-self.lr)


def automatic_step(attack: Attack, step: int) -> float:
    """How far a picture moves in this step, RMS in [0, 1] units; falls along a cosine over the attack's steps."""
    change = TYPICAL_CHANGE if attack.budget is None else math.sqrt(attack.budget)
    fall = 0.5 * (1 + math.cos(math.pi * step / attack.steps))
    return change * (LAST_STEP + (FIRST_STEP - LAST_STEP) * fall)
