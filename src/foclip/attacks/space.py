"""Where a picture moves: in all its pixels, or at the model's resolution, where a step costs the same at any size."""

import math
from typing import Any

import torch
from torch import Tensor

from foclip.models.preprocess import Rendered, Resampler, unresized
from foclip.models.resize import round8
from foclip.perceptual.mask import Mask, coarse_mask, visibility_mask

#: A file is kept this part below the budget, so that float32 sums cannot let it slip beyond the budget.
SUM_TOLERANCE = 1e-5
#: A picture of so many times the model's values is rendered at every step, one of n times that at every nth.
RENDERED = 4


class PixelSpace:
    """A picture that moves in all its pixels; `ModelSpace` has the same methods.

    Args:
        original: The picture as it was, float (3, h, w) in about [0, 1].
        region: Rows and columns of the whole picture that the score depends on.
        limit: Largest mean squared change, in [0, 1] units, of the picture as well as of its region; None for any.

    Attributes:
        pixels: The picture as optimised, float (3, h, w); may lie outside [0, 1].
        values: Number of values (pixels times channels) of the region.
        cell: Side, in pixels of the picture, of what the directions in which it moves have as pixels.
        grain: Side of what its change is mostly made of.
        mask: Coordinates in which the attack moves; None for the pixels' own.
        scratch: Room for one more picture; fresh memory at every step costs more than filling it.
    """

    def __init__(self, original: Tensor, region: tuple[slice, slice], limit: float | None) -> None:
        rows, columns = region
        self.pixels, self.original, self.region, self.limit = original.clone(), original, region, limit
        self.values = 3 * int(rows.stop - rows.start) * int(columns.stop - columns.start)
        self.cell = self.grain = 1.0
        self.mask: Mask | None = None
        self.scratch = torch.empty_like(original)

    def use_mask(self) -> None:
        """From now on, move in coordinates in which every change is seen alike."""
        self.mask = visibility_mask(self.original)

    def push(self, coordinates: Tensor) -> Tensor:
        """The change of `pixels` that coordinates stand for; a method gets its gradient in such coordinates."""
        return coordinates if self.mask is None else self.mask.push(coordinates)

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to coordinates of one with respect to `pixels`."""
        return gradient if self.mask is None else self.mask.pull(gradient)

    def resampler(self) -> Resampler:
        """From the whole picture to `pixels`."""
        _, height, width = self.original.shape
        return unresized(height, width, self.original.device)

    def coarse_original(self) -> Tensor:
        """The original, as fine as `mask` and directions are."""
        return self.original

    def coarse_picture(self) -> Tensor:
        """The picture that `picture` gave last, as fine as that."""
        return round8(self.pixels)

    def coarse_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to a direction of one with respect to `pixels`, both without the mask."""
        return gradient

    def gram(self, direction: Tensor) -> Tensor:
        """How the picture changes, as `coarse_picture` gives it, where it moves along `direction`."""
        return direction

    def begin_step(self, step: int, left: int) -> None:
        """Get ready for a step, after `step` and before `left` updates whose iterate is not rendered for measuring."""

    def picture(self, pixels: Tensor) -> Tensor:
        """The 8-bit picture that is scored, float (3, h, w) in [0, 1], differentiable with respect to `pixels`."""
        return round8(pixels)

    def move(self, direction: Tensor, length: float) -> None:
        """Move the picture by `length` times `direction`, a sum of gradients with respect to `pixels`."""
        self.pixels.add_(direction, alpha=length)

    def move_by(self, direction: Tensor, length: float) -> None:
        """Move the picture along `direction`, as `move` does, until its region has moved by `length` (RMS)."""
        size = float(torch.linalg.vector_norm(direction)) / math.sqrt(self.values)
        self.move(direction, length / max(size, 1e-30))

    def outward(self, direction: Tensor) -> tuple[float, Tensor, float]:
        """The change so far in a direction's coordinates: its product with the direction, itself, and its square."""
        change = torch.sub(self.pixels, self.original, out=self.scratch)
        return float((direction * change).sum()), change, float(torch.linalg.vector_norm(change)) ** 2

    def change(self) -> float:
        """Root mean squared change so far."""
        return float(self._change(self.pixels))

    def _change(self, picture: Tensor) -> Tensor:
        """Root mean squared change of a picture (3, H, W), of the whole or of its region, whichever is larger.

        A model that crops sees a part only, and an attack changes nothing else: over the whole of a panorama, a change
        that spoils its middle would count for little. Uses `scratch`.
        """
        change = torch.sub(picture, self.original, out=self.scratch)
        whole = torch.linalg.vector_norm(change) / math.sqrt(change.numel())
        region = change[:, self.region[0], self.region[1]]
        if region.numel() == change.numel():
            return torch.as_tensor(whole)
        return torch.maximum(whole, torch.linalg.vector_norm(region) / math.sqrt(region.numel()))

    def scale(self, factor: float) -> None:
        """Make the picture's change `factor` times as large."""
        torch.lerp(self.original, self.pixels, factor, out=self.pixels)

    def within(self, picture: Tensor) -> bool | None:
        """Whether an iterate, as `picture` gives it, is within `limit` as a file; None if that is not known."""
        return self.limit is None or float(self._change(picture)) ** 2 <= self.limit * (1 - SUM_TOLERANCE)

    def file(self, picture: Tensor) -> Tensor:
        """An iterate as a file, uint8 (3, H, W)."""
        return (picture * 255).round().to(torch.uint8)

    def render(self) -> Tensor:
        """The picture as it would be written, uint8 (3, H, W), within `limit`; a `ModelSpace` goes on from there."""
        return self.file(round8(self.pixels))

    def preview(self) -> Tensor:
        """The 8-bit picture as it is now, uint8 (3, H, W); changes nothing."""
        return self.file(round8(self.pixels))

    def saved(self) -> dict[str, Tensor]:
        """The tensors that are needed to go on later."""
        return {"pixels": self.pixels}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `saved` gave."""
        vars(self).update(saved)


class ModelSpace(PixelSpace):
    """A picture as the model sees it, float (3, h, w).

    Where every move is a sum of gradients, the picture is x₀ + Rᵀu, with u of the model's size (`Resampler`). What the
    model sees and how far the picture has moved are sums over u, but for clamping to [0, 1] and rounding to 8 bits. So
    the picture itself is rendered at some steps, more often the smaller it is and the nearer the end. What is known of
    the rendered picture then replaces the sums, and the iterate is the 8-bit picture. Only such iterates can be kept.
    """

    def __init__(self, picture: Tensor, resampler: Resampler, region: tuple[slice, slice], limit: float | None) -> None:
        seen = resampler.look(picture)
        super().__init__(seen, region, limit)
        self._whole, self._resampler = picture, resampler
        self.cell = self.grain = math.sqrt(self.values / seen.numel())
        # The picture is x₀ + Rᵀu, and its squared change, all values together, is `square`.
        self._u, self._square = torch.zeros_like(seen), seen.new_zeros((), dtype=torch.float64)
        # Changes lie where the model looks, or a few cells beyond; all count as if they were seen.
        self._most = math.inf if limit is None else limit * (1 - SUM_TOLERANCE) * self.values
        # What each pixel's change is multiplied by, float16 (H, W); None without a mask.
        self._texture: Tensor | None = None
        # The picture itself, if it has not moved since it was rendered.
        self._rendered: Rendered | None = Rendered(picture, seen, moved=0.0, changed=0.0)

    def use_mask(self) -> None:
        rows, columns = self.region
        size = (self.original.shape[1], self.original.shape[2])
        self.mask, texture = coarse_mask(self._whole[:, rows, columns] / 255, size)
        self._texture = torch.ones(self._whole.shape[1:], dtype=torch.float16, device=texture.device)
        self._texture[rows, columns] = texture

    def begin_step(self, step: int, left: int) -> None:
        every = max(1, self._whole.numel() // (RENDERED * self.original.numel()))
        if step % every == 0 or left & (left - 1) == 0:  # 0, 1, 2, 4, … steps
            self.render()

    def resampler(self) -> Resampler:
        return self._resampler

    def picture(self, pixels: Tensor) -> Tensor:
        return self._resampler.pad(round8(pixels))

    def gram(self, direction: Tensor) -> Tensor:
        return self._resampler.gram(direction)

    def move(self, direction: Tensor, length: float) -> None:
        self._move(direction, self.gram(direction), length)

    def move_by(self, direction: Tensor, length: float) -> None:
        seen = self.gram(direction)
        size = math.sqrt(max(float((direction * seen).sum()), 0.0) / self.values)
        self._move(direction, seen, length / max(size, 1e-30))

    def _move(self, direction: Tensor, seen: Tensor, length: float) -> None:
        """Move by `length` times `direction`, of which the model sees `seen`."""
        twice = torch.sub(self.pixels, self.original).mul_(2).add_(seen, alpha=length)
        self._square.add_((direction * twice).sum(), alpha=length)
        self._u.add_(direction, alpha=length)
        self.pixels.add_(seen, alpha=length)
        self._rendered = None

    def outward(self, direction: Tensor) -> tuple[float, Tensor, float]:
        along = float((direction * (self.pixels - self.original)).sum())
        return along, self._u, float(self._square)

    def change(self) -> float:
        return math.sqrt(float(self._square) / self.values)

    def scale(self, factor: float) -> None:
        self._square.mul_(factor**2)
        self._u.mul_(factor)
        self._rendered = None
        super().scale(factor)

    def within(self, picture: Tensor) -> bool | None:
        return None if self._rendered is None else self._rendered.changed <= self._most

    def file(self, picture: Tensor) -> Tensor:
        return self.render()

    def render(self) -> Tensor:
        if self._rendered is None:
            while (rendered := self._painted()).changed > self._most:
                self.scale(0.995 * math.sqrt(self._most / rendered.changed))
            self._rendered, self.pixels = rendered, rendered.seen
            self._square.fill_(rendered.moved)
        return self._rendered.levels

    def preview(self) -> Tensor:
        return self._painted().levels

    def _painted(self) -> Rendered:
        return self._resampler.paint(self._whole, self._u, self._texture)

    def saved(self) -> dict[str, Tensor]:
        return {"pixels": self.pixels, "_u": self._u, "_square": self._square}

    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self._rendered = None
