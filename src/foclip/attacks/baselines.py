"""Methods that FoCLIP is compared with: PGD and Adam of CLIPMasterPrints (arXiv 2307.03798), MI-FGSM and Auto-PGD.

CLIPMasterPrints runs 1,000 steps for the prompt that scores lowest: PGD (Madry et al. 2018, arXiv 1706.06083) with
steps of one level within ±15 levels, and Adam (Kingma and Ba 2015, arXiv 1412.6980) with learning rate 0.1 from noise.
MI-FGSM (Dong et al. 2018, arXiv 1710.06081) takes 10 steps, so that the fooled picture transfers to other models.
Auto-PGD is by Croce and Hein (2020, arXiv 2003.01690).
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
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
#: Auto-PGD's first step, in radii of the budget; α of equation 4, the weight of the new step beside that of the move
#: before; and ρ of condition 1, the share of steps that must improve, or their size is halved.
FIRST, ALPHA, RHO = 2.0, 0.75, 0.75
#: Its first checkpoint, how much each period is shorter than the one before, and the shortest: shares of all steps.
PERIOD, SHORTER, SHORTEST = 0.22, 0.03, 0.06


@dataclass(frozen=True, kw_only=True)
class SignAttack(Attack):
    """Steps of equal size in every channel, never further than `epsilon` from the original.

    Attributes:
        epsilon: Largest change of a channel, in 8-bit levels (1..255). Budgets hold besides. Not from noise.
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
        space.move(space.push(direction.sign_()), -levels / 255)
        change = torch.sub(space.pixels, space.original, out=space.scratch).clamp_(-epsilon, epsilon)
        torch.add(space.original, change, out=space.pixels).clamp_(0, 1)


@dataclass(frozen=True, kw_only=True)
class PGD(SignAttack):
    r"""Projected gradient descent in the maximum norm.

    .. math:: x \leftarrow \Pi_{\|x - x_0\|_\infty \le \epsilon} (x - \eta \operatorname{sign} g)

    Attributes:
        step_size: :math:`\eta`, in 8-bit levels, above 0.
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

    Attributes:
        decay: :math:`\mu`, at least 0. T is the number of steps.
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


@dataclass(frozen=True, kw_only=True)
class AutoPGD(Attack):
    r"""Projected gradient descent with momentum in the mean squared error (algorithm 1 with its L2 step).

    A step starts at twice the budget's radius, and is halved whenever it stops paying; the search then goes on from the
    best picture so far.

    .. math:: z = \Pi \left(x_k - \eta \, g / \|g\|\right), \qquad
        x_{k+1} = \Pi \left(x_k + \alpha (z - x_k) + (1 - \alpha) (x_k - x_{k-1})\right)

    The norm is the root mean square over what the model sees, as a budget's is, and Π is the nearest picture within the
    budget, then within [0, 1]. Without a budget the step is that of 35 dB, and nothing holds the picture back.
    """

    name: ClassVar[str] = "apgd"

    def update(self, state: AttackState, gradient: Tensor) -> None:
        space, memory = state.space, state.memory
        pixels = space.pixels
        if state.losses[-1] == state.best_loss:
            memory["best"], memory["best gradient"] = pixels.clone(), gradient.clone()
        checkpoint = state.step in checkpoints(state.steps)
        if checkpoint or state.search is None:
            state.search = halvings(state.losses, state.steps)
        if checkpoint and state.search[-1]:
            pixels.copy_(memory["best"])
            gradient.copy_(memory["best gradient"])

        here = pixels.clone()
        seen = gradient[:, space.region[0], space.region[1]]
        inverse_rms = math.sqrt(seen.numel()) / torch.linalg.vector_norm(seen).clamp(min=1e-30)
        size = FIRST * state.constraint.radius / 2 ** sum(state.search)
        pixels.addcmul_(gradient, inverse_rms, value=-size)
        state.project()
        pixels.clamp_(0, 1)
        if state.step:
            move = torch.sub(here, memory["before"], out=space.scratch)
            pixels.lerp_(here, 1 - ALPHA).add_(move, alpha=1 - ALPHA)
            state.project()
            pixels.clamp_(0, 1)
        memory["before"] = here


@lru_cache(maxsize=64)
def checkpoints(steps: int) -> tuple[int, ...]:
    """The steps after which the step size is judged: ⌈p_j · steps⌉ of section 3.2, without 0."""
    period, at, marks = PERIOD, PERIOD, []
    while at < 1:
        marks.append(math.ceil(round(at * steps, 6)))  # the sums of float64 are a little off
        period = max(period - SHORTER, SHORTEST)
        at += period
    return tuple(marks)


def halvings(losses: list[float], steps: int) -> list[bool]:
    """Whether the step size is halved at each checkpoint that `losses` have reached.

    It is, where fewer than ρ of the steps since the last checkpoint improved the loss (condition 1), or where it was
    not halved last time and the best loss has not improved since (condition 2).
    """
    halved: list[bool] = []
    last = 0
    for mark in (mark for mark in checkpoints(steps) if mark < len(losses)):
        period = losses[last : mark + 1]
        rarely = sum(after < before for before, after in pairwise(period)) < RHO * (mark - last)
        stuck = not any(halved[-1:]) and min(period) >= min(losses[: last + 1])
        halved.append(rarely or stuck)
        last = mark
    return halved
