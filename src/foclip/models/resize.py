"""Resizing along one axis as Pillow does it: with its filters and its rounding, differentiably, and block by block.

Pillow resizes 8-bit pictures in two passes, one per axis, and rounds to 8 bits after each. Here each pass is a
product with Pillow's own filter weights, so the similarity that an attack optimises is the one that the file will be
given. The matrix of a filter is banded: a row has few weights, all near its centre. It is cut into blocks of rows, and
a block is multiplied with just the cells it uses.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Cells of the smaller side per block.
BLOCK = 16


@dataclass(frozen=True)
class Block:
    """Consecutive output cells as weighted sums of the input cells start..stop."""

    weights: Tensor  # (output cells, stop - start)
    start: int
    stop: int


#: A banded matrix, cut into blocks of rows.
Blocks = tuple[Block, ...]


def blocks(matrix: np.ndarray, device: torch.device) -> Blocks:
    """A banded matrix cut into blocks of rows with the columns they use."""
    found = []
    for rows in np.array_split(matrix, max(1, round(min(matrix.shape) / BLOCK))):
        used = np.flatnonzero(rows.any(axis=0))
        start, stop = int(used[0]), int(used[-1]) + 1
        weights = torch.from_numpy(np.ascontiguousarray(rows[:, start:stop], dtype=np.float32)).to(device)
        found.append(Block(weights, start, stop))
    return tuple(found)


def multiply(values: Tensor, blocks: Blocks, dim: int) -> Tensor:
    """The product of a banded matrix with every line of `values` along `dim` (-1 or -2)."""
    shape = list(values.shape)
    shape[dim] = sum(len(block.weights) for block in blocks)
    result = values.new_empty(shape)
    if dim == -1:
        values, lines = values.reshape(-1, values.shape[-1]), result.view(-1, shape[-1])
    first = 0
    for block in blocks:
        cells = slice(first, first := first + len(block.weights))
        if dim == -1:
            torch.mm(values[:, block.start : block.stop], block.weights.T, out=lines[:, cells])
        else:
            torch.matmul(block.weights, values[..., block.start : block.stop, :], out=result[..., cells, :])
    return result


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
    """Values in [0, 1] rounded to 8 bits; the gradient goes straight through (Bengio et al. 2013, arXiv 1308.3432)."""
    return torch.as_tensor(_Round8.apply(values))


class _Resample(torch.autograd.Function):
    """Weighted sums along one axis; the gradient is the transposed filter's product."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, axis: "Axis", dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return multiply(values, axis.blocks, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return multiply(gradients[0], ctx.axis.transposed, ctx.dim), None, None


@dataclass(frozen=True)
class Axis:
    """What happens along one axis: a range of cells is kept, and resampled if it `resizes`."""

    resizes: bool
    blocks: Blocks
    transposed: Blocks
    kept: slice  # input cells that count
    pad: tuple[int, int]  # cells of fill colour before and after

    @cached_property
    def gram(self) -> Blocks:
        """The matrix of `blocks` times its transpose."""
        matrix = np.zeros((sum(len(block.weights) for block in self.blocks), self.kept.stop - self.kept.start))
        first = 0
        for block in self.blocks:
            rows = slice(first, first := first + len(block.weights))
            matrix[rows, block.start : block.stop] = block.weights.cpu().double().numpy()
        return blocks(matrix @ matrix.T, self.blocks[0].weights.device)

    def resample(self, pixels: Tensor, dim: int) -> Tensor:
        """The kept cells of `pixels` in [0, 1] along `dim` (-1 or -2), resampled and rounded as Pillow does it."""
        return round8(torch.as_tensor(_Resample.apply(pixels, self, dim))) if self.resizes else pixels


@lru_cache(maxsize=64)
def axis(size: int, resized: int, target: int, start: int, bilinear: bool, device: torch.device) -> Axis:
    """Resize `size` cells to `resized`, then take `target` from the cell `start` on; below 0 that much is padding."""
    offset, before = max(0, start), max(0, -start)
    count = min(resized, target)
    pad = (before, target - count - before)
    if resized == size:
        same = blocks(np.eye(count), device)
        return Axis(False, same, same, slice(offset, offset + count), pad)
    weights = _pillow_weights(size, resized, bilinear)[offset : offset + count]
    used = np.flatnonzero(weights.any(axis=0))
    kept = slice(int(used[0]), int(used[-1]) + 1)
    return Axis(True, blocks(weights[:, kept], device), blocks(weights[:, kept].T, device), kept, pad)


def _pillow_weights(size: int, resized: int, bilinear: bool) -> np.ndarray:
    """Pillow's resampling filter as a (resized, size) matrix whose rows sum to 1.

    Bicubic is Keys' kernel with a = -0.5; when shrinking, the kernel is stretched by the scale (antialiasing).
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
