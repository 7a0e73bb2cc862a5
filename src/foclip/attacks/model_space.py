"""A picture that moves at the model's resolution: a step costs the same at any picture size.

Where every move is a sum of gradients, the picture is x₀ + Rᵀu, with u of the model's size (`Resampler`). What the
model sees, how far the picture has moved, and how it is pulled back into its budget are then sums over u. They leave
out clamping to [0, 1] and rounding to 8 bits. So the picture itself is rendered at some steps, more often the smaller
it is and the nearer the end. What the model sees of the rendered picture, and how far that has moved, then replace the
sums, and the iterate is the 8-bit picture itself. Only such iterates can be kept.
"""

import math

import torch
from torch import Tensor

from foclip.attacks.space import SUM_TOLERANCE, Space
from foclip.models.preprocess import Rendered, Resampler
from foclip.models.resize import round8
from foclip.perceptual.mask import coarse_mask

#: A picture of so many times the model's values is rendered at every step, one of n times that at every nth.
RENDERED = 4


class ModelSpace(Space):
    """A picture as the model sees it, float (3, h, w).

    Args:
        picture: The original, uint8 (3, H, W).
        resampler: R, from pictures of this size to what the model sees.
        region: Rows and columns of the picture that the score depends on.
        limit: As in `Space`.
    """

    def __init__(self, picture: Tensor, resampler: Resampler, region: tuple[slice, slice], limit: float | None) -> None:
        seen = resampler.look(picture)
        super().__init__(seen.clone(), seen, region, limit)
        self._whole, self._resampler = picture, resampler
        # The picture is x₀ + Rᵀu, and its squared change, all values together, is `square`.
        self._u, self._square = torch.zeros_like(seen), seen.new_zeros((), dtype=torch.float64)
        # What each pixel's change is multiplied by, float16 (H, W); None without a mask.
        self._texture: Tensor | None = None
        # The picture itself, if this step's iterate is one.
        self._rendered: Rendered | None = Rendered(picture, seen, moved=0.0, changed=0.0)

    def use_mask(self) -> None:
        rows, columns = self.region
        size = (self.original.shape[1], self.original.shape[2])
        self.mask, texture = coarse_mask(self._whole[:, rows, columns] / 255, size)
        self._texture = torch.ones(self._whole.shape[1:], dtype=torch.float16, device=texture.device)
        self._texture[rows, columns] = texture

    def begin_step(self, step: int, left: int) -> None:
        self._rendered = None
        every = max(1, self._whole.numel() // (RENDERED * self.original.numel()))
        if step % every == 0 or left & (left - 1) == 0:  # 0, 1, 2, 4, … steps
            self.render()

    def picture(self, pixels: Tensor) -> Tensor:
        return self._resampler.pad(round8(pixels))

    def move(self, direction: Tensor, length: float) -> None:
        self._move(direction, self._resampler.gram(direction), length)

    def move_by(self, direction: Tensor, length: float) -> None:
        seen = self._resampler.gram(direction)
        size = math.sqrt(max(float((direction * seen).sum()), 0.0) / self.values)
        self._move(direction, seen, length / max(size, 1e-30))

    def _move(self, direction: Tensor, seen: Tensor, length: float) -> None:
        """Move by `length` times `direction`, of which the model sees `seen`."""
        twice = torch.sub(self.pixels, self.original).mul_(2).add_(seen, alpha=length)
        self._square.add_((direction * twice).sum(), alpha=length)
        self._u.add_(direction, alpha=length)
        self.pixels.add_(seen, alpha=length)

    def outward(self, direction: Tensor) -> tuple[float, Tensor, float]:
        along = float((direction * (self.pixels - self.original)).sum())
        return along, self._u, float(self._square)

    def change(self) -> float:
        return math.sqrt(float(self._square) / self.values)

    def scale(self, factor: float) -> None:
        self._square.mul_(factor**2)
        self._u.mul_(factor)
        torch.lerp(self.original, self.pixels, factor, out=self.pixels)

    def within(self, picture: Tensor) -> bool | None:
        return None if self._rendered is None else self._fits(self._rendered)

    def file(self, picture: Tensor) -> Tensor:
        return self.render() if self._rendered is None else self._rendered.levels

    def render(self) -> Tensor:
        rendered = self._resampler.paint(self._whole, self._u, self._texture)
        while not self._fits(rendered):
            self._u.mul_(0.995 * math.sqrt(self._most() / rendered.changed))
            rendered = self._resampler.paint(self._whole, self._u, self._texture)
        self._rendered, self.pixels = rendered, rendered.seen
        self._square.fill_(rendered.moved)
        return rendered.levels

    def preview(self) -> Tensor:
        return self._resampler.paint(self._whole, self._u, self._texture).levels

    def _fits(self, rendered: Rendered) -> bool:
        # Changes lie where the model looks, or a few cells beyond; all count as if they were seen.
        return self.limit is None or rendered.changed <= self._most()

    def _most(self) -> float:
        assert self.limit is not None
        return self.limit * (1 - SUM_TOLERANCE) * self.values

    def saved(self) -> dict[str, Tensor]:
        return {"pixels": self.pixels, "u": self._u, "square": self._square}

    def restore(self, saved: dict[str, Tensor]) -> None:
        self.pixels, self._u, self._square = saved["pixels"], saved["u"], saved["square"]
