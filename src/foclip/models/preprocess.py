r"""An encoder's preprocessing: exact, as its authors ship it, on PIL pictures; and on pixels, differentiably.

Resize and crop are a linear map R, from a picture of one size to what the model sees of it: a `Resampler`. The gradient
with respect to the picture is :math:`R^T g`, so whatever sums up gradients moves it by some :math:`R^T u` with u of the
model's size. What the model then sees changes by :math:`R R^T u`, and the squared change of the picture is
:math:`u^T R R^T u`: both cost the same for a thumbnail and for a 50-megapixel photo, since R is separable and
:math:`R R^T` a small banded matrix per axis. Only writing the picture itself reads all of its pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, ToTensor
from torchvision.transforms.functional import normalize

from foclip.data.images import to_tensor
from foclip.models.resize import Axis, Blocks, axis, multiply, round8

#: Means and standard deviations of OpenAI's CLIP, per channel.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: Whether the installed Pillow resizes tall pictures column by column before it does so row by row.
COLUMNS_FIRST = int(PIL.__version__.partition(".")[0]) >= 13
#: Values of a strip of a picture, which stays in the processor's cache: 1 MB of float32.
STRIP = 2**18


class Preprocess:
    """An encoder's antialiased resize, crop or padding, and normalisation.

    The mode "shortest" resizes the short side and cuts the rest, "longest" resizes the long side and pads the rest, and
    "squash" ignores the aspect ratio.
    """

    columns_first = COLUMNS_FIRST

    def __init__(
        self,
        size: tuple[int, int],  # (height, width) of the encoder's input
        mean: tuple[float, ...] = CLIP_MEAN,  # per channel, in [0, 1]
        std: tuple[float, ...] = CLIP_STD,
        interpolation: str = "bicubic",  # or "bilinear"
        resize_mode: str = "shortest",
        fill_color: int = 0,  # of padding, 0..255
        device: torch.device | str = "cpu",  # where the encoder computes
    ) -> None:
        self.size, self.device, self.fill = size, torch.device(device), fill_color / 255
        self._mode, self._interpolation, self.bilinear = resize_mode, interpolation, interpolation == "bilinear"
        self._mean, self._std = tuple(mean), tuple(std)
        #: All of this as text.
        self.description = repr((size, self._mean, self._std, interpolation, resize_mode, fill_color))
        mean_, std_ = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (mean, std))
        self._scale, self._offset = 1 / std_, -mean_ / std_

    @cached_property
    def _resize(self) -> Compose:
        """open_clip's own resize and crop."""
        # Here, since `import foclip.metrics` must stay light: open_clip loads transformers and jinja2.
        from open_clip.transform import PreprocessCfg, image_transform_v2

        look = (self._mean, self._std, self._interpolation, self._mode, round(self.fill * 255))
        steps = image_transform_v2(PreprocessCfg(self.size, "RGB", *look), is_train=False).transforms
        return Compose(steps[: next(i for i, step in enumerate(steps) if isinstance(step, ToTensor))])

    def image(self, picture: Image.Image) -> Tensor:
        """What the encoder sees of one RGB picture, by its authors' own resize and crop: uint8 (3, *size)."""
        return to_tensor(picture if picture.size == (self.size[1], self.size[0]) else self._resize(picture))

    def normalize(self, pixels: Tensor) -> Tensor:
        """The encoder's input (B, 3, *size), float32, of uint8 as `image` or of float in [0, 1] as `pixels` gives it.

        The one is normalised by torchvision's own operations, the other in one, whose last bit may differ.
        """
        if pixels.is_floating_point():
            return torch.addcmul(self._offset, pixels, self._scale)
        inputs = pixels.float().div_(255)  # fresh, so the rest is done in place: a copy costs a large part of it
        return torch.as_tensor(normalize(inputs, list(self._mean), list(self._std), inplace=True))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Size after resizing a picture of height × width, before cutting or padding."""
        target_h, target_w = self.size
        if self._mode == "squash":
            return target_h, target_w
        if self._mode == "longest" or target_h != target_w:
            ratio = (max if self._mode == "longest" else min)(height / target_h, width / target_w)
            return round(height / ratio), round(width / ratio)
        if height <= width:
            return target_h, int(target_h * width / height)
        return int(target_w * height / width), target_w

    def start(self, resized: int, target: int) -> int:
        """The first of `resized` cells that is kept if `target` are; below 0 that many cells of padding come first."""
        middle = (resized - target) / 2.0
        return round(middle) if middle > 0 else int(middle)  # as torchvision cuts

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of height × width that the encoder sees, but for a few with small weights."""
        sizes = zip((height, width), self.resized(height, width), self.size, strict=True)
        down, across = (_kept(*each, self.start(*each[1:])) for each in sizes)
        return down, across

    def pixels(self, pixels: Tensor) -> Tensor:
        """What the encoder sees of float32 pixels (B, 3, H, W), RGB in [0, 1], of any H and W, differentiably.

        It is (B, 3, *size) in [0, 1], rounded to 8 bits after each axis as Pillow rounds.
        """
        return self.resampler(*pixels.shape[-2:]).apply(pixels)

    def resampler(self, height: int, width: int) -> "Resampler":
        """Resize and crop of pictures of height × width as a linear map."""
        return Resampler(self, height, width)


