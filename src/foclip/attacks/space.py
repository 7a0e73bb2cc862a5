"""Where a picture moves: in all its pixels (here), or at the model's resolution (`foclip.attacks.model_space`)."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from foclip.models.resize import round8
from foclip.perceptual.mask import Mask, visibility_mask

#: A file is kept this part below the budget, so that float32 sums cannot let it slip beyond the budget.
SUM_TOLERANCE = 1e-5


class Space(ABC):
    """A picture and its original, held in the coordinates in which an attack moves them.

    Attributes:
        pixels: The picture as optimised, float (3, h, w); may lie outside [0, 1].
        original: The original likewise, in about [0, 1].
        region: Rows and columns of the whole picture that the score depends on.
        limit: Largest mean squared change, in [0, 1] units, of the picture as well as of its region; None for any.
        values: Number of values (pixels times channels) of the region.
        mask: Coordinates in which the attack moves; None for the pixels' own.
        scratch: Room for one more picture; fresh memory at every step costs more than filling it.
    """

    def __init__(self, pixels: Tensor, original: Tensor, region: tuple[slice, slice], limit: float | None) -> None:
        rows, columns = region
        self.pixels, self.original, self.region, self.limit = pixels, original, region, limit
        self.values = 3 * int(rows.stop - rows.start) * int(columns.stop - columns.start)
        self.mask: Mask | None = None
        self.scratch = torch.empty_like(pixels)

    @abstractmethod
    def use_mask(self) -> None:
        """From now on, move in coordinates in which every change is seen alike."""

    def push(self, coordinates: Tensor) -> Tensor:
        """The change of `pixels` that coordinates stand for; a method gets its gradient in such coordinates."""
        return coordinates if self.mask is None else self.mask.push(coordinates)

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to coordinates of one with respect to `pixels`."""
        return gradient if self.mask is None else self.mask.pull(gradient)

    @abstractmethod
    def begin_step(self, step: int, left: int) -> None:
        """Get ready for a step whose iterate has not been rendered for measuring.

        Args:
            step: Updates made so far.
            left: Updates that are left.
        """

    @abstractmethod
    def picture(self, pixels: Tensor) -> Tensor:
        """The 8-bit picture that is scored, float (3, h, w) in [0, 1], differentiable with respect to `pixels`."""

    @abstractmethod
    def move(self, direction: Tensor, length: float) -> None:
        """Move the picture by `length` times `direction`, a sum of gradients with respect to `pixels`."""

    @abstractmethod
    def move_by(self, direction: Tensor, length: float) -> None:
        """Move the picture along `direction`, as `move` does, until its region has moved by `length` (RMS)."""

    @abstractmethod
    def outward(self, direction: Tensor) -> tuple[float, Tensor, float]:
        """The change so far in the coordinates of a direction.

        Returns:
            Inner product of direction and change, the change, and the change's inner product with itself.
        """

    @abstractmethod
    def change(self) -> float:
        """Root mean squared change so far."""

    @abstractmethod
    def scale(self, factor: float) -> None:
        """Make the picture's change `factor` times as large."""

    @abstractmethod
    def within(self, picture: Tensor) -> bool | None:
        """Whether an iterate, as a file, is within `limit`; None if that is not known.

        Args:
            picture: The iterate, as `picture` gives it.
        """

    @abstractmethod
    def file(self, picture: Tensor) -> Tensor:
        """An iterate as a file, uint8 (3, H, W)."""

    @abstractmethod
    def render(self) -> Tensor:
        """The 8-bit picture as it would be written, uint8 (3, H, W), within `limit`; the step goes on from there."""

    @abstractmethod
    def preview(self) -> Tensor:
        """The 8-bit picture as it is now, uint8 (3, H, W); changes nothing."""

    @abstractmethod
    def saved(self) -> dict[str, Tensor]:
        """The tensors that are needed to go on later."""

    @abstractmethod
    def restore(self, saved: dict[str, Tensor]) -> None:
        """Go on from what `saved` gave."""


class PixelSpace(Space):
    """All pixels of a picture, (3, H, W)."""

    def use_mask(self) -> None:
        self.mask = visibility_mask(self.original)

    def begin_step(self, step: int, left: int) -> None:
        pass

    def picture(self, pixels: Tensor) -> Tensor:
        return round8(pixels)

    def move(self, direction: Tensor, length: float) -> None:
        self.pixels.add_(direction, alpha=length)

    def move_by(self, direction: Tensor, length: float) -> None:
        size = float(torch.linalg.vector_norm(direction)) / math.sqrt(self.values)
        self.move(direction, length / max(size, 1e-30))

    def outward(self, direction: Tensor) -> tuple[float, Tensor, float]:
        change = torch.sub(self.pixels, self.original, out=self.scratch)
        return float((direction * change).sum()), change, float(torch.linalg.vector_norm(change)) ** 2

    def change(self) -> float:
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
        torch.lerp(self.original, self.pixels, factor, out=self.pixels)

    def within(self, picture: Tensor) -> bool | None:
        return self.limit is None or float(self._change(picture)) ** 2 <= self.limit * (1 - SUM_TOLERANCE)

    def file(self, picture: Tensor) -> Tensor:
        return (picture * 255).round().to(torch.uint8)

    def render(self) -> Tensor:
        return self.file(round8(self.pixels))

    def preview(self) -> Tensor:
        return self.render()

    def saved(self) -> dict[str, Tensor]:
        return {"pixels": self.pixels}

    def restore(self, saved: dict[str, Tensor]) -> None:
        self.pixels = saved["pixels"]


def pixel_space(
    picture: Tensor, device: torch.device, region: tuple[slice, slice], limit: float | None, noise: int | None
) -> PixelSpace:
    """A picture, uint8 (3, H, W), in all its pixels; from uniform noise of the seed `noise`, if that is given."""
    original = picture.to(device).float() / 255
    pixels = original.clone()
    if noise is not None:
        pixels = torch.rand(picture.shape, generator=torch.Generator().manual_seed(noise)).to(device)
    return PixelSpace(pixels, original, region, limit)
