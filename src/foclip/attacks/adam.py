"""The SGD variant of CLIPMasterPrints (arXiv 2307.03798): Adam on the pixels, from noise.

Its authors run 1,000 steps of Adam (Kingma and Ba 2015, arXiv 1412.6980) with
learning rate 0.1 on ViT-L/14 at 336 px, for the prompt that scores lowest.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foclip.attacks.base import Attack, check_lr
from foclip.attacks.state import AttackState
from foclip.objective import Lowest, Objective

#: The authors' learning rate, in [0, 1] units.
LEARNING_RATE = 0.1
#: First and last automatic step as fractions of the change that a budget allows.
FIRST_STEP, LAST_STEP = 0.1, 0.002
#: Adam's own decay rates of the two moments, and what keeps the division finite.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class Adam(Attack):
    r"""Adam on pixels.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2

    .. math:: x \leftarrow x - \eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Attributes:
        lr: A number is the step size :math:`\eta`, taken literally. ``"auto"``
            is the authors' 0.1 without a budget. Adam moves every pixel by about
            :math:`\eta`, and 0.1 is 20 dB: within a budget ``"auto"`` therefore
            falls along a cosine from 10 % to 0.2 % of the change that is allowed.
        init: The authors start from noise; a budget needs ``"image"``.
    """

    name: ClassVar[str] = "adam"

    objective: Objective = field(default_factory=Lowest)
    init: Literal["image", "noise"] = "noise"
    lr: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lr(self.lr)

    def update(self, state: AttackState, gradient: Tensor) -> None:
        t = state.step + 1
        first = state.buffer("first moment").mul_(BETA1).add_(gradient, alpha=1 - BETA1)
        second = state.buffer("second moment").mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = torch.div(second, 1 - BETA2**t, out=state.space.scratch).sqrt_().add_(EPSILON)
        direction = torch.div(first, spread, out=spread)
        state.space.move(state.space.push(direction), -self._step_size(state) / (1 - BETA1**t))

    def _step_size(self, state: AttackState) -> float:
        if self.lr != "auto":
            return self.lr
        if state.constraint.limit is None:
            return LEARNING_RATE
        return self.automatic_step(state, FIRST_STEP, LAST_STEP) * state.step_scale