def _kept(size: int, resized: int, target: int, start: int) -> slice:
    """The cells of `size` that are left when `resized` of them are cut to `target` from the cell `start` on."""
    offset, scale = max(0, start), size / resized
    start = min(round(offset * scale), size - 1)
    return slice(start, max(start + 1, round((offset + min(resized, target)) * scale)))  # never nothing


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture that was changed, clamped and rounded to 8 bits."""

    levels: Tensor  # uint8 (3, H, W)
    seen: Tensor  # what the model sees of it: float (3, h, w) in about [0, 1], before Pillow's last rounding to 8 bits
    moved: float  # sum of squared changes after clamping, before rounding, in [0, 1] units
    changed: float  # the same after rounding: that of the file


class Resampler:
    """R and its transpose for pictures of one size; R `resizes` if it does more than cut."""

    def __init__(self, preprocess: Preprocess, height: int, width: int) -> None:
        resized = new_height, new_width = preprocess.resized(height, width)
        sizes = zip((height, width), resized, preprocess.size, strict=True)
        look = preprocess.bilinear, preprocess.device
        down, across = (axis(*each, preprocess.start(*each[1:]), *look) for each in sizes)
        #: (3, h, w): what the model sees, less its padding.
        self.shape = (3, *(sum(len(block.weights) for block in each.blocks) for each in (down, across)))
        self.resizes = down.resizes or across.resizes
        self._padding, self._fill = (*across.pad, *down.pad), preprocess.fill
        # As Pillow does it: rows first, but since 13.0 pictures that shrink far more in height the other way. The axis
        # that is resized first lies along the last dimension.
        self._turned = preprocess.columns_first and 0 < height - new_height > 2 * (width - new_width)
        self._down, self._across = down, across
        self._first, self._second = (down, across) if self._turned else (across, down)

    def apply(self, pixels: Tensor) -> Tensor:
        """What the model sees of pixels (`Preprocess.pixels`)."""
        dims = (-2, -1) if self._turned else (-1, -2)
        seen = self._first.resample(self._turn(self._cut(pixels)), dims[0])
        return self.pad(self._second.resample(seen, dims[1]))

    def _turn(self, tensor: Tensor) -> Tensor:
        return tensor.transpose(-1, -2) if self._turned else tensor

    def _cut(self, picture: Tensor) -> Tensor:
        return self._turn(picture)[..., self._second.kept, self._first.kept]

    def gram(self, small: Tensor) -> Tensor:
        """R Rᵀ of (3, h, w): what the model sees of a change of the picture by Rᵀ of it."""
        lines = multiply(self._turn(small), self._first.gram, -1)
        return self._turn(multiply(lines, self._second.gram, -2))

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that R does not multiply by 0."""
        return self._down.kept, self._across.kept

    def means(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Means of Rᵀ of (3, h, w) over so many cells of `box`, as a product with a matrix from each side, (cells, h).

        The second, (cells, w), is to be transposed.
        """
        return _means(self._down, size[0]), _means(self._across, size[1])

    def pad(self, seen: Tensor) -> Tensor:
        """The model's whole input (3, *size) in [0, 1], padding and all."""
        if not any(self._padding):
            return seen
        return F.pad(seen, self._padding, value=self._fill)

    def look(self, levels: Tensor) -> Tensor:
        """What the model sees of a picture, uint8 (3, H, W), before Pillow's last rounding: float (3, h, w)."""
        picture = self._cut(levels)
        strips = torch.split(picture, max(1, STRIP // (3 * picture.shape[-1])), dim=1)
        return self._second_pass(torch.cat([multiply(strip.float(), self._first.blocks, -1) for strip in strips], 1))

    def _second_pass(self, lines: Tensor) -> Tensor:
        """The rest of R, after its first axis: `lines` are of levels, and are overwritten."""
        return self._turn(multiply(round8(lines.div_(255)), self._second.blocks, -2)).contiguous()

    def paint(
        self,
        levels: Tensor,
        small: Tensor,
        texture: Tensor | None = None,
        *,
        enlarging: tuple[Blocks, Blocks] | None = None,
        moving: tuple[Tensor, float] | None = None,
    ) -> Rendered:
        """Change a picture by Rᵀ of `small`, clamp it, round it, and look at it as the model does.

        Args:
            levels: The picture, uint8 (3, H, W).
            small: In [0, 1] units, float (3, h, w).
            texture: What each pixel's change is multiplied by, float (H, W).
            enlarging: Instead of Rᵀ, what makes `small`, of any size, as large as `box`: along columns and rows.
            moving: What was made of `levels` before, float (3, H, W) in levels, and how many times as large that change
                is to be. The new change is added to it, and it is overwritten with the result before rounding.
        """
        painted = levels.clone()
        before, after = self._cut(levels), self._cut(painted)
        down, across = enlarging or (self._down.transposed, self._across.transposed)
        first_pass, second_pass = (down, across) if self._turned else (across, down)
        lines = multiply(self._turn(small) * 255, first_pass, -1)
        seen = lines.new_empty(3, before.shape[1], self.shape[1 if self._turned else 2])
        moved = changed = 0.0
        first = 0
        for block in second_pass:
            part = lines[:, block.start : block.stop]
            for weights in torch.split(block.weights, max(1, STRIP // (3 * lines.shape[-1]))):
                rows = slice(first, first := first + len(weights))
                old = before[:, rows].to(lines.dtype)
                new = torch.matmul(weights, part)
                if texture is not None:
                    new.mul_(self._cut(texture)[rows])
                if moving is None:
                    new.add_(old).clamp_(0, 255)
                else:
                    now = self._cut(moving[0])[:, rows]
                    now.copy_(new.add_(now).add_(now - old, alpha=moving[1] - 1).clamp_(0, 255))
                moved += float(torch.linalg.vector_norm(new - old)) ** 2
                after[:, rows] = new.add_(0.5001).to(torch.uint8)  # halves go up, as in `round8`
                new = after[:, rows].to(lines.dtype)
                seen[:, rows] = multiply(new, self._first.blocks, -1)
                changed += float(torch.linalg.vector_norm(new.sub_(old))) ** 2
        return Rendered(painted, self._second_pass(seen), moved / 255**2, changed / 255**2)


def unresized(height: int, width: int, device: torch.device) -> Resampler:
    """R of a score that sees all pixels."""
    return Preprocess((height, width), resize_mode="squash", device=device).resampler(height, width)


def _means(along: Axis, cells: int) -> Tensor:
    """Means of Rᵀ along one axis over so many cells, (cells, n), of n that the model sees."""
    seen = torch.eye(sum(len(block.weights) for block in along.blocks), device=along.blocks[0].weights.device)
    return F.adaptive_avg_pool1d(multiply(seen, along.transposed, -1)[None], cells)[0].T
