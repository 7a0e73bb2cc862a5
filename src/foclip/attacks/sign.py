"""Attacks by sign steps, never further than some levels from the picture: PGD and MI-FGSM.

PGD (Madry et al. 2018, arXiv 1706.06083) is here as in CLIPMasterPrints (arXiv 2307.03798): 1,000 steps of
one level within ±15 levels, for the prompt that scores lowest; but the picture keeps its own size.
The authors of MI-FGSM (Dong et al. 2018, arXiv 1710.06081) take 10 steps of ε / 10 with ε = 16 levels and
decay factor 1, so that the fooled picture transfers to other models.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from foclip.attacks.base import Attack
from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import Lowest, Objective


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
