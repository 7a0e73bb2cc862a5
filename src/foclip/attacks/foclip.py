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

from foclip.attacks.base import Attack, check_lr
from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import Alignment, Balance, BalanceKind, GuardKind, Objective, OnePrompt, PixelGuard

#: First automatic step without momentum as a fraction of the change that the budget allows, and the last one, times the
#: steps; and by which power of 1 - μ the first one is shorter, since more momentum keeps its direction for longer.
FIRST_STEP, LAST_STEP, SHORTER = 0.56, 0.8, 0.25
#: Momentum of the paper, for its learning rate.
PAPERS_MOMENTUM = 0.5
#: Least and most momentum of automatic steps, which remember a fifth of all steps: more, and few of them do not turn
#: in time; less, and many of them waste what they have in common.
LEAST_MOMENTUM, MOST_MOMENTUM, REMEMBERED = 0.5, 0.9, 1 / 5


def objective(
    alpha: float = 1.0,
    beta: float = 1.0,
    balance: BalanceKind = "variance",
    guard: GuardKind = "range",
    temperature: float = 0.01,
) -> Objective:
    """The paper's objective: alignment + α · balance + β · guard.

    Args:
        alpha: α, weight of the balance.
        beta: β, weight of the guard.
        balance: Kind of balance.
        guard: Kind of guard.
        temperature: That of the score which is fooled, for the balance by KL.

    Raises:
        UsageError: A weight is negative or not finite, or there is no such kind.
    """
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not 0 <= weight < math.inf:
            raise UsageError(f"{name}: {weight} is no weight of at least 0")
    return Alignment() + alpha * Balance(balance, temperature) + beta * PixelGuard(guard)


@dataclass(frozen=True, kw_only=True)
class FoCLIP(Attack):
    r"""SGD with momentum on pixels.

    .. math:: v \leftarrow \mu v + g, \qquad x \leftarrow x - \eta v

    Attributes:
        objective: The paper's, with weights of 1, unless given.
        lr: A number is the step size :math:`\eta`, taken literally. ``"auto"``
            divides each gradient by its length and moves along :math:`-v` by a length of its own, which falls along a
            cosine from :math:`0.56 (1 - \mu)^{1/4}` to :math:`0.8 / T` times the change that the budget allows (35 dB
            without one) in T steps, so it suits any encoder and size. At the budget's edge, only what moves along it
            is kept of :math:`v` (`AttackState.tangent`): of most gradients that is little, and all that counts. The
            very first step goes to the edge, unless a `target` or `rise` may end the attack on its way there.
        momentum: :math:`\mu`, in [0, 1); None for :math:`1 - 5 / T`, but from 0.5 to 0.9, and for the
            paper's 0.5 with a learning rate that is a number.
    """

    name: ClassVar[str] = "foclip"

    objective: Objective = field(default_factory=objective)
    steps: int = 150
    lr: float | Literal["auto"] = "auto"
    momentum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lr(self.lr)
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: {self.momentum} is not in [0, 1)")

    def update(self, state: AttackState, gradient: Tensor) -> None:
        velocity, gradient, momentum = state.buffer("velocity"), state.masked(gradient), self._momentum()
        if self.lr == "auto":
            velocity.mul_(momentum).addcdiv_(gradient, torch.linalg.vector_norm(gradient).clamp(min=1e-30))
            first = self._first_step(state.step, momentum)
            length = self.automatic_step(state.step, first, LAST_STEP / self.steps)
            state.move_by(state.tangent(velocity), -length * state.pace)
        else:
            state.move(velocity.mul_(momentum).add_(gradient), -self.lr)

    def _first_step(self, step: int, momentum: float) -> float:
        if step == 0 and self.target is None and self.rise is None:
            return 1.0
        return FIRST_STEP * math.pow(1 - momentum, SHORTER)

    def _momentum(self) -> float:
        if self.momentum is not None:
            return self.momentum
        if self.lr != "auto":
            return PAPERS_MOMENTUM
        return min(MOST_MOMENTUM, max(LEAST_MOMENTUM, 1 - 1 / (REMEMBERED * self.steps)))

    @property
    def sums_gradients(self) -> bool:
        return self.lr == "auto" and self.init == "image"


@dataclass(frozen=True, kw_only=True)
class SinglePrompt(FoCLIP):
    """Naive ascent on one prompt, the first unless `objective` names another: FoCLIP's optimiser alone.

    The other prompts are scored, but nothing raises their scores.
    """

    name: ClassVar[str] = "single-prompt"

    objective: Objective = field(default_factory=OnePrompt)
