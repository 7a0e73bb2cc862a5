"""Resize and crop on pixel tensors, differentiable, and with the rounding that Pillow does.

Pillow resizes 8-bit pictures in two passes, one per axis, and rounds to 8 bits after each. Here each pass is a
product with Pillow's own filter weights, and the gradient passes straight through the rounding. So the similarity that
an attack optimises is the one that the file will be given.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foclip.models.banded import Block, blocks, multiply


class _Round8(torch.autograd.Function):
    """Clamp to [0, 1] and round to multiples of 1/255; the gradient sees the clamp only."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        # Halves go up, as in Pillow; the 1e-4 catches halves that float32 sums leave a hair too low.
        return values.clamp(0, 1).mul_(255).add_(0.5001).floor_().div_(255)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        # One pass over the pixels; the margin lets a saturated pixel (exactly 0 or 1) move.
        return torch.as_tensor(torch.ops.aten.hardtanh_backward(gradients[0], values, -1e-6, 1 + 1e-6))


def round8(values: Tensor) -> Tensor:
    """The 8-bit version of `values` in [0, 1] (same shape), with a straight-through gradient.

    The gradient of the rounding is taken as 1 (Bengio et al. 2013, arXiv
    1308.3432), that of the clamp to [0, 1] is exact: 0 outside.
    """
    return torch.as_tensor(_Round8.apply(values))


class _Resample(torch.autograd.Function):
    """Weighted sums along the last or the last but one axis, block by block.

    A row of a resampling filter has few non-zero weights, all near its
    centre; multiplying blocks of rows with just the cells they use costs a small
    part of the full product. The gradient is the transposed filter's product.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, axis: "Axis", dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return multiply(values, axis.blocks, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return multiply(gradients[0], ctx.axis.transposed, ctx.dim), None, None


@dataclass(frozen=True)
class Axis:
    """What happens along one axis: a range of cells is kept, and resampled unless `blocks` is empty."""

    blocks: tuple[Block, ...]
    transposed: tuple[Block, ...]
    start: int  # first input cell that counts
    stop: int  # one past the last
    pad: tuple[int, int]  # cells of fill colour before and after


@lru_cache(maxsize=64)
def _axis(size: int, resized: int, target: int, bilinear: bool, device: torch.device) -> Axis:
    """Resize `size` cells to `resized`, then cut or pad to `target` in the middle."""
    offset = round((resized - target) / 2.0) if resized > target else 0
    count = min(resized, target)
    before = (target - resized) // 2 if target > resized else 0
    pad = (before, target - count - before)
    if resized == size:
        return Axis((), (), offset, offset + count, pad)
    weights = _pillow_weights(size, resized, bilinear)[offset : offset + count]
    used = np.flatnonzero(weights.any(axis=0))
    first, last = int(used[0]), int(used[-1]) + 1
    weights = weights[:, first:last]
    return Axis(blocks(weights, device), blocks(weights.T, device), first, last, pad)


def _kept(size: int, resized: int, target: int) -> slice:
    """The cells of `size` that are left when `resized` of them are cut to `target` in the middle."""
    offset, scale = max(0, round((resized - target) / 2.0)), size / resized
    start = min(round(offset * scale), size - 1)
    return slice(start, max(start + 1, round((offset + min(resized, target)) * scale)))  # never nothing


def _pillow_weights(size: int, resized: int, bilinear: bool) -> np.ndarray:
    """Pillow's resampling filter as a (resized, size) matrix whose rows sum to 1.

    Bicubic is Keys' kernel with a = -0.5; when shrinking, the kernel is
    stretched by the scale (antialiasing).
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    support = (1.0 if bilinear else 2.0) * stretch
    weights = np.zeros((resized, size))
    for row in range(resized):
        center = (row + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), size)
        t = np.abs((np.arange(first, last) - center + 0.5) / stretch)
        if bilinear:
            kernel = np.clip(1 - t, 0, None)
        else:
            inner = 1.5 * t**3 - 2.5 * t**2 + 1
            outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
            kernel = np.where(t < 1, inner, np.where(t < 2, outer, 0))
        weights[row, first:last] = kernel / kernel.sum()
    return weights


class Resize:
    """The part of an encoder's preprocessing from a picture of any size to what the encoder sees.

    Args:
        size: (height, width) of what the encoder sees.
        interpolation: "bicubic" or "bilinear".
        resize_mode: "shortest" (short side to size, cut the rest), "longest"
            (long side to size, pad the rest) or "squash" (ignore the aspect ratio).
        fill_color: Value of padding, 0..255.
        device: Where the encoder computes.
    """

    def __init__(
        self,
        size: tuple[int, int],
        interpolation: str = "bicubic",
        resize_mode: str = "shortest",
        fill_color: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size = size
        self.bilinear = interpolation == "bilinear"
        self.resize_mode = resize_mode
        self.fill = fill_color / 255
        self.device = torch.device(device)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Size after resizing a picture of height × width, before cutting or padding."""
        target_h, target_w = self.size
        if self.resize_mode == "squash":
            return target_h, target_w
        if self.resize_mode == "longest":
            ratio = max(height / target_h, width / target_w)
            return round(height / ratio), round(width / ratio)
        if target_h != target_w:
            ratio = min(height / target_h, width / target_w)
            return round(height / ratio), round(width / ratio)
        if height <= width:
            return target_h, int(target_h * width / height)
        return int(target_w * height / width), target_w

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of height × width that the encoder sees; the rest is cut away.

        The resize reads a few cells beyond them, with small weights.
        """
        sizes = zip((height, width), self.resized(height, width), self.size, strict=True)
        down, across = (_kept(*each) for each in sizes)
        return down, across

    def axes(self, height: int, width: int) -> "tuple[Axis, Axis]":
        """What happens to a picture of height × width along its columns, and along its rows."""
        new_height, new_width = self.resized(height, width)
        down = _axis(height, new_height, self.size[0], self.bilinear, self.device)
        return down, _axis(width, new_width, self.size[1], self.bilinear, self.device)

    def down_first(self, height: int, width: int) -> bool:
        """Whether columns are resized before rows.

        As Pillow does it (13.0): horizontally first, but pictures that shrink far more in height the other way.
        """
        new_height, new_width = self.resized(height, width)
        return 0 < height - new_height > 2 * (width - new_width)

    def pixels(self, pixels: Tensor) -> Tensor:
        """What the encoder sees of pixels, differentiably.

        Args:
            pixels: float32 (B, 3, H, W), RGB in [0, 1], any H and W.

        Returns:
            (B, 3, *size) in [0, 1], rounded to 8 bits after each axis as Pillow rounds.
        """
        height, width = pixels.shape[-2:]
        down, across = self.axes(height, width)
        x = pixels[..., down.start : down.stop, across.start : across.stop]
        passes = [(across, -1), (down, -2)]
        if self.down_first(height, width):
            passes.reverse()
        for axis, dim in passes:
            if axis.blocks:
                x = round8(torch.as_tensor(_Resample.apply(x, axis, dim)))
        if any(across.pad) or any(down.pad):
            x = torch.nn.functional.pad(x, (*across.pad, *down.pad), value=self.fill)
        return x
