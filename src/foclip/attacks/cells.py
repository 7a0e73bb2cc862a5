"""Where a picture moves at its end, to be refined: in cells of its own pixels."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.attacks.space import ModelSpace, PixelSpace
from foclip.models.preprocess import Rendered
from foclip.models.resize import axis
from foclip.perceptual.mask import coarse_mask


class CellSpace(ModelSpace):
    """A picture that moves on from a file, in cells: what a step takes besides rendering is the same at any size.

    Cells are single pixels of a small picture, and squares of a large one's. A step of cells is made as large as the
    picture, times the texture of the mask, which holds what is finer. The picture is rendered at every step, and its
    gradient taken at the model's resolution.

    Args:
        picture: The original, uint8 (3, H, W).
        file: Where it begins, likewise.
        before: Where it has moved so far.
        most: Pixels at most that are single cells; of more, there are half as many cells at most.

    Attributes:
        box: Rows and columns of the picture that are cells: those that the score depends on.
    """

    def __init__(self, picture: Tensor, file: Tensor, before: PixelSpace, most: int) -> None:
        super().__init__(picture, before.resampler(), before.region, before.limit)
        self.box = rows, columns = self._resampler.box
        height, width = picture[0, rows, columns].shape
        # A whole number: pictures are averaged faster.
        cell = 1 if height * width <= most else math.ceil(math.sqrt(2 * height * width / most))
        self._size = size = max(1, round(height / cell)), max(1, round(width / cell))
        self.cell = math.sqrt(height * width / (size[0] * size[1]))
        self.mask, texture = coarse_mask(picture[:, rows, columns] / 255, size, finest=2)
        self._texture = torch.ones(picture.shape[1:], dtype=torch.float16, device=picture.device)
        self._texture[rows, columns] = texture
        # The picture as it was rendered last, but not rounded, in levels; how many times as large its change is to be,
        # and the step of cells since then.
        self._moving, self._factor, self._u = file.float(), 1.0, self.original.new_zeros(3, *size)
        sizes = zip(size, (height, width), strict=True)
        down, across = (axis(few, many, many, 0, True, picture.device).blocks for few, many in sizes)
        self._enlarging = down, across
        self._means = self._resampler.means(size)
        self._rendered = None

    def begin_step(self, step: int, left: int) -> None:
        self.render()

    def coarse_original(self) -> Tensor:
        return self._coarse(self._whole)

    def coarse_picture(self) -> Tensor:
        return self._coarse(self.render())

    def _coarse(self, levels: Tensor) -> Tensor:
        rows, columns = self.box
        means = [F.adaptive_avg_pool2d(channel[None, rows, columns].float(), self._size) for channel in levels]
        return torch.cat(means) / 255

    def coarse_gradient(self, gradient: Tensor) -> Tensor:
        down, across = self._means
        return (down @ gradient @ across.T).mul_(self.cell**2)

    def gram(self, direction: Tensor) -> Tensor:
        return direction

    def move(self, direction: Tensor, length: float) -> None:
        self._u.add_(direction, alpha=length)
        self._rendered = None

    def change(self) -> float:
        self.render()
        return super().change()

    def scale(self, factor: float) -> None:
        super().scale(factor)
        self._factor *= factor

    def preview(self) -> Tensor:
        return self._paint(self._moving.clone()).levels

    def _painted(self) -> Rendered:
        painted = self._paint(self._moving)
        self._factor, self._u = 1.0, torch.zeros_like(self._u)
        return painted

    def _paint(self, moving: Tensor) -> Rendered:
        """The picture, which `moving` then is before rounding."""
        return self._resampler.paint(
            self._whole, self._u, self._texture, enlarging=self._enlarging, moving=(moving, self._factor)
        )

    def saved(self) -> dict[str, Any]:
        return {"_moving": self._moving, "_factor": self._factor, "_u": self._u}
