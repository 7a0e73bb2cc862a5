r"""Resize and crop as what they are: a linear map R, from a picture of one size to what the model sees of it.

The gradient with respect to the picture is :math:`R^T g`, so whatever sums up gradients moves it by some
:math:`R^T u` with u of the model's size. What the model then sees changes by :math:`R R^T u`, and the squared change
of the picture is :math:`u^T R R^T u`: both cost the same for a thumbnail and for a 50-megapixel photo, since R is
separable and :math:`R R^T` a small banded matrix per axis. Only writing the picture itself reads all of its
pixels; that is done in strips that stay in the processor's cache.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foclip.models.banded import Block, blocks, multiply
from foclip.models.resize import Axis, Resize, round8

#: Values of a strip: 1 MB of float32.
STRIP = 2**18


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture that was changed, clamped and rounded to 8 bits.

    Attributes:
        levels: uint8 (3, H, W).
        seen: What the model sees of it, float (3, h, w) in about [0, 1], before Pillow's last rounding to 8 bits.
        moved: Sum of squared changes after clamping, before rounding, in [0, 1] units.
        changed: The same after rounding: that of the file.
    """

    levels: Tensor
    seen: Tensor
    moved: float
    changed: float


class Resampler:
    """R and its transpose for pictures of one size.

    Args:
        resize: The encoder's.
        height: Rows of the pictures.
        width: Columns of the pictures.

    Attributes:
        shape: (3, h, w): what the model sees, less its padding.
        resizes: Whether R does more than cut: else a picture is as small as what the model sees of it.
    """

    def __init__(self, resize: Resize, height: int, width: int) -> None:
        self._resize = resize
        axes = resize.axes(height, width)
        down, across = (_Side(axis, resize.device) for axis in axes)
        self.shape = (3, down.cells, across.cells)
        self.resizes = any(axis.blocks for axis in axes)
        self._padding = (*axes[1].pad, *axes[0].pad)
        # The axis that Pillow resizes first lies along the last dimension.
        self._turned = resize.down_first(height, width)
        self._first, self._second = (down, across) if self._turned else (across, down)

    def _turn(self, tensor: Tensor) -> Tensor:
        return tensor.transpose(-1, -2) if self._turned else tensor

    def _cut(self, picture: Tensor) -> Tensor:
        return self._turn(picture)[..., self._second.cut, self._first.cut]

    def gram(self, small: Tensor) -> Tensor:
        """R Rᵀ of (3, h, w): what the model sees of a change of the picture by Rᵀ of it."""
        lines = multiply(self._turn(small), self._first.gram, -1)
        return self._turn(multiply(lines, self._second.gram, -2))

    def pad(self, seen: Tensor) -> Tensor:
        """The model's whole input (3, *size) in [0, 1], padding and all."""
        if not any(self._padding):
            return seen
        return torch.nn.functional.pad(seen, self._padding, value=self._resize.fill)

    def look(self, levels: Tensor) -> Tensor:
        """What the model sees of a picture, uint8 (3, H, W), before Pillow's last rounding: float (3, h, w)."""
        picture = self._cut(levels)
        strips = torch.split(picture, max(1, STRIP // (3 * picture.shape[-1])), dim=1)
        lines = torch.cat([multiply(strip.float(), self._first.blocks, -1) for strip in strips], dim=1)
        return self._second_pass(lines)

    def _second_pass(self, lines: Tensor) -> Tensor:
        """The rest of R, after its first axis: `lines` are of levels, and are overwritten."""
        return self._turn(multiply(round8(lines.div_(255)), self._second.blocks, -2)).contiguous()

    def paint(self, levels: Tensor, small: Tensor, texture: Tensor | None = None) -> Rendered:
        """Change a picture by Rᵀ of `small`, clamp it, round it to 8 bits, and look at it as the model does.

        Args:
            levels: The picture, uint8 (3, H, W).
            small: float (3, h, w), in [0, 1] units.
            texture: float (H, W), what each pixel's change is multiplied by; None for 1.
        """
        painted = levels.clone()
        before, after = (self._cut(tensor) for tensor in (levels, painted))
        lines = multiply(self._turn(small) * 255, self._first.back, -1)
        seen = lines.new_empty(3, before.shape[1], self._first.cells)
        moved = changed = 0.0
        first = 0
        for block in self._second.back:
            part = lines[:, block.start : block.stop]
            for weights in torch.split(block.weights, max(1, STRIP // (3 * lines.shape[-1]))):
                rows = slice(first, first := first + len(weights))
                old = before[:, rows].to(lines.dtype)
                new = torch.matmul(weights, part)
                if texture is not None:
                    new.mul_(self._cut(texture)[rows])
                new = new.add_(old).clamp_(0, 255)
                moved += float(torch.linalg.vector_norm(new - old)) ** 2
                after[:, rows] = new.add_(0.5001).to(torch.uint8)  # halves go up, as in `round8`
                new = after[:, rows].to(lines.dtype)
                seen[:, rows] = multiply(new, self._first.blocks, -1)
                changed += float(torch.linalg.vector_norm(new.sub_(old))) ** 2
        return Rendered(painted, self._second_pass(seen), moved / 255**2, changed / 255**2)


class _Side:
    """One axis of the map: its matrix, the transpose, and the product of both, each in blocks."""

    def __init__(self, axis: Axis, device: torch.device) -> None:
        self.cut = slice(axis.start, axis.stop)
        count = axis.stop - axis.start
        matrix = _matrix(axis.blocks, count) if axis.blocks else np.eye(count)
        self.cells = len(matrix)
        self.blocks = axis.blocks or blocks(matrix, device)
        self.back = axis.transposed or self.blocks
        self.gram = blocks(matrix @ matrix.T, device)


def _matrix(parts: tuple[Block, ...], columns: int) -> np.ndarray:
    """The whole matrix (rows, columns), float64."""
    matrix = np.zeros((sum(len(part.weights) for part in parts), columns))
    first = 0
    for part in parts:
        matrix[first : first + len(part.weights), part.start : part.stop] = part.weights.cpu().double().numpy()
        first += len(part.weights)
    return matrix
