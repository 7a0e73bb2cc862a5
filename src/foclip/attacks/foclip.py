"""FoCLIP (arXiv 2511.06947): stochastic gradient descent with momentum on the pixels.

The paper runs 1,000 steps with learning rate 7 and momentum 0.5 on ViT-L/14 at 336 px. Gradients of other encoders have
other sizes, so by default the step size follows the gradient: see `FoCLIP.lr`.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.attacks.base import Attack, check_lr
from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import BalanceKind, FeatureAlignment, GuardKind, Objective, OnePrompt, PixelGuard, ScoreBalance

#: First automatic step without momentum, as a fraction of the change that the budget allows; the last one, times the
#: steps; and the power of 1 - μ by which the first one is shorter, since more momentum keeps its direction for longer.
FIRST_STEP, LAST_STEP, SHORTER = 0.56, 0.8, 0.25
#: Momentum of the paper, for its learning rate.
PAPERS_MOMENTUM = 0.5
#: Least and most momentum of automatic steps. In between, they remember a fifth of all steps: with more, a short attack
#: does not turn in time; with less, a long one wastes what its gradients have in common.
LEAST_MOMENTUM, MOST_MOMENTUM, REMEMBERED = 0.5, 0.9, 1 / 5
#: The random start of `Restart` changes a picture by this share of the budget's amplitude, in cells of so many pixels:
#: finer noise would vanish when a model shrinks the picture.
SHARE, CELL = 0.7, 3


def objective(
    alpha: float = 1.0,
    beta: float = 1.0,
    balance: BalanceKind = "variance",
    guard: GuardKind = "range",
    temperature: float = 0.01,
) -> Objective:
    """The paper's objective: feature alignment + α · score balance + β · pixel guard.

    The temperature is that of the score to fool, for the balance by KL.

    Raises:
        UsageError: A weight is negative or not finite, or there is no such kind.
    """
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not 0 <= weight < math.inf:
            raise UsageError(f"{name}: {weight} is no weight of at least 0")
    return FeatureAlignment() + alpha * ScoreBalance(balance, temperature) + beta * PixelGuard(guard)


@dataclass(frozen=True, kw_only=True)
class FoCLIP(Attack):
    r"""SGD with momentum on pixels.

    .. math:: v \leftarrow \mu v + g, \qquad x \leftarrow x - \eta v

    Attributes:
        objective: The paper's, with weights of 1, unless given.
        lr: A number is the step size :math:`\eta`, taken literally. ``"auto"`` divides each gradient by its length and
            moves along :math:`-v` by a length of its own, which suits any encoder and size: in T steps it falls along a
            cosine from :math:`0.56 (1 - \mu)^{1/4}` to :math:`0.8 / T` times the change that the budget allows (35 dB
            without one). At the budget's edge only the part of :math:`v` along the edge is kept. The very first step
            goes to the edge, unless a target or rise may end the attack on its way there.
        momentum: :math:`\mu`, in [0, 1); None for :math:`1 - 5 / T`, but from 0.5 to 0.9, and for the paper's 0.5 with
            a learning rate that is a number.
    """

    name: ClassVar[str] = "foclip"
    default_steps: ClassVar[int] = 150
    objective: Objective = field(default_factory=objective)
    lr: float | Literal["auto"] = "auto"
    momentum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lr(self.lr)
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: {self.momentum} is not in [0, 1)")

    def update(self, state: AttackState, gradient: Tensor) -> None:
        space, momentum = state.space, self._momentum(state.steps)
        velocity, gradient = state.buffer("velocity"), space.push(gradient)
        if self.lr == "auto":
            velocity.mul_(momentum).addcdiv_(gradient, torch.linalg.vector_norm(gradient).clamp(min=1e-30))
            to_the_edge = state.step == 0 and not state.stopping.has_target
            first = 1.0 if to_the_edge else FIRST_STEP * math.pow(1 - momentum, SHORTER)
            space.move_by(state.tangent(velocity), -self.automatic_step(state, first, LAST_STEP / state.steps))
        else:
            space.move(velocity.mul_(momentum).add_(gradient), -self.lr)

    def _momentum(self, steps: int) -> float:
        if self.momentum is not None:
            return self.momentum
        if self.lr != "auto":
            return PAPERS_MOMENTUM
        return min(MOST_MOMENTUM, max(LEAST_MOMENTUM, 1 - 1 / (REMEMBERED * steps)))

    @property
    def sums_gradients(self) -> bool:
        return self.lr == "auto"


@dataclass(frozen=True, kw_only=True)
class SinglePrompt(FoCLIP):
    """Naive ascent on one prompt, the first unless `objective` names another: FoCLIP's optimiser alone."""

    name: ClassVar[str] = "single-prompt"
    objective: Objective = field(default_factory=OnePrompt)


@dataclass(frozen=True, kw_only=True)
class Restart(FoCLIP):
    """FoCLIP from a random point within its budget, since a search from one start may end in one valley.

    Attributes:
        start: 0 for the picture itself; every other number is another smooth random change, made by the first update.
    """

    name: ClassVar[str] = "restart"
    needs_budget: ClassVar[bool] = True
    start: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start < 0:
            raise UsageError(f"start: {self.start} is negative")

    @property
    def sums_gradients(self) -> bool:
        return not self.start and super().sums_gradients  # the jump is no sum of gradients

    def update(self, state: AttackState, gradient: Tensor) -> None:
        if state.step or not self.start:
            super().update(state, gradient)
            return
        pixels, psnr = state.space.pixels, state.constraint.psnr
        assert psnr is not None
        height, width = pixels.shape[-2:]
        generator = torch.Generator().manual_seed(state.seed + self.start)
        coarse = torch.randn(1, 3, -(-height // CELL), -(-width // CELL), generator=generator)
        noise = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]
        noise *= SHARE * 10 ** (-psnr / 20) / noise.square().mean().sqrt()
        pixels.add_(noise.to(pixels.device))
