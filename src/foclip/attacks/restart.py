"""FoCLIP from another point of the budget, since a search from one start may end in one valley."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.attacks.foclip import FoCLIP
from foclip.attacks.state import AttackState
from foclip.errors import UsageError

#: A start changes a picture by this share of the budget's amplitude.
SHARE = 0.7
#: Pixels per cell of a start: finer noise would vanish when a model shrinks the picture.
CELL = 3


@dataclass(frozen=True, kw_only=True)
class Restart(FoCLIP):
    """FoCLIP from a random point within its budget.

    The first update is the jump there.

    Attributes:
        start: 0 for the picture itself; every other number is another smooth random change.

    Raises:
        UsageError: `start` is negative.
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
        generator = torch.Generator().manual_seed(state.seed + self.start)
        height, width = pixels.shape[-2:]
        coarse = torch.randn(1, 3, -(-height // CELL), -(-width // CELL), generator=generator)
        noise = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]
        noise *= SHARE * 10 ** (-psnr / 20) / noise.square().mean().sqrt()
        pixels.add_(noise.to(pixels.device))
