"""A picture on its way in the model's small space: a step costs the same at any picture size.

Where every move is a sum of gradients, the picture is x₀ + Rᵀu with u of the model's size (`Resampler`), and what the
model sees, how far the picture has moved and how it is pulled back into its budget are sums over u. What that leaves
out is clamping to [0, 1] and rounding to 8 bits. So the picture itself is painted at some steps, more often the
smaller it is and the nearer the end: what the model sees of it, and how far it has moved, then replace what had
been reckoned, and the iterate is the 8-bit picture itself. Only such iterates can be kept.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foclip.attacks.state import AttackState, AttackTask, without
from foclip.models.preprocess import round8
from foclip.models.resampler import Rendered, Resampler
from foclip.models.scores import Score
from foclip.perceptual.mask import in_cells

if TYPE_CHECKING:
    from foclip.attacks.base import Attack

#: A picture of so many times the model's values is painted at every step, one of n times that at every nth.
PAINTED = 4
#: A size that every model resizes.
SOME = (8, 8)


@dataclass(kw_only=True, eq=False)
class ModelSpaceState(AttackState):
    """A picture on its way, as the model sees it.

    Attributes:
        pixels: What the model sees, float (3, h, w); may lie outside [0, 1].
        original: What the model sees of the original, float (3, h, w) in about [0, 1].
        levels: The original, uint8 (3, H, W).
        resampler: R.
        painted: The picture itself, if this step's iterate is one.
        texture: What each pixel's change is multiplied by, float16 (H, W); None without a mask.
    """

    levels: Tensor
    resampler: Resampler
    painted: Rendered | None
    texture: Tensor | None = None

    def __post_init__(self) -> None:
        # The picture is levels + Rᵀu, and its squared change, all values together, is `square`.
        self.memory |= {"u": torch.zeros_like(self.pixels), "square": self.pixels.new_zeros((), dtype=torch.float64)}

    def put_on_mask(self) -> None:
        rows, columns = self.seen
        size = (self.original.shape[1], self.original.shape[2])
        self.mask, texture = in_cells(self.levels[:, rows, columns] / 255, size)
        self.texture = torch.ones(self.levels.shape[1:], dtype=torch.float16, device=texture.device)
        self.texture[rows, columns] = texture

    def leaf(self) -> Tensor:
        if self.step and not (self.fitted and self.measured):
            self.painted = None
            every = max(1, self.levels.numel() // (PAINTED * self.original.numel()))
            left = self.last - self.step
            if self.step % every == 0 or left & (left - 1) == 0:  # 0, 1, 2, 4, … steps
                self.paint()
        return self.pixels

    def paint(self) -> Rendered:
        """Paint the picture, within its budget, and reckon with what came of it."""
        u = self.memory["u"]
        painted = self.resampler.paint(self.levels, u, self.texture)
        while not self._within(painted):
            u.mul_(0.995 * math.sqrt(self._most_of_file() / painted.changed))
            painted = self.resampler.paint(self.levels, u, self.texture)
        self.painted, self.pixels = painted, painted.seen
        self.memory["square"].fill_(painted.moved)
        return painted

    def _most_of_file(self) -> float:
        assert self.budget is not None
        return self.budget * (1 - 1e-5) * self.seen_values

    def _within(self, painted: Rendered) -> bool:
        # Changes lie where the model looks, or a few cells beyond; all count as if they were seen.
        return self.budget is None or painted.changed <= self._most_of_file()

    def seen_by_model(self, leaf: Tensor) -> Tensor:
        return self.resampler.pad(round8(leaf))

    def tangent(self, direction: Tensor) -> Tensor:
        if self.budget is None:
            return direction
        along = float((direction * (self.pixels - self.original)).sum())
        return without(direction, along, self.memory["u"], float(self.memory["square"]), self._most())

    def move_by(self, direction: Tensor, length: float) -> None:
        seen = self.resampler.gram(direction)
        size = math.sqrt(max(float((direction * seen).sum()), 0.0) / self.seen_values)
        self._move(direction, seen, length / max(size, 1e-30))

    def move(self, direction: Tensor, length: float) -> None:
        self._move(direction, self.resampler.gram(direction), length)

    def _move(self, direction: Tensor, seen: Tensor, length: float) -> None:
        """Move by `length` times `direction`, of which the model sees `seen`."""
        twice = torch.sub(self.pixels, self.original).mul_(2).add_(seen, alpha=length)
        self.memory["square"].add_((direction * twice).sum(), alpha=length)
        self.memory["u"].add_(direction, alpha=length)
        self.pixels.add_(seen, alpha=length)

    def as_file(self) -> Tensor:
        return self.paint().levels

    def moved(self) -> float:
        return math.sqrt(float(self.memory["square"]) / self.seen_values)

    def scale(self, factor: float) -> None:
        self.memory["square"].mul_(factor**2)
        self.memory["u"].mul_(factor)
        torch.lerp(self.original, self.pixels, factor, out=self.pixels)

    def allowed(self, picture: Tensor) -> bool | None:
        if self.painted is None:
            return None
        return False if not self._within(self.painted) else self.fitted or None

    def file(self, picture: Tensor) -> Tensor:
        return (self.painted or self.paint()).levels


def in_small(attack: "Attack", score: Score, size: tuple[int, int] = SOME) -> bool:
    """Whether a picture of this size is attacked in the model's small space.

    Views see all of a picture, or another size of it; and where nothing is resized, nothing is saved.
    """
    resampler = score.resampler(*size)
    return attack.sums_gradients and not attack.views and resampler is not None and resampler.resizes


def small(attack: "Attack", score: Score, job: AttackTask, common: dict[str, Any]) -> ModelSpaceState:
    """The picture in the model's small space."""
    resampler = score.resampler(*job.picture.shape[1:])
    assert resampler is not None
    levels = job.picture.to(score.device)
    seen = resampler.look(levels)
    painted = Rendered(levels, seen, moved=0.0, changed=0.0)
    return ModelSpaceState(
        pixels=seen.clone(),
        original=seen,
        scratch=torch.empty_like(seen),
        levels=levels,
        resampler=resampler,
        painted=painted,
        **common,
    )
