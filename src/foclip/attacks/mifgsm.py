"""MI-FGSM (Dong et al. 2018, arXiv 1710.06081): sign steps along an accumulated gradient.

Its authors take 10 steps of ε / 10 with ε = 16 levels and decay factor 1, so
that the fooled picture transfers to other models.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foclip.attacks.base import Trajectory
from foclip.attacks.pgd import SignAttack
from foclip.errors import UsageError


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

    steps: int = 10
    epsilon: int = 16
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < math.inf:
            raise UsageError(f"decay: {self.decay} is no number of at least 0")

    def update(self, trajectory: Trajectory, gradient: Tensor) -> None:
        size = torch.linalg.vector_norm(gradient, 1).clamp(min=1e-30)
        velocity = trajectory.buffer("velocity").mul_(self.decay).addcdiv_(gradient, size)
        self.sign_step(trajectory, gradient.copy_(velocity), self.epsilon / self.steps)
