"""Methods that FoCLIP is compared with: PGD and Adam of CLIPMasterPrints (arXiv 2307.03798), and MI-FGSM.

CLIPMasterPrints runs 1,000 steps on ViT-L/14 at 336 px, for the prompt that scores lowest: PGD (Madry et al. 2018,
arXiv 1706.06083) with steps of one level within ±15 levels, and Adam (Kingma and Ba 2015, arXiv 1412.6980) with
learning rate 0.1 from noise. Here the picture keeps its own size. The authors of MI-FGSM (Dong et al. 2018, arXiv
1710.06081) take 10 steps of ε / 10 with ε = 16 levels and decay factor 1, so that the fooled picture transfers to other
models.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foclip.attacks.base import Attack, Init, check_lr
from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import Lowest, Objective

#: Adam's learning rate without a budget, in [0, 1] units; within one, its first and last automatic step as fractions of
#: the change that is allowed.
LEARNING_RATE, FIRST_STEP, LAST_STEP = 0.1, 0.1, 0.002
#: Adam's own decay rates of the two moments, and what keeps the division finite.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class SignAttack(Attack):
    """Steps of equal size in every channel, never further than `epsilon` from the original.

    Attributes:
        epsilon: Largest change of a channel, in 8-bit levels (1..255). Budgets hold besides.

    Raises:
        UsageError: `epsilon` is out of its range, or the start is noise, which no `epsilon` holds.
    """

    epsilon: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.epsilon <= 255:
            raise UsageError(f"epsilon: {self.epsilon} is no number of levels from 1 to 255")
        if self.init == "noise":
            raise UsageError(f"init: {self.name} stays within {self.epsilon} levels of a picture; start from the image")

    def sign_step(self, state: AttackState, direction: Tensor, levels: float) -> None:
        """Move against the sign of `direction` (3, H, W), within `epsilon` and [0, 1]; overwrites `direction`."""
        space, epsilon = state.space, self.epsilon / 255
        pixels, original = space.pixels, space.original
        space.move(space.push(direction.sign_()), -levels / 255)
        change = torch.sub(pixels, original, out=space.scratch).clamp_(-epsilon, epsilon)
        torch.add(original, change, out=pixels).clamp_(0, 1)


@dataclass(frozen=True, kw_only=True)
class PGD(SignAttack):
    r"""Projected gradient descent in the maximum norm.

    .. math:: x \leftarrow \Pi_{\|x - x_0\|_\infty \le \epsilon} (x - \eta \operatorname{sign} g)

    Attributes:
        step_size: :math:`\eta`, in 8-bit levels.

    Raises:
        UsageError: `step_size` is not above 0.
    """

    name: ClassVar[str] = "pgd"

    objective: Objective = field(default_factory=Lowest)
    epsilon: int = 15
    step_size: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.step_size < math.inf:
            raise UsageError(f"step_size: {self.step_size} is no number of levels above 0")

    def update(self, state: AttackState, gradient: Tensor) -> None:
        self.sign_step(state, gradient, self.step_size)


@dataclass(frozen=True, kw_only=True)
class MIFGSM(SignAttack):
    r"""The momentum iterative fast gradient sign method (equations 6 and 7).

    .. math:: v \leftarrow \mu v + \frac{g}{\|g\|_1}, \qquad x \leftarrow x - \frac{\epsilon}{T} \operatorname{sign} v

    where T is the number of steps.

    Attributes:
        decay: :math:`\mu`, at least 0.

    Raises:
        UsageError: `decay` is negative or not finite.
    """

    name: ClassVar[str] = "mifgsm"
    default_steps: ClassVar[int] = 10

    epsilon: int = 16
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < math.inf:
            raise UsageError(f"decay: {self.decay} is no number of at least 0")

    def update(self, state: AttackState, gradient: Tensor) -> None:
        size = torch.linalg.vector_norm(gradient, 1).clamp(min=1e-30)
        velocity = state.buffer("velocity").mul_(self.decay).addcdiv_(gradient, size)
        self.sign_step(state, gradient.copy_(velocity), self.epsilon / state.steps)


@dataclass(frozen=True, kw_only=True)
class Adam(Attack):
    r"""Adam on pixels.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2

    .. math:: x \leftarrow x - \eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Attributes:
        lr: A number is the step size :math:`\eta`, taken literally. ``"auto"`` is the authors' 0.1 without a budget.
            Adam moves every pixel by about :math:`\eta`, and 0.1 is 20 dB: within a budget ``"auto"`` therefore falls
            along a cosine from 10 % to 0.2 % of the change that is allowed.
        init: The authors start from noise; a budget needs ``"image"``.
    """

    name: ClassVar[str] = "adam"

    objective: Objective = field(default_factory=Lowest)
    init: Init = "noise"
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
        within_budget = state.constraint.limit is not None
        return self.automatic_step(state, FIRST_STEP, LAST_STEP) if within_budget else LEARNING_RATE
